//! `OffsetFetch`: how far groups had come.

use rafka_broker::Error;
use rafka_broker::group::{CommittedOffset, FetchOffsets, FetchedOffset};
use rafka_core::{ErrorCode, PartitionIndex, TopicName};
use rafka_kafka_wire::offset_fetch::{
    Request, RequestGroup, Response, ResponseGroup, ResponsePartition, ResponsePartitions,
    ResponseTopic, ResponseTopics,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::OffsetFetch, 1..=10);

/// From here on a request may ask for several groups.
const BATCHED_FROM: i16 = 8;
/// From here on the answer as a whole may be an error.
const ERROR_FROM: i16 = 2;

/// From here on topics are named by their ids.
const IDS_FROM: i16 = 10;

/// Partitions by topic, as a request names them; all of the group's if it names none.
type Asked<'a> = Option<Vec<AskedTopic<'a>>>;

struct AskedTopic<'a> {
    name: &'a str,
    id: Uuid,
    /// Which topic is meant, or why there is none.
    known: Result<TopicName, ErrorCode>,
    partitions: &'a [i32],
}

/// What is committed for partitions of a topic.
struct Shown {
    name: String,
    id: Uuid,
    partitions: Vec<(i32, Found)>,
}

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
            groups.push(one_of_several(gateway, context, group, request.require_stable).await);
        }
        return context.answer(&Response { groups, ..Response::default() });
    }
    let version = context.version;
    let asked: Asked<'_> = request.topics.as_ref().map(|topics| {
        let named = topics.iter().map(|topic| {
            AskedTopic::new(gateway, version, &topic.name, Uuid::nil(), &topic.partition_indexes)
        });
        named.collect()
    });
    let stable = request.require_stable;
    let found = find(gateway, &request.group_id, asked.as_ref(), None, stable).await;
    let error_code = common::code(&found);
    let partition_error = if context.version < ERROR_FROM { error_code } else { common::NONE };
    let all = shown(asked, found.unwrap_or_default()).into_iter();
    let topics = all.map(|Shown { name, partitions, .. }| {
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
    context: &Context,
    group: &'a RequestGroup<'a>,
    require_stable: bool,
) -> ResponseGroup<'a> {
    let version = context.version;
    let asked: Asked<'_> = group.topics.as_ref().map(|topics| {
        let named = topics.iter().map(|topic| {
            let indexes = &topic.partition_indexes;
            AskedTopic::new(gateway, version, &topic.name, topic.topic_id, indexes)
        });
        named.collect()
    });
    let member = group.member_id.as_deref().filter(|_| 0 <= group.member_epoch);
    let member = member.map(|member| (member.to_owned(), group.member_epoch));
    let found = find(gateway, &group.group_id, asked.as_ref(), member, require_stable).await;
    let error_code = common::code(&found);
    // Where nothing could be found out, nothing is said of partitions.
    let mut all = found.map(|found| shown(asked, found)).unwrap_or_default();
    if IDS_FROM <= version && group.topics.is_none() {
        all.retain_mut(|topic| identify(gateway, topic));
    }
    let topics = all.into_iter().map(|Shown { name, id, partitions }| {
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
        ResponseTopics { name: name.into(), topic_id: id, partitions }
    });
    ResponseGroup { group_id: group.group_id.clone(), topics: topics.collect(), error_code }
}

async fn find(
    gateway: &Gateway,
    group: &str,
    asked: Option<&Vec<AskedTopic<'_>>>,
    member: Option<(String, i32)>,
    require_stable: bool,
) -> Result<Vec<FetchedOffset>, Error> {
    let group = common::group(group)?;
    let partitions = asked.map(|topics| {
        let named = topics.iter().filter_map(|topic| {
            let name = topic.known.as_ref().ok()?;
            Some(topic.partitions.iter().map(|index| (name.clone(), PartitionIndex(*index))))
        });
        named.flatten().collect()
    });
    let fetch = FetchOffsets { group, partitions, member, require_stable };
    gateway.broker.groups().fetch_offsets(fetch).await
}

impl<'a> AskedTopic<'a> {
    fn new(
        gateway: &Gateway,
        version: i16,
        name: &'a str,
        id: Uuid,
        partitions: &'a [i32],
    ) -> Self {
        let known = common::topic_of_group(&gateway.broker, version, name, id);
        Self { name, id, known, partitions }
    }
}

/// Gives what is shown its topic's id. A topic that is gone has none, and is not shown.
fn identify(gateway: &Gateway, topic: &mut Shown) -> bool {
    let known = common::named(&topic.name);
    let known = known.and_then(|topic| gateway.broker.identify_topic(&topic));
    known.is_ok_and(|(_, id)| {
        topic.id = id.0;
        true
    })
}

/// What was found, by topic: in the order of the question, or, if it was for all, by name.
fn shown(asked: Asked<'_>, found: Vec<FetchedOffset>) -> Vec<Shown> {
    let Some(asked) = asked else {
        let mut topics: Vec<Shown> = Vec::new();
        for one in found {
            let (name, index) = (one.topic.to_string(), one.partition.0);
            match topics.last_mut().filter(|last| last.name == name) {
                Some(last) => last.partitions.push((index, outcome(one))),
                None => {
                    let partitions = vec![(index, outcome(one))];
                    topics.push(Shown { name, id: Uuid::nil(), partitions });
                }
            }
        }
        return topics;
    };
    let mut found = found.into_iter();
    let topic = |AskedTopic { name, id, known, partitions }: AskedTopic<'_>| {
        let mut next = || match known {
            Ok(_) => found.next().map_or(Ok(None), outcome),
            Err(ErrorCode::UnknownTopicId) => Err(ErrorCode::UnknownTopicId),
            // Nothing was committed for a topic that cannot exist.
            Err(_) => Ok(None),
        };
        let partitions = partitions.iter().map(|index| (*index, next())).collect();
        Shown { name: name.to_owned(), id, partitions }
    };
    asked.into_iter().map(topic).collect()
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
