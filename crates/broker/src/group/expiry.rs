//! Pure: forgetting: offsets that nobody kept, groups with nothing left, groups that are deleted.

use std::time::Duration;

use rafka_core::{ErrorCode, Time};

use super::effects::{Reply, Turn, Waiter};
use super::machine::{Group, State, Write};
use super::offsets::{DeletionReason, Entry, Partition};
use super::record::{self, Record};

/// The least time between two looks, so that offsets that expire one after the other are
/// forgotten together.
pub(super) const PAUSE: Duration = Duration::from_mins(1);

impl Group {
    /// Forgets what nobody kept.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        if !self.writes.is_empty() {
            // What is under way may change what there is to forget.
            self.expiry_at = Some(turn.now + PAUSE);
            return;
        }
        self.bury_leftovers(turn);
        let is_over = |at: &Partition, entry: &Entry| {
            self.entry_kept_until(at, entry).is_some_and(|time| time <= turn.now)
                && !self.is_undecided(at)
        };
        let over = self.offsets.iter().filter(|(at, entry)| is_over(at, entry));
        let partitions: Vec<Partition> = over.map(|(at, _)| at.clone()).collect();
        self.plan_expiry(turn.now);
        if !partitions.is_empty() {
            self.forget(DeletionReason::Expired, partitions, turn);
        } else if self.state == State::Empty
            && self.offsets.is_empty()
            && self.undecided.is_empty()
            && self.pending.is_empty()
            && self.writes.is_empty()
        {
            self.begin_deletion(None, turn);
        }
    }

    /// Sets when to look next for something to forget.
    pub(super) fn plan_expiry(&mut self, now: Time) {
        let is_empty =
            self.state == State::Empty && self.offsets.is_empty() && self.undecided.is_empty();
        let next = if is_empty || !self.leftovers.is_empty() {
            Some(now)
        } else {
            self.offsets.iter().filter_map(|(at, entry)| self.entry_kept_until(at, entry)).min()
        };
        self.expiry_at = next.map(|time| time.max(now + PAUSE));
    }

    /// Makes sure that a new offset is looked at in time.
    pub(super) fn expire_by(&mut self, partition: &Partition, entry: &Entry) {
        if let Some(time) = self.entry_kept_until(partition, entry) {
            self.expiry_at = Some(self.expiry_at.map_or(time, |planned| planned.min(time)));
        }
    }

    /// Until when an offset is kept; without end while a member may want it.
    fn entry_kept_until(&self, (topic, _): &Partition, entry: &Entry) -> Option<Time> {
        match self.state {
            State::Empty if self.protocol_type.is_some() => {
                Some(entry.kept_until.max(self.kept_until))
            }
            State::Empty => Some(entry.kept_until),
            State::Stable | State::Consuming => {
                let subscribed = self.subscribed.as_ref()?;
                (!subscribed.contains(topic.as_str())).then_some(entry.kept_until)
            }
            State::Preparing(_) | State::Completing { .. } | State::Dead => None,
        }
    }

    /// An operator deletes the group. The answer comes once that is durable.
    pub(super) fn delete(&mut self, waiter: Waiter, turn: &mut Turn<'_>) {
        match self.state {
            State::Empty => self.begin_deletion(Some(waiter), turn),
            State::Dead => turn.reply(Reply::Deleted(waiter, Err(ErrorCode::GroupIdNotFound))),
            State::Preparing(_) | State::Completing { .. } | State::Stable | State::Consuming => {
                turn.reply(Reply::Deleted(waiter, Err(ErrorCode::NonEmptyGroup)));
            }
        }
    }

    fn begin_deletion(&mut self, waiter: Option<Waiter>, turn: &mut Turn<'_>) {
        self.state = State::Dead;
        self.pending.clear();
        self.expiry_at = None;
        let offsets = self.known_partitions(|_| true);
        let mut records: Vec<Record> =
            offsets.iter().map(|partition| record::offset_tombstone(&self.id, partition)).collect();
        records.extend(self.consumer_tombstones());
        if self.is_recorded && self.consumers.is_none() {
            records.push(record::group_tombstone(&self.id));
        }
        if !records.is_empty() {
            self.write(records, Write::GroupDeletion { waiter }, turn);
        } else {
            if !self.leftovers.is_empty() {
                self.state = State::Empty;
                self.plan_expiry(turn.now);
            }
            if let Some(waiter) = waiter {
                turn.reply(Reply::Deleted(waiter, Ok(())));
            }
        }
    }

    pub(super) fn end_group_deletion(
        &mut self,
        waiter: Option<Waiter>,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(()) => {
                self.begin_anew();
                self.bury_leftovers(turn);
            }
            Err(_) => {
                self.state = State::Empty;
                self.plan_expiry(turn.now);
            }
        }
        if let Some(waiter) = waiter {
            turn.reply(Reply::Deleted(waiter, result));
        }
    }
}
