//! Pure: the members of a next-generation group (KIP-848), what each owns, and what each shall own.
//!
//! There is no leader and no barrier: the coordinator makes a target assignment for every change of
//! the group, and each member moves towards it by itself, with its heartbeats.
//!
//! What changes is true here at once and noted as `dirty`; who caused it is answered when the log
//! has it. If the log refuses, it stays dirty, and goes with the next change.

mod assignor;
mod classic;
mod heartbeat;
mod migrate;
pub(super) mod ops;
mod persist;
mod reconcile;
pub(super) mod record;
mod restore;
mod spread;
mod subscription;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{PartitionIndex, Time, TopicId, TopicName, TopicPartition};

use assignor::{Assignor, Candidate, Share};
use classic::Classic;
use persist::Dirty;
pub(super) use persist::Persisting;
use reconcile::{Current, Progress};
pub(super) use restore::Found;
pub(crate) use subscription::compile as whole_regex;

use super::Settings;
use super::effects::Turn;

/// What a member or a partition costs beside its texts: generous guesses.
const MEMBER_BYTES: usize = 512;
const PARTITION_BYTES: usize = 160;

/// The members of a next-generation group.
#[derive(Debug, Clone, Default)]
pub(super) struct Consumers {
    /// Rises with every change of the members, of what they want, or of the topics they want.
    epoch: i32,
    /// A digest of the topics that the members want, as they were at this epoch.
    topics_hash: i64,
    /// The epoch that the target was made for.
    target_epoch: i32,
    target: BTreeMap<Arc<str>, Share>,
    members: BTreeMap<Arc<str>, Member>,
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Who owns a partition, or has yet to let it go.
    owners: BTreeMap<TopicPartition, Arc<str>>,
    /// The topics whose names match a pattern that some member has.
    regexes: BTreeMap<String, BTreeSet<TopicName>>,
    /// The version of the topics that were last looked at, and that the patterns were matched with.
    seen: Option<u64>,
    regexes_seen: Option<(u64, Time)>,
    deadlines: BTreeSet<(Time, Arc<str>)>,
    bytes: usize,
    dirty: Dirty,
}

/// A member, and what it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    profile: Profile,
    current: Current,
    /// When it is taken for dead.
    expires_at: Time,
    /// When it must have let go of what it shall not own, or have joined again as it was told to.
    revoke_by: Option<Time>,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Profile {
    instance: Option<Arc<str>>,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout: Duration,
    topics: BTreeSet<TopicName>,
    regex: Option<String>,
    assignor: Option<Assignor>,
    /// Present while it speaks the classic protocol.
    classic: Option<Classic>,
}

impl Member {
    fn due(&self) -> Time {
        self.revoke_by.map_or(self.expires_at, |time| time.min(self.expires_at))
    }

    fn bytes(&self, id: &str) -> usize {
        let Profile { instance, rack, client_id, client_host, topics, regex, .. } = &self.profile;
        let protocols = self.profile.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = protocols.map(|it| it.name.len() + it.metadata.len() + 64).sum();
        let topics: usize = topics.iter().map(|topic| topic.as_str().len() + 64).sum();
        let texts = [rack.as_deref(), regex.as_deref(), instance.as_deref()];
        let texts: usize = texts.into_iter().flatten().map(str::len).sum();
        MEMBER_BYTES + id.len() + client_id.len() + client_host.len() + topics + texts + classic
    }
}

impl Profile {
    /// After how much silence the member is taken for dead.
    fn session_timeout(&self, settings: &Settings) -> Duration {
        let own = self.classic.as_ref().map(|classic| classic.session_timeout);
        own.unwrap_or(settings.group_consumer_session_timeout)
    }
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// An estimate of the memory it takes, on the large side.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.owners.len() * PARTITION_BYTES
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// The member's id as it is kept here.
    fn id_of(&self, id: &str) -> Option<Arc<str>> {
        self.members.get_key_value(id).map(|(id, _)| Arc::clone(id))
    }

    fn insert(&mut self, id: &Arc<str>, member: Member) {
        self.bytes += member.bytes(id);
        if let Some(instance) = &member.profile.instance {
            self.statics.insert(Arc::clone(instance), Arc::clone(id));
        }
        self.own(id, &member.current);
        self.deadlines.insert((member.due(), Arc::clone(id)));
        let before = self.members.insert(Arc::clone(id), member);
        assert_eq!(before, None, "member {id} was added twice");
    }

    fn take(&mut self, id: &str) -> Option<Member> {
        let (id, member) = self.members.remove_entry(id)?;
        self.bytes -= member.bytes(&id);
        if let Some(instance) = &member.profile.instance {
            self.statics.remove(instance);
        }
        self.disown(&id, &member.current);
        self.deadlines.remove(&(member.due(), id));
        Some(member)
    }

    fn own(&mut self, id: &Arc<str>, current: &Current) {
        for at in partitions(&current.assigned).chain(partitions(&current.revoking)) {
            self.owners.insert(at, Arc::clone(id));
        }
    }

    fn disown(&mut self, id: &str, current: &Current) {
        for at in partitions(&current.assigned).chain(partitions(&current.revoking)) {
            if self.owners.get(&at).is_some_and(|owner| **owner == *id) {
                self.owners.remove(&at);
            }
        }
    }

    /// Changes a member in place.
    fn change(&mut self, id: &Arc<str>, change: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.take(id) {
            change(&mut member);
            self.insert(id, member);
        }
    }

    /// The member has shown life.
    fn touch(&mut self, id: &Arc<str>, turn: &Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let expires_at = turn.now + member.profile.session_timeout(turn.settings);
        self.deadlines.remove(&(member.due(), Arc::clone(id)));
        member.expires_at = expires_at;
        self.deadlines.insert((member.due(), Arc::clone(id)));
    }

    /// All members have shown life.
    pub(super) fn touch_all(&mut self, turn: &Turn<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.touch(&id, turn);
        }
    }

    /// Takes a member out for good.
    fn remove(&mut self, id: &Arc<str>) {
        if self.take(id).is_some() {
            self.forget_member(id);
        }
    }

    /// Forgets the rest of a member that is none any more.
    fn forget_member(&mut self, id: &Arc<str>) {
        self.target.remove(id);
        self.dirty.note_member(id);
        self.dirty.targets.insert(Arc::clone(id));
        self.dirty.current.insert(Arc::clone(id));
        self.forget_unused_regexes();
        self.bump();
    }

    fn bump(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.dirty.group = true;
    }

    /// A member takes the place of another, with all that this one owns and shall own.
    fn replace(&mut self, before: &Arc<str>, id: &Arc<str>) {
        let Some(mut member) = self.take(before) else { return };
        member.current.epoch = 0;
        member.current.previous_epoch = 0;
        self.insert(id, member);
        if let Some(share) = self.target.remove(before) {
            self.target.insert(Arc::clone(id), share);
        }
        for id in [before, id] {
            self.dirty.note_member(id);
            self.dirty.targets.insert(Arc::clone(id));
            self.dirty.current.insert(Arc::clone(id));
        }
    }

    /// The members that are overdue.
    fn overdue(&self, now: Time) -> Vec<Arc<str>> {
        let due = self.deadlines.iter().take_while(|(time, _)| *time <= now);
        due.map(|(_, id)| Arc::clone(id)).collect()
    }

    /// The assignor that most members want.
    fn assignor(&self) -> Assignor {
        let votes = |assignor: &Assignor| {
            let wishes = self.members.values().filter_map(|member| member.profile.assignor);
            wishes.filter(|wish| wish == assignor).count()
        };
        let all = Assignor::ALL.into_iter().rev();
        all.max_by_key(votes).expect("there are assignors")
    }

    /// Moves a member a step towards its target, if there is one to make. Whether it is told to own
    /// something else by that.
    fn reconcile(&mut self, id: &Arc<str>, owned: Option<&Share>, now: Time) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let nothing = Share::new();
        let target = self.target.get(id).unwrap_or(&nothing);
        let is_free = |topic: TopicId, partition: PartitionIndex| {
            !self.owners.contains_key(&TopicPartition { topic, partition })
        };
        let next = member.current.next((target, self.target_epoch), owned, is_free);
        let Some(next) = next else { return false };
        let is_given_other = next.assigned != member.current.assigned;
        let begins_revoking = next.progress == Progress::Revoking;
        self.change(id, |member| {
            let timeout = member.profile.rebalance_timeout;
            member.revoke_by = begins_revoking.then(|| now + timeout);
            member.current = next;
        });
        self.dirty.current.insert(Arc::clone(id));
        is_given_other
    }

    /// Every member owns what it shall, and the target is that of the group's epoch.
    fn is_stable(&self) -> bool {
        let target_epoch = self.target_epoch;
        self.epoch == target_epoch
            && self.members.values().all(|member| member.current.is_reconciled(target_epoch))
    }

    /// What is counted equals what is there.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut again = Self::default();
        for (id, member) in &self.members {
            let mut held =
                partitions(&member.current.assigned).chain(partitions(&member.current.revoking));
            let shared = held.find(|at| again.owners.contains_key(at));
            assert_eq!(shared, None, "{id} owns what another owns");
            again.insert(id, member.clone());
        }
        assert_eq!(self.statics, again.statics);
        assert_eq!(self.owners, again.owners);
        assert_eq!(self.deadlines, again.deadlines);
        assert_eq!(self.bytes, again.bytes);
        assert!(self.target_epoch <= self.epoch, "the target is of a time to come");
    }
}

fn partitions(share: &Share) -> impl Iterator<Item = TopicPartition> + use<'_> {
    share.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(|partition| TopicPartition { topic: *topic, partition: *partition })
    })
}

#[cfg(test)]
mod tests;
