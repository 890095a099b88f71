//! Pure: the settings of the Kafka listener.

use std::net::SocketAddr;
use std::time::Duration;

use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use rafka_core::{ByteSize, duration};
use serde::{Deserialize, Serialize};

/// What is being received, and what is read, take this share of the memory each ...
const MEMORY_SHARE: u64 = 8;
/// ... but not more than this, unless they are told to.
const MEMORY_BYTES_MAX: ByteSize = ByteSize::mib(64);
/// A batch of the default `max.message.bytes`, and what a client sends with it.
const RECEIVE_BYTES_MIN: ByteSize = ByteSize::mib(4);

/// How the Kafka listener serves. All changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it listens. Port 0 lets the system choose. Default: 127.0.0.1:9092.
    pub listen: SocketAddr,
    /// Connections at once; further ones are closed at once. From 1 to 100000. Default: 10000.
    /// Kafka's `max.connections`.
    pub connections_max: u32,
    /// The same for one client address. From 1 to 100000. Default: 5000. Kafka's
    /// `max.connections.per.ip`.
    pub connections_per_address_max: u32,
    /// How soon after connecting the first request must have come. From 100 ms to 5 min.
    /// Default: 10 s.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    /// How long a connection may stay without a request. From 1 s to 1 d. Default: 10 min. Kafka's
    /// `connections.max.idle.ms`.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long the node waits for the rest of a request that has begun, and for a client to take
    /// more of an answer. From 100 ms to 10 min. Default: 30 s.
    #[serde(with = "duration")]
    pub receive_timeout: Duration,
    /// The largest request; above it the connection is closed. No request may be larger than half of
    /// `receive_bytes_max`. From 64 KiB to 1 GiB. Default: 100 MiB. Kafka's
    /// `socket.request.max.bytes`.
    pub request_bytes_max: ByteSize,
    /// Requests that are being received or unanswered, of all connections, as far as they have come and
    /// beyond their first 8 KiB: what does not fit waits unread, and who holds room that others wait
    /// for must send at least 256 KiB a second. From 4 MiB to 64 GiB. By default an eighth of the memory that the process may use, at
    /// most 64 MiB.
    pub receive_bytes_max: Option<ByteSize>,
    /// The most record bytes in one answer to a reader, whatever it asks for. From 64 KiB to 256 MiB.
    /// Default: 8 MiB.
    pub fetch_bytes_max: ByteSize,
    /// What readers that catch up may hold at the same time, all together: beyond that, their answers
    /// shrink to 64 KiB. From `fetch_bytes_max` to 64 GiB. By default an eighth of the memory that
    /// the process may use, at most 64 MiB.
    pub read_bytes_max: Option<ByteSize>,
    /// Produce requests of one connection that wait for their acknowledgement; further ones wait
    /// unread. From 1 to 1000. Default: 100.
    pub produce_inflight_max: u32,
    /// Partitions in fetch sessions (KIP-227) of all connections: beyond it, fetches are served without
    /// a session. From 0 to 10000000. Default: 100000. Kafka bounds
    /// sessions by `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_partitions_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            connections_max: 10_000,
            connections_per_address_max: 5000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
            receive_timeout: Duration::from_secs(30),
            request_bytes_max: ByteSize::mib(100),
            receive_bytes_max: None,
            fetch_bytes_max: ByteSize::mib(8),
            read_bytes_max: None,
            produce_inflight_max: 100,
            fetch_session_partitions_max: 100_000,
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
        let (tenth, minutes) = (Duration::from_millis(100), Duration::from_mins);
        span_in_range("handshake_timeout", self.handshake_timeout, tenth..=minutes(5))?;
        let idle = Duration::from_secs(1)..=Duration::from_hours(24);
        span_in_range("idle_timeout", self.idle_timeout, idle)?;
        span_in_range("receive_timeout", self.receive_timeout, tenth..=minutes(10))?;
        let sizes = ByteSize::kib(64)..=ByteSize::gib(1);
        in_range("request_bytes_max", self.request_bytes_max, sizes)?;
        if let Some(receive) = self.receive_bytes_max {
            in_range("receive_bytes_max", receive, RECEIVE_BYTES_MIN..=ByteSize::gib(64))?;
        }
        let answers = ByteSize::kib(64)..=ByteSize::mib(256);
        in_range("fetch_bytes_max", self.fetch_bytes_max, answers)?;
        if let Some(read) = self.read_bytes_max {
            in_range("read_bytes_max", read, self.fetch_bytes_max..=ByteSize::gib(64))?;
        }
        in_range("produce_inflight_max", self.produce_inflight_max, 1..=1000)?;
        in_range("fetch_session_partitions_max", self.fetch_session_partitions_max, 0..=10_000_000)
    }

    /// Works out the bounds that were not given from the memory that the process may use.
    pub fn fit(&mut self, memory: Option<ByteSize>) {
        let share = ByteSize::share(memory, MEMORY_SHARE, MEMORY_BYTES_MAX);
        self.receive_bytes_max.get_or_insert(share.max(RECEIVE_BYTES_MIN));
        self.read_bytes_max.get_or_insert(share.max(self.fetch_bytes_max));
    }

    /// The bound of what is being received.
    #[must_use]
    pub fn receive_budget(&self) -> ByteSize {
        self.receive_bytes_max.unwrap_or(MEMORY_BYTES_MAX)
    }

    /// The bound of what readers hold that catch up.
    #[must_use]
    pub fn read_budget(&self) -> ByteSize {
        self.read_bytes_max.unwrap_or(MEMORY_BYTES_MAX.max(self.fetch_bytes_max))
    }

    /// The largest request that is taken.
    pub(crate) fn frame_bytes_max(&self) -> ByteSize {
        self.request_bytes_max.min(ByteSize(self.receive_budget().0 / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        assert_eq!(Settings::default().validate(), Ok(()));
        check(|s| s.connections_max = 0, "connections_max is 0:");
        check(|s| s.idle_timeout = Duration::ZERO, "idle_timeout is 0 s:");
        check(|s| s.request_bytes_max = ByteSize(1), "request_bytes_max is 1 B:");
        check(|s| s.receive_bytes_max = Some(ByteSize::mib(1)), "receive_bytes_max is 1 MiB:");
        check(|s| s.produce_inflight_max = 0, "produce_inflight_max is 0:");
    }

    #[test]
    fn what_was_not_given_fits_the_memory_and_no_request_is_larger() {
        let fitted = |memory| {
            let mut settings = Settings::default();
            settings.fit(memory);
            assert_eq!(settings.validate(), Ok(()));
            settings.frame_bytes_max()
        };
        assert_eq!(fitted(Some(ByteSize::mib(256))), ByteSize::mib(16));
        assert_eq!(fitted(Some(ByteSize::mib(8))), ByteSize::mib(2));
        assert_eq!(fitted(None), ByteSize::mib(32));
    }
}
