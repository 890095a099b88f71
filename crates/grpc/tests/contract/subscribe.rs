//! Subscribe: sharing, committing, going on where the group stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use rafka_proto::v1::subscribe_response::Event;
use rafka_proto::v1::{
    Assigned, CommitOffsetsRequest, DescribeGroupsRequest, FetchOffsetsRequest, OffsetToCommit,
    SubscribeRequest, SubscribeResponse, SubscribedRecords,
};
use tonic::{Code, Status, Streaming};

use crate::support::{Node, soon};

fn request() -> SubscribeRequest {
    SubscribeRequest {
        group: "g".to_owned(),
        topics: vec!["orders".to_owned()],
        // EARLIEST
        offset_reset: 1,
        ..SubscribeRequest::default()
    }
}

struct Subscriber(Streaming<SubscribeResponse>);

impl Subscriber {
    async fn start(node: &Node, request: SubscribeRequest) -> Self {
        Self(node.log().await.subscribe(request).await.expect("it begins").into_inner())
    }

    async fn event(&mut self) -> Result<Event, Status> {
        let message = soon(self.0.message()).await?.expect("the stream goes on");
        Ok(message.event.expect("every message has one"))
    }

    async fn assigned(&mut self) -> Assigned {
        let event = self.event().await.expect("no status");
        let assigned = match event {
            Event::Assigned(assigned) => Some(assigned),
            Event::Records(_) => None,
        };
        assigned.expect("the assignment comes before records")
    }

    async fn records(&mut self) -> SubscribedRecords {
        let event = self.event().await.expect("no status");
        let records = match event {
            Event::Records(records) => Some(records),
            Event::Assigned(_) => None,
        };
        records.expect("nobody wanted a rebalance")
    }

    /// Reads until an assignment has this many partitions.
    async fn assigned_to(&mut self, count: usize) -> Assigned {
        loop {
            if let Event::Assigned(assigned) = self.event().await.expect("no status")
                && assigned.partitions.len() == count
            {
                return assigned;
            }
        }
    }

    async fn values(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        while values.len() < count {
            let records = self.records().await.records;
            let text = |value: bytes::Bytes| String::from_utf8_lossy(&value).into_owned();
            values.extend(records.into_iter().map(|record| text(record.value.unwrap_or_default())));
        }
        values
    }
}

async fn committed(node: &Node) -> Vec<i64> {
    let request = FetchOffsetsRequest { group: "g".to_owned(), ..FetchOffsetsRequest::default() };
    let fetched = node.groups().await.fetch_offsets(request).await.expect("answered");
    fetched.into_inner().partitions.iter().map(|partition| partition.offset).collect()
}

fn indexes(assigned: &Assigned) -> BTreeSet<i32> {
    assigned.partitions.iter().map(|partition| partition.partition).collect()
}

#[tokio::test]
async fn a_lone_subscriber_gets_everything_in_order() {
    let node = Node::with_topic("orders", 2).await;
    node.append("orders", 0, &["a", "b"]).await;
    let mut subscriber = Subscriber::start(&node, request()).await;
    let assigned = subscriber.assigned().await;
    assert_eq!(indexes(&assigned), [0, 1].into());
    assert!(!assigned.member_id.is_empty() && 1 <= assigned.generation);
    assert_eq!(subscriber.values(2).await, ["a", "b"]);
    node.append("orders", 1, &["c"]).await;
    assert_eq!(subscriber.values(1).await, ["c"]);
}

#[tokio::test]
async fn the_next_subscriber_goes_on_at_the_committed_offset() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["a", "b", "c"]).await;
    let mut subscriber = Subscriber::start(&node, request()).await;
    let assigned = subscriber.assigned().await;
    assert_eq!(subscriber.values(3).await, ["a", "b", "c"]);
    let done = OffsetToCommit {
        topic: "orders".to_owned(),
        partition: 0,
        offset: 2,
        ..OffsetToCommit::default()
    };
    let commit = CommitOffsetsRequest {
        group: "g".to_owned(),
        generation: assigned.generation,
        member_id: assigned.member_id,
        instance_id: None,
        offsets: vec![done],
    };
    let answer = node.groups().await.commit_offsets(commit).await.expect("answered").into_inner();
    assert_eq!((answer.error, &answer.partitions[0].error), (None, &None));
    drop(subscriber);
    let mut next = Subscriber::start(&node, request()).await;
    assert_eq!(next.assigned().await.partitions[0].offset, 2);
    assert_eq!(next.values(1).await, ["c"], "what was not committed comes again");
}

#[tokio::test]
async fn what_was_sent_is_committed_if_the_client_wants_it() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["a", "b"]).await;
    let wanted = SubscribeRequest { auto_commit_interval_ms: 20, ..request() };
    let mut subscriber = Subscriber::start(&node, wanted).await;
    subscriber.assigned().await;
    assert_eq!(subscriber.values(2).await, ["a", "b"]);
    soon(async {
        while committed(&node).await != [2] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_auto_commit_nothing_is_committed() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["a"]).await;
    let mut subscriber = Subscriber::start(&node, request()).await;
    subscriber.assigned().await;
    assert_eq!(subscriber.values(1).await, ["a"]);
    drop(subscriber);
    // The next assignment comes after the first member has left.
    let mut next = Subscriber::start(&node, request()).await;
    next.assigned().await;
    assert!(committed(&node).await.is_empty());
}

#[tokio::test]
async fn two_subscribers_share_and_one_takes_over_from_the_other() {
    let node = Node::with_topic("orders", 4).await;
    let mut first = Subscriber::start(&node, request()).await;
    assert_eq!(indexes(&first.assigned().await), [0, 1, 2, 3].into());
    let mut second = Subscriber::start(&node, request()).await;
    let (shared, other) = tokio::join!(first.assigned_to(2), second.assigned_to(2));
    assert_eq!(shared.generation, other.generation);
    assert!(indexes(&shared).is_disjoint(&indexes(&other)), "{shared:?} {other:?}");
    drop(second);
    assert_eq!(indexes(&first.assigned_to(4).await), [0, 1, 2, 3].into());
}

#[tokio::test]
async fn new_partitions_reach_the_subscriber() {
    let node = Node::with_topic("orders", 1).await;
    let mut subscriber = Subscriber::start(&node, request()).await;
    assert_eq!(subscriber.assigned().await.partitions.len(), 1);
    let topic = rafka_core::TopicName::new("orders").expect("valid");
    node.broker.create_partitions(topic.into(), 2, false).await.expect("it grows");
    subscriber.assigned_to(2).await;
    node.append("orders", 1, &["a"]).await;
    assert_eq!(subscriber.values(1).await, ["a"]);
}

#[tokio::test]
async fn the_policy_decides_where_a_new_group_begins() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["old"]).await;
    // LATEST
    let latest = SubscribeRequest { offset_reset: 0, ..request() };
    let mut subscriber = Subscriber::start(&node, latest).await;
    assert_eq!(subscriber.assigned().await.partitions[0].offset, 1);
    node.append("orders", 0, &["new"]).await;
    assert_eq!(subscriber.values(1).await, ["new"]);
    // NONE
    let none = SubscribeRequest { offset_reset: 2, group: "other".to_owned(), ..request() };
    let mut subscriber = Subscriber::start(&node, none).await;
    let status = subscriber.event().await.expect_err("there is nowhere to begin");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("offset_reset is NONE"), "{status}");
}

#[tokio::test]
async fn a_subscriber_that_leaves_leaves_the_group_at_once() {
    let node = Node::with_topic("orders", 1).await;
    let mut subscriber = Subscriber::start(&node, request()).await;
    subscriber.assigned().await;
    drop(subscriber);
    soon(async {
        loop {
            let request = DescribeGroupsRequest { groups: vec!["g".to_owned()] };
            let described = node.groups().await.describe_groups(request).await.expect("answered");
            // Well before the session timeout of 45 s.
            if described.into_inner().groups[0].members.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn malformed_subscriptions_are_refused_with_the_field() {
    let node = Node::with_topic("orders", 1).await;
    let check = async |wanted: SubscribeRequest, expected: &str| {
        let status = node.log().await.subscribe(wanted).await.expect_err(expected);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(expected), "{status}");
    };
    check(SubscribeRequest { topics: vec![], ..request() }, "topics has 0 items").await;
    check(SubscribeRequest { topics: vec!["a/b".to_owned()], ..request() }, "a/b").await;
    check(SubscribeRequest { group: String::new(), ..request() }, "group").await;
    check(SubscribeRequest { assignor: 7, ..request() }, "assignor 7 is unknown").await;
    check(SubscribeRequest { offset_reset: 7, ..request() }, "offset_reset 7 is unknown").await;
}

#[tokio::test]
async fn a_session_timeout_the_group_does_not_allow_ends_the_stream() {
    let node = Node::with_topic("orders", 1).await;
    let wanted = SubscribeRequest { session_timeout_ms: 1, ..request() };
    let mut subscriber = Subscriber::start(&node, wanted).await;
    let status = subscriber.event().await.expect_err("1 ms is too short");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}
