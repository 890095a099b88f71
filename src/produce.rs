//! `rafka produce`: a record for each line of standard input.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rafka_core::{ByteSize, PartitionIndex};
use rafka_producer::{Acks, Compression, Delivery, Error, Fate, Partitioner, Producer, Record};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Progress, count, warn};
use crate::sdk;

/// The longest line: a record must fit a topic's default `max.message.bytes` anyway, and a topic
/// may allow more.
const LINE_BYTES_MAX: ByteSize = ByteSize::mib(64);
/// Records whose delivery is being watched; beyond it reading waits.
const WATCHED_MAX: usize = 65_536;
/// Failures that are told one by one; of the rest only the number.
const FAILURES_TOLD_MAX: u64 = 10;

/// A record has --timeout from when it was taken, and its failure says more than that of closing.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(1);

/// What to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: String,
    /// What stands between key and value in a line. Without it a line is a value.
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_delimiter: Option<String>,
    /// Write to this partition rather than to one chosen by the key.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header for every record. May be repeated.
    #[arg(short = 'H', long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, value_name = "CODEC", default_value_t)]
    compression: Codec,
    /// Whose word is waited for.
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    acks: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Whose {
    /// Every in-sync replica's.
    #[default]
    All,
    /// The leader's.
    Leader,
    /// Nobody's: what the node refuses is lost without a word here.
    None,
}

/// Runs the command.
pub(crate) async fn run(args: &Args, global: &Global) -> Outcome {
    let template = Template::of(args)?;
    let producer = producer(args, global)?;
    let (watch, watched) = mpsc::channel(WATCHED_MAX);
    let mut watcher = JoinSet::new();
    let timed_out = Arc::new(AtomicBool::new(false));
    let progress = progress(global.out(), args.acks);
    watcher.spawn(watch_all(watched, progress, Arc::clone(&timed_out)));
    let input = BufReader::with_capacity(64 << 10, tokio::io::stdin());
    let sending = Sending { template: &template, producer: &producer, watch, timed_out };
    let read = sending.all(input, global).await;
    // What was taken is delivered or has failed before the outcome is told.
    let closed = producer.close(global.timeout + LAST_ANSWER_MAX).await;
    let tally = watcher.join_next().await.expect("the watcher was spawned")?;
    outcome(read, closed, &tally, (args.acks, global))
}

/// Who types the records is not to be disturbed.
fn progress(out: Output, acks: Whose) -> Progress {
    let out = Output { quiet: out.quiet || std::io::stdin().is_terminal(), ..out };
    let template = match acks {
        Whose::All | Whose::Leader => "{pos} records acknowledged, {per_sec}",
        Whose::None => "{pos} records sent, {per_sec}",
    };
    out.progress(template)
}

fn producer(args: &Args, global: &Global) -> Outcome<Producer> {
    let mut settings = rafka_producer::Settings::default();
    settings.acks = match args.acks {
        Whose::All => Acks::All,
        Whose::Leader => Acks::Leader,
        Whose::None => Acks::None,
    };
    settings.idempotence = args.acks == Whose::All;
    settings.compression = args.compression.into();
    settings.record_bytes_max = LINE_BYTES_MAX;
    settings.buffer_bytes = ByteSize(2 * LINE_BYTES_MAX.0);
    settings.delivery_timeout = global.timeout.max(settings.linger + Duration::from_millis(1));
    settings.send_wait_max = global.timeout;
    let client = sdk::client(global)?;
    Ok(Producer::with_client(client, settings, Partitioner::default())?)
}

/// What all records have in common.
#[derive(Debug)]
struct Template {
    topic: Arc<str>,
    delimiter: Option<Vec<u8>>,
    partition: Option<PartitionIndex>,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Template {
    fn of(args: &Args) -> Outcome<Self> {
        let usage = |message: &str| Failure::message(Exit::Usage, message);
        let header = |text: &String| {
            let (name, value) =
                text.split_once('=').ok_or_else(|| usage("--header: write NAME=VALUE"))?;
            let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            Ok((copy(name), Some(copy(value))))
        };
        let delimiter = args.key_delimiter.as_ref().map(|text| text.clone().into_bytes());
        if delimiter.as_ref().is_some_and(Vec::is_empty) {
            return Err(usage("--key-delimiter is empty: name what stands between key and value"));
        }
        Ok(Self {
            topic: sdk::topic_name(&args.topic)?.as_str().into(),
            delimiter,
            partition: args.partition.map(PartitionIndex),
            headers: args.header.iter().map(header).collect::<Outcome<_>>()?,
        })
    }

    /// The record that a line stands for.
    fn record(&self, line: Bytes) -> Record {
        let mut record = Record::new(Arc::clone(&self.topic));
        record.partition = self.partition;
        record.headers.clone_from(&self.headers);
        let at = self.delimiter.as_ref().and_then(|delimiter| {
            line.windows(delimiter.len())
                .position(|window| window == delimiter.as_slice())
                .map(|at| (at, at + delimiter.len()))
        });
        match at {
            Some((end, start)) => record.key(line.slice(..end)).value(line.slice(start..)),
            None => record.value(line),
        }
    }
}

struct Sending<'a> {
    template: &'a Template,
    producer: &'a Producer,
    watch: mpsc::Sender<Delivery>,
    /// Whether a record ran out of time: those behind it would, too, one bufferful after the other.
    timed_out: Arc<AtomicBool>,
}

impl Sending<'_> {
    /// Reads to the end of the input, or to the first record that is not taken.
    async fn all(
        self,
        mut input: impl AsyncBufRead + Unpin,
        global: &Global,
    ) -> Result<(), Failure> {
        for number in 1_u64.. {
            let Some(line) = next_line(&mut input, number).await? else { break };
            if self.timed_out.load(Ordering::Relaxed) {
                let message = format!("line {number} and those behind it were not sent");
                return Err(Failure::message(Exit::Timeout, message)
                    .hint("the node's log says what it waits for, --timeout waits longer"));
            }
            let sent = self.producer.send(self.template.record(line)).await;
            let delivery = sent.map_err(|error| explain(error, global))?;
            if self.watch.send(delivery).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn explain(error: Error, global: &Global) -> Failure {
    match error {
        Error::Client(error) => sdk::explain(error, global),
        other => other.into(),
    }
}

/// The next line without its line feed. A last line needs none.
async fn next_line(
    input: &mut (impl AsyncBufRead + Unpin),
    number: u64,
) -> Result<Option<Bytes>, Failure> {
    let mut line = BytesMut::new();
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok((!line.is_empty()).then(|| line.freeze()));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if LINE_BYTES_MAX.as_usize() < line.len() + part.len() {
            let message = format!("line {number} is longer than {LINE_BYTES_MAX}");
            return Err(Failure::message(Exit::Failed, message));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(line.freeze()));
        }
    }
}

/// What became of the records.
#[derive(Debug, Default)]
struct Tally {
    acked: u64,
    failed: u64,
    /// Of the failed: those that may be in the log all the same.
    unknown: u64,
}

async fn watch_all(
    mut watched: mpsc::Receiver<Delivery>,
    progress: Progress,
    timed_out: Arc<AtomicBool>,
) -> Tally {
    let mut tally = Tally::default();
    let mut number = 0_u64;
    while let Some(delivery) = watched.recv().await {
        number += 1;
        match delivery.await {
            Ok(_stored) => {
                tally.acked += 1;
                progress.add(1);
            }
            Err(error) => {
                tally.failed += 1;
                if matches!(error, Error::TimedOut { .. }) {
                    timed_out.store(true, Ordering::Relaxed);
                }
                tally.unknown += u64::from(error.fate() == Fate::Unknown);
                if tally.failed <= FAILURES_TOLD_MAX {
                    progress.warn(format_args!("line {number}: {error}"));
                }
            }
        }
    }
    tally
}

fn outcome(
    read: Result<(), Failure>,
    closed: Result<(), Error>,
    tally: &Tally,
    (acks, global): (Whose, &Global),
) -> Outcome {
    let out: Output = global.out();
    if tally.failed == 0 {
        read?;
        let records = count(tally.acked, "record");
        match acks {
            Whose::All | Whose::Leader => out.note(format_args!("{records} acknowledged")),
            Whose::None => {
                out.note(format_args!("{records} sent, and nobody says what became of them"));
            }
        }
        // Every single delivery was good: then there was nothing that closing could have lost.
        return closed.map_err(|error| explain(error, global));
    }
    let Tally { acked, failed, unknown } = tally;
    if FAILURES_TOLD_MAX < *failed {
        warn(format_args!("and {} more", failed - FAILURES_TOLD_MAX));
    }
    let acked = count(*acked, "record");
    warn(format_args!("{acked} acknowledged, {failed} not ({unknown} of them may be stored)"));
    read?;
    Err(Failure::silent(Exit::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            topic: "t".to_owned(),
            key_delimiter: None,
            partition: None,
            header: Vec::new(),
            compression: Codec::None,
            acks: Whose::All,
        }
    }

    #[test]
    fn a_line_is_split_at_the_first_delimiter() {
        let check =
            |delimiter: Option<&str>, line: &'static str, key: Option<&str>, value: &str| {
                let args = Args { key_delimiter: delimiter.map(str::to_owned), ..args() };
                let template = Template::of(&args).expect("it is valid");
                let record = template.record(Bytes::from_static(line.as_bytes()));
                assert_eq!(record.key.as_deref(), key.map(str::as_bytes), "{line}");
                assert_eq!(record.value.as_deref(), Some(value.as_bytes()), "{line}");
            };
        check(None, "a:b", None, "a:b");
        check(Some(":"), "a:b:c", Some("a"), "b:c");
        check(Some("::"), "a:b::c", Some("a:b"), "c");
        check(Some(":"), "ab", None, "ab");
        check(Some(":"), ":", Some(""), "");
        check(Some(":"), "", None, "");
        let empty = Args { key_delimiter: Some(String::new()), ..args() };
        assert!(Template::of(&empty).is_err());
        let header = Args { header: vec!["nonsense".to_owned()], ..args() };
        assert!(Template::of(&header).is_err());
    }

    #[tokio::test]
    async fn lines_end_at_line_feeds_and_at_the_end_of_the_input() {
        let mut input = BufReader::with_capacity(3, &b"one\n\ntwo three\r\nlast"[..]);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, 1).await.expect("memory does not fail") {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "", "two three\r", "last"]);
    }
}
