//! Asking a node who the nodes are and who leads what.

use std::collections::BTreeMap;

use rafka_core::{Epoch, NodeId, TopicId, TopicName};
use rafka_proto::v1;
use tracing::warn;

use crate::address::Address;
use crate::client::Missing;
use crate::convert::check;
use crate::error::Error;
use crate::node::Node;
use crate::view::{Leadership, Topic};

/// Topics in one request; the node takes 10 000 but the answer names every partition.
const TOPICS_PER_CALL: usize = 1000;

pub(crate) struct Learnt {
    pub(crate) nodes: BTreeMap<NodeId, Address>,
    pub(crate) topics: Vec<(TopicName, Result<Topic, Error>)>,
}

pub(crate) async fn ask(
    node: &Node,
    topics: &[TopicName],
    missing: Missing,
) -> Result<Learnt, Error> {
    let request = v1::DescribeClusterRequest {};
    let cluster = node.ask("describe the cluster", node.admin().describe_cluster(request)).await?;
    let mut nodes: BTreeMap<_, _> = cluster.nodes.iter().filter_map(address_of).collect();
    // A node that advertises nothing of use is still reached where it has just answered.
    nodes.entry(NodeId(cluster.node_id)).or_insert_with(|| node.address().clone());
    let mut learnt = Learnt { nodes, topics: Vec::with_capacity(topics.len()) };
    for names in topics.chunks(TOPICS_PER_CALL) {
        let reference =
            |name: &TopicName| v1::TopicReference { name: name.to_string(), ..Default::default() };
        let request = v1::DescribeTopicsRequest {
            topics: names.iter().map(reference).collect(),
            allow_auto_create: missing == Missing::Create,
        };
        let answer = node.ask("describe topics", node.admin().describe_topics(request)).await?;
        if answer.topics.len() != names.len() {
            let what = format!("{} topics for {}", answer.topics.len(), names.len());
            return Err(Error::Malformed { operation: "describe topics", what });
        }
        for (name, described) in names.iter().zip(&answer.topics) {
            learnt.topics.push((name.clone(), topic(name, described)));
        }
    }
    Ok(learnt)
}

fn address_of(described: &v1::DescribedNode) -> Option<(NodeId, Address)> {
    match Address::parse(&described.address) {
        Ok(address) => Some((NodeId(described.node_id), address)),
        Err(error) => {
            warn!(node = described.node_id, %error, "a node advertises an address of no use");
            None
        }
    }
}

fn topic(name: &TopicName, described: &v1::DescribedTopic) -> Result<Topic, Error> {
    check(format_args!("topic {name}"), described.error.as_ref())?;
    let malformed = |what: &str| Error::Malformed {
        operation: "describe topics",
        what: format!("topic {name}: {what}"),
    };
    let id = described.topic_id.as_ref().try_into();
    let id = id.map_err(|_wrong_length| malformed("its id does not have 16 bytes"))?;
    if described.partitions.is_empty() {
        return Err(malformed("it has no partitions"));
    }
    let mut partitions = Vec::with_capacity(described.partitions.len());
    for (index, partition) in (0_i32..).zip(&described.partitions) {
        if partition.partition != index {
            return Err(malformed("its partitions are not in order"));
        }
        partitions.push(Leadership {
            leader: (0 <= partition.leader).then_some(NodeId(partition.leader)),
            epoch: Epoch(partition.leader_epoch),
        });
    }
    Ok(Topic { name: name.clone(), id: TopicId(uuid::Uuid::from_bytes(id)), partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error_not_a_view() {
        let name = TopicName::new("t").expect("sound");
        let partition =
            |partition, leader| v1::DescribedPartition { partition, leader, ..Default::default() };
        let good = v1::DescribedTopic {
            name: "t".to_owned(),
            topic_id: vec![7; 16].into(),
            partitions: vec![partition(0, 3), partition(1, -1)],
            ..Default::default()
        };
        let learnt = topic(&name, &good).expect("sound");
        let leaders: Vec<_> = learnt.partitions.iter().map(|known| known.leader).collect();
        assert_eq!(leaders, [Some(NodeId(3)), None]);

        let mut short_id = good.clone();
        short_id.topic_id = vec![7; 15].into();
        let mut empty = good.clone();
        empty.partitions.clear();
        let mut disordered = good.clone();
        disordered.partitions.swap(0, 1);
        for bad in [short_id, empty, disordered] {
            assert!(matches!(topic(&name, &bad), Err(Error::Malformed { .. })), "{bad:?}");
        }
        let missing = v1::Error { code: 3, ..Default::default() };
        let missing = v1::DescribedTopic { error: Some(missing), ..good };
        assert!(matches!(topic(&name, &missing), Err(Error::Refused { .. })));
    }
}
