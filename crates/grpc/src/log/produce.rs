//! A produce stream: one task that reads, appends in order, and answers in order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use rafka_broker::Pending;
use rafka_broker::produce::Acks;
use rafka_proto::v1::{ProduceRequest, ProduceResponse};
use tokio::sync::mpsc;
use tokio_util::sync::ReusableBoxFuture;
use tonic::{Status, Streaming};

use super::entries::{self, Prepared, Slot};
use crate::gateway::{Gateway, stopping};
use crate::intake::{Admitted, Ledger};

/// Answers that wait to be written: few, because they also count as unanswered requests do.
const ANSWERS_QUEUED_MAX: usize = 16;

/// The least that an unanswered request counts for: what its bookkeeping takes in memory.
const REQUEST_BYTES_MIN: usize = 1 << 10;

/// One produce stream.
pub(super) struct Session {
    gateway: Arc<Gateway>,
    requests: Streaming<ProduceRequest>,
    ledger: Ledger,
    answers: mpsc::Sender<Result<ProduceResponse, Status>>,
    /// The append under way. Meaningless unless `is_appending`.
    append: ReusableBoxFuture<'static, Result<InFlight, Status>>,
    is_appending: bool,
    acks: FuturesOrdered<InFlight>,
    inflight_bytes: usize,
    inflight_bytes_max: usize,
    /// An answer that waits for a place in the queue.
    ready: Option<ProduceResponse>,
    /// Why nothing more is read.
    end: Option<Result<(), Status>>,
}

/// What a turn of the session found.
enum Event {
    Gone,
    Queued,
    Acked(Answered),
    Stopping,
    Appended(Result<InFlight, Status>),
    Read(Result<Option<ProduceRequest>, Status>),
}

impl Session {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        requests: Streaming<ProduceRequest>,
        ledger: Ledger,
    ) -> (Self, mpsc::Receiver<Result<ProduceResponse, Status>>) {
        let (answers, receiver) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let inflight_bytes_max = gateway.settings.produce_inflight_bytes_max.as_usize();
        let session = Self {
            gateway,
            requests,
            ledger,
            answers,
            append: ReusableBoxFuture::new(std::future::pending()),
            is_appending: false,
            acks: FuturesOrdered::new(),
            inflight_bytes: 0,
            inflight_bytes_max,
            ready: None,
            end: None,
        };
        (session, receiver)
    }

    /// Serves the stream to its end. Dropped, it gives up answers, not appends.
    pub(super) async fn run(mut self) {
        loop {
            if self.is_done() {
                if let Some(Err(status)) = self.end {
                    // A client that is gone needs no reason.
                    drop(self.answers.send(Err(status)).await);
                }
                return;
            }
            match self.next_event().await {
                Event::Gone => return,
                Event::Queued => {}
                Event::Acked(Answered { response, bytes }) => {
                    self.inflight_bytes -= bytes;
                    self.ready = response;
                }
                Event::Stopping => self.end = Some(Err(stopping())),
                Event::Appended(appended) => {
                    self.is_appending = false;
                    match appended {
                        Ok(inflight) => self.acks.push_back(inflight),
                        Err(status) => self.end = Some(Err(status)),
                    }
                }
                Event::Read(Ok(Some(request))) => self.append(request),
                Event::Read(Ok(None)) => self.end = Some(Ok(())),
                Event::Read(Err(status)) => self.end = Some(Err(status)),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.end.is_some() && !self.is_appending && self.acks.is_empty() && self.ready.is_none()
    }

    async fn next_event(&mut self) -> Event {
        // A message that has begun holds permits: it is read whatever is unanswered.
        let has_room = self.inflight_bytes < self.inflight_bytes_max || self.ledger.has_begun();
        tokio::select! {
            biased;
            () = self.answers.closed() => Event::Gone,
            Ok(slot) = self.answers.reserve(), if self.ready.is_some() => {
                if let Some(response) = self.ready.take() {
                    slot.send(Ok(response));
                }
                Event::Queued
            }
            Some(answered) = self.acks.next(), if self.ready.is_none() => Event::Acked(answered),
            () = self.gateway.stop.cancelled(), if self.end.is_none() => Event::Stopping,
            appended = self.append.get_pin(), if self.is_appending => Event::Appended(appended),
            read = self.requests.message(),
                if self.end.is_none() && !self.is_appending && has_room => Event::Read(read),
        }
    }

    fn append(&mut self, request: ProduceRequest) {
        let admitted = self.ledger.take();
        let frame_bytes = admitted.as_ref().map_or(0, |admitted| admitted.bytes);
        let bytes = frame_bytes.max(REQUEST_BYTES_MIN);
        self.inflight_bytes += bytes;
        let gateway = Arc::clone(&self.gateway);
        self.append.set(append(gateway, request, admitted, bytes));
        self.is_appending = true;
    }
}

/// Appends a request. Once it is appended its memory is the storage's to count.
async fn append(
    gateway: Arc<Gateway>,
    request: ProduceRequest,
    admitted: Option<Admitted>,
    bytes: usize,
) -> Result<InFlight, Status> {
    let Prepared { request_id, produce, slots } =
        entries::prepare(&gateway, request, bytes).await?;
    let is_answered = produce.acks != Acks::None;
    let pending = gateway.broker.produce(produce).await;
    drop(admitted);
    Ok(InFlight { request_id, is_answered, slots, pending, bytes })
}

/// A request that was appended and waits for its acknowledgements.
struct InFlight {
    request_id: u64,
    is_answered: bool,
    slots: Vec<Slot>,
    pending: Pending,
    bytes: usize,
}

/// A request that is done with.
struct Answered {
    /// `None` if it asked for no answer.
    response: Option<ProduceResponse>,
    bytes: usize,
}

impl Future for InFlight {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let this = self.get_mut();
        let bytes = this.bytes;
        if !this.is_answered {
            return Poll::Ready(Answered { response: None, bytes });
        }
        let acks = ready!(Pin::new(&mut this.pending).poll(cx));
        let slots = std::mem::take(&mut this.slots);
        let partitions = entries::answers(slots, acks);
        let response = ProduceResponse { request_id: this.request_id, partitions };
        Poll::Ready(Answered { response: Some(response), bytes })
    }
}
