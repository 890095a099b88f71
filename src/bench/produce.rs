//! `rafka bench produce` (W1): how many records a second a node takes.

use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Clock, SystemClock, rng};

use super::load::{self, Load};
use super::payload::Batches;
use super::probe;
use super::report::{Latency, Measured, Report, Round, Sample};
use super::target::Target;
use super::{Options, Protocol};
use crate::cli::Global;
use crate::exit::Outcome;

/// Before counting begins, connections and caches warm up for this long.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// Runs the benchmark.
pub(super) async fn run(options: &Options, global: &Global) -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut rng = rng::from_system()?;
    let batches = Batches::new(options.size, options.batch, clock.timestamp(), &mut rng)?;
    let batches = Arc::new(batches);
    let target = Target::open(global, &options.scratch).await?;
    let out = global.out();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let _progress = out.progress(&format!("round {number} of {}", options.rounds));
        let limits = probe::run(options.connections, target.dir(), &clock).await?;
        let mut samples = Vec::new();
        for (protocol, durability) in super::each(options) {
            let kind = (protocol, durability);
            let measure =
                async |topic: &str| sample(&target, options, topic, kind, &batches, &clock).await;
            let measured = target.with_topic(options.partitions, durability, measure).await?;
            samples.push(Sample::new(&measured, options.size, &limits));
        }
        rounds.push(Round { limits, samples });
    }
    let report = Report::new("produce", target.name(), options, rounds);
    target.close().await?;
    report.print(out)
}

async fn sample(
    target: &Target,
    options: &Options,
    topic: &str,
    (protocol, durability): (Protocol, &'static str),
    batches: &Arc<Batches>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Measured> {
    let connections = target.connections(protocol, options.connections).await?;
    let counted_from = clock.now() + WARM_UP;
    let span = Duration::from_secs(options.seconds);
    let load = Load {
        topic: topic.to_owned(),
        partitions: options.partitions,
        batches: Arc::clone(batches),
        in_flight: options.in_flight,
        rate: options.rate.filter(|rate| 0 < *rate),
        counted_from,
        end: counted_from + span,
        clock: Arc::clone(clock),
    };
    // The node's processor time is taken over exactly the counted time.
    let usage = async {
        tokio::time::sleep(WARM_UP).await;
        let before = target.usage();
        tokio::time::sleep(span).await;
        before.zip(target.usage())
    };
    let (tally, usage) = tokio::join!(load::run(&load, connections), usage);
    let tally = tally?;
    Ok(Measured {
        what: protocol.of("produce", "kafka produce"),
        durability,
        records: tally.records,
        span,
        latency: Some(Latency::of(&tally.latency)),
        usage,
    })
}
