//! Groups: membership, offsets, administration.

use std::time::Duration;

use bytes::Bytes;
use rafka_broker::group::{ConsumerHeartbeat, JOIN_EPOCH};
use rafka_core::consumer_protocol::{Assignment, TopicPartitions};
use rafka_core::{GroupId, PartitionIndex};
use rafka_proto::v1::admin_client::AdminClient;
use rafka_proto::v1::groups_client::GroupsClient;
use rafka_proto::v1::transactions_client::TransactionsClient;
use rafka_proto::v1::{
    CommitOffsetsInTransactionRequest, CommitOffsetsRequest, DeleteGroupsRequest,
    DeleteOffsetsRequest, DescribeGroupsRequest, EndTransactionRequest, FetchOffsetsRequest,
    GroupProtocol, GroupState, GroupType, HeartbeatRequest, InitProducerIdRequest,
    InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeavingMember,
    ListGroupsRequest, MemberAssignment, OffsetToCommit, SyncGroupRequest, TopicPartition,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::support::{Node, code, soon};

fn joining(member_id: &str) -> JoinGroupRequest {
    let protocol = GroupProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"m") };
    JoinGroupRequest {
        group: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.to_owned(),
        protocols: vec![protocol],
        client_id: "test".to_owned(),
        ..JoinGroupRequest::default()
    }
}

/// Joins as the only member.
async fn join(groups: &mut GroupsClient<Channel>) -> JoinGroupResponse {
    let refused = soon(groups.join_group(joining(""))).await.expect("answered").into_inner();
    assert_eq!(code(refused.error.as_ref()), 79, "the id comes first");
    assert!(!refused.member_id.is_empty());
    let joined = soon(groups.join_group(joining(&refused.member_id))).await.expect("answered");
    let joined = joined.into_inner();
    assert_eq!(joined.error, None);
    joined
}

fn commit(generation: i32, member_id: &str, offsets: &[(&str, i32, i64)]) -> CommitOffsetsRequest {
    let offset = |(topic, partition, offset): &(&str, i32, i64)| OffsetToCommit {
        topic: (*topic).to_owned(),
        partition: *partition,
        offset: *offset,
        leader_epoch: None,
        metadata: "note".to_owned(),
    };
    CommitOffsetsRequest {
        group: "g".to_owned(),
        generation,
        member_id: member_id.to_owned(),
        instance_id: None,
        offsets: offsets.iter().map(offset).collect(),
    }
}

async fn committed(groups: &mut GroupsClient<Channel>, asked: &[(&str, i32)]) -> Vec<i64> {
    let partition = |(topic, partition): &(&str, i32)| TopicPartition {
        topic: (*topic).to_owned(),
        partition: *partition,
    };
    let partitions = asked.iter().map(partition).collect();
    let request =
        FetchOffsetsRequest { group: "g".to_owned(), partitions, ..FetchOffsetsRequest::default() };
    let fetched = soon(groups.fetch_offsets(request)).await.expect("answered").into_inner();
    assert_eq!(fetched.error, None);
    fetched.partitions.iter().map(|partition| partition.offset).collect()
}

#[tokio::test]
async fn a_member_joins_syncs_beats_and_leaves() {
    let node = Node::with_topic("orders", 1).await;
    let mut groups = node.groups().await;
    let joined = join(&mut groups).await;
    assert_eq!((joined.leader.as_str(), joined.members.len()), (joined.member_id.as_str(), 1));
    assert_eq!(joined.members[0].metadata, Bytes::from_static(b"m"));
    let share = Bytes::from_static(b"share");
    let sync = SyncGroupRequest {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![MemberAssignment {
            member_id: joined.member_id.clone(),
            assignment: share.clone(),
        }],
        ..SyncGroupRequest::default()
    };
    let synced = soon(groups.sync_group(sync)).await.expect("answered").into_inner();
    assert_eq!((synced.error, synced.assignment), (None, share));
    let mut beat = async |generation, member: &str| {
        let request = HeartbeatRequest {
            group: "g".to_owned(),
            generation,
            member_id: member.to_owned(),
            instance_id: None,
        };
        let beaten = soon(groups.heartbeat(request)).await.expect("answered");
        code(beaten.into_inner().error.as_ref())
    };
    assert_eq!(beat(joined.generation, &joined.member_id).await, 0);
    assert_eq!(beat(joined.generation + 1, &joined.member_id).await, 22);
    assert_eq!(beat(joined.generation, "nobody").await, 25);
    let leaving = |id: &str| LeavingMember { member_id: id.to_owned(), instance_id: None };
    let request = LeaveGroupRequest {
        group: "g".to_owned(),
        members: vec![leaving("nobody"), leaving(&joined.member_id)],
    };
    let left = node.groups().await.leave_group(request).await.expect("answered").into_inner();
    let codes: Vec<i32> = left.members.iter().map(|m| code(m.error.as_ref())).collect();
    assert_eq!((left.error, codes), (None, vec![25, 0]));
}

#[tokio::test]
async fn committed_offsets_are_found_again_until_deleted() {
    let node = Node::with_topic("orders", 2).await;
    let mut groups = node.groups().await;
    let request =
        commit(0, "", &[("orders", 0, 5), ("orders", 7, 1), ("a/b", 0, 1), ("orders", 1, -2)]);
    let answer = soon(groups.commit_offsets(request)).await.expect("answered").into_inner();
    let codes: Vec<i32> = answer.partitions.iter().map(|p| code(p.error.as_ref())).collect();
    assert_eq!((answer.error, codes), (None, vec![0, 3, 17, 42]));
    assert_eq!(committed(&mut groups, &[("orders", 1), ("orders", 0)]).await, [-1, 5]);
    assert_eq!(committed(&mut groups, &[]).await, [5]);

    let partitions = vec![TopicPartition { topic: "orders".to_owned(), partition: 0 }];
    let request = DeleteOffsetsRequest { group: "g".to_owned(), partitions };
    let deleted = soon(groups.delete_offsets(request)).await.expect("answered").into_inner();
    assert_eq!((deleted.error, code(deleted.partitions[0].error.as_ref())), (None, 0));
    assert_eq!(committed(&mut groups, &[("orders", 0)]).await, [-1]);
}

#[tokio::test]
async fn a_commit_of_nothing_is_fine() {
    let node = Node::with_topic("orders", 1).await;
    let mut groups = node.groups().await;
    let answer = soon(groups.commit_offsets(commit(-1, "", &[]))).await.expect("answered");
    assert!(answer.get_ref().error.is_none() && answer.get_ref().partitions.is_empty());
}

#[tokio::test]
async fn who_is_outside_cannot_commit_for_a_group_with_members() {
    let node = Node::with_topic("orders", 1).await;
    let mut groups = node.groups().await;
    let joined = join(&mut groups).await;
    let mut attempt = async |generation, member: &str| {
        let request = commit(generation, member, &[("orders", 0, 1)]);
        let answer = soon(groups.commit_offsets(request)).await.expect("answered").into_inner();
        let of_item = answer.partitions.first().and_then(|p| p.error.as_ref());
        code(answer.error.as_ref().or(of_item))
    };
    assert_eq!(attempt(-1, "").await, 25);
    assert_eq!(attempt(joined.generation, "nobody").await, 25);
    assert_eq!(attempt(joined.generation + 1, &joined.member_id).await, 22);
}

#[tokio::test]
async fn groups_are_described_with_owners_and_lag() {
    let node = Node::with_topic("orders", 2).await;
    node.append("orders", 0, &["a", "b", "c"]).await;
    let mut groups = node.groups().await;
    let joined = join(&mut groups).await;
    let partitions = vec![TopicPartitions {
        topic: "orders".to_owned(),
        partitions: vec![PartitionIndex(0), PartitionIndex(1)],
    }];
    let assignment = Assignment { partitions, user_data: None }.encode().expect("short");
    let sync = SyncGroupRequest {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![MemberAssignment { member_id: joined.member_id.clone(), assignment }],
        ..SyncGroupRequest::default()
    };
    soon(groups.sync_group(sync)).await.expect("answered");
    let request = commit(joined.generation, &joined.member_id, &[("orders", 0, 1)]);
    soon(groups.commit_offsets(request)).await.expect("answered");

    let request = DescribeGroupsRequest { groups: vec!["g".to_owned(), "none".to_owned()] };
    let described = soon(groups.describe_groups(request)).await.expect("answered").into_inner();
    let group = &described.groups[0];
    assert_eq!((group.error.as_ref(), group.state()), (None, GroupState::Stable));
    assert_eq!(
        (group.members[0].client_id.as_str(), group.members[0].assignment.len()),
        ("test", 2)
    );
    assert_eq!(group.members[0].client_host, "/127.0.0.1");
    let offsets: Vec<(i32, i64, i64, i64, bool)> = group
        .offsets
        .iter()
        .map(|o| (o.partition, o.offset, o.high_watermark, o.lag, o.member_id == joined.member_id))
        .collect();
    assert_eq!(offsets, [(0, 1, 3, 2, true), (1, -1, 0, 0, true)]);
    assert_eq!(code(described.groups[1].error.as_ref()), 69);
}

#[tokio::test]
async fn next_generation_groups_are_shown_with_their_type_and_what_members_own() {
    let node = Node::with_topic("orders", 2).await;
    let beat = ConsumerHeartbeat {
        group: GroupId::new("next").expect("the id is valid"),
        member: "m".to_owned(),
        member_epoch: JOIN_EPOCH,
        instance: None,
        rack: None,
        rebalance_timeout: Some(Duration::from_secs(30)),
        topics: Some(vec!["orders".to_owned()]),
        regex: None,
        assignor: None,
        owned: Some(Vec::new()),
        client_id: "client".to_owned(),
        client_host: "host".to_owned(),
    };
    let joined = node.broker.groups().consumer_heartbeat(beat).await.expect("it may join");
    assert_eq!(joined.member_epoch, 1);
    let mut groups = node.groups().await;
    for (wanted, expected) in [(GroupType::Consumer, 1), (GroupType::Classic, 0)] {
        let request = ListGroupsRequest { states: Vec::new(), types: vec![wanted.into()] };
        let listed = groups.list_groups(request).await.expect("answered").into_inner().groups;
        assert_eq!(listed.len(), expected, "{wanted:?}");
    }
    let request = DescribeGroupsRequest { groups: vec!["next".to_owned()] };
    let described = groups.describe_groups(request).await.expect("answered").into_inner();
    let group = &described.groups[0];
    assert_eq!((group.r#type(), group.state()), (GroupType::Consumer, GroupState::Stable));
    assert_eq!((&*group.protocol, group.generation), ("uniform", 1));
    let owned: Vec<(&str, i32)> =
        group.members[0].assignment.iter().map(|it| (&*it.topic, it.partition)).collect();
    assert_eq!(owned, [("orders", 0), ("orders", 1)]);
}

#[tokio::test]
async fn groups_are_listed_by_state_and_deleted_when_empty() {
    let node = Node::with_topic("orders", 1).await;
    let mut groups = node.groups().await;
    soon(groups.commit_offsets(commit(-1, "", &[("orders", 0, 1)]))).await.expect("answered");
    let list = async |states: &[GroupState]| {
        let states = states.iter().map(|state| i32::from(*state)).collect();
        let request = ListGroupsRequest { states, types: Vec::new() };
        let listed = node.groups().await.list_groups(request).await;
        let listed = listed.expect("answered").into_inner().groups;
        listed.into_iter().map(|group| group.group).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]).await, ["g"]);
    assert_eq!(list(&[GroupState::Empty]).await, ["g"]);
    assert!(list(&[GroupState::Stable, GroupState::Dead]).await.is_empty());
    for (states, types) in [(vec![9], Vec::new()), (Vec::new(), vec![3])] {
        let request = ListGroupsRequest { states, types };
        let bad = groups.list_groups(request).await.expect_err("there is no such thing");
        assert_eq!(bad.code(), Code::InvalidArgument);
    }

    let joined = join(&mut groups).await;
    let mut delete = async || {
        let named = vec!["g".to_owned(), "none".to_owned(), String::new()];
        let request = DeleteGroupsRequest { groups: named };
        let deleted = soon(groups.delete_groups(request)).await.expect("answered").into_inner();
        deleted.groups.iter().map(|g| code(g.error.as_ref())).collect::<Vec<i32>>()
    };
    assert_eq!(delete().await, [68, 69, 24], "it has a member");
    let leaving = LeavingMember { member_id: joined.member_id, instance_id: None };
    let request = LeaveGroupRequest { group: "g".to_owned(), members: vec![leaving] };
    node.groups().await.leave_group(request).await.expect("answered");
    assert_eq!(delete().await, [0, 69, 24]);
    assert!(list(&[]).await.is_empty());
}

/// Takes the transactional id `copier` over.
async fn copier(node: &Node) -> InitProducerIdResponse {
    let init = InitProducerIdRequest {
        transactional_id: Some("copier".to_owned()),
        transaction_timeout_ms: 60_000,
    };
    let given = soon(AdminClient::new(node.channel().await).init_producer_id(init)).await;
    let given = given.expect("answered").into_inner();
    assert_eq!(given.error, None);
    given
}

#[tokio::test]
async fn offsets_in_a_transaction_are_taken_of_current_members_and_producers_alone() {
    let node = Node::with_topic("t", 1).await;
    let mut transactions = TransactionsClient::new(node.channel().await);
    let mut groups = node.groups().await;
    let joined = join(&mut groups).await;
    let sync = SyncGroupRequest {
        group: "g".to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        ..SyncGroupRequest::default()
    };
    soon(groups.sync_group(sync)).await.expect("answered");
    let given = copier(&node).await;
    let order =
        |epoch: i32, commit: Option<CommitOffsetsRequest>| CommitOffsetsInTransactionRequest {
            transactional_id: "copier".to_owned(),
            producer_id: given.producer_id,
            producer_epoch: epoch,
            commit,
        };
    let missing = soon(transactions.commit_offsets(order(given.producer_epoch, None))).await;
    assert_eq!(missing.map_err(|status| status.code()).err(), Some(Code::InvalidArgument));
    let (id, generation) = (joined.member_id.as_str(), joined.generation);
    let t = [("t", 0, 5)];
    let epoch = given.producer_epoch;
    for (epoch, commit, expected) in [
        (epoch, commit(generation, id, &t), 0),
        (epoch, commit(-1, "", &t), 0),
        (epoch, commit(generation + 1, id, &t), 22),
        (epoch, commit(generation, "nobody", &t), 25),
        (epoch + 1, commit(generation, id, &t), 47),
        (99_999, commit(generation, id, &t), 42),
        (-1, commit(generation, id, &t), 47),
    ] {
        let answer = soon(transactions.commit_offsets(order(epoch, Some(commit.clone())))).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(code(answer.error.as_ref()), expected, "{epoch} {commit:?}");
        let all_done = answer.partitions.iter().all(|result| result.error.is_none());
        assert!(all_done, "{answer:?}");
    }
    let mut fetched = async |require_stable: bool| {
        let partitions = vec![TopicPartition { topic: "t".to_owned(), partition: 0 }];
        let fetch = FetchOffsetsRequest { group: "g".to_owned(), partitions, require_stable };
        let found = soon(groups.fetch_offsets(fetch)).await.expect("answered").into_inner();
        (code(found.partitions[0].error.as_ref()), found.partitions[0].offset)
    };
    assert_eq!(fetched(false).await, (0, -1));
    assert_eq!(fetched(true).await, (88, -1));
    let end = EndTransactionRequest {
        transactional_id: "copier".to_owned(),
        producer_id: given.producer_id,
        producer_epoch: epoch,
        commit: true,
    };
    let ended = soon(transactions.end_transaction(end)).await.expect("answered").into_inner();
    assert_eq!(ended.error, None);
    let settling = async {
        loop {
            let found = fetched(true).await;
            if found.0 != 88 {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(soon(settling).await, (0, 5));
}
