//! Pure: the settings of the HTTP listener.

use std::net::SocketAddr;
use std::time::Duration;

use rafka_core::duration;
use rafka_core::setting::{InvalidSetting, in_range, span_in_range};
use serde::{Deserialize, Serialize};

/// How the HTTP listener serves. All changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it listens. Port 0 lets the system choose. Default 127.0.0.1:9644.
    pub listen: SocketAddr,
    /// Connections served at once, 1 to 10000; more wait in the system's queue. Default 64.
    pub connections_max: u32,
    /// How long one connection may last, 100 ms to 1 min: each serves one request. Default 5 s.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9644)),
            connections_max: 64,
            request_timeout: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        in_range("connections_max", self.connections_max, 1..=10_000)?;
        let timeouts = Duration::from_millis(100)..=Duration::from_mins(1);
        span_in_range("request_timeout", self.request_timeout, timeouts)
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
        assert!(Settings::default().validate().is_ok());
        check(|s| s.connections_max = 0, "connections_max is 0:");
        check(|s| s.request_timeout = Duration::from_mins(2), "request_timeout is 2 min:");
    }
}
