//! `OffsetFetch`: how far groups had come.

use rafka_broker::Error;
use rafka_broker::group::{CommittedOffset, FetchOffsets, FetchedOffset};
use rafka_core::{ErrorCode, PartitionIndex, TopicName};
use rafka_kafka_wire::offset_fetch::{
    Request, RequestGroup, Response, ResponseGroup, ResponsePartition, ResponsePartitions,
    ResponseTopic, ResponseTopics,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::OffsetFetch, 1..=9);

/// From here on a request may ask for several groups.
const BATCHED_FROM: i16 = 8;
/// From here on the answer as a whole may be an error.
const ERROR_FROM: i16 = 2;

/// Partitions by topic, as a request names them.
type Asked<'a> = Option<Vec<(&'a str, &'a [i32])>>;

/// What is committed for partitions, by topic.
type Shown = Vec<(String, Vec<(i32, Found)>)>;

/// What is committed, or why not to ask now.
type Found = Result<Option<CommittedOffset>, ErrorCode>;

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    if BATCHED_FROM <= context.version {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in common::once(&request.groups, |group| &group.group_id) {
            groups.push(one_of_several(gateway, group, request.require_stable).await);
        }
        return context.answer(&Response { groups, ..Response::default() });
    }
    let asked: Asked<'_> = request.topics.as_ref().map(|topics| {
        topics.iter().map(|topic| (&*topic.name, &topic.partition_indexes[..])).collect()
    });
    let stable = request.require_stable;
    let found = find(gateway, &request.group_id, asked.as_ref(), None, stable).await;
    let error_code = common::code(&found);
    let partition_error = if context.version < ERROR_FROM { error_code } else { common::NONE };
    let topics = shown(asked, found.unwrap_or_default()).into_iter().map(|(name, partitions)| {
        let partition = |(index, found): (i32, Found)| {
            let unstable = found.as_ref().err().map_or(partition_error, |code| code.code());
            let (committed_offset, committed_leader_epoch, metadata) = numbers(found);
            ResponsePartition {
                partition_index: index,
                committed_offset,
                committed_leader_epoch,
                metadata: Some(metadata.into()),
                error_code: unstable,
            }
        };
        let partitions = partitions.into_iter().map(partition).collect();
        ResponseTopic { name: name.into(), partitions }
    });
    let error_code = if context.version < ERROR_FROM { common::NONE } else { error_code };
    context.answer(&Response { topics: topics.collect(), error_code, ..Response::default() })
}

async fn one_of_several<'a>(
    gateway: &Gateway,
    group: &'a RequestGroup<'a>,
    require_stable: bool,
) -> ResponseGroup<'a> {
    let asked: Asked<'_> = group.topics.as_ref().map(|topics| {
        topics.iter().map(|topic| (&*topic.name, &topic.partition_indexes[..])).collect()
    });
    let member = group.member_id.as_deref().filter(|_| 0 <= group.member_epoch);
    let member = member.map(|member| (member.to_owned(), group.member_epoch));
    let found = find(gateway, &group.group_id, asked.as_ref(), member, require_stable).await;
    let error_code = common::code(&found);
    // Where nothing could be found out, nothing is said of partitions.
    let all = found.map(|found| shown(asked, found)).unwrap_or_default();
    let topics = all.into_iter().map(|(name, partitions)| {
        let partition = |(index, found): (i32, Found)| {
            let error_code = found.as_ref().err().map_or(common::NONE, |code| code.code());
            let (committed_offset, committed_leader_epoch, metadata) = numbers(found);
            ResponsePartitions {
                partition_index: index,
                committed_offset,
                committed_leader_epoch,
                metadata: Some(metadata.into()),
                error_code,
            }
        };
        let partitions = partitions.into_iter().map(partition).collect();
        ResponseTopics { name: name.into(), partitions, ..ResponseTopics::default() }
    });
    ResponseGroup { group_id: group.group_id.clone(), topics: topics.collect(), error_code }
}

async fn find(
    gateway: &Gateway,
    group: &str,
    asked: Option<&Vec<(&str, &[i32])>>,
    member: Option<(String, i32)>,
    require_stable: bool,
) -> Result<Vec<FetchedOffset>, Error> {
    let group = common::group(group)?;
    let partitions = asked.map(|topics| {
        let named = topics.iter().filter_map(|(name, indexes)| {
            let name = TopicName::new(name).ok()?;
            Some(indexes.iter().map(move |index| (name.clone(), PartitionIndex(*index))))
        });
        named.flatten().collect()
    });
    let fetch = FetchOffsets { group, partitions, member, require_stable };
    gateway.broker.groups().fetch_offsets(fetch).await
}

/// What was found, by topic: in the order of the question, or, if it was for all, by name.
fn shown(asked: Asked<'_>, found: Vec<FetchedOffset>) -> Shown {
    let mut topics = Shown::new();
    let Some(asked) = asked else {
        for one in found {
            let (name, index) = (one.topic.to_string(), one.partition.0);
            match topics.last_mut().filter(|(last, _)| *last == name) {
                Some((_, partitions)) => partitions.push((index, outcome(one))),
                None => topics.push((name, vec![(index, outcome(one))])),
            }
        }
        return topics;
    };
    let mut found = found.into_iter();
    for (name, indexes) in asked {
        // Nothing was committed for a topic that cannot exist.
        let is_valid = TopicName::new(name).is_ok();
        let mut next = || {
            let one = if is_valid { found.next() } else { None };
            one.map_or(Ok(None), outcome)
        };
        let partitions = indexes.iter().map(|index| (*index, next())).collect();
        topics.push((name.to_owned(), partitions));
    }
    topics
}

fn outcome(found: FetchedOffset) -> Found {
    if found.is_unstable { Err(ErrorCode::UnstableOffsetCommit) } else { Ok(found.committed) }
}

fn numbers(found: Found) -> (i64, i32, String) {
    found.ok().flatten().map_or((-1, -1, String::new()), |committed| {
        let epoch = committed.leader_epoch.map_or(-1, |epoch| epoch.0);
        (committed.offset.0, epoch, committed.metadata)
    })
}
