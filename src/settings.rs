//! The settings of a node: what each crate wants to know, and what the binary itself does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rafka_core::ByteSize;
use serde::{Deserialize, Serialize};

use crate::logging;

mod layers;
mod schema;

pub(crate) use layers::{Error, Source, address, load};
pub(crate) use schema::{keys, reference};

/// Everything that can be set. Each section belongs to one crate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// What the binary itself does.
    pub(crate) node: Node,
    /// The log.
    pub(crate) log: logging::Settings,
    /// Where logs live.
    pub(crate) storage: rafka_storage::Settings,
    /// What topics get that say nothing themselves.
    pub(crate) metadata: rafka_metadata::Settings,
    /// Partitions and groups.
    pub(crate) broker: rafka_broker::Settings,
    /// The native API.
    pub(crate) grpc: rafka_grpc::Settings,
    /// The Kafka protocol.
    pub(crate) kafka: rafka_kafka::Settings,
    /// Health, readiness and metrics.
    pub(crate) http: rafka_http::Settings,
}

/// What the binary itself does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Where logs live.
    pub(crate) engine: Engine,
    /// The host that clients are told; the bound address when absent.
    pub(crate) advertise: Option<String>,
    /// Added to every port, so that several nodes fit on one host.
    pub(crate) port_offset: u16,
    /// Whether the node may listen beyond this host although security is off.
    pub(crate) insecure_bind: bool,
    /// How long a stop may take in all.
    #[serde(with = "rafka_core::duration")]
    pub(crate) stop_timeout: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./rafka-data"),
            engine: Engine::File,
            advertise: None,
            port_offset: 0,
            insecure_bind: false,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// Where logs live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// On disk.
    File,
    /// In memory: everything is gone with the process.
    Memory,
}

/// Files that are no connections, nor the journal's, nor kept open for reading: segments that are being
/// written, two databases, the lock, the listeners and whom they refuse, the system's queues.
const FILES_KEPT: u64 = 64;
/// A port that takes fewer connections serves nobody.
const CONNECTIONS_MIN: u64 = 16;

/// A value that is out of its range.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{error}")]
pub(crate) struct Invalid {
    section: &'static str,
    error: String,
}

impl Settings {
    /// Checks every section, and what only the whole can tell.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let of = |section: &'static str, checked: Result<(), String>| {
            checked.map_err(|error| Invalid { section, error })
        };
        of("node", self.node.validate())?;
        of("log", self.log.validate().map_err(|error| error.to_string()))?;
        of("storage", self.storage.validate().map_err(|error| error.to_string()))?;
        of("metadata", self.metadata.validate().map_err(|error| error.to_string()))?;
        of("broker", self.broker.validate().map_err(|error| error.to_string()))?;
        of("grpc", self.grpc.validate().map_err(|error| error.to_string()))?;
        of("kafka", self.kafka.validate().map_err(|error| error.to_string()))?;
        of("http", self.http.validate().map_err(|error| error.to_string()))?;
        let listeners = self.listeners();
        for (index, (section, listen)) in listeners.into_iter().enumerate() {
            let before = &listeners[..index];
            let taken = before.iter().find(|(_, other)| other.port() != 0 && *other == listen);
            of(
                section,
                taken.map_or(Ok(()), |(other, _)| {
                    Err(format!("listen is {listen}, as {other}.listen is: give each its own port"))
                }),
            )?;
            let shifted = listen.port().checked_add(self.node.port_offset);
            let fits = listen.port() == 0 || shifted.is_some();
            of(
                section,
                fits.then_some(()).ok_or_else(|| {
                    format!(
                        "listen is {listen}: with node.port_offset {} the port is above 65535",
                        self.node.port_offset
                    )
                }),
            )?;
            let allowed = self.node.insecure_bind || listen.ip().is_loopback();
            of(section, allowed.then_some(()).ok_or_else(|| format!(
                "listen is {listen}, which others can reach, while security is off: bind to 127.0.0.1, \
                 or give --insecure-bind if the network itself keeps strangers out"
            )))?;
        }
        Ok(())
    }

    /// Works out the bounds of memory that were not given, and tells how much all of them are.
    pub(crate) fn fit(&mut self, memory: Option<ByteSize>) {
        self.broker.fit(memory);
        self.grpc.fit(memory);
        self.kafka.fit(memory);
        let sidecar = self.storage.sidecar_budget();
        let producers = self.broker.producers_budget();
        let groups = self.broker.groups.groups_budget();
        let transactions = self.broker.transactions.transactions_budget();
        let (receive, read) = (self.grpc.receive_budget(), self.grpc.read_budget());
        let kafka = ByteSize(self.kafka.receive_budget().0 + self.kafka.read_budget().0);
        let parts = [sidecar, producers, groups, transactions, receive, read, kafka];
        let all: u64 = parts.iter().map(|part| part.0).sum();
        tracing::info!(
            %sidecar, %producers, %groups, %transactions, %receive, %read, %kafka, "bounds of memory"
        );
        if let Some(limit) = memory.filter(|limit| limit.0 < all) {
            let all = ByteSize(all);
            tracing::warn!(%all, %limit, "the bounds of memory are more than there is");
        }
    }

    /// Makes sure that connections leave the files to storage that it needs: a flush that finds none is
    /// the end of all writing. `limit` is how many files the process may have open.
    pub(crate) fn fit_files(&mut self, limit: u64) -> Result<(), Invalid> {
        let wished = [self.grpc.connections_max, self.kafka.connections_max];
        let open_files_max = u64::from(self.storage.open_files_max).min((limit / 8).max(8));
        let journal = &self.storage.journal;
        let journals = 2 * (journal.bytes_max.0 / journal.file_bytes.0);
        let kept = FILES_KEPT + journals + u64::from(self.http.connections_max);
        let left = limit.saturating_sub(kept + open_files_max);
        if left < 2 * CONNECTIONS_MIN {
            let least = kept + (2 * CONNECTIONS_MIN + 8) * 8 / 7 + 1;
            let error = format!("files: the process may open {limit}, it needs about {least}");
            return Err(Invalid { section: "node", error });
        }
        let fit = |max: u32, share: u64| u32::try_from(share).map_or(max, |share| share.min(max));
        self.grpc.connections_max = fit(self.grpc.connections_max, left / 2);
        let rest = left - u64::from(self.grpc.connections_max);
        self.kafka.connections_max = fit(self.kafka.connections_max, rest);
        self.storage.open_files_max = fit(self.storage.open_files_max, open_files_max);
        let fitted = [self.grpc.connections_max, self.kafka.connections_max];
        if fitted != wished {
            let [grpc, kafka] = fitted;
            tracing::warn!(limit, grpc, kafka, "the process may open few files: fewer connections");
        }
        Ok(())
    }

    /// The addresses as set, each with its section.
    fn listeners(&self) -> [(&'static str, SocketAddr); 3] {
        [("grpc", self.grpc.listen), ("kafka", self.kafka.listen), ("http", self.http.listen)]
    }

    /// The address that a listener binds: shifted by the port offset, unless the system chooses it.
    pub(crate) fn shifted(&self, listen: SocketAddr) -> SocketAddr {
        let offset = if listen.port() == 0 { 0 } else { self.node.port_offset };
        SocketAddr::new(listen.ip(), listen.port().saturating_add(offset))
    }
}

impl Node {
    fn validate(&self) -> Result<(), String> {
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir is empty: name a directory".to_owned());
        }
        if let Some(host) = self.advertise.as_deref().filter(|host| !is_host(host)) {
            return Err(format!(
                "advertise is {host:?}, which is no host: give a name or an address without port"
            ));
        }
        let timeouts = Duration::from_secs(1)..=Duration::from_mins(10);
        rafka_core::setting::span_in_range("stop_timeout", self.stop_timeout, timeouts)
            .map_err(|error| error.to_string())
    }
}

/// Whether clients can be told it: a name, or an address that may be an IPv6 one.
fn is_host(host: &str) -> bool {
    let is_name =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/:[]".contains(c));
    is_name || host.parse::<std::net::Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named_with_key_value_and_range() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error:?} does not begin with {expected:?}");
        };
        assert!(Settings::default().validate().is_ok());
        check(|s| s.node.data_dir = PathBuf::new(), "node.data_dir is empty");
        for host in ["a b", "", "node:9092", "http://node", "[::1]"] {
            let mut settings = Settings::default();
            settings.node.advertise = Some(host.to_owned());
            let error = settings.validate().expect_err(host).to_string();
            assert!(error.starts_with(&format!("node.advertise is {host:?}")), "{error}");
        }
        for host in ["node-0.rafka", "10.0.0.7", "::1"] {
            let mut settings = Settings::default();
            settings.node.advertise = Some(host.to_owned());
            assert!(settings.validate().is_ok(), "{host}");
        }
        check(
            |s| s.node.stop_timeout = Duration::ZERO,
            "node.stop_timeout is 0 s: it must be from",
        );
        check(|s| s.log.level = "a=loud".to_owned(), "log.level is \"a=loud\"");
        check(
            |s| s.node.port_offset = 60_000,
            "grpc.listen is 127.0.0.1:9192: with node.port_offset",
        );
    }

    #[test]
    fn a_listener_beyond_the_host_needs_the_word_of_the_operator() {
        let mut settings = Settings::default();
        settings.http.listen = SocketAddr::from(([0, 0, 0, 0], 9644));
        let error = settings.validate().expect_err("security is off").to_string();
        assert!(error.contains("--insecure-bind"), "{error}");
        settings.node.insecure_bind = true;
        assert!(settings.validate().is_ok());
    }

    #[test]
    fn each_listener_needs_an_address_of_its_own() {
        let mut settings = Settings::default();
        settings.kafka.listen = settings.grpc.listen;
        let error = settings.validate().expect_err("one of them cannot listen").to_string();
        assert!(error.contains("kafka.listen is 127.0.0.1:9192, as grpc.listen is"), "{error}");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        (settings.kafka.listen, settings.grpc.listen) = (any, any);
        assert!(settings.validate().is_ok(), "the system gives each its own");
    }

    #[test]
    fn the_port_offset_moves_fixed_ports_only() {
        let mut settings = Settings::default();
        settings.node.port_offset = 10;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(settings.shifted(local(9644)), local(9654));
        assert_eq!(settings.shifted(local(0)), local(0));
    }

    #[test]
    fn connections_leave_the_files_to_storage() {
        let fitted = |limit| {
            let mut settings = Settings::default();
            settings.fit_files(limit).map(|()| {
                let Settings { grpc, kafka, storage, .. } = settings;
                (grpc.connections_max, kafka.connections_max, storage.open_files_max)
            })
        };
        assert_eq!(fitted(1 << 20).expect("many"), (1000, 10_000, 256));
        assert_eq!(fitted(1024).expect("few"), (368, 368, 128));
        assert_eq!(fitted(4096).expect("more"), (1000, 2680, 256));
        let error = fitted(200).expect_err("not enough").to_string();
        assert!(error.starts_with("node.files: the process may open 200,"), "{error}");
        for limit in 0..2000 {
            if let Ok((grpc, kafka, open)) = fitted(limit) {
                let all = u64::from(grpc + kafka + open) + FILES_KEPT + 32 + 64;
                assert!(all <= limit, "{all} of {limit}");
            }
        }
    }
}
