//! Putting a consumer together.

use std::time::Duration;

use rafka_client::Client;
use rafka_client::admin::Isolation;
use rafka_core::ByteSize;
use rafka_core::assignor::Assignor;

use crate::consumer::Consumer;
use crate::error::Error;
use crate::settings::{OffsetReset, Settings};

/// A consumer that is being configured. What is not said has the default of [`Settings`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before build"]
pub struct Builder {
    client: rafka_client::Settings,
    settings: Settings,
}

impl Builder {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self { client: rafka_client::Settings::new(bootstrap), settings: Settings::default() }
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

    /// The group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.group = Some(group.into());
        self
    }

    /// The member's own name, which makes it static.
    pub fn instance_id(mut self, instance: impl Into<String>) -> Self {
        self.settings.instance_id = Some(instance.into());
        self
    }

    /// How the group shares partitions out, the preferred way first.
    pub fn assignors(mut self, assignors: impl Into<Vec<Assignor>>) -> Self {
        self.settings.assignors = assignors.into();
        self
    }

    /// Where to start without a committed offset.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.settings.offset_reset = reset;
        self
    }

    /// How often what `poll` gave is committed.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.settings.auto_commit_interval = Some(interval);
        self
    }

    /// Commits only when told to.
    pub fn manual_commit(mut self) -> Self {
        self.settings.auto_commit_interval = None;
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

    /// The silence after which the group takes the member for dead, and the time between two signs
    /// of life.
    pub fn session(mut self, timeout: Duration, heartbeat: Duration) -> Self {
        self.settings.session_timeout = timeout;
        self.settings.heartbeat_interval = heartbeat;
        self
    }

    /// The memory for what was fetched and not yet given to `poll`.
    pub fn prefetch_bytes(mut self, size: ByteSize) -> Self {
        self.settings.prefetch_bytes = size;
        self
    }

    /// The consumer. Nothing is asked before it is subscribed or assigned.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn build(self) -> Result<Consumer, Error> {
        self.settings.validate()?;
        Consumer::with_client(Client::new(self.client)?, self.settings)
    }
}
