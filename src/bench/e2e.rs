//! `rafka bench e2e` (W3): how long a record takes from its intended sending time to the consumer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, ByteSize, Clock, Rng, SystemClock, Time, rng};
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{Acks, FetchResponse, ProducePartition, ProduceRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::consume::KafkaReader;
use super::load::{histogram, nanos};
use super::pace::{Pacer, Schedule};
use super::payload;
use super::produce::WARM_UP;
use super::report::{Latency, Measured, Report, Round, Sample};
use super::target::{Connection, Target};
use super::{Options, Protocol, consume, probe};
use crate::cli::Global;
use crate::exit::Outcome;

/// Records a second unless told otherwise.
const RATE: u64 = 10_000;
/// A value begins with its intended time, 8 bytes.
const STAMP: usize = 8;
/// Records that are on the way when sending ends may take this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Runs the benchmark.
pub(super) async fn run(options: &Options, global: &Global) -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let target = Target::open(global, &options.scratch).await?;
    let out = global.out();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let _progress = out.progress(&format!("round {number} of {}", options.rounds));
        let limits = probe::run(options.connections, target.dir(), &clock).await?;
        let mut samples = Vec::new();
        for (protocol, durability) in super::each(options) {
            let kind = (protocol, durability);
            let measure = async |topic: &str| sample(&target, options, topic, kind, &clock).await;
            let measured = target.with_topic(options.partitions, durability, measure).await?;
            samples.push(Sample::new(&measured, options.size, &limits));
        }
        rounds.push(Round { limits, samples });
    }
    let report = Report::new("e2e", target.name(), options, rounds);
    target.close().await?;
    report.print(out)
}

async fn sample(
    target: &Target,
    options: &Options,
    topic: &str,
    (protocol, durability): (Protocol, &'static str),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Measured> {
    let rate = options.rate.filter(|rate| 0 < *rate).unwrap_or(RATE);
    let connections = target.connections(protocol, options.connections).await?;
    let reader = match target.connection(protocol).await? {
        Connection::Grpc(channel) => {
            let request = consume::request(topic, 0..options.partitions, false)?;
            let mut client = LogClient::new(channel).max_decoding_message_size(usize::MAX);
            Incoming::Grpc(client.fetch(request).await?.into_inner())
        }
        Connection::Kafka(sender, receiver) => {
            let places = consume::places(0..options.partitions)?;
            Incoming::Kafka(KafkaReader { topic: topic.to_owned(), places, sender, receiver })
        }
    };
    let start = clock.now() + Duration::from_millis(100);
    let counted_from = start + WARM_UP;
    let span = Duration::from_secs(options.seconds);
    let schedule = Schedule { start, rate };
    let end = counted_from + span;
    let takers = connections.len();
    let (pacer, times) = Pacer::start(schedule, end, takers, Arc::clone(clock))?;
    let mut senders = JoinSet::new();
    for (connection, times) in connections.into_iter().zip(times) {
        let source = Source {
            topic: topic.to_owned(),
            partitions: options.partitions,
            size: options.size,
            clock: Arc::clone(clock),
            rng: rng::from_system()?,
        };
        senders.spawn(produce(connection, times, source));
    }
    let expected = rate * (span + WARM_UP).as_secs();
    let reading = receive(reader, expected, counted_from, clock.as_ref());
    let limit = (end + DRAIN_LIMIT) - clock.now();
    let sending = async {
        while let Some(ended) = senders.join_next().await {
            ended.context("a sending task failed")??;
        }
        anyhow::Ok(())
    };
    // The node's processor time is taken over exactly the counted time.
    let usage = async {
        tokio::time::sleep(counted_from - clock.now()).await;
        let before = target.usage();
        tokio::time::sleep(end - clock.now()).await;
        anyhow::Ok(before.zip(target.usage()))
    };
    let all = async { tokio::try_join!(reading, sending, usage) };
    let all = tokio::time::timeout(limit, all).await;
    drop(pacer);
    let (latency, (), usage) = all.context("records did not arrive in time")??;
    let records = latency.len();
    let latency = Some(Latency::of(&latency));
    let what = protocol.of("end to end", "kafka end to end");
    Ok(Measured { what, durability, records, span, latency, usage })
}

/// What a connection sends.
struct Source {
    topic: String,
    partitions: u32,
    size: ByteSize,
    clock: Arc<dyn Clock>,
    rng: Rng,
}

async fn produce(
    connection: Connection,
    times: mpsc::Receiver<Time>,
    source: Source,
) -> anyhow::Result<()> {
    let (requests, mut stream) = mpsc::channel(1024);
    let mut tasks = JoinSet::new();
    let topic = source.topic.clone();
    tasks.spawn(send(times, source, requests));
    match connection {
        Connection::Grpc(channel) => {
            let stream = ReceiverStream::new(stream).map(move |batch| request(&topic, batch));
            let mut answers = LogClient::new(channel).produce(stream).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                if let Some(error) = answer.partitions.iter().find_map(|entry| entry.error.as_ref())
                {
                    bail!("the node refused a record: {} [{}]", error.message, error.code);
                }
            }
        }
        Connection::Kafka(mut sender, mut receiver) => {
            let mut outstanding = 0_u64;
            loop {
                tokio::select! {
                    next = stream.recv() => match next {
                        Some((partition, batch)) => {
                            sender.produce(&topic, partition, batch).await?;
                            outstanding += 1;
                        }
                        None if outstanding == 0 => break,
                        None => {
                            ensure!(receiver.acked().await?, "the node ended the connection");
                            outstanding -= 1;
                        }
                    },
                    acked = receiver.acked(), if 0 < outstanding => {
                        ensure!(acked?, "the node ended the connection");
                        outstanding -= 1;
                    }
                }
            }
        }
    }
    tasks.join_next().await.context("the sending task is there")?.context("the sending task")?
}

/// Sends each record when it is due. What came due meanwhile goes along in the same request.
async fn send(
    mut times: mpsc::Receiver<Time>,
    mut source: Source,
    requests: mpsc::Sender<(i32, Bytes)>,
) -> anyhow::Result<()> {
    let mut value = payload::value(source.size.as_usize().max(STAMP), &mut source.rng);
    let mut due = Vec::new();
    for number in 0_u64.. {
        due.clear();
        if times.recv_many(&mut due, 256).await == 0 {
            return Ok(());
        }
        let mut builder = BatchBuilder::new(Compression::None);
        for due in &due {
            value[..STAMP].copy_from_slice(&due.0.to_be_bytes());
            builder.push(source.clock.timestamp(), None, Some(&value), &[]);
        }
        let partition = i32::try_from(number % u64::from(source.partitions))?;
        if requests.send((partition, builder.build()?.to_bytes())).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn request(topic: &str, (partition, batch): (i32, Bytes)) -> ProduceRequest {
    let partition = ProducePartition {
        topic: topic.to_owned(),
        topic_id: Bytes::new(),
        partition,
        data: Some(Data::Batches(batch)),
    };
    ProduceRequest {
        acks: Acks::All.into(),
        partitions: vec![partition],
        ..ProduceRequest::default()
    }
}

/// Where records come from.
enum Incoming {
    Grpc(Streaming<FetchResponse>),
    Kafka(KafkaReader),
}

impl Incoming {
    /// The batches of the next answer.
    async fn next(&mut self) -> anyhow::Result<Vec<Bytes>> {
        let stream = match self {
            Self::Grpc(stream) => stream,
            Self::Kafka(reader) => return reader.next().await.map(|(batches, _)| batches),
        };
        let message = stream.message().await?.context("the node ended the stream")?;
        let mut all = Vec::new();
        for partition in message.partitions {
            if let Some(error) = partition.error {
                bail!("partition {}: {} [{}]", partition.partition, error.message, error.code);
            }
            all.push(partition.batches);
        }
        Ok(all)
    }
}

/// Receives all records; counts the latency of those that were due in the counted time.
async fn receive(
    mut incoming: Incoming,
    expected: u64,
    counted_from: Time,
    clock: &dyn Clock,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency = histogram();
    let mut received = 0;
    while received < expected {
        for mut batches in incoming.next().await? {
            let now = clock.now();
            while let Some(batch) = Batch::split_first(&mut batches)? {
                for record in batch.records(ByteSize::mib(64))? {
                    let due = stamp(record?.value.as_deref())?;
                    received += 1;
                    if counted_from <= due {
                        latency.saturating_record(nanos(now - due));
                    }
                }
            }
        }
    }
    ensure!(received == expected, "{received} records came of {expected} that were sent");
    Ok(latency)
}

fn stamp(value: Option<&[u8]>) -> anyhow::Result<Time> {
    let stamp = value.and_then(|value| value.first_chunk::<STAMP>());
    Ok(Time(u64::from_be_bytes(*stamp.context("a record without a time stamp came")?)))
}
