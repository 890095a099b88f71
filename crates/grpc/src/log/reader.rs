//! Positions in partitions, and one round after the other of reading on from them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::fetch::{self, Fetched, Isolation, PartitionData, Position};
use rafka_broker::{Error, TopicRef};
use rafka_core::{Batch, ByteSize, Epoch, Offset, PartitionIndex};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::gateway::Gateway;

/// The most that a reader at the end of its logs gets at once. A reader that is behind gets more, as
/// far as there is room for such messages.
const TAIL_BYTES: ByteSize = ByteSize::kib(64);

/// How a reader reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) isolation: Isolation,
    pub(super) bytes_max: ByteSize,
    pub(super) bytes_min: ByteSize,
    pub(super) wait_max: Duration,
}

/// A partition that is read.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// The topic as the client calls it.
    pub(super) name: String,
    pub(super) topic: TopicRef,
    pub(super) partition: i32,
    /// The next offset to read.
    pub(super) offset: Offset,
    pub(super) leader_epoch: Option<Epoch>,
    /// The most bytes of it in one round.
    pub(super) bytes_max: ByteSize,
    /// Where reading ends.
    pub(super) end: Option<Offset>,
}

/// What a round brought of one partition.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) name: String,
    pub(super) partition: i32,
    /// From where it was read: the first batch may begin below it.
    pub(super) from: Offset,
    /// From where it is read on.
    pub(super) next: Offset,
    /// On error the partition is read no more. What was aborted is left out if only what is committed
    /// is read.
    pub(super) result: Result<Fetched, Error>,
}

impl Lot {
    /// Whether it brings anything but where the partition stands.
    pub(super) fn is_news(&self) -> bool {
        self.from < self.next || self.result.is_err()
    }
}

/// Reads on from its positions, round by round.
pub(super) struct Reader {
    gateway: Arc<Gateway>,
    manner: Manner,
    tracked: Vec<Tracked>,
    /// Whether there was more than the last round brought. Not known at first: room is not taken to
    /// wait with it.
    is_behind: bool,
    /// Room for the last round's message, until the next.
    _room: Option<OwnedSemaphorePermit>,
    /// The round that was begun, kept when nobody waits for it for a while: a read that is long at
    /// the disk would never come to its end if each wait began it anew.
    under_way: Option<Round>,
}

/// A round that was begun.
struct Round {
    data: Pin<Box<dyn Future<Output = Vec<PartitionData>> + Send>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(super) fn new(gateway: Arc<Gateway>, manner: Manner, tracked: Vec<Tracked>) -> Self {
        Self { gateway, manner, tracked, is_behind: false, _room: None, under_way: None }
    }

    /// Whether nothing is left to read.
    pub(super) fn is_done(&self) -> bool {
        self.tracked.is_empty()
    }

    /// Reads this partition as well.
    pub(super) fn add(&mut self, tracked: Tracked) {
        self.under_way = None;
        self.tracked.push(tracked);
    }

    /// Reads this partition no more.
    pub(super) fn remove(&mut self, name: &str, partition: i32) {
        self.under_way = None;
        self.tracked.retain(|tracked| tracked.name != name || tracked.partition != partition);
    }

    /// Waits for records, at most as long as its manner says; the partitions that have news, or
    /// all if none has.
    ///
    /// # Cancel safety
    /// Cancelled, it has not moved on, and the next call goes on with what was begun.
    pub(super) async fn round(&mut self) -> Vec<Lot> {
        let round = match self.under_way.take() {
            Some(round) => round,
            None => self.begin(),
        };
        let data = self.under_way.insert(round).data.as_mut().await;
        self._room = self.under_way.take().and_then(|round| round.room);
        self.advance(data)
    }

    fn begin(&mut self) -> Round {
        let bytes_max = self.manner.bytes_max;
        self._room = None;
        let room = if self.is_behind { self.gateway.catch_up(bytes_max) } else { None };
        let size = if room.is_some() { bytes_max } else { bytes_max.min(TAIL_BYTES) };
        let until = Instant::now() + self.manner.wait_max;
        let (broker, request) = (self.gateway.broker.clone(), self.request(size));
        let data = Box::pin(async move {
            let data = broker.fetch(request).await;
            if !data.iter().any(is_news) {
                // The broker cuts waits short when too many wait: an empty answer then is no reason
                // to ask again at once.
                tokio::time::sleep_until(until).await;
            }
            data
        });
        Round { data, room }
    }

    fn request(&self, size: ByteSize) -> fetch::Request {
        let position = |tracked: &Tracked| Position {
            topic: tracked.topic.clone(),
            partition: PartitionIndex(tracked.partition),
            offset: tracked.offset,
            bytes_max: tracked.bytes_max.min(size),
            leader_epoch: tracked.leader_epoch,
        };
        fetch::Request {
            bytes_max: size,
            bytes_min: self.manner.bytes_min.min(size),
            wait_max: self.manner.wait_max,
            isolation: self.manner.isolation,
            positions: self.tracked.iter().map(position).collect(),
        }
    }

    fn advance(&mut self, data: Vec<PartitionData>) -> Vec<Lot> {
        let has_news = data.iter().any(is_news);
        let mut lots = Vec::new();
        let (mut served, mut waiting) = (Vec::new(), Vec::new());
        self.is_behind = false;
        for (mut tracked, PartitionData { mut result, .. }) in
            std::mem::take(&mut self.tracked).into_iter().zip(data)
        {
            let (name, partition, from) = (tracked.name.clone(), tracked.partition, tracked.offset);
            let mut next = from;
            if let Ok(fetched) = &mut result {
                let last = fetched.batches.last();
                next = last.map_or(from, Batch::next_offset).max(from);
                tracked.offset = next;
                self.is_behind |= tracked.offset < self.visible_end(fetched);
                let is_read = tracked.end.is_some_and(|end| end <= tracked.offset);
                match last {
                    _ if is_read => {}
                    Some(_) => served.push(tracked),
                    None => waiting.push(tracked),
                }
                fetched.drop_aborted();
            }
            let lot = Lot { name, partition, from, next, result };
            if !has_news || lot.is_news() {
                lots.push(lot);
            }
        }
        // The broker fills from the front: who got something goes to the back.
        waiting.append(&mut served);
        self.tracked = waiting;
        lots
    }

    fn visible_end(&self, fetched: &Fetched) -> Offset {
        match self.manner.isolation {
            Isolation::ReadUncommitted => fetched.high_watermark,
            Isolation::ReadCommitted => fetched.last_stable_offset,
        }
    }
}

fn is_news(data: &PartitionData) -> bool {
    data.result.as_ref().map_or(true, |fetched| !fetched.batches.is_empty())
}

#[cfg(test)]
mod tests {
    use rafka_broker::produce::{Acks, PartitionBatches, Request};
    use rafka_core::batch::BatchBuilder;
    use rafka_core::compression::Compression;
    use rafka_core::{SystemClock, Timestamp};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn a_round_that_nobody_waits_for_goes_on_and_is_not_begun_anew() {
        let broker = rafka_broker::testing::start(rafka_broker::Settings::default()).await;
        let name = rafka_broker::testing::create_topic(&broker, "orders", 1, &[]).await;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let clock = Arc::new(SystemClock::new());
        let gateway = Gateway::new(broker.clone(), clock, crate::Settings::default(), stop, tasks);
        let manner = Manner {
            isolation: Isolation::ReadUncommitted,
            bytes_max: ByteSize::mib(1),
            bytes_min: ByteSize(1),
            wait_max: Duration::from_secs(60),
        };
        let tracked = Tracked {
            name: name.to_string(),
            topic: TopicRef::Name(name.clone()),
            partition: 0,
            offset: Offset(0),
            leader_epoch: None,
            bytes_max: ByteSize::mib(1),
            end: None,
        };
        let mut reader = Reader::new(Arc::new(gateway), manner, vec![tracked]);
        // As heartbeats do: they come between, again and again.
        for _ in 0..3 {
            let waited = tokio::time::timeout(Duration::from_millis(1), reader.round()).await;
            assert!(waited.is_err(), "there is nothing to read yet");
        }
        assert_eq!(broker.stats().fetch_requests.count(), 1);
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(7), None, Some(b"first"), &[]);
        let batches = vec![builder.build().expect("no codec")];
        let topic = TopicRef::Name(name);
        let partitions = vec![PartitionBatches { topic, partition: PartitionIndex(0), batches }];
        let timeout = Duration::from_secs(10);
        let request = Request { acks: Acks::All, timeout, transaction: None, partitions };
        broker.produce(request).await.await[0].result.as_ref().expect("it is taken");
        let lots = reader.round().await;
        assert_eq!(lots.len(), 1);
        assert!(lots[0].is_news());
        assert_eq!(broker.stats().fetch_requests.count(), 1, "one round did it");
    }
}
