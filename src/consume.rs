//! `rafka consume`: records to standard output, alone or as a member of a group.

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_client::TopicPartition;
use rafka_client::admin::{Admin, Isolation, OffsetSpec, TopicDescription};
use rafka_consumer::{Consumer, ConsumerRecord, OffsetReset};
use rafka_core::{Offset, TopicName};

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::print_while_open;
use crate::record_format::{Format, Printed, write_json};
use crate::{sdk, signals};

/// How long one look for records takes; then it is checked whether the end was reached.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// As a member of a group, what was printed is committed this often.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The most records that are looked at at once.
const RECORDS_MAX: usize = 500;

/// What to read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: String,
    /// How a record is printed: %t topic, %p partition, %o offset, %k key, %s value, %K and %S their
    /// lengths (-1: none), %R the value's length in 4 bytes, %T timestamp, %h headers; \n \r \t \0
    /// \xHH [default: "%s\n"].
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<String>,
    /// Print a JSON object a line.
    #[arg(short = 'J', long)]
    json: bool,
    /// Where to begin: beginning, end, an offset that every partition reaches, or -N for the last N
    /// records of each partition. A group begins where it was; this is for its first time: beginning
    /// or end.
    #[arg(
        short, long, value_name = "WHERE", default_value = "beginning", value_parser = Start::parse,
        allow_hyphen_values = true
    )]
    offset: Start,
    /// Stop at the end of the topic.
    #[arg(short, long)]
    exit: bool,
    /// Stop after this many records.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Read this partition only. May be repeated.
    #[arg(
        short, long, value_name = "N", conflicts_with = "group",
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partition: Vec<i32>,
    /// Read as a member of this group, and commit what was printed.
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    Offset(i64),
    Last(i64),
}

impl Start {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().ok().filter(|number| 0 <= *number);
        let found = match text {
            "beginning" => Some(Self::Beginning),
            "end" => Some(Self::End),
            _ => match text.strip_prefix('-') {
                Some(count) => number(count).map(Self::Last),
                None => number(text).map(Self::Offset),
            },
        };
        found.ok_or_else(|| "write beginning, end, an offset, or -N".to_owned())
    }

    /// The first offset to read of a log that begins and ends there. `None`: the log does not reach
    /// as far.
    fn within(self, start: Offset, end: Offset) -> Option<Offset> {
        match self {
            Self::Beginning => Some(start),
            Self::End => Some(end),
            Self::Offset(offset) => (offset <= end.0).then_some(start.max(Offset(offset))),
            Self::Last(count) => Some(start.max(end + -count)),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: &Args, global: &Global) -> Outcome {
    let shape = match (&args.format, args.json) {
        (_, true) => Shape::Json,
        (None, false) => Shape::Format(Format::default()),
        (Some(text), false) => {
            let parsed = Format::parse(text);
            Shape::Format(parsed.map_err(|error| Failure::new(Exit::Usage, error))?)
        }
    };
    let name = sdk::topic_name(&args.topic)?;
    let admin = sdk::admin(global)?;
    // Asked beforehand even in a group, so that a topic that does not exist is an error.
    let topic = describe(&admin, &name, global).await?;
    let mut reading = match &args.group {
        Some(group) => join(args, group, global).await?,
        None => assign(args, &topic, global).await?,
    };
    let outcome = tokio::select! {
        biased;
        signal = signals::next() => signal.map(drop).map_err(Failure::from),
        outcome = reading.read(&shape, args, &admin, global) => outcome,
    };
    // What was printed is committed, and the group learns at once that this member leaves.
    let closed = reading.consumer.close(global.timeout).await;
    outcome?;
    closed.map_err(|error| explain(error, global))
}

fn explain(error: rafka_consumer::Error, global: &Global) -> Failure {
    match error {
        rafka_consumer::Error::Client(error) => sdk::explain(error, global),
        other => other.into(),
    }
}

async fn describe(admin: &Admin, name: &TopicName, global: &Global) -> Outcome<TopicDescription> {
    let described = admin.describe_topics(std::slice::from_ref(name)).await;
    let mut described = described.map_err(|error| sdk::explain(error, global))?;
    let topic = described.pop().expect("there is an answer for each topic");
    topic.map_err(|error| sdk::explain(error, global))
}

/// A consumer, and where it shall stop.
struct Reading {
    consumer: Consumer,
    /// Without a group: the ends of the partitions when reading began.
    ends: Option<BTreeMap<TopicPartition, Offset>>,
}

async fn join(args: &Args, group: &str, global: &Global) -> Outcome<Reading> {
    let mut settings = rafka_consumer::Settings::default();
    settings.group = Some(sdk::group_id(group)?.to_string());
    settings.auto_commit_interval = Some(COMMIT_INTERVAL);
    settings.offset_reset = match args.offset {
        Start::Beginning => OffsetReset::Earliest,
        Start::End => OffsetReset::Latest,
        Start::Offset(_) | Start::Last(_) => {
            let message = "--offset of a group is beginning or end: it counts only where nothing was committed yet";
            return Err(Failure::message(Exit::Usage, message)
                .hint(format_args!("`rafka group seek {group}` moves a group")));
        }
    };
    limit(&mut settings, args);
    let consumer = Consumer::with_client(sdk::client(global)?, settings)?;
    consumer.subscribe(&[args.topic.as_str()]).await.map_err(|error| explain(error, global))?;
    Ok(Reading { consumer, ends: None })
}

async fn assign(args: &Args, topic: &TopicDescription, global: &Global) -> Outcome<Reading> {
    let mut settings = rafka_consumer::Settings::default();
    settings.auto_commit_interval = None;
    settings.offset_reset = OffsetReset::Earliest;
    limit(&mut settings, args);
    let mut starts = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for partition in &topic.partitions {
        let index = partition.partition;
        if !args.partition.is_empty() && !args.partition.contains(&index.0) {
            continue;
        }
        let name = TopicPartition::new(topic.name.clone(), index);
        let Some(log) = partition.log else {
            let message = format!("partition {name} has no leader that could be read from");
            return Err(Failure::message(Exit::Failed, message));
        };
        let start = args.offset.within(log.start, log.end).ok_or_else(|| {
            let message = format!("partition {name} ends at offset {}, before --offset", log.end);
            Failure::message(Exit::Failed, message)
                .hint("--partition reads some partitions only, --offset end waits for new records")
        })?;
        if let Start::Offset(wanted) = args.offset
            && wanted < start.0
        {
            global.out().note(format_args!("partition {name} begins at offset {start}"));
        }
        starts.insert(name.clone(), start);
        ends.insert(name, log.end);
    }
    let missing = args
        .partition
        .iter()
        .find(|wanted| !topic.partitions.iter().any(|partition| partition.partition.0 == **wanted));
    if let Some(missing) = missing {
        let message = format!("topic {} has no partition {missing}", topic.name);
        return Err(Failure::message(Exit::NotFound, message));
    }
    let consumer = Consumer::with_client(sdk::client(global)?, settings)?;
    let names: Vec<TopicPartition> = starts.keys().cloned().collect();
    consumer.assign(&names).map_err(|error| explain(error, global))?;
    for (name, start) in &starts {
        consumer.seek(name, *start).map_err(|error| explain(error, global))?;
    }
    Ok(Reading { consumer, ends: Some(ends) })
}

/// A poll gives no more than is wanted.
fn limit(settings: &mut rafka_consumer::Settings, args: &Args) {
    let wanted = args.count.and_then(|count| usize::try_from(count).ok());
    settings.poll_records_max = wanted.map_or(RECORDS_MAX, |count| count.clamp(1, RECORDS_MAX));
}

enum Shape {
    Json,
    Format(Format),
}

impl Shape {
    fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        let printed = Printed {
            topic: record.topic(),
            partition: record.partition.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.as_ref(),
            value: record.value.as_ref(),
            headers: &record.headers,
        };
        match self {
            Self::Json => write_json(&printed, out),
            Self::Format(format) => format.write(&printed, out),
        }
    }
}

impl Reading {
    async fn read(
        &mut self,
        shape: &Shape,
        args: &Args,
        admin: &Admin,
        global: &Global,
    ) -> Outcome {
        let mut left = args.count.unwrap_or(u64::MAX);
        let mut out = Vec::new();
        while 0 < left {
            if args.exit && self.is_at_end(admin, global).await? {
                break;
            }
            let records = self.consumer.poll(POLL_WAIT).await;
            let records = records.map_err(|error| explain(error, global))?;
            out.clear();
            let wanted = records.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (printed, surplus) = records.split_at(wanted);
            for record in printed {
                shape.write(record, &mut out);
                left -= 1;
            }
            self.give_back(surplus);
            // Whoever reads may be slow; heartbeats go on meanwhile.
            if !tokio::task::block_in_place(|| print_while_open(&out))? {
                break;
            }
        }
        Ok(())
    }

    /// Moves back to the first of these of each partition, so that they are not committed.
    fn give_back(&self, surplus: &[ConsumerRecord]) {
        // The first of a partition is set last.
        for record in surplus.iter().rev() {
            // A partition that another member has by now is not ours to commit.
            self.consumer.seek(&record.partition, record.offset).ok();
        }
    }

    /// Whether everything was read that there was: without a group when reading began, in a group
    /// now, of the partitions that this member owns.
    async fn is_at_end(&self, admin: &Admin, global: &Global) -> Outcome<bool> {
        let ends = match &self.ends {
            Some(ends) => ends.clone(),
            None => match self.group_ends(admin, global).await? {
                Some(ends) => ends,
                None => return Ok(false),
            },
        };
        Ok(ends.iter().all(|(partition, end)| {
            self.consumer.position(partition).is_some_and(|position| *end <= position)
        }))
    }

    /// The present ends of what this member owns. `None` while it is not a member yet.
    async fn group_ends(
        &self,
        admin: &Admin,
        global: &Global,
    ) -> Outcome<Option<BTreeMap<TopicPartition, Offset>>> {
        let owned = self.consumer.assignment();
        if owned.is_empty() {
            return Ok(None);
        }
        let questions: Vec<_> =
            owned.iter().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
        let found = admin.list_offsets(&questions, Isolation::ReadUncommitted).await;
        let mut ends = BTreeMap::new();
        for (partition, found) in owned.into_iter().zip(found) {
            let found = found.map_err(|error| sdk::explain(error, global))?;
            ends.insert(partition, found.offset.unwrap_or(Offset::ZERO));
        }
        Ok(Some(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_where_it_is_told_to() {
        let check = |text: &str, expected: Option<i64>| {
            let start = Start::parse(text).ok();
            let found = start.and_then(|start| start.within(Offset(10), Offset(20)));
            let found = found.map(|offset| offset.0);
            assert_eq!(found, expected, "{text}");
        };
        check("beginning", Some(10));
        check("end", Some(20));
        check("15", Some(15));
        check("20", Some(20));
        check("5", Some(10));
        check("21", None);
        check("-3", Some(17));
        check("-99", Some(10));
        check("-0", Some(20));
        check("middle", None);
        check("--3", None);
        check("", None);
    }
}
