//! Pure: addresses of nodes, as people write them (`host:port`).

use std::fmt;
use std::sync::Arc;

/// Where a node listens for gRPC: a host name or IP address, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

/// The text is not an address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a node: {rule}")]
pub struct InvalidAddress {
    text: String,
    rule: &'static str,
}

impl Address {
    /// Reads `host:port`, `[ipv6]:port`, or either with `http://` before it.
    ///
    /// # Errors
    /// If host or port are missing or make no sense. TLS (`https://`) is refused by name.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let refuse = |rule| {
            let text = text.chars().take(128).collect();
            Err(InvalidAddress { text, rule })
        };
        let trimmed = text.trim();
        if trimmed.starts_with("https://") {
            return refuse("TLS is not supported; write host:port");
        }
        let plain = trimmed.strip_prefix("http://").unwrap_or(trimmed);
        let plain = plain.strip_suffix('/').unwrap_or(plain);
        let Some((host, port)) = plain.rsplit_once(':') else {
            return refuse("the port is missing; write host:port");
        };
        if !matches!(port.parse::<u16>(), Ok(port) if 0 < port) {
            return refuse("the port must be a number from 1 to 65535");
        }
        let ipv6 = host.starts_with('[') && host.ends_with(']');
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let allowed_ipv6 = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '[' | ']');
        let sound = if ipv6 { host.chars().all(allowed_ipv6) } else { host.chars().all(allowed) };
        if host.is_empty() || !sound {
            return refuse("the host is neither a name nor an IP address ([..] around IPv6)");
        }
        Ok(Self(plain.into()))
    }

    /// `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        let check = |text: &str, expected: Option<&str>| {
            let found = Address::parse(text);
            assert_eq!(found.as_ref().ok().map(Address::as_str), expected, "{text}");
        };
        check("localhost:9192", Some("localhost:9192"));
        check(" http://10.0.0.1:1/ ", Some("10.0.0.1:1"));
        check("[::1]:9192", Some("[::1]:9192"));
        check("https://host:9192", None);
        check("host", None);
        check("host:", None);
        check("host:0", None);
        check("host:65536", None);
        check(":9192", None);
        check("::1:9192", None);
        check("a b:9192", None);
        check("user@host:9192", None);
        check("host/path:9192", None);
    }
}
