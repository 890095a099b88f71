//! Pure: a group into its record, and back out of the log.

use std::sync::Arc;
use std::time::Duration;

use rafka_core::{ProducerId, Time, Timestamp};

use super::Settings;
use super::effects::{Ticket, Turn};
use super::machine::{Group, Preparing, State, Write};
use super::offsets::{Entry, Partition, entry_bytes};
use super::ops::Protocol;
use super::record::{self, GroupValue, MemberValue, OffsetValue};
use super::roster::{Member, Profile};

impl Group {
    /// Writes down the group as it is.
    pub(super) fn write_group(&mut self, write: Write, turn: &mut Turn<'_>) -> Ticket {
        self.is_recorded = true;
        let record = record::group(&self.id, &self.value(turn.timestamp));
        self.write(vec![record], write, turn)
    }

    fn value(&self, since: Timestamp) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&Arc<str>, &Member)| {
            let profile = member.profile();
            MemberValue {
                id: id.as_ref().to_owned(),
                instance: member.instance().map(str::to_owned),
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                rebalance_timeout: millis(profile.rebalance_timeout),
                session_timeout: millis(profile.session_timeout),
                metadata: member.metadata(protocol),
                assignment: member.assignment().clone(),
            }
        };
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            since,
            members: self.roster.iter().map(member).collect(),
        }
    }

    /// Takes over what the log says of the group itself.
    ///
    /// Its members have their whole session timeout from now on: they were told of this
    /// coordinator only now. The retention of an empty group goes on from where it was.
    pub(super) fn restore(&mut self, value: GroupValue, turn: &Turn<'_>) {
        self.is_recorded = true;
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        self.generation = value.generation;
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in value.members {
            let id: Arc<str> = member.id.as_str().into();
            let (instance, profile, assignment) = split(member, &protocol);
            let is_taken = self.roster.contains(&id)
                || instance.as_deref().is_some_and(|name| self.roster.holder(name).is_some());
            if is_taken {
                continue;
            }
            let mut member = Member::new(instance.as_deref().map(Arc::from), profile);
            (member.is_new, member.is_synced) = (false, true);
            self.roster.insert(&id, member);
            self.roster.assign(&id, assignment);
            self.roster.touch(&id, turn.now);
        }
        if self.roster.is_empty() {
            self.kept_until = kept_until(value.since, turn);
            return;
        }
        self.state = State::Stable;
        self.protocol = value.protocol;
        let leader = value.leader.as_deref().and_then(|leader| self.roster.id_of(leader));
        self.leader = leader.or_else(|| self.roster.iter().next().map(|(id, _)| Arc::clone(id)));
        self.subscribed = self.read_subscriptions();
        if value.leader.is_none() {
            // It has just become a classic group, and shared nothing out yet.
            let complete_at = turn.now + self.roster.rebalance_timeout();
            self.state = State::Preparing(Preparing { complete_at, initial: None });
        }
    }

    /// Takes over an offset that the log holds. Its retention goes on from where it was.
    pub(super) fn restore_offset(
        &mut self,
        partition: Partition,
        value: OffsetValue,
        turn: &Turn<'_>,
    ) {
        self.offsets.insert(partition, entry(value, turn));
    }

    /// The same for an offset of a transaction that is open.
    pub(super) fn restore_undecided(
        &mut self,
        producer: ProducerId,
        partition: Partition,
        value: OffsetValue,
        turn: &Turn<'_>,
    ) {
        let entry = entry(value, turn);
        let bytes = entry_bytes(&partition, &entry);
        self.undecided.insert(producer, partition, bytes, entry);
    }
}

fn entry(value: OffsetValue, turn: &Turn<'_>) -> Entry {
    Entry {
        kept_until: kept_until(value.committed_at, turn),
        committed: value.committed,
        committed_at: value.committed_at,
    }
}

fn split(member: MemberValue, protocol: &str) -> (Option<String>, Profile, bytes::Bytes) {
    let profile = Profile {
        client_id: member.client_id,
        client_host: member.client_host,
        session_timeout: duration(member.session_timeout),
        rebalance_timeout: duration(member.rebalance_timeout),
        protocols: vec![Protocol { name: protocol.to_owned(), metadata: member.metadata }],
    };
    (member.instance, profile, member.assignment)
}

/// When the retention of something of that age ends.
///
/// The calendar is asked only here, once. From then on the monotonic clock counts, so that a
/// calendar that jumps forward does not make offsets expire early.
fn kept_until(since: Timestamp, turn: &Turn<'_>) -> Time {
    let Settings { offsets_retention, .. } = turn.settings;
    let age = u64::try_from(turn.timestamp.0.saturating_sub(since.0)).unwrap_or(0);
    turn.now + offsets_retention.saturating_sub(Duration::from_millis(age))
}

fn millis(span: Duration) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
