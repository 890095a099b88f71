//! The door: bytes of requests enter only against permits, message by message.
//!
//! A gRPC message announces its length in five bytes. They are read here, before anything is set
//! aside for the message, and the body is not read on until the listener's byte budget has room for
//! all of it: HTTP/2 flow control then holds the client back. The handler of a produce stream takes
//! the permits over and keeps them until the message is appended; for all other calls they are given
//! back when the next message begins or the body ends.

mod frame;
mod service;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;

use frame::{Found, Splitter};
pub(crate) use service::{Door, OwnBody};

/// The permits of messages that were let in and that nobody has taken over yet.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug)]
struct Entries {
    messages: VecDeque<Admitted>,
    /// Whether the last message, or its prefix, has not come whole.
    inside_message: bool,
}

/// Who gives the permits of a message back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The handler, which takes every message from the ledger.
    Taken,
    /// The intake, when the next message begins.
    Passing,
}

/// One message that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Its size on the wire.
    pub(crate) bytes: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Ledger {
    fn new() -> Self {
        let entries = Entries { messages: VecDeque::new(), inside_message: false };
        Self { entries: Arc::new(Mutex::new(entries)) }
    }

    /// Hands the oldest message over, with its permits.
    pub(crate) fn take(&self) -> Option<Admitted> {
        self.entries.lock().messages.pop_front()
    }

    /// Whether a message has begun that nobody has taken: it holds permits until it is taken.
    pub(crate) fn has_begun(&self) -> bool {
        let entries = self.entries.lock();
        entries.inside_message || !entries.messages.is_empty()
    }
}

/// What all bodies of a listener share.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    budget: Arc<Semaphore>,
    budget_max: usize,
    receive_timeout: Duration,
}

impl Bounds {
    pub(crate) fn new(budget_max: usize, receive_timeout: Duration) -> Self {
        Self { budget: Arc::new(Semaphore::new(budget_max)), budget_max, receive_timeout }
    }
}

/// A request's body behind the door.
pub(crate) struct Intake {
    body: Body,
    splitter: Splitter,
    ledger: Ledger,
    kind: Kind,
    budget: PollSemaphore,
    /// The permits that there are.
    budget_max: usize,
    /// A frame that waits for permits.
    waiting: Option<Waiting>,
    /// What came in one frame with the end of a message, behind it. The end is handed on first: the
    /// message gives its permits back only when it is whole, and others may wait for those.
    behind: Option<Bytes>,
    /// What was let in and not handed on.
    pieces: VecDeque<Bytes>,
    patience: Patience,
}

struct Waiting {
    data: Bytes,
    found: Found,
    /// What they need together.
    permits: u32,
}

impl Intake {
    pub(crate) fn new(body: Body, bounds: &Bounds, message_max: usize, kind: Kind) -> Self {
        Self {
            body,
            splitter: Splitter::new(message_max),
            ledger: Ledger::new(),
            kind,
            budget: PollSemaphore::new(Arc::clone(&bounds.budget)),
            budget_max: bounds.budget_max,
            waiting: None,
            behind: None,
            pieces: VecDeque::new(),
            patience: Patience::new(bounds.receive_timeout),
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Reads the next frame, within the time that a message may take.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.patience.arrived();
                Poll::Ready(frame)
            }
            Poll::Pending if self.splitter.is_inside_message() => {
                ready!(self.patience.poll_lost(cx));
                let limit = rafka_core::duration::Display(self.patience.limit);
                let message = format!("the rest of the message did not come within {limit}");
                Poll::Ready(Some(Err(Status::deadline_exceeded(message))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets the waiting frame in once its messages have their permits.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &self.waiting else { return Poll::Ready(()) };
        let permit = match waiting.permits {
            0 => None,
            permits => ready!(self.budget.poll_acquire_many(cx, permits)),
        };
        if let Some(Waiting { data, found, .. }) = self.waiting.take() {
            self.pieces = found.pieces(data);
            self.ledger.entries.lock().messages.extend(share_out(permit, found.begun));
        }
        Poll::Ready(())
    }
}

/// Gives each message its part of the permits.
fn share_out(
    mut permit: Option<OwnedSemaphorePermit>,
    messages: Vec<usize>,
) -> impl Iterator<Item = Admitted> {
    messages.into_iter().map(move |bytes| {
        let part = permit.as_mut().and_then(|permit| {
            let left = permit.num_permits();
            permit.split(bytes.min(left))
        });
        Admitted { bytes, _permit: part }
    })
}

impl http_body::Body for Intake {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            ready!(this.poll_waiting(cx));
            if let Some(piece) = this.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let mut data = match this.behind.take() {
                Some(data) => data,
                None => match ready!(this.poll_inner(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    end => return Poll::Ready(end),
                },
            };
            let end = this.splitter.left();
            if 0 < end && end < data.len() {
                this.behind = Some(data.split_off(end));
            }
            let was_inside = this.splitter.is_inside_message();
            let found = match this.splitter.take(&data) {
                Ok(found) => found,
                Err(too_large) => return Poll::Ready(Some(Err(too_large.into()))),
            };
            if !was_inside || !found.begun.is_empty() {
                this.patience.start();
            }
            {
                let mut entries = this.ledger.entries.lock();
                entries.inside_message = this.splitter.is_inside_message();
                if this.kind == Kind::Passing && !found.begun.is_empty() {
                    // Before the next ones wait for permits: who waits holds none.
                    entries.messages.clear();
                }
            }
            // More than there is in all would wait for ever.
            let bytes = found.begun.iter().sum::<usize>().min(this.budget_max);
            let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
            this.waiting = Some(Waiting { data, found, permits });
        }
    }

    fn is_end_stream(&self) -> bool {
        let handed_on = self.waiting.is_none() && self.behind.is_none() && self.pieces.is_empty();
        handed_on && self.body.is_end_stream()
    }
}

/// How much longer the rest of a message is waited for.
struct Patience {
    limit: Duration,
    /// What is left for the present message.
    left: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, left: limit, waiting_since: None, timer: None }
    }

    /// A message begins.
    fn start(&mut self) {
        self.left = self.limit;
    }

    /// Something came: the time until now counts, time spent elsewhere does not.
    fn arrived(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let until = now + self.left;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
