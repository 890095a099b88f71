//! The producers of the demo: steady keyed traffic that goes on through the death of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rafka_client::Client;
use rafka_core::{Clock, Time};
use rafka_producer::{Compression, Delivery, Partitioner, Producer, Record, Settings};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::{Name, Placed};

/// Each producer has its own codec: the node stores them side by side and never looks inside.
pub(super) const CODECS: [Compression; 3] =
    [Compression::None, Compression::Lz4, Compression::Zstd];
/// Keys of each producer.
pub(super) const KEYS: u64 = 20;
/// How often each producer sends a burst, and how large that is: 20 000 records a second.
const TICK: Duration = Duration::from_millis(5);
const BURST: u64 = 100;
/// Deliveries that a producer has not looked at yet.
const WATCHED_MAX: usize = 100_000;
/// A record must be acknowledged in this time, the node's death included.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);
/// What a value is filled up with.
const FILLING: &str =
    "It is filled with some words, as values usually are, to about a hundred bytes.";

/// What producers have done so far.
#[derive(Debug)]
pub(super) struct Progress {
    /// Records acknowledged.
    pub(super) acked: AtomicU64,
    /// When the last acknowledgement came, and the longest silence between two.
    acks: Mutex<Acks>,
}

#[derive(Debug)]
struct Acks {
    last: Option<Time>,
    silence_max: Duration,
    latency: Histogram<u64>,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        let max = u64::try_from(DELIVERY_LIMIT.as_micros()).unwrap_or(u64::MAX);
        let latency = Histogram::new_with_bounds(1, max, 3).expect("the bounds are in order");
        let acks = Mutex::new(Acks { last: None, silence_max: Duration::ZERO, latency });
        Arc::new(Self { acked: AtomicU64::new(0), acks })
    }

    fn note(&self, now: Time, latency: Duration) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        let mut acks = self.acks.lock();
        if let Some(last) = acks.last.replace(now) {
            acks.silence_max = acks.silence_max.max(now - last);
        }
        acks.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// The longest time in which nothing was acknowledged, since the last call.
    pub(super) fn take_silence(&self) -> Duration {
        std::mem::take(&mut self.acks.lock().silence_max)
    }

    /// From sending to acknowledgement, in microseconds, since the last call.
    pub(super) fn take_latency(&self) -> Histogram<u64> {
        let mut acks = self.acks.lock();
        let latency = acks.latency.clone();
        acks.latency.reset();
        latency
    }
}

/// Running producers.
pub(super) struct Traffic {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<Vec<Placed>>>,
}

impl Traffic {
    /// Starts one producer for each codec.
    pub(super) fn start(
        bootstrap: &str,
        topic: &str,
        progress: &Arc<Progress>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (number, codec) in CODECS.into_iter().enumerate() {
            let mut client = rafka_client::Settings::new(bootstrap);
            client.client_id = format!("demo-producer-{number}");
            let mut settings = Settings::default();
            settings.compression = codec;
            settings.delivery_timeout = DELIVERY_LIMIT;
            let producer =
                Producer::with_client(Client::new(client)?, settings, Partitioner::default())?;
            let source = Source {
                topic: topic.into(),
                number,
                producer,
                progress: Arc::clone(progress),
                clock: Arc::clone(clock),
            };
            tasks.spawn(source.run(stop.clone()));
        }
        Ok(Self { stop, tasks })
    }

    /// Ends the traffic, waits for what is under way, and returns all that was acknowledged.
    pub(super) async fn stop(mut self) -> anyhow::Result<Vec<Placed>> {
        self.stop.cancel();
        let mut acked = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            acked.extend(ended.context("a producer's task failed")??);
        }
        Ok(acked)
    }
}

/// One producer.
struct Source {
    topic: Arc<str>,
    number: usize,
    producer: Producer,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
}

type Sent = (Name, Time, Delivery);

impl Source {
    async fn run(self, stop: CancellationToken) -> anyhow::Result<Vec<Placed>> {
        let (watch, watched) = mpsc::channel(WATCHED_MAX);
        let mut watcher = JoinSet::new();
        watcher.spawn(watch_all(watched, Arc::clone(&self.progress), Arc::clone(&self.clock)));
        let mut ticks = tokio::time::interval(TICK);
        let mut sent = 0_u64;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            for _ in 0..BURST {
                let delivery = self.send(sent).await?;
                sent += 1;
                if watch.send(delivery).await.is_err() {
                    break;
                }
            }
        }
        drop(watch);
        self.producer.close(DELIVERY_LIMIT).await.context("closing a producer")?;
        watcher.join_next().await.context("the watcher is there")?.context("the watcher failed")?
    }

    async fn send(&self, number: u64) -> anyhow::Result<Sent> {
        let key = format!("customer-{}-{}", self.number, number % KEYS);
        let name = Name { key, number: number / KEYS };
        let record = Record::new(Arc::clone(&self.topic))
            .key(name.key.clone())
            .value(name.value(FILLING))
            .header("codec", CODECS[self.number].name());
        let sent_at = self.clock.now();
        let delivery = self.producer.send(record).await.context("sending")?;
        Ok((name, sent_at, delivery))
    }
}

async fn watch_all(
    mut watched: mpsc::Receiver<Sent>,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Vec<Placed>> {
    let mut acked = Vec::new();
    while let Some((name, sent_at, delivery)) = watched.recv().await {
        let stored = delivery.await.with_context(|| format!("{name:?} was not acknowledged"))?;
        let now = clock.now();
        progress.note(now, now - sent_at);
        let offset = stored.offset.context("acks=all tells offsets")?;
        acked.push(Placed { partition: stored.partition, offset, name });
    }
    Ok(acked)
}
