//! `rafka bench idle` (W4, W8): what a node costs that does nothing, with and without partitions.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rafka_core::{ByteSize, Clock, SystemClock, rng};
use serde::Serialize;
use tokio::process::Command;

use super::load::{self, Load};
use super::payload::Batches;
use super::produce::WARM_UP;
use super::report::{Latency, median};
use super::target::Target;
use super::{Protocol, probe};
use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::number::{float, rate};
use crate::process::Usage;

/// How many of the partitions one topic has.
const PARTITIONS_PER_TOPIC: u32 = 1000;
/// After a change the node settles for this long before it is measured.
const SETTLE: Duration = Duration::from_secs(1);
/// What is written to the hot partitions.
const RECORD: ByteSize = ByteSize::kib(1);
/// How many processes are started that do nothing.
const EMPTY_PROCESSES: u32 = 9;

/// How to measure.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    /// Partitions that nobody uses.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// Partitions that are written to, before and after the idle ones exist.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hot: u32,
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the node keeps its files: name a place on the disk that you mean.
    #[arg(long, value_name = "DIR", default_value = ".")]
    scratch: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    partitions: u32,
    empty_process_ms: f64,
    ready_ms: f64,
    ready_ms_with_partitions: f64,
    /// Over the whole life of a process that does nothing.
    ready_to_empty_process: f64,
    ready_to_empty_process_with_partitions: f64,
    resident_mib: f64,
    resident_mib_with_partitions: f64,
    resident_mib_after_restart: f64,
    resident_bytes_per_partition: f64,
    create_seconds: f64,
    idle_cpu_percent: f64,
    idle_cpu_percent_with_partitions: f64,
    hot_records_per_second: f64,
    hot_records_per_second_with_partitions: f64,
    /// The rate with partitions over the one without.
    hot_ratio_with_partitions: f64,
    /// The rates as shares of what bounds them: the slower of disk and TCP sink.
    hot_ratio_to_limit: f64,
    hot_ratio_to_limit_with_partitions: f64,
    hot_p99_us: f64,
    hot_p99_us_with_partitions: f64,
    hot_p99_ratio_with_partitions: f64,
    binary_mib: f64,
}

/// Runs the benchmark.
pub(super) async fn run(options: &Options, global: &Global) -> Outcome {
    if !global.brokers.is_empty() {
        let why = "`bench idle` watches the process of the node: it starts one of its own";
        return Err(Failure::message(Exit::Usage, why).hint("leave out --brokers"));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut target = Target::open(global, &options.scratch).await?;
    let ready_ms = target.ready_ms().context("the node is our own")?;
    let span = Duration::from_secs(options.seconds);
    let limits = probe::run(1, target.dir(), &clock).await?;
    let empty_process_ms = empty_process(clock.as_ref()).await?;
    let (bare, bare_cpu) = idle(&target, span).await?;
    let hot_bare = hot(&target, options, &clock).await?;
    // Writing leaves caches behind: what partitions cost is counted in a process without.
    target.restart().await?;
    let (before, _) = idle(&target, SETTLE).await?;
    let start = clock.now();
    create(&target, options.partitions).await?;
    let created = clock.now() - start;
    let (full, full_cpu) = idle(&target, span).await?;
    let hot_full = hot(&target, options, &clock).await?;
    let ready_ms_with_partitions = target.restart().await?;
    let (restarted, _) = idle(&target, SETTLE).await?;
    target.close().await?;
    let binary = std::env::current_exe().and_then(|path| path.metadata())?.len();
    let grown = full.resident.0.saturating_sub(before.resident.0);
    let disk = limits.disk_bytes_per_second.context("the node is our own")?;
    let limit = limits.sink_bytes_per_second.min(disk);
    let of_limit = |records_per_second: f64| records_per_second * float(RECORD.0) / limit;
    global.out().document(&Report {
        partitions: options.partitions,
        empty_process_ms,
        ready_ms,
        ready_ms_with_partitions,
        ready_to_empty_process: ready_ms / empty_process_ms,
        ready_to_empty_process_with_partitions: ready_ms_with_partitions / empty_process_ms,
        resident_mib: mib(bare.resident),
        resident_mib_with_partitions: mib(full.resident),
        resident_mib_after_restart: mib(restarted.resident),
        resident_bytes_per_partition: float(grown) / f64::from(options.partitions),
        create_seconds: created.as_secs_f64(),
        idle_cpu_percent: bare_cpu,
        idle_cpu_percent_with_partitions: full_cpu,
        hot_records_per_second: hot_bare.0,
        hot_records_per_second_with_partitions: hot_full.0,
        hot_ratio_with_partitions: hot_full.0 / hot_bare.0,
        hot_ratio_to_limit: of_limit(hot_bare.0),
        hot_ratio_to_limit_with_partitions: of_limit(hot_full.0),
        hot_p99_us: hot_bare.1.p99_us,
        hot_p99_us_with_partitions: hot_full.1.p99_us,
        hot_p99_ratio_with_partitions: hot_full.1.p99_us / hot_bare.1.p99_us,
        binary_mib: mib(ByteSize(binary)),
    })
}

/// How long a process of this program takes that does nothing, from its start to its end: the median of
/// several.
async fn empty_process(clock: &dyn Clock) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut taken = Vec::new();
    for _ in 0..EMPTY_PROCESSES {
        let start = clock.now();
        let ended = Command::new(&program).arg("version").stdout(Stdio::null()).status().await;
        ended.with_context(|| format!("cannot start {}", program.display()))?;
        taken.push((clock.now() - start).as_secs_f64() * 1000.0);
    }
    Ok(median(taken))
}

fn mib(size: ByteSize) -> f64 {
    float(size.0) / f64::from(1 << 20)
}

/// What the node uses while nobody asks for anything: memory, and percent of a processor.
async fn idle(target: &Target, span: Duration) -> anyhow::Result<(Usage, f64)> {
    tokio::time::sleep(SETTLE).await;
    let before = target.usage().context("the kernel does not tell what a process uses")?;
    tokio::time::sleep(span).await;
    let after = target.usage().context("the kernel does not tell what a process uses")?;
    let busy = after.cpu.saturating_sub(before.cpu);
    Ok((after, 100.0 * busy.as_secs_f64() / span.as_secs_f64()))
}

async fn create(target: &Target, partitions: u32) -> anyhow::Result<()> {
    let mut left = partitions;
    for number in 0.. {
        let count = left.min(PARTITIONS_PER_TOPIC);
        if count == 0 {
            break;
        }
        target.create(&format!("idle-{number}"), count, "fsync").await?;
        left -= count;
    }
    Ok(())
}

/// Writes small batches to many partitions; returns the rate and the latency.
async fn hot(
    target: &Target,
    options: &Options,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(f64, Latency)> {
    let batches =
        Batches::new(RECORD, ByteSize::kib(4), clock.timestamp(), &mut rng::from_system()?)?;
    let connections = target.connections(Protocol::Grpc, 1).await?;
    let span = Duration::from_secs(options.seconds);
    let measure = async |topic: &str| {
        let counted_from = clock.now() + WARM_UP;
        let load = Load {
            topic: topic.to_owned(),
            partitions: options.hot,
            batches: Arc::new(batches),
            in_flight: 64,
            rate: None,
            counted_from,
            end: counted_from + span,
            clock: Arc::clone(clock),
        };
        load::run(&load, connections).await
    };
    let tally = target.with_topic(options.hot, "fsync", measure).await?;
    Ok((rate(tally.records, span), Latency::of(&tally.latency)))
}
