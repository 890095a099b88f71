//! `rafka demo`: the promises of Rafka, shown on a node of its own in half a minute.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rafka_client::Client;
use rafka_client::admin::NewTopic;
use rafka_core::{Clock, SystemClock, Time};
use rafka_producer::Compression;

use crate::child::{Node, Spec, tail};
use crate::exit::{Exit, Failure, Outcome};
use crate::number::{float, rate};
use crate::output::print;
use crate::process;

mod ledger;
mod readers;
mod traffic;

use ledger::Ledger;
use readers::Group;
use traffic::{Progress, Traffic};

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 6;
const GROUP: &str = "shipping";
/// The node stops in this time at the end, or the demo fails.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Whatever has to happen happens within this time.
const LIMIT: Duration = Duration::from_mins(1);

/// How to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds of traffic before the kill, and again after it.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { seconds: 3 }
    }
}

/// Runs the demo. Everything it makes lies in a temporary directory and is removed.
pub(crate) async fn run(args: &Args) -> Outcome {
    let dir = tempfile::Builder::new().prefix("rafka-demo-").tempdir()?;
    let demo = Demo {
        spec: Spec::new(dir.path().join("data")),
        clock: Arc::new(SystemClock::new()),
        span: Duration::from_secs(args.seconds),
    };
    let log = demo.spec.data_dir.with_added_extension("log");
    outcome(demo.run().await, &log)
}

/// How the process ends: with 1 for whatever did not hold.
fn outcome(shown: anyhow::Result<()>, log: &Path) -> Outcome {
    shown.map_err(|error| {
        let failure = Failure::new(Exit::Failed, error.context("the demo failed"));
        failure.hint(tail(log))
    })
}

struct Demo {
    spec: Spec,
    clock: Arc<dyn Clock>,
    span: Duration,
}

/// Prints a line of the demo.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    print(format!("{line}\n").as_bytes()).map_err(|failure| anyhow::anyhow!("{failure}"))
}

impl Demo {
    async fn run(mut self) -> anyhow::Result<()> {
        say(format_args!("rafka {}: acked means durable\n", env!("CARGO_PKG_VERSION")))?;
        let node = Node::start(&self.spec).await?;
        // Like any service, the node comes back where it was.
        self.spec.grpc = node.ready.grpc;
        let address = node.ready.grpc.to_string();
        let ready_ms = node.ready.ready_ms;
        say(format_args!(
            "node      process {} at {address}, ready in {ready_ms:.0} ms",
            node.ready.pid
        ))?;

        let admin = Client::new(rafka_client::Settings::new(&address))?.admin();
        let topic = NewTopic::new(TOPIC).partitions(PARTITIONS).config("durability", "fsync");
        admin.create_topic(&topic).await.context("creating the topic")?;
        say(format_args!("topic     {TOPIC}, {PARTITIONS} partitions, every ack is fsynced"))?;

        let progress = Progress::new();
        let group = Group::start(&address, TOPIC, GROUP)?;
        let traffic = Traffic::start(&address, TOPIC, &progress, &self.clock)?;
        say(format_args!(
            "traffic   {} producers ({}), idempotent, {} keys; group {GROUP} of {}",
            traffic::CODECS.len(),
            traffic::CODECS.map(Compression::name).join(", "),
            traffic::CODECS.len() as u64 * traffic::KEYS,
            readers::MEMBERS,
        ))?;
        let before = self.measure("before", &progress, &group, &node).await?;

        let node = self.kill_and_restart(node, &progress).await?;
        let after = self.measure("after", &progress, &group, &node).await?;

        let acked = traffic.stop().await?;
        let total = acked.len() as u64;
        say(format_args!("stopped   producers closed: {total} records acknowledged in all"))?;
        let consumed = group.finish(total, LIMIT).await?;
        say(format_args!(
            "group     {} records read by {} members, {} distinct",
            consumed.reads,
            readers::MEMBERS,
            consumed.names.len()
        ))?;
        let stored = readers::read_all(&address, TOPIC, PARTITIONS).await?;
        let stored_count = stored.len();
        let ledger = Ledger { acked, stored, consumed: consumed.names };
        check(&ledger)?;
        say(format_args!(
            "\nok        nothing acknowledged is lost: {total} of {total} at their offsets"
        ))?;
        say(format_args!(
            "ok        nothing is doubled: {stored_count} records stored, all different"
        ))?;
        say("ok        every key is in order, in one partition")?;
        say("ok        the group saw everything")?;
        let status = node.stop(STOP_LIMIT).await?;
        anyhow::ensure!(status.success(), "check failed: the node ended with {status}");
        say("ok        the node stopped in order")?;
        say(format_args!(
            "\n{before:.0} records/s before the kill, {after:.0} after; see `rafka bench` for limits, \
             `rafka dev` for a node to play with"
        ))
    }

    /// Lets the traffic flow for a while and tells how it was. Returns the rate.
    async fn measure(
        &self,
        name: &str,
        progress: &Progress,
        group: &Group,
        node: &Node,
    ) -> anyhow::Result<f64> {
        let cpu = || process::usage(node.ready.pid).map(|usage| usage.cpu);
        wait_for(|| 0 < group.reads(), "the group reads nothing").await?;
        drop(progress.take_latency());
        let (start, acked, cpu_before) = (self.clock.now(), count(progress), cpu());
        tokio::time::sleep(self.span).await;
        let took = self.clock.now() - start;
        let records = count(progress) - acked;
        let rate = rate(records, took);
        let latency = progress.take_latency();
        let cpu = cpu_before.zip(cpu()).map_or(String::new(), |(before, after)| {
            let busy = after.saturating_sub(before).as_secs_f64() * 1e6;
            format!(", {:.1} us of the node's processor a record", busy / float(records.max(1)))
        });
        say(format_args!(
            "{name:<9} {rate:.0} records/s acknowledged, {}{cpu}",
            quantiles(&latency)
        ))?;
        Ok(rate)
    }

    /// SIGKILL under load, then the same command again.
    async fn kill_and_restart(&self, node: Node, progress: &Progress) -> anyhow::Result<Node> {
        progress.take_silence();
        let acked = count(progress);
        let killed: Time = self.clock.now();
        node.kill().await?;
        say(format_args!("kill -9   under load, after {acked} acknowledged records"))?;
        let at_death = count(progress);
        let node = Node::start(&self.spec).await?;
        wait_for(|| at_death < count(progress), "nothing is acknowledged after the restart")
            .await?;
        let gap = self.clock.now() - killed;
        say(format_args!(
            "restart   ready in {:.0} ms, next acknowledgement {:.0} ms after the kill",
            node.ready.ready_ms,
            gap.as_secs_f64() * 1000.0
        ))?;
        Ok(node)
    }
}

fn check(ledger: &Ledger) -> anyhow::Result<()> {
    ledger.check().map_err(|broken| anyhow::anyhow!("check failed: {broken}"))
}

fn count(progress: &Progress) -> u64 {
    progress.acked.load(Ordering::Relaxed)
}

fn quantiles(latency: &Histogram<u64>) -> String {
    let ms = |quantile| float(latency.value_at_quantile(quantile)) / 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms", ms(0.5), ms(0.99))
}

/// Waits for a condition with a deadline.
async fn wait_for(condition: impl Fn() -> bool, otherwise: &'static str) -> anyhow::Result<()> {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("check failed: {otherwise}"))
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use rafka_core::{Offset, PartitionIndex};

    use super::ledger::{Name, Placed};
    use super::*;

    #[test]
    fn a_check_that_fails_ends_the_process_with_1_and_says_which() {
        let name = Name { key: "customer-7".to_owned(), number: 0 };
        let lost = Placed { partition: PartitionIndex(0), offset: Offset(0), name };
        let ledger = Ledger { acked: vec![lost], ..Ledger::default() };
        let failure = outcome(check(&ledger), Path::new("/nonexistent")).expect_err("it is lost");
        assert_eq!(ExitCode::from(failure.exit), ExitCode::from(1));
        assert!(failure.to_string().contains("an acknowledged record is lost"), "{failure}");
        assert!(outcome(check(&Ledger::default()), Path::new("/nonexistent")).is_ok());
    }
}
