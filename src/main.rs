//! The one binary of Rafka.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::exit::Outcome;

mod bench;
mod child;
mod cli;
mod config;
mod exit;
mod group;
mod logging;
mod output;
mod process;
mod record_format;
mod sdk;
mod settings;
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
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rafka", &mut text);
            output::print(&text)
        }
        Some(Command::Version) => out.document(&version()),
        Some(command) => runtime()?.block_on(run_async(command, &global)),
        None => Ok(()),
    }
}

async fn run_async(command: Command, global: &cli::Global) -> Outcome {
    match command {
        Command::Topic(command) => topic::run(command, global).await,
        Command::Group(command) => group::run(command, global).await,
        Command::Bench(command) => bench::run(command, global).await,
        _ => Ok(()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
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
