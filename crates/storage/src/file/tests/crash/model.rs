//! What may and must be found of a log after a crash.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rafka_core::batch::{Outcome, Record};
use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::{Batch, EpochHistory, Offset, ProducerId, Timestamp, TopicPartition};

use crate::contract::sample;
use crate::{Durability, LogId, LogSettings, Recovered};

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    Kill,
    PowerCut,
}

/// Why a log is not what it must be.
pub(super) type Fault = String;

/// Fails with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// A log as the test drove it.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: TopicPartition,
    pub(super) id: LogId,
    pub(super) settings: LogSettings,
    /// Where it must start, and where it may if a trimming or cleaning was cut short.
    pub(super) start: RangeInclusive<Offset>,
    /// Everything that was submitted and not truncated, compacted records included.
    pub(super) batches: Vec<Batch>,
    /// What was reported durable.
    pub(super) acked: Offset,
    /// What survives even a power cut.
    pub(super) solid: Offset,
    /// Whether what is reported is solid at once.
    pub(super) is_solid_lane: bool,
    /// What it was before truncations that a power cut may undo.
    pub(super) former: Vec<Vec<Batch>>,
    /// Whether the process may have died before or after the log was created or deleted.
    pub(super) may_be_gone: bool,
    pub(super) sequences: BTreeMap<ProducerId, i32>,
    /// Cleaning was allowed below this, so that nobody may truncate there.
    pub(super) cleaned: Offset,
}

impl Expected {
    pub(super) fn new(name: TopicPartition, id: LogId, settings: LogSettings) -> Self {
        let is_solid_lane = settings.durability == Durability::Fsync;
        Self {
            name,
            id,
            settings,
            start: Offset(0)..=Offset(0),
            batches: Vec::new(),
            acked: Offset(0),
            solid: Offset(0),
            is_solid_lane,
            former: Vec::new(),
            may_be_gone: false,
            sequences: BTreeMap::new(),
            cleaned: Offset(0),
        }
    }

    pub(super) fn end(&self) -> Offset {
        self.batches.last().map_or(*self.start.start(), Batch::next_offset).max(*self.start.start())
    }

    pub(super) fn note_acked(&mut self, end: Offset) {
        self.acked = self.acked.max(end);
        if self.is_solid_lane {
            self.solid = self.acked;
        }
    }

    /// A flush has written out all that was acked.
    pub(super) fn note_flushed(&mut self) {
        self.solid = self.acked;
        self.is_solid_lane = self.settings.durability == Durability::Fsync;
        self.former.clear();
    }

    /// A truncation begins. Whether it happened is not known until it returns.
    pub(super) fn begin_truncation(&mut self, end: Offset) {
        let edge = edge_below(&self.batches, end).max(*self.start.start());
        self.acked = self.acked.min(edge);
        self.solid = self.solid.min(edge);
    }

    pub(super) fn end_truncation(&mut self, end: Offset) {
        if !self.is_solid_lane {
            self.former.push(self.batches.clone());
        }
        self.batches.retain(|batch| batch.next_offset() <= end);
        self.acked = self.end();
        if self.is_solid_lane {
            self.solid = self.acked;
        }
        self.recount_sequences();
    }

    pub(super) fn recount_sequences(&mut self) {
        self.sequences.clear();
        for batch in self.batches.iter().filter(|batch| 0 <= batch.header.base_sequence) {
            let next = batch.header.base_sequence + batch.header.last_offset_delta + 1;
            self.sequences.insert(batch.header.producer_id, next);
        }
    }

    pub(super) fn trim(&mut self, start: Offset) {
        let start = start.max(*self.start.start());
        self.start = start..=start;
    }

    /// Holds what was found against what was done, and takes it over.
    pub(super) fn check(
        &mut self,
        found: &[Batch],
        (recovered, aborted): (&Recovered, &[Ended]),
        death: Death,
    ) -> Result<(), Fault> {
        let log = self.id;
        let bounds = recovered.bounds;
        let at_least = match death {
            Death::Kill => self.acked,
            Death::PowerCut => self.solid,
        };
        ensure!(
            self.start.contains(&bounds.start),
            "log {log} starts at {}, not in {:?}",
            bounds.start,
            self.start
        );
        ensure!(
            at_least <= bounds.end,
            "log {log} ends at {}, below the acked {at_least}",
            bounds.end
        );
        ensure!(bounds.durable == bounds.end, "log {log} is not durable after a start: {bounds:?}");
        let mut lists = vec![&self.batches];
        if death == Death::PowerCut {
            lists.extend(&self.former);
        }
        let mut faults = Vec::new();
        let differs = |list: &[Batch]| {
            self.differs(list, found, recovered)?;
            transactions_differ(list, recovered, aborted)
        };
        let list = lists.into_iter().find(|list| match differs(list) {
            Ok(()) => true,
            Err(fault) => {
                faults.push(fault);
                false
            }
        });
        let Some(list) = list else {
            return Err(format!("log {log}: {}", faults.join("; or: ")));
        };
        let kept = list.iter().filter(|batch| batch.next_offset() <= bounds.end);
        self.batches = kept.cloned().collect();
        self.start = bounds.start..=bounds.start;
        (self.acked, self.solid) = (bounds.end, bounds.end);
        self.is_solid_lane = self.settings.durability == Durability::Fsync;
        self.cleaned = self.cleaned.min(bounds.end);
        self.former.clear();
        self.may_be_gone = false;
        self.recount_sequences();
        Ok(())
    }

    /// Fails unless the log holds what `list` has up to the log's end.
    fn differs(&self, list: &[Batch], found: &[Batch], recovered: &Recovered) -> Result<(), Fault> {
        let bounds = recovered.bounds;
        let until = |batch: &&Batch| batch.next_offset() <= bounds.end;
        let is_edge = list.iter().any(|batch| batch.next_offset() == bounds.end);
        ensure!(is_edge || bounds.end == bounds.start, "it ends inside of a batch, {bounds:?}");
        let live = |batch: &&Batch| bounds.start < batch.next_offset();
        let expected: Vec<Batch> = list.iter().filter(until).filter(live).cloned().collect();
        if self.settings.cleanup.compact {
            differ_by_more_than_compaction(&expected, found, bounds.start)?;
        } else {
            let offsets = |batches: &[Batch]| -> Vec<(i64, i32)> {
                batches.iter().map(|b| (b.base_offset().0, b.header.leader_epoch.0)).collect()
            };
            let (left, right) = (offsets(&expected), offsets(found));
            ensure!(left == right, "expected {left:?}, found {right:?}");
            ensure!(expected == found, "its batches were altered");
        }
        let mut table = ProducerTable::default();
        let mut epochs = EpochHistory::default();
        for batch in list.iter().filter(until) {
            table.note(batch, Timestamp(0));
            epochs.note(batch.header.leader_epoch, batch.base_offset());
        }
        let last = |table: &ProducerTable| -> Vec<_> {
            table.last_batches().filter(|(_, base)| bounds.start <= *base).collect()
        };
        let (left, right) = (last(&table), last(&recovered.producers));
        ensure!(left == right, "expected producers {left:?}, found {right:?}");
        let held = |mut epochs: EpochHistory| -> Vec<_> {
            epochs.trim(bounds.start);
            let held = |epoch| found.iter().any(|batch| batch.header.leader_epoch == epoch);
            epochs.entries().iter().filter(|(epoch, _)| held(*epoch)).copied().collect()
        };
        let (left, right) = (held(epochs), held(recovered.epochs.clone()));
        ensure!(left == right, "expected epochs {left:?}, found {right:?}");
        Ok(())
    }
}

/// Fails unless the transactions of `list` up to the log's end are known. Of those that began below
/// the log's start a truncation may have left less.
fn transactions_differ(
    list: &[Batch],
    recovered: &Recovered,
    aborted: &[Ended],
) -> Result<(), Fault> {
    let bounds = recovered.bounds;
    let mut table = ProducerTable::default();
    let held = list.iter().filter(|batch| batch.next_offset() <= bounds.end);
    let ended: Vec<Ended> = held.filter_map(|batch| table.note(batch, Timestamp(0))).collect();
    let (open, found): (Vec<_>, Vec<_>) =
        (table.open().collect(), recovered.producers.open().collect());
    let is_live = |first: Offset| bounds.start <= first;
    for transaction in open.iter().filter(|(first, _)| is_live(*first)) {
        ensure!(found.contains(transaction), "{transaction:?} is open, found are {found:?}");
    }
    // In the `os` lane a power cut may take a marker that the start has gone by.
    for (first, id) in found.iter().filter(|(first, _)| is_live(*first)) {
        ensure!(open.iter().any(|(_, open)| open == id), "{id} has nothing open at {first}");
    }
    let expected =
        ended.iter().filter(|ended| ended.outcome == Outcome::Abort && is_live(ended.first_offset));
    for one in expected {
        // It may seem to have begun earlier, if a marker before it was lost in the same way.
        let covers = |found: &Ended| {
            (found.producer, found.last_offset) == (one.producer, one.last_offset)
                && found.first_offset <= one.first_offset
        };
        ensure!(aborted.iter().any(covers), "{one:?} was aborted, found are {aborted:?}");
    }
    for one in aborted {
        let is_known = ended
            .iter()
            .any(|ended| ended.outcome == Outcome::Abort && ended.last_offset == one.last_offset);
        ensure!(is_known, "{one:?} was not aborted");
    }
    Ok(())
}

/// Fails if a record is lost that no later one of its key replaces, or one was made up.
fn differ_by_more_than_compaction(
    expected: &[Batch],
    found: &[Batch],
    start: Offset,
) -> Result<(), Fault> {
    let records = |batches: &[Batch]| -> BTreeMap<Offset, Record> {
        let records = batches.iter().flat_map(sample::records_of);
        records.map(|record| (record.offset, record)).collect()
    };
    let (expected, found) = (records(expected), records(found));
    for (offset, record) in &found {
        ensure!(expected.get(offset) == Some(record), "the record at {offset} was made up");
    }
    let mut latest = BTreeMap::new();
    for (offset, record) in &expected {
        latest.insert(record.key.clone(), *offset);
    }
    for (offset, record) in expected.range(start..) {
        let is_replaced = latest.get(&record.key).is_some_and(|latest| offset < latest);
        ensure!(is_replaced || found.contains_key(offset), "the record at {offset} is lost");
    }
    Ok(())
}

fn edge_below(batches: &[Batch], end: Offset) -> Offset {
    let below = batches.iter().map(Batch::next_offset).take_while(|next| *next <= end);
    below.last().unwrap_or_default()
}
