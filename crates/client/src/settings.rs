//! Pure: how a client connects, waits and gives up.

use std::time::Duration;

use rafka_core::ByteSize;

use crate::address::Address;
use crate::retry;

/// The settings of a [`Client`](crate::Client): shared by the producers, consumers and admin calls
/// that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The addresses to start from, `host:port`. One is enough; the others are for when it is down.
    pub bootstrap: Vec<String>,
    /// A name for this client in the node's logs. Default `rafka`.
    pub client_id: String,
    /// The longest wait for a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// The longest wait for the answer of one attempt. Default 30 s.
    pub request_timeout: Duration,
    /// How often a call is tried, and for how long.
    pub retry: retry::Settings,
    /// When a node that fails is left alone for a while.
    pub breaker: BreakerSettings,
    /// The age at which what is known of a topic is asked anew. Default 5 min.
    pub metadata_age_max: Duration,
    /// The largest answer that is read from a node; larger ones are an error. Default 64 MiB.
    pub message_bytes_max: ByteSize,
    /// The silence on a connection after which the node is probed. Default 20 s.
    pub keepalive_interval: Duration,
    /// The wait for the answer to a probe; then the connection is given up. Default 10 s.
    pub keepalive_timeout: Duration,
}

/// When the circuit breaker of a node opens and closes. There is one per node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// How many of the last calls are looked at. It opens when half of them failed. Default 10.
    pub calls: usize,
    /// How long it stays open before calls are let through to try. Default 1 s.
    pub open_for: Duration,
    /// How many calls decide, after that, whether it closes again. Default 2.
    pub trial_calls: usize,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { calls: 10, open_for: Duration::from_secs(1), trial_calls: 2 }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {key} is {value}; it must be {rule}")]
pub struct InvalidSettings {
    key: &'static str,
    value: String,
    rule: String,
}

impl InvalidSettings {
    /// A refusal of `key`, which is `value` and must be `rule`.
    #[must_use]
    pub fn new(key: &'static str, value: impl ToString, rule: impl ToString) -> Self {
        Self { key, value: value.to_string(), rule: rule.to_string() }
    }

    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }
}

/// Checks that the span under `key` is not shorter than `least`.
///
/// # Errors
/// If it is.
pub fn at_least(key: &'static str, span: Duration, least: Duration) -> Result<(), InvalidSettings> {
    if least <= span {
        return Ok(());
    }
    Err(InvalidSettings::new(key, format!("{span:?}"), format!("at least {least:?}")))
}

/// The longest client id: it ends up in logs.
const CLIENT_ID_LEN_MAX: usize = 128;
/// The node's answers carry batches; a topic may allow batches of this size.
const MESSAGE_BYTES_LEAST: ByteSize = ByteSize::mib(1);

impl Settings {
    /// The defaults, with one or several addresses to start from (`host:port`, commas between).
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        let addresses = bootstrap.split(',').map(str::trim).filter(|text| !text.is_empty());
        Self {
            bootstrap: addresses.map(str::to_owned).collect(),
            client_id: "rafka".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry: retry::Settings::default(),
            breaker: BreakerSettings::default(),
            metadata_age_max: Duration::from_secs(300),
            message_bytes_max: ByteSize::mib(64),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one that cannot work, by its key.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        self.addresses()?;
        if CLIENT_ID_LEN_MAX < self.client_id.len() || !self.client_id.is_ascii() {
            let rule = "at most 128 ASCII characters";
            return Err(InvalidSettings::new("client_id", format!("{:?}", self.client_id), rule));
        }
        let millisecond = Duration::from_millis(1);
        at_least("connect_timeout", self.connect_timeout, millisecond)?;
        at_least("request_timeout", self.request_timeout, millisecond)?;
        at_least("metadata_age_max", self.metadata_age_max, millisecond)?;
        at_least("keepalive_interval", self.keepalive_interval, Duration::from_secs(1))?;
        at_least("keepalive_timeout", self.keepalive_timeout, millisecond)?;
        if self.message_bytes_max < MESSAGE_BYTES_LEAST {
            let rule = format!("at least {MESSAGE_BYTES_LEAST}");
            return Err(InvalidSettings::new("message_bytes_max", self.message_bytes_max, rule));
        }
        self.breaker.validate()?;
        self.retry.validate()
    }

    pub(crate) fn addresses(&self) -> Result<Vec<Address>, InvalidSettings> {
        if self.bootstrap.is_empty() {
            return Err(InvalidSettings::new("bootstrap", "empty", "at least one host:port"));
        }
        self.bootstrap
            .iter()
            .map(|text| {
                Address::parse(text).map_err(|invalid| {
                    InvalidSettings::new(
                        "bootstrap",
                        format!("{text:?}"),
                        format!("addresses: {invalid}"),
                    )
                })
            })
            .collect()
    }
}

impl BreakerSettings {
    fn validate(&self) -> Result<(), InvalidSettings> {
        if self.calls == 0 {
            return Err(InvalidSettings::new("breaker.calls", 0, "at least 1"));
        }
        if self.trial_calls == 0 {
            return Err(InvalidSettings::new("breaker.trial_calls", 0, "at least 1"));
        }
        at_least("breaker.open_for", self.open_for, Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_take_several_addresses() {
        let settings = Settings::new("a:1, b:2,");
        assert_eq!(settings.bootstrap, ["a:1", "b:2"]);
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let check = |key: &str, change: fn(&mut Settings)| {
            let mut settings = Settings::new("localhost:9192");
            change(&mut settings);
            let refused = settings.validate().expect_err(key);
            assert_eq!(refused.key(), key);
            assert!(refused.to_string().contains(key), "{refused}");
        };
        check("bootstrap", |settings| settings.bootstrap.clear());
        check("bootstrap", |settings| settings.bootstrap = vec!["localhost".to_owned()]);
        check("client_id", |settings| settings.client_id = "x".repeat(129));
        check("connect_timeout", |settings| settings.connect_timeout = Duration::ZERO);
        check("request_timeout", |settings| settings.request_timeout = Duration::ZERO);
        check("metadata_age_max", |settings| settings.metadata_age_max = Duration::ZERO);
        check("message_bytes_max", |settings| settings.message_bytes_max = ByteSize(1));
        check("keepalive_interval", |settings| settings.keepalive_interval = Duration::ZERO);
        check("breaker.calls", |settings| settings.breaker.calls = 0);
        check("breaker.trial_calls", |settings| settings.breaker.trial_calls = 0);
        check("retry.attempts_max", |settings| settings.retry.attempts_max = 0);
    }
}
