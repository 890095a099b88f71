//! `rafka bench`: measures a node, and what the machine itself can do in the same minute.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use rafka_core::ByteSize;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};

mod consume;
mod e2e;
mod idle;
mod kafka;
mod load;
mod pace;
mod payload;
mod probe;
mod produce;
mod report;
mod target;

/// What to measure. Without --brokers it is a node started for the purpose.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How many records a second a node takes (W1). It re-sends encoded batches, so that the
    /// generator does not hold the node back.
    Produce(Options),
    /// How many it gives out: from the start, and at the tail while others write (W2).
    Consume(Options),
    /// How long a record takes from its intended sending time to the consumer (W3).
    #[command(name = "e2e")]
    EndToEnd(Options),
    /// What partitions cost that nobody uses, and what a start costs (W4, W8).
    Idle(idle::Options),
}

/// How to measure.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    /// Bytes of a record's value. Half is random, half is text.
    #[arg(long, value_name = "BYTES", default_value = "1 KiB")]
    pub(crate) size: ByteSize,
    /// Connections, each with its own stream.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) connections: u32,
    /// Partitions of the topic.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Seconds of each round, after a second for warming up.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// How many rounds. Each begins with probes of the machine.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Records a second in all, sent at fixed times whatever the answers do; 0 is as many as
    /// possible. `e2e` takes 10000 unless told otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub(crate) rate: Option<u64>,
    /// What "acked" means: on disk, handed to the system, or both in turn.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Durabilities::Fsync)]
    pub(crate) durability: Durabilities,
    /// Which protocol is spoken with the node. With `both` they take turns in each round.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Protocols::Grpc)]
    pub(crate) protocol: Protocols,
    /// Bytes of a batch, which is also a request.
    #[arg(long, value_name = "BYTES", default_value = "64 KiB")]
    pub(crate) batch: ByteSize,
    /// Requests that a connection sends without waiting for answers.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) in_flight: u32,
    /// Where the node of our own keeps its files: name a place on the disk that you mean.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) scratch: PathBuf,
}

/// Which durabilities are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durabilities {
    /// Acked means on disk.
    Fsync,
    /// Acked means handed to the operating system.
    Os,
    /// One after the other in each round.
    Both,
}

impl Durabilities {
    /// The values of the topic's `durability`.
    fn each(self) -> &'static [&'static str] {
        match self {
            Self::Fsync => &["fsync"],
            Self::Os => &["os"],
            Self::Both => &["fsync", "os"],
        }
    }
}

/// Which protocols are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocols {
    /// The native one.
    Grpc,
    /// Kafka's.
    Kafka,
    /// One after the other in each round.
    Both,
}

/// What is spoken with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Kafka,
}

impl Protocol {
    /// What it is called, measured over the one protocol or the other.
    fn of(self, grpc: &'static str, kafka: &'static str) -> &'static str {
        match self {
            Self::Grpc => grpc,
            Self::Kafka => kafka,
        }
    }
}

impl Protocols {
    fn each(self) -> &'static [Protocol] {
        match self {
            Self::Grpc => &[Protocol::Grpc],
            Self::Kafka => &[Protocol::Kafka],
            Self::Both => &[Protocol::Grpc, Protocol::Kafka],
        }
    }
}

/// Everything that is measured in a round, in its order.
fn each(options: &Options) -> impl Iterator<Item = (Protocol, &'static str)> {
    let durabilities = options.durability.each();
    let protocols = options.protocol.each().iter();
    protocols.flat_map(|protocol| durabilities.iter().map(|durability| (*protocol, *durability)))
}

/// Kafka's protocol is spoken at another address, which only a node of our own tells.
fn check_protocol(options: &Options, global: &Global) -> Outcome {
    if global.brokers.is_empty() || options.protocol == Protocols::Grpc {
        return Ok(());
    }
    let why = "Kafka's protocol is measured with a node that is started for the purpose";
    Err(Failure::message(Exit::Usage, why).hint("leave out --brokers, or take --protocol grpc"))
}

/// Runs a benchmark.
pub(crate) async fn run(command: Command, global: &Global) -> Outcome {
    if let Command::Produce(options) | Command::Consume(options) | Command::EndToEnd(options) =
        &command
    {
        check_protocol(options, global)?;
    }
    match command {
        Command::Produce(options) => produce::run(&options, global).await,
        Command::Consume(options) => consume::run(&options, global).await,
        Command::EndToEnd(options) => e2e::run(&options, global).await,
        Command::Idle(options) => idle::run(&options, global).await,
    }
}
