//! Pure: the members of one group, with what is counted over them kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_core::Time;

use super::effects::Waiter;
use super::ops::Protocol;

/// What a member and each of its protocols cost beside their texts and bytes: a generous guess.
const OVERHEAD_BYTES: usize = 256;

/// An unanswered join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joining {
    pub(super) waiter: Waiter,
    pub(super) skip_assignment_known: bool,
}

/// What a member says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    instance: Option<Arc<str>>,
    profile: Profile,
    assignment: Bytes,
    joining: Option<Joining>,
    expires_at: Option<Time>,
    /// An unanswered sync.
    pub(super) syncing: Option<Waiter>,
    /// Whether it has not been part of a generation yet. It cannot send heartbeats until it has.
    pub(super) is_new: bool,
    /// Whether it has asked for its assignment in this generation.
    pub(super) is_synced: bool,
}

impl Member {
    pub(super) fn new(instance: Option<Arc<str>>, profile: Profile) -> Self {
        Self {
            instance,
            profile,
            assignment: Bytes::new(),
            joining: None,
            expires_at: None,
            syncing: None,
            is_new: true,
            is_synced: false,
        }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(super) fn assignment(&self) -> &Bytes {
        &self.assignment
    }

    pub(super) fn joining(&self) -> Option<Joining> {
        self.joining
    }

    /// What it says under `protocol`; nothing if it does not know it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.profile.protocols.iter().find(|known| known.name == protocol);
        found.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.profile.bytes() + self.assignment.len() + self.instance.as_ref().map_or(0, |i| i.len())
    }
}

impl Profile {
    /// Its cost in memory.
    pub(super) fn bytes(&self) -> usize {
        let protocols = self.protocols.iter();
        let protocols: usize =
            protocols.map(|p| p.name.len() + p.metadata.len() + OVERHEAD_BYTES).sum();
        self.client_id.len() + self.client_host.len() + protocols + OVERHEAD_BYTES
    }
}

/// The members by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    members: BTreeMap<Arc<str>, Member>,
    statics: BTreeMap<Arc<str>, Arc<str>>,
    deadlines: BTreeSet<(Time, Arc<str>)>,
    /// How many members know each protocol.
    protocols: BTreeMap<String, usize>,
    joining_count: usize,
    bytes: usize,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    /// The member's id as the roster keeps it.
    pub(super) fn id_of(&self, id: &str) -> Option<Arc<str>> {
        self.members.get_key_value(id).map(|(id, _)| Arc::clone(id))
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// The member that holds the static identity.
    pub(super) fn holder(&self, instance: &str) -> Option<&Arc<str>> {
        self.statics.get(instance)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.members.iter()
    }

    /// The ids of the members that `wanted` chooses.
    pub(super) fn ids(&self, wanted: impl Fn(&Member) -> bool) -> Vec<Arc<str>> {
        let chosen = self.members.iter().filter(|(_, member)| wanted(member));
        chosen.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Adds a member whose id and instance are not taken.
    pub(super) fn insert(&mut self, id: &Arc<str>, member: Member) {
        self.bytes += id.len() + member.bytes();
        self.joining_count += usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.statics.insert(Arc::clone(instance), Arc::clone(id));
        }
        if let Some(time) = member.expires_at {
            self.deadlines.insert((time, Arc::clone(id)));
        }
        for protocol in &member.profile.protocols {
            *self.protocols.entry(protocol.name.clone()).or_default() += 1;
        }
        let before = self.members.insert(Arc::clone(id), member);
        assert!(before.is_none(), "member {id} was added twice");
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let (id, member) = self.members.remove_entry(id)?;
        self.bytes -= id.len() + member.bytes();
        self.joining_count -= usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if let Some(time) = member.expires_at {
            self.deadlines.remove(&(time, id));
        }
        for protocol in &member.profile.protocols {
            if let Some(count) = self.protocols.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.protocols.remove(&protocol.name);
                }
            }
        }
        Some(member)
    }

    /// Replaces what a member says of itself.
    pub(super) fn update(&mut self, id: &Arc<str>, profile: Profile) {
        if let Some(mut member) = self.remove(id) {
            member.profile = profile;
            self.insert(id, member);
        }
    }

    pub(super) fn assign(&mut self, id: &str, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(id) {
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment;
        }
    }

    /// Notes an unanswered join, and returns the one that it supersedes.
    pub(super) fn await_join(&mut self, id: &str, joining: Joining) -> Option<Joining> {
        let before = self.members.get_mut(id)?.joining.replace(joining);
        self.joining_count += usize::from(before.is_none());
        before
    }

    /// Takes the unanswered join of a member out, to answer it.
    pub(super) fn take_join(&mut self, id: &str) -> Option<Joining> {
        let taken = self.members.get_mut(id)?.joining.take();
        self.joining_count -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn all_joining(&self) -> bool {
        self.joining_count == self.members.len()
    }

    /// The member has shown life: it has its session timeout from now on.
    pub(super) fn touch(&mut self, id: &Arc<str>, now: Time) {
        if let Some(member) = self.members.get(id) {
            let deadline = now + member.profile.session_timeout;
            self.expect_by(id, Some(deadline));
        }
    }

    /// Sets when the member is taken for dead; never, while the group owes it an answer.
    pub(super) fn expect_by(&mut self, id: &Arc<str>, deadline: Option<Time>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.expires_at, deadline);
        if let Some(time) = before {
            self.deadlines.remove(&(time, Arc::clone(id)));
        }
        if let Some(time) = deadline {
            self.deadlines.insert((time, Arc::clone(id)));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// A member whose time is over.
    pub(super) fn overdue(&self, now: Time) -> Option<Arc<str>> {
        self.deadlines.first().filter(|(time, _)| *time <= now).map(|(_, id)| Arc::clone(id))
    }

    /// Whether some protocol of these is known to every member.
    pub(super) fn supports(&self, protocols: &[Protocol]) -> bool {
        protocols.iter().any(|protocol| self.is_common(&protocol.name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.protocols.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol that wins the vote: each member votes for the first it knows that all know.
    /// Of equals the first by name wins. `None` without members.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.profile.protocols.iter().map(|protocol| &protocol.name);
            if let Some(vote) = names.find(|name| self.is_common(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let winner = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        winner.map(|(name, _)| name.to_owned())
    }

    /// The longest time that a member wants a rebalance to wait for it.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.profile.rebalance_timeout);
        timeouts.max().unwrap_or(Duration::ZERO)
    }

    /// What is counted equals what is there.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut again = Self::default();
        for (id, member) in &self.members {
            again.insert(id, member.clone());
        }
        assert_eq!(self.statics, again.statics);
        assert_eq!(self.deadlines, again.deadlines);
        assert_eq!(self.protocols, again.protocols);
        assert_eq!(self.joining_count, again.joining_count);
        assert_eq!(self.bytes, again.bytes);
    }
}
