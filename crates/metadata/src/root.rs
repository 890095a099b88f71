//! Pure: the root group: the cluster's identity, its members and their sessions, producer ids,
//! configs of nodes.

mod command;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rafka_core::{GroupId, NodeId, ProducerId};
use uuid::Uuid;

pub use command::Command;
pub(crate) use command::{decode_changes, decode_flag, encode_changes};

use crate::effect::Effect;
use crate::group::ShardCount;
use crate::partition::StorageEpoch;
use crate::refused::Refused;
use crate::topic_config::{Key, Layer};

/// How many producer ids a node gets at a time (Kafka's number): one commit for a thousand
/// producers, and a crash wastes less than a thousand of 2^63.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// How many groups may have configs of their own: they are kept until they are taken back, also when
/// the group is long gone.
pub const CONFIGURED_GROUPS_MAX: usize = 10_000;

/// One run of a node: a higher one fences what the lower ones still say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionEpoch(pub u64);

impl fmt::Display for SessionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a listener of a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An IPv6 address needs its brackets, or its end would look like a port.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Addresses by the name of the listener (`grpc`, `http`, ...).
pub type Addresses = BTreeMap<String, Address>;

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity, made at its first start and kept in its data directory.
    pub uuid: Uuid,
    /// Where it was reached when its session began.
    pub addresses: Addresses,
    /// Its current run.
    pub session: SessionEpoch,
    /// The current life of its data.
    pub storage: StorageEpoch,
}

/// What the founding fixed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foundation {
    /// The cluster's id.
    pub cluster: Uuid,
    /// How many shards the topics are divided into.
    pub shards: ShardCount,
}

/// The state of the root group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root {
    foundation: Option<Foundation>,
    members: BTreeMap<NodeId, Arc<Member>>,
    node_next: i32,
    producer_id_next: i64,
    cluster_configs: BTreeMap<String, String>,
    node_configs: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// Shared between versions of the state: there may be many, and they change seldom.
    group_configs: Arc<BTreeMap<GroupId, BTreeMap<String, String>>>,
}

impl Root {
    /// What the founding fixed. `None` before it.
    #[must_use]
    pub fn foundation(&self) -> Option<Foundation> {
        self.foundation
    }

    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Arc<Member>> {
        &self.members
    }

    /// The node with this identity.
    #[must_use]
    pub fn node_of(&self, uuid: Uuid) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member.uuid == uuid).map(|(node, _)| *node)
    }

    /// Configs that were set at run time for one node, or for all (`None`), as they were set.
    #[must_use]
    pub fn configs(&self, node: Option<NodeId>) -> Option<&BTreeMap<String, String>> {
        match node {
            None => Some(&self.cluster_configs),
            Some(node) => self.node_configs.get(&node),
        }
    }

    /// Configs that were set for a consumer group, as they were set. Most have none.
    #[must_use]
    pub fn group_configs(&self, group: &GroupId) -> Option<&BTreeMap<String, String>> {
        self.group_configs.get(group)
    }

    /// The groups that have [`Root::group_configs`], in the order of their ids.
    pub fn configured_groups(&self) -> impl Iterator<Item = &GroupId> {
        self.group_configs.keys()
    }

    /// The defaults of topic configs among [`Root::configs`].
    #[must_use]
    pub fn topic_defaults(&self, node: Option<NodeId>) -> Layer {
        let configs = self.configs(node).into_iter().flatten();
        configs
            .filter_map(|(name, value)| Some((Key::of_broker_name(name)?, value.clone())))
            .collect()
    }

    /// Does what the command says, or says why not and changes nothing.
    ///
    /// A command that changes nothing, because all is so already, has no effects.
    ///
    /// # Errors
    /// If the command contradicts the state.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Effect>, Refused> {
        if let Command::Found { cluster, shards } = command {
            return self.found(Foundation { cluster: *cluster, shards: *shards });
        }
        if self.foundation.is_none() {
            return Err(Refused::NotFounded);
        }
        match command {
            Command::Found { .. } => Err(Refused::AlreadyFounded),
            Command::Join { uuid } => self.join(*uuid),
            Command::BeginSession { node, addresses, is_intact } => {
                self.begin_session(*node, addresses, *is_intact)
            }
            Command::GrantProducerIds { node } => self.grant_producer_ids(*node),
            Command::AlterConfigs { node, changes } => self.alter_configs(*node, changes),
            Command::AlterGroupConfigs { group, changes } => {
                self.alter_group_configs(group, changes)
            }
        }
    }

    fn found(&mut self, foundation: Foundation) -> Result<Vec<Effect>, Refused> {
        match self.foundation {
            Some(known) if known == foundation => Ok(Vec::new()),
            Some(_) => Err(Refused::AlreadyFounded),
            None => {
                self.foundation = Some(foundation);
                Ok(vec![Effect::Founded])
            }
        }
    }

    fn join(&mut self, uuid: Uuid) -> Result<Vec<Effect>, Refused> {
        if self.node_of(uuid).is_some() {
            return Ok(Vec::new());
        }
        let node = NodeId(self.node_next);
        self.node_next = node.0.checked_add(1).ok_or(Refused::Exhausted("node ids"))?;
        let member = Member {
            uuid,
            addresses: Addresses::new(),
            session: SessionEpoch::default(),
            storage: StorageEpoch::default(),
        };
        self.members.insert(node, Arc::new(member));
        Ok(vec![Effect::Joined(node)])
    }

    fn begin_session(
        &mut self,
        node: NodeId,
        addresses: &Addresses,
        is_intact: bool,
    ) -> Result<Vec<Effect>, Refused> {
        let member = self.members.get_mut(&node).ok_or(Refused::UnknownNode(node))?;
        let session = member.session.0.checked_add(1).map(SessionEpoch);
        let session = session.ok_or(Refused::Exhausted("session epochs"))?;
        let storage = if is_intact {
            member.storage
        } else {
            let next = member.storage.0.checked_add(1).map(StorageEpoch);
            next.ok_or(Refused::Exhausted("storage epochs"))?
        };
        let uuid = member.uuid;
        *member = Arc::new(Member { uuid, addresses: addresses.clone(), session, storage });
        Ok(vec![Effect::SessionBegun { node, session }])
    }

    fn grant_producer_ids(&mut self, node: NodeId) -> Result<Vec<Effect>, Refused> {
        if !self.members.contains_key(&node) {
            return Err(Refused::UnknownNode(node));
        }
        let first = self.producer_id_next;
        let end = first.checked_add(PRODUCER_ID_BLOCK).ok_or(Refused::Exhausted("producer ids"))?;
        self.producer_id_next = end;
        Ok(vec![Effect::ProducerIds(Range { start: ProducerId(first), end: ProducerId(end) })])
    }

    fn alter_configs(
        &mut self,
        node: Option<NodeId>,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Effect>, Refused> {
        let has_changed = match node {
            None => alter(&mut self.cluster_configs, changes),
            Some(node) if !self.members.contains_key(&node) => {
                return Err(Refused::UnknownNode(node));
            }
            Some(node) => {
                let configs = self.node_configs.entry(node).or_default();
                let has_changed = alter(configs, changes);
                if configs.is_empty() {
                    self.node_configs.remove(&node);
                }
                has_changed
            }
        };
        Ok(if has_changed { vec![Effect::NodeConfigsChanged] } else { Vec::new() })
    }

    fn alter_group_configs(
        &mut self,
        group: &GroupId,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Effect>, Refused> {
        let mut configs = self.group_configs.get(group).cloned().unwrap_or_default();
        if !alter(&mut configs, changes) {
            return Ok(Vec::new());
        }
        let is_new = !self.group_configs.contains_key(group);
        if is_new && CONFIGURED_GROUPS_MAX <= self.group_configs.len() {
            return Err(Refused::TooManyConfiguredGroups);
        }
        let all = Arc::make_mut(&mut self.group_configs);
        if configs.is_empty() {
            all.remove(group);
        } else {
            all.insert(group.clone(), configs);
        }
        Ok(vec![Effect::GroupConfigsChanged(group.clone())])
    }
}

/// Sets or removes configs; whether that changed any.
pub(crate) fn alter(
    configs: &mut BTreeMap<String, String>,
    changes: &BTreeMap<String, Option<String>>,
) -> bool {
    let mut has_changed = false;
    for (name, value) in changes {
        has_changed |= match value {
            Some(value) => configs.insert(name.clone(), value.clone()).as_ref() != Some(value),
            None => configs.remove(name).is_some(),
        };
    }
    has_changed
}

#[cfg(test)]
mod tests;
