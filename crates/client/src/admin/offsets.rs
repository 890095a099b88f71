//! Offsets of partitions: find them, and delete what lies before them.

use rafka_core::{Offset, Timestamp};
use rafka_proto::v1;

use super::Admin;
use crate::convert::check;
use crate::error::Error;
use crate::leaders::ask_leaders;
use crate::view::TopicPartition;

/// How far a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything that is on all in-sync replicas. The default, as in Kafka.
    #[default]
    ReadUncommitted,
    /// Of that, what belongs to finished transactions or to none.
    ReadCommitted,
}

impl Isolation {
    /// Its number in messages.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::ReadUncommitted => v1::Isolation::ReadUncommitted.into(),
            Self::ReadCommitted => v1::Isolation::ReadCommitted.into(),
        }
    }
}

/// Which offset is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that can be read.
    Earliest,
    /// The one after the last that can be read.
    Latest,
    /// That of the first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

/// An offset that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; none if no record is that late.
    pub offset: Option<Offset>,
    /// The timestamp of the record, if it was looked for by time.
    pub timestamp: Option<Timestamp>,
}

impl Admin {
    /// Finds offsets, in the order of the questions, each at its partition's leader.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn list_offsets(
        &self,
        questions: &[(TopicPartition, OffsetSpec)],
        isolation: Isolation,
    ) -> Vec<Result<FoundOffset, Error>> {
        let operation = "list offsets";
        let ask = |node: std::sync::Arc<crate::Node>, asked: Vec<(TopicPartition, OffsetSpec)>| async move {
            let request = v1::ListOffsetsRequest {
                partitions: asked.iter().map(question).collect(),
                isolation: isolation.number(),
            };
            let answer = node.ask(operation, node.log().list_offsets(request)).await?;
            let found = asked.iter().zip(answer.partitions).map(|((partition, _), listed)| {
                check(partition, listed.error.as_ref())?;
                Ok(FoundOffset {
                    offset: (0 <= listed.offset).then_some(Offset(listed.offset)),
                    timestamp: (0 <= listed.timestamp_ms).then_some(Timestamp(listed.timestamp_ms)),
                })
            });
            Ok(found.collect())
        };
        ask_leaders(&self.client, operation, questions, ask).await
    }

    /// Deletes the records below an offset (none: all that can be read), in the order of the
    /// questions. The answers are the first offsets that are left.
    ///
    /// # Cancel safety
    /// Dropped, records may have been deleted.
    pub async fn delete_records(
        &self,
        cuts: &[(TopicPartition, Option<Offset>)],
    ) -> Vec<Result<Offset, Error>> {
        let operation = "delete records";
        let ask = |node: std::sync::Arc<crate::Node>,
                   asked: Vec<(TopicPartition, Option<Offset>)>| async move {
            let cut =
                |(partition, before): &(TopicPartition, Option<Offset>)| v1::RecordsToDelete {
                    topic: partition.topic.to_string(),
                    partition: partition.partition.0,
                    before_offset: before.map_or(-1, |offset| offset.0),
                };
            let request = v1::DeleteRecordsRequest { partitions: asked.iter().map(cut).collect() };
            let answer = node.ask(operation, node.admin().delete_records(request)).await?;
            let deleted = asked.iter().zip(answer.partitions).map(|((partition, _), deleted)| {
                check(partition, deleted.error.as_ref())?;
                Ok(Offset(deleted.log_start_offset))
            });
            Ok(deleted.collect())
        };
        ask_leaders(&self.client, operation, cuts, ask).await
    }
}

fn question((partition, wanted): &(TopicPartition, OffsetSpec)) -> v1::ListOffsetsPartition {
    use v1::OffsetPosition::{Earliest, Latest};
    use v1::list_offsets_partition::At;
    v1::ListOffsetsPartition {
        topic: partition.topic.to_string(),
        partition: partition.partition.0,
        at: Some(match wanted {
            OffsetSpec::Earliest => At::Position(Earliest.into()),
            OffsetSpec::Latest => At::Position(Latest.into()),
            OffsetSpec::Timestamp(timestamp) => At::TimestampMs(timestamp.0),
        }),
        ..Default::default()
    }
}
