//! The handle of a producer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rafka_client::{Client, Missing};
use rafka_core::{ByteSize, TopicName};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accumulator::{Accumulator, NotAppended, cost_of};
use crate::builder::Builder;
use crate::delivery::Delivery;
use crate::error::{Error, Rejected};
use crate::metrics::{Counters, Metrics};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::sender::Sender;
use crate::settings::Settings;
use crate::shared::{Membership, Shared};

/// Sends records. Cheap to clone; all clones share one buffer and one set of connections.
///
/// Call [`Producer::close`] before the last clone is dropped: dropping loses what is not delivered.
#[derive(Debug, Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// The sending side. Aborted when the last handle is dropped.
    tasks: Mutex<JoinSet<()>>,
}

impl Producer {
    /// A producer to be configured, for a cluster at `bootstrap` (`host:port`, commas between).
    pub fn builder(bootstrap: &str) -> Builder {
        Builder::new(bootstrap)
    }

    /// A producer on a client that others may use too.
    ///
    /// # Errors
    /// If a setting cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_client(
        client: Client,
        settings: Settings,
        partitioner: Partitioner,
    ) -> Result<Self, Error> {
        settings.validate()?;
        Ok(Self::start(client, settings, partitioner, None))
    }

    /// Begins to work, with settings that were checked.
    pub(crate) fn start(
        client: Client,
        settings: Settings,
        partitioner: Partitioner,
        transaction: Option<Membership>,
    ) -> Self {
        let accumulator = Accumulator::new(settings.clone(), partitioner, client.fork_rng());
        let shared = Arc::new(Shared {
            memory: Semaphore::new(settings.buffer_bytes.as_usize()),
            settings,
            client,
            accumulator: Mutex::new(accumulator),
            starved: AtomicUsize::new(0),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            ended_by: OnceLock::new(),
            transaction,
            first_failure: OnceLock::new(),
            counters: Counters::default(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Sender::new(Arc::clone(&shared)).run(stop.clone()));
        Self { inner: Arc::new(Inner { shared, stop, tasks: Mutex::new(tasks) }) }
    }

    /// Takes a record into the buffer. Await the returned [`Delivery`] for where it was stored.
    ///
    /// Waits, at most `send_wait_max`, until the buffer has room and the topic is known. Records
    /// that one task sends one after the other keep their order within a partition.
    ///
    /// # Errors
    /// If the record was not taken: [`Error::Busy`], [`Error::RecordTooLarge`],
    /// [`Error::InvalidRecord`], [`Error::Client`] if the topic cannot be learnt,
    /// [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the record was not taken.
    pub async fn send(&self, record: Record) -> Result<Delivery, Error> {
        let shared = &self.inner.shared;
        let cost = self.check(&record)?;
        match self.try_append(&record, cost) {
            Err(Error::Busy { .. } | Error::UnknownYet { .. }) => {}
            outcome => return outcome,
        }
        let limit = shared.settings.send_wait_max;
        match tokio::time::timeout(limit, self.append(&record, cost)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if shared.accumulator.lock().knows(&record.topic) => {
                Err(Error::Busy { limit: shared.settings.buffer_bytes })
            }
            Err(_elapsed) => Err(Error::UnknownYet { topic: record.topic.as_ref().to_owned() }),
        }
    }

    /// Takes a record into the buffer if that needs no waiting.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::UnknownYet`] before the first `send` to a topic. The
    /// record comes back with the error.
    pub fn try_send(&self, record: Record) -> Result<Delivery, Box<Rejected>> {
        let taken = self.check(&record).and_then(|cost| self.try_append(&record, cost));
        taken.map_err(|cause| Box::new(Rejected { record, cause }))
    }

    /// What the record costs, if it can be sent at all.
    fn check(&self, record: &Record) -> Result<u32, Error> {
        let topic = || record.topic.as_ref().to_owned();
        let limit = self.inner.shared.settings.record_bytes_max;
        let size = ByteSize::of_len(record.payload_len());
        if limit < size {
            return Err(Error::RecordTooLarge { topic: topic(), size, limit });
        }
        let invalid =
            |rule: &str| Err(Error::InvalidRecord { topic: topic(), rule: rule.to_owned() });
        if record.timestamp.is_some_and(|timestamp| timestamp.0 < 0) {
            return invalid("its timestamp is negative");
        }
        if record.headers.iter().any(|(name, _)| std::str::from_utf8(name).is_err()) {
            return invalid("a header's name is not UTF-8");
        }
        let buffer = self.inner.shared.settings.buffer_bytes;
        let cost = cost_of(record);
        if buffer.0 < cost {
            return invalid("with its headers it does not fit the buffer");
        }
        u32::try_from(cost).map_err(|_beyond_any_buffer| Error::RecordTooLarge {
            topic: topic(),
            size: ByteSize(cost),
            limit,
        })
    }

    fn try_append(&self, record: &Record, cost: u32) -> Result<Delivery, Error> {
        let shared = &self.inner.shared;
        let permits = match shared.memory.try_acquire_many(cost) {
            Ok(permits) => permits,
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                return Err(Error::Busy { limit: shared.settings.buffer_bytes });
            }
            Err(tokio::sync::TryAcquireError::Closed) => return Err(shared.closed_error()),
        };
        let delivery = self.put(record, cost)?;
        permits.forget();
        Ok(delivery)
    }

    async fn append(&self, record: &Record, cost: u32) -> Result<Delivery, Error> {
        let shared = &self.inner.shared;
        if !shared.accumulator.lock().knows(&record.topic) {
            let name = TopicName::new(&record.topic).map_err(|invalid| Error::InvalidRecord {
                topic: record.topic.chars().take(64).collect(),
                rule: invalid.to_string(),
            })?;
            let topic = shared.client.topic(&name, Missing::Create).await?;
            shared.accumulator.lock().learn(&topic);
        }
        let permits = {
            let _starved = Starved::new(shared);
            shared.memory.acquire_many(cost).await.map_err(|_closed| shared.closed_error())?
        };
        let delivery = self.put(record, cost)?;
        permits.forget();
        Ok(delivery)
    }

    fn put(&self, record: &Record, cost: u32) -> Result<Delivery, Error> {
        let shared = &self.inner.shared;
        let clock = shared.client.clock();
        let timestamp = record.timestamp.unwrap_or_else(|| clock.timestamp());
        let now = clock.now();
        let appended = {
            let mut accumulator = shared.accumulator.lock();
            // Under the lock: what is appended after the last drain would never be settled.
            if shared.closed.load(Ordering::Acquire) {
                return Err(shared.closed_error());
            }
            accumulator.append(record, cost, now, timestamp)
        };
        match appended {
            Ok(appended) => {
                Counters::add(&shared.counters.records_sent, 1);
                if appended.wake {
                    shared.wake.notify_one();
                }
                Ok(appended.delivery)
            }
            Err(NotAppended::UnknownTopic) => {
                Err(Error::UnknownYet { topic: record.topic.as_ref().to_owned() })
            }
            Err(NotAppended::Invalid(error)) => Err(error),
        }
    }

    /// Sends everything at once and waits until all records taken so far are settled.
    ///
    /// # Errors
    /// [`Error::FlushTimedOut`] if some are still open after `limit` (they go on), else the first
    /// failure among those that were open when it was called.
    ///
    /// # Cancel safety
    /// Cancel safe: the records go on.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let open = {
            let mut accumulator = shared.accumulator.lock();
            accumulator.end_all_lingers();
            accumulator.unsettled()
        };
        shared.wake.notify_one();
        let outcomes = tokio::time::timeout(limit, join_all(open)).await;
        let outcomes = outcomes.map_err(|_elapsed| Error::FlushTimedOut { limit })?;
        outcomes.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// Takes no more records, flushes, and ends the connections. Other clones are closed too.
    ///
    /// # Errors
    /// As [`Producer::flush`]; after [`Error::FlushTimedOut`] the records that were still open have
    /// failed with [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Dropped, the producer takes no more records; what is open goes on until it is dropped.
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        let shared = &self.inner.shared;
        {
            let _no_append_in_between = shared.accumulator.lock();
            shared.closed.store(true, Ordering::Release);
        }
        let flushed = self.flush(limit).await;
        self.inner.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while let Some(ended) = tasks.join_next().await {
            if let Err(failure) = ended {
                tracing::error!(error = %failure, "the sending side of the producer failed");
            }
        }
        flushed
    }

    /// What it has done so far, in numbers.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.shared.metrics()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.shared.settings
    }

    /// Why the first record failed that did.
    pub(crate) fn first_failure(&self) -> Option<&Error> {
        self.inner.shared.first_failure.get()
    }

    /// The client it stands on.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.shared.client
    }
}

/// Somebody waits for memory, as long as this lives.
struct Starved<'a>(&'a Shared);

impl<'a> Starved<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.starved.fetch_add(1, Ordering::AcqRel);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Starved<'_> {
    fn drop(&mut self) {
        self.0.starved.fetch_sub(1, Ordering::AcqRel);
    }
}
