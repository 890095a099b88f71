//! `DescribeTopicPartitions`: topics with their partitions, page by page.

use std::collections::BTreeSet;

use rafka_broker::topics::{Description, PartitionDescription};
use rafka_broker::{Error, TopicRef};
use rafka_core::ErrorCode;
use rafka_kafka_wire::describe_topic_partitions::{
    Request, Response, ResponseCursor, ResponsePartition, ResponseTopic,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeTopicPartitions, 0..=0);

/// The most partitions on a page, whatever is asked for. Kafka's
/// `max.request.partition.size.limit`.
const PAGE_PARTITIONS_MAX: usize = 2000;

/// Where a page begins: at this partition of the topic of this name.
#[derive(Debug, Clone, Copy, Default)]
struct Start<'a> {
    topic: &'a str,
    partition: usize,
}

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let asked: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
    let start = match start(&request, &asked) {
        Ok(start) => start,
        Err(error) => {
            let refused = |name: &&str| missing((*name).to_owned(), &error);
            let topics = asked.iter().map(refused).collect();
            return context.answer(&Response { topics, ..Response::default() });
        }
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = limit.clamp(1, PAGE_PARTITIONS_MAX);
    let (topics, next_cursor) = if asked.is_empty() {
        let listed = gateway.broker.list_topics();
        let names = listed.iter().map(|topic| topic.name.as_str());
        page(gateway, names, start, limit, Missing::PassedOver)
    } else {
        page(gateway, asked.into_iter(), start, limit, Missing::Told)
    };
    context.answer(&Response { topics, next_cursor, ..Response::default() })
}

fn start<'a>(request: &'a Request<'_>, asked: &BTreeSet<&str>) -> Result<Start<'a>, Error> {
    let Some(cursor) = &request.cursor else { return Ok(Start::default()) };
    let topic = &*cursor.topic_name;
    let invalid = |message| Error::new(ErrorCode::InvalidRequest, message);
    let partition = usize::try_from(cursor.partition_index);
    let partition = partition.map_err(|_negative| {
        invalid(format!("the cursor is at partition {}", cursor.partition_index))
    })?;
    if !asked.is_empty() && !asked.contains(topic) {
        return Err(invalid("the topic of the cursor is none of those asked for".to_owned()));
    }
    Ok(Start { topic, partition })
}

/// What becomes of a topic that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It was deleted since it was listed.
    PassedOver,
    /// Somebody asked for it.
    Told,
}

/// The topics of one page, and where the next one begins. `names` ascend.
fn page<'a>(
    gateway: &Gateway,
    names: impl Iterator<Item = &'a str>,
    start: Start<'_>,
    limit: usize,
    missing_are: Missing,
) -> (Vec<ResponseTopic<'static>>, Option<ResponseCursor<'static>>) {
    let (mut topics, mut left) = (Vec::new(), limit);
    for name in names.filter(|name| start.topic <= *name) {
        let cursor = |partition: usize| ResponseCursor {
            topic_name: name.to_owned().into(),
            partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
        };
        if left == 0 {
            return (topics, Some(cursor(0)));
        }
        let topic = common::topic(name, Uuid::nil());
        match topic.and_then(|topic: TopicRef| gateway.broker.describe_topic(&topic)) {
            Ok(topic) => {
                let first = if name == start.topic { start.partition } else { 0 };
                let shown: Vec<_> = topic.partitions.iter().skip(first).take(left).collect();
                let end = first.saturating_add(shown.len());
                left -= shown.len();
                topics.push(described(&topic, &shown));
                if end < topic.partitions.len() {
                    return (topics, Some(cursor(end)));
                }
            }
            Err(error) if missing_are == Missing::Told => {
                // A name that no topic can have is told apart here.
                let error = common::named(name).err().unwrap_or(error);
                topics.push(missing(name.to_owned(), &error));
            }
            Err(_deleted) => {}
        }
    }
    (topics, None)
}

fn missing(name: String, error: &Error) -> ResponseTopic<'static> {
    ResponseTopic {
        error_code: error.code.code(),
        name: Some(name.into()),
        ..ResponseTopic::default()
    }
}

fn described(topic: &Description, partitions: &[&PartitionDescription]) -> ResponseTopic<'static> {
    ResponseTopic {
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id.0,
        is_internal: topic.internal,
        partitions: partitions.iter().map(|one| partition(one)).collect(),
        topic_authorized_operations: common::TOPIC_OPERATIONS,
        ..ResponseTopic::default()
    }
}

fn partition(partition: &PartitionDescription) -> ResponsePartition {
    ResponsePartition {
        error_code: common::leader_code(partition),
        partition_index: partition.index.0,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: common::numbers(&partition.replicas),
        isr_nodes: common::numbers(&partition.isr),
        // None that are not in sync. The Java client does not expect that nothing is said.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    }
}
