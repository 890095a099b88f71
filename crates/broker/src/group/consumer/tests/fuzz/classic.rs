//! The clients that speak the classic protocol, and keep partitions through rebalances.

use rafka_core::consumer_protocol::{Assignment, Subscription, TopicPartitions as Named};

use super::*;
use crate::group::effects::Refusal;
use crate::group::ops::Protocol;
use crate::group::tests::{newcomer, sync};
use crate::group::{Heartbeat, Join, Sync};

/// What a classic client does next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    #[default]
    Join,
    Sync,
    Beat,
}

impl Client {
    /// Takes an answer in, unless it is lost.
    pub(super) fn hear(&mut self, reply: Reply, topics: &KnownTopics, is_lost: bool) {
        match reply {
            _ if is_lost => self.next = Next::Join,
            Reply::Join(_, Ok(joined)) => {
                (self.epoch, self.member) = (Some(joined.generation), joined.member);
                self.next = Next::Sync;
            }
            Reply::Sync(_, Ok(synced)) => {
                // In a group that has no others, its leader gives nobody anything.
                let assignment = Assignment::decode(&synced.assignment).unwrap_or_default();
                let mut told = BTreeSet::new();
                for Named { topic: name, partitions } in assignment.partitions {
                    let Some(found) = topics.by_name.get(&topic(&name)) else { continue };
                    let at = |partition| TopicPartition { topic: found.id, partition };
                    told.extend(partitions.into_iter().map(at));
                }
                // Who let something go joins again, so that another can have it.
                let keeps_all = self.owned.is_subset(&told);
                self.owned = told;
                self.next = if keeps_all { Next::Beat } else { Next::Join };
            }
            Reply::Join(_, Err(Refusal::Code(code))) | Reply::Sync(_, Err(code)) => {
                self.is_refused(code);
            }
            other => panic!("not its: {other:?}"),
        }
    }

    fn is_refused(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::RebalanceInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator => self.next = Next::Join,
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedInstanceId => {
                self.begin_again();
                self.member.clear();
            }
            code => panic!("{code} to {self:?}"),
        }
    }

    fn subscription(&self, topics: &KnownTopics) -> Protocol {
        let names = self.topics.iter().map(|name| (*name).to_owned());
        let mut subscription = Subscription::new(names.collect());
        subscription.generation = self.epoch.unwrap_or(-1);
        for (name, found) in &topics.by_name {
            let held = self.owned.iter().filter(|at| at.topic == found.id);
            let partitions: Vec<PartitionIndex> = held.map(|at| at.partition).collect();
            if partitions.is_empty() {
                continue;
            }
            subscription.owned.push(Named { topic: name.as_str().to_owned(), partitions });
        }
        // It does not know that a topic is gone.
        let is_there = |at: &&TopicPartition| topics.by_name.values().any(|it| it.id == at.topic);
        let gone: Vec<PartitionIndex> =
            self.owned.iter().filter(|at| !is_there(at)).map(|at| at.partition).collect();
        if !gone.is_empty() {
            subscription.owned.push(Named { topic: "gone".to_owned(), partitions: gone });
        }
        let metadata = subscription.encode().expect("it is short");
        Protocol { name: "cooperative-sticky".to_owned(), metadata }
    }
}

impl Fuzz {
    pub(super) fn classic_step(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        let instance = client.instance.clone();
        match (client.next, client.epoch) {
            (Next::Beat, Some(generation)) => {
                let beat = Heartbeat {
                    group: group_id("g"),
                    member: client.member.clone(),
                    instance,
                    generation,
                };
                let answer = self.world.bench.act(|group, turn| group.heartbeat(&beat, turn));
                if let Err(code) = answer {
                    client.is_refused(code);
                }
            }
            (Next::Sync, Some(generation)) => {
                let request = Sync { instance, ..sync(&client.member, generation) };
                client.waiting = Some(self.world.bench.sync(request));
            }
            _ => {
                let join = Join {
                    member: client.member.clone(),
                    instance,
                    protocols: vec![client.subscription(&self.world.topics)],
                    ..newcomer(&[])
                };
                client.waiting = Some(self.world.bench.join(join));
            }
        }
    }
}
