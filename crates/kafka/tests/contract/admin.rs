//! Administration: a topic's life in every version of every request, and what is refused.

use std::ops::RangeInclusive;

use rafka_kafka_wire::{
    create_partitions, create_topics, delete_records, delete_topics, describe_cluster,
    describe_configs, incremental_alter_configs, metadata,
};

use crate::support::{Client, Node, ask, batch, produce};

/// The version of a request that is nearest to this one and served.
fn near(version: i16, served: RangeInclusive<i16>) -> i16 {
    version.clamp(*served.start(), *served.end())
}

fn topic(name: &str, num_partitions: i32) -> create_topics::CreatableTopic<'static> {
    create_topics::CreatableTopic {
        name: name.to_owned().into(),
        num_partitions,
        replication_factor: -1,
        ..create_topics::CreatableTopic::default()
    }
}

async fn create(
    client: &mut Client,
    version: i16,
    request: &create_topics::Request<'_>,
) -> Vec<i16> {
    ask!(client, near(version, 2..=7), *request => create_topics::Response<'_>, |r| r
        .topics.iter().map(|topic| topic.error_code).collect())
}

async fn delete(client: &mut Client, version: i16, name: &str) -> i16 {
    let version = near(version, 1..=6);
    let state = delete_topics::DeleteTopicState {
        name: Some(name.to_owned().into()),
        ..delete_topics::DeleteTopicState::default()
    };
    let request = delete_topics::Request {
        topics: if version < 6 { Vec::new() } else { vec![state] },
        topic_names: if version < 6 { vec![name.to_owned().into()] } else { Vec::new() },
        timeout_ms: 1000,
    };
    ask!(client, version, request => delete_topics::Response<'_>, |r| r.responses[0].error_code)
}

async fn grow(client: &mut Client, version: i16, name: &str, count: i32) -> i16 {
    let topic = create_partitions::Topic {
        name: name.to_owned().into(),
        count,
        ..create_partitions::Topic::default()
    };
    let request =
        create_partitions::Request { topics: vec![topic], ..create_partitions::Request::default() };
    let version = near(version, 0..=3);
    ask!(client, version, request => create_partitions::Response<'_>, |r| r.results[0].error_code)
}

async fn config(
    client: &mut Client,
    version: i16,
    name: &str,
    key: &str,
) -> (i16, Vec<(String, i8)>) {
    let resource = describe_configs::Resource {
        resource_type: 2,
        resource_name: name.to_owned().into(),
        configuration_keys: Some(vec![key.to_owned().into()]),
    };
    let request = describe_configs::Request {
        resources: vec![resource],
        include_synonyms: true,
        ..Default::default()
    };
    let version = near(version, 1..=4);
    ask!(client, version, request => describe_configs::Response<'_>, |r| {
        let result = &r.results[0];
        let shown = |config: &describe_configs::ResourceResult<'_>| {
            let own = usize::from(config.config_source == 1);
            assert_eq!(config.synonyms.len(), own + 1, "and what holds where it is not set");
            assert_eq!(config.synonyms[own].source, 5);
            (config.value.as_deref().unwrap_or_default().to_owned(), config.config_source)
        };
        (result.error_code, result.configs.iter().map(shown).collect())
    })
}

async fn alter(
    client: &mut Client,
    version: i16,
    config_operation: i8,
    name: &str,
    value: &str,
) -> i16 {
    let config = incremental_alter_configs::AlterableConfig {
        name: name.to_owned().into(),
        config_operation,
        value: Some(value.to_owned().into()),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configs: vec![config],
    };
    let request =
        incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
    let version = near(version, 0..=1);
    ask!(client, version, request => incremental_alter_configs::Response<'_>, |r| r.responses[0].error_code)
}

#[tokio::test]
async fn a_topic_lives_in_every_version() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for version in 0..=7 {
        let request = create_topics::Request {
            topics: vec![topic("t", 2)],
            ..create_topics::Request::default()
        };
        assert_eq!(create(&mut client, version, &request).await, [0], "version {version}");
        let (code, shown) = config(&mut client, version, "t", "retention.ms").await;
        assert_eq!((code, shown[0].1), (0, 5), "nobody set it");
        assert_eq!(alter(&mut client, version, 0, "retention.ms", "1000").await, 0);
        let (_, shown) = config(&mut client, version, "t", "retention.ms").await;
        assert_eq!(shown, [("1000".to_owned(), 1)]);
        assert_eq!(alter(&mut client, version, 1, "retention.ms", "").await, 0);
        let (_, shown) = config(&mut client, version, "t", "retention.ms").await;
        assert_eq!(shown[0].1, 5, "taken back");
        assert_eq!(grow(&mut client, version, "t", 3).await, 0);
        assert_eq!(grow(&mut client, version, "t", 3).await, 37, "it has as many");
        let request = describe_cluster::Request::default();
        let near = near(version, 0..=2);
        let port =
            ask!(client, near, request => describe_cluster::Response<'_>, |r| r.brokers[0].port);
        assert_eq!(port, i32::from(node.listener.local_addr().port()));
        assert_eq!(delete(&mut client, version, "t").await, 0);
        assert_eq!(delete(&mut client, version, "t").await, 3);
    }
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_with_kafkas_codes_and_trying_creates_nothing() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let check = async |client: &mut Client, topics: Vec<_>, expected: &[i16]| {
        let request = create_topics::Request { topics, ..create_topics::Request::default() };
        assert_eq!(create(client, 7, &request).await, expected);
    };
    check(&mut client, vec![topic("orders", 1)], &[36]).await;
    check(&mut client, vec![topic("a", 0), topic("b", -2)], &[37, 37]).await;
    check(&mut client, vec![topic("a b", 1), topic("", 1)], &[17, 17]).await;
    check(&mut client, vec![topic("twice", 1), topic("twice", 1)], &[42]).await;
    let replicated = create_topics::CreatableTopic { replication_factor: 2, ..topic("r", 1) };
    check(&mut client, vec![replicated], &[38]).await;
    let with = |name: &'static str, value: Option<&'static str>| create_topics::CreatableTopic {
        configs: vec![create_topics::CreatableTopicConfig {
            name: name.into(),
            value: value.map(Into::into),
        }],
        ..topic("c", 1)
    };
    check(&mut client, vec![with("no.such.key", Some("1"))], &[40]).await;
    check(&mut client, vec![with("retention.ms", Some("soon"))], &[40]).await;
    check(&mut client, vec![with("retention.ms", None)], &[40]).await;
    let tried = create_topics::Request {
        topics: vec![topic("tried", 1)],
        validate_only: true,
        ..create_topics::Request::default()
    };
    assert_eq!(create(&mut client, 7, &tried).await, [0]);
    assert_eq!(delete(&mut client, 6, "tried").await, 3, "it was not created");
}

#[tokio::test]
async fn lists_are_added_to_and_taken_from_and_nothing_else_is() {
    let node = Node::start().await;
    rafka_broker::testing::create_topic(&node.broker, "t", 1, &[]).await;
    let mut client = node.connect().await;
    assert_eq!(alter(&mut client, 1, 2, "cleanup.policy", "compact").await, 0);
    let (_, shown) = config(&mut client, 4, "t", "cleanup.policy").await;
    assert_eq!(shown[0].0.split(',').count(), 2, "{shown:?}");
    assert_eq!(alter(&mut client, 1, 3, "cleanup.policy", "delete").await, 0);
    let (_, shown) = config(&mut client, 4, "t", "cleanup.policy").await;
    assert_eq!(shown[0].0, "compact");
    assert_eq!(alter(&mut client, 1, 2, "retention.ms", "1").await, 40);
    assert_eq!(alter(&mut client, 1, 9, "cleanup.policy", "delete").await, 42);
    assert_eq!(config(&mut client, 4, "nowhere", "retention.ms").await, (3, Vec::new()));
}

#[tokio::test]
async fn records_before_an_offset_go_in_every_version() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    client
        .ask(9, &produce(-1, 0, batch(&["a", "b", "c", "d"]).to_bytes()))
        .await
        .expect("answered");
    for (version, offset, expected) in
        [(0, 1, (0, 1)), (1, 2, (0, 2)), (2, -1, (0, 4)), (2, 9, (1, -1)), (2, -2, (1, -1))]
    {
        let partition = delete_records::Partition { partition_index: 0, offset };
        let topic = delete_records::Topic { name: "orders".into(), partitions: vec![partition] };
        let request = delete_records::Request { topics: vec![topic], timeout_ms: 1000 };
        let found = ask!(client, version, request => delete_records::Response<'_>, |r| {
            let result = &r.topics[0].partitions[0];
            (result.error_code, result.low_watermark)
        });
        assert_eq!(found, expected, "offset {offset}");
    }
}

#[tokio::test]
async fn replicas_are_assigned_to_nodes_that_there_are_once_each() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let assigned = |nodes: &[(i32, &[i32])]| create_topics::CreatableTopic {
        assignments: nodes
            .iter()
            .map(|(partition_index, nodes)| create_topics::CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: nodes.to_vec(),
            })
            .collect(),
        ..topic("assigned", -1)
    };
    let counted = create_topics::CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[0])]) };
    for (topic, expected) in [
        (counted, 42),
        (assigned(&[(0, &[7])]), 39),
        (assigned(&[(0, &[0, 0])]), 39),
        (assigned(&[(0, &[])]), 39),
        (assigned(&[(1, &[0])]), 39),
        (assigned(&[(0, &[0]), (0, &[0])]), 39),
        (assigned(&[(1, &[0]), (0, &[0])]), 0),
    ] {
        let request = create_topics::Request { topics: vec![topic], ..Default::default() };
        assert_eq!(create(&mut client, 7, &request).await, [expected], "{request:?}");
    }
    let grown = |count: i32, nodes: &[&[i32]]| create_partitions::Topic {
        name: "assigned".into(),
        count,
        assignments: Some(
            nodes
                .iter()
                .map(|nodes| create_partitions::Assignment { broker_ids: nodes.to_vec() })
                .collect(),
        ),
    };
    for (topic, expected) in [
        (grown(1, &[]), 37),
        (grown(2, &[]), 37),
        (grown(4, &[&[0]]), 39),
        (grown(3, &[&[7]]), 39),
        (grown(3, &[&[]]), 39),
        (grown(3, &[&[0]]), 0),
    ] {
        let request = create_partitions::Request { topics: vec![topic], ..Default::default() };
        let found = ask!(client, 3, request => create_partitions::Response<'_>, |r| r.results[0].error_code);
        assert_eq!(found, expected, "{request:?}");
    }
}

#[tokio::test]
async fn who_asks_what_may_be_done_is_told_that_all_may() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for is_asked in [false, true] {
        let topics = Some(vec![metadata::RequestTopic {
            name: Some("orders".into()),
            ..Default::default()
        }]);
        let request = metadata::Request {
            topics,
            include_topic_authorized_operations: is_asked,
            ..Default::default()
        };
        let topic = ask!(client, 12, request => metadata::Response<'_>, |r| r
            .topics[0].topic_authorized_operations);
        let request = describe_cluster::Request {
            include_cluster_authorized_operations: is_asked,
            ..Default::default()
        };
        let cluster = ask!(client, 1, request => describe_cluster::Response<'_>, |r| r
            .cluster_authorized_operations);
        let expected =
            if is_asked { (0b1101_1111_1000, 0b1_1111_1010_0000) } else { (i32::MIN, i32::MIN) };
        assert_eq!((topic, cluster), expected);
    }
    for (endpoint_type, expected) in [(1, 0), (2, 114), (3, 115)] {
        let request = describe_cluster::Request { endpoint_type, ..Default::default() };
        let found = ask!(client, 1, request => describe_cluster::Response<'_>, |r| r.error_code);
        assert_eq!(found, expected);
    }
}
