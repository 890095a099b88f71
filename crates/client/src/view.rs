//! Pure: what a client knows of the cluster: nodes, topics, and who leads what.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rafka_core::{Epoch, NodeId, PartitionIndex, Time, TopicId, TopicName};

use crate::address::Address;

/// A partition, named by its topic's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition within the topic.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: TopicName, partition: PartitionIndex) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a client knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its identity: another one after it was deleted and made again.
    pub id: TopicId,
    /// Its partitions, by index. At least one.
    pub partitions: Vec<Leadership>,
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("indexes of partitions are 32-bit")
    }

    /// Who leads a partition, as far as is known.
    #[must_use]
    pub fn leadership(&self, partition: PartitionIndex) -> Option<Leadership> {
        self.partitions.get(usize::try_from(partition.0).ok()?).copied()
    }
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; none at the moment.
    pub leader: Option<NodeId>,
    /// The epoch of its leadership.
    pub epoch: Epoch,
}

/// Topics beyond this are forgotten, those asked for longest ago first. 10 000 topics of a few
/// partitions are about 3 MB.
const TOPICS_MAX: usize = 10_000;

#[derive(Debug)]
struct Known {
    topic: Arc<Topic>,
    learnt_at: Time,
}

/// Nodes and topics as last heard.
#[derive(Debug, Default)]
pub(crate) struct View {
    nodes: BTreeMap<NodeId, Address>,
    topics: BTreeMap<TopicName, Known>,
}

impl View {
    /// The topic, and when it was learnt.
    pub(crate) fn topic(&self, name: &str) -> Option<(Arc<Topic>, Time)> {
        self.topics.get(name).map(|known| (Arc::clone(&known.topic), known.learnt_at))
    }

    pub(crate) fn learn_topic(&mut self, topic: Arc<Topic>, now: Time) {
        self.topics.insert(topic.name.clone(), Known { topic, learnt_at: now });
        if TOPICS_MAX < self.topics.len() {
            let oldest = self.topics.iter().min_by_key(|(_, known)| known.learnt_at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.topics.remove(&name);
            }
        }
    }

    pub(crate) fn forget_topic(&mut self, name: &TopicName) {
        self.topics.remove(name);
    }

    pub(crate) fn learn_nodes(&mut self, nodes: BTreeMap<NodeId, Address>) {
        self.nodes = nodes;
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.nodes.values()
    }

    /// Where the partition's leader is. `None` if topic, leader or its address are unknown.
    pub(crate) fn leader(&self, topic: &str, partition: PartitionIndex) -> Option<&Address> {
        let leadership = self.topics.get(topic)?.topic.leadership(partition)?;
        self.nodes.get(&leadership.leader?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, leaders: &[Option<i32>]) -> Arc<Topic> {
        let lead =
            |leader: &Option<i32>| Leadership { leader: leader.map(NodeId), epoch: Epoch(1) };
        Arc::new(Topic {
            name: TopicName::new(name).expect("a sound name"),
            id: TopicId::from_random(7),
            partitions: leaders.iter().map(lead).collect(),
        })
    }

    #[test]
    fn a_leader_is_found_only_when_all_of_the_way_is_known() {
        let mut view = View::default();
        view.learn_topic(topic("t", &[Some(1), None, Some(2)]), Time(1));
        let address = Address::parse("a:1").expect("sound");
        view.learn_nodes([(NodeId(1), address.clone())].into());
        let leader = |name, partition| view.leader(name, PartitionIndex(partition));
        assert_eq!(leader("t", 0), Some(&address));
        assert_eq!(leader("t", 1), None);
        assert_eq!(leader("t", 2), None);
        assert_eq!(leader("t", 3), None);
        assert_eq!(leader("t", -1), None);
        assert_eq!(leader("u", 0), None);
    }

    #[test]
    fn the_view_is_bounded_and_forgets_the_oldest_first() {
        let mut view = View::default();
        for index in 0..=TOPICS_MAX {
            let at = Time(u64::try_from(index).expect("small"));
            view.learn_topic(topic(&format!("t{index}"), &[None]), at);
        }
        assert_eq!(view.topics.len(), TOPICS_MAX);
        assert!(view.topic("t0").is_none());
        assert!(view.topic("t1").is_some());
    }
}
