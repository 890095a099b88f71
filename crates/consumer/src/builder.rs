//! Putting a consumer together.

use std::time::Duration;

use rafka_client::Client;
use rafka_client::admin::Isolation;
use rafka_core::ByteSize;
use rafka_core::assignor::Assignor;

use crate::consumer::Consumer;
use crate::error::Error;
use crate::rebalance::{Listener, Rebalance};
use crate::settings::{OffsetReset, Settings};

/// A consumer that is being configured. What is not said has the default of [`Settings`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before build"]
pub struct Builder {
    client: rafka_client::Settings,
    settings: Settings,
    listener: Listener,
}

impl Builder {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self {
            client: rafka_client::Settings::new(bootstrap),
            settings: Settings::default(),
            listener: Listener::default(),
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

    /// The group to be a member of, or to commit for.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.group = Some(group.into());
        self
    }

    /// The member's own name within its group.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.settings.instance_id = Some(instance_id.into());
        self
    }

    /// How the group shares partitions out, the preferred way first.
    pub fn assignors(mut self, assignors: impl Into<Vec<Assignor>>) -> Self {
        self.settings.assignors = assignors.into();
        self
    }

    /// Where to start without a committed offset.
    pub fn offset_reset(mut self, offset_reset: OffsetReset) -> Self {
        self.settings.offset_reset = offset_reset;
        self
    }

    /// How often what was given is committed by itself; `None` is never.
    pub fn auto_commit(mut self, interval: Option<Duration>) -> Self {
        self.settings.auto_commit_interval = interval;
        self
    }

    /// How far to read.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// The most records that one `poll` gives.
    pub fn poll_records_max(mut self, count: usize) -> Self {
        self.settings.poll_records_max = count;
        self
    }

    /// The memory for what was fetched and not yet given.
    pub fn prefetch_bytes(mut self, size: ByteSize) -> Self {
        self.settings.prefetch_bytes = size;
        self
    }

    /// Called within `poll`, for every change of what the group lets this consumer read. It must not
    /// wait, nor call the consumer.
    pub fn on_rebalance(self, listen: impl Fn(&Rebalance) + Send + Sync + 'static) -> Self {
        Self { listener: Listener::new(listen), ..self }
    }

    /// The consumer. Nothing is sent before the first `poll`.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn build(self) -> Result<Consumer, Error> {
        self.settings.validate()?;
        let client = Client::new(self.client)?;
        Consumer::start(client, self.settings, self.listener)
    }
}
