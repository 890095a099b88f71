//! The owner at the counter: what each request does, and which find no room.

use rafka_core::{ErrorCode, GroupId, PartitionIndex};

use super::command::{Command, Op, answer};
use super::owner::Owner;
use super::shard::{Phase, Shard};
use crate::group::consumer::ops::JOIN_EPOCH;
use crate::group::machine::Group;
use crate::group::ops::{GroupListing, GroupState, GroupType, Position};

impl Owner {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Lead { partition, epoch, topics } => self.lead(partition, epoch, topics),
            Command::Resign { partition } => self.resign(partition),
            Command::ForgetTopic { topic } => self.forget_topic(&topic),
            Command::EndTransaction { partition, producer, outcome, reply } => {
                self.end_transaction(partition, producer, outcome);
                // Who ordered it may be gone.
                let _nobody_waits = reply.send(());
            }
            Command::Group { partition, group, op } => {
                match self.shards.get(&partition).map(|shard| &shard.phase) {
                    None => op.refuse(ErrorCode::NotCoordinator),
                    Some(Phase::Loading(_)) => op.refuse(ErrorCode::CoordinatorLoadInProgress),
                    Some(Phase::Ready(_)) => self.serve(partition, &group, op),
                }
            }
            Command::List { states, kinds, reply } => answer(reply, self.list(&states, &kinds)),
            Command::Positions { reply } => answer(reply, self.positions()),
        }
    }

    fn serve(&mut self, at: PartitionIndex, id: &GroupId, op: Op) {
        if self.is_refused(at, id, &op) {
            op.refuse(ErrorCode::CoordinatorNotAvailable);
            return;
        }
        // Nobody knows them any more: the node is stopping.
        let Some(topics) = self.log.topics() else {
            op.refuse(ErrorCode::NotCoordinator);
            return;
        };
        match op {
            Op::Join { join, reply } => {
                let waiter = self.desk.await_join(reply);
                self.step(at, id, |group, turn| group.join(join, &topics, waiter, turn));
            }
            Op::Sync { sync, reply } => {
                let waiter = self.desk.await_sync(reply);
                self.step(at, id, |group, turn| group.sync(sync, &topics, waiter, turn));
            }
            Op::Heartbeat { beat, reply } => {
                let result = self.step(at, id, |group, turn| group.heartbeat(&beat, turn));
                answer(reply, result);
            }
            Op::Leave { leave, reply } => {
                let result = self.step(at, id, |group, turn| group.leave(&leave.members, turn));
                answer(reply, result);
            }
            Op::Commit { commit, within, reply } => {
                if let Some(within) = within {
                    self.note_transaction(at, within.producer, id);
                }
                let waiter = self.desk.await_offsets(reply);
                self.step(at, id, |g, turn| g.commit(commit, within, &topics, waiter, turn));
            }
            Op::Fetch { fetch, reply } => {
                let fresh = Group::new(id.clone());
                let group = self.group(at, id).unwrap_or(&fresh);
                answer(reply, group.fetch(&fetch));
            }
            Op::DeleteOffsets { partitions, reply } => {
                if self.group(at, id).is_none() {
                    answer(reply, Err(ErrorCode::GroupIdNotFound));
                    return;
                }
                let waiter = self.desk.await_offsets(reply);
                self.step(at, id, |group, turn| group.delete_offsets(partitions, waiter, turn));
            }
            Op::Delete { reply } => {
                if self.group(at, id).is_none() {
                    answer(reply, Err(ErrorCode::GroupIdNotFound));
                    return;
                }
                let waiter = self.desk.await_deletion(reply);
                self.step(at, id, |group, turn| group.delete(waiter, turn));
            }
            Op::Describe { reply } => {
                let described = self.group(at, id).map(Group::describe);
                answer(reply, described.ok_or(ErrorCode::GroupIdNotFound));
            }
            Op::Consumer { beat, reply } => {
                let waiter = self.desk.await_consumer(reply);
                self.step(at, id, |group, turn| {
                    group.consumer_heartbeat(*beat, &topics, waiter, turn);
                });
            }
            Op::DescribeConsumers { reply } => {
                let group = self.group(at, id);
                let described = group.and_then(|group| group.describe_consumers(&topics));
                answer(reply, described.ok_or(ErrorCode::GroupIdNotFound));
            }
        }
    }

    /// Whether there is no room for what the request brings. What is there already may change.
    fn is_refused(&mut self, at: PartitionIndex, id: &GroupId, op: &Op) -> bool {
        let group = self.group(at, id);
        let brings_more = match op {
            Op::Join { join, .. } => join.member.is_empty(),
            Op::Consumer { beat, .. } => beat.member_epoch == JOIN_EPOCH,
            Op::Commit { commit, .. } => commit.offsets.iter().any(|offset| {
                let at = (offset.topic.clone(), offset.partition);
                group.is_none_or(|group| group.offsets.get(&at).is_none())
            }),
            _ => false,
        };
        let groups_max = usize::try_from(self.settings.groups_max).unwrap_or(usize::MAX);
        let is_full = self.settings.groups_budget().as_usize() <= self.bytes
            || (group.is_none() && groups_max <= self.group_count);
        if is_full && !self.is_full {
            let (groups, bytes) = (self.group_count, self.bytes);
            tracing::warn!(groups, bytes, "no room for more groups, members or offsets");
        }
        self.is_full = is_full;
        is_full && brings_more
    }

    fn group(&self, at: PartitionIndex, id: &GroupId) -> Option<&Group> {
        match &self.shards.get(&at)?.phase {
            Phase::Ready(groups) => groups.by_id.get(id).map(|slot| &slot.group),
            Phase::Loading(_) => None,
        }
    }

    fn list(
        &self,
        states: &[GroupState],
        kinds: &[GroupType],
    ) -> Result<Vec<GroupListing>, ErrorCode> {
        let mut listed = Vec::new();
        for Shard { phase, .. } in self.shards.values() {
            let Phase::Ready(groups) = phase else {
                return Err(ErrorCode::CoordinatorLoadInProgress);
            };
            let all = groups.by_id.values().map(|slot| slot.group.listing());
            let wanted = all.filter(|it| kinds.is_empty() || kinds.contains(&it.kind));
            listed.extend(wanted.filter(|it| states.is_empty() || states.contains(&it.state)));
        }
        listed.sort_by(|left: &GroupListing, right| left.group.cmp(&right.group));
        Ok(listed)
    }

    fn positions(&self) -> Vec<Position> {
        let mut positions = Vec::new();
        for Shard { phase, .. } in self.shards.values() {
            if let Phase::Ready(groups) = phase {
                groups.by_id.values().for_each(|slot| slot.group.positions(&mut positions));
            }
        }
        positions
    }
}
