//! The one binary of Rafka.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::exit::Outcome;
use crate::serve::Kind;

mod bench;
mod child;
mod cli;
mod config;
mod exit;
mod group;
mod log;
mod logging;
mod metrics;
mod node;
mod number;
mod output;
mod process;
mod produce;
mod record_format;
mod reference;
mod sdk;
mod serve;
mod settings;
mod signals;
mod topic;

/// The system's allocator gives memory back late and contends between threads.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::warn(format_args!("{failure}"));
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let env = environment();
    let global = cli.global;
    let out = global.out();
    match cli.command {
        Some(Command::Config(command)) => config::run(command, env, out),
        Some(Command::Log(command)) => log::run(&command, out),
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rafka", &mut text);
            output::print(&text)
        }
        Some(Command::Reference) => output::print(reference::page().as_bytes()),
        Some(Command::Version) => out.document(&version()),
        Some(command) => in_runtime(run_async(command, &global, env)),
        None => Ok(()),
    }
}

async fn run_async(command: Command, global: &cli::Global, env: Vec<(String, String)>) -> Outcome {
    if !matches!(command, Command::Serve(_) | Command::Dev(_)) {
        // A node logs as its settings say; other commands only what the user asked for.
        let level = global.level().to_owned();
        logging::start(&logging::Settings { level, format: logging::Format::Text })?;
    }
    match command {
        Command::Serve(args) => serve::run(&args, Kind::Serve, env, global).await,
        Command::Dev(args) => serve::run(&args, Kind::Dev, env, global).await,
        Command::Topic(command) => topic::run(command, global).await,
        Command::Produce(args) => produce::run(&args, global).await,
        Command::Group(command) => group::run(command, global).await,
        Command::Bench(command) => bench::run(command, global).await,
        _ => Ok(()),
    }
}

fn in_runtime(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // A thread may still wait for standard input; the process does not wait for it.
    runtime.shutdown_background();
    outcome
}

/// The variables of the process that are text: only such can be ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[derive(serde::Serialize)]
struct Version {
    version: &'static str,
    platform: String,
    build: &'static str,
}

fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    }
}
