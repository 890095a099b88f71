//! Next-generation groups (KIP-848): a member's life in every version.

use rafka_core::ErrorCode;
use rafka_kafka_wire::consumer_group_heartbeat::{
    Request as Beat, Response as Told, TopicPartitions,
};
use rafka_kafka_wire::{
    consumer_group_describe, describe_groups, list_groups, offset_commit, offset_fetch,
};

use crate::support::{Client, Node, body};

struct Member {
    client: Client,
    version: i16,
    group: String,
    id: String,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

impl Member {
    async fn new(node: &Node, version: i16, group: &str, id: &str) -> Self {
        let (group, id) = (group.to_owned(), id.to_owned());
        let client = node.connect().await;
        Self { client, version, group, id, epoch: 0, owned: Vec::new() }
    }

    fn joining(&self) -> Beat<'static> {
        Beat {
            group_id: self.group.clone().into(),
            member_id: self.id.clone().into(),
            rebalance_timeout_ms: 10_000,
            subscribed_topic_names: Some(vec!["orders".into()]),
            topic_partitions: Some(Vec::new()),
            ..Beat::default()
        }
    }

    /// Sends it; takes in what the answer says. Its code, and how many partitions are owned then.
    async fn send(&mut self, beat: Beat<'_>) -> (i16, usize) {
        let frame = self.client.ask(self.version, &beat).await.expect("answered");
        let told: Told<'_> = body(self.version, &frame);
        if told.error_code == 0 {
            assert!(beat.member_epoch < 0 || 0 < told.heartbeat_interval_ms);
            self.epoch = told.member_epoch;
            self.id = told.member_id.map(Into::into).unwrap_or_default();
            if let Some(assignment) = told.assignment {
                self.owned = assignment.topic_partitions;
            }
        } else {
            assert!(told.error_message.is_some_and(|message| !message.is_empty()));
        }
        (told.error_code, self.owned.iter().map(|topic| topic.partitions.len()).sum())
    }

    async fn join(&mut self) -> (i16, usize) {
        self.send(self.joining()).await
    }

    /// Shows life and what is owned.
    async fn beat(&mut self) -> (i16, usize) {
        let beat = Beat {
            group_id: self.group.clone().into(),
            member_id: self.id.clone().into(),
            member_epoch: self.epoch,
            topic_partitions: Some(self.owned.clone()),
            ..Beat::default()
        };
        self.send(beat).await
    }

    async fn leave(&mut self) -> (i16, usize) {
        let beat = Beat {
            group_id: self.group.clone().into(),
            member_id: self.id.clone().into(),
            member_epoch: -1,
            ..Beat::default()
        };
        self.send(beat).await
    }

    async fn commit(&mut self, epoch: i32) -> i16 {
        let request = offset_commit::Request {
            group_id: self.group.clone().into(),
            generation_id_or_member_epoch: epoch,
            member_id: self.id.clone().into(),
            topics: vec![offset_commit::RequestTopic {
                name: "orders".into(),
                partitions: vec![offset_commit::RequestPartition {
                    committed_offset: 7,
                    ..offset_commit::RequestPartition::default()
                }],
                ..offset_commit::RequestTopic::default()
            }],
            ..offset_commit::Request::default()
        };
        let frame = self.client.ask(9, &request).await.expect("answered");
        let response: offset_commit::Response<'_> = body(9, &frame);
        response.topics[0].partitions[0].error_code
    }

    async fn committed(&mut self, epoch: i32) -> (i16, Vec<i64>) {
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::RequestGroup {
                group_id: self.group.clone().into(),
                member_id: Some(self.id.clone().into()),
                member_epoch: epoch,
                topics: None,
            }],
            ..offset_fetch::Request::default()
        };
        let frame = self.client.ask(9, &request).await.expect("answered");
        let response: offset_fetch::Response<'_> = body(9, &frame);
        let group = &response.groups[0];
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        (group.error_code, partitions.map(|partition| partition.committed_offset).collect())
    }

    async fn describe(&mut self, group: &str) -> (i16, String, Vec<(String, usize, i8)>) {
        let request = consumer_group_describe::Request {
            group_ids: vec![group.to_owned().into()],
            ..consumer_group_describe::Request::default()
        };
        let frame = self.client.ask(self.version, &request).await.expect("answered");
        let response: consumer_group_describe::Response<'_> = body(self.version, &frame);
        let group = &response.groups[0];
        let member = |member: &consumer_group_describe::Member<'_>| {
            assert_eq!(member.client_id, "test");
            assert_eq!(member.subscribed_topic_names, ["orders"]);
            assert_eq!(member.assignment, member.target_assignment);
            let topics = &member.assignment.topic_partitions;
            assert!(topics.iter().all(|topic| topic.topic_name == "orders"));
            let owned = topics.iter().map(|topic| topic.partitions.len()).sum();
            (member.member_id.to_string(), owned, member.member_type)
        };
        let members = group.members.iter().map(member).collect();
        (group.error_code, group.group_state.to_string(), members)
    }
}

#[tokio::test]
async fn a_member_lives_in_every_version() {
    let node = Node::start().await;
    for version in 0..=1 {
        let group = format!("g{version}");
        let mut member = Member::new(&node, version, &group, "").await;
        if version == 1 {
            assert_eq!(member.join().await, (ErrorCode::InvalidRequest.code(), 0), "no id");
            member.id = "own".to_owned();
        }
        assert_eq!(member.join().await, (0, 2));
        assert!(!member.id.is_empty());
        assert_eq!((member.beat().await, member.epoch), ((0, 2), 1));
        let consumer = if version == 0 { -1 } else { 1 };
        let all = vec![(member.id.clone(), 2, consumer)];
        assert_eq!(member.describe(&group).await, (0, "Stable".to_owned(), all));
        let missing = (ErrorCode::GroupIdNotFound.code(), "Dead".to_owned(), vec![]);
        assert_eq!(member.describe("nobody's").await, missing);

        assert_eq!(member.commit(1).await, 0);
        assert_eq!(member.commit(5).await, ErrorCode::StaleMemberEpoch.code());
        assert_eq!(member.committed(1).await, (0, vec![7]));
        assert_eq!(member.committed(5).await, (ErrorCode::StaleMemberEpoch.code(), vec![]));

        // Others see it as what it is.
        let request = describe_groups::Request {
            groups: vec![group.clone().into()],
            ..describe_groups::Request::default()
        };
        let frame = member.client.ask(6, &request).await.expect("answered");
        let response: describe_groups::Response<'_> = body(6, &frame);
        assert_eq!(response.groups[0].error_code, ErrorCode::GroupIdNotFound.code());
        let request = list_groups::Request {
            types_filter: vec!["consumer".into()],
            states_filter: vec!["Stable".into()],
        };
        let frame = member.client.ask(5, &request).await.expect("answered");
        let response: list_groups::Response<'_> = body(5, &frame);
        let listed: Vec<_> = response.groups.iter().map(|group| group.group_id.as_ref()).collect();
        assert_eq!(listed, [group.as_str()]);

        assert_eq!(member.leave().await.0, 0);
        assert_eq!(member.beat().await.0, ErrorCode::UnknownMemberId.code());
    }
}

#[tokio::test]
async fn partitions_move_once_they_are_let_go() {
    let node = Node::start().await;
    let mut first = Member::new(&node, 1, "shared", "first").await;
    let mut second = Member::new(&node, 1, "shared", "second").await;
    assert_eq!(first.join().await, (0, 2));
    assert_eq!(second.join().await, (0, 0), "the first one owns them all");
    assert_eq!(first.beat().await, (0, 1), "it shall let go of one");
    assert_eq!(second.beat().await, (0, 0), "it has not done so yet");
    assert_eq!(first.beat().await, (0, 1));
    assert_eq!(second.beat().await, (0, 1));
    assert_eq!((first.epoch, second.epoch), (2, 2));
    assert_ne!(first.owned, second.owned);
    let stale = Beat { member_epoch: 1, ..second.joining() };
    assert_eq!(second.send(stale).await.0, ErrorCode::FencedMemberEpoch.code());
    assert_eq!(second.leave().await.0, 0);
    first.beat().await;
    assert_eq!(first.beat().await, (0, 2));
}

#[tokio::test]
async fn heartbeats_that_break_a_rule_are_refused_with_kafkas_code() {
    let node = Node::start().await;
    let mut member = Member::new(&node, 1, "rules", "me").await;
    let joining = member.joining();
    let check = [
        (Beat { group_id: "".into(), ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { rebalance_timeout_ms: -1, ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { topic_partitions: None, ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { subscribed_topic_names: None, ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { member_epoch: -3, ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { member_epoch: -2, ..joining.clone() }, ErrorCode::InvalidRequest),
        (Beat { member_epoch: 4, ..joining.clone() }, ErrorCode::GroupIdNotFound),
        (
            Beat { server_assignor: Some("mine".into()), ..joining.clone() },
            ErrorCode::UnsupportedAssignor,
        ),
        (
            Beat { subscribed_topic_regex: Some("a(".into()), ..joining.clone() },
            ErrorCode::InvalidRegularExpression,
        ),
    ];
    for (beat, code) in check {
        assert_eq!(member.send(beat.clone()).await.0, code.code(), "{beat:?}");
    }
    let regex = Beat {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("ord.*".into()),
        server_assignor: Some("range".into()),
        ..joining
    };
    assert_eq!(member.send(regex).await, (0, 2));
}
