//! Pure: a next-generation group back out of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rafka_core::{TopicName, TopicPartition};

use super::persist::Dirty;
use super::reconcile::{Current, Progress};
use super::record::{self, Entry};
use super::{Consumers, Member, Share};
use crate::group::effects::Turn;
use crate::group::machine::{Group, State};

/// What the log has said of a next-generation group so far.
#[derive(Debug, Default)]
pub(in crate::group) struct Found {
    group: Option<(i32, i64)>,
    members: BTreeMap<String, record::Member>,
    target_epoch: i32,
    targets: BTreeMap<String, Share>,
    current: BTreeMap<String, Current>,
    regexes: BTreeMap<String, BTreeSet<TopicName>>,
    /// What is left of it in the log although it was another kind of group meanwhile.
    stale: Dirty,
}

impl Found {
    pub(in crate::group) fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Group(value) => self.group = value,
            Entry::TargetEpoch(value) => self.target_epoch = value.unwrap_or(0),
            Entry::Member(id, value) => set(&mut self.members, id, value.map(|member| *member)),
            Entry::Target(id, value) => set(&mut self.targets, id, value),
            Entry::Current(id, value) => set(&mut self.current, id, value),
            Entry::Regex(pattern, value) => set(&mut self.regexes, pattern, value),
        }
    }

    /// The group has become a classic one. What is left of this one is no more.
    pub(in crate::group) fn supersede(&mut self) {
        let mut stale = std::mem::take(&mut self.stale);
        stale.note_leftovers(&std::mem::take(self));
        self.stale = stale;
    }

    /// Whether there is such a group.
    pub(in crate::group) fn is_there(&self) -> bool {
        self.group.is_some()
    }
}

fn set<T>(map: &mut BTreeMap<String, T>, key: String, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Dirty {
    /// Takes everything in that the log still says.
    fn note_leftovers(&mut self, found: &Found) {
        let ids = found.members.keys().chain(found.targets.keys()).chain(found.current.keys());
        for id in ids {
            let id: Arc<str> = id.as_str().into();
            self.targets.insert(Arc::clone(&id));
            self.current.insert(Arc::clone(&id));
            self.members.insert(id);
        }
        self.regexes.extend(found.regexes.keys().cloned());
    }
}

/// Keeps what is not in `owned`, and adds it there. Whether that was all.
pub(super) fn keep_new(share: &mut Share, owned: &mut BTreeSet<TopicPartition>) -> bool {
    let before: usize = share.values().map(BTreeSet::len).sum();
    for (topic, partitions) in share.iter_mut() {
        let topic = *topic;
        partitions.retain(|at| owned.insert(TopicPartition { topic, partition: *at }));
    }
    share.retain(|_, partitions| !partitions.is_empty());
    before == share.values().map(BTreeSet::len).sum()
}

impl Group {
    /// The sessions of all members of this kind begin anew, by the settings of the turn.
    pub(in crate::group) fn renew_sessions(&mut self, turn: &Turn<'_>) {
        if let Some(consumers) = &mut self.consumers {
            consumers.touch_all(turn);
        }
    }

    /// Takes over what the log says of the next-generation group.
    ///
    /// Its members have their whole session timeout from now on, and those that were asked to let
    /// partitions go their whole rebalance timeout.
    pub(in crate::group) fn restore_consumers(&mut self, mut found: Found, turn: &Turn<'_>) {
        let Some((epoch, topics_hash)) = found.group else {
            found.supersede();
            self.leftovers.extend(found.stale.keys(&self.id));
            return;
        };
        self.leftovers.extend(found.stale.keys(&self.id));
        let target_epoch = found.target_epoch.min(epoch);
        let mut consumers = Consumers { epoch, topics_hash, target_epoch, ..Consumers::default() };
        // If refused writes left two owners of a partition in the log, the one in the later epoch has
        // it. The other was dropped, or has let it go: it is dropped now, and begins again.
        let current = |id: &String| found.current.get(id).cloned().unwrap_or_else(Current::new);
        let members = found.members.into_iter();
        let mut members: Vec<_> = members.map(|(id, member)| (current(&id), id, member)).collect();
        members.sort_by_key(|(current, ..)| std::cmp::Reverse(current.epoch));
        let (mut owned, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        for (current, id, _) in &mut members {
            if !keep_new(&mut current.assigned, &mut owned) {
                dropped.insert(id.clone());
            }
        }
        for (current, id, _) in &mut members {
            if !keep_new(&mut current.revoking, &mut owned) {
                dropped.insert(id.clone());
            }
        }
        for (current, id, record::Member(profile)) in members {
            let instance = profile.instance.as_ref();
            let is_replaced = instance.is_some_and(|it| consumers.statics.contains_key(it));
            if is_replaced || dropped.contains(&id) {
                consumers.forget_member(&id.into());
                continue;
            }
            let is_revoking = current.progress == Progress::Revoking;
            let revoke_by = is_revoking.then(|| turn.now + profile.rebalance_timeout);
            let expires_at = turn.now + profile.session_timeout(turn.settings);
            let target = found.targets.remove(&id).unwrap_or_default();
            let id: Arc<str> = id.into();
            consumers.insert(&id, Member { profile, current, expires_at, revoke_by });
            consumers.target.insert(id, target);
        }
        consumers.regexes = found.regexes;
        consumers.forget_unused_regexes();
        self.is_recorded = true;
        self.protocol_type = Some(rafka_core::consumer_protocol::PROTOCOL_TYPE.to_owned());
        if !consumers.is_empty() {
            self.state = State::Consuming;
            self.subscribed = Some(consumers.subscribed());
        }
        self.consumers = Some(Box::new(consumers));
    }
}
