//! The future that a sent record becomes, and the receipt by which its batch is settled.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use rafka_client::TopicPartition;
use rafka_core::{Offset, PartitionIndex, Time, Timestamp};
use tokio::sync::oneshot;

use crate::error::{Error, Fate};
use crate::record::RecordMetadata;

/// Where a batch was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// The offset of its first record, if known.
    pub(crate) base_offset: Option<Offset>,
    /// The timestamp that the node gave it, if it did.
    pub(crate) append_time: Option<Timestamp>,
}

/// What became of a batch.
pub(crate) type Outcome = Result<Stored, Error>;

/// Waits for what becomes of a batch. One per batch, shared by its records: a record costs no
/// channel of its own.
#[derive(Debug)]
pub(crate) struct Arrival(oneshot::Receiver<Outcome>);

impl Future for Arrival {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = ready!(Pin::new(&mut self.0).poll(context));
        // Only a producer that was dropped with the batch inside loses the sender.
        Poll::Ready(outcome.unwrap_or(Err(Error::Closed { fate: Fate::Unknown })))
    }
}

/// The shared end of a batch's arrival.
pub(crate) type Arrivals = Shared<Arrival>;

/// What the sending side needs to settle a batch. Dropped unsettled, the records count as lost.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// Ascending in the order in which batches began.
    pub(crate) number: u64,
    pub(crate) partition: TopicPartition,
    pub(crate) created_at: Time,
    pub(crate) records: u32,
    /// Bytes taken from the buffer's budget.
    pub(crate) cost: u32,
    sender: oneshot::Sender<Outcome>,
}

impl Receipt {
    pub(crate) fn new(
        number: u64,
        partition: TopicPartition,
        created_at: Time,
    ) -> (Self, Arrivals) {
        let (sender, receiver) = oneshot::channel();
        let receipt = Self { number, partition, created_at, records: 0, cost: 0, sender };
        (receipt, Arrival(receiver).shared())
    }

    /// Tells all records of the batch. That nobody listens any more is fine.
    pub(crate) fn settle(self, outcome: Outcome) {
        let _nobody_listens = self.sender.send(outcome);
    }
}

/// A record on its way. Await it for where it was stored, or why not.
///
/// It need not be awaited: the record is sent all the same.
pub struct Delivery {
    pub(crate) arrivals: Arrivals,
    pub(crate) partition: PartitionIndex,
    pub(crate) index: u32,
    pub(crate) timestamp: Timestamp,
}

impl Delivery {
    /// The partition that was chosen for the record.
    #[must_use]
    pub fn partition(&self) -> PartitionIndex {
        self.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.arrivals).poll(context));
        Poll::Ready(outcome.map(|stored| RecordMetadata {
            partition: self.partition,
            offset: stored.base_offset.map(|base| base + i64::from(self.index)),
            timestamp: stored.append_time.unwrap_or(self.timestamp),
        }))
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("partition", &self.partition)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
