//! Putting a producer together.

use std::sync::Arc;
use std::time::Duration;

use rafka_client::Client;
use rafka_core::ByteSize;
use rafka_core::compression::Compression;

use crate::error::Error;
use crate::partitioner::Partitioner;
use crate::producer::Producer;
use crate::record::Record;
use crate::settings::{Acks, Settings};
use crate::transaction::TransactionalProducer;

/// A producer that is being configured. What is not said has the default of [`Settings`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before build"]
pub struct Builder {
    client: rafka_client::Settings,
    settings: Settings,
    partitioner: Partitioner,
}

impl Builder {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self {
            client: rafka_client::Settings::new(bootstrap),
            settings: Settings::default(),
            partitioner: Partitioner::default(),
        }
    }

    /// All settings at once.
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The settings of the connections.
    pub fn client(mut self, change: impl FnOnce(&mut rafka_client::Settings)) -> Self {
        change(&mut self.client);
        self
    }

    /// Whose word is waited for.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Whether the node recognises repeated batches.
    pub fn idempotence(mut self, idempotence: bool) -> Self {
        self.settings.idempotence = idempotence;
        self
    }

    /// The codec of the batches.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// How long a batch that is not full waits for more records.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// The size at which a batch is full.
    pub fn batch_bytes(mut self, size: ByteSize) -> Self {
        self.settings.batch_bytes = size;
        self
    }

    /// The memory for records that are not yet delivered.
    pub fn buffer_bytes(mut self, size: ByteSize) -> Self {
        self.settings.buffer_bytes = size;
        self
    }

    /// The time within which a record is delivered or has failed.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// A choice of partition of your own: the record and the number of partitions to an index.
    pub fn partitioner(self, choose: impl Fn(&Record, u32) -> u32 + Send + Sync + 'static) -> Self {
        Self { partitioner: Partitioner::Custom(Arc::new(choose)), ..self }
    }

    /// A producer whose records are part of transactions: takes the transactional id over, 1 to
    /// 4096 bytes. The node aborts a transaction that is open for longer than `timeout`, 1 ms to its
    /// `broker.transaction_timeout_max` (15 min by default).
    ///
    /// # Errors
    /// If a setting cannot work, if no node answers in time, or if the node refuses.
    ///
    /// # Cancel safety
    /// Dropped, whoever had the id may be fenced.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn build_transactional(
        self,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<TransactionalProducer, Error> {
        let client = Client::new(self.client)?;
        let Self { settings, partitioner, .. } = self;
        TransactionalProducer::new(client, settings, partitioner, transactional_id, timeout).await
    }

    /// The producer. Nothing is sent before the first record.
    ///
    /// # Errors
    /// If a setting cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn build(self) -> Result<Producer, Error> {
        self.settings.validate()?;
        let client = Client::new(self.client)?;
        Producer::with_client(client, self.settings, self.partitioner)
    }
}
