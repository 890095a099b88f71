//! Plain records of a produce request: chooses their partitions and makes batches of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rafka_broker::{Error, TopicRef};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ErrorCode, Timestamp, partitioner};
use rafka_proto::v1::{self, Record, Records};

use crate::gateway::Gateway;

/// What goes to one partition.
pub(super) struct Plain {
    pub(super) partition: i32,
    pub(super) batches: Vec<Batch>,
    /// Which records of the entry these are. Empty if they are all of it.
    pub(super) record_indexes: Vec<u32>,
}

/// Makes one batch for each partition that gets records; -1 chooses for each record.
///
/// A topic that does not exist is created if the node allows it.
///
/// # Errors
/// If there are no records, one of them is not acceptable, or there is no such topic.
pub(super) async fn batches(
    gateway: &Gateway,
    topic: &TopicRef,
    partition: i32,
    records: Records,
) -> Result<Vec<Plain>, Error> {
    let Records { records, compression } = records;
    let refuse = |message: String| Err(Error::new(ErrorCode::InvalidRequest, message));
    if records.is_empty() {
        return refuse(format!("topic {topic}: there are no records to append"));
    }
    let Some(compression) = codec(compression) else {
        return refuse(format!("topic {topic}: compression {compression} is unknown: 0 to 4 are"));
    };
    let partition_count = gateway.partition_count(topic).await?;
    let is_chosen = partition == -1;
    let any = gateway.next_partition(partition_count);
    let now = gateway.clock.timestamp();
    let mut parts: BTreeMap<i32, (BatchBuilder, Vec<u32>)> = BTreeMap::new();
    for (index, record) in (0_u32..).zip(records) {
        let chosen = match &record.key {
            _ if !is_chosen => partition,
            Some(key) => number(partitioner::partition_of_key(key, partition_count)),
            None => number(any),
        };
        let (builder, indexes) =
            parts.entry(chosen).or_insert_with(|| (BatchBuilder::new(compression), Vec::new()));
        push(builder, record, now).map_err(|error| {
            Error::new(error.code, format!("topic {topic}, record {index}: {}", error.message))
        })?;
        if is_chosen {
            indexes.push(index);
        }
    }
    let build = |(partition, (builder, record_indexes)): (i32, (BatchBuilder, Vec<u32>))| {
        let batch = builder
            .build()
            .map_err(|error| Error::new(ErrorCode::UnknownServer, error.to_string()))?;
        Ok(Plain { partition, batches: vec![batch], record_indexes })
    };
    parts.into_iter().map(build).collect()
}

fn push(builder: &mut BatchBuilder, record: Record, now: Timestamp) -> Result<(), Error> {
    let Record { key, value, headers, timestamp_ms } = record;
    let timestamp = timestamp_ms.map_or(now, Timestamp);
    if timestamp.0 < 0 {
        let message = format!("timestamp {timestamp} is negative");
        return Err(Error::new(ErrorCode::InvalidTimestamp, message));
    }
    let headers: Vec<(Bytes, Option<Bytes>)> = headers
        .into_iter()
        .map(|header| (Bytes::from(header.name.into_bytes()), header.value))
        .collect();
    builder.push(timestamp, key.as_deref(), value.as_deref(), &headers);
    Ok(())
}

fn codec(compression: i32) -> Option<Compression> {
    Some(match v1::Compression::try_from(compression).ok()? {
        v1::Compression::None => Compression::None,
        v1::Compression::Gzip => Compression::Gzip,
        v1::Compression::Snappy => Compression::Snappy,
        v1::Compression::Lz4 => Compression::Lz4,
        v1::Compression::Zstd => Compression::Zstd,
    })
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("a partition is below the partition count, which is an i32's")
}
