//! What the services share: the broker, the bounds, and the end of it all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rafka_broker::{Broker, Error, TopicRef};
use rafka_core::{ByteSize, Clock, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::Settings;

/// Shared by all services of a listener.
pub(crate) struct Gateway {
    pub(crate) broker: Broker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    /// Cancelled when the listener stops: streams then end by themselves.
    pub(crate) stop: CancellationToken,
    /// The tasks of streams.
    pub(crate) tasks: TaskTracker,
    readers: Arc<Semaphore>,
    catch_up: Arc<Semaphore>,
    next_partition: AtomicU32,
}

impl Gateway {
    pub(crate) fn new(
        broker: Broker,
        clock: Arc<dyn Clock>,
        settings: Settings,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let readers = usize::try_from(settings.readers_max).unwrap_or(Semaphore::MAX_PERMITS);
        let catch_up = settings.read_budget().as_usize();
        Self {
            broker,
            clock,
            settings,
            stop,
            tasks,
            readers: Arc::new(Semaphore::new(readers)),
            catch_up: Arc::new(Semaphore::new(catch_up)),
            next_partition: AtomicU32::new(0),
        }
    }

    /// How many partitions a topic has that is written to: one that is named and does not exist is
    /// created, if the node allows it.
    ///
    /// # Errors
    /// If it does not exist and is not created.
    pub(crate) async fn partition_count(&self, topic: &TopicRef) -> Result<u32, Error> {
        match (self.broker.partition_count(topic), topic) {
            (Err(error), TopicRef::Name(name))
                if error.code == ErrorCode::UnknownTopicOrPartition =>
            {
                self.broker.topic_or_create(name).await?;
                self.broker.partition_count(topic)
            }
            (known, _) => known,
        }
    }

    /// A partition for records without a key: another at each call.
    pub(crate) fn next_partition(&self, partition_count: u32) -> u32 {
        self.next_partition.fetch_add(1, Ordering::Relaxed) % partition_count
    }

    /// A place among the readers.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if all are taken.
    pub(crate) fn reader(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.readers).try_acquire_owned().map_err(|_full| {
            let max = self.settings.readers_max;
            let message = format!("{max} readers are connected, more are not allowed: try later");
            Status::resource_exhausted(message)
        })
    }

    /// Room for a large message to a reader that catches up, if there is some.
    pub(crate) fn catch_up(&self, size: ByteSize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(size.0).ok()?;
        Arc::clone(&self.catch_up).try_acquire_many_owned(permits).ok()
    }
}

/// The status of calls and streams that end because the node does.
pub(crate) fn stopping() -> Status {
    Status::unavailable("the node is stopping: try again, here or at another node")
}
