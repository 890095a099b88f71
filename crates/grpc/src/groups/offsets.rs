//! Committed offsets: commit, fetch, delete.

use rafka_broker::Error;
use rafka_broker::group::{
    CommitOffsets, CommittedOffset, Coordinator, DeleteOffsets, FetchOffsets, FetchedOffset,
    OffsetToCommit, PartitionResult as Committed,
};
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicName};
use rafka_proto::v1::{
    self, CommitOffsetsRequest, CommitOffsetsResponse, DeleteOffsetsRequest, DeleteOffsetsResponse,
    FetchOffsetsRequest, FetchOffsetsResponse, PartitionResult, TopicPartition,
};
use tonic::Status;

use super::{index, partition_result};
use crate::convert;

/// The generation of who is in no group.
const NO_GENERATION: i32 = -1;

/// Commits by `commit`, which is asked for what can be asked for.
pub(crate) async fn commit<F>(
    request: CommitOffsetsRequest,
    commit: impl FnOnce(CommitOffsets) -> F,
) -> Result<CommitOffsetsResponse, Status>
where
    F: Future<Output = Result<Vec<Committed>, Error>>,
{
    convert::check_items_max("offsets", request.offsets.len())?;
    let group = match convert::group_id(&request.group) {
        Ok(group) => group,
        Err(error) => return Ok(not_committed(&error)),
    };
    let mut results = Vec::with_capacity(request.offsets.len());
    let mut offsets = Vec::with_capacity(request.offsets.len());
    for offset in request.offsets {
        let (topic, partition) = (offset.topic.clone(), offset.partition);
        let checked = check(offset);
        // What passes waits here for its own result.
        let result = checked.as_ref().map(drop).map_err(Clone::clone);
        results.push((topic, partition, result));
        offsets.extend(checked.ok());
    }
    let is_member = !request.member_id.is_empty() || 0 < request.generation;
    let order = CommitOffsets {
        group,
        member: request.member_id,
        instance: request.instance_id,
        generation: if is_member { request.generation } else { NO_GENERATION },
        offsets,
    };
    let mut committed = match commit(order).await {
        Ok(committed) => committed.into_iter(),
        Err(error) => return Ok(not_committed(&error)),
    };
    let shown = |(topic, partition, result): (String, i32, Result<(), Error>)| {
        let result = result.and_then(|()| match committed.next() {
            Some(committed) => committed.result.map_err(Error::from),
            None => Err(ErrorCode::UnknownServer.into()),
        });
        partition_result(topic, partition, result)
    };
    Ok(CommitOffsetsResponse { error: None, partitions: results.into_iter().map(shown).collect() })
}

fn not_committed(error: &Error) -> CommitOffsetsResponse {
    CommitOffsetsResponse { error: Some(convert::error(error)), partitions: Vec::new() }
}

/// Checks what cannot be said to the coordinator.
fn check(offset: v1::OffsetToCommit) -> Result<OffsetToCommit, Error> {
    let topic = convert::topic_name(&offset.topic)?;
    if offset.offset < 0 {
        let message = format!("topic {topic}: offset {} is negative", offset.offset);
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    let partition = index(offset.partition);
    let committed = CommittedOffset {
        offset: Offset(offset.offset),
        leader_epoch: convert::epoch(offset.leader_epoch),
        metadata: offset.metadata,
    };
    Ok(OffsetToCommit { topic, partition, committed })
}

pub(super) async fn fetch(
    groups: &Coordinator,
    request: FetchOffsetsRequest,
) -> Result<FetchOffsetsResponse, Status> {
    convert::check_items_max("partitions", request.partitions.len())?;
    let group = match convert::group_id(&request.group) {
        Ok(group) => group,
        Err(error) => return Ok(not_fetched(&error)),
    };
    let names = request.partitions.iter().map(|p| convert::topic_name(&p.topic));
    let names: Vec<Result<TopicName, Error>> = names.collect();
    let asked: Vec<(TopicName, PartitionIndex)> = names
        .iter()
        .zip(&request.partitions)
        .filter_map(|(name, wanted)| Some((name.clone().ok()?, index(wanted.partition))))
        .collect();
    let is_all = request.partitions.is_empty();
    let fetch = FetchOffsets {
        group,
        partitions: (!is_all).then_some(asked),
        member: None,
        require_stable: request.require_stable,
    };
    let fetched = match groups.fetch_offsets(fetch).await {
        Ok(fetched) => fetched,
        Err(error) => return Ok(not_fetched(&error)),
    };
    if is_all {
        let partitions = fetched.into_iter().map(shown).collect();
        return Ok(FetchOffsetsResponse { error: None, partitions });
    }
    let mut fetched = fetched.into_iter();
    let answer = |(name, wanted): (Result<TopicName, Error>, TopicPartition)| {
        let found = name.map(|_| fetched.next());
        match found {
            Ok(Some(found)) => shown(found),
            Ok(None) => unknown(wanted, Some(&ErrorCode::UnknownServer.into())),
            Err(error) => unknown(wanted, Some(&error)),
        }
    };
    let partitions = names.into_iter().zip(request.partitions).map(answer).collect();
    Ok(FetchOffsetsResponse { error: None, partitions })
}

fn not_fetched(error: &Error) -> FetchOffsetsResponse {
    FetchOffsetsResponse { error: Some(convert::error(error)), partitions: Vec::new() }
}

fn shown(fetched: FetchedOffset) -> v1::CommittedOffset {
    let FetchedOffset { topic, partition, committed, is_unstable } = fetched;
    let (topic, partition) = (topic.to_string(), partition.0);
    match committed {
        _ if is_unstable => {
            let error = ErrorCode::UnstableOffsetCommit.into();
            unknown(TopicPartition { topic, partition }, Some(&error))
        }
        None => unknown(TopicPartition { topic, partition }, None),
        Some(CommittedOffset { offset, leader_epoch, metadata }) => v1::CommittedOffset {
            topic,
            partition,
            offset: offset.0,
            leader_epoch: leader_epoch.map_or(-1, |epoch| epoch.0),
            metadata,
            error: None,
        },
    }
}

fn unknown(wanted: TopicPartition, error: Option<&Error>) -> v1::CommittedOffset {
    let TopicPartition { topic, partition } = wanted;
    v1::CommittedOffset {
        topic,
        partition,
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
        error: error.map(convert::error),
    }
}

pub(super) async fn delete(
    groups: &Coordinator,
    request: DeleteOffsetsRequest,
) -> Result<DeleteOffsetsResponse, Status> {
    convert::check_items("partitions", request.partitions.len())?;
    let names: Vec<Result<TopicName, Error>> =
        request.partitions.iter().map(|wanted| convert::topic_name(&wanted.topic)).collect();
    let asked = names
        .iter()
        .zip(&request.partitions)
        .filter_map(|(name, wanted)| Some((name.clone().ok()?, index(wanted.partition))))
        .collect();
    let deleted = match convert::group_id(&request.group) {
        Ok(group) => groups.delete_offsets(DeleteOffsets { group, partitions: asked }).await,
        Err(error) => Err(error),
    };
    let mut deleted = match deleted {
        Ok(deleted) => deleted.into_iter(),
        Err(error) => {
            let error = Some(convert::error(&error));
            return Ok(DeleteOffsetsResponse { error, partitions: Vec::new() });
        }
    };
    let answer = |(name, wanted): (Result<TopicName, Error>, TopicPartition)| -> PartitionResult {
        let result = name.and_then(|_| match deleted.next() {
            Some(deleted) => deleted.result.map_err(Error::from),
            None => Err(ErrorCode::UnknownServer.into()),
        });
        partition_result(wanted.topic, wanted.partition, result)
    };
    let partitions = names.into_iter().zip(request.partitions).map(answer).collect();
    Ok(DeleteOffsetsResponse { error: None, partitions })
}
