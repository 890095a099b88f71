//! Pure: what a command changed, told to whoever acts on it.

use std::ops::Range;
use std::sync::Arc;

use rafka_core::{GroupId, NodeId, PartitionIndex, ProducerId, TopicId};

use crate::root::SessionEpoch;
use crate::topic::Topic;

/// Something that is agreed on from now on. Topics come as they are after the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The cluster exists.
    Founded,
    /// A node got its id.
    Joined(NodeId),
    /// A node began a session; what older ones say counts no more.
    SessionBegun {
        /// The node.
        node: NodeId,
        /// Its session.
        session: SessionEpoch,
    },
    /// A node may give out these producer ids.
    ProducerIds(Range<ProducerId>),
    /// Configs of nodes changed: what topics get that say nothing themselves may be another.
    NodeConfigsChanged,
    /// Configs of a consumer group changed.
    GroupConfigsChanged(GroupId),
    /// A topic was created.
    TopicCreated(Arc<Topic>),
    /// A topic was deleted. It comes as it was.
    TopicDeleted(Arc<Topic>),
    /// A node holds nothing any more of these topics, which were deleted.
    LogsDeleted {
        /// The node.
        node: NodeId,
        /// The topics.
        topics: Vec<TopicId>,
    },
    /// A topic's configs changed.
    TopicConfigured(Arc<Topic>),
    /// A topic has more partitions.
    PartitionsAdded {
        /// The topic.
        topic: Arc<Topic>,
        /// The first of the new ones.
        first: PartitionIndex,
    },
    /// Leaders, replicas or the in-sync set of partitions changed.
    PartitionsChanged {
        /// The topic.
        topic: Arc<Topic>,
        /// The partitions, ascending.
        partitions: Vec<PartitionIndex>,
    },
}
