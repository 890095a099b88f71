//! The command line: every command, argument and flag.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use rafka_client::{Address, InvalidAddress};

use crate::output::{Form, Output};
use crate::{bench, consume, demo, group, logging, produce, settings, topic};

/// A distributed message broker: one binary, every node equal, acked means durable.
///
/// Without a command it runs `rafka demo`.
#[derive(Debug, Parser)]
#[command(name = "rafka", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Reads the command line of the process. A wrong one ends it.
pub(crate) fn parse() -> Cli {
    let matches = taking_negative_numbers(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// `-p -1` is a number that is out of range, and not a flag that nobody knows.
fn taking_negative_numbers(command: clap::Command) -> clap::Command {
    let take = |arg: clap::Arg| {
        let takes_values = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_values)
    };
    command.mut_args(take).mut_subcommands(taking_negative_numbers)
}

/// Where nodes listen unless told otherwise.
pub(crate) const ADDRESS: &str = "127.0.0.1:9192";

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Addresses of nodes, HOST:PORT separated by commas; one is enough [default: 127.0.0.1:9192].
    #[arg(
        short,
        long,
        global = true,
        env = "RAFKA_BROKERS",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = node,
        value_name = "ADDRESS"
    )]
    pub(crate) brokers: Vec<String>,
    /// In which form results are printed.
    #[arg(long, global = true, value_enum, value_name = "FORM", default_value_t)]
    pub(crate) output: Form,
    /// Print results and errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log more: -v for info, -vv for debug, -vvv for trace.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// How long one request may take, retries included.
    #[arg(
        long, global = true, value_name = "DURATION", default_value = "30 s",
        value_parser = timeout
    )]
    pub(crate) timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match rafka_core::duration::parse(text) {
        Ok(timeout) if timeout < Duration::from_millis(1) => {
            Err("at least 1 ms is needed".to_owned())
        }
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn node(text: &str) -> Result<String, InvalidAddress> {
    Address::parse(text).map(|_| text.to_owned())
}

impl Global {
    /// The addresses of nodes.
    pub(crate) fn addresses(&self) -> String {
        if self.brokers.is_empty() { ADDRESS.to_owned() } else { self.brokers.join(",") }
    }

    /// Where the command prints.
    pub(crate) fn out(&self) -> Output {
        Output { form: self.output, quiet: self.quiet }
    }

    /// What a client command logs; a node has its own settings.
    pub(crate) fn level(&self) -> &'static str {
        match (self.quiet, self.verbose) {
            (true, _) => "error",
            (false, 0) => "warn",
            (false, 1) => "info",
            (false, 2) => "debug",
            (false, _) => "trace",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what Rafka does, in half a minute, on a node of its own.
    Demo(demo::Args),
    /// Run a node.
    Serve(ServeArgs),
    /// Run a node to develop with.
    ///
    /// As `serve`, made for a person at a terminal: topics appear when they are first written to,
    /// whatever the configuration says, the log is readable and speaks up only when something is odd
    /// (-v for more), and the first commands to type are shown.
    Dev(ServeArgs),
    /// Create, list, describe, alter and delete topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Write records to a topic, one per line of standard input.
    Produce(produce::Args),
    /// Read records from a topic.
    Consume(consume::Args),
    /// List, describe, move and delete consumer groups.
    #[command(subcommand)]
    Group(group::Command),
    /// Measure a node.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Check, show and explain the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Read the files of a data directory.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print completions for a shell.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Print the version and what it was built with.
    Version,
    /// Print the reference page of the command line.
    #[command(hide = true)]
    Reference,
}

/// How to run a node. Every flag overrides the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "RAFKA_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// The directory that holds everything [default: ./rafka-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where gRPC listens [default: 127.0.0.1:9192]. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", value_parser = settings::address)]
    pub(crate) grpc_listen: Option<SocketAddr>,
    /// Where the Kafka protocol listens [default: 127.0.0.1:9092]. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", value_parser = settings::address)]
    pub(crate) kafka_listen: Option<SocketAddr>,
    /// Where health and metrics listen [default: 127.0.0.1:9644].
    #[arg(long, value_name = "ADDRESS", value_parser = settings::address)]
    pub(crate) http_listen: Option<SocketAddr>,
    /// Added to every port, so that several nodes fit on one host.
    #[arg(long, value_name = "N")]
    pub(crate) port_offset: Option<u16>,
    /// The host that clients are told to use.
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// Where logs live [default: file].
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<settings::Engine>,
    /// Listen beyond this host although security is off.
    #[arg(long)]
    pub(crate) insecure_bind: bool,
    /// What is logged [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How it is logged [default: auto].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<logging::Format>,
    /// Stop when standard input is closed: for programs that start a node and may be killed.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check file, environment and flags, and start nothing.
    Check(Box<ServeArgs>),
    /// Print what is in effect, as YAML unless --output says otherwise.
    Show(Box<ServeArgs>),
    /// List all keys with their defaults and meanings.
    Schema {
        /// Print the reference page of the documentation.
        #[arg(long)]
        markdown: bool,
    },
}

/// What to do with files. No node may be using them.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print what a journal, segment, index or manifest file holds.
    Dump {
        /// The file.
        file: PathBuf,
    },
    /// Check every file of a data directory against its checksums.
    Verify {
        /// The directory.
        dir: PathBuf,
    },
    /// Give up what only the journal holds, when it is lost or damaged for good.
    ///
    /// A node then starts with what the segments hold: all but about the last ten seconds before it
    /// died. What is left of the journal is set aside as *.wal.abandoned. No node may run in the
    /// directory.
    AbandonJournal {
        /// The directory.
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
