//! Pure: the batches of one partition that are under way: their sequence numbers, their order, and
//! what to do when an answer is bad or never comes.
//!
//! The rules that keep a partition's records single and in order:
//! - Batches are sent in the order of their sequence numbers, at most five at a time, all over the
//!   same connection. After a failure nothing is sent until everything under way is answered or its
//!   connection is lost; then sending goes on from the oldest one that is not settled.
//! - Until the node has acked a batch of the present epoch, only one is under way: a node that does
//!   not know the producer would take a later batch for the first.
//! - A repeated batch keeps its sequence number. The numbers begin again, under the next epoch, only
//!   when it is certain that none of the batches concerned is stored.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rafka_client::TopicPartition;
use rafka_core::{Batch, ErrorCode, ProducerEpoch, ProducerId, Time};

use crate::delivery::{Outcome, Receipt, Stored};
use crate::error::{Error, Fate};

/// An idempotent producer's name and incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// A connection to a node, never numbered twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// A node's word on a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// How a connection was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss<'a> {
    pub(crate) reason: &'a str,
    /// Set if the reason will not go away by itself: the batches fail.
    pub(crate) permanent: Option<ErrorCode>,
    /// Whether what was under way may be stored.
    pub(crate) in_doubt: bool,
}

/// A batch that is finished, and its outcome.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) receipt: Receipt,
    pub(crate) outcome: Outcome,
}

/// What an answer leads to.
#[derive(Debug, Default)]
pub(crate) struct Consequences {
    pub(crate) settled: Vec<Settled>,
    /// How many batches will be sent again.
    pub(crate) retries: u64,
    /// The leader may be another node by now.
    pub(crate) stale_leader: bool,
    /// Why the producer is finished, if it is.
    pub(crate) finished: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Sent { link: LinkId, request: u64 },
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// The sequence number of its first record; meaningless without idempotence.
    sequence: i32,
    records: i32,
    /// None after its time ran out while under way: nobody waits for it, but its number is taken.
    receipt: Option<Receipt>,
    place: Place,
    /// Whether an earlier attempt may have stored it.
    in_doubt: bool,
    /// Whether one before it was given up, so that the node may miss that one's number.
    after_gap: bool,
    /// How many batches after it were acked or given up before it. They too fill the node's memory
    /// of the last five batches, beyond which it would not recognise this one.
    passed: usize,
    last_failure: Option<String>,
}

/// Whether the node is told who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It is not: the producer is not idempotent.
    Off,
    /// It will be, once an id was given.
    Awaited,
    /// As this one.
    As(Identity),
    /// As this one, for the length of a transaction: only its end raises the epoch.
    Within(Identity),
}

/// One partition's batches under way.
#[derive(Debug)]
pub(crate) struct Flight {
    partition: TopicPartition,
    naming: Naming,
    in_flight_max: usize,
    next_sequence: i32,
    /// Whether the node has acked a batch of the present epoch.
    proven: bool,
    /// Whether the next batch will come after one that was given up.
    gap_at_end: bool,
    /// The oldest batch was refused as out of order: to be resolved once nothing is under way.
    out_of_order: bool,
    entries: VecDeque<Entry>,
    failures: u32,
    retry_at: Time,
}

impl Flight {
    /// How often in a row its oldest batch failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn new(partition: TopicPartition, naming: Naming, in_flight_max: usize) -> Self {
        Self {
            partition,
            naming,
            in_flight_max,
            next_sequence: 0,
            proven: false,
            gap_at_end: false,
            out_of_order: false,
            entries: VecDeque::new(),
            failures: 0,
            retry_at: Time::default(),
        }
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Gives the partition the producer's identity, once.
    pub(crate) fn identify(&mut self, identity: Identity) {
        if self.naming == Naming::Awaited {
            self.naming = Naming::As(identity);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many batches may be under way now.
    fn window(&self) -> usize {
        if self.naming != Naming::Off && !self.proven { 1 } else { self.in_flight_max }
    }

    /// Whether the next batch may be taken from the buffer.
    pub(crate) fn can_admit(&self, now: Time) -> bool {
        let named = self.naming != Naming::Awaited;
        let all_sent = self.entries.iter().all(|entry| entry.place != Place::Waiting);
        let passed = self.entries.front().map_or(0, |entry| entry.passed);
        let room = self.entries.len() + passed < self.window();
        named && all_sent && room && self.retry_at <= now
    }

    /// The identity and sequence number that the next batch must carry.
    pub(crate) fn next_numbers(&self) -> Option<(Identity, i32)> {
        match self.naming {
            Naming::As(identity) | Naming::Within(identity) => Some((identity, self.next_sequence)),
            Naming::Off | Naming::Awaited => None,
        }
    }

    /// Takes over a batch, which carries [`Flight::next_numbers`].
    pub(crate) fn admit(&mut self, bytes: Bytes, records: i32, receipt: Receipt) {
        self.entries.push_back(Entry {
            bytes,
            sequence: self.next_sequence,
            records,
            receipt: Some(receipt),
            place: Place::Waiting,
            in_doubt: false,
            after_gap: std::mem::take(&mut self.gap_at_end),
            passed: 0,
            last_failure: None,
        });
        self.next_sequence = advance(self.next_sequence, records);
    }

    /// The next batch for `link`, which counts as sent from now on with request `request`.
    pub(crate) fn send(&mut self, now: Time, link: LinkId, request: u64) -> Option<Bytes> {
        if now < self.retry_at || self.out_of_order {
            return None;
        }
        let next = self.entries.iter().position(|entry| entry.place == Place::Waiting)?;
        let in_order = |(index, entry): (usize, &Entry)| match entry.place {
            Place::Waiting => next <= index,
            Place::Sent { link: other, .. } => index < next && other == link,
        };
        if self.window() <= next || !self.entries.iter().enumerate().all(in_order) {
            return None;
        }
        let entry = &mut self.entries[next];
        entry.place = Place::Sent { link, request };
        Some(entry.bytes.clone())
    }

    /// When a wait after a failure ends, if batches wait for that.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        let waits = self.entries.iter().any(|entry| entry.place == Place::Waiting);
        waits.then_some(self.retry_at)
    }

    /// The batch of a request that gets no answer was handed to the connection.
    pub(crate) fn handed_over(&mut self, request: u64) -> Option<Settled> {
        let entry = self.remove_sent(request)?;
        let receipt = entry.receipt?;
        Some(Settled { receipt, outcome: Ok(Stored::default()) })
    }

    fn find_sent(&self, request: u64) -> Option<usize> {
        let sent =
            |entry: &Entry| matches!(entry.place, Place::Sent { request: of, .. } if of == request);
        self.entries.iter().position(sent)
    }

    fn remove_sent(&mut self, request: u64) -> Option<Entry> {
        self.entries.remove(self.find_sent(request)?)
    }

    /// The node has stored the batch of a request.
    pub(crate) fn acked(&mut self, request: u64, stored: Stored) -> Consequences {
        let mut consequences = Consequences::default();
        let Some(index) = self.find_sent(request) else { return consequences };
        self.proven = true;
        self.failures = 0;
        self.note_passed(index);
        if let Some(entry) = self.entries.remove(index)
            && let Some(receipt) = entry.receipt
        {
            consequences.settled.push(Settled { receipt, outcome: Ok(stored) });
        }
        self.resolve(&mut consequences);
        consequences
    }

    /// The node has refused the batch of a request. `wait` gives the wait after so many failures.
    pub(crate) fn refused(
        &mut self,
        request: u64,
        refusal: &Refusal,
        now: Time,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Consequences {
        let mut consequences = Consequences::default();
        let Some(index) = self.find_sent(request) else { return consequences };
        match Verdict::of(refusal.code, self.naming != Naming::Off) {
            Verdict::StoredBefore => return self.acked(request, Stored::default()),
            Verdict::Fenced => {
                let (partition, message) = (self.partition.clone(), refusal.message.clone());
                consequences.finished = Some(Error::Fenced { partition, message });
                return consequences;
            }
            Verdict::OutOfOrder => {
                // Behind an older batch that is open this only says that the older one is missing.
                self.out_of_order |= index == 0;
                self.keep(index, refusal, false, &mut consequences);
            }
            Verdict::Retry { in_doubt, stale_leader } => {
                consequences.stale_leader = stale_leader;
                self.keep(index, refusal, in_doubt, &mut consequences);
            }
            Verdict::Refused { in_doubt } => {
                self.entries[index].in_doubt |= in_doubt;
                let settled = self.give_up(index, |entry, partition| Error::Refused {
                    partition,
                    code: refusal.code,
                    message: refusal.message.clone(),
                    fate: fate(entry.in_doubt),
                });
                consequences.settled.extend(settled);
            }
        }
        if 0 < consequences.retries {
            self.failures = self.failures.saturating_add(1);
            self.retry_at = now + wait(self.failures);
        }
        self.resolve(&mut consequences);
        consequences
    }

    /// Keeps a batch to be sent again, unless its time has run out.
    fn keep(
        &mut self,
        index: usize,
        refusal: &Refusal,
        in_doubt: bool,
        consequences: &mut Consequences,
    ) {
        let entry = &mut self.entries[index];
        entry.place = Place::Waiting;
        entry.in_doubt |= in_doubt;
        entry.last_failure = Some(format!("{} [{}]", refusal.message, refusal.code));
        if entry.receipt.is_none() {
            self.abandon(index);
        } else {
            consequences.retries += 1;
        }
    }

    /// Removes a batch that was not stored as far as we know, and notes what that means for the
    /// numbers of those after it.
    fn abandon(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        if index == self.entries.len() && !entry.in_doubt {
            // The node has not taken the number: the next batch has it.
            self.next_sequence = entry.sequence;
            self.gap_at_end |= entry.after_gap;
            return Some(entry);
        }
        match self.entries.get_mut(index) {
            Some(next) => next.after_gap = true,
            None => self.gap_at_end = true,
        }
        self.note_passed(index);
        Some(entry)
    }

    /// A batch after the first `index` ones is no longer open, but the node may have stored it.
    fn note_passed(&mut self, index: usize) {
        for passed in self.entries.range_mut(..index) {
            passed.passed += 1;
        }
    }

    fn give_up(
        &mut self,
        index: usize,
        error: impl FnOnce(&Entry, TopicPartition) -> Error,
    ) -> Option<Settled> {
        let entry = self.abandon(index)?;
        let outcome = Err(error(&entry, self.partition.clone()));
        Some(Settled { receipt: entry.receipt?, outcome })
    }

    /// The connection is gone: what was under way on it waits again.
    pub(crate) fn link_lost(&mut self, link: LinkId, loss: &Loss<'_>) -> Consequences {
        let mut consequences = Consequences::default();
        let mut index = 0;
        while index < self.entries.len() {
            let entry = &mut self.entries[index];
            if !matches!(entry.place, Place::Sent { link: of, .. } if of == link) {
                index += 1;
                continue;
            }
            entry.place = Place::Waiting;
            entry.in_doubt |= loss.in_doubt;
            entry.last_failure = Some(loss.reason.to_owned());
            if entry.receipt.is_some() && loss.permanent.is_none() {
                consequences.retries += 1;
                index += 1;
                continue;
            }
            let settled = self.give_up(index, |entry, partition| Error::Refused {
                partition,
                code: loss.permanent.unwrap_or(ErrorCode::NetworkException),
                message: loss.reason.to_owned(),
                fate: fate(entry.in_doubt),
            });
            consequences.settled.extend(settled);
        }
        self.resolve(&mut consequences);
        consequences
    }

    /// Resolves that the oldest batch is out of order, once nothing is under way.
    fn resolve(&mut self, consequences: &mut Consequences) {
        let under_way = self.entries.iter().any(|entry| entry.place != Place::Waiting);
        if !self.out_of_order || under_way {
            return;
        }
        self.out_of_order = false;
        let Some(first) = self.entries.front() else {
            self.begin_epoch(consequences);
            return;
        };
        if first.in_doubt && !first.after_gap {
            // An attempt may have stored it and the node has forgotten: sent anew it might double.
            // Those that were never in doubt can go on.
            let partition = self.partition.clone();
            let mut kept = VecDeque::new();
            for entry in self.entries.drain(..) {
                if !entry.in_doubt {
                    kept.push_back(entry);
                } else if let Some(receipt) = entry.receipt {
                    let outcome = Err(Error::SequenceLost { partition: partition.clone() });
                    consequences.settled.push(Settled { receipt, outcome });
                }
            }
            self.entries = kept;
        }
        // Here none of them is stored: the node refused the oldest for a number that is missing
        // before it, so it cannot have taken one that comes after it.
        self.begin_epoch(consequences);
    }

    /// Numbers what is open from 0 under the next epoch.
    fn begin_epoch(&mut self, consequences: &mut Consequences) {
        let identity = match &mut self.naming {
            Naming::Off | Naming::Awaited => return,
            Naming::As(identity) => identity,
            Naming::Within(_) => {
                let partition = self.partition.clone();
                consequences.finished = Some(Error::SequenceLost { partition });
                return;
            }
        };
        let Some(next) = identity.epoch.0.checked_add(1) else {
            let partition = self.partition.clone();
            let message = "its epochs are used up: make a new producer".to_owned();
            consequences.finished = Some(Error::Fenced { partition, message });
            return;
        };
        identity.epoch = ProducerEpoch(next);
        (self.proven, self.gap_at_end, self.next_sequence) = (false, false, 0);
        for entry in &mut self.entries {
            let mut batch = Batch::parse_trusted(entry.bytes.clone()).expect("we made this batch");
            batch.set_producer(identity.id, identity.epoch, self.next_sequence);
            entry.bytes = batch.to_bytes();
            entry.sequence = self.next_sequence;
            (entry.in_doubt, entry.after_gap, entry.passed) = (false, false, 0);
            self.next_sequence = advance(self.next_sequence, entry.records);
        }
    }

    /// Ends the wait for batches that began at or before `limit`.
    pub(crate) fn expire(&mut self, limit: Time, timeout: Duration) -> Consequences {
        let mut consequences = Consequences::default();
        let mut index = 0;
        while index < self.entries.len() {
            let entry = &mut self.entries[index];
            if entry.receipt.as_ref().is_none_or(|receipt| limit < receipt.created_at) {
                index += 1;
                continue;
            }
            let failure = entry.last_failure.clone();
            let late = |partition: TopicPartition, fate: Fate| Error::TimedOut {
                partition,
                limit: timeout,
                last: failure.unwrap_or_else(|| "no answer yet".to_owned()),
                fate,
            };
            if entry.place == Place::Waiting {
                let settled =
                    self.give_up(index, |entry, partition| late(partition, fate(entry.in_doubt)));
                consequences.settled.extend(settled);
            } else {
                let outcome = Err(late(self.partition.clone(), Fate::Unknown));
                let receipt = entry.receipt.take();
                consequences.settled.extend(receipt.map(|receipt| Settled { receipt, outcome }));
                index += 1;
            }
        }
        self.resolve(&mut consequences);
        consequences
    }

    /// Takes everything out: the producer ends. The flag says whether a batch may be stored.
    pub(crate) fn drain(&mut self) -> Vec<(Receipt, Fate)> {
        let taken = |entry: Entry| {
            let doubt = entry.in_doubt || entry.place != Place::Waiting;
            entry.receipt.map(|receipt| (receipt, fate(doubt)))
        };
        self.entries.drain(..).filter_map(taken).collect()
    }
}

fn fate(in_doubt: bool) -> Fate {
    if in_doubt { Fate::Unknown } else { Fate::NotWritten }
}

/// Sequence numbers wrap from the largest `i32` to 0.
fn advance(sequence: i32, by: i32) -> i32 {
    let wrapped = (i64::from(sequence) + i64::from(by)) % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).expect("a remainder of 2^31 fits")
}

/// What a node's error means for a batch.
enum Verdict {
    StoredBefore,
    OutOfOrder,
    Fenced,
    Retry { in_doubt: bool, stale_leader: bool },
    Refused { in_doubt: bool },
}

impl Verdict {
    fn of(code: ErrorCode, idempotent: bool) -> Self {
        use ErrorCode as Code;
        match code {
            Code::DuplicateSequenceNumber => Self::StoredBefore,
            Code::OutOfOrderSequenceNumber | Code::UnknownProducerId if idempotent => {
                Self::OutOfOrder
            }
            Code::InvalidProducerEpoch | Code::ProducerFenced => Self::Fenced,
            Code::NotLeaderOrFollower
            | Code::LeaderNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownTopicId => Self::Retry { in_doubt: false, stale_leader: true },
            Code::NotEnoughReplicas | Code::ThrottlingQuotaExceeded | Code::CorruptMessage => {
                Self::Retry { in_doubt: false, stale_leader: false }
            }
            code if code.is_retriable() => Self::Retry { in_doubt: true, stale_leader: false },
            // An unexpected fault may have struck after the batch was stored.
            code => Self::Refused { in_doubt: code == Code::UnknownServer },
        }
    }
}

#[cfg(test)]
mod tests;
