//! Topics and their partitions: create, delete, list, describe, grow, cut.

use rafka_broker::offsets::DeleteRecords;
use rafka_broker::topics::{Create, Description, Listing, PartitionDescription};
use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::{ErrorCode, NodeId, Offset, PartitionIndex};
use rafka_proto::v1::{
    ConfigEntry, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, CreatedTopic, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DeletedRecords, DeletedTopic, DescribeTopicsRequest,
    DescribeTopicsResponse, DescribedPartition, DescribedTopic, GrownTopic, ListTopicsRequest,
    ListTopicsResponse, ListedTopic, NewTopic, PartitionGrowth, RecordsToDelete, TopicReference,
};
use tonic::Status;

use crate::convert::{self, ITEMS_MAX};

pub(super) async fn create(
    broker: &Broker,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Status> {
    convert::check_items("topics", request.topics.len())?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let created = match order(topic, request.validate_only) {
            Ok(order) => broker.create_topic(order).await,
            Err(error) => Err(error),
        };
        topics.push(match created {
            Ok(description) => CreatedTopic {
                name,
                error: None,
                topic_id: if request.validate_only { Vec::new() } else { id(&description) }.into(),
                partition_count: count(description.partitions.len()),
                replication_factor: count(description.replication_factor),
            },
            Err(error) => {
                let error = Some(convert::error(&error));
                CreatedTopic { name, error, ..CreatedTopic::default() }
            }
        });
    }
    Ok(CreateTopicsResponse { topics })
}

fn order(topic: NewTopic, validate_only: bool) -> Result<Create, Error> {
    let NewTopic { name, partition_count, replication_factor, configs } = topic;
    let refuse = |code, what, value| {
        Error::new(code, format!("topic {name}: {what} is {value}: it must be 0 or more"))
    };
    let partitions = u32::try_from(partition_count).map_err(|_negative| {
        refuse(ErrorCode::InvalidPartitions, "partition_count", partition_count)
    })?;
    let replicas = u16::try_from(replication_factor).map_err(|_out_of_range| {
        refuse(ErrorCode::InvalidReplicationFactor, "replication_factor", replication_factor)
    })?;
    Ok(Create {
        name: convert::topic_name(&name)?,
        partitions: Some(partitions).filter(|count| *count != 0),
        replication_factor: Some(replicas).filter(|count| *count != 0),
        configs: configs.into_iter().map(|ConfigEntry { name, value }| (name, value)).collect(),
        validate_only,
    })
}

pub(super) async fn delete(
    broker: &Broker,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Status> {
    convert::check_items("topics", request.topics.len())?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for TopicReference { name, topic_id } in request.topics {
        let deleted = match convert::topic_ref(&name, &topic_id) {
            Ok(topic) => broker.delete_topic(topic).await,
            Err(error) => Err(error),
        };
        let error = deleted.err().map(|error| convert::error(&error));
        topics.push(DeletedTopic { name, topic_id, error });
    }
    Ok(DeleteTopicsResponse { topics })
}

pub(super) fn list(broker: &Broker, request: &ListTopicsRequest) -> ListTopicsResponse {
    let limit = match usize::try_from(request.limit) {
        Ok(limit @ 1..ITEMS_MAX) => limit,
        _ => ITEMS_MAX,
    };
    let listed = |topic: Listing| ListedTopic {
        name: topic.name.to_string(),
        topic_id: topic.id.0.as_bytes().to_vec().into(),
        partition_count: count(topic.partition_count),
        replication_factor: count(topic.replication_factor),
        internal: topic.internal,
    };
    let mut wanted = broker
        .list_topics()
        .into_iter()
        .filter(|topic| request.include_internal || !topic.internal)
        .filter(|topic| request.after.as_str() < topic.name.as_str());
    let topics = wanted.by_ref().take(limit).map(listed).collect();
    ListTopicsResponse { topics, more: wanted.next().is_some() }
}

pub(super) async fn describe(
    broker: &Broker,
    request: DescribeTopicsRequest,
) -> Result<DescribeTopicsResponse, Status> {
    convert::check_items("topics", request.topics.len())?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for TopicReference { name, topic_id } in request.topics {
        let found = match convert::topic_ref(&name, &topic_id) {
            Ok(TopicRef::Name(name)) if request.allow_auto_create => {
                broker.topic_or_create(&name).await
            }
            Ok(topic) => broker.describe_topic(&topic),
            Err(error) => Err(error),
        };
        topics.push(match found {
            Ok(description) => described(description),
            Err(error) => {
                let error = Some(convert::error(&error));
                DescribedTopic { name, topic_id, error, ..DescribedTopic::default() }
            }
        });
    }
    Ok(DescribeTopicsResponse { topics })
}

fn described(description: Description) -> DescribedTopic {
    DescribedTopic {
        name: description.name.to_string(),
        topic_id: id(&description).into(),
        error: None,
        internal: description.internal,
        partitions: description.partitions.into_iter().map(described_partition).collect(),
    }
}

fn described_partition(partition: PartitionDescription) -> DescribedPartition {
    let nodes = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect();
    let unknown = || {
        let message = "the partition is not open on this node: where it stands is not known";
        convert::error(&Error::new(ErrorCode::LeaderNotAvailable, message))
    };
    let extent = partition.extent;
    DescribedPartition {
        partition: partition.index.0,
        error: extent.is_none().then(unknown),
        leader: partition.leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        replicas: nodes(partition.replicas),
        isr: nodes(partition.isr),
        start_offset: extent.map_or(-1, |extent| extent.log_start.0),
        end_offset: extent.map_or(-1, |extent| extent.high_watermark.0),
        size_bytes: extent.map_or(-1, |extent| i64::try_from(extent.bytes.0).unwrap_or(i64::MAX)),
    }
}

pub(super) async fn grow(
    broker: &Broker,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Status> {
    convert::check_items("topics", request.topics.len())?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for PartitionGrowth { topic, partition_count } in request.topics {
        let total = u32::try_from(partition_count).map_err(|_negative| {
            let message = format!("topic {topic}: partition_count is {partition_count}");
            Error::new(ErrorCode::InvalidPartitions, message)
        });
        let grown = match (convert::topic_name(&topic), total) {
            (Ok(name), Ok(total)) => {
                broker.create_partitions(TopicRef::Name(name), total, request.validate_only).await
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        let error = grown.err().map(|error| convert::error(&error));
        topics.push(GrownTopic { topic, error });
    }
    Ok(CreatePartitionsResponse { topics })
}

pub(super) async fn delete_records(
    broker: &Broker,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Status> {
    convert::check_items("partitions", request.partitions.len())?;
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let deleted = match cut(&wanted) {
            Ok(order) => {
                let mut answers = broker.delete_records(vec![order]).await;
                answers.pop().unwrap_or_else(|| Err(ErrorCode::UnknownServer.into()))
            }
            Err(error) => Err(error),
        };
        let RecordsToDelete { topic, partition, .. } = wanted;
        partitions.push(match deleted {
            Ok(start) => {
                DeletedRecords { topic, partition, error: None, log_start_offset: start.0 }
            }
            Err(error) => {
                let error = Some(convert::error(&error));
                DeletedRecords { topic, partition, error, log_start_offset: -1 }
            }
        });
    }
    Ok(DeleteRecordsResponse { partitions })
}

fn cut(wanted: &RecordsToDelete) -> Result<DeleteRecords, Error> {
    let before = match wanted.before_offset {
        -1 => None,
        offset => Some(Offset(offset)),
    };
    Ok(DeleteRecords {
        topic: TopicRef::Name(convert::topic_name(&wanted.topic)?),
        partition: PartitionIndex(wanted.partition),
        before,
    })
}

fn id(description: &Description) -> Vec<u8> {
    description.id.0.as_bytes().to_vec()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
