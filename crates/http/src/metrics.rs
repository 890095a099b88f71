//! Metrics as plain data, and their text form (OpenMetrics).
//!
//! The node gathers what its parts count; nothing is counted here, and nothing is global: two nodes
//! in one process do not mix.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Gathers all metrics of a page. Called once a scrape.
pub type Gather =
    Arc<dyn Fn(Page) -> Pin<Box<dyn Future<Output = Vec<Family>> + Send>> + Send + Sync>;

/// A page of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: what the node counts.
    Node,
    /// `/metrics/kafka`: topics and groups under the names of `kafka_exporter`.
    Kafka,
}

impl Page {
    /// What every name on it begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Node => "rafka",
            Self::Kafka => "kafka",
        }
    }
}

/// Values of one kind under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The name without prefix, its unit last: `journal_write_seconds`.
    pub name: &'static str,
    /// What is counted, in a sentence without full stop.
    pub help: &'static str,
    /// The values. All of the same kind; none: the family is left out.
    pub points: Vec<Point>,
}

/// A value with what tells it from the others of its family.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Names and values; few different ones.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Only grows; the name gets `_total`.
    Counter(u64),
    /// Only grows, in fractions; the name gets `_total`.
    Sum(f64),
    /// Goes up and down.
    Gauge(f64),
    /// How often something took how long.
    Histogram {
        /// The sum of all observations.
        sum: f64,
        /// Upper bounds, ascending, and how many observations lie between each and the one below;
        /// the last bound is infinite.
        buckets: Vec<(f64, u64)>,
    },
}

impl Family {
    /// A family of one value without labels.
    #[must_use]
    pub fn of(name: &'static str, help: &'static str, value: Value) -> Self {
        Self { name, help, points: vec![Point { labels: Vec::new(), value }] }
    }

    /// A family of one counter.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, count: u64) -> Self {
        Self::of(name, help, Value::Counter(count))
    }

    /// A family of one gauge.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::of(name, help, Value::Gauge(value))
    }
}

/// Writes the families as text.
pub(crate) fn encode(page: Page, families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(page.prefix());
    registry.register_collector(Box::new(Gathered(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Gathered(Vec<Family>);

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let Some(first) = family.points.first() else { continue };
            let kind = first.value.kind();
            let mut encoder = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for point in &family.points {
                if point.labels.is_empty() {
                    point.value.encode(&mut encoder)?;
                } else {
                    point.value.encode(&mut encoder.encode_family(&point.labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) | Self::Sum(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram { .. } => MetricType::Histogram,
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Self::Sum(sum) => encoder.encode_counter::<NoLabelSet, _, u64>(sum, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_with_prefix_labels_and_cumulated_buckets() {
        let lanes = [("fsync", 3), ("os", 4)].map(|(lane, count)| Point {
            labels: vec![("lane", lane.to_owned())],
            value: Value::Counter(count),
        });
        let buckets = vec![(0.001, 2), (0.01, 1), (f64::INFINITY, 1)];
        let families = vec![
            Family { name: "journal_writes", help: "Writes", points: lanes.to_vec() },
            Family::of("cpu_seconds", "Processor time", Value::Sum(0.25)),
            Family::gauge("partitions", "Partitions that this node leads", 10_000.0),
            Family::of("produce_seconds", "Time", Value::Histogram { sum: 0.5, buckets }),
            Family { name: "nothing", help: "Left out", points: Vec::new() },
        ];
        let expected = "\
# HELP rafka_journal_writes Writes
# TYPE rafka_journal_writes counter
rafka_journal_writes_total{lane=\"fsync\"} 3
rafka_journal_writes_total{lane=\"os\"} 4
# HELP rafka_cpu_seconds Processor time
# TYPE rafka_cpu_seconds counter
rafka_cpu_seconds_total 0.25
# HELP rafka_partitions Partitions that this node leads
# TYPE rafka_partitions gauge
rafka_partitions 10000.0
# HELP rafka_produce_seconds Time
# TYPE rafka_produce_seconds histogram
rafka_produce_seconds_sum 0.5
rafka_produce_seconds_count 4
rafka_produce_seconds_bucket{le=\"0.001\"} 2
rafka_produce_seconds_bucket{le=\"0.01\"} 3
rafka_produce_seconds_bucket{le=\"+Inf\"} 4
# EOF
";
        assert_eq!(encode(Page::Node, families).as_deref(), Ok(expected));
        let families = vec![Family::gauge("brokers", "Brokers", 1.0)];
        let page = encode(Page::Kafka, families).expect("it is written");
        assert!(page.contains("\nkafka_brokers 1.0\n"), "{page}");
    }
}
