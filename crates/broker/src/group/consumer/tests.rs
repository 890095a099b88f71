//! Next-generation groups on the bench.

mod fuzz;
mod members;
mod migration;
mod offsets;
mod subscriptions;

use std::time::Duration;

use rafka_core::{ErrorCode, PartitionIndex, TopicId};

use super::ops::{
    ConsumerHeartbeat, ConsumerInstruction, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, TopicPartitions,
};
use crate::group::effects::{Reply, Waiter};
use crate::group::log::{Topic, Topics};
use crate::group::ops::GroupState;
use crate::group::tests::{Bench, KnownTopics, SECOND, group_id, topic};

const REBALANCE: Duration = Duration::from_secs(30);

/// The topics there are, and the group on its bench.
struct World {
    bench: Bench,
    topics: KnownTopics,
}

impl World {
    /// With topics of these names and partition counts.
    fn new(topics: &[(&str, u32)]) -> Self {
        let mut world = Self { bench: Bench::new(), topics: KnownTopics::default() };
        for (name, count) in topics {
            world.set_topic(name, *count);
        }
        world
    }

    fn set_topic(&mut self, name: &str, partition_count: u32) {
        self.topics.version += 1;
        let id = self.topics.by_name.get(&topic(name)).map(|topic| topic.id);
        let id = id.unwrap_or_else(|| TopicId::from_random(u128::from(self.topics.version)));
        self.topics.by_name.insert(topic(name), Topic { id, partition_count });
        self.bench.topics = Topics::new(self.topics.clone());
    }

    fn delete_topic(&mut self, name: &str) {
        self.topics.version += 1;
        self.topics.by_name.remove(&topic(name));
        self.bench.topics = Topics::new(self.topics.clone());
    }

    fn send(&mut self, beat: ConsumerHeartbeat) -> Waiter {
        let waiter = self.bench.waiter();
        let topics = Topics::new(self.topics.clone());
        self.bench.act(|group, turn| group.consumer_heartbeat(beat, &topics, waiter, turn));
        waiter
    }

    fn answer(&mut self, waiter: Waiter) -> Result<ConsumerInstruction, ErrorCode> {
        match self.bench.answer(waiter) {
            Some(Reply::Consumer(_, answer)) => answer,
            other => panic!("not the answer to a heartbeat: {other:?}"),
        }
    }

    /// Sends a heartbeat, and lets it become durable.
    fn beat(&mut self, beat: ConsumerHeartbeat) -> Result<ConsumerInstruction, ErrorCode> {
        let waiter = self.send(beat);
        self.bench.settle();
        self.answer(waiter)
    }

    fn refused(&mut self, beat: ConsumerHeartbeat) -> i16 {
        self.beat(beat).map_or_else(ErrorCode::code, |_| 0)
    }

    /// A member joins, and learns its epoch and how many partitions it has.
    fn joins(&mut self, member: &str, topics: &[&str]) -> (i32, usize) {
        told(&self.beat(join(member, topics)).expect("it may join"))
    }

    fn kind(&self) -> GroupState {
        self.bench.group.kind()
    }

    /// What members own by the group's account: the topic's name and the partition.
    fn owned(&self, member: &str) -> Vec<(String, i32)> {
        let topics = Topics::new(self.topics.clone());
        let described = self.bench.group.describe_consumers(&topics).expect("it is one");
        let found = described.members.into_iter().find(|it| it.id == member);
        let assigned = found.expect("it is a member").assigned;
        let pairs = assigned.into_iter().flat_map(|topic| {
            let name = topic.name.as_str().to_owned();
            topic.partitions.into_iter().map(move |partition| (name.clone(), partition.0))
        });
        let mut pairs: Vec<(String, i32)> = pairs.collect();
        pairs.sort();
        pairs
    }
}

/// The epoch, and how many partitions the member is told to own.
fn told(instruction: &ConsumerInstruction) -> (i32, usize) {
    let assignment = instruction.assignment.as_ref().expect("it is told");
    (instruction.member_epoch, assignment.iter().map(|(_, partitions)| partitions.len()).sum())
}

/// A heartbeat with no news.
fn alive(member: &str, member_epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: group_id("g"),
        member: member.to_owned(),
        member_epoch,
        instance: None,
        rack: None,
        rebalance_timeout: None,
        topics: None,
        regex: None,
        assignor: None,
        owned: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
    }
}

fn join(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout: Some(REBALANCE),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        owned: Some(Vec::new()),
        ..alive(member, 0)
    }
}

fn owning(member: &str, epoch: i32, owned: TopicPartitions) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: Some(owned), ..alive(member, epoch) }
}

fn static_join(member: &str, instance: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance: Some(instance.to_owned()), ..join(member, topics) }
}
