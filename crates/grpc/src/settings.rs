//! Pure: the settings of the gRPC listener.

use std::net::SocketAddr;
use std::time::Duration;

use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use rafka_core::{ByteSize, duration};
use serde::{Deserialize, Serialize};

/// What is being received, and what is read, take this share of the memory each ...
const MEMORY_SHARE: u64 = 8;
/// ... but not more than this, unless they are told to.
const MEMORY_BYTES_MAX: ByteSize = ByteSize::mib(64);

/// How the gRPC listener serves. All changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it listens. Port 0 lets the system choose. Default: 127.0.0.1:9192.
    pub listen: SocketAddr,
    /// Connections at once; further ones are closed at once. From 1 to 100000. Default: 1000.
    pub connections_max: u32,
    /// The same for one client address. From 1 to 100000. Default: 500.
    pub connections_per_address_max: u32,
    /// Calls at once on one connection (HTTP/2 streams). From 1 to 10000. Default: 100.
    pub streams_per_connection_max: u32,
    /// How soon after connecting the first call must begin. From 100 ms to 5 min. Default: 10 s.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    /// How long a connection may stay without a call. From 1 s to 1 d. Default: 10 min.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long the node waits, in all, for the rest of a message that has begun. From 100 ms to
    /// 10 min. Default: 30 s.
    #[serde(with = "duration")]
    pub receive_timeout: Duration,
    /// How often a silent connection is asked for a sign of life. From 1 s to 1 h. Default: 20 s.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// How long it may take to give it. From 100 ms to 5 min. Default: 10 s.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// The largest message of a produce stream. From 64 KiB to 256 MiB. Default: 16 MiB.
    pub produce_message_bytes_max: ByteSize,
    /// Unanswered produce requests of one stream: at this size its reading pauses, though one
    /// message is always let in. From 64 KiB to 1 GiB. Default: 32 MiB.
    pub produce_inflight_bytes_max: ByteSize,
    /// Requests that are being received or wait to be appended, of all connections: what does not
    /// fit waits unread. From `produce_message_bytes_max` to 64 GiB. By default an eighth of the
    /// memory that the process may use, at most 64 MiB.
    pub receive_bytes_max: Option<ByteSize>,
    /// The largest message of any other call. From 64 KiB to 16 MiB. Default: 1 MiB.
    pub request_bytes_max: ByteSize,
    /// Fetch and Subscribe streams at once; further ones are refused. From 1 to 100000.
    /// Default: 1000.
    pub readers_max: u32,
    /// The most record bytes in one message to a reader, whatever it asks for. From 64 KiB to
    /// 256 MiB. Default: 8 MiB.
    pub fetch_bytes_max: ByteSize,
    /// What readers that catch up may hold at the same time, all together: beyond that, their
    /// messages shrink to 64 KiB. From `fetch_bytes_max` to 64 GiB. By default an eighth of the
    /// memory that the process may use, at most 64 MiB.
    pub read_bytes_max: Option<ByteSize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9192)),
            connections_max: 1000,
            connections_per_address_max: 500,
            streams_per_connection_max: 100,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
            receive_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            produce_message_bytes_max: ByteSize::mib(16),
            produce_inflight_bytes_max: ByteSize::mib(32),
            receive_bytes_max: None,
            request_bytes_max: ByteSize::mib(1),
            readers_max: 1000,
            fetch_bytes_max: ByteSize::mib(8),
            read_bytes_max: None,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        in_range("connections_max", self.connections_max, 1..=100_000)?;
        in_range("connections_per_address_max", self.connections_per_address_max, 1..=100_000)?;
        in_range("streams_per_connection_max", self.streams_per_connection_max, 1..=10_000)?;
        in_range("readers_max", self.readers_max, 1..=100_000)?;
        self.validate_spans()?;
        self.validate_sizes()
    }

    fn validate_spans(&self) -> Result<(), InvalidSetting> {
        let (tenth, second) = (Duration::from_millis(100), Duration::from_secs(1));
        let (minutes, hours) = (Duration::from_mins, Duration::from_hours);
        span_in_range("handshake_timeout", self.handshake_timeout, tenth..=minutes(5))?;
        span_in_range("idle_timeout", self.idle_timeout, second..=hours(24))?;
        span_in_range("receive_timeout", self.receive_timeout, tenth..=minutes(10))?;
        span_in_range("keepalive_interval", self.keepalive_interval, second..=hours(1))?;
        span_in_range("keepalive_timeout", self.keepalive_timeout, tenth..=minutes(5))
    }

    fn validate_sizes(&self) -> Result<(), InvalidSetting> {
        let (least, most) = (ByteSize::kib(64), ByteSize::mib(256));
        let (gib, message) = (ByteSize::gib, self.produce_message_bytes_max);
        in_range("produce_message_bytes_max", message, least..=most)?;
        let inflight = self.produce_inflight_bytes_max;
        in_range("produce_inflight_bytes_max", inflight, least..=gib(1))?;
        if let Some(receive) = self.receive_bytes_max {
            in_range("receive_bytes_max", receive, message..=gib(64))?;
        }
        in_range("request_bytes_max", self.request_bytes_max, least..=ByteSize::mib(16))?;
        in_range("request_bytes_max", self.request_bytes_max, least..=self.receive_budget())?;
        in_range("fetch_bytes_max", self.fetch_bytes_max, least..=most)?;
        if let Some(read) = self.read_bytes_max {
            in_range("read_bytes_max", read, self.fetch_bytes_max..=gib(64))?;
        }
        Ok(())
    }

    /// Works out the bounds that were not given from the memory that the process may use.
    pub fn fit(&mut self, memory: Option<ByteSize>) {
        let share = ByteSize::share(memory, MEMORY_SHARE, MEMORY_BYTES_MAX);
        self.receive_bytes_max.get_or_insert(share.max(self.produce_message_bytes_max));
        self.read_bytes_max.get_or_insert(share.max(self.fetch_bytes_max));
    }

    /// The bound of what is being received.
    #[must_use]
    pub fn receive_budget(&self) -> ByteSize {
        self.receive_bytes_max.unwrap_or(MEMORY_BYTES_MAX.max(self.produce_message_bytes_max))
    }

    /// The bound of what readers hold that catch up.
    #[must_use]
    pub fn read_budget(&self) -> ByteSize {
        self.read_bytes_max.unwrap_or(MEMORY_BYTES_MAX.max(self.fetch_bytes_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name_with_the_range() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().expect_err(expected).to_string();
            assert_eq!(error, expected);
        };
        assert_eq!(Settings::default().validate(), Ok(()));
        check(|s| s.connections_max = 0, "connections_max is 0: it must be from 1 to 100000");
        check(
            |s| s.idle_timeout = Duration::ZERO,
            "idle_timeout is 0 s: it must be from 1 s to 1 d",
        );
        check(
            |s| s.receive_bytes_max = Some(ByteSize::mib(1)),
            "receive_bytes_max is 1 MiB: it must be from 16 MiB to 64 GiB",
        );
        check(
            |s| s.read_bytes_max = Some(ByteSize(0)),
            "read_bytes_max is 0 B: it must be from 8 MiB to 64 GiB",
        );
    }

    #[test]
    fn what_was_not_given_fits_the_memory() {
        let fitted = |mut settings: Settings, memory| {
            settings.fit(memory);
            assert_eq!(settings.validate(), Ok(()));
            (settings.receive_budget(), settings.read_budget())
        };
        let (mib, default) = (ByteSize::mib, Settings::default);
        assert_eq!(fitted(default(), Some(mib(256))), (mib(32), mib(32)));
        assert_eq!(fitted(default(), Some(mib(64))), (mib(16), mib(8)));
        assert_eq!(fitted(default(), None), (mib(64), mib(64)));
        let given = Settings { receive_bytes_max: Some(mib(20)), ..default() };
        assert_eq!(fitted(given, Some(mib(256))), (mib(20), mib(32)));
    }
}
