//! What holds for a partition through restarts, lost disks and changed assignments.

use smallvec::smallvec;

use super::*;

fn replica(node: i32) -> Replica {
    Replica { node: NodeId(node), storage: StorageEpoch(0) }
}

fn partition(nodes: &[i32]) -> Partition {
    Partition::new(nodes.iter().copied().map(replica).collect()).expect("valid replicas")
}

fn assignment(partition: &Partition) -> Assignment {
    Assignment {
        replicas: partition.replicas.clone(),
        adding: partition.adding().collect(),
        removing: partition.removing().collect(),
        isr: partition.isr().collect(),
        elr: partition.elr().collect(),
        leader: partition.leader(),
    }
}

#[test]
fn a_partition_of_up_to_three_replicas_takes_56_bytes() {
    assert_eq!(size_of::<Partition>(), 56);
    assert!(!partition(&[0, 1, 2]).replicas.spilled());
}

#[test]
fn a_restart_ends_every_leadership_even_with_one_replica() {
    let mut alone = partition(&[0]);
    assert!(alone.begin_session(NodeId(0), StorageEpoch(0)));
    assert_eq!(alone.leader(), Some(NodeId(0)));
    assert_eq!(alone.leader_epoch(), Epoch(1));
    assert_eq!(alone.epoch(), PartitionEpoch(1));
}

#[test]
fn a_follower_s_restart_changes_nothing() {
    let mut partition = partition(&[0, 1]);
    let before = partition.clone();
    assert!(!partition.begin_session(NodeId(1), StorageEpoch(0)));
    assert!(!partition.begin_session(NodeId(7), StorageEpoch(3)));
    assert_eq!(partition, before);
}

#[test]
fn a_node_that_lost_data_leaves_the_sets_that_vouch_for_it() {
    let mut partition = partition(&[0, 1, 2]);
    assert!(partition.begin_session(NodeId(0), StorageEpoch(1)));
    assert_eq!(partition.isr().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
    assert_eq!(partition.leader(), Some(NodeId(1)));
    assert_eq!(partition.leader_epoch(), Epoch(1));
    assert!(partition.begin_session(NodeId(2), StorageEpoch(5)));
    assert_eq!(partition.isr().collect::<Vec<_>>(), [NodeId(1)]);
    assert_eq!(partition.leader_epoch(), Epoch(1), "the leader did not change");
}

#[test]
fn the_last_copy_lost_leaves_the_partition_without_a_leader() {
    let mut partition = partition(&[0]);
    assert!(partition.begin_session(NodeId(0), StorageEpoch(1)));
    assert_eq!((partition.leader(), partition.leader_epoch()), (None, Epoch(1)));
    assert!(!partition.begin_session(NodeId(0), StorageEpoch(1)), "and no restart brings it back");
    assert_eq!(partition.leader(), None);
}

#[test]
fn an_eligible_replica_leads_when_it_returns_and_nobody_else_does() {
    let mut partition = partition(&[0, 1]);
    let nobody = Assignment {
        isr: smallvec![],
        elr: smallvec![NodeId(1)],
        leader: None,
        ..assignment(&partition)
    };
    partition.assign(&nobody, false).expect("a leader may be missing");
    assert!(!partition.clone().begin_session(NodeId(7), StorageEpoch(0)));
    assert!(partition.begin_session(NodeId(1), StorageEpoch(0)));
    assert_eq!(partition.leader(), Some(NodeId(1)));
    assert_eq!(partition.isr().collect::<Vec<_>>(), [NodeId(1)]);
    assert_eq!(partition.elr().count(), 0);
    assert_eq!(partition.leader_epoch(), Epoch(2));
}

#[test]
fn a_new_leader_has_a_higher_epoch_and_a_shrunk_isr_the_same() {
    let mut partition = partition(&[0, 1, 2]);
    let shrunk = Assignment {
        isr: smallvec![NodeId(0), NodeId(2)],
        elr: smallvec![NodeId(1)],
        ..assignment(&partition)
    };
    partition.assign(&shrunk, false).expect("the leader is in sync");
    assert_eq!((partition.leader_epoch(), partition.epoch()), (Epoch(0), PartitionEpoch(1)));
    let moved = Assignment { leader: Some(NodeId(2)), ..assignment(&partition) };
    partition.assign(&moved, false).expect("the new leader is in sync");
    assert_eq!((partition.leader_epoch(), partition.epoch()), (Epoch(1), PartitionEpoch(2)));
}

#[test]
fn an_assignment_that_contradicts_itself_is_refused_and_changes_nothing() {
    let base = assignment(&partition(&[0, 1]));
    let check = |to: Assignment, expected: &'static str| {
        let mut partition = partition(&[0, 1]);
        assert_eq!(partition.assign(&to, false), Err(InvalidAssignment(expected)));
        assert_eq!(partition, self::partition(&[0, 1]));
    };
    check(Assignment { replicas: smallvec![], ..base.clone() }, "no replica");
    check(
        Assignment { replicas: smallvec![replica(0), replica(0)], ..base.clone() },
        "a node twice",
    );
    check(Assignment { isr: smallvec![NodeId(5)], ..base.clone() }, "a node that is no replica");
    check(
        Assignment { elr: smallvec![NodeId(1)], ..base.clone() },
        "a node both in sync and merely eligible",
    );
    check(Assignment { isr: smallvec![NodeId(1)], ..base.clone() }, "a leader that is not in sync");
    let newcomer: Replicas = smallvec![replica(0), replica(1), replica(2)];
    check(
        Assignment {
            replicas: newcomer,
            isr: smallvec![NodeId(2)],
            leader: Some(NodeId(2)),
            ..base.clone()
        },
        "a leader that may miss acked records",
    );
    let reborn = Replica { node: NodeId(1), storage: StorageEpoch(9) };
    check(
        Assignment { replicas: smallvec![replica(0), reborn], leader: Some(NodeId(1)), ..base },
        "a leader that may miss acked records",
    );
}

#[test]
fn an_unclean_election_must_be_asked_for() {
    let mut partition = partition(&[0, 1]);
    let alone = Assignment { isr: smallvec![NodeId(0)], ..assignment(&partition) };
    partition.assign(&alone, false).expect("the leader is in sync");
    let unclean =
        Assignment { isr: smallvec![NodeId(1)], leader: Some(NodeId(1)), ..assignment(&partition) };
    assert!(partition.assign(&unclean, false).is_err());
    partition.assign(&unclean, true).expect("asked for");
    assert_eq!(partition.leader_epoch(), Epoch(1));
}

#[test]
fn seventeen_replicas_are_too_many_and_sixteen_are_not() {
    let nodes = |count| (0..count).map(replica).collect::<Replicas>();
    assert!(Partition::new(nodes(16)).is_ok());
    assert_eq!(Partition::new(nodes(17)), Err(InvalidAssignment("more than 16 replicas")));
}
