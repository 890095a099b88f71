//! Topics that are deleted and created again, and commits of nothing.

use std::time::Duration;

use rafka_core::ErrorCode;
use rafka_kafka_wire::{
    create_topics, delete_topics, fetch, metadata, offset_commit, offset_fetch, produce,
};
use uuid::Uuid;

use crate::support::{Client, LIMIT, Node, ask, batch, body, produce as producing};

async fn create(client: &mut Client) -> Uuid {
    let topic = create_topics::CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: -1,
        ..create_topics::CreatableTopic::default()
    };
    let request = create_topics::Request { topics: vec![topic], ..Default::default() };
    ask!(client, 7, request => create_topics::Response<'_>, |r| {
        assert_eq!(r.topics[0].error_code, 0);
        r.topics[0].topic_id
    })
}

async fn delete(client: &mut Client, topic: delete_topics::DeleteTopicState<'_>) -> i16 {
    let request =
        delete_topics::Request { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    ask!(client, 6, request => delete_topics::Response<'_>, |r| r.responses[0].error_code)
}

/// The code and the first offset.
async fn append(client: &mut Client, topic_id: Uuid) -> (i16, i64) {
    let mut request = producing(-1, 0, batch(&["a", "b"]).to_bytes());
    request.topic_data[0].name = "".into();
    request.topic_data[0].topic_id = topic_id;
    ask!(client, 13, request => produce::Response<'_>, |r| {
        let answer = &r.responses[0].partition_responses[0];
        (answer.error_code, answer.base_offset)
    })
}

/// The code, the end of the log, and whether there are records.
async fn read(client: &mut Client, topic_id: Uuid) -> (i16, i64, bool) {
    let partition = fetch::Partition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = fetch::Topic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = fetch::Request {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    ask!(client, 13, request => fetch::Response<'_>, |r| {
        let data = &r.responses[0].partitions[0];
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        (data.error_code, data.high_watermark, has_records)
    })
}

async fn describe(client: &mut Client, topic_id: Uuid) -> i16 {
    let topic = metadata::RequestTopic { topic_id, name: None };
    let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    ask!(client, 12, request => metadata::Response<'_>, |r| r.topics[0].error_code)
}

/// The codes of a commit of these offsets for the first partitions of topics.
async fn commit(client: &mut Client, version: i16, offsets: &[(&'static str, i64)]) -> Vec<i16> {
    let topic = |(name, committed_offset): &(&'static str, i64)| offset_commit::RequestTopic {
        name: (*name).into(),
        partitions: vec![offset_commit::RequestPartition {
            committed_offset: *committed_offset,
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = offset_commit::Request {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: offsets.iter().map(topic).collect(),
        ..Default::default()
    };
    ask!(client, version, request => offset_commit::Response<'_>, |r| {
        r.topics.iter().map(|topic| topic.partitions[0].error_code).collect()
    })
}

async fn committed(client: &mut Client, topic: &'static str) -> i64 {
    let topic = offset_fetch::RequestTopic { name: topic.into(), partition_indexes: vec![0] };
    let request = offset_fetch::Request {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let frame = client.ask(7, &request).await.expect("answered");
    let response: offset_fetch::Response<'_> = body(7, &frame);
    let found = &response.topics[0].partitions[0];
    assert_eq!((response.error_code, found.error_code), (0, 0));
    found.committed_offset
}

#[tokio::test]
async fn a_commit_of_nothing_is_fine_and_changes_nothing() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for version in 2..=9 {
        let offset = i64::from(version);
        assert_eq!(commit(&mut client, version, &[]).await, []);
        assert_eq!(commit(&mut client, version, &[("orders", offset)]).await, [0]);
        assert_eq!(commit(&mut client, version, &[]).await, []);
        assert_eq!(committed(&mut client, "orders").await, offset, "version {version}");
    }
}

#[tokio::test]
async fn a_topic_that_is_created_again_is_another_one_and_the_old_id_is_refused() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let unknown = ErrorCode::UnknownTopicId.code();
    let first = create(&mut client).await;
    assert_eq!(append(&mut client, first).await, (0, 0));
    assert_eq!(read(&mut client, first).await, (0, 2, true));
    assert_eq!(commit(&mut client, 9, &[("t", 2)]).await, [0]);
    let by_id = || delete_topics::DeleteTopicState { topic_id: first, name: None };
    assert_eq!(delete(&mut client, by_id()).await, 0);
    assert_eq!(read(&mut client, first).await.0, unknown, "it is gone");
    let second = create(&mut client).await;
    assert_ne!(second, first);
    assert_eq!(read(&mut client, second).await, (0, 0, false));
    assert_eq!(read(&mut client, first).await, (unknown, -1, false));
    assert_eq!(append(&mut client, first).await, (unknown, -1));
    assert_eq!(describe(&mut client, first).await, unknown);
    assert_eq!(describe(&mut client, second).await, 0);
    assert_eq!(delete(&mut client, by_id()).await, unknown, "who meant the old one");
    assert_eq!(append(&mut client, second).await, (0, 0), "it begins at its own beginning");
    assert_eq!(read(&mut client, second).await, (0, 2, true));
    // The end of the offsets is written behind that of the topic.
    let forgotten = async {
        while committed(&mut client, "t").await != -1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, forgotten).await.expect("offsets go with their topic");
}
