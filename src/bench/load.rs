//! The load generator: produce streams that re-send encoded batches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use rafka_core::{Clock, Time};
use rafka_proto::v1::log_client::LogClient;
use rafka_proto::v1::produce_partition::Data;
use rafka_proto::v1::{Acks, ProducePartition, ProduceRequest};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::pace::{Pacer, Schedule};
use super::payload::Batches;

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
pub(super) async fn run(load: &Load, connections: &[Channel]) -> anyhow::Result<Tally> {
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
    for ((index, channel), times) in (0_u64..).zip(connections).zip(takers) {
        tasks.spawn(connection(load.clone(), index, channel.clone(), times));
    }
    let mut sum = Tally { records: 0, latency: histogram() };
    while let Some(tally) = tasks.join_next().await {
        let tally = tally.context("a connection's task failed")??;
        sum.records += tally.records;
        sum.latency += tally.latency;
    }
    Ok(sum)
}

async fn connection(
    load: Load,
    index: u64,
    channel: Channel,
    times: Option<mpsc::Receiver<Time>>,
) -> anyhow::Result<Tally> {
    let window = usize::try_from(load.in_flight)?;
    let (requests, stream) = mpsc::channel(1);
    let (sent, acked) = mpsc::channel(window);
    let permits = Arc::new(Semaphore::new(window));
    let mut tasks = JoinSet::new();
    let sending = send(load.clone(), index, times, Outbox { requests, sent }, Arc::clone(&permits));
    tasks.spawn(sending);
    let mut client = LogClient::new(channel).max_decoding_message_size(usize::MAX);
    let answers = client.produce(ReceiverStream::new(stream)).await;
    let tally = receive(&load, answers?.into_inner(), acked, &permits).await;
    // The sender ends by itself: at its time, or because nobody takes what it sends.
    while let Some(ended) = tasks.join_next().await {
        ended.context("the sending task failed")?;
    }
    tally
}

struct Outbox {
    requests: mpsc::Sender<ProduceRequest>,
    sent: mpsc::Sender<Time>,
}

/// Sends until the time is up or the other side is gone.
async fn send(
    load: Load,
    index: u64,
    mut times: Option<mpsc::Receiver<Time>>,
    outbox: Outbox,
    permits: Arc<Semaphore>,
) {
    // Connections begin at different partitions, so that they do not march in step.
    for number in index.. {
        let paced = match &mut times {
            Some(times) => match times.recv().await {
                Some(due) => Some(due),
                None => return,
            },
            None => None,
        };
        let Ok(permit) = permits.acquire().await else { return };
        permit.forget();
        let now = load.clock.now();
        if load.end <= now && paced.is_none() {
            return;
        }
        let request = request(&load, number);
        // A request that is late counts from when it was due: the node made it late.
        let sent = outbox.sent.send(paced.unwrap_or(now)).await;
        if sent.is_err() || outbox.requests.send(request).await.is_err() {
            return;
        }
    }
}

fn request(load: &Load, number: u64) -> ProduceRequest {
    let partition = number % u64::from(load.partitions);
    let partition = ProducePartition {
        topic: load.topic.clone(),
        topic_id: Bytes::new(),
        partition: i32::try_from(partition).expect("a topic has at most 10 000 partitions here"),
        data: Some(Data::Batches(load.batches.encoded(number))),
    };
    ProduceRequest {
        request_id: number,
        acks: Acks::All.into(),
        partitions: vec![partition],
        ..ProduceRequest::default()
    }
}

async fn receive(
    load: &Load,
    mut answers: tonic::Streaming<rafka_proto::v1::ProduceResponse>,
    mut sent: mpsc::Receiver<Time>,
    permits: &Semaphore,
) -> anyhow::Result<Tally> {
    let mut tally = Tally { records: 0, latency: histogram() };
    let last = (load.end + DRAIN_LIMIT) - load.clock.now();
    let all = async {
        while let Some(answer) = answers.message().await? {
            if let Some(error) = answer.partitions.iter().find_map(|entry| entry.error.as_ref()) {
                bail!("the node refused a batch: {} [{}]", error.message, error.code);
            }
            let due = sent.recv().await.context("an answer came without a request")?;
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
