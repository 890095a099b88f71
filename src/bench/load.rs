//! The load generator: produce streams that re-send encoded batches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use rafka_core::{Clock, Time};
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{Acks, ProducePartition, ProduceRequest, ProduceResponse};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::kafka;
use super::pace::{Pacer, Schedule};
use super::payload::Batches;
use super::target::Connection;

/// A latency above this is counted as this.
const LATENCY_MAX: Duration = Duration::from_mins(1);
/// Answers to what is outstanding when the time is up are waited for this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Latencies in nanoseconds, three significant digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, nanos(LATENCY_MAX), 3).expect("the bounds are in order")
}

/// A span as the histograms count it.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What to send.
#[derive(Clone)]
pub(super) struct Load {
    /// The topic.
    pub(super) topic: String,
    /// Its partitions, written in turn.
    pub(super) partitions: u32,
    /// What is sent.
    pub(super) batches: Arc<Batches>,
    /// Requests in flight on each connection.
    pub(super) in_flight: u32,
    /// Records a second over all connections; nothing is as many as possible.
    pub(super) rate: Option<u64>,
    /// Latencies count from here on: before, everything is cold.
    pub(super) counted_from: Time,
    /// No request is sent from here on.
    pub(super) end: Time,
    /// The clock of all these.
    pub(super) clock: Arc<dyn Clock>,
}

/// What was acked within the counted time.
#[derive(Debug)]
pub(super) struct Tally {
    /// Records.
    pub(super) records: u64,
    /// From the intended sending time to the ack, in nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// Runs the load on every connection at once.
pub(super) async fn run(load: &Load, connections: Vec<Connection>) -> anyhow::Result<Tally> {
    let mut takers: Vec<Option<mpsc::Receiver<Time>>> = connections.iter().map(|_| None).collect();
    let _pacer = match load.rate {
        Some(rate) => {
            let requests = (rate / load.batches.records).max(1);
            let schedule = Schedule { start: load.clock.now(), rate: requests };
            let clock = Arc::clone(&load.clock);
            let (pacer, times) = Pacer::start(schedule, load.end, connections.len(), clock)?;
            takers = times.into_iter().map(Some).collect();
            Some(pacer)
        }
        None => None,
    };
    let mut tasks = JoinSet::new();
    for ((index, connection), times) in (0_u64..).zip(connections).zip(takers) {
        tasks.spawn(drive(load.clone(), index, connection, times));
    }
    let mut sum = Tally { records: 0, latency: histogram() };
    while let Some(tally) = tasks.join_next().await {
        let tally = tally.context("a connection's task failed")??;
        sum.records += tally.records;
        sum.latency += tally.latency;
    }
    Ok(sum)
}

async fn drive(
    load: Load,
    index: u64,
    connection: Connection,
    times: Option<mpsc::Receiver<Time>>,
) -> anyhow::Result<Tally> {
    let window = usize::try_from(load.in_flight)?;
    let (requests, numbers) = mpsc::channel(1);
    let (sent, acked) = mpsc::channel(window);
    let permits = Arc::new(Semaphore::new(window));
    let mut tasks = JoinSet::new();
    let sending = send(load.clone(), index, times, Outbox { requests, sent }, Arc::clone(&permits));
    tasks.spawn(sending);
    let tally = match connection {
        Connection::Grpc(channel) => {
            let mut client = LogClient::new(channel).max_decoding_message_size(usize::MAX);
            let requested = load.clone();
            let stream =
                ReceiverStream::new(numbers).map(move |number| request(&requested, number));
            let answers = client.produce(stream).await?.into_inner();
            receive(&load, Answers::Grpc(answers), acked, &permits).await
        }
        Connection::Kafka(sender, receiver) => {
            tasks.spawn(send_kafka(load.clone(), sender, numbers));
            receive(&load, Answers::Kafka(receiver), acked, &permits).await
        }
    };
    // The sender ends by itself: at its time, or because nobody takes what it sends.
    while let Some(ended) = tasks.join_next().await {
        ended.context("the sending task failed")??;
    }
    tally
}

struct Outbox {
    /// The numbers of requests to send.
    requests: mpsc::Sender<u64>,
    sent: mpsc::Sender<Time>,
}

/// Sends until the time is up or the other side is gone.
async fn send(
    load: Load,
    index: u64,
    mut times: Option<mpsc::Receiver<Time>>,
    outbox: Outbox,
    permits: Arc<Semaphore>,
) -> anyhow::Result<()> {
    // Connections begin at different partitions, so that they do not march in step.
    for number in index.. {
        let paced = match &mut times {
            Some(times) => match times.recv().await {
                Some(due) => Some(due),
                None => return Ok(()),
            },
            None => None,
        };
        let Ok(permit) = permits.acquire().await else { return Ok(()) };
        permit.forget();
        let now = load.clock.now();
        if load.end <= now && paced.is_none() {
            return Ok(());
        }
        // A request that is late counts from when it was due: the node made it late.
        let sent = outbox.sent.send(paced.unwrap_or(now)).await;
        if sent.is_err() || outbox.requests.send(number).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn send_kafka(
    load: Load,
    mut sender: kafka::Sender,
    mut numbers: mpsc::Receiver<u64>,
) -> anyhow::Result<()> {
    while let Some(number) = numbers.recv().await {
        sender.produce(&load.topic, partition(&load, number), load.batches.encoded(number)).await?;
    }
    Ok(())
}

fn partition(load: &Load, number: u64) -> i32 {
    let partition = number % u64::from(load.partitions);
    i32::try_from(partition).expect("a topic has at most 10 000 partitions here")
}

fn request(load: &Load, number: u64) -> ProduceRequest {
    let partition = ProducePartition {
        topic: load.topic.clone(),
        topic_id: Bytes::new(),
        partition: partition(load, number),
        data: Some(Data::Batches(load.batches.encoded(number))),
    };
    ProduceRequest {
        request_id: number,
        acks: Acks::All.into(),
        partitions: vec![partition],
        ..ProduceRequest::default()
    }
}

/// Where acknowledgements come from, in the order of the requests.
enum Answers {
    Grpc(Streaming<ProduceResponse>),
    Kafka(kafka::Receiver),
}

impl Answers {
    /// Waits for the next one. False if the node ends the connection, which it does if we do.
    async fn next(&mut self) -> anyhow::Result<bool> {
        let answers = match self {
            Self::Grpc(answers) => answers,
            Self::Kafka(receiver) => return receiver.acked().await,
        };
        let Some(answer) = answers.message().await? else { return Ok(false) };
        match answer.partitions.iter().find_map(|entry| entry.error.as_ref()) {
            Some(error) => bail!("the node refused a batch: {} [{}]", error.message, error.code),
            None => Ok(true),
        }
    }
}

async fn receive(
    load: &Load,
    mut answers: Answers,
    mut sent: mpsc::Receiver<Time>,
    permits: &Semaphore,
) -> anyhow::Result<Tally> {
    let mut tally = Tally { records: 0, latency: histogram() };
    let last = (load.end + DRAIN_LIMIT) - load.clock.now();
    let all = async {
        while let Some(due) = sent.recv().await {
            ensure!(answers.next().await?, "the node ended the connection");
            permits.add_permits(1);
            let now = load.clock.now();
            // Rates count acks inside the window, latencies the requests that were due in it.
            if load.counted_from <= now && now < load.end {
                tally.records += load.batches.records;
            }
            if load.counted_from <= due {
                tally.latency.saturating_record(nanos(now - due));
            }
        }
        Ok(())
    };
    tokio::time::timeout(last, all).await.context("the node left requests unanswered")??;
    Ok(tally)
}
