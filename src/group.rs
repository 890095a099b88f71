//! `rafka group`: list, describe, move, delete, lag.

use clap::{Args, Subcommand};
use rafka_client::TopicPartition;
use rafka_client::admin::{
    Admin, GroupDescription, GroupListing, GroupOffset, Isolation, OffsetCommit, OffsetSpec,
};
use rafka_core::{Offset, PartitionIndex, Timestamp};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Form, Row, count, print};
use crate::sdk;

/// What to do with consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all groups.
    List,
    /// Show a group's members, offsets and lag.
    Describe {
        /// Its id.
        group: String,
    },
    /// Move a group that has no members to other offsets.
    Seek(Seek),
    /// Delete a group that has no members, its offsets included.
    Delete {
        /// Its id.
        group: String,
    },
    /// Show how far a group is behind, by partition.
    Lag {
        /// Its id.
        group: String,
    },
}

/// Where to move a group.
#[derive(Debug, Args)]
pub(crate) struct Seek {
    /// The group's id.
    group: String,
    /// The topic.
    #[arg(short, long)]
    topic: String,
    /// Only this partition.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to: beginning, end, an offset that every partition holds, or the first record at a time
    /// as in @1700000000000 (milliseconds).
    #[arg(long, value_name = "WHERE", value_parser = Destination::parse)]
    to: Destination,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Beginning,
    End,
    Offset(i64),
    Time(i64),
}

impl Destination {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().ok().filter(|number| 0 <= *number);
        let found = match text {
            "beginning" => Some(Self::Beginning),
            "end" => Some(Self::End),
            _ => match text.strip_prefix('@') {
                Some(time) => number(time).map(Self::Time),
                None => number(text).map(Self::Offset),
            },
        };
        found.ok_or_else(|| "write beginning, end, an offset, or @MILLISECONDS".to_owned())
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command, global: &Global) -> Outcome {
    let admin = sdk::admin(global)?;
    let out = global.out();
    let explain = |error| sdk::explain(error, global);
    match command {
        Command::List => {
            let groups = admin.list_groups().await.map_err(explain)?;
            out.rows(&groups.iter().map(Listed::of).collect::<Vec<_>>())
        }
        Command::Describe { group } => {
            let described = Described::of(&find(&admin, &group, global).await?);
            match out.form {
                Form::Table => {
                    out.rows(std::slice::from_ref(&described))?;
                    print(b"\n")?;
                    out.rows(&described.members)?;
                    print(b"\n")?;
                    out.rows(&described.offsets)
                }
                Form::Json | Form::Yaml => out.document(&described),
            }
        }
        Command::Seek(seek) => self::seek(&admin, &seek, global).await,
        Command::Delete { group } => {
            admin.delete_group(&group).await.map_err(explain)?;
            out.note(format_args!("deleted group {group}"));
            Ok(())
        }
        Command::Lag { group } => {
            let described = find(&admin, &group, global).await?;
            out.rows(&described.offsets.iter().map(Position::of).collect::<Vec<_>>())
        }
    }
}

async fn find(admin: &Admin, group: &str, global: &Global) -> Outcome<GroupDescription> {
    let explain = |error| sdk::explain(error, global);
    let described = admin.describe_groups(&[group]).await.map_err(explain)?;
    let described = described.into_iter().next().expect("there is an answer for each group");
    described.map_err(explain)
}

async fn seek(admin: &Admin, seek: &Seek, global: &Global) -> Outcome {
    let explain = |error| sdk::explain(error, global);
    let (name, _valid) = (sdk::topic_name(&seek.topic)?, sdk::group_id(&seek.group)?);
    let topics = admin.describe_topics(std::slice::from_ref(&name)).await.map_err(explain)?;
    let topic = topics.into_iter().next().expect("there is an answer for each topic");
    let partitions: Vec<PartitionIndex> = topic
        .map_err(explain)?
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .filter(|partition| seek.partition.is_none_or(|only| only == partition.0))
        .collect();
    if partitions.is_empty() {
        let only = seek.partition.unwrap_or_default();
        let missing = format_args!("topic {name} has no partition {only}").to_string();
        return Err(Failure::message(Exit::NotFound, missing));
    }
    let mut commits = Vec::new();
    for partition in partitions {
        let partition = TopicPartition::new(name.clone(), partition);
        let offset = resolve(admin, &partition, seek.to, global).await?;
        commits.push(OffsetCommit { partition, offset, metadata: String::new() });
    }
    let is_new = match find(admin, &seek.group, global).await {
        Ok(group) if !group.members.is_empty() => {
            let members = count(group.members.len() as u64, "member");
            let message = format!("group {} has {members}: nothing was moved", seek.group);
            return Err(Failure::message(Exit::Failed, message).hint(sdk::STOP_CONSUMERS));
        }
        Ok(_) => false,
        Err(failure) if failure.exit == Exit::NotFound => true,
        Err(failure) => return Err(failure),
    };
    admin.commit_offsets(&seek.group, &commits).await.map_err(explain)?;
    if is_new {
        global.out().note(format_args!("group {} is new: nothing was committed in it", seek.group));
    }
    let moved = |commit: &OffsetCommit| Moved {
        topic: commit.partition.topic.to_string(),
        partition: commit.partition.partition.0,
        offset: commit.offset.0,
    };
    global.out().rows(&commits.iter().map(moved).collect::<Vec<_>>())
}

async fn resolve(
    admin: &Admin,
    partition: &TopicPartition,
    to: Destination,
    global: &Global,
) -> Outcome<Offset> {
    let find = async |spec| {
        let question = [(partition.clone(), spec)];
        let mut found = admin.list_offsets(&question, Isolation::ReadUncommitted).await;
        let found = found.pop().expect("there is an answer for each partition");
        found.map(|found| found.offset).map_err(|error| sdk::explain(error, global))
    };
    let at_end = async || Ok(find(OffsetSpec::Latest).await?.unwrap_or(Offset::ZERO));
    let at_start = async || Ok(find(OffsetSpec::Earliest).await?.unwrap_or(Offset::ZERO));
    match to {
        Destination::Offset(offset) => {
            let (start, end): (Offset, Offset) = (at_start().await?, at_end().await?);
            if (start..=end).contains(&Offset(offset)) {
                return Ok(Offset(offset));
            }
            let message = format!(
                "partition {partition} begins at offset {start} and ends at {end}: {offset} is \
                 outside, and nothing was moved"
            );
            Err(Failure::message(Exit::Failed, message)
                .hint("--to beginning or end fits every partition, --partition moves one"))
        }
        Destination::End => at_end().await,
        Destination::Beginning => at_start().await,
        // No record is that late: then the group goes on with the next one.
        Destination::Time(time) => match find(OffsetSpec::Timestamp(Timestamp(time))).await? {
            Some(offset) => Ok(offset),
            None => at_end().await,
        },
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: String,
    protocol_type: String,
    protocol: String,
}

impl Listed {
    fn of(group: &GroupListing) -> Self {
        Self {
            group: group.group.clone(),
            state: group.state.to_string(),
            protocol_type: group.protocol_type.clone(),
            protocol: group.kind.to_string(),
        }
    }
}

impl Row for Listed {
    const HEAD: &'static [&'static str] = &["group", "state", "type", "protocol"];
    fn cells(&self) -> Vec<String> {
        let (kind, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        vec![self.group.clone(), self.state.clone(), kind, protocol]
    }
}

#[derive(Debug, Serialize)]
struct Described {
    group: String,
    state: String,
    protocol: String,
    generation: i32,
    members: Vec<Member>,
    offsets: Vec<Position>,
}

#[derive(Debug, Serialize)]
struct Member {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    partitions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Position {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    lag: Option<u64>,
    member: Option<String>,
}

#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    offset: i64,
}

impl Described {
    fn of(group: &GroupDescription) -> Self {
        let member = |member: &rafka_client::admin::MemberDescription| Member {
            member: member.member_id.clone(),
            instance: member.instance_id.clone(),
            client: member.client_id.clone(),
            host: member.client_host.clone(),
            partitions: member.assignment.iter().map(ToString::to_string).collect(),
        };
        Self {
            group: group.group.clone(),
            state: group.state.to_string(),
            protocol: group.protocol.clone(),
            generation: group.generation,
            members: group.members.iter().map(member).collect(),
            offsets: group.offsets.iter().map(Position::of).collect(),
        }
    }
}

impl Position {
    fn of(offset: &GroupOffset) -> Self {
        Self {
            topic: offset.partition.topic.to_string(),
            partition: offset.partition.partition.0,
            committed: offset.committed.map(|offset| offset.0),
            end: offset.high_watermark.map(|offset| offset.0),
            lag: offset.lag,
            member: offset.member_id.clone(),
        }
    }
}

fn known(value: Option<&impl ToString>) -> String {
    value.map_or("-".to_owned(), ToString::to_string)
}

impl Row for Described {
    const HEAD: &'static [&'static str] = &["group", "state", "assignor", "generation"];
    fn cells(&self) -> Vec<String> {
        let generation = self.generation.to_string();
        vec![self.group.clone(), self.state.clone(), self.protocol.clone(), generation]
    }
}

impl Row for Member {
    const HEAD: &'static [&'static str] = &["member", "instance", "client", "host", "partitions"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.member.clone(),
            known(self.instance.as_ref()),
            self.client.clone(),
            self.host.clone(),
            self.partitions.join(" "),
        ]
    }
}

impl Row for Position {
    const HEAD: &'static [&'static str] =
        &["topic", "partition", "committed", "end", "lag", "member"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            known(self.committed.as_ref()),
            known(self.end.as_ref()),
            known(self.lag.as_ref()),
            known(self.member.as_ref()),
        ]
    }
}

impl Row for Moved {
    const HEAD: &'static [&'static str] = &["topic", "partition", "offset"];
    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.partition.to_string(), self.offset.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_landmarks_offsets_or_times() {
        let check = |text: &str, expected: Option<Destination>| {
            assert_eq!(Destination::parse(text).ok(), expected, "{text}");
        };
        check("beginning", Some(Destination::Beginning));
        check("end", Some(Destination::End));
        check("42", Some(Destination::Offset(42)));
        check("@1700", Some(Destination::Time(1700)));
        check("-1", None);
        check("@", None);
        check("middle", None);
    }
}
