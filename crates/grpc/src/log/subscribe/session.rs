//! The life of a subscription: join, read until the group rebalances, join again, leave.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::{Error, TopicRef};
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicName};
use rafka_proto::v1::subscribe_response::Event;
use rafka_proto::v1::{Assigned, AssignedPartition, SubscribeResponse, SubscribedRecords};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;

use super::Subscription;
use super::member::{Member, Owned, Setback};
use super::positions::{Policy, Reset};
use crate::convert;
use crate::gateway::{Gateway, stopping};
use crate::log::fetch;
use crate::log::reader::{Lot, Reader, Tracked};
use crate::log::unpack::{Packed, Unpacked, Unpacker};

/// How long to wait before the coordinator is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Three signs of life fit into a session timeout, so that one may be late; and a rebalance is
/// learnt of within a second.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// An end that is not the client's: what the client is told.
type End = Status;

/// A subscription under way.
pub(super) struct Session {
    gateway: Arc<Gateway>,
    subscription: Subscription,
    policy: Policy,
    member: Member,
    messages: mpsc::Sender<Result<SubscribeResponse, Status>>,
}

/// What the member reads in one generation.
struct Reading {
    reader: Reader,
    unpacker: Unpacker,
    /// Partitions that cannot be read just now, and from where they are to be read on.
    aside: BTreeMap<Owned, Offset>,
    /// Why nothing comes after the message that is ready.
    failed: Option<Error>,
    /// A message that waits for its place in the queue, and what it brings the client to.
    ready: Option<(SubscribeResponse, Option<(Owned, Offset)>)>,
    /// What the message in the queue brings the client to.
    queued: Option<(Owned, Offset)>,
    /// How far the transport has taken messages over; what of it is not committed yet.
    sent: BTreeMap<Owned, Offset>,
}

/// Why a generation ended for the member.
enum Over {
    /// The client is gone.
    Gone,
    /// There is a next generation.
    Rejoin,
    /// The stream ends with this.
    End(End),
}

/// What happened while reading.
enum Turn {
    Gone,
    Stopping,
    Heartbeat,
    Commit,
    Queued,
    Read(Vec<Lot>),
}

impl Session {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        subscription: Subscription,
        member: Member,
        messages: mpsc::Sender<Result<SubscribeResponse, Status>>,
    ) -> Self {
        let policy = Policy { reset: subscription.reset, isolation: subscription.manner.isolation };
        Self { gateway, subscription, policy, member, messages }
    }

    /// Serves the subscription to its end. The member leaves the group in any case.
    pub(super) async fn run(mut self) {
        let end = loop {
            match self.generation().await {
                Over::Rejoin => {}
                Over::Gone => break None,
                Over::End(status) => break Some(status),
            }
        };
        self.member.leave().await;
        if let Some(status) = end {
            // A client that is gone needs no reason.
            drop(self.messages.send(Err(status)).await);
        }
    }

    async fn generation(&mut self) -> Over {
        let owned = match self.join().await {
            Ok(owned) => owned,
            Err(over) => return over,
        };
        match self.begin(&owned).await {
            Ok(mut reading) => {
                let over = self.read(&mut reading).await;
                // Others read on from here; in the next generation it would be refused.
                if let Err(Setback::Later(error)) = self.commit(&mut reading).await {
                    let group = &self.subscription.group;
                    tracing::debug!(%group, %error, "offsets not committed at a rebalance");
                }
                over
            }
            Err(over) => over,
        }
    }

    /// Joins, and waits as long as the group and its coordinator want.
    async fn join(&mut self) -> Result<BTreeSet<Owned>, Over> {
        loop {
            let setback = {
                let gone = pin!(self.messages.closed());
                tokio::select! {
                    biased;
                    () = gone => return Err(Over::Gone),
                    () = self.gateway.stop.cancelled() => return Err(Over::End(stopping())),
                    joined = self.member.join() => match joined {
                        Ok(owned) => return Ok(owned),
                        Err(setback) => setback,
                    },
                }
            };
            match setback {
                Setback::Rejoin => {}
                Setback::Later(_) => self.pause().await?,
                Setback::Refused(error) => return Err(Over::End(convert::status(&error))),
            }
        }
    }

    async fn pause(&self) -> Result<(), Over> {
        tokio::select! {
            biased;
            () = self.messages.closed() => Err(Over::Gone),
            () = self.gateway.stop.cancelled() => Err(Over::End(stopping())),
            () = tokio::time::sleep(RETRY_PAUSE) => Ok(()),
        }
    }

    /// Finds out where to read, and announces it.
    async fn begin(&mut self, owned: &BTreeSet<Owned>) -> Result<Reading, Over> {
        let (broker, group) = (&self.gateway.broker, &self.subscription.group);
        let positions = match self.policy.begin(broker, group, owned).await {
            Ok(positions) => positions,
            Err(error) if error.is_retriable() => {
                self.pause().await?;
                return Err(Over::Rejoin);
            }
            Err(error) => return Err(Over::End(convert::status(&error))),
        };
        let mut tracked = Vec::new();
        let mut assigned = Vec::new();
        for ((topic, partition), position) in positions {
            match position {
                Ok(offset) => {
                    let (name, index) = (topic.to_string(), partition.0);
                    let offset_number = offset.0;
                    assigned.push(AssignedPartition {
                        topic: name,
                        partition: index,
                        offset: offset_number,
                    });
                    tracked.push(self.tracked(&topic, partition, offset));
                }
                Err(error) if error.is_retriable() => {
                    self.pause().await?;
                    return Err(Over::Rejoin);
                }
                Err(error) => return Err(Over::End(convert::status(&error))),
            }
        }
        let announcement = SubscribeResponse {
            event: Some(Event::Assigned(Assigned {
                member_id: self.member.id().to_owned(),
                generation: self.member.generation(),
                partitions: assigned,
            })),
        };
        let manner = self.subscription.manner;
        Ok(Reading {
            reader: Reader::new(Arc::clone(&self.gateway), manner, tracked),
            unpacker: Unpacker::default(),
            aside: BTreeMap::new(),
            failed: None,
            ready: Some((announcement, None)),
            queued: None,
            sent: BTreeMap::new(),
        })
    }

    fn tracked(&self, topic: &TopicName, partition: PartitionIndex, offset: Offset) -> Tracked {
        Tracked {
            name: topic.to_string(),
            topic: TopicRef::Name(topic.clone()),
            partition: partition.0,
            offset,
            leader_epoch: None,
            bytes_max: self.subscription.bytes_max,
            end: None,
        }
    }

    /// Reads and sends until the generation is over.
    async fn read(&mut self, reading: &mut Reading) -> Over {
        let mut heartbeats =
            every((self.subscription.session_timeout / 3).min(HEARTBEAT_INTERVAL_MAX));
        let mut commits = self.subscription.commit_interval.map(every);
        loop {
            reading.fill(self.subscription.bytes_max);
            if let (None, Some(error)) = (&reading.ready, &reading.failed) {
                return Over::End(convert::status(error));
            }
            let turn = self.turn(reading, &mut heartbeats, commits.as_mut()).await;
            let outcome = match turn {
                Turn::Gone => return Over::Gone,
                Turn::Stopping => return Over::End(stopping()),
                Turn::Heartbeat => match self.member.heartbeat().await {
                    Ok(()) => {
                        self.take_up(reading);
                        Ok(())
                    }
                    Err(setback) => Err(setback),
                },
                Turn::Commit => self.commit(reading).await,
                Turn::Queued => Ok(()),
                Turn::Read(lots) => match self.take(reading, lots).await {
                    Ok(()) => Ok(()),
                    Err(error) => return Over::End(convert::status(&error)),
                },
            };
            match outcome {
                // The session timeout is the group's limit on how long "later" may last.
                Ok(()) | Err(Setback::Later(_)) => {}
                Err(Setback::Rejoin) => return Over::Rejoin,
                Err(Setback::Refused(error)) => return Over::End(convert::status(&error)),
            }
        }
    }

    async fn turn(
        &self,
        reading: &mut Reading,
        heartbeats: &mut Interval,
        commits: Option<&mut Interval>,
    ) -> Turn {
        let commit = async {
            match commits {
                Some(interval) => drop(interval.tick().await),
                None => std::future::pending().await,
            }
        };
        let is_ready = reading.ready.is_some();
        let may_read = !is_ready && reading.unpacker.is_empty() && !reading.reader.is_done();
        tokio::select! {
            biased;
            () = self.messages.closed() => Turn::Gone,
            () = self.gateway.stop.cancelled() => Turn::Stopping,
            _ = heartbeats.tick() => Turn::Heartbeat,
            () = commit => Turn::Commit,
            Ok(place) = self.messages.reserve(), if is_ready => {
                if let Some((message, reached)) = reading.ready.take() {
                    // A place is free because the transport took over what was queued.
                    reading.note_sent(reached);
                    place.send(Ok(message));
                }
                Turn::Queued
            }
            lots = reading.reader.round(), if may_read => Turn::Read(lots),
        }
    }

    /// Commits what the transport took over, if the client wants that.
    async fn commit(&mut self, reading: &mut Reading) -> Result<(), Setback> {
        if self.subscription.commit_interval.is_none() {
            return Ok(());
        }
        // Of a client that is gone the queue is empty without having been sent.
        if !self.messages.is_closed() && self.messages.capacity() == self.messages.max_capacity() {
            reading.note_sent(None);
        }
        if reading.sent.is_empty() {
            return Ok(());
        }
        self.member.commit(&reading.sent).await?;
        reading.sent.clear();
        Ok(())
    }

    /// Sorts what a round brought.
    async fn take(&self, reading: &mut Reading, lots: Vec<Lot>) -> Result<(), Error> {
        for Lot { name, partition, from, next, result } in lots {
            match result {
                Ok(fetched) if fetched.batches.is_empty() => {}
                Ok(fetched) => {
                    let marks = fetch::marks(&fetched);
                    let batches = fetched.batches.into();
                    reading.unpacker.add(Packed { name, partition, from, next, batches, marks });
                }
                Err(error) => {
                    let Ok(topic) = TopicName::new(&name) else { continue };
                    let index = PartitionIndex(partition);
                    match error.code {
                        ErrorCode::OffsetOutOfRange if self.policy.reset != Reset::Refuse => {
                            let broker = &self.gateway.broker;
                            let offset = self.policy.reset(broker, &topic, index).await?;
                            reading.reader.add(self.tracked(&topic, index, offset));
                        }
                        ErrorCode::CorruptMessage => return Err(error),
                        code if code.is_retriable() => {
                            reading.aside.insert((topic, index), from);
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Tries again to read what was put aside.
    fn take_up(&self, reading: &mut Reading) {
        for ((topic, partition), offset) in std::mem::take(&mut reading.aside) {
            reading.reader.add(self.tracked(&topic, partition, offset));
        }
    }
}

impl Reading {
    /// Makes the next message ready, if there is one to make.
    fn fill(&mut self, bytes_max: rafka_core::ByteSize) {
        while self.ready.is_none() && self.failed.is_none() {
            let Some(unpacked) = self.unpacker.next(bytes_max) else { return };
            let Unpacked { name, partition, marks, records, next_offset, error } = unpacked;
            self.failed = error;
            let Ok(topic) = TopicName::new(&name) else { continue };
            let owned = (topic, PartitionIndex(partition));
            if records.is_empty() {
                continue;
            }
            let message = SubscribeResponse {
                event: Some(Event::Records(SubscribedRecords {
                    topic: name,
                    partition,
                    records,
                    next_offset: next_offset.0,
                    high_watermark: marks.high_watermark.0,
                })),
            };
            self.ready = Some((message, Some((owned, next_offset))));
        }
    }

    /// The queued message was taken over by the transport; `next` takes its place.
    fn note_sent(&mut self, next: Option<(Owned, Offset)>) {
        if let Some((owned, offset)) = std::mem::replace(&mut self.queued, next) {
            self.sent.insert(owned, offset);
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
