//! `rafka serve` and `rafka dev`: run a node until it is told to stop.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Clock, SystemClock};
use rafka_metadata::topic_config::Key;
use tokio::io::AsyncReadExt as _;

use crate::child::Ready;
use crate::cli::{Global, ServeArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::node::{Node, StartError};
use crate::output::{Form, Output, print};
use crate::settings::{Engine, Settings};
use crate::signals::Signals;
use crate::{cli, config, logging, process};

/// Which command runs the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `rafka serve`.
    Serve,
    /// `rafka dev`: for somebody at a terminal who tries things out.
    Dev,
}

/// Why a node that runs comes to its end.
enum End {
    Asked(&'static str),
    Failed(String),
}

/// Runs a node.
pub(crate) async fn run(
    args: &ServeArgs,
    kind: Kind,
    env: Vec<(String, String)>,
    global: &Global,
) -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let begun = clock.now();
    let mut settings = config::effective(args, env)?;
    if kind == Kind::Dev {
        settings.broker.auto_create_topics_enable = true;
        settings.log.format = args.log_format.unwrap_or(logging::Format::Text);
    }
    // Who develops reads the banner; what a node does in order is for `-v`.
    if args.log_level.is_none() && (kind == Kind::Dev || global.quiet || 0 < global.verbose) {
        global.level().clone_into(&mut settings.log.level);
    }
    logging::start(&settings.log)?;
    settings.fit(rafka_storage::memory_limit());
    if let Some(limit) = process::raise_file_limit() {
        settings.fit_files(limit).map_err(|error| {
            Failure::new(Exit::Failed, error).hint("`ulimit -n 65536` in the shell that starts it")
        })?;
    }
    // From here on a signal is ours: one that comes while the node starts ends it all the same.
    let mut signals = Signals::new()?;
    let started = tokio::select! {
        biased;
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the node was ready");
            return Ok(());
        }
        started = Node::start(&settings, Arc::clone(&clock)) => started,
    };
    let mut node = started.map_err(|error| explain(error, &settings))?;
    announce(&node, &settings, clock.now() - begun, kind, global.out())?;
    let end = tokio::select! {
        biased;
        name = signals.next() => End::Asked(name),
        () = stdin_closed(), if args.stop_with_stdin => End::Asked("end of input"),
        why = node.failed() => End::Failed(why),
    };
    match &end {
        End::Asked(signal) => tracing::info!(signal, "stopping"),
        End::Failed(error) => tracing::error!(error, "stopping after a fault"),
    }
    let stopped = tokio::select! {
        biased;
        name = signals.next() => {
            tracing::warn!(signal = name, "stopped at once: the next start recovers");
            return Err(Failure::silent(Exit::Aborted));
        }
        stopped = node.stop(settings.node.stop_timeout) => stopped,
    };
    match (end, stopped) {
        (End::Failed(why), _) => Err(Failure::message(Exit::Failed, why)
            .hint("the log says more; what was acked is kept, and a restart recovers it")),
        (End::Asked(_), Ok(())) => {
            tracing::info!("stopped");
            Ok(())
        }
        (End::Asked(_), Err(left)) => Err(Failure::new(Exit::Failed, left)
            .hint("nothing acked is lost: the next start recovers from the journal")),
    }
}

/// Returns when nobody holds the other end of standard input any more.
async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while let Ok(1..) = stdin.read(&mut ignored).await {}
}

fn explain(error: StartError, settings: &Settings) -> Failure {
    let data_dir = settings.node.data_dir.display();
    let hint = match &error {
        StartError::Storage(rafka_storage::Error::Locked(_)) => Some(format!(
            "another node runs in {data_dir}: stop it, or give this one --data-dir and --port-offset"
        )),
        StartError::Storage(rafka_storage::Error::UnknownVersion { .. }) => {
            Some("another version of Rafka wrote this directory: run that one".to_owned())
        }
        StartError::Storage(rafka_storage::Error::Corrupt { .. }) => {
            Some(format!("`rafka log verify {data_dir}` checks every file"))
        }
        StartError::MetadataMissing { .. }
        | StartError::Storage(
            rafka_storage::Error::Missing { .. }
            | rafka_storage::Error::Foreign { .. }
            | rafka_storage::Error::Mismatched { .. },
        ) => Some(
            "nothing was lost by trying: put back the very file that was there, or the whole directory \
             from one backup; docs/troubleshooting.md says what else can be done"
                .to_owned(),
        ),
        StartError::Storage(rafka_storage::Error::Io { cause, .. })
            if matches!(
                cause.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::AlreadyExists
                    | ErrorKind::NotADirectory
                    | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Some(format!("{data_dir} must be a directory that this user may write to"))
        }
        StartError::Grpc(_) | StartError::Kafka(_) | StartError::Http(_) => not_listening(&error),
        _ => None,
    };
    let failure = Failure::new(Exit::Failed, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn announce(node: &Node, settings: &Settings, took: Duration, kind: Kind, out: Output) -> Outcome {
    let ready_ms = took.as_secs_f64() * 1000.0;
    let (grpc, kafka, http) = (node.grpc_addr(), node.kafka_addr(), node.http_addr());
    tracing::info!(%grpc, %kafka, %http, elapsed_ms = ready_ms.round(), "ready");
    match out.form {
        Form::Json | Form::Yaml => {
            let ready = Ready { grpc, kafka, http, pid: std::process::id(), ready_ms };
            // One line, whatever the form: whoever reads it waits for the line.
            print(format!("{}\n", serde_json::to_string(&ready)?).as_bytes())
        }
        Form::Table if out.quiet => Ok(()),
        Form::Table => {
            let next = if kind == Kind::Dev { next_steps(node) } else { String::new() };
            print((banner(node, settings, ready_ms) + &next).as_bytes())
        }
    }
}

/// What to do when an address cannot be listened on.
fn not_listening(error: &StartError) -> Option<String> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let kind = loop {
        let error = cause?;
        match error.downcast_ref::<std::io::Error>() {
            Some(error) => break error.kind(),
            None => cause = error.source(),
        }
    };
    let hint = match kind {
        ErrorKind::AddrInUse => {
            "another program listens there: stop it, or shift all ports with --port-offset 10"
        }
        ErrorKind::AddrNotAvailable => {
            "this host has no such address: `ip address` shows those it has"
        }
        ErrorKind::PermissionDenied => "ports below 1024 are for root: choose a higher one",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn banner(node: &Node, settings: &Settings, ready_ms: f64) -> String {
    let mut text = format!("rafka {} node {}", env!("CARGO_PKG_VERSION"), node.id());
    let mut line = |name: &str, value: String| {
        let _infallible = write!(text, "\n  {name:<10}{value}");
    };
    let founded = if node.is_founder() { ", founded just now, of this node alone" } else { "" };
    line("cluster", format!("{}{founded}", node.cluster_id()));
    line("grpc", node.grpc_addr().to_string());
    line("kafka", node.kafka_addr().to_string());
    line("http", format!("{} (/healthz /readyz /metrics /metrics/kafka)", node.http_addr()));
    line(
        "data",
        match settings.node.engine {
            Engine::File => {
                let defaults = settings.metadata.topic_defaults.layer();
                let is_buffered = defaults.get(&Key::Durability).is_some_and(|value| value == "os");
                let acked = if is_buffered { "handed to the kernel" } else { "on disk" };
                format!("{} (acked means {acked})", absolute(&settings.node.data_dir))
            }
            Engine::Memory => "in memory: everything is gone with this process".to_owned(),
        },
    );
    let listeners = [node.grpc_addr(), node.kafka_addr(), node.http_addr()];
    let beyond = listeners.iter().any(|listener| !listener.ip().is_loopback());
    let reach = if beyond { "OPEN TO THE NETWORK" } else { "reachable from this host only" };
    line("security", format!("off, {reach}"));
    text + &format!("\nready in {ready_ms:.0} ms\n")
}

/// Commands to go on with, in another terminal. A topic comes into being with its first record.
fn next_steps(node: &Node) -> String {
    let grpc = node.grpc_addr();
    let brokers =
        if grpc.to_string() == cli::ADDRESS { String::new() } else { format!(" -b {grpc}") };
    format!(
        "\nin another terminal:\n  \
           echo hello | rafka produce greetings{brokers}\n  \
           rafka consume greetings -o beginning{brokers}\n\
         Ctrl-C stops the node; what was written stays.\n"
    )
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
