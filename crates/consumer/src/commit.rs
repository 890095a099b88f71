//! Committing offsets for the consumer's group.

use std::sync::Arc;

use rafka_client::convert::check;
use rafka_client::{Client, Error as ClientError, TopicPartition, v1};
use rafka_core::{ErrorCode, Offset};
use tokio::sync::OwnedMutexGuard;

use crate::error::Error;
use crate::member::Common;
use crate::metrics::Counters;

/// The most offsets in one request.
const OFFSETS_PER_CALL: usize = 10_000;

/// Whoever holds it commits, and nobody else.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// Commits, one after the other. Who commits positions takes the turn before it looks at them:
/// otherwise an older position could overtake a newer one.
#[derive(Debug)]
pub(crate) struct Committer {
    client: Client,
    group: Option<String>,
    instance_id: Option<String>,
    common: Arc<Common>,
    counters: Arc<Counters>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Committer {
    pub(crate) fn new(
        client: Client,
        settings: &crate::Settings,
        common: Arc<Common>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            client,
            group: settings.group.clone(),
            instance_id: settings.instance_id.clone(),
            common,
            counters,
            turn: Arc::default(),
        }
    }

    pub(crate) fn group(&self, operation: &'static str) -> Result<&str, Error> {
        self.group.as_deref().ok_or(Error::NoGroup { operation })
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Waits for the turn.
    pub(crate) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Commits as whoever the consumer is in the group at this moment.
    pub(crate) async fn commit(
        &self,
        _turn: Turn,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), Error> {
        let group = self.group("commit")?;
        for some in offsets.chunks(OFFSETS_PER_CALL) {
            let begun = self.client.clock().now();
            if let Err(error) = self.commit_some(group, some).await {
                Counters::add(&self.counters.commits_failed, 1);
                return Err(meaning(group, error));
            }
            self.counters.commits.note(self.client.clock().now() - begun, 1);
        }
        Ok(())
    }

    async fn commit_some(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), ClientError> {
        let operation = "commit offsets";
        let membership = self.common.membership();
        let offset = |(partition, offset): &(TopicPartition, Offset)| v1::OffsetToCommit {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
            offset: offset.0,
            leader_epoch: None,
            metadata: String::new(),
        };
        let request = v1::CommitOffsetsRequest {
            group: group.to_owned(),
            generation: membership.generation,
            member_id: membership.member_id,
            instance_id: self.instance_id.clone(),
            offsets: offsets.iter().map(offset).collect(),
        };
        let ask = |node: Arc<rafka_client::Node>| {
            let request = request.clone();
            async move {
                let answer = node.ask(operation, node.groups().commit_offsets(request)).await?;
                check(format_args!("group {group}"), answer.error.as_ref())?;
                Ok(answer.partitions)
            }
        };
        for result in self.client.call(operation, ask).await? {
            check(format_args!("{}/{}", result.topic, result.partition), result.error.as_ref())?;
        }
        Ok(())
    }
}

fn meaning(group: &str, error: ClientError) -> Error {
    match error.code() {
        Some(
            ErrorCode::IllegalGeneration
            | ErrorCode::UnknownMemberId
            | ErrorCode::FencedInstanceId
            | ErrorCode::RebalanceInProgress,
        ) => Error::NotMember { group: group.to_owned(), cause: Box::new(error) },
        _ => Error::Client(error),
    }
}
