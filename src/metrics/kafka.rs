//! What `/metrics/kafka` shows: topics and groups under the names of `kafka_exporter`, for the dashboards
//! and alerts that people have.

use std::collections::BTreeMap;

use rafka_broker::group::{GroupListing, GroupType, Position};
use rafka_broker::topics::{Extent, PartitionDescription};
use rafka_broker::{Broker, LISTENER_KAFKA, TopicRef};
use rafka_core::{Offset, TopicName};
use rafka_http::{Family, Point, Value};

use crate::number::float;

/// Groups whose members are counted: each costs a question.
const GROUPS_MAX: usize = 1000;

/// Committed offsets that are shown: each is two lines.
const POSITIONS_MAX: usize = 100_000;

/// Values that grow together, one for each name.
struct Families(Vec<Family>);

pub(super) async fn gather(broker: &Broker) -> Vec<Family> {
    let mut families = brokers(broker);
    let mut topics = BTreeMap::new();
    for listing in broker.list_topics() {
        // Deleted since: there is nothing to tell.
        if let Ok(topic) = broker.describe_topic(&TopicRef::Name(listing.name.clone())) {
            topics.insert(listing.name, topic.partitions);
        }
    }
    families.extend(partitions(&topics));
    // While groups are being loaded there is nothing to tell; the next scrape will.
    let groups = broker.groups().list(Vec::new(), Vec::new()).await.unwrap_or_default();
    families.push(members(broker, groups).await);
    families.extend(offsets(broker.groups().positions().await.unwrap_or_default(), &topics));
    families
}

fn brokers(broker: &Broker) -> Vec<Family> {
    let nodes = broker.describe_cluster(LISTENER_KAFKA).nodes;
    let count = float(nodes.len() as u64);
    let info = nodes.into_iter().map(|node| {
        let address = ("address", format!("{}:{}", node.host, node.port));
        point(vec![address, ("id", node.id.to_string())], 1.0)
    });
    vec![
        Family::gauge("brokers", "Number of Brokers in the Kafka Cluster", count),
        Family {
            name: "broker_info",
            help: "Information about the Kafka Broker",
            points: info.collect(),
        },
    ]
}

fn point(labels: Vec<(&'static str, String)>, value: f64) -> Point {
    Point { labels, value: Value::Gauge(value) }
}

impl Families {
    fn new(named: &[(&'static str, &'static str)]) -> Self {
        let family =
            |(name, help): &(&'static str, &'static str)| Family { name, help, points: Vec::new() };
        Self(named.iter().map(family).collect())
    }

    /// A value for each name, in their order; none for those that are not known.
    fn add(&mut self, labels: &[(&'static str, String)], values: &[Option<f64>]) {
        for (family, value) in self.0.iter_mut().zip(values) {
            family.points.extend(value.map(|value| point(labels.to_vec(), value)));
        }
    }
}

fn partitions(topics: &BTreeMap<TopicName, Vec<PartitionDescription>>) -> Vec<Family> {
    let mut counts = Families::new(&[("topic_partitions", "Number of partitions for this Topic")]);
    let mut families = Families::new(&[
        ("topic_partition_current_offset", "Current Offset of a Broker at Topic/Partition"),
        ("topic_partition_oldest_offset", "Oldest Offset of a Broker at Topic/Partition"),
        ("topic_partition_leader", "Leader Broker ID of this Topic/Partition"),
        (
            "topic_partition_leader_is_preferred",
            "1 if Topic/Partition is using the Preferred Broker",
        ),
        ("topic_partition_replicas", "Number of Replicas for this Topic/Partition"),
        ("topic_partition_in_sync_replica", "Number of In-Sync Replicas for this Topic/Partition"),
        ("topic_partition_under_replicated_partition", "1 if Topic/Partition is under Replicated"),
    ]);
    for (name, partitions) in topics {
        let topic = ("topic", name.to_string());
        counts.add(std::slice::from_ref(&topic), &[Some(float(partitions.len() as u64))]);
        for partition in partitions {
            let (replicas, isr) = (partition.replicas.len() as u64, partition.isr.len() as u64);
            let extent = partition.extent.as_ref();
            let offset = |offset: fn(&Extent) -> Offset| extent.map(|it| number(offset(it)));
            let preferred = partition.leader.as_ref() == partition.replicas.first();
            families.add(
                &[("partition", partition.index.to_string()), topic.clone()],
                &[
                    offset(|extent| extent.high_watermark),
                    offset(|extent| extent.log_start),
                    Some(partition.leader.map_or(-1.0, |node| f64::from(node.0))),
                    Some(f64::from(u8::from(preferred))),
                    Some(float(replicas)),
                    Some(float(isr)),
                    Some(f64::from(u8::from(isr < replicas))),
                ],
            );
        }
    }
    counts.0.extend(families.0);
    counts.0
}

async fn members(broker: &Broker, groups: Vec<GroupListing>) -> Family {
    let mut points = Vec::new();
    for listing in groups.into_iter().take(GROUPS_MAX) {
        let group = listing.group.clone();
        // Gone since: there is nothing to tell.
        let count = match listing.kind {
            GroupType::Classic => broker.groups().describe(group).await.map(|it| it.members.len()),
            GroupType::Consumer => {
                broker.groups().describe_consumers(group).await.map(|it| it.members.len())
            }
        };
        if let Ok(count) = count {
            let labels = vec![("consumergroup", listing.group.to_string())];
            points.push(point(labels, float(count as u64)));
        }
    }
    Family { name: "consumergroup_members", help: "Amount of members in a consumer group", points }
}

fn offsets(
    positions: Vec<Position>,
    topics: &BTreeMap<TopicName, Vec<PartitionDescription>>,
) -> Vec<Family> {
    let mut families = Families::new(&[
        ("consumergroup_current_offset", "Current Offset of a ConsumerGroup at Topic/Partition"),
        ("consumergroup_lag", "Current Approximate Lag of a ConsumerGroup at Topic/Partition"),
    ]);
    let mut sums: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for position in positions.into_iter().take(POSITIONS_MAX) {
        let partitions = topics.get(&position.topic).map_or(&[][..], Vec::as_slice);
        let lag = super::lag(partitions, position.partition, position.offset).map(float);
        let (group, topic) = (position.group.to_string(), position.topic.to_string());
        let labels = [
            ("consumergroup", group.clone()),
            ("partition", position.partition.to_string()),
            ("topic", topic.clone()),
        ];
        families.add(&labels, &[Some(number(position.offset)), lag]);
        let sum = sums.entry((group, topic)).or_default();
        sum.0 += number(position.offset);
        sum.1 += lag.unwrap_or(0.0);
    }
    let mut summed = Families::new(&[
        (
            "consumergroup_current_offset_sum",
            "Current Offset of a ConsumerGroup at Topic for all partitions",
        ),
        (
            "consumergroup_lag_sum",
            "Current Approximate Lag of a ConsumerGroup at Topic for all partitions",
        ),
    ]);
    for ((group, topic), (offset, lag)) in sums {
        summed.add(&[("consumergroup", group), ("topic", topic)], &[Some(offset), Some(lag)]);
    }
    families.0.extend(summed.0);
    families.0
}

fn number(offset: Offset) -> f64 {
    u64::try_from(offset.0).map_or(0.0, float)
}
