//! `DescribeLogDirs`: where logs are kept, and what they take there.

use std::collections::BTreeMap;

use rafka_broker::log_dir::LogDir;
use rafka_core::ByteSize;
use rafka_kafka_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsResult, Partition, Request, Response, Topic,
};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeLogDirs, 1..=4);

/// What stands for the path where logs are in memory.
const MEMORY: &str = "memory";

pub(super) async fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request<'_> = context.read(&mut reader)?;
    let result = match gateway.broker.describe_log_dir().await {
        Ok(dir) => described(dir, request.topics.as_deref()),
        Err(error) => DescribeLogDirsResult { error_code: error.code.code(), ..Default::default() },
    };
    context.answer(&Response { results: vec![result], ..Response::default() })
}

fn described(
    dir: LogDir,
    asked: Option<&[DescribableLogDirTopic<'_>]>,
) -> DescribeLogDirsResult<'static> {
    let asked: Option<BTreeMap<&str, &[i32]>> =
        asked.map(|topics| topics.iter().map(|one| (&*one.topic, &*one.partitions)).collect());
    // Nothing is said of what is not here.
    let is_asked = |name: &str, partition: i32| {
        let all = asked.as_ref();
        all.is_none_or(|all| all.get(name).is_some_and(|some| some.contains(&partition)))
    };
    let topics = dir.topics.into_iter().filter_map(|logs| {
        let partitions = logs.partitions.into_iter();
        let partitions = partitions.filter(|(index, _)| is_asked(logs.name.as_str(), index.0));
        let partitions = partitions.map(|(index, bytes)| Partition {
            partition_index: index.0,
            partition_size: count(Some(bytes)),
            ..Partition::default()
        });
        let partitions: Vec<_> = partitions.collect();
        let name = logs.name.to_string().into();
        (!partitions.is_empty()).then_some(Topic { name, partitions })
    });
    DescribeLogDirsResult {
        log_dir: dir.path.map_or(MEMORY.into(), Into::into),
        topics: topics.collect(),
        total_bytes: count(dir.total),
        usable_bytes: count(dir.usable),
        ..DescribeLogDirsResult::default()
    }
}

/// A number of bytes; -1 if it is not known.
fn count(bytes: Option<ByteSize>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX))
}
