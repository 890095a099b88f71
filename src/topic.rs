//! `rafka topic`: create, list, describe, alter, delete, add partitions.

use clap::{ArgGroup, Args, Subcommand};
use rafka_client::admin::{ConfigChange, ConfigDescription, NewTopic, TopicDescription};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Form, Output, Row, count};
use crate::sdk;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a topic.
    Create(Create),
    /// List all topics.
    List {
        /// Also those that the cluster keeps for itself.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and settings.
    Describe {
        /// Its name.
        topic: String,
    },
    /// Change a topic's settings: all of them, or none.
    Alter(Alter),
    /// Delete a topic with everything in it.
    Delete {
        /// Its name.
        topic: String,
    },
    /// Give a topic more partitions. Keys may map to other partitions from then on.
    AddPartitions {
        /// Its name.
        topic: String,
        /// How many there shall be in all.
        #[arg(short, long, value_name = "N")]
        partitions: u32,
    },
}

/// A topic to create.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: 1 to 249 letters, digits, dots, underscores and hyphens.
    topic: String,
    /// How many partitions [default: the node's setting].
    #[arg(short, long, value_name = "N")]
    partitions: Option<u32>,
    /// Copies of each partition [default: 3, or as many as there are nodes].
    #[arg(short, long, value_name = "N")]
    replication_factor: Option<u16>,
    /// A setting, as in retention.ms=86400000. May be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Succeed if there is such a topic already, whatever it looks like.
    #[arg(long)]
    if_not_exists: bool,
}

/// Settings to change.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("changes").required(true).multiple(true)))]
pub(crate) struct Alter {
    /// The topic's name.
    topic: String,
    /// Set this. May be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair, group = "changes")]
    config: Vec<(String, String)>,
    /// Give this its default again. May be repeated.
    #[arg(long, value_name = "KEY", group = "changes")]
    reset: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command, global: &Global) -> Outcome {
    let admin = sdk::admin(global)?;
    let out = global.out();
    let explain = |error| sdk::explain(error, global);
    match command {
        Command::Create(create) => self::create(&create, global).await,
        Command::List { internal } => {
            let topics = admin.list_topics(internal).await.map_err(explain)?;
            out.rows(&topics.iter().map(Listed::of).collect::<Vec<_>>())
        }
        Command::Describe { topic } => describe(&topic, global).await,
        Command::Alter(alter) => {
            let topic = sdk::topic_name(&alter.topic)?;
            let set = alter.config.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
            let reset = alter.reset.into_iter().map(ConfigChange::Reset);
            let changes: Vec<_> = set.chain(reset).collect();
            admin.alter_topic_configs(topic.as_str(), &changes).await.map_err(explain)?;
            out.note(format_args!("altered topic {topic}"));
            Ok(())
        }
        Command::Delete { topic } => {
            let topic = sdk::topic_name(&topic)?;
            admin.delete_topic(topic.as_str()).await.map_err(explain)?;
            out.note(format_args!("deleted topic {topic}"));
            Ok(())
        }
        Command::AddPartitions { topic, partitions } => {
            let topic = sdk::topic_name(&topic)?;
            admin.create_partitions(topic.as_str(), partitions).await.map_err(explain)?;
            out.note(format_args!("topic {topic} has {partitions} partitions now"));
            Ok(())
        }
    }
}

async fn create(create: &Create, global: &Global) -> Outcome {
    let name = sdk::topic_name(&create.topic)?;
    let mut topic = NewTopic::new(name.as_str());
    if let Some(partitions) = create.partitions {
        if partitions == 0 {
            return Err(Failure::message(Exit::Usage, "--partitions is 0: a topic has at least 1"));
        }
        topic = topic.partitions(partitions);
    }
    if let Some(copies) = create.replication_factor {
        if copies == 0 {
            let message = "--replication-factor is 0: a partition has at least 1 copy";
            return Err(Failure::message(Exit::Usage, message));
        }
        topic = topic.replication_factor(copies);
    }
    for (key, value) in &create.config {
        topic = topic.config(key, value);
    }
    let out = global.out();
    match sdk::admin(global)?.create_topic(&topic).await {
        Ok(created) => {
            let partitions = count(created.partition_count.into(), "partition");
            out.note(format_args!("created topic {name} with {partitions}"));
            Ok(())
        }
        Err(error)
            if create.if_not_exists
                && error.code() == Some(rafka_core::ErrorCode::TopicAlreadyExists) =>
        {
            out.note(format_args!("there is a topic {name} already"));
            Ok(())
        }
        Err(error) => Err(sdk::explain(error, global)),
    }
}

async fn describe(name: &str, global: &Global) -> Outcome {
    let admin = sdk::admin(global)?;
    let explain = |error| sdk::explain(error, global);
    let names = [sdk::topic_name(name)?];
    let described = admin.describe_topics(&names).await.map_err(explain)?;
    let topic = described.into_iter().next().expect("there is an answer for each topic");
    let topic = topic.map_err(explain)?;
    let configs = admin.topic_configs(name).await.map_err(explain)?;
    let described = Described::of(&topic, configs);
    let out = global.out();
    match out.form {
        Form::Table => described.tables(out),
        Form::Json | Form::Yaml => out.document(&described),
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    partitions: u32,
    replication_factor: u32,
    id: String,
}

impl Listed {
    fn of(topic: &rafka_client::admin::TopicListing) -> Self {
        Self {
            topic: topic.name.to_string(),
            partitions: topic.partition_count,
            replication_factor: topic.replication_factor,
            id: topic.id.to_string(),
        }
    }
}

impl Row for Listed {
    const HEAD: &'static [&'static str] = &["topic", "partitions", "replicas", "id"];
    fn cells(&self) -> Vec<String> {
        let numbers = [self.partitions, self.replication_factor].map(|number| number.to_string());
        let [partitions, replicas] = numbers;
        vec![self.topic.clone(), partitions, replicas, self.id.clone()]
    }
}

#[derive(Debug, Serialize)]
struct Described {
    topic: String,
    id: String,
    internal: bool,
    partitions: Vec<Partition>,
    configs: Vec<Config>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    size_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Config {
    key: String,
    value: String,
    default: bool,
}

impl Described {
    fn of(topic: &TopicDescription, configs: Vec<ConfigDescription>) -> Self {
        let ids = |nodes: &[rafka_core::NodeId]| nodes.iter().map(|node| node.0).collect();
        let partition = |partition: &rafka_client::admin::PartitionDescription| Partition {
            partition: partition.partition.0,
            leader: partition.leader.map(|node| node.0),
            leader_epoch: partition.leader_epoch.0,
            replicas: ids(&partition.replicas),
            isr: ids(&partition.isr),
            start_offset: partition.log.map(|log| log.start.0),
            end_offset: partition.log.map(|log| log.end.0),
            size_bytes: partition.log.map(|log| log.size.0),
        };
        let config = |config: ConfigDescription| Config {
            key: config.name,
            value: config.value,
            default: config.is_default,
        };
        Self {
            topic: topic.name.to_string(),
            id: topic.id.to_string(),
            internal: topic.internal,
            partitions: topic.partitions.iter().map(partition).collect(),
            configs: configs.into_iter().map(config).collect(),
        }
    }

    fn tables(&self, out: Output) -> Outcome {
        out.rows(&self.partitions)?;
        crate::output::print(b"\n")?;
        out.rows(&self.configs)
    }
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

impl Row for Partition {
    const HEAD: &'static [&'static str] =
        &["partition", "leader", "epoch", "replicas", "isr", "start", "end", "bytes"];
    fn cells(&self) -> Vec<String> {
        let ids =
            |nodes: &[i32]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        vec![
            self.partition.to_string(),
            known(self.leader),
            self.leader_epoch.to_string(),
            ids(&self.replicas),
            ids(&self.isr),
            known(self.start_offset),
            known(self.end_offset),
            known(self.size_bytes),
        ]
    }
}

impl Row for Config {
    const HEAD: &'static [&'static str] = &["setting", "value", "set by"];
    fn cells(&self) -> Vec<String> {
        let set_by = if self.default { "default" } else { "topic" };
        vec![self.key.clone(), self.value.clone(), set_by.to_owned()]
    }
}
