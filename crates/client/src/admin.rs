//! Administration: topics, configurations, records, groups, the cluster.

mod configs;
mod groups;
mod offsets;
mod topics;

use rafka_core::{NodeId, ProducerEpoch, ProducerId};
use rafka_proto::v1;

pub use configs::{ConfigChange, ConfigDescription};
pub use groups::{
    CommittedOffset, GroupDescription, GroupListing, GroupOffset, GroupState, GroupType,
    MemberDescription, OffsetCommit,
};
pub use offsets::{FoundOffset, Isolation, OffsetSpec};
pub use topics::{
    CreatedTopic, LogDescription, NewTopic, PartitionDescription, TopicDescription, TopicListing,
};

use crate::client::Client;
use crate::error::Error;

/// The calls of administration. Cheap to clone.
///
/// Every call tries again as the client's settings say. A change that was sent when the connection
/// broke may have taken effect: the next attempt then reports, say, that the topic exists.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// The nodes, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The same on every node.
    pub cluster_id: String,
    /// The node that answered.
    pub answered_by: NodeId,
    /// The version of its software.
    pub version: String,
    /// Every node with the address that it advertises for gRPC.
    pub nodes: Vec<(NodeId, String)>,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Who the nodes are.
    ///
    /// # Errors
    /// If no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let operation = "describe the cluster";
        let ask = |node: std::sync::Arc<crate::Node>| async move {
            node.ask(operation, node.admin().describe_cluster(v1::DescribeClusterRequest {})).await
        };
        let answer = self.client.call(operation, ask).await?;
        Ok(ClusterDescription {
            cluster_id: answer.cluster_id,
            answered_by: NodeId(answer.node_id),
            version: answer.version,
            nodes: answer
                .nodes
                .into_iter()
                .map(|node| (NodeId(node.node_id), node.address))
                .collect(),
        })
    }

    /// A new id for an idempotent producer, and its first epoch.
    ///
    /// # Errors
    /// If no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe; an id may be wasted.
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        let request = v1::InitProducerIdRequest::default();
        self.client.transactions().init("the producer id", request).await
    }
}
