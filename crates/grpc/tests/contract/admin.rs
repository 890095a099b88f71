//! Admin: topics, configurations, records, the cluster.

use rafka_proto::v1::{
    AlterConfigsRequest, ConfigAlteration, ConfigEntry, ConfigResource, ConfigResourceType,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeTopicsRequest, InitProducerIdRequest,
    ListTopicsRequest, NewTopic, PartitionGrowth, RecordsToDelete, TopicReference,
};
use tonic::Code;

use crate::support::{Node, code, fetch, fetch_all, settings, values};

fn new_topic(name: &str, partition_count: i32, configs: &[(&str, &str)]) -> NewTopic {
    let config = |(name, value): &(&str, &str)| ConfigEntry {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let configs = configs.iter().map(config).collect();
    NewTopic { name: name.to_owned(), partition_count, replication_factor: 0, configs }
}

fn named(name: &str) -> TopicReference {
    TopicReference { name: name.to_owned(), ..TopicReference::default() }
}

fn topic_resource(name: &str) -> ConfigResource {
    ConfigResource { r#type: ConfigResourceType::Topic.into(), name: name.to_owned() }
}

#[tokio::test]
async fn topics_live_from_create_to_delete() {
    let node = Node::start().await;
    let mut admin = node.admin().await;
    let topics = vec![
        new_topic("orders", 3, &[("retention.ms", "1000")]),
        new_topic("orders", 3, &[]),
        new_topic("a/b", 1, &[]),
        new_topic("bad", -1, &[]),
        new_topic("odd", 1, &[("retention.ms", "soon")]),
        new_topic("", 1, &[]),
    ];
    let check = CreateTopicsRequest { topics: topics[..1].to_vec(), validate_only: true };
    let created = admin.create_topics(check).await.expect("answered").into_inner().topics;
    assert_eq!((code(created[0].error.as_ref()), created[0].topic_id.len()), (0, 0));
    let request = CreateTopicsRequest { topics, validate_only: false };
    let created = admin.create_topics(request).await.expect("answered").into_inner().topics;
    let codes: Vec<i32> = created.iter().map(|topic| code(topic.error.as_ref())).collect();
    assert_eq!(codes, [0, 36, 17, 37, 40, 17]);
    assert_eq!((created[0].topic_id.len(), created[0].partition_count), (16, 3));

    let by_id = TopicReference { topic_id: created[0].topic_id.clone(), ..named("") };
    let request = DescribeTopicsRequest {
        topics: vec![named("orders"), by_id.clone(), named("missing")],
        allow_auto_create: false,
    };
    let described = admin.describe_topics(request).await.expect("answered").into_inner().topics;
    assert_eq!(described[0], described[1]);
    assert_eq!(described[0].name, "orders");
    let partitions: Vec<(i32, i32, i64)> = described[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition, partition.leader, partition.end_offset))
        .collect();
    assert_eq!(partitions.iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(partitions.iter().all(|p| 0 <= p.1 && p.2 == 0), "{partitions:?}");
    assert_eq!(code(described[2].error.as_ref()), 3);

    let request = DeleteTopicsRequest { topics: vec![by_id, named("orders")] };
    let deleted = admin.delete_topics(request).await.expect("answered").into_inner().topics;
    let codes: Vec<i32> = deleted.iter().map(|topic| code(topic.error.as_ref())).collect();
    assert_eq!(codes, [0, 3]);
    let listed = admin.list_topics(ListTopicsRequest::default()).await.expect("answered");
    assert!(listed.into_inner().topics.is_empty());
}

#[tokio::test]
async fn topics_are_listed_in_pages_by_name() {
    let node = Node::start().await;
    for name in ["c", "a", "d", "b"] {
        rafka_broker::testing::create_topic(&node.broker, name, 1, &[]).await;
    }
    let mut admin = node.admin().await;
    let mut page = async |after: &str, limit| {
        let request = ListTopicsRequest { after: after.to_owned(), limit, include_internal: false };
        let listed = admin.list_topics(request).await.expect("answered").into_inner();
        let names: Vec<String> = listed.topics.into_iter().map(|topic| topic.name).collect();
        (names.join(" "), listed.more)
    };
    assert_eq!(page("", 0).await, ("a b c d".to_owned(), false));
    assert_eq!(page("", 3).await, ("a b c".to_owned(), true));
    assert_eq!(page("c", 3).await, ("d".to_owned(), false));
    assert_eq!(page("b", 2).await, ("c d".to_owned(), false));
}

#[tokio::test]
async fn a_described_topic_is_created_only_if_the_client_and_the_node_want_it() {
    for (node_allows, client_allows, expected) in
        [(true, true, 0), (true, false, 3), (false, true, 3)]
    {
        let broker = rafka_broker::Settings {
            auto_create_topics_enable: node_allows,
            ..rafka_broker::Settings::default()
        };
        let node = Node::with(settings(), broker).await;
        let request =
            DescribeTopicsRequest { topics: vec![named("new")], allow_auto_create: client_allows };
        let described = node.admin().await.describe_topics(request).await.expect("answered");
        let found = code(described.into_inner().topics[0].error.as_ref());
        assert_eq!(found, expected, "node: {node_allows}, client: {client_allows}");
    }
}

#[tokio::test]
async fn configurations_are_changed_key_by_key() {
    let node = Node::with_topic("orders", 1).await;
    let mut admin = node.admin().await;
    let mut value = async |name: &str| {
        let request = DescribeConfigsRequest {
            resources: vec![topic_resource("orders")],
            names: vec![name.to_owned()],
        };
        let described = admin.describe_configs(request).await.expect("answered").into_inner();
        let config = described.resources[0].configs[0].clone();
        assert!(!config.documentation.is_empty());
        (config.value, config.is_default)
    };
    let default = value("retention.ms").await;
    assert!(default.1);
    let mut altering = node.admin().await;
    let mut alter = async |set: &[(&str, &str)], delete: &[&str], validate_only| {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let alteration = ConfigAlteration {
            resource: Some(topic_resource("orders")),
            set: set.iter().map(entry).collect(),
            delete: delete.iter().map(|name| (*name).to_owned()).collect(),
        };
        let request = AlterConfigsRequest { alterations: vec![alteration], validate_only };
        let altered = altering.alter_configs(request).await.expect("answered").into_inner();
        code(altered.resources[0].error.as_ref())
    };
    assert_eq!(alter(&[("retention.ms", "5000")], &[], true).await, 0);
    assert_eq!(value("retention.ms").await, default, "only checked");
    assert_eq!(alter(&[("retention.ms", "5000")], &[], false).await, 0);
    assert_eq!(value("retention.ms").await, ("5000".to_owned(), false));
    assert_eq!(alter(&[("retention.ms", "7000"), ("retenton.ms", "1")], &[], false).await, 40);
    assert_eq!(value("retention.ms").await, ("5000".to_owned(), false), "all or nothing");
    assert_eq!(alter(&[], &["retention.ms"], false).await, 0);
    assert_eq!(value("retention.ms").await, default);
}

#[tokio::test]
async fn a_resource_that_is_no_topic_is_refused() {
    let node = Node::start().await;
    let request = DescribeConfigsRequest {
        resources: vec![ConfigResource::default(), topic_resource("missing")],
        names: Vec::new(),
    };
    let described = node.admin().await.describe_configs(request).await.expect("answered");
    let described = described.into_inner().resources;
    let codes: Vec<i32> = described.iter().map(|r| code(r.error.as_ref())).collect();
    assert_eq!(codes, [42, 3]);
}

#[tokio::test]
async fn topics_grow_and_never_shrink() {
    let node = Node::with_topic("orders", 2).await;
    let mut admin = node.admin().await;
    let mut grow = async |partition_count, validate_only| {
        let topics = vec![PartitionGrowth { topic: "orders".to_owned(), partition_count }];
        let request = CreatePartitionsRequest { topics, validate_only };
        let grown = admin.create_partitions(request).await.expect("answered").into_inner();
        code(grown.topics[0].error.as_ref())
    };
    assert_eq!(grow(4, true).await, 0);
    assert_eq!(grow(4, false).await, 0, "the check before changed nothing");
    assert_eq!(grow(4, false).await, 37);
    assert_eq!(grow(1, false).await, 37);
    assert_eq!(grow(-1, false).await, 37);
    node.append("orders", 3, &["in the last one"]).await;
}

#[tokio::test]
async fn deleted_records_are_gone() {
    let node = Node::with_topic("orders", 1).await;
    node.append("orders", 0, &["a", "b", "c"]).await;
    let mut admin = node.admin().await;
    let topics = ["compact", "compact,delete"]
        .map(|policy| new_topic(&policy.replace(',', "-"), 1, &[("cleanup.policy", policy)]));
    let request = CreateTopicsRequest { topics: topics.into(), ..CreateTopicsRequest::default() };
    admin.create_topics(request).await.expect("answered");
    let mut delete = async |topic: &str, partition, before_offset| {
        let partitions =
            vec![RecordsToDelete { topic: topic.to_owned(), partition, before_offset }];
        let request = DeleteRecordsRequest { partitions };
        let deleted = admin.delete_records(request).await.expect("answered").into_inner();
        (code(deleted.partitions[0].error.as_ref()), deleted.partitions[0].log_start_offset)
    };
    assert_eq!(delete("orders", 0, 4).await, (1, -1));
    assert_eq!(delete("orders", 0, 2).await, (0, 2));
    let gone = fetch_all(&node, fetch("orders", &[0])).await;
    assert_eq!(code(gone[0].partitions[0].error.as_ref()), 1, "offset 0 is out of range");
    assert_eq!(delete("orders", 0, -1).await, (0, 3));
    assert_eq!(delete("orders", 7, -1).await, (3, -1));
    assert_eq!(delete("compact", 0, -1).await, (44, -1), "the last record of a key stays");
    assert_eq!(delete("compact-delete", 0, -1).await, (0, 0));
    assert!(values(&gone).is_empty());
}

#[tokio::test]
async fn the_cluster_names_itself_and_gives_every_producer_another_id() {
    let node = Node::start().await;
    let mut admin = node.admin().await;
    let cluster = admin.describe_cluster(DescribeClusterRequest {}).await.expect("answered");
    let cluster = cluster.into_inner();
    assert!(!cluster.cluster_id.is_empty());
    assert_eq!(cluster.version, env!("CARGO_PKG_VERSION"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = admin.init_producer_id(InitProducerIdRequest::default()).await.expect("answered");
        ids.push(id.into_inner().producer_id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn empty_and_endless_lists_are_refused_with_the_field() {
    let node = Node::start().await;
    let mut admin = node.admin().await;
    let status = admin.create_topics(CreateTopicsRequest::default()).await.expect_err("empty");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "topics is empty: name at least one")
    );
    let topics = vec![named("t"); 10_001];
    let request = DescribeTopicsRequest { topics, allow_auto_create: false };
    let status = admin.describe_topics(request).await.expect_err("too many");
    assert_eq!(status.message(), "topics has 10001 items: at most 10000 are allowed");
}
