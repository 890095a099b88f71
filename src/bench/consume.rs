//! `rafka bench consume` (W2): how many records a second a node gives out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rafka_core::{Batch, Clock, SystemClock, rng};
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::{FetchPartition, FetchRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::kafka::{self, Fetched, Place};
use super::load::{self, Load};
use super::payload::Batches;
use super::produce::WARM_UP;
use super::report::{Measured, Report, Round, Sample};
use super::target::{Connection, Target};
use super::{Options, Protocol, probe};
use crate::cli::Global;
use crate::exit::Outcome;

/// How much one message carries at most.
const MESSAGE_BYTES: u32 = 1 << 20;

/// Runs the benchmark.
pub(super) async fn run(options: &Options, global: &Global) -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut rng = rng::from_system()?;
    let batches = Batches::new(options.size, options.batch, clock.timestamp(), &mut rng)?;
    let bench = Bench {
        target: Target::open(global, &options.scratch).await?,
        options,
        batches: Arc::new(batches),
        clock,
    };
    let out = global.out();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let _progress = out.progress(&format!("round {number} of {}", options.rounds));
        let limits = probe::run(options.connections, bench.target.dir(), &bench.clock).await?;
        let mut samples = Vec::new();
        for (protocol, durability) in super::each(options) {
            let kind = (protocol, durability);
            let measure = async |topic: &str| {
                Ok([bench.tail(topic, kind).await?, bench.start(topic, kind).await?])
            };
            let found = bench.target.with_topic(options.partitions, durability, measure).await?;
            samples.extend(found.map(|found| Sample::new(&found, options.size, &limits)));
        }
        rounds.push(Round { limits, samples });
    }
    let report = Report::new("consume", bench.target.name(), options, rounds);
    bench.target.close().await?;
    report.print(out)
}

struct Bench<'a> {
    target: Target,
    options: &'a Options,
    batches: Arc<Batches>,
    clock: Arc<dyn Clock>,
}

impl Bench<'_> {
    /// Reads along while others write.
    async fn tail(
        &self,
        topic: &str,
        (protocol, durability): (Protocol, &'static str),
    ) -> anyhow::Result<Measured> {
        let producers = self.target.connections(protocol, self.options.connections).await?;
        let counted_from = self.clock.now() + WARM_UP;
        let span = Duration::from_secs(self.options.seconds);
        let load = Load {
            topic: topic.to_owned(),
            partitions: self.options.partitions,
            batches: Arc::clone(&self.batches),
            in_flight: self.options.in_flight,
            rate: self.options.rate.filter(|rate| 0 < *rate),
            counted_from,
            end: counted_from + span,
            clock: Arc::clone(&self.clock),
        };
        let mut readers = Readers::start(self, topic, protocol, false).await?;
        let counted = async {
            tokio::time::sleep(WARM_UP).await;
            let before = (readers.records.load(Ordering::Relaxed), self.target.usage());
            tokio::time::sleep(span).await;
            (before, (readers.records.load(Ordering::Relaxed), self.target.usage()))
        };
        let (written, (before, after)) = tokio::join!(load::run(&load, producers), counted);
        written?;
        readers.stop.store(true, Ordering::Relaxed);
        readers.tasks.shutdown().await;
        let records = after.0 - before.0;
        let usage = before.1.zip(after.1);
        let what = protocol.of("tail", "kafka tail");
        Ok(Measured { what, durability, records, span, latency: None, usage })
    }

    /// Reads everything that is there, from the first record on.
    async fn start(
        &self,
        topic: &str,
        (protocol, durability): (Protocol, &'static str),
    ) -> anyhow::Result<Measured> {
        let before = self.target.usage();
        let start = self.clock.now();
        let mut readers = Readers::start(self, topic, protocol, true).await?;
        while let Some(ended) = readers.tasks.join_next().await {
            ended.context("a reader's task failed")??;
        }
        let span = self.clock.now() - start;
        let records = readers.records.load(Ordering::Relaxed);
        let usage = before.zip(self.target.usage());
        let what = protocol.of("start", "kafka start");
        Ok(Measured { what, durability, records, span, latency: None, usage })
    }
}

/// Streams that together read every partition once.
struct Readers {
    records: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Readers {
    async fn start(
        bench: &Bench<'_>,
        topic: &str,
        protocol: Protocol,
        until_end: bool,
    ) -> anyhow::Result<Self> {
        let count = bench.options.connections.min(bench.options.partitions);
        let mut readers =
            Self { records: Arc::default(), stop: Arc::default(), tasks: JoinSet::new() };
        let connections = bench.target.connections(protocol, count).await?;
        for (reader, connection) in (0..count).zip(connections) {
            let partitions = (0..bench.options.partitions).filter(|p| p % count == reader);
            let (records, stop) = (Arc::clone(&readers.records), Arc::clone(&readers.stop));
            match connection {
                Connection::Grpc(channel) => {
                    let request = request(topic, partitions, until_end)?;
                    readers.tasks.spawn(read(channel, request, records, stop));
                }
                Connection::Kafka(sender, receiver) => {
                    let places = places(partitions)?;
                    let reader = KafkaReader { topic: topic.to_owned(), places, sender, receiver };
                    readers.tasks.spawn(reader.read(until_end, records, stop));
                }
            }
        }
        Ok(readers)
    }
}

/// A request for partitions from their first record on.
pub(super) fn request(
    topic: &str,
    partitions: impl Iterator<Item = u32>,
    until_end: bool,
) -> anyhow::Result<FetchRequest> {
    let partitions = partitions.map(|partition| {
        Ok(FetchPartition {
            topic: topic.to_owned(),
            partition: i32::try_from(partition)?,
            ..FetchPartition::default()
        })
    });
    Ok(FetchRequest {
        partitions: partitions.collect::<anyhow::Result<_>>()?,
        max_bytes: MESSAGE_BYTES,
        until_end,
        ..FetchRequest::default()
    })
}

async fn read(
    channel: Channel,
    request: FetchRequest,
    records: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut client = LogClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut stream = client.fetch(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        for partition in message.partitions {
            if let Some(error) = partition.error {
                bail!("partition {}: {} [{}]", partition.partition, error.message, error.code);
            }
            records.fetch_add(count(partition.batches)?, Ordering::Relaxed);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// The first places of partitions.
pub(super) fn places(partitions: impl Iterator<Item = u32>) -> anyhow::Result<Vec<Place>> {
    let place = |partition| Ok(Place { partition: i32::try_from(partition)?, offset: 0 });
    partitions.map(place).collect()
}

/// A reader over Kafka's protocol: each answer is asked for.
pub(super) struct KafkaReader {
    pub(super) topic: String,
    pub(super) places: Vec<Place>,
    pub(super) sender: kafka::Sender,
    pub(super) receiver: kafka::Receiver,
}

impl KafkaReader {
    /// What comes next, and how far behind the readers are then, in records.
    pub(super) async fn next(&mut self) -> anyhow::Result<(Vec<Bytes>, i64)> {
        self.sender.fetch(&self.topic, &self.places, MESSAGE_BYTES).await?;
        let (mut all, mut behind) = (Vec::new(), 0);
        for Fetched { partition, high_watermark, batches } in self.receiver.fetched().await? {
            let place = self.places.iter_mut().find(|place| place.partition == partition);
            let place = place.context("an answer for a partition that nobody asked for")?;
            let mut rest = batches.clone();
            while let Some(batch) = Batch::split_first(&mut rest)? {
                place.offset = batch.next_offset().0;
            }
            behind += high_watermark - place.offset;
            all.push(batches);
        }
        // The node fills answers from the front: the others come first next time.
        let half = self.places.len() / 2;
        self.places.rotate_left(half);
        Ok((all, behind))
    }

    async fn read(
        mut self,
        until_end: bool,
        records: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<()> {
        loop {
            let before: i64 = self.places.iter().map(|place| place.offset).sum();
            let (_, behind) = self.next().await?;
            let after: i64 = self.places.iter().map(|place| place.offset).sum();
            records.fetch_add(u64::try_from(after - before)?, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) || (until_end && behind == 0) {
                return Ok(());
            }
        }
    }
}

/// Counts records as a client must: every checksum is verified.
fn count(mut batches: Bytes) -> anyhow::Result<u64> {
    let mut records = 0;
    while let Some(batch) = Batch::split_first(&mut batches)? {
        records += u64::try_from(batch.header.record_count)?;
    }
    Ok(records)
}
