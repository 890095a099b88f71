//! Which node is measured: a running one, or one started for the purpose.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rafka_core::rng::{self, RngExt as _};
use rafka_proto::v1::admin_client::AdminClient;
use rafka_proto::v1::{
    ConfigEntry, CreateTopicsRequest, DeleteTopicsRequest, NewTopic, TopicReference,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::{Protocol, kafka};
use crate::child::{Node, Spec};
use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::process::{self, Usage};
use crate::sdk;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// What HTTP/2 may have in flight on a stream: above it, flow control would be what is measured.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection to it.
pub(super) enum Connection {
    Grpc(Channel),
    Kafka(kafka::Sender, kafka::Receiver),
}

/// A node under test.
pub(super) struct Target {
    address: String,
    own: Option<Own>,
}

struct Own {
    node: Node,
    spec: Spec,
    dir: TempDir,
}

impl Target {
    /// The node at --brokers, or else a new one in a directory below `scratch`.
    pub(super) async fn open(global: &Global, scratch: &std::path::Path) -> Outcome<Self> {
        if let Some(address) = global.brokers.first() {
            let target = Self { address: address.clone(), own: None };
            let reached = target.connect().await;
            reached.map_err(|error| {
                Failure::new(Exit::Unreachable, error).hint(sdk::unreachable(global))
            })?;
            return Ok(target);
        }
        let dir = tempfile::Builder::new()
            .prefix("rafka-bench-")
            .tempdir_in(scratch)
            .with_context(|| format!("cannot make a directory in {}", scratch.display()))?;
        let mut spec = Spec::new(dir.path().join("data"));
        spec.args.extend(["--log-level".to_owned(), "warn".to_owned()]);
        let node = Node::start(&spec).await?;
        let address = node.ready.grpc.to_string();
        Ok(Self { address, own: Some(Own { node, spec, dir }) })
    }

    /// What is measured, in words.
    pub(super) fn name(&self) -> String {
        match &self.own {
            Some(own) => format!("own node in {}", own.dir.path().display()),
            None => self.address.clone(),
        }
    }

    /// Where the node keeps its files, if it is our own.
    pub(super) fn dir(&self) -> Option<&std::path::Path> {
        self.own.as_ref().map(|own| own.dir.path())
    }

    /// How long the node took to be ready, in milliseconds, if it is our own.
    pub(super) fn ready_ms(&self) -> Option<f64> {
        self.own.as_ref().map(|own| own.node.ready.ready_ms)
    }

    /// What the node's process uses, if it is our own.
    pub(super) fn usage(&self) -> Option<Usage> {
        process::usage(self.own.as_ref()?.node.ready.pid)
    }

    /// A connection of its own.
    pub(super) async fn connection(&self, protocol: Protocol) -> anyhow::Result<Connection> {
        if protocol == Protocol::Grpc {
            return self.connect().await.map(Connection::Grpc);
        }
        let own = self.own.as_ref().context("Kafka's protocol needs a node of our own")?;
        let (sender, receiver) = kafka::connect(own.node.ready.kafka).await?;
        Ok(Connection::Kafka(sender, receiver))
    }

    async fn connect(&self) -> anyhow::Result<Channel> {
        Endpoint::from_shared(format!("http://{}", self.address))
            .with_context(|| format!("{} is not an address", self.address))?
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await
            .with_context(|| format!("cannot reach {}", self.address))
    }

    /// Connections in the number given.
    pub(super) async fn connections(
        &self,
        protocol: Protocol,
        count: u32,
    ) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(self.connection(protocol).await?);
        }
        Ok(connections)
    }

    /// Runs a measurement with a topic of its own, which is gone when that is over.
    pub(super) async fn with_topic<T>(
        &self,
        partitions: u32,
        durability: &str,
        measure: impl AsyncFnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        // What an interrupted run has left is in nobody's way.
        let name = format!("bench-{durability}-{:08x}", rng::from_system()?.random::<u32>());
        self.create(&name, partitions, durability).await?;
        let measured = measure(&name).await;
        let deleted = self.delete(&name).await;
        let measured = measured?;
        deleted.map(|()| measured)
    }

    /// Creates a topic.
    pub(super) async fn create(
        &self,
        name: &str,
        partitions: u32,
        durability: &str,
    ) -> anyhow::Result<()> {
        let durability =
            ConfigEntry { name: "durability".to_owned(), value: durability.to_owned() };
        let topic = NewTopic {
            name: name.to_owned(),
            partition_count: i32::try_from(partitions)?,
            replication_factor: 0,
            configs: vec![durability],
        };
        let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
        let answer = AdminClient::new(self.connect().await?).create_topics(request).await?;
        let errors = answer.into_inner().topics.into_iter().filter_map(|topic| topic.error);
        match errors.last() {
            Some(error) => bail!("cannot create topic {name}: {}", error.message),
            None => Ok(()),
        }
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let topic = TopicReference { name: name.to_owned(), ..TopicReference::default() };
        let request = DeleteTopicsRequest { topics: vec![topic] };
        let answer = AdminClient::new(self.connect().await?).delete_topics(request).await?;
        let errors = answer.into_inner().topics.into_iter().filter_map(|topic| topic.error);
        match errors.last() {
            Some(error) => bail!("cannot delete topic {name}: {}", error.message),
            None => Ok(()),
        }
    }

    /// Stops and starts our own node; says how long it took to be ready again, in milliseconds.
    pub(super) async fn restart(&mut self) -> anyhow::Result<f64> {
        let own = self.own.take().context("only a node of our own can be restarted")?;
        own.node.stop(STOP_LIMIT).await?;
        let node = Node::start(&own.spec).await?;
        self.address = node.ready.grpc.to_string();
        let ready_ms = node.ready.ready_ms;
        self.own = Some(Own { node, ..own });
        Ok(ready_ms)
    }

    /// Stops our own node and removes its files.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Some(own) = self.own {
            own.node.stop(STOP_LIMIT).await?;
            own.dir.close().context("cannot remove the node's files")?;
        }
        Ok(())
    }
}
