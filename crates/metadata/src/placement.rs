//! Pure: which nodes get the replicas of new partitions.

use rafka_core::NodeId;

use crate::partition::{Replica, Replicas, StorageEpoch};

/// Deals `count` partitions with `factor` replicas each round the nodes, from place `start` on.
///
/// Leaders go round evenly, and the followers of a node's leaders are spread over the others.
pub(crate) fn place(
    nodes: &[(NodeId, StorageEpoch)],
    count: usize,
    factor: usize,
    start: usize,
) -> Vec<Replicas> {
    let replica = |place: usize| {
        let (node, storage) = nodes[place % nodes.len()];
        Replica { node, storage }
    };
    let followers = nodes.len().saturating_sub(1).max(1);
    (0..count)
        .map(|partition| {
            let leader = start % nodes.len() + partition;
            // Each round shifts the followers by one, so that no pair of nodes shares everything.
            let shift = partition / nodes.len();
            let follower = |step| replica(leader + 1 + (shift + step) % followers);
            std::iter::once(replica(leader)).chain((0..factor - 1).map(follower)).collect()
        })
        .collect()
}

/// How many copies a topic gets that does not say: three, or as many as there are nodes.
pub(crate) fn factor_by_policy(nodes: usize) -> usize {
    nodes.min(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partition;

    fn nodes(count: i32) -> Vec<(NodeId, StorageEpoch)> {
        (0..count).map(|node| (NodeId(node), StorageEpoch(0))).collect()
    }

    #[test]
    fn every_partition_gets_distinct_nodes_and_leaders_go_round_evenly() {
        for count in 1..=7 {
            let nodes = nodes(count);
            for factor in 1..=nodes.len() {
                let placed = place(&nodes, 70, factor, 3);
                let mut leaders = vec![0_u32; nodes.len()];
                for replicas in placed {
                    assert_eq!(replicas.len(), factor);
                    let partition = Partition::new(replicas).expect("distinct nodes");
                    let leader = partition.leader().expect("a new partition is led").0;
                    leaders[usize::try_from(leader).expect("ids count from 0")] += 1;
                }
                let (least, most) = (leaders.iter().min(), leaders.iter().max());
                assert!(
                    most.zip(least).is_some_and(|(most, least)| most - least <= 1),
                    "{leaders:?}"
                );
            }
        }
    }

    #[test]
    fn the_followers_of_one_leader_are_spread() {
        let placed = place(&nodes(4), 12, 2, 0);
        let mut followers: Vec<_> =
            placed.iter().filter(|r| r[0].node.0 == 0).map(|r| r[1].node.0).collect();
        followers.sort_unstable();
        assert_eq!(followers, [1, 2, 3]);
    }
}
