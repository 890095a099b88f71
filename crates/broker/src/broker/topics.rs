//! Topics: orders go to the metadata, and its effects open and close partitions here.

use std::sync::Arc;

use rafka_core::{ErrorCode, PartitionIndex, TopicId, TopicName};
use rafka_metadata as metadata;
use rafka_metadata::topic_config::ConfigEntry;

use super::{Broker, Inner};
use crate::table::Topic;
use crate::topics::{Cluster, Create, Description, Extent, Listing, Node, PartitionDescription};
use crate::{Error, TopicRef};

impl Broker {
    /// Creates a topic and opens its partitions; with `validate_only`, checks whether it could be.
    ///
    /// # Errors
    /// If the name is taken, or a number or a configuration is not acceptable.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the topic may have been created.
    pub async fn create_topic(&self, order: Create) -> Result<Description, Error> {
        if order.name.is_internal() {
            let message = format!("topic {} is created by the broker alone", order.name);
            return Err(Error::new(ErrorCode::InvalidTopic, message));
        }
        self.inner.create_topic(order).await
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// If there is none, or it is one of the broker's own.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the topic may have been deleted.
    pub async fn delete_topic(&self, topic: TopicRef) -> Result<(), Error> {
        let topic = self.inner.find_topic(&topic)?;
        if topic.name.is_internal() {
            let message = format!("topic {} belongs to the broker and stays", topic.name);
            return Err(Error::new(ErrorCode::PolicyViolation, message));
        }
        let inner = Arc::clone(&self.inner);
        // A task of its own sees it through: if who asked went away between the two steps, a topic of
        // the same name would be read from the offsets of this one.
        let deleting = self.inner.tasks.spawn(async move {
            inner.metadata.delete_topic(topic.id).await.map_err(refused)?;
            inner.groups.forget_topic(topic.name.clone()).await;
            Ok(())
        });
        deleting.await.unwrap_or_else(|_ended| Err(ErrorCode::UnknownServer.into()))
    }

    /// Gives a topic more partitions, `total` in all.
    ///
    /// # Errors
    /// If it has as many already, or the topic does not exist.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the partitions may have been added.
    pub async fn create_partitions(
        &self,
        topic: TopicRef,
        total: u32,
        validate_only: bool,
    ) -> Result<(), Error> {
        let topic = self.inner.find_topic(&topic)?;
        if topic.name.is_internal() {
            let message = format!("the partitions of topic {} are fixed", topic.name);
            return Err(Error::new(ErrorCode::PolicyViolation, message));
        }
        let order = metadata::CreatePartitions { topic: topic.id, total, validate_only };
        self.inner.metadata.create_partitions(order).await.map(drop).map_err(refused)
    }

    /// Sets configuration keys of a topic, or with `None` gives them back to their defaults.
    ///
    /// # Errors
    /// If a key or value is not acceptable. Then nothing was changed.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the changes may have been made.
    pub async fn alter_configs(
        &self,
        topic: TopicRef,
        changes: Vec<(String, Option<String>)>,
        validate_only: bool,
    ) -> Result<(), Error> {
        let topic = self.inner.find_topic(&topic)?;
        let metadata = &self.inner.metadata;
        let changes = changes.into_iter().collect();
        metadata.alter_configs(topic.id, changes, validate_only).await.map(drop).map_err(refused)
    }

    /// Every configuration key of a topic with its value and where that comes from.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn describe_configs(&self, topic: &TopicRef) -> Result<Vec<ConfigEntry>, Error> {
        let topic = self.inner.find_topic(topic)?;
        Ok(self.inner.metadata.view().describe_config(&topic))
    }

    /// Every topic, by name.
    #[must_use]
    pub fn list_topics(&self) -> Vec<Listing> {
        let listing = |topic: &Arc<metadata::Topic>| Listing {
            name: topic.name.clone(),
            id: topic.id,
            partition_count: topic.partitions.len(),
            replication_factor: replication_factor(topic),
            internal: topic.name.is_internal(),
        };
        self.inner.metadata.view().topics().iter().map(listing).collect()
    }

    /// A topic in detail.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn describe_topic(&self, topic: &TopicRef) -> Result<Description, Error> {
        self.inner.find_topic(topic).map(|topic| self.inner.describe(&topic))
    }

    /// The name and the id of a topic.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn identify_topic(&self, topic: &TopicRef) -> Result<(TopicName, TopicId), Error> {
        self.inner.find_topic(topic).map(|topic| (topic.name.clone(), topic.id))
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn partition_count(&self, topic: &TopicRef) -> Result<u32, Error> {
        let count = self.inner.find_topic(topic)?.partitions.len();
        Ok(u32::try_from(count).expect("partitions are numbered with 31 bits"))
    }

    /// A topic in detail; one that does not exist is created if the settings allow that
    /// (`auto_create_topics_enable`).
    ///
    /// # Errors
    /// If it does not exist and is not created.
    ///
    /// # Cancel safety
    /// Dropped before it completes, the topic may have been created.
    pub async fn topic_or_create(&self, name: &TopicName) -> Result<Description, Error> {
        let named = TopicRef::Name(name.clone());
        let missing = match self.describe_topic(&named) {
            Err(error) if self.inner.settings.auto_create_topics_enable => error,
            known => return known,
        };
        if name.is_internal() {
            return Err(missing);
        }
        let order = Create {
            name: name.clone(),
            partitions: None,
            replication_factor: None,
            configs: Vec::new(),
            validate_only: false,
        };
        match self.inner.create_topic(order).await {
            // Somebody else was faster: that is what was wanted.
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {
                self.describe_topic(&named)
            }
            created => created,
        }
    }

    /// The cluster, and where its nodes have the listener of this name ([`crate::LISTENER_GRPC`]).
    #[must_use]
    pub fn describe_cluster(&self, listener: &str) -> Cluster {
        let view = self.inner.metadata.view();
        let nodes = view
            .members()
            .iter()
            .filter_map(|(id, member)| {
                let address = member.addresses.get(listener)?;
                Some(Node { id: *id, host: address.host.clone(), port: address.port })
            })
            .collect();
        Cluster { cluster_id: view.cluster_id(), nodes, controller: view.node() }
    }
}

impl Inner {
    pub(super) async fn create_topic(&self, order: Create) -> Result<Description, Error> {
        let Create { name, partitions, replication_factor, configs, validate_only } = order;
        let topic = self
            .metadata
            .create_topic(metadata::CreateTopic {
                name,
                partitions,
                replication_factor,
                configs: configs.into_iter().collect(),
                validate_only,
            })
            .await
            .map_err(refused)?;
        Ok(self.describe(&topic))
    }

    fn find_topic(&self, topic: &TopicRef) -> Result<Arc<metadata::Topic>, Error> {
        let view = self.metadata.view();
        let found = match topic {
            TopicRef::Name(name) => view.topic(name),
            TopicRef::Id(id) => view.topic_by_id(*id),
        };
        found.map(Arc::clone).ok_or_else(|| Error::unknown_topic(topic))
    }

    fn describe(&self, topic: &metadata::Topic) -> Description {
        let led = self.table.topic(&TopicRef::Id(topic.id)).ok();
        let partitions = topic
            .partitions
            .iter()
            .map(|(index, partition)| PartitionDescription {
                index,
                leader: partition.leader(),
                leader_epoch: partition.leader_epoch(),
                replicas: partition.replicas().iter().map(|replica| replica.node).collect(),
                isr: partition.isr().collect(),
                extent: led.as_ref().and_then(|led| self.extent(led, index)),
            })
            .collect();
        Description {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.name.is_internal(),
            replication_factor: replication_factor(topic),
            partitions,
        }
    }

    fn extent(&self, topic: &Topic, index: PartitionIndex) -> Option<Extent> {
        let partition = topic.partition(index).ok()?;
        let at = partition.position();
        let bytes = self.engine.size(partition.log).ok()?;
        let (log_start, high_watermark, log_end) = (at.log_start, at.high_watermark, at.log_end);
        Some(Extent { log_start, high_watermark, log_end, bytes })
    }
}

/// What a client is told when the metadata refuses an order.
pub(super) fn refused(error: metadata::ProposeError) -> Error {
    Error::new(error.code(), error.to_string())
}

fn replication_factor(topic: &metadata::Topic) -> usize {
    topic.partitions.get(PartitionIndex(0)).map_or(0, |partition| partition.replicas().len())
}
