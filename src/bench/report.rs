//! What a benchmark found: rounds, their medians, and ratios to the machine's limits.

use std::time::Duration;

use hdrhistogram::Histogram;
use rafka_core::ByteSize;
use serde::Serialize;

use super::Options;
use super::probe::Limits;
use crate::exit::Outcome;
use crate::number::{float, rate};
use crate::output::{Form, Output, Row};
use crate::process::Usage;

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Latency {
    /// The quantiles of nanoseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1000.0;
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: float(histogram.max()) / 1000.0,
        }
    }
}

/// One measurement within a round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    /// What was measured.
    pub(super) what: &'static str,
    /// What "acked" meant.
    pub(super) durability: &'static str,
    /// Records a second.
    pub(super) records_per_second: f64,
    /// Bytes of values a second.
    pub(super) bytes_per_second: f64,
    /// The rate as a share of what bounds it: the disk if durable, the TCP sink if not.
    pub(super) ratio_to_limit: f64,
    /// From the intended time on.
    pub(super) latency: Option<Latency>,
    /// Processor time of the node per record, in microseconds, if the node is our own.
    pub(super) server_cpu_us_per_record: Option<f64>,
}

/// What goes into a sample.
pub(super) struct Measured {
    pub(super) what: &'static str,
    pub(super) durability: &'static str,
    pub(super) records: u64,
    pub(super) span: Duration,
    pub(super) latency: Option<Latency>,
    /// The node's process before and after, over `records`.
    pub(super) usage: Option<(Usage, Usage)>,
}

impl Sample {
    pub(super) fn new(measured: &Measured, size: ByteSize, limits: &Limits) -> Self {
        let records_per_second = rate(measured.records, measured.span);
        let bytes_per_second = rate(measured.records.saturating_mul(size.0), measured.span);
        // Who reads along cannot be faster than what is written.
        let writes = ["produce", "tail"].iter().any(|what| measured.what.ends_with(what));
        let durable = writes && measured.durability == "fsync";
        let disk = limits.disk_bytes_per_second.filter(|_| durable);
        let limit = disk
            .map_or(limits.sink_bytes_per_second, |disk| disk.min(limits.sink_bytes_per_second));
        let cpu = measured.usage.map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        Self {
            what: measured.what,
            durability: measured.durability,
            records_per_second,
            bytes_per_second,
            ratio_to_limit: bytes_per_second / limit,
            latency: measured.latency,
            server_cpu_us_per_record: cpu
                .filter(|_| 0 < measured.records)
                .map(|cpu| 1e6 / rate(measured.records, cpu)),
        }
    }
}

/// The limits, and what was measured right after them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) limits: Limits,
    pub(super) samples: Vec<Sample>,
}

/// The medians of one measurement over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    what: &'static str,
    durability: &'static str,
    records_per_second: f64,
    bytes_per_second: f64,
    ratio_to_limit: f64,
    /// The lowest and the highest ratio of a round.
    ratio_range: (f64, f64),
    latency: Option<Latency>,
    server_cpu_us_per_record: Option<f64>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    workload: &'static str,
    version: &'static str,
    node: String,
    processors: usize,
    options: &'a Options,
    rounds: Vec<Round>,
    summary: Vec<Summary>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        workload: &'static str,
        node: String,
        options: &'a Options,
        rounds: Vec<Round>,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let summary = summarise(&rounds);
        let version = env!("CARGO_PKG_VERSION");
        Self { workload, version, node, processors, options, rounds, summary }
    }

    /// Prints the report: all of it as JSON or YAML, the medians as a table.
    pub(super) fn print(&self, out: Output) -> Outcome {
        match out.form {
            Form::Table => out.rows(&self.summary),
            Form::Json | Form::Yaml => out.document(self),
        }
    }
}

fn summarise(rounds: &[Round]) -> Vec<Summary> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let kinds = first.samples.iter().map(|sample| (sample.what, sample.durability));
    kinds
        .map(|(what, durability)| {
            let of_kind = |sample: &&Sample| (sample.what, sample.durability) == (what, durability);
            let samples: Vec<&Sample> =
                rounds.iter().flat_map(|round| &round.samples).filter(of_kind).collect();
            let all = |value: fn(&Sample) -> f64| samples.iter().map(|s| value(s)).collect();
            let ratios: Vec<f64> = all(|sample| sample.ratio_to_limit);
            Summary {
                what,
                durability,
                records_per_second: median(all(|sample| sample.records_per_second)),
                bytes_per_second: median(all(|sample| sample.bytes_per_second)),
                ratio_range: (
                    ratios.iter().copied().fold(f64::INFINITY, f64::min),
                    ratios.iter().copied().fold(0.0, f64::max),
                ),
                ratio_to_limit: median(ratios),
                latency: latency(&samples),
                server_cpu_us_per_record: some_median(
                    samples.iter().filter_map(|sample| sample.server_cpu_us_per_record).collect(),
                ),
            }
        })
        .collect()
}

fn latency(samples: &[&Sample]) -> Option<Latency> {
    let all = |value: fn(Latency) -> f64| {
        some_median(samples.iter().filter_map(|sample| sample.latency).map(value).collect())
    };
    Some(Latency {
        p50_us: all(|latency| latency.p50_us)?,
        p99_us: all(|latency| latency.p99_us)?,
        p999_us: all(|latency| latency.p999_us)?,
        max_us: all(|latency| latency.max_us)?,
    })
}

fn some_median(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| median(values))
}

/// The value in the middle; of an even number, the lower of the two. 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

impl Row for Summary {
    const HEAD: &'static [&'static str] = &[
        "what",
        "durability",
        "records/s",
        "MB/s",
        "of limit",
        "range",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "cpu us/record",
    ];

    fn cells(&self) -> Vec<String> {
        let micros = |value: fn(Latency) -> f64| {
            self.latency.map_or("-".to_owned(), |latency| format!("{:.0}", value(latency)))
        };
        vec![
            self.what.to_owned(),
            self.durability.to_owned(),
            format!("{:.0}", self.records_per_second),
            format!("{:.1}", self.bytes_per_second / 1e6),
            format!("{:.2}", self.ratio_to_limit),
            format!("{:.2}-{:.2}", self.ratio_range.0, self.ratio_range.1),
            micros(|latency| latency.p50_us),
            micros(|latency| latency.p99_us),
            micros(|latency| latency.p999_us),
            self.server_cpu_us_per_record.map_or("-".to_owned(), |cpu| format!("{cpu:.3}")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        let check = |values: &[f64], expected: f64| {
            assert!((median(values.to_vec()) - expected).abs() < 1e-9, "{values:?}");
        };
        check(&[], 0.0);
        check(&[4.0], 4.0);
        check(&[9.0, 1.0, 5.0], 5.0);
        check(&[4.0, 1.0, 3.0, 2.0], 2.0);
    }
}
