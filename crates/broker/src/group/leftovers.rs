//! Pure: what is no more and what the log refused to hear that of; it is told again.

use std::collections::BTreeSet;

use bytes::Bytes;
use rafka_core::ErrorCode;

use super::effects::Turn;
use super::machine::{Group, State, Write};
use super::record::{self, Record};

impl Group {
    /// Comes back to what the log refused. Until then the group can be used again.
    pub(super) fn tell_again(&mut self, keys: impl IntoIterator<Item = Bytes>, turn: &Turn<'_>) {
        self.leftovers.extend(keys);
        if self.state == State::Dead && self.writes.is_empty() {
            self.state = State::Empty;
        }
        self.plan_expiry(turn.now);
    }

    /// Tells the log again what it refused to hear, but for what is there again.
    pub(super) fn bury_leftovers(&mut self, turn: &mut Turn<'_>) {
        if self.leftovers.is_empty() {
            return;
        }
        let mut keys = std::mem::take(&mut self.leftovers);
        for record in self.consumer_tombstones() {
            keys.remove(&record.key);
        }
        for partition in self.known_partitions(|_| true) {
            keys.remove(&record::offset_key(&self.id, &partition));
        }
        self.bury(keys, turn);
    }

    /// The group and its records are deleted. What the log had refused is still to be told.
    pub(super) fn begin_anew(&mut self) {
        let mut leftovers = std::mem::take(&mut self.leftovers);
        if let Some(consumers) = &self.consumers {
            leftovers.extend(consumers.refused_keys(&self.id));
        }
        let state = if leftovers.is_empty() { State::Dead } else { State::Empty };
        *self = Self {
            state,
            leftovers,
            writes: std::mem::take(&mut self.writes),
            next_ticket: self.next_ticket,
            ..Self::new(self.id.clone())
        };
    }

    pub(super) fn bury(&mut self, keys: BTreeSet<Bytes>, turn: &mut Turn<'_>) {
        let tombstone = |key: &Bytes| Record { key: key.clone(), value: None };
        let records: Vec<Record> = keys.iter().map(tombstone).collect();
        if !records.is_empty() {
            self.write(records, Write::Tombstones(keys), turn);
        }
    }

    pub(super) fn end_burying(
        &mut self,
        keys: BTreeSet<Bytes>,
        result: Result<(), ErrorCode>,
        turn: &Turn<'_>,
    ) {
        if result.is_err() {
            self.tell_again(keys, turn);
        }
    }
}
