//! All configs of a topic and of a node, as who names none is told of them.

use rafka_kafka_wire::describe_configs;

use crate::support::{Client, Node, ask};

/// The names of all configs, sorted.
async fn names(client: &mut Client, version: i16, (kind, name): (i8, &'static str)) -> Vec<String> {
    let resource = describe_configs::Resource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
    let mut names: Vec<String> = ask!(client, version, request => describe_configs::Response<'_>, |r| {
        assert_eq!(r.results[0].error_code, 0);
        assert!(r.results[0].configs.iter().all(|config| config.value.is_some()));
        r.results[0].configs.iter().map(|config| config.name.to_string()).collect()
    });
    names.sort();
    names
}

#[tokio::test]
async fn who_names_no_config_is_told_of_all() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    for version in 1..=4 {
        assert_eq!(names(&mut client, version, (2, "orders")).await, TOPIC, "version {version}");
        assert_eq!(names(&mut client, version, (4, "0")).await, BROKER, "version {version}");
    }
}

const TOPIC: [&str; 18] = [
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "durability",
    "flush.messages",
    "flush.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
    "unclean.leader.election.enable",
];

const BROKER: [&str; 43] = [
    "auto.create.topics.enable",
    "broker.id",
    "compression.type",
    "connections.max.idle.ms",
    "default.replication.factor",
    "fetch.max.bytes",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.migration.policy",
    "group.consumer.session.timeout.ms",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.durability",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "max.connections",
    "max.connections.per.ip",
    "message.max.bytes",
    "min.insync.replicas",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "producer.id.expiration.ms",
    "socket.request.max.bytes",
    "transaction.max.timeout.ms",
    "transaction.state.log.num.partitions",
    "transactional.id.expiration.ms",
    "unclean.leader.election.enable",
];
