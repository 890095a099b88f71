//! Committing: by hand, by the clock, and what the group says to it.

use rafka_client::convert::check;
use rafka_client::{Client, TopicPartition, v1};
use rafka_core::{ErrorCode, Offset};
use tracing::warn;

use super::Consumer;
use crate::error::Error;
use crate::member::Membership;

/// What became of a commit in the background.
pub(super) type Outcome = Result<Offsets, Error>;
type Offsets = Vec<(TopicPartition, Offset)>;

impl Consumer {
    /// Commits the positions: everything that `poll` gave counts as processed. Waits until that is
    /// durable.
    ///
    /// # Errors
    /// [`Error::NotMember`] if the partitions were given to others, [`Error::NoGroup`],
    /// [`Error::Client`] if the group cannot be reached in time.
    ///
    /// # Cancel safety
    /// Dropped, it may have been committed.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let offsets = self.partitions.uncommitted();
        self.commit_offsets(&offsets).await
    }

    /// Commits the given offsets: each is the next one to be processed. Waits until that is durable.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    ///
    /// # Cancel safety
    /// Dropped, it may have been committed.
    pub async fn commit_offsets(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), Error> {
        let group = self.group("commit")?;
        while let Some(done) = self.commits.join_next().await {
            self.commit_ended(done.ok());
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let membership = self.membership();
        let outcome = send(self.client.clone(), group, membership, offsets.to_vec()).await;
        match outcome {
            Ok(committed) => {
                self.metrics.commits += 1;
                self.partitions.note_committed(&committed);
                Ok(())
            }
            Err(error) => {
                self.metrics.commits_failed += 1;
                Err(error)
            }
        }
    }

    /// What the group has committed for partitions, in their order.
    ///
    /// # Errors
    /// [`Error::NoGroup`], or [`Error::Client`] if the group cannot be reached in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Offset>>, Error> {
        let group = self.group("ask for committed offsets")?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let committed = self.client.admin().committed_offsets(&group, partitions).await?;
        let offset = |partition: &TopicPartition| {
            committed.iter().find(|found| found.partition == *partition)?.offset
        };
        Ok(partitions.iter().map(offset).collect())
    }

    fn group(&self, operation: &'static str) -> Result<String, Error> {
        self.settings.group.clone().ok_or(Error::NoGroup { operation })
    }

    fn membership(&self) -> Membership {
        let subscription = self.subscription.as_ref();
        subscription.map_or_else(Membership::none, |subscribed| subscribed.common.membership())
    }

    /// Begins to commit the positions, if it is time and the last commit has ended.
    pub(super) fn auto_commit(&mut self) {
        while let Some(done) = self.commits.try_join_next() {
            self.commit_ended(done.ok());
        }
        let (Some(interval), Some(group)) =
            (self.settings.auto_commit_interval, self.settings.group.clone())
        else {
            return;
        };
        let now = self.now();
        if now < self.commit_at || !self.commits.is_empty() {
            return;
        }
        self.commit_at = now + interval;
        let offsets = self.partitions.uncommitted();
        if !offsets.is_empty() {
            self.commits.spawn(send(self.client.clone(), group, self.membership(), offsets));
        }
    }

    pub(super) fn commit_ended(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(Ok(committed)) => {
                self.metrics.commits += 1;
                self.partitions.note_committed(&committed);
            }
            Some(Err(error)) => {
                // The positions stay uncommitted, and the next commit takes them along.
                self.metrics.commits_failed += 1;
                warn!(%error, "auto commit failed");
            }
            None => self.metrics.commits_failed += 1,
        }
    }
}

async fn send(client: Client, group: String, membership: Membership, offsets: Offsets) -> Outcome {
    let offset = |(partition, offset): &(TopicPartition, Offset)| v1::OffsetToCommit {
        topic: partition.topic.to_string(),
        partition: partition.partition.0,
        offset: offset.0,
        ..Default::default()
    };
    let request = v1::CommitOffsetsRequest {
        group: group.clone(),
        generation: membership.generation,
        member_id: membership.member_id,
        offsets: offsets.iter().map(offset).collect(),
        ..Default::default()
    };
    let (request, subject) = (&request, &group);
    let attempt = |node: std::sync::Arc<rafka_client::Node>| async move {
        let operation = "commit offsets";
        let answer = node.ask(operation, node.groups().commit_offsets(request.clone())).await?;
        check(format_args!("group {subject}"), answer.error.as_ref())?;
        for result in &answer.partitions {
            check(format_args!("{}/{}", result.topic, result.partition), result.error.as_ref())?;
        }
        Ok(())
    };
    match client.call("commit offsets", attempt).await {
        Ok(()) => Ok(offsets),
        Err(error) => Err(match error.code() {
            Some(
                ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId,
            ) => Error::NotMember { group, cause: Box::new(error) },
            _ => Error::Client(error),
        }),
    }
}
