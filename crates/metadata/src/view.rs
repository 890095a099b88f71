//! What is agreed on, as readers see it: a snapshot of all groups that costs nothing to hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rafka_core::{NodeId, TopicId, TopicName};
use uuid::Uuid;

use crate::group::ShardIndex;
use crate::root::{Foundation, Member};
use crate::state::State;
use crate::topic::Topic;
use crate::topic_config::{ConfigEntry, Defaults, TopicConfig, TopicDefaults};

/// What is agreed on at one moment. Cheap to clone; later changes make other views.
#[derive(Clone)]
pub struct View(Arc<Inner>);

impl fmt::Debug for View {
    /// Short: the whole state would be megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("version", &self.version())
            .field("topics", &self.topic_count())
            .finish_non_exhaustive()
    }
}

struct Inner {
    version: u64,
    node: NodeId,
    foundation: Foundation,
    state: State,
    settings: Arc<TopicDefaults>,
    defaults: Arc<Defaults>,
}

impl View {
    /// The view of `node`, which belongs to a founded cluster.
    pub(crate) fn new(
        version: u64,
        node: NodeId,
        foundation: Foundation,
        state: State,
        settings: Arc<TopicDefaults>,
    ) -> Self {
        let root = state.root();
        let defaults = Arc::new(Defaults::new(
            root.topic_defaults(Some(node)),
            root.topic_defaults(None),
            settings.layer().clone(),
        ));
        Self(Arc::new(Inner { version, node, foundation, state, settings, defaults }))
    }

    /// The view after more commands.
    pub(crate) fn next(&self, version: u64, state: State) -> Self {
        let Inner { node, foundation, settings, defaults, .. } = &*self.0;
        let scopes = [None, Some(*node)];
        let has_same_configs = scopes
            .iter()
            .all(|scope| state.root().configs(*scope) == self.0.state.root().configs(*scope));
        if !has_same_configs {
            return Self::new(version, *node, *foundation, state, Arc::clone(settings));
        }
        Self(Arc::new(Inner {
            version,
            node: *node,
            foundation: *foundation,
            state,
            settings: Arc::clone(settings),
            defaults: Arc::clone(defaults),
        }))
    }

    /// Rises with every command that changed something, over restarts as well.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The node whose view this is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> Uuid {
        self.0.foundation.cluster
    }

    /// The state of all groups.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// The members of the cluster, by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Arc<Member>> {
        self.0.state.root().members()
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Arc<Topic>> {
        self.0.state.topic(name)
    }

    /// The topic with this id. Looks into every shard.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.0.state.topic_by_id(id).map(|(_, topic)| topic)
    }

    /// Every topic, in the order of names.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> =
            self.0.state.shards().iter().flat_map(|shard| shard.topics().map(Arc::clone)).collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// The deleted topics whose logs this node may still hold, each with its shard.
    #[must_use]
    pub fn deleted(&self) -> Vec<(ShardIndex, TopicId)> {
        let shards = (0..).map(ShardIndex).zip(self.0.state.shards());
        shards
            .flat_map(|(index, shard)| shard.deleted(self.node()).map(move |topic| (index, topic)))
            .collect()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.0.state.shards().iter().map(|shard| shard.topic_count()).sum()
    }

    /// How many partitions there are, of all topics.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.0.state.shards().iter().map(|shard| shard.partition_count()).sum()
    }

    /// How many replicas the node holds.
    #[must_use]
    pub fn replica_count(&self, node: NodeId) -> u64 {
        self.0.state.shards().iter().map(|shard| shard.replica_count(node)).sum()
    }

    /// The shard that a topic of this name belongs to.
    #[must_use]
    pub fn shard_of(&self, name: &TopicName) -> ShardIndex {
        self.0.foundation.shards.shard_of(name)
    }

    /// The shards there are.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        self.0.foundation.shards.shards()
    }

    /// The topic's configuration, every key resolved.
    #[must_use]
    pub fn config(&self, topic: &Topic) -> Arc<TopicConfig> {
        self.0.defaults.resolve(&topic.configs)
    }

    /// Every key of the topic's configuration with where its value comes from.
    #[must_use]
    pub fn describe_config(&self, topic: &Topic) -> Vec<ConfigEntry> {
        self.0.defaults.describe(&topic.configs)
    }

    /// What topics get that say nothing themselves, with where that comes from.
    #[must_use]
    pub fn describe_defaults(&self) -> Vec<ConfigEntry> {
        self.0.defaults.describe(&BTreeMap::new())
    }
}
