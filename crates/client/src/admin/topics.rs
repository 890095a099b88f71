//! Topics: create, delete, list, describe, grow.

use std::sync::Arc;

use rafka_core::{ByteSize, Epoch, NodeId, Offset, PartitionIndex, TopicId, TopicName};
use rafka_proto::v1;

use super::Admin;
use crate::convert::{check, count, malformed, only, same_count, topic_id, topic_name};
use crate::error::Error;
use crate::node::Node;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partition_count: i32,
    replication_factor: i32,
    configs: Vec<(String, String)>,
    validate_only: bool,
}

impl NewTopic {
    /// A topic with the cluster's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partition_count: 0,
            replication_factor: 0,
            configs: Vec::new(),
            validate_only: false,
        }
    }

    /// The same with so many partitions.
    #[must_use]
    pub fn partitions(self, count: u32) -> Self {
        // What does not fit is above the node's limit either way, which then says so.
        Self { partition_count: i32::try_from(count).unwrap_or(i32::MAX), ..self }
    }

    /// The same with so many copies of each partition.
    #[must_use]
    pub fn replication_factor(self, copies: u16) -> Self {
        Self { replication_factor: i32::from(copies), ..self }
    }

    /// The same with this value for a setting, under Kafka's name.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    /// The same, but only checked and not created.
    #[must_use]
    pub fn validate_only(self) -> Self {
        Self { validate_only: true, ..self }
    }
}

/// What was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity; none if it was only checked.
    pub id: Option<TopicId>,
    /// Its partitions.
    pub partition_count: u32,
    /// Copies of each partition.
    pub replication_factor: u32,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Its partitions.
    pub partition_count: u32,
    /// Copies of each partition.
    pub replication_factor: u32,
    /// Whether it is one of the cluster's own.
    pub internal: bool,
}

/// All about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Whether it is one of the cluster's own.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionDescription>,
}

/// All about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Which one.
    pub partition: PartitionIndex,
    /// Its leader; none at the moment.
    pub leader: Option<NodeId>,
    /// The epoch of the leadership.
    pub leader_epoch: Epoch,
    /// The nodes that hold it.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub isr: Vec<NodeId>,
    /// Its offsets and size; none if the leader could not tell.
    pub log: Option<LogDescription>,
}

/// How much a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogDescription {
    /// The first offset that can be read.
    pub start: Offset,
    /// The high watermark: the offset after the last that can be read.
    pub end: Offset,
    /// The bytes of its records.
    pub size: ByteSize,
}

/// Names in one request.
const NAMES_PER_CALL: usize = 1000;

impl Admin {
    /// Creates a topic.
    ///
    /// # Errors
    /// With `TOPIC_ALREADY_EXISTS`, `INVALID_CONFIG` and the like, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the topic may have been created.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, Error> {
        let operation = "create a topic";
        let config = |(name, value): &(String, String)| v1::ConfigEntry {
            name: name.clone(),
            value: value.clone(),
        };
        let request = v1::CreateTopicsRequest {
            topics: vec![v1::NewTopic {
                name: topic.name.clone(),
                partition_count: topic.partition_count,
                replication_factor: topic.replication_factor,
                configs: topic.configs.iter().map(config).collect(),
            }],
            validate_only: topic.validate_only,
        };
        let request = &request;
        let ask = |node: Arc<Node>| async move {
            let answer = node.ask(operation, node.admin().create_topics(request.clone())).await?;
            let created = only(operation, answer.topics)?;
            check(format_args!("topic {}", topic.name), created.error.as_ref())?;
            Ok(created)
        };
        let created = self.client.call(operation, ask).await?;
        let id = (!created.topic_id.is_empty()).then(|| topic_id(operation, &created.topic_id));
        Ok(CreatedTopic {
            id: id.transpose()?,
            partition_count: count(operation, created.partition_count)?,
            replication_factor: count(operation, created.replication_factor)?,
        })
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// With `UNKNOWN_TOPIC_OR_PARTITION` if there is none, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the topic may have been deleted.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let operation = "delete a topic";
        let answer = |node: Arc<Node>| async move {
            let topic = v1::TopicReference { name: name.to_owned(), ..Default::default() };
            let request = v1::DeleteTopicsRequest { topics: vec![topic] };
            let answer = node.ask(operation, node.admin().delete_topics(request)).await?;
            // The error is part of the answer: asking again does not bring a missing topic back.
            only(operation, answer.topics)
        };
        let deleted = self.client.call(operation, answer).await?;
        check(format_args!("topic {name}"), deleted.error.as_ref())
    }

    /// All topics by name, without the cluster's own unless `internal`.
    ///
    /// # Errors
    /// If no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn list_topics(&self, internal: bool) -> Result<Vec<TopicListing>, Error> {
        let operation = "list topics";
        let mut topics: Vec<TopicListing> = Vec::new();
        loop {
            let after = topics.last().map_or_else(String::new, |last| last.name.to_string());
            let request =
                v1::ListTopicsRequest { include_internal: internal, after, ..Default::default() };
            let request = &request;
            let ask = |node: Arc<Node>| async move {
                node.ask(operation, node.admin().list_topics(request.clone())).await
            };
            let page = self.client.call(operation, ask).await?;
            let got_any = !page.topics.is_empty();
            for topic in page.topics {
                topics.push(listing(operation, &topic)?);
            }
            if !page.more || !got_any {
                return Ok(topics);
            }
        }
    }

    /// Partitions, leaders, offsets and sizes of topics, in the order of the names.
    ///
    /// # Errors
    /// If no node answers in time. What is wrong with one topic is in its place.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe_topics(
        &self,
        names: &[TopicName],
    ) -> Result<Vec<Result<TopicDescription, Error>>, Error> {
        let operation = "describe topics";
        let mut described = Vec::with_capacity(names.len());
        for names in names.chunks(NAMES_PER_CALL) {
            let reference = |name: &TopicName| v1::TopicReference {
                name: name.to_string(),
                ..Default::default()
            };
            let request = v1::DescribeTopicsRequest {
                topics: names.iter().map(reference).collect(),
                allow_auto_create: false,
            };
            let request = &request;
            let ask = |node: Arc<Node>| async move {
                node.ask(operation, node.admin().describe_topics(request.clone())).await
            };
            let answer = self.client.call(operation, ask).await?;
            let topics = same_count(operation, answer.topics, names.len())?;
            described.extend(names.iter().zip(topics).map(|(name, topic)| {
                check(format_args!("topic {name}"), topic.error.as_ref())?;
                description(operation, topic)
            }));
        }
        Ok(described)
    }

    /// Adds partitions, so that the topic has `partition_count` of them.
    ///
    /// # Errors
    /// With `INVALID_PARTITIONS` unless that is more than it has, `UNKNOWN_TOPIC_OR_PARTITION`, or
    /// if no node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, the partitions may have been added.
    pub async fn create_partitions(&self, name: &str, partition_count: u32) -> Result<(), Error> {
        let operation = "add partitions";
        let partition_count = i32::try_from(partition_count).unwrap_or(i32::MAX);
        let ask = |node: Arc<Node>| async move {
            let growth = v1::PartitionGrowth { topic: name.to_owned(), partition_count };
            let request =
                v1::CreatePartitionsRequest { topics: vec![growth], validate_only: false };
            let answer = node.ask(operation, node.admin().create_partitions(request)).await?;
            only(operation, answer.topics)
        };
        let grown = self.client.call(operation, ask).await?;
        check(format_args!("topic {name}"), grown.error.as_ref())
    }
}

fn listing(operation: &'static str, topic: &v1::ListedTopic) -> Result<TopicListing, Error> {
    Ok(TopicListing {
        name: topic_name(operation, &topic.name)?,
        id: topic_id(operation, &topic.topic_id)?,
        partition_count: count(operation, topic.partition_count)?,
        replication_factor: count(operation, topic.replication_factor)?,
        internal: topic.internal,
    })
}

fn description(
    operation: &'static str,
    topic: v1::DescribedTopic,
) -> Result<TopicDescription, Error> {
    let partitions = topic.partitions.into_iter().map(|partition| {
        let log = || {
            let size = u64::try_from(partition.size_bytes)
                .map_err(|_negative| malformed(operation, "a negative size"))?;
            Ok::<_, Error>(LogDescription {
                start: Offset(partition.start_offset),
                end: Offset(partition.end_offset),
                size: ByteSize(size),
            })
        };
        Ok(PartitionDescription {
            partition: PartitionIndex(partition.partition),
            leader: (0 <= partition.leader).then_some(NodeId(partition.leader)),
            leader_epoch: Epoch(partition.leader_epoch),
            log: partition.error.is_none().then(log).transpose()?,
            replicas: partition.replicas.into_iter().map(NodeId).collect(),
            isr: partition.isr.into_iter().map(NodeId).collect(),
        })
    });
    Ok(TopicDescription {
        name: topic_name(operation, &topic.name)?,
        id: topic_id(operation, &topic.topic_id)?,
        internal: topic.internal,
        partitions: partitions.collect::<Result<_, Error>>()?,
    })
}
