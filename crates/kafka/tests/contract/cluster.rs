//! Looking after nodes, groups and transactions, in every version of every request.

use rafka_core::ErrorCode;
use rafka_kafka_wire::{
    alter_configs, describe_configs, describe_producers, describe_transactions,
    incremental_alter_configs, init_producer_id, list_config_resources, list_transactions,
    offset_commit, offset_delete,
};

use crate::support::{Client, Node, ask};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// The code, and value, source and whether it is read-only of one config.
async fn config(
    client: &mut Client,
    version: i16,
    (kind, name): (i8, &'static str),
    key: &'static str,
) -> (i16, Option<(String, i8, bool)>) {
    let request = describe_configs::Request {
        resources: vec![describe_configs::Resource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: Some(vec![key.into()]),
        }],
        include_synonyms: true,
        ..describe_configs::Request::default()
    };
    ask!(client, version, request => describe_configs::Response<'_>, |r| {
        let found = &r.results[0];
        let config = found.configs.first().map(|config| {
            assert_eq!(config.synonyms[0].value, config.value);
            let value = config.value.as_deref().unwrap_or_default().to_owned();
            (value, config.config_source, config.read_only)
        });
        (found.error_code, config)
    })
}

/// The layers of one config, the strongest first: value and source.
async fn synonyms(
    client: &mut Client,
    (kind, name): (i8, &'static str),
    key: &'static str,
) -> Vec<(String, i8)> {
    let request = describe_configs::Request {
        resources: vec![describe_configs::Resource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: Some(vec![key.into()]),
        }],
        include_synonyms: true,
        ..describe_configs::Request::default()
    };
    ask!(client, 4, request => describe_configs::Response<'_>, |r| {
        let layers = r.results[0].configs[0].synonyms.iter();
        layers.map(|one| (one.value.as_deref().unwrap_or_default().to_owned(), one.source)).collect()
    })
}

async fn set(
    client: &mut Client,
    (kind, name): (i8, &'static str),
    (key, value): (&'static str, Option<&'static str>),
    validate_only: bool,
) -> i16 {
    let request = incremental_alter_configs::Request {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![incremental_alter_configs::AlterableConfig {
                name: key.into(),
                config_operation: i8::from(value.is_none()),
                value: value.map(Into::into),
            }],
        }],
        validate_only,
    };
    ask!(client, 1, request => incremental_alter_configs::Response<'_>, |r| {
        r.responses[0].error_code
    })
}

#[tokio::test]
async fn a_nodes_configs_are_shown_and_those_of_topics_can_be_changed() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let own = (BROKER, "0");
    let partitions = Some(("1".to_owned(), 5, true));
    for version in 1..=4 {
        assert_eq!(
            config(&mut client, version, own, "num.partitions").await,
            (0, partitions.clone())
        );
        let unknown = config(&mut client, version, own, "no.such.config").await;
        assert_eq!(unknown, (0, None));
    }
    let invalid = ErrorCode::InvalidRequest.code();
    for other in [(BROKER, "7"), (BROKER, "x"), (8, "0")] {
        assert_eq!(config(&mut client, 4, other, "num.partitions").await, (invalid, None));
    }
    let retention = "log.retention.ms";
    let week = (0, Some(("604800000".to_owned(), 5, false)));
    assert_eq!(config(&mut client, 4, own, retention).await, week);
    assert_eq!(set(&mut client, own, (retention, Some("5")), true).await, 0);
    assert_eq!(config(&mut client, 4, own, retention).await, week, "it was only asked whether");
    let all = (BROKER, "");
    assert_eq!(set(&mut client, all, (retention, Some("5")), false).await, 0);
    let of_all = (0, Some(("5".to_owned(), 3, false)));
    assert_eq!(config(&mut client, 4, all, retention).await, of_all);
    assert_eq!(config(&mut client, 4, own, retention).await, of_all);
    assert_eq!(set(&mut client, own, (retention, Some("6")), false).await, 0);
    let of_own = (0, Some(("6".to_owned(), 2, false)));
    assert_eq!(config(&mut client, 4, own, retention).await, of_own);
    assert_eq!(config(&mut client, 4, all, retention).await, of_all, "it still holds elsewhere");
    let of = |layers: &[(&str, i8)]| {
        layers.iter().map(|(value, source)| ((*value).to_owned(), *source)).collect::<Vec<_>>()
    };
    let found = synonyms(&mut client, (TOPIC, "orders"), "retention.ms").await;
    assert_eq!(found, of(&[("6", 2), ("5", 3), ("604800000", 5)]));
    assert_eq!(synonyms(&mut client, all, retention).await, of(&[("5", 3)]));
    let topic = (TOPIC, "orders");
    assert_eq!(config(&mut client, 4, topic, "retention.ms").await, of_own);
    for (key, value, code) in [
        ("num.partitions", Some("3"), ErrorCode::InvalidRequest),
        ("no.such.config", Some("3"), ErrorCode::InvalidConfig),
        (retention, Some("long"), ErrorCode::InvalidRequest),
    ] {
        assert_eq!(set(&mut client, own, (key, value), false).await, code.code(), "{key}");
    }
    for owner in [own, all] {
        assert_eq!(set(&mut client, owner, (retention, None), false).await, 0);
    }
    assert_eq!(config(&mut client, 4, own, retention).await, week);
    let connections = (0, Some(("10000".to_owned(), 5, true)));
    assert_eq!(config(&mut client, 4, own, "max.connections").await, connections);
    assert_eq!(config(&mut client, 4, own, "node.id").await, (0, Some(("0".to_owned(), 4, true))));
}

#[tokio::test]
async fn what_is_not_set_is_taken_back_already_and_what_is_named_twice_is_not_changed() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for owner in [(TOPIC, "orders"), (BROKER, "0"), (BROKER, "")] {
        for key in ["no.such.config", "leader.replication.throttled.rate", "num.partitions"] {
            assert_eq!(set(&mut client, owner, (key, None), false).await, 0, "{owner:?} {key}");
        }
    }
    let missing = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(set(&mut client, (TOPIC, "none"), ("retention.ms", None), false).await, missing);
    let resource = |name: &'static str| alter_configs::Resource {
        resource_type: TOPIC,
        resource_name: name.into(),
        configs: vec![alter_configs::AlterableConfig {
            name: "retention.ms".into(),
            value: Some("5".into()),
        }],
    };
    let request = alter_configs::Request {
        resources: vec![resource("orders"), resource("orders"), resource("none")],
        validate_only: false,
    };
    let codes = ask!(client, 2, request => alter_configs::Response<'_>, |r| {
        r.responses.iter().map(|response| response.error_code).collect::<Vec<_>>()
    });
    assert_eq!(codes, [42, 42, missing]);
    let (_, found) = config(&mut client, 4, (TOPIC, "orders"), "retention.ms").await;
    assert_eq!(found.map(|(_, source, _)| source), Some(5));
}

#[tokio::test]
async fn a_group_has_configs_of_its_own_and_is_listed_with_them() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let (group, timeout) = ((GROUP, "g"), "consumer.session.timeout.ms");
    let default = (0, Some(("45000".to_owned(), 5, false)));
    assert_eq!(config(&mut client, 4, group, timeout).await, default);
    assert_eq!(set(&mut client, group, (timeout, Some("50000")), true).await, 0);
    assert_eq!(config(&mut client, 4, group, timeout).await, default, "it was only tried");
    assert_eq!(set(&mut client, group, (timeout, Some("50000")), false).await, 0);
    let own = (0, Some(("50000".to_owned(), 8, false)));
    assert_eq!(config(&mut client, 4, group, timeout).await, own);
    let layers = synonyms(&mut client, group, timeout).await;
    assert_eq!(layers, [("50000".to_owned(), 8), ("45000".to_owned(), 5)]);
    for (owner, key, value, code) in [
        (group, timeout, "0", 40),
        (group, timeout, "soon", 40),
        (group, "consumer.heartbeat.interval.ms", "50001", 40),
        (group, "no.such.config", "1", 40),
        ((GROUP, ""), timeout, "50000", 24),
        ((BROKER_LOGGER, "0"), "root", "INFO", 42),
        ((CLIENT_METRICS, "m"), "interval.ms", "1000", 42),
    ] {
        let found = set(&mut client, owner, (key, Some(value)), false).await;
        assert_eq!(found, code, "{owner:?} {key}={value}");
    }
    let list = |types: &[i8]| list_config_resources::Request { resource_types: types.to_vec() };
    for (version, types, expected) in [
        (0, &[][..], (0, vec![])),
        (1, &[GROUP], (0, vec![("g".to_owned(), GROUP)])),
        (1, &[BROKER], (0, vec![("0".to_owned(), BROKER)])),
        (1, &[CLIENT_METRICS], (0, vec![])),
        (1, &[7], (35, vec![])),
        (
            1,
            &[],
            (
                0,
                vec![
                    ("orders".to_owned(), TOPIC),
                    ("0".to_owned(), BROKER),
                    ("g".to_owned(), GROUP),
                ],
            ),
        ),
    ] {
        let found = ask!(client, version, list(types) => list_config_resources::Response<'_>, |r| {
            let resources = r.config_resources.iter();
            let resources = resources.map(|one| (one.resource_name.to_string(), one.resource_type));
            (r.error_code, resources.collect::<Vec<_>>())
        });
        assert_eq!(found, expected, "version {version}, {types:?}");
    }
    assert_eq!(set(&mut client, group, (timeout, None), false).await, 0);
    assert_eq!(config(&mut client, 4, group, timeout).await, default);
    let found = ask!(client, 1, list(&[GROUP]) => list_config_resources::Response<'_>, |r| {
        r.config_resources.len()
    });
    assert_eq!(found, 0);
}

#[tokio::test]
async fn all_configs_at_once_take_back_what_is_not_named() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let topic = (TOPIC, "orders");
    for version in 0..=2 {
        for (configs, code) in [
            (vec![("retention.ms", Some("5")), ("max.message.bytes", Some("9000"))], 0),
            (vec![("retention.ms", Some("6"))], 0),
            (vec![("retention.ms", Some("long"))], ErrorCode::InvalidConfig.code()),
            (vec![("retention.ms", None)], ErrorCode::InvalidRequest.code()),
            (
                vec![("retention.ms", Some("1")), ("retention.ms", Some("2"))],
                ErrorCode::InvalidRequest.code(),
            ),
        ] {
            let config = |(name, value): (&'static str, Option<&'static str>)| {
                alter_configs::AlterableConfig { name: name.into(), value: value.map(Into::into) }
            };
            let request = alter_configs::Request {
                resources: vec![alter_configs::Resource {
                    resource_type: TOPIC,
                    resource_name: "orders".into(),
                    configs: configs.into_iter().map(config).collect(),
                }],
                validate_only: false,
            };
            let found = ask!(client, version, request => alter_configs::Response<'_>, |r| {
                r.responses[0].error_code
            });
            assert_eq!(found, code, "version {version}");
        }
        let six = (0, Some(("6".to_owned(), 1, false)));
        assert_eq!(config(&mut client, 4, topic, "retention.ms").await, six);
        let (_, bytes) = config(&mut client, 4, topic, "max.message.bytes").await;
        assert_eq!(bytes.map(|(_, source, _)| source), Some(5), "it went back");
    }
}

#[tokio::test]
async fn producers_and_transactions_are_described_and_listed() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let request = init_producer_id::Request {
        transactional_id: Some("payments".into()),
        transaction_timeout_ms: 60_000,
        ..init_producer_id::Request::default()
    };
    let mut producer = -1;
    for _ in 0..500 {
        producer = ask!(client, 4, request => init_producer_id::Response, |r| r.producer_id);
        if 0 <= producer {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let transactional_ids = vec!["payments".into(), "refunds".into()];
    let request = describe_transactions::Request { transactional_ids };
    let found = ask!(client, 0, request => describe_transactions::Response<'_>, |r| {
        let state = |one: &describe_transactions::TransactionState<'_>| {
            (one.error_code, one.transaction_state.to_string(), one.producer_id)
        };
        r.transaction_states.iter().map(state).collect::<Vec<_>>()
    });
    let missing = ErrorCode::TransactionalIdNotFound.code();
    let expected = [(0, "Empty".to_owned(), producer), (missing, String::new(), found[1].2)];
    assert_eq!(found, expected);
    for version in 0..=2 {
        for (states, producers, pattern, expected) in [
            (vec![], vec![], None, 1),
            (vec!["Empty"], vec![producer], Some("pay.*"), 1),
            (vec!["Ongoing"], vec![], None, 0),
            (vec!["Hopeful"], vec![], None, 0),
            (vec![], vec![producer + 1], None, 0),
            (vec![], vec![], Some("ay"), if version < 2 { 1 } else { 0 }),
        ] {
            let pattern = pattern.filter(|_| 2 <= version);
            let request = list_transactions::Request {
                state_filters: states.iter().map(|state| (*state).into()).collect(),
                producer_id_filters: producers,
                transactional_id_pattern: pattern.map(Into::into),
                ..list_transactions::Request::default()
            };
            let (listed, unknown) = ask!(client, version, request => list_transactions::Response<'_>, |r| {
                assert_eq!(r.error_code, 0);
                (r.transaction_states.len(), r.unknown_state_filters.len())
            });
            assert_eq!(listed, expected, "version {version}, {states:?}, {pattern:?}");
            assert_eq!(unknown, usize::from(states == ["Hopeful"]));
        }
    }
    let broken = list_transactions::Request {
        transactional_id_pattern: Some("a(".into()),
        ..list_transactions::Request::default()
    };
    let code = ask!(client, 2, broken => list_transactions::Response<'_>, |r| r.error_code);
    assert_eq!(code, ErrorCode::InvalidRegularExpression.code());
    let topic =
        describe_producers::TopicRequest { name: "orders".into(), partition_indexes: vec![0, 9] };
    let request = describe_producers::Request { topics: vec![topic] };
    let codes = ask!(client, 0, request => describe_producers::Response<'_>, |r| {
        let partitions = &r.topics[0].partitions;
        assert!(partitions[0].active_producers.is_empty());
        partitions.iter().map(|partition| partition.error_code).collect::<Vec<_>>()
    });
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
}

#[tokio::test]
async fn offsets_of_a_group_are_deleted() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let delete = |group: &'static str| {
        let partition = |partition_index| offset_delete::RequestPartition { partition_index };
        let topic = |name: &'static str| offset_delete::RequestTopic {
            name: name.into(),
            partitions: vec![partition(0), partition(1)],
        };
        offset_delete::Request {
            group_id: group.into(),
            topics: vec![topic("orders"), topic("no/name")],
        }
    };
    let code = ask!(client, 0, delete("nobody's") => offset_delete::Response<'_>, |r| r.error_code);
    assert_eq!(code, ErrorCode::GroupIdNotFound.code());
    let commit = offset_commit::Request {
        group_id: "readers".into(),
        generation_id_or_member_epoch: -1,
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
    let committed = ask!(client, 8, commit => offset_commit::Response<'_>, |r| {
        r.topics[0].partitions[0].error_code
    });
    assert_eq!(committed, 0);
    let (code, codes) = ask!(client, 0, delete("readers") => offset_delete::Response<'_>, |r| {
        let partitions = r.topics.iter().flat_map(|topic| &topic.partitions);
        (r.error_code, partitions.map(|partition| partition.error_code).collect::<Vec<_>>())
    });
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!((code, codes), (0, vec![0, 0, unknown, unknown]));
}
