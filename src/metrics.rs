//! What `/metrics` shows: what the parts of the node count, gathered at each scrape.

mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::stats::{LATENCY_BOUNDS_US, Latency};
use rafka_broker::topics::PartitionDescription;
use rafka_broker::{Broker, Connections, TopicRef};
use rafka_core::{ByteSize, Clock, Offset, PartitionIndex, Time, TopicName};
use rafka_http::{Family, Gather, Page, Point, Value};
use rafka_metadata::Metadata;
use rafka_storage::journal::LATENCY_BOUNDS;
use rafka_storage::{Durability, Stats};

use crate::node::AnyEngine;
use crate::number::float;
use crate::process;

/// Lag is shown for at most this many pairs of group and topic: a metric has few labels.
const LAG_POINTS_MAX: usize = 1000;

/// Where metrics come from.
pub(crate) struct Source {
    pub(crate) grpc: Arc<Connections>,
    pub(crate) kafka: Arc<Connections>,
    pub(crate) kafka_stats: Arc<rafka_kafka::Stats>,
    pub(crate) broker: Broker,
    pub(crate) engine: AnyEngine,
    pub(crate) metadata: Metadata,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Time,
}

impl Source {
    /// The function that the HTTP listener calls.
    pub(crate) fn into_gather(self) -> Gather {
        let source = Arc::new(self);
        Arc::new(move |page| {
            let source = Arc::clone(&source);
            Box::pin(async move {
                match page {
                    Page::Node => source.gather().await,
                    Page::Kafka => kafka::gather(&source.broker).await,
                }
            })
        })
    }

    async fn gather(&self) -> Vec<Family> {
        let mut families = self.node();
        families.extend(self.listeners());
        families.extend(broker(&self.broker));
        match &self.engine {
            AnyEngine::File(engine) => families.extend(storage(&engine.stats())),
            AnyEngine::Memory(engine) => families.push(Family::gauge(
                "memory_engine_bytes",
                "Record bytes held by the memory engine",
                bytes(engine.used()),
            )),
        }
        families.extend(groups(&self.broker).await);
        families
    }

    fn node(&self) -> Vec<Family> {
        let view = self.metadata.view();
        let uptime = self.clock.now() - self.started;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let mut families = vec![
            Family {
                name: "node_build_info",
                help: "Which software runs",
                points: vec![Point { labels: version, value: Value::Gauge(1.0) }],
            },
            Family::gauge(
                "node_uptime_seconds",
                "Time since the node was ready",
                uptime.as_secs_f64(),
            ),
            Family::gauge("broker_topics", "Topics", float(view.topic_count() as u64)),
            Family::gauge(
                "broker_partitions",
                "Partitions that the node keeps",
                float(view.replica_count(view.node())),
            ),
            Family::gauge(
                "broker_producers",
                "Idempotent producers known, once for each partition that they wrote to",
                float(self.broker.producer_count() as u64),
            ),
            Family::gauge(
                "broker_writable",
                "1 while writes are taken, 0 after the storage failed",
                if self.broker.failure().is_none() { 1.0 } else { 0.0 },
            ),
        ];
        if let Some(usage) = process::usage(std::process::id()) {
            let cpu = usage.cpu.as_secs_f64();
            families.push(Family::gauge(
                "process_resident_bytes",
                "Memory of the process",
                bytes(usage.resident),
            ));
            families.push(Family::of(
                "process_cpu_seconds",
                "Processor time of the process",
                Value::Sum(cpu),
            ));
        }
        families
    }
}

impl Source {
    fn listeners(&self) -> Vec<Family> {
        let family = |name, help, value: fn(&Connections) -> Value| {
            let point = |connections: &Arc<Connections>| Point {
                labels: vec![("listener", connections.listener().to_owned())],
                value: value(connections),
            };
            Family { name, help, points: [&self.grpc, &self.kafka].map(point).into() }
        };
        let requests = self.kafka_stats.requests().map(|(api, count)| Point {
            labels: vec![("api", api.to_owned())],
            value: Value::Counter(count),
        });
        vec![
            family("listener_connections", "Connections that are open", |connections| {
                Value::Gauge(float(connections.open() as u64))
            }),
            family("listener_connections_accepted", "Connections admitted", |connections| {
                Value::Counter(connections.accepted())
            }),
            family(
                "listener_connections_refused",
                "Connections refused because there were too many",
                |connections| Value::Counter(connections.refused()),
            ),
            Family { name: "kafka_requests", help: "Kafka requests", points: requests.collect() },
            Family::counter(
                "kafka_connections_failed",
                "Kafka connections that the node closed for what came on them",
                self.kafka_stats.connections_failed.count(),
            ),
        ]
    }
}

fn bytes(size: ByteSize) -> f64 {
    float(size.0)
}

fn broker(broker: &Broker) -> Vec<Family> {
    let stats = broker.stats();
    vec![
        Family::counter(
            "broker_produce_requests",
            "Produce requests",
            stats.produce_requests.count(),
        ),
        Family::counter(
            "broker_produce_failures",
            "Partitions of produce requests that were answered with an error",
            stats.produce_failures.count(),
        ),
        Family::counter(
            "broker_produce_records",
            "Records appended",
            stats.produce_records.count(),
        ),
        Family::counter("broker_produce_bytes", "Bytes appended", stats.produce_bytes.count()),
        latency(
            "broker_produce_seconds",
            "From the arrival of a produce request to its last acknowledgement",
            &stats.produce_latency,
        ),
        Family::counter("broker_fetch_requests", "Fetches", stats.fetch_requests.count()),
        Family::counter(
            "broker_fetch_failures",
            "Partitions of fetches that were answered with an error",
            stats.fetch_failures.count(),
        ),
        Family::counter("broker_fetch_bytes", "Bytes handed to readers", stats.fetch_bytes.count()),
        Family::counter(
            "broker_fetch_cold_reads",
            "Reads that memory could not answer",
            stats.fetch_reads_cold.count(),
        ),
    ]
}

fn latency(name: &'static str, help: &'static str, latency: &Latency) -> Family {
    let bounds = LATENCY_BOUNDS_US.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64());
    let bounds = bounds.chain([f64::INFINITY]);
    let buckets = bounds.zip(latency.buckets()).collect();
    Family::of(name, help, Value::Histogram { sum: latency.sum().as_secs_f64(), buckets })
}

fn storage(stats: &Stats) -> Vec<Family> {
    let sidecar = &stats.sidecar;
    let mut families = journals(stats);
    families.extend([
        Family::gauge("sidecar_budget_bytes", "What the sidecar may hold", bytes(sidecar.budget)),
        Family::gauge(
            "sidecar_pinned_bytes",
            "Record bytes that no segment holds yet",
            bytes(sidecar.pinned),
        ),
        Family::gauge(
            "sidecar_cached_bytes",
            "Record bytes kept for reading",
            bytes(sidecar.cached),
        ),
        Family::counter("sidecar_hits", "Reads answered from memory", sidecar.hits),
        Family::counter("sidecar_misses", "Reads that asked the disk", sidecar.misses),
        Family::gauge("storage_logs", "Logs on disk", float(stats.logs)),
        Family::gauge("storage_segments", "Segments of all logs", float(stats.segments)),
        Family::gauge(
            "storage_segment_bytes",
            "Record bytes in segments",
            bytes(stats.segment_bytes),
        ),
        Family::gauge(
            "storage_open_files",
            "Segment and index files open",
            float(stats.open_files),
        ),
        Family::counter("storage_flushes", "Rounds of writing to segments", stats.flushes),
        Family::counter(
            "storage_flushes_put_off",
            "Rounds of writing to segments that were given up because the disk was full",
            stats.flushes_put_off,
        ),
        Family::counter(
            "storage_flushed_bytes",
            "Bytes written to segments",
            stats.flushed_bytes.0,
        ),
        Family::counter(
            "storage_indexes_rebuilt",
            "Indexes that were lost or damaged and made again",
            stats.indexes_rebuilt,
        ),
        Family::gauge("storage_free_bytes", "Free space of the disk", bytes(stats.disk_free)),
        Family::gauge(
            "storage_full",
            "1 while writes are refused because the disk is full",
            f64::from(u8::from(stats.is_disk_full)),
        ),
    ]);
    families
}

fn journals(stats: &Stats) -> Vec<Family> {
    let lane = |durability: &Durability| vec![("lane", durability.name().to_owned())];
    let family = |name, help, value: fn(&rafka_storage::journal::Stats) -> Value| Family {
        name,
        help,
        points: stats
            .journals
            .iter()
            .map(|(durability, stats, _)| Point { labels: lane(durability), value: value(stats) })
            .collect(),
    };
    let usage = |name, help, value: fn(&rafka_storage::journal::Usage) -> ByteSize| Family {
        name,
        help,
        points: stats
            .journals
            .iter()
            .map(|(durability, _, usage)| Point {
                labels: lane(durability),
                value: Value::Gauge(bytes(value(usage))),
            })
            .collect(),
    };
    vec![
        family("journal_writes", "Writes, each of which made a group durable", |stats| {
            Value::Counter(stats.writes)
        }),
        family("journal_records", "Journal records written", |stats| Value::Counter(stats.records)),
        family("journal_written_bytes", "Bytes written", |stats| Value::Counter(stats.bytes)),
        family("journal_write_seconds", "Time of a write until it is durable", |stats| {
            let bounds = LATENCY_BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets = bounds.zip(stats.latency).collect();
            Value::Histogram { sum: stats.time.as_secs_f64(), buckets }
        }),
        usage("journal_file_bytes", "Size of all journal files", |usage| usage.total),
        usage("journal_file_bytes_max", "The bound of that size", |usage| usage.max),
        usage("journal_queued_bytes", "Submitted and not yet being written", |usage| usage.queued),
    ]
}

/// How far groups are behind, summed up by topic.
async fn groups(broker: &Broker) -> Vec<Family> {
    // While groups are being loaded there is nothing to tell; the next scrape will.
    let listed = broker.groups().list(Vec::new(), Vec::new()).await.unwrap_or_default();
    let positions = broker.groups().positions().await.unwrap_or_default();
    let mut topics: BTreeMap<TopicName, Vec<PartitionDescription>> = BTreeMap::new();
    let mut lags: BTreeMap<(String, TopicName), u64> = BTreeMap::new();
    for position in positions {
        let partitions = topics.entry(position.topic.clone()).or_insert_with(|| {
            let described = broker.describe_topic(&TopicRef::Name(position.topic.clone()));
            described.map(|topic| topic.partitions).unwrap_or_default()
        });
        let Some(lag) = lag(partitions, position.partition, position.offset) else { continue };
        let pair = (position.group.to_string(), position.topic);
        if lags.len() < LAG_POINTS_MAX || lags.contains_key(&pair) {
            *lags.entry(pair).or_default() += lag;
        }
    }
    let point = |((group, topic), lag): ((String, TopicName), u64)| Point {
        labels: vec![("group", group), ("topic", topic.to_string())],
        value: Value::Gauge(float(lag)),
    };
    vec![
        Family::gauge("group_count", "Consumer groups", float(listed.len() as u64)),
        Family {
            name: "group_lag_records",
            help: "Records that a group has not yet consumed of a topic it committed offsets for",
            points: lags.into_iter().map(point).collect(),
        },
    ]
}

fn lag(
    partitions: &[PartitionDescription],
    partition: PartitionIndex,
    committed: Offset,
) -> Option<u64> {
    let extent = partitions.iter().find(|found| found.index == partition)?.extent?;
    // Records below the log's start are gone: nobody is behind them.
    let from = committed.max(extent.log_start);
    Some(u64::try_from(extent.high_watermark - from).unwrap_or(0))
}
