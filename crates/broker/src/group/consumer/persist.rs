//! Pure: what changed in a next-generation group goes into the log, and then to who waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rafka_core::{ErrorCode, GroupId};

use super::Consumers;
use super::record;
use crate::group::effects::{Reply, Turn};
use crate::group::machine::{Group, Write};
use crate::group::record::{Record, group_tombstone};

/// What differs from the log: of what is named here and is not there any more, the log is told so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// The log may hold the record of a classic group of that name.
    pub(super) classic: bool,
    pub(super) group: bool,
    pub(super) target_epoch: bool,
    pub(super) members: BTreeSet<Arc<str>>,
    pub(super) targets: BTreeSet<Arc<str>>,
    pub(super) current: BTreeSet<Arc<str>>,
    pub(super) regexes: BTreeSet<String>,
}

/// Changes on their way into the log, and the answers that wait for that.
#[derive(Debug, Default)]
pub(in crate::group) struct Persisting {
    waiting: Vec<Reply>,
    dirty: Dirty,
}

impl Dirty {
    pub(super) fn note_member(&mut self, id: &Arc<str>) {
        self.members.insert(Arc::clone(id));
    }

    /// The keys of the records that it is about, but for those of the group itself.
    pub(super) fn keys(&self, group: &GroupId) -> Vec<Bytes> {
        let members = self.members.iter().map(|id| record::member(group, id, None));
        let targets = self.targets.iter().map(|id| record::target(group, id, None));
        let current = self.current.iter().map(|id| record::current(group, id, None));
        let regexes = self.regexes.iter().map(|pattern| record::regex(group, pattern, None));
        let all = members.chain(targets).chain(current).chain(regexes);
        all.map(|record| record.key).collect()
    }

    fn merge(&mut self, other: Self) {
        self.classic |= other.classic;
        self.group |= other.group;
        self.target_epoch |= other.target_epoch;
        self.members.extend(other.members);
        self.targets.extend(other.targets);
        self.current.extend(other.current);
        self.regexes.extend(other.regexes);
    }
}

impl Group {
    /// Answers once all that the answer rests on is durable.
    pub(super) fn answer_when_durable(&mut self, reply: Reply, turn: &mut Turn<'_>) {
        self.persist(turn);
        let on_the_way = self.writes.values_mut().rev().find_map(|write| match write {
            Write::Consumers(persisting) => Some(persisting),
            _ => None,
        });
        match on_the_way {
            Some(persisting) => persisting.waiting.push(reply),
            None => turn.reply(reply),
        }
    }

    /// Sends what has changed on its way into the log.
    pub(super) fn persist(&mut self, turn: &mut Turn<'_>) {
        self.bury_leftovers(turn);
        let Some(consumers) = &mut self.consumers else { return };
        let dirty = std::mem::take(&mut consumers.dirty);
        if dirty == Dirty::default() {
            return;
        }
        let mut records = Vec::new();
        if dirty.classic {
            records.push(group_tombstone(&self.id));
        }
        records.extend(consumers.records(&self.id, &dirty, turn.timestamp));
        let write = Write::Consumers(Persisting { waiting: Vec::new(), dirty });
        self.write(records, write, turn);
    }

    /// What was on its way into the log is there, or was refused.
    pub(in crate::group) fn end_persisting(
        &mut self,
        persisting: Persisting,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        let Persisting { waiting, dirty } = persisting;
        match &mut self.consumers {
            _ if result.is_ok() => {}
            Some(consumers) => consumers.dirty.merge(dirty),
            None => {
                self.tell_again(dirty.keys(&self.id), turn);
            }
        }
        for reply in waiting {
            turn.reply(match result {
                Ok(()) => reply,
                Err(code) => reply.refused(code),
            });
        }
    }

    /// The empty group becomes a classic one.
    pub(in crate::group) fn end_consumers(&mut self, turn: &mut Turn<'_>) -> Option<Consumers> {
        let keys = self.consumer_tombstones().into_iter().map(|record| record.key).collect();
        let consumers = self.consumers.take()?;
        self.bury(keys, turn);
        Some(*consumers)
    }

    /// Takes out of the log what it holds of the next-generation group.
    pub(in crate::group) fn consumer_tombstones(&self) -> Vec<Record> {
        let Some(consumers) = &self.consumers else { return Vec::new() };
        let mut records: Vec<Record> =
            consumers.regexes.keys().map(|it| record::regex(&self.id, it, None)).collect();
        let members: BTreeSet<&Arc<str>> =
            consumers.members.keys().chain(&consumers.dirty.members).collect();
        for id in members {
            records.push(record::current(&self.id, id, None));
            records.push(record::target(&self.id, id, None));
            records.push(record::member(&self.id, id, None));
        }
        records.push(record::target_epoch(&self.id, None));
        records.push(record::group(&self.id, None));
        records
    }
}

impl Persisting {
    /// Answers who waits: this node coordinates the group no longer.
    pub(in crate::group) fn abandon(self, code: ErrorCode, turn: &mut Turn<'_>) {
        for reply in self.waiting {
            turn.reply(reply.refused(code));
        }
    }
}

impl Consumers {
    /// Of what the log was not told that it is no more, or that it is.
    pub(in crate::group) fn refused_keys(&self, group: &GroupId) -> Vec<Bytes> {
        self.dirty.keys(group)
    }

    fn records(&self, group: &GroupId, dirty: &Dirty, now: rafka_core::Timestamp) -> Vec<Record> {
        let mut records = Vec::new();
        // What goes, goes first, from the inside out; what comes, comes from the outside in.
        for id in dirty.current.iter().filter(|id| !self.members.contains_key(*id)) {
            records.push(record::current(group, id, None));
        }
        for id in dirty.targets.iter().filter(|id| !self.target.contains_key(*id)) {
            records.push(record::target(group, id, None));
        }
        for id in &dirty.members {
            let member = self.members.get(id).map(|member| &member.profile);
            records.push(record::member(group, id, member));
        }
        let version = self.regexes_seen.map_or(0, |(version, _)| version);
        for pattern in &dirty.regexes {
            let matched = self.regexes.get(pattern).map(|names| (names, version, now));
            records.push(record::regex(group, pattern, matched));
        }
        if dirty.group {
            records.push(record::group(group, Some((self.epoch, self.topics_hash))));
        }
        for id in &dirty.targets {
            if let Some(share) = self.target.get(id) {
                records.push(record::target(group, id, Some(share)));
            }
        }
        if dirty.target_epoch {
            records.push(record::target_epoch(group, Some(self.target_epoch)));
        }
        for id in &dirty.current {
            if let Some(member) = self.members.get(id) {
                records.push(record::current(group, id, Some(&member.current)));
            }
        }
        records
    }
}
