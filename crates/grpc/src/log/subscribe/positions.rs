//! Where a member begins to read: at what its group has committed, or where its policy says.

use std::collections::BTreeSet;

use rafka_broker::fetch::Isolation;
use rafka_broker::group::{FetchOffsets, FetchedOffset};
use rafka_broker::offsets::{Request, Spec};
use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::{ErrorCode, GroupId, Offset, PartitionIndex, TopicName};

use super::member::Owned;

/// What to do without a committed offset, or with one that no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// Begin at the end.
    Latest,
    /// Begin at the start.
    Earliest,
    /// Refuse to begin.
    Refuse,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) reset: Reset,
    pub(super) isolation: Isolation,
}

impl Policy {
    /// The first offset to read of each owned partition; an error for those that have none now.
    pub(super) async fn begin(
        self,
        broker: &Broker,
        group: &GroupId,
        owned: &BTreeSet<Owned>,
    ) -> Result<Vec<(Owned, Result<Offset, Error>)>, Error> {
        let partitions: Vec<Owned> = owned.iter().cloned().collect();
        let fetch = FetchOffsets {
            group: group.clone(),
            partitions: Some(partitions),
            member: None,
            require_stable: self.isolation == Isolation::ReadCommitted,
        };
        let fetched = broker.groups().fetch_offsets(fetch).await?;
        let mut positions = Vec::with_capacity(fetched.len());
        for FetchedOffset { topic, partition, committed, is_unstable } in fetched {
            let position = match committed {
                _ if is_unstable => Err(ErrorCode::UnstableOffsetCommit.into()),
                Some(committed) => Ok(committed.offset),
                None => self.reset(broker, &topic, partition).await,
            };
            positions.push(((topic, partition), position));
        }
        Ok(positions)
    }

    /// Where to read instead.
    ///
    /// # Errors
    /// If the policy is to refuse, or the partition cannot be asked.
    pub(super) async fn reset(
        self,
        broker: &Broker,
        topic: &TopicName,
        partition: PartitionIndex,
    ) -> Result<Offset, Error> {
        let spec = match self.reset {
            Reset::Latest => Spec::Latest,
            Reset::Earliest => Spec::Earliest,
            Reset::Refuse => {
                let message = format!(
                    "topic {topic}, partition {partition}: the group has no committed offset that \
                     can be read, and offset_reset is NONE"
                );
                return Err(Error::new(ErrorCode::OffsetOutOfRange, message));
            }
        };
        let question = Request {
            topic: TopicRef::Name(topic.clone()),
            partition,
            spec,
            isolation: self.isolation,
            leader_epoch: None,
        };
        let mut answers = broker.list_offsets(vec![question]).await;
        let answer = answers.pop().unwrap_or_else(|| Err(ErrorCode::UnknownServer.into()));
        answer.map(|found| found.offset)
    }
}
