//! `DescribeLogDirs`: where logs are, and how much they take.

use std::collections::BTreeMap;

use rafka_broker::topics::PartitionDescription;
use rafka_kafka_wire::describe_log_dirs::{
    DescribeLogDirsResult, Partition, Request, Response, Topic,
};
use rafka_kafka_wire::{ApiKey, Reader};
use uuid::Uuid;

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeLogDirs, 1..=4);

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    // All partitions of all topics, or some of some.
    let mut wanted: BTreeMap<String, Option<Vec<i32>>> = BTreeMap::new();
    match request.topics {
        None => {
            let all = gateway.broker.list_topics();
            wanted.extend(all.into_iter().map(|topic| (topic.name.to_string(), None)));
        }
        Some(topics) => {
            for topic in topics {
                let known = wanted.entry(topic.topic.into_owned()).or_insert_with(|| Some(vec![]));
                known.get_or_insert_default().extend(topic.partitions);
            }
        }
    }
    let topics = wanted.into_iter().filter_map(|(name, indexes)| {
        let found = common::topic(&name, Uuid::nil());
        let found = found.and_then(|topic| gateway.broker.describe_topic(&topic)).ok()?;
        let is_wanted = |partition: &&PartitionDescription| {
            indexes.as_ref().is_none_or(|indexes| indexes.contains(&partition.index.0))
        };
        let partitions = found.partitions.iter().filter(is_wanted).filter_map(shown).collect();
        Some(Topic { name: name.into(), partitions })
    });
    let result = DescribeLogDirsResult {
        log_dir: gateway.log_dir.to_string().into(),
        topics: topics.filter(|topic| !topic.partitions.is_empty()).collect(),
        ..DescribeLogDirsResult::default()
    };
    context.answer(&Response { results: vec![result], ..Response::default() })
}

fn shown(partition: &PartitionDescription) -> Option<Partition> {
    let bytes = partition.extent.as_ref()?.bytes.0;
    Some(Partition {
        partition_index: partition.index.0,
        partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
        ..Partition::default()
    })
}
