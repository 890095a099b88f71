//! Administration of a real node, which keeps its logs in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use rafka_client::admin::{ConfigChange, Isolation, NewTopic, OffsetCommit, OffsetSpec};
use rafka_client::{Client, Error, Missing, Settings, TopicPartition};
use rafka_core::{ErrorCode, Offset, PartitionIndex, SystemClock, TopicName};

struct Node {
    client: Client,
    _gateway: rafka_grpc::Handle,
}

impl Node {
    async fn start() -> Self {
        let broker = rafka_broker::testing::start(rafka_broker::Settings::default()).await;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = rafka_grpc::Settings { listen, ..rafka_grpc::Settings::default() };
        let clock = Arc::new(SystemClock::new());
        let gateway = rafka_grpc::start(&settings, broker, clock).await.expect("port 0 is free");
        let client = Client::new(Settings::new(&gateway.local_addr().to_string()));
        Self { client: client.expect("sound settings"), _gateway: gateway }
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("a sound name")
}

fn partition(name: &str, index: i32) -> TopicPartition {
    TopicPartition::new(topic(name), PartitionIndex(index))
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Option<ErrorCode> {
    outcome.expect_err("it is refused").code()
}

#[tokio::test]
async fn a_topic_lives_from_creation_to_deletion() {
    let node = Node::start().await;
    let admin = node.client.admin();
    let order = NewTopic::new("orders").partitions(3).config("retention.ms", "86400000");
    let checked = admin.create_topic(&order.clone().validate_only()).await.expect("valid");
    assert_eq!(checked.id, None);
    let created = admin.create_topic(&order).await.expect("new and valid");
    assert_eq!((created.partition_count, created.replication_factor), (3, 1));
    assert_eq!(code(admin.create_topic(&order).await), Some(ErrorCode::TopicAlreadyExists));
    let bad = NewTopic::new("bad").config("retention.ms", "soon");
    assert_eq!(code(admin.create_topic(&bad).await), Some(ErrorCode::InvalidConfig));

    let listed = admin.list_topics(false).await.expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), Some(listed[0].id)), ("orders", created.id));

    let names = [topic("orders"), topic("missing")];
    let described = admin.describe_topics(&names).await.expect("an answer");
    let orders = described[0].as_ref().expect("it exists");
    assert_eq!(orders.partitions.len(), 3);
    let log = orders.partitions[0].log.expect("the leader knows");
    assert_eq!((log.start, log.end), (Offset(0), Offset(0)));
    let missing = described[1].as_ref().expect_err("it does not exist");
    assert_eq!(missing.code(), Some(ErrorCode::UnknownTopicOrPartition));

    admin.create_partitions("orders", 5).await.expect("more than before");
    assert_eq!(
        code(admin.create_partitions("orders", 2).await),
        Some(ErrorCode::InvalidPartitions)
    );

    admin.delete_topic("orders").await.expect("it exists");
    assert_eq!(code(admin.delete_topic("orders").await), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn settings_of_a_topic_are_set_and_reset() {
    let node = Node::start().await;
    let admin = node.client.admin();
    admin.create_topic(&NewTopic::new("t")).await.expect("new");
    let value = async |name: &str| {
        let configs = admin.topic_configs("t").await.expect("it exists");
        let config = configs.into_iter().find(|config| config.name == name).expect("known");
        (config.value, config.is_default)
    };
    let before = value("retention.ms").await;
    assert!(before.1);
    let set = [ConfigChange::Set("retention.ms".to_owned(), "1000".to_owned())];
    admin.alter_topic_configs("t", &set).await.expect("valid");
    assert_eq!(value("retention.ms").await, ("1000".to_owned(), false));
    let reset = [ConfigChange::Reset("retention.ms".to_owned())];
    admin.alter_topic_configs("t", &reset).await.expect("valid");
    assert_eq!(value("retention.ms").await, before);
    let bad = [ConfigChange::Set("retention.msec".to_owned(), "1".to_owned())];
    assert_eq!(code(admin.alter_topic_configs("t", &bad).await), Some(ErrorCode::InvalidConfig));
}

#[tokio::test]
async fn offsets_are_found_and_groups_reset_from_outside() {
    let node = Node::start().await;
    let admin = node.client.admin();
    admin.create_topic(&NewTopic::new("t").partitions(2)).await.expect("new");
    let questions = [
        (partition("t", 0), OffsetSpec::Earliest),
        (partition("t", 1), OffsetSpec::Latest),
        (partition("t", 9), OffsetSpec::Latest),
        (partition("u", 0), OffsetSpec::Latest),
    ];
    let found = admin.list_offsets(&questions, Isolation::ReadUncommitted).await;
    assert_eq!(found[0].as_ref().expect("it exists").offset, Some(Offset(0)));
    assert_eq!(found[1].as_ref().expect("it exists").offset, Some(Offset(0)));
    let beyond = found[2].as_ref().expect_err("two partitions");
    assert!(beyond.to_string().contains("has 2 partitions"), "{beyond}");
    let missing = found[3].as_ref().expect_err("no such topic");
    assert_eq!(missing.code(), Some(ErrorCode::UnknownTopicOrPartition));

    let commit = OffsetCommit {
        partition: partition("t", 0),
        offset: Offset(0),
        metadata: "by hand".to_owned(),
    };
    admin.commit_offsets("g", std::slice::from_ref(&commit)).await.expect("no members");
    let committed = admin.committed_offsets("g", &[]).await.expect("an answer");
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[0].offset, Some(Offset(0)));
    assert_eq!(committed[0].metadata, "by hand");
    let listed = admin.list_groups().await.expect("a list");
    assert_eq!(listed.iter().map(|group| group.group.as_str()).collect::<Vec<_>>(), ["g"]);
    let described = admin.describe_groups(&["g"]).await.expect("an answer");
    let group = described[0].as_ref().expect("it exists");
    assert_eq!(group.offsets[0].lag, Some(0));
    let forgotten = admin.delete_offsets("g", &[partition("t", 0)]).await.expect("an answer");
    assert!(forgotten[0].is_ok(), "{forgotten:?}");
    let rest = admin.committed_offsets("g", &[partition("t", 0)]).await.expect("an answer");
    assert_eq!(rest[0].offset, None);
}

#[tokio::test]
async fn leaders_are_learnt_once_and_missing_topics_are_told() {
    let node = Node::start().await;
    let (client, name) = (&node.client, topic("t"));
    assert!(client.leader(&name, PartitionIndex(0)).is_none());
    let missing = client.topic(&name, Missing::Refuse).await;
    assert_eq!(code(missing), Some(ErrorCode::UnknownTopicOrPartition));
    client.admin().create_topic(&NewTopic::new("t").partitions(2)).await.expect("new");
    let learnt = client.topic(&name, Missing::Refuse).await.expect("it exists");
    assert_eq!(learnt.partition_count(), 2);
    assert!(client.leader(&name, PartitionIndex(1)).is_some());
    assert!(!client.is_stale("t"));
    client.admin().delete_topic("t").await.expect("it exists");
    client.refresh(std::slice::from_ref(&name)).await.expect_err("it is gone");
    assert!(client.known_topic("t").is_none());
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let node = Node::start().await;
    let admin = node.client.admin();
    let mut given = Vec::new();
    for _ in 0..5 {
        given.push(admin.init_producer_id().await.expect("an id").0.0);
    }
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
}
