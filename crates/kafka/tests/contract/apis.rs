//! Every API that is advertised works in every version that is advertised.

use rafka_core::ErrorCode;
use rafka_kafka_wire::{
    ApiKey, Message, add_offsets_to_txn, add_partitions_to_txn, api_versions,
    consumer_group_describe, describe_configs, describe_groups, describe_producers, end_txn, fetch,
    find_coordinator, init_producer_id, list_offsets, metadata, offset_fetch,
    offset_for_leader_epoch, produce, txn_offset_commit,
};
use uuid::Uuid;

use crate::support::{Client, Node, ask, batch, body, produce as producing};

async fn versions(client: &mut Client) -> Vec<(ApiKey, i16, i16)> {
    let frame = client.ask(0, &api_versions::Request::default()).await.expect("answered");
    let response: api_versions::Response<'_> = body(0, &frame);
    assert_eq!(response.error_code, 0);
    let known = |api: &api_versions::ApiVersion| {
        let key = ApiKey::from_code(api.api_key).expect("a known API");
        (key, api.min_version, api.max_version)
    };
    response.api_keys.iter().map(known).collect()
}

/// Asks in this version and checks what comes back; false if the connection is closed instead.
#[expect(clippy::too_many_lines, reason = "one arm an API: a table, not a function")]
async fn works(node: &Node, client: &mut Client, key: ApiKey, version: i16) -> bool {
    let id = node.topic_id("orders");
    macro_rules! ask {
        ($request:expr, $Response:ty, $check:expr) => {{
            let Some(frame) = client.ask(version, &$request).await else { return false };
            let response: $Response = body(version, &frame);
            let check: fn(&$Response) -> bool = $check;
            assert!(check(&response), "{key:?} {version}: {response:?}");
            true
        }};
    }
    match key {
        ApiKey::ApiVersions => {
            let request = api_versions::Request {
                client_software_name: if 3 <= version { "test".into() } else { "".into() },
                client_software_version: if 3 <= version { "1.0".into() } else { "".into() },
            };
            ask!(request, api_versions::Response<'_>, |r| r.error_code == 0
                && !r.api_keys.is_empty())
        }
        ApiKey::Produce => {
            let mut request = producing(-1, 0, batch(&["a"]).to_bytes());
            if 13 <= version {
                request.topic_data[0].name = "".into();
                request.topic_data[0].topic_id = id;
            }
            ask!(request, produce::Response<'_>, |r| {
                let answer = &r.responses[0].partition_responses[0];
                (answer.error_code, answer.index) == (0, 0) && 0 <= answer.base_offset
            })
        }
        ApiKey::Fetch => {
            let named = version < 13;
            let request = fetch::Request {
                max_wait_ms: 10,
                min_bytes: 1,
                max_bytes: 1 << 20,
                session_epoch: -1,
                topics: vec![fetch::Topic {
                    topic: if named { "orders".into() } else { "".into() },
                    topic_id: if named { Uuid::nil() } else { id },
                    partitions: vec![fetch::Partition {
                        partition: 0,
                        partition_max_bytes: 1 << 20,
                        ..fetch::Partition::default()
                    }],
                }],
                ..fetch::Request::default()
            };
            ask!(request, fetch::Response<'_>, |r| {
                let data = &r.responses[0].partitions[0];
                data.error_code == 0 && data.records.as_ref().is_some_and(|r| !r.is_empty())
            })
        }
        ApiKey::ListOffsets => {
            let request = list_offsets::Request {
                replica_id: -1,
                topics: vec![list_offsets::Topic {
                    name: "orders".into(),
                    partitions: vec![list_offsets::Partition {
                        timestamp: -1,
                        ..list_offsets::Partition::default()
                    }],
                }],
                ..list_offsets::Request::default()
            };
            ask!(request, list_offsets::Response<'_>, |r| {
                let found = &r.topics[0].partitions[0];
                found.error_code == 0 && 0 < found.offset && found.timestamp == -1
            })
        }
        ApiKey::Metadata => {
            let topics = vec![metadata::RequestTopic {
                name: Some("orders".into()),
                ..metadata::RequestTopic::default()
            }];
            let request =
                metadata::Request { topics: Some(topics), ..metadata::Request::default() };
            let request = metadata::Request { allow_auto_topic_creation: true, ..request };
            ask!(request, metadata::Response<'_>, |r| r.brokers.len() == 1
                && r.topics[0].error_code == 0
                && r.topics[0].partitions.len() == 2)
        }
        ApiKey::FindCoordinator if version < 4 => {
            let request = find_coordinator::Request {
                key: "g".into(),
                ..find_coordinator::Request::default()
            };
            ask!(request, find_coordinator::Response<'_>, |r| r.error_code == 0 && 0 < r.port)
        }
        ApiKey::FindCoordinator => {
            let request = find_coordinator::Request {
                coordinator_keys: vec!["g".into(), "h".into()],
                ..find_coordinator::Request::default()
            };
            ask!(request, find_coordinator::Response<'_>, |r| r.coordinators.len() == 2
                && r.coordinators.iter().all(|one| one.error_code == 0 && 0 < one.port))
        }
        ApiKey::InitProducerId => {
            let request = init_producer_id::Request {
                transaction_timeout_ms: 1000,
                ..init_producer_id::Request::default()
            };
            ask!(request, init_producer_id::Response, |r| r.error_code == 0
                && 0 <= r.producer_id
                && r.producer_epoch == 0)
        }
        ApiKey::AddPartitionsToTxn if 4 <= version => {
            let topic = add_partitions_to_txn::Topic { name: "orders".into(), partitions: vec![0] };
            let transaction = |verify_only| add_partitions_to_txn::Transaction {
                transactional_id: "nobody".into(),
                producer_id: 0,
                producer_epoch: 0,
                verify_only,
                topics: vec![topic.clone()],
            };
            let request = add_partitions_to_txn::Request {
                transactions: vec![transaction(false), transaction(true)],
                ..add_partitions_to_txn::Request::default()
            };
            ask!(request, add_partitions_to_txn::Response<'_>, |r| {
                let unknown = ErrorCode::InvalidProducerIdMapping.code();
                let mut results = r.results_by_transaction.iter();
                r.results_by_transaction.len() == 2
                    && results.all(|one| {
                        let result = &one.topic_results[0].results_by_partition[0];
                        result.partition_error_code == unknown
                    })
            })
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = add_partitions_to_txn::Topic { name: "orders".into(), partitions: vec![0] };
            let request = add_partitions_to_txn::Request {
                v3_and_below_transactional_id: "nobody".into(),
                v3_and_below_topics: vec![topic],
                ..add_partitions_to_txn::Request::default()
            };
            ask!(request, add_partitions_to_txn::Response<'_>, |r| {
                let topic = &r.results_by_topic_v3_and_below[0];
                topic.results_by_partition[0].partition_error_code
                    == ErrorCode::InvalidProducerIdMapping.code()
            })
        }
        ApiKey::AddOffsetsToTxn => {
            let request = add_offsets_to_txn::Request {
                transactional_id: "nobody".into(),
                group_id: "g".into(),
                ..add_offsets_to_txn::Request::default()
            };
            ask!(request, add_offsets_to_txn::Response, |r| r.error_code
                == ErrorCode::InvalidProducerIdMapping.code())
        }
        ApiKey::TxnOffsetCommit => {
            let partition = txn_offset_commit::RequestPartition::default();
            let topic = txn_offset_commit::RequestTopic {
                name: "orders".into(),
                partitions: vec![partition],
            };
            let request = txn_offset_commit::Request {
                transactional_id: "nobody".into(),
                group_id: "g".into(),
                topics: vec![topic],
                ..txn_offset_commit::Request::default()
            };
            ask!(request, txn_offset_commit::Response<'_>, |r| r.topics[0].partitions[0].error_code
                == ErrorCode::InvalidProducerIdMapping.code())
        }
        ApiKey::EndTxn => {
            let request = end_txn::Request {
                transactional_id: "nobody".into(),
                ..end_txn::Request::default()
            };
            ask!(request, end_txn::Response, |r| r.error_code
                == ErrorCode::InvalidProducerIdMapping.code())
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
                current_leader_epoch: -1,
                leader_epoch: 1000,
                ..offset_for_leader_epoch::OffsetForLeaderPartition::default()
            };
            let request = offset_for_leader_epoch::Request {
                topics: vec![offset_for_leader_epoch::OffsetForLeaderTopic {
                    topic: "orders".into(),
                    partitions: vec![partition],
                }],
                ..offset_for_leader_epoch::Request::default()
            };
            ask!(request, offset_for_leader_epoch::Response<'_>, |r| {
                let end = &r.topics[0].partitions[0];
                end.error_code == 0 && 0 < end.end_offset && 0 <= end.leader_epoch
            })
        }
        // A member's life in every version: see `groups`.
        ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DeleteGroups => true,
        // The same for next-generation groups: see `consumers`.
        ApiKey::ConsumerGroupHeartbeat | ApiKey::ConsumerGroupDescribe => true,
        // A topic's life in every version: see `admin`.
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::DeleteRecords
        | ApiKey::DescribeConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::DescribeCluster => true,
        // Nodes, logs and transactions from outside in every version: see `cluster`.
        ApiKey::AlterConfigs
        | ApiKey::ListConfigResources
        | ApiKey::OffsetDelete
        | ApiKey::DescribeProducers
        | ApiKey::DescribeTransactions
        | ApiKey::ListTransactions => true,
        // One node's answers in every version: see `replicas`.
        ApiKey::DescribeLogDirs
        | ApiKey::DescribeTopicPartitions
        | ApiKey::ElectLeaders
        | ApiKey::AlterPartitionReassignments
        | ApiKey::ListPartitionReassignments => true,
        other => panic!("{other:?} is advertised and not tested"),
    }
}

#[tokio::test]
async fn every_api_works_in_every_version_that_is_advertised() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let advertised = versions(&mut client).await;
    assert!(advertised.contains(&(ApiKey::Produce, 0, 13)));
    assert!(works(&node, &mut client, ApiKey::Produce, 11).await, "there is something to read");
    for (key, min, max) in advertised {
        for version in min..=max {
            // Kafka's one exception, which old clients need: advertised, and refused (KAFKA-18659).
            if key == ApiKey::Produce && version < *produce::Request::VERSIONS.start() {
                continue;
            }
            assert!(works(&node, &mut client, key, version).await, "{key:?} {version} is closed");
        }
    }
}

#[tokio::test]
async fn a_version_of_the_future_is_told_which_ones_there_are_and_may_go_on() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    use tokio::io::AsyncWriteExt as _;
    // ApiVersions (18) in version 99, correlation id 7, no client id, no tags, and what nobody knows.
    let future = b"\0\0\0\x0d\0\x12\0\x63\0\0\0\x07\xff\xff\0\x01\x02";
    client.stream.write_all(future).await.expect("it is taken");
    let frame = client.frame().await.expect("answered");
    let (id, rest) = frame.split_at(4);
    assert_eq!(id, [0, 0, 0, 7]);
    let rest = bytes::Bytes::copy_from_slice(rest);
    let response: api_versions::Response<'_> = body(0, &rest);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(response.api_keys[0].api_key, 18);
    assert!(works(&node, &mut client, ApiKey::ApiVersions, 4).await);
    let nameless = api_versions::Request {
        client_software_name: "no name!".into(),
        client_software_version: "1".into(),
    };
    let frame = client.ask(3, &nameless).await.expect("answered");
    let response: api_versions::Response<'_> = body(3, &frame);
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn features_are_told_to_whoever_can_read_them() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for (name, software, version, finalized, supported) in [
        ("apache-kafka-java", "4.1.0", 4, 1, 1),
        ("apache-kafka-java", "3.9.0", 3, 1, 0),
        ("librdkafka", "2.16.1", 3, 1, 0),
        ("librdkafka", "2.1.9", 3, 0, 0),
        ("librdkafka", "v1", 3, 0, 0),
    ] {
        let request = api_versions::Request {
            client_software_name: name.into(),
            client_software_version: software.into(),
        };
        let frame = client.ask(version, &request).await.expect("answered");
        let response: api_versions::Response<'_> = body(version, &frame);
        let found = (response.finalized_features.len(), response.supported_features.len());
        assert_eq!(found, (finalized, supported), "{name} {software}");
        if let Some(feature) = response.finalized_features.first() {
            assert_eq!((&*feature.name, feature.max_version_level), ("transaction.version", 2));
            assert_eq!(response.finalized_features_epoch, 0);
        }
    }
}

#[tokio::test]
async fn metadata_tells_all_none_unknown_and_new_topics_apart() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let ask = |topics: Option<Vec<&'static str>>, create| metadata::Request {
        topics: topics.map(|names| {
            let topic = |name: &&'static str| metadata::RequestTopic {
                name: Some((*name).into()),
                ..metadata::RequestTopic::default()
            };
            names.iter().map(topic).collect()
        }),
        allow_auto_topic_creation: create,
        ..metadata::Request::default()
    };
    for (request, expected) in [
        (ask(None, false), vec![("orders", 0)]),
        (ask(Some(vec![]), false), vec![]),
        (ask(Some(vec!["nowhere"]), false), vec![("nowhere", 3)]),
        (ask(Some(vec!["no/name"]), true), vec![("no/name", 17)]),
        (ask(Some(vec!["fresh"]), true), vec![("fresh", 0)]),
    ] {
        let frame = client.ask(9, &request).await.expect("answered");
        let response: metadata::Response<'_> = body(9, &frame);
        let found: Vec<(&str, i16)> = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_deref().unwrap_or_default(), topic.error_code))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(response.cluster_id.as_deref().map(str::len), Some(22));
    }
    let unknown = metadata::Request {
        topics: Some(vec![metadata::RequestTopic { topic_id: Uuid::from_u128(7), name: None }]),
        ..metadata::Request::default()
    };
    let frame = client.ask(12, &unknown).await.expect("answered");
    let response: metadata::Response<'_> = body(12, &frame);
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicId.code());
}

#[tokio::test]
async fn who_asks_for_the_same_twice_is_answered_once() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let topic = || metadata::RequestTopic { name: Some("orders".into()), ..Default::default() };
    let request = metadata::Request { topics: Some(vec![topic(), topic()]), ..Default::default() };
    assert_eq!(ask!(client, 12, request => metadata::Response<'_>, |r| r.topics.len()), 1);
    let resource = || describe_configs::Resource {
        resource_type: 2,
        resource_name: "orders".into(),
        configuration_keys: None,
    };
    let resources = vec![resource(), resource()];
    let request = describe_configs::Request { resources, ..Default::default() };
    assert_eq!(ask!(client, 4, request => describe_configs::Response<'_>, |r| r.results.len()), 1);
    let groups = vec!["g".into(), "g".into()];
    let request = describe_groups::Request { groups: groups.clone(), ..Default::default() };
    assert_eq!(ask!(client, 5, request => describe_groups::Response<'_>, |r| r.groups.len()), 1);
    let request = consumer_group_describe::Request { group_ids: groups, ..Default::default() };
    let count =
        ask!(client, 1, request => consumer_group_describe::Response<'_>, |r| r.groups.len());
    assert_eq!(count, 1);
    let group = || offset_fetch::RequestGroup { group_id: "g".into(), ..Default::default() };
    let request = offset_fetch::Request { groups: vec![group(), group()], ..Default::default() };
    assert_eq!(ask!(client, 8, request => offset_fetch::Response<'_>, |r| r.groups.len()), 1);
    let topic = || describe_producers::TopicRequest {
        name: "orders".into(),
        partition_indexes: vec![0, 1, 0],
    };
    let request = describe_producers::Request { topics: vec![topic(), topic()] };
    let counts = ask!(client, 0, request => describe_producers::Response<'_>, |r| {
        r.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>()
    });
    assert_eq!(counts, [2]);
}
