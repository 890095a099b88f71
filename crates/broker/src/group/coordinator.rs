//! The coordinator of this node's groups: the handle that gateways call.

mod command;
mod load;
mod owner;
mod serve;
mod shard;

use std::sync::Arc;

use rafka_core::batch::Outcome;
use rafka_core::{Clock, Epoch, ErrorCode, GroupId, PartitionIndex, ProducerId, Rng, TopicName};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::consumer::ops::{ConsumerGroupDescription, ConsumerHeartbeat, ConsumerInstruction};
use super::effects::Refusal;
use super::ops::{
    CommitOffsets, DeleteOffsets, FetchOffsets, FetchedOffset, GroupDescription, GroupListing,
    GroupState, GroupType, Heartbeat, Join, JoinError, Joined, Leave, LeftMember, PartitionResult,
    Position, Sync, Synced, Within,
};
use super::record::partition_of;
use super::{OffsetsLog, Settings};
use crate::Error;
use command::{Command, Op};
use owner::Owner;

/// Requests on their way to the owner; whoever brings one more waits. What they hold in bytes was
/// counted where it came in from the network.
const COMMANDS_MAX: usize = 1024;

/// A handle to the coordinator. Cheap to clone.
///
/// One task owns all groups of the node; there is none per group. Every operation waits for a
/// place in its queue, and then for the answer. What changes the log is answered once that is
/// durable. Dropping an operation does not take it back.
#[derive(Debug, Clone)]
pub struct Coordinator {
    commands: mpsc::Sender<Command>,
    log: Arc<dyn OffsetsLog>,
}

impl Coordinator {
    /// Starts the coordinator, without groups until it is told to [`lead`](Self::lead).
    ///
    /// The task ends when `stop` is cancelled: whoever still waits is told to look for another
    /// coordinator, and what is on its way into the log gets a few seconds to arrive.
    #[must_use]
    pub fn start(
        settings: Settings,
        log: Arc<dyn OffsetsLog>,
        clock: Arc<dyn Clock>,
        rng: Rng,
        (tasks, stop): (&TaskTracker, CancellationToken),
    ) -> Self {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let owner = Owner::new(settings, Arc::clone(&log), clock, rng);
        tasks.spawn(owner.run(queue, stop));
        Self { commands, log }
    }

    /// Ends when the coordinator's task has ended. Unless the node stops, that is a fault.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// This node leads the partition from `epoch` on: its groups are loaded, then served. What they
    /// have committed for topics that do not exist at the time of this call is forgotten.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the coordinator may not have been told.
    pub async fn lead(&self, partition: PartitionIndex, epoch: Epoch) {
        // A coordinator that has ended leads nothing.
        let Ok(place) = self.commands.reserve().await else { return };
        // Now, and not when the owner comes to it: by then a topic may have been made again.
        place.send(Command::Lead { partition, epoch, topics: self.log.topics() });
    }

    /// This node leads the partition no longer: who waits in its groups is told so.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the coordinator may not have been told.
    pub async fn resign(&self, partition: PartitionIndex) {
        self.tell(Command::Resign { partition }).await;
    }

    /// The topic was deleted: what groups have committed for it is forgotten.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the coordinator may not have been told.
    pub async fn forget_topic(&self, topic: TopicName) {
        self.tell(Command::ForgetTopic { topic }).await;
    }

    /// Joins a group, or its next generation. Waits for the end of the rebalance.
    ///
    /// # Errors
    /// `MemberIdRequired` with the id to come back with, and Kafka's codes 14 to 16, 23, 25, 26,
    /// 42, 81 and 82. The member is then not part of the next generation.
    ///
    /// # Cancel safety
    /// Dropped, the member still counts as joining until its session or join times out.
    pub async fn join(&self, join: Join) -> Result<Joined, JoinError> {
        let group = join.group.clone();
        let answer = self.send(&group, |reply| Op::Join { join, reply }).await?;
        receive(answer).await?.map_err(|refusal| match refusal {
            Refusal::MemberIdRequired(member) => JoinError::MemberIdRequired { member },
            Refusal::Code(code) => JoinError::Failed(failed(&group, code)),
        })
    }

    /// Fetches a member's assignment; the leader brings all along. Waits for the leader's.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 22, 23, 25, 27, 42 and 82. The generation then has no assignments,
    /// or not from this call.
    ///
    /// # Cancel safety
    /// Dropped, the assignments a leader brought may still be taken.
    pub async fn sync(&self, sync: Sync) -> Result<Synced, Error> {
        let group = sync.group.clone();
        self.ask(&group, |reply| Op::Sync { sync, reply }).await
    }

    /// Shows that a member lives.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 22, 25, 27 and 82. After 27 the member lives on, but must join.
    ///
    /// # Cancel safety
    /// Dropped, the heartbeat may still count.
    pub async fn heartbeat(&self, beat: Heartbeat) -> Result<(), Error> {
        let group = beat.group.clone();
        self.ask(&group, |reply| Op::Heartbeat { beat, reply }).await
    }

    /// A next-generation member (KIP-848) joins, shows that it lives, tells what changed, or leaves.
    /// Answered once what the answer says is durable.
    ///
    /// A group of classic consumers becomes a next-generation group by it if the settings allow: its
    /// members go on with [`join`](Self::join), [`sync`](Self::sync) and so on, which then answer at
    /// once and without a leader. Between the generations of such a group the code is 14.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 25, 42, 69, 81, 82, 110 to 112 and 128. After 25, 82 and 110 the
    /// member owns nothing any more. After 15 and 16 it may yet have joined or left.
    ///
    /// # Cancel safety
    /// Dropped, the heartbeat may still count.
    pub async fn consumer_heartbeat(
        &self,
        beat: ConsumerHeartbeat,
    ) -> Result<ConsumerInstruction, Error> {
        let group = beat.group.clone();
        self.ask(&group, |reply| Op::Consumer { beat: Box::new(beat), reply }).await
    }

    /// Takes members out of a group.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16; nobody has left then. Each member has its own result beside.
    ///
    /// # Cancel safety
    /// Dropped, the members may still leave.
    pub async fn leave(&self, leave: Leave) -> Result<Vec<LeftMember>, Error> {
        let group = leave.group.clone();
        let members = leave.members.clone();
        let results = self.ask(&group, |reply| Op::Leave { leave, reply }).await?;
        let left = members.into_iter().zip(results);
        Ok(left.map(|(member, result)| LeftMember { member, result }).collect())
    }

    /// Commits offsets. Answered once they are durable. An empty list is fine.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 22, 25, 27, 82 and 113; nothing is committed then. Each partition has
    /// its own result beside (1, 3, 12, 15, 16, 28): after 15 and 16 it may yet be committed.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may still be committed.
    pub async fn commit_offsets(
        &self,
        commit: CommitOffsets,
    ) -> Result<Vec<PartitionResult>, Error> {
        let group = commit.group.clone();
        self.ask(&group, |reply| Op::Commit { commit, within: None, reply }).await
    }

    /// Commits offsets in a transaction: they count once it is committed. Answered once they are
    /// durable. As [`commit_offsets`](Self::commit_offsets), but that members in no group and of any
    /// group may do so.
    ///
    /// # Errors
    /// As [`commit_offsets`](Self::commit_offsets), but for the codes 27 and 113, which is 22 here.
    /// Each partition has its own result beside, 47 and 48 if the transaction has ended.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may still become part of the transaction.
    pub async fn commit_offsets_within(
        &self,
        commit: CommitOffsets,
        within: Within,
    ) -> Result<Vec<PartitionResult>, Error> {
        let group = commit.group.clone();
        self.ask(&group, |reply| Op::Commit { commit, within: Some(within), reply }).await
    }

    /// A producer's transaction has ended in this partition of `__consumer_offsets`, and that is
    /// durable: what was committed in it counts, or is forgotten.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the coordinator may not have been told.
    pub async fn end_transaction(
        &self,
        partition: PartitionIndex,
        producer: ProducerId,
        outcome: Outcome,
    ) {
        let (reply, done) = oneshot::channel();
        self.tell(Command::EndTransaction { partition, producer, outcome, reply }).await;
        // A coordinator that has ended reads it from the log when it begins again.
        let _ended = done.await;
    }

    /// The partition of `__consumer_offsets` that holds the group's offsets. Makes the topic if there
    /// is none.
    ///
    /// # Errors
    /// Kafka's code 15.
    ///
    /// # Cancel safety
    /// Dropped, the topic may still be made.
    pub async fn partition_of(&self, group: &GroupId) -> Result<PartitionIndex, Error> {
        let count = match self.log.partition_count() {
            Some(count) => count,
            None => self.log.ensure_topic().await?,
        };
        Ok(partition_of(group, count))
    }

    /// Tells how far a group has come, as far as that is durable.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, and for a next-generation member that asks 25 and 113. A group that is
    /// not known has committed nothing.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn fetch_offsets(&self, fetch: FetchOffsets) -> Result<Vec<FetchedOffset>, Error> {
        let group = fetch.group.clone();
        self.ask(&group, |reply| Op::Fetch { fetch, reply }).await
    }

    /// Forgets offsets of a group. Answered once that is durable.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 68 and 69; nothing is forgotten then. Each partition has its own
    /// result beside (15, 16, 86): after 15 and 16 it may yet be forgotten.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may still be forgotten.
    pub async fn delete_offsets(
        &self,
        delete: DeleteOffsets,
    ) -> Result<Vec<PartitionResult>, Error> {
        let DeleteOffsets { group, partitions } = delete;
        self.ask(&group, |reply| Op::DeleteOffsets { partitions, reply }).await
    }

    /// Deletes empty groups with their offsets. Answered once that is durable. One result for
    /// each group, in their order.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, 68 and 69 for each group. After 15 and 16 it may yet be deleted.
    ///
    /// # Cancel safety
    /// Dropped, the groups may still be deleted.
    pub async fn delete_groups(&self, groups: Vec<GroupId>) -> Vec<(GroupId, Result<(), Error>)> {
        let mut asked = Vec::with_capacity(groups.len());
        for group in groups {
            let answer = self.send(&group, |reply| Op::Delete { reply }).await;
            asked.push((group, answer));
        }
        let mut results = Vec::with_capacity(asked.len());
        for (group, answer) in asked {
            let result = match answer {
                Ok(answer) => receive(answer).await,
                Err(error) => Err(error),
            };
            let result =
                result.and_then(|answer| answer.map_err(|code: ErrorCode| failed(&group, code)));
            results.push((group, result));
        }
        results
    }

    /// Describes a group.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, and 69 for a group that is not known.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn describe(&self, group: GroupId) -> Result<GroupDescription, Error> {
        self.ask(&group, |reply| Op::Describe { reply }).await
    }

    /// Describes a next-generation group.
    ///
    /// # Errors
    /// Kafka's codes 14 to 16, and 69 for a group that is not known, or a classic one.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn describe_consumers(
        &self,
        group: GroupId,
    ) -> Result<ConsumerGroupDescription, Error> {
        self.ask(&group, |reply| Op::DescribeConsumers { reply }).await
    }

    /// Lists the groups that this node coordinates, in these states and of these types; in all, or
    /// of all, if none is named.
    ///
    /// # Errors
    /// Kafka's code 14 while a partition is being loaded, and 15.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn list(
        &self,
        states: Vec<GroupState>,
        kinds: Vec<GroupType>,
    ) -> Result<Vec<GroupListing>, Error> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::List { states, kinds, reply }).await;
        Ok(receive(answer).await??)
    }

    /// All committed offsets of the groups that this node coordinates: what lag is computed from.
    ///
    /// # Errors
    /// Kafka's code 15.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn positions(&self) -> Result<Vec<Position>, Error> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Positions { reply }).await;
        receive(answer).await
    }

    async fn tell(&self, command: Command) {
        // A coordinator that has ended drops the command, and with it whoever would answer.
        drop(self.commands.send(command).await);
    }

    async fn ask<T>(
        &self,
        group: &GroupId,
        op: impl FnOnce(oneshot::Sender<Result<T, ErrorCode>>) -> Op,
    ) -> Result<T, Error> {
        let answer = self.send(group, op).await?;
        receive(answer).await?.map_err(|code| failed(group, code))
    }

    async fn send<A>(
        &self,
        group: &GroupId,
        op: impl FnOnce(oneshot::Sender<A>) -> Op,
    ) -> Result<oneshot::Receiver<A>, Error> {
        let partition = self.partition_of(group).await?;
        let (reply, answer) = oneshot::channel();
        let group = group.clone();
        self.tell(Command::Group { partition, group, op: op(reply) }).await;
        Ok(answer)
    }
}

async fn receive<T>(answer: oneshot::Receiver<T>) -> Result<T, Error> {
    answer.await.map_err(|_stopped| {
        Error::new(ErrorCode::CoordinatorNotAvailable, "the group coordinator is shutting down")
    })
}

fn failed(group: &GroupId, code: ErrorCode) -> Error {
    Error::new(code, format!("group {group}: {}", code.text()))
}

#[cfg(test)]
mod tests;
