//! The one binary of Rafka.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command, Global};
use crate::exit::Outcome;
use crate::serve::Kind;
use crate::signals::interruptible;

mod bench;
mod child;
mod cli;
mod config;
mod consume;
mod demo;
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

fn main() -> ExitCode {
    let cli = cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                output::warn(&failure);
            }
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let env = environment();
    let global = &cli.global;
    let out = global.out();
    match cli.command.unwrap_or_else(|| Command::Demo(demo::Args::default())) {
        // The demo kills its node: that clients complain about it is no news.
        Command::Demo(args) if global.verbose == 0 => in_runtime(interruptible(demo::run(&args))),
        Command::Demo(args) => client(global, interruptible(demo::run(&args))),
        Command::Serve(args) => in_runtime(serve::run(&args, Kind::Serve, env, global)),
        Command::Dev(args) => in_runtime(serve::run(&args, Kind::Dev, env, global)),
        Command::Topic(command) => client(global, topic::run(command, global)),
        Command::Produce(args) => client(global, produce::run(&args, global)),
        Command::Consume(args) => client(global, consume::run(&args, global)),
        Command::Group(command) => client(global, group::run(command, global)),
        Command::Bench(command) => client(global, interruptible(bench::run(command, global))),
        Command::Config(command) => config::run(command, env, out),
        Command::Log(command) => log::run(&command, out),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rafka", &mut text);
            output::print(&text)
        }
        Command::Reference => output::print(reference::page().as_bytes()),
        Command::Version => out.document(&version()),
    }
}

/// Runs a command that talks to nodes. It logs what the user asked for; a node has settings.
fn client(global: &Global, command: impl Future<Output = Outcome>) -> Outcome {
    let level = global.level().to_owned();
    logging::start(&logging::Settings { level, format: logging::Format::Text })?;
    in_runtime(command)
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
