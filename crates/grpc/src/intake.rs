//! The door: bytes of requests enter only against room, piece by piece.
//!
//! A gRPC message announces its length in five bytes. Room is taken from the listener's budget for what
//! has come of it, not for what was announced; while there is none the body is not read on, and
//! HTTP/2's flow control holds the client back. The handler of a produce stream takes the room over
//! and keeps it until the message is appended. For all other calls it is given back when the next
//! message begins or the body ends, and a small message needs none.

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
use rafka_broker::{Budget, Room};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use frame::{Found, Splitter};
pub(crate) use service::{Door, OwnBody};

/// So much of a call's message needs no room, if one message of it is looked at after the other.
const HEAD_BYTES: usize = 8 << 10;
/// How often a message that does not come is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The room of messages that were let in and that nobody has taken over yet.
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

/// Who gives the room of a message back.
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
    /// What it shares with the messages that it began together with.
    shared: Arc<Room>,
    /// What it took when more of it came.
    own: Option<Room>,
}

impl Admitted {
    /// How long the rest may take.
    fn patience(&self, received: usize, limit: Duration) -> Duration {
        let own = self.own.as_ref().map_or(limit, |room| room.patience(received, limit));
        self.shared.patience(received, limit).min(own)
    }
}

impl Ledger {
    fn new() -> Self {
        let entries = Entries { messages: VecDeque::new(), inside_message: false };
        Self { entries: Arc::new(Mutex::new(entries)) }
    }

    /// Hands the oldest message over, with its room.
    pub(crate) fn take(&self) -> Option<Admitted> {
        self.entries.lock().messages.pop_front()
    }

    /// Whether a message has begun that nobody has taken: it holds room until it is taken.
    pub(crate) fn has_begun(&self) -> bool {
        let entries = self.entries.lock();
        entries.inside_message || !entries.messages.is_empty()
    }
}

/// What all bodies of a listener share.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    budget: Arc<Budget>,
    receive_timeout: Duration,
}

impl Bounds {
    pub(crate) fn new(budget: Arc<Budget>, receive_timeout: Duration) -> Self {
        Self { budget, receive_timeout }
    }
}

/// A request's body behind the door.
pub(crate) struct Intake {
    body: Body,
    splitter: Splitter,
    ledger: Ledger,
    kind: Kind,
    budget: Arc<Budget>,
    /// Data that waits for room.
    waiting: Option<Waiting>,
    /// What came in one frame with the end of a message, behind it. The end is handed on first: the
    /// message gives its room back only when it is whole, and others may wait for that.
    behind: Option<Bytes>,
    /// What was let in and not handed on.
    pieces: VecDeque<Bytes>,
    patience: Patience,
}

struct Waiting {
    data: Bytes,
    found: Found,
    room: Pin<Box<dyn Future<Output = Room> + Send>>,
}

impl Intake {
    pub(crate) fn new(body: Body, bounds: &Bounds, message_max: usize, kind: Kind) -> Self {
        Self {
            body,
            splitter: Splitter::new(message_max),
            ledger: Ledger::new(),
            kind,
            budget: Arc::clone(&bounds.budget),
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
            Poll::Pending if self.splitter.is_inside_message() || self.holds_for_nothing() => {
                let (ledger, came) = (&self.ledger, self.splitter.came());
                let limit = self.patience.limit;
                let limit = ready!(self.patience.poll_lost(cx, || {
                    let entries = ledger.entries.lock();
                    entries.messages.back().map_or(limit, |message| message.patience(came, limit))
                }));
                let limit = rafka_core::duration::Display(limit);
                let message = format!("the rest of the call did not come within {limit}");
                Poll::Ready(Some(Err(Status::deadline_exceeded(message))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the only message of a call has come, and keeps its room because the call does not end.
    fn holds_for_nothing(&self) -> bool {
        let last = |entries: &Entries| entries.messages.back().map(|message| message.bytes);
        self.kind == Kind::Passing
            && last(&self.ledger.entries.lock()).is_some_and(|bytes| HEAD_BYTES < bytes)
    }

    /// Lets the waiting data in once there is room for it.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(()) };
        let room = ready!(waiting.room.as_mut().poll(cx));
        if let Some(Waiting { data, found, .. }) = self.waiting.take() {
            let mut entries = self.ledger.entries.lock();
            if found.begun.is_empty() {
                if let Some(message) = entries.messages.back_mut() {
                    message.own = Some(room);
                }
            } else {
                let shared = Arc::new(room);
                let admitted = |bytes: &usize| {
                    let shared = Arc::clone(&shared);
                    Admitted { bytes: *bytes, shared, own: None }
                };
                entries.messages.extend(found.begun.iter().map(admitted));
            }
            drop(entries);
            self.pieces = found.pieces(data);
        }
        Poll::Ready(())
    }

    /// Room for what came. What goes on with a message adds to what that holds.
    fn ask(&self, data: Bytes, found: Found, came_before: usize) -> Waiting {
        let free = if self.kind == Kind::Passing { HEAD_BYTES } else { 0 };
        let beyond = |came: usize| came.saturating_sub(free);
        let came = self.splitter.came();
        let (mut room, more) = match found.begun.split_last() {
            None => {
                let mut entries = self.ledger.entries.lock();
                let message = entries.messages.back_mut();
                let is_unbounded = message.as_ref().is_some_and(|it| it.shared.bytes().is_none());
                let own = message.and_then(|message| message.own.take());
                let more = if is_unbounded { 0 } else { beyond(came) - beyond(came_before) };
                (own.unwrap_or_else(|| self.budget.room()), more)
            }
            Some((_last, whole)) => {
                let whole: usize = whole.iter().map(|bytes| beyond(*bytes)).sum();
                (self.budget.room(), whole + beyond(came))
            }
        };
        let room = Box::pin(async move {
            room.grow(more).await;
            room
        });
        Waiting { data, found, room }
    }
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
            let (was_inside, came) = (this.splitter.is_inside_message(), this.splitter.came());
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
                    // Before the next ones wait for room: who waits holds none.
                    entries.messages.clear();
                }
            }
            this.waiting = Some(this.ask(data, found, came));
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
    /// How long it was waited for. Time spent elsewhere does not count.
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, waiting_since: None, timer: None }
    }

    /// A message begins.
    fn start(&mut self) {
        self.waited = Duration::ZERO;
    }

    /// Something came.
    fn arrived(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Ready with the limit when it has passed.
    fn poll_lost(&mut self, cx: &mut Context<'_>, limit: impl Fn() -> Duration) -> Poll<Duration> {
        loop {
            let now = Instant::now();
            let is_first = self.waiting_since.is_none();
            let waited = self.waited + (now - *self.waiting_since.get_or_insert(now));
            let limit = limit();
            let Some(left) = limit.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Poll::Ready(limit);
            };
            let until = now + left.min(LOOK_INTERVAL);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if is_first || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests;
