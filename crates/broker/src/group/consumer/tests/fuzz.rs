//! Members of both protocols come, go, fall silent and lose answers, topics change, the log fails,
//! coordinators change.

mod classic;

use std::collections::{BTreeMap, BTreeSet};

use rafka_core::rng::{self, RngExt as _};
use rafka_core::{Rng, TopicPartition};

use super::*;
use crate::group::machine::Group;
use crate::group::ops::LeavingMember;

const PROMISE: &str = "no_partition_has_two_owners_and_in_the_end_each_has_one";
const NAMES: [&str; 3] = ["t", "u", "v"];

/// A client as it sees itself.
#[derive(Debug, Default)]
struct Client {
    member: String,
    instance: Option<String>,
    /// None while it is in no group.
    epoch: Option<i32>,
    topics: Vec<&'static str>,
    owned: BTreeSet<TopicPartition>,
    /// What it has been told to own, and does not own yet or still owns too much for.
    told: Option<BTreeSet<TopicPartition>>,
    /// Whether an answer was lost: then it says everything again, and is told everything again.
    has_missed: bool,
    /// Whether it speaks the classic protocol, and then what it does next.
    is_classic: bool,
    next: classic::Next,
    waiting: Option<Waiter>,
}

struct Fuzz {
    rng: Rng,
    world: World,
    clients: Vec<Client>,
    joined: u32,
    epoch: i32,
    seed: u64,
}

impl Drop for Fuzz {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again: RAFKA_SEED={} cargo test -p rafka-broker {PROMISE}", self.seed);
        }
    }
}

impl Client {
    /// It is in no group: it lets go of everything.
    fn begin_again(&mut self) {
        (self.epoch, self.told, self.next) = (None, None, classic::Next::Join);
        self.owned.clear();
    }
}

fn listed(owned: &BTreeSet<TopicPartition>) -> TopicPartitions {
    let mut listed: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for at in owned {
        listed.entry(at.topic).or_default().push(at.partition);
    }
    listed.into_iter().collect()
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut rng = rng::from_seed(seed);
        let count = rng.random_range(2..6);
        let clients = (0..count).map(|number| Client {
            instance: rng.random_bool(0.3).then(|| format!("i{number}")),
            topics: NAMES[..rng.random_range(1..=3)].to_vec(),
            is_classic: rng.random_bool(0.4),
            ..Client::default()
        });
        let clients = clients.collect();
        let world = World::new(&[("t", 3), ("u", 5)]);
        Self { rng, world, clients, joined: 0, epoch: 0, seed }
    }

    fn run(mut self) {
        for _ in 0..400 {
            let chosen = self.rng.random_range(0..self.clients.len());
            match self.rng.random_range(0..100) {
                0..50 => self.beat(chosen),
                50..56 => self.leave(chosen),
                // The process dies, and so does what it believed.
                56..58 => {
                    let client = &mut self.clients[chosen];
                    client.begin_again();
                    client.waiting = None;
                    if self.rng.random_bool(0.5) {
                        client.is_classic = !client.is_classic;
                        client.member.clear();
                    }
                }
                58..62 => self.change_topics(),
                62..64 => self.clients[chosen].topics.rotate_left(1),
                64..72 => {
                    let span = Duration::from_millis(self.rng.random_range(0..15_000));
                    self.world.bench.pass(span);
                }
                72..97 => self.settle(),
                _ => self.change_coordinator(),
            }
            self.listen();
            self.check();
        }
        self.end();
    }

    fn beat(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        if client.waiting.is_some() {
            return;
        }
        if client.is_classic {
            self.classic_step(chosen);
            return;
        }
        // It takes a while to do what it was told.
        if self.rng.random_bool(0.7)
            && let Some(told) = client.told.take()
        {
            client.owned = told;
        }
        let topics: Vec<&str> = client.topics[..1 + client.topics.len() / 2].to_vec();
        let beat = match client.epoch {
            Some(epoch) if std::mem::take(&mut client.has_missed) => ConsumerHeartbeat {
                member_epoch: epoch,
                owned: Some(listed(&client.owned)),
                ..join(&client.member, &topics)
            },
            // While it is still about it, it says nothing of what it owns.
            Some(epoch) if client.told.is_some() => alive(&client.member, epoch),
            Some(epoch) => owning(&client.member, epoch, listed(&client.owned)),
            None => {
                // A client may keep its id over a restart, or not.
                if client.member.is_empty() || self.rng.random_bool(0.5) {
                    self.joined += 1;
                    client.member = format!("m{}", self.joined);
                }
                join(&client.member, &topics)
            }
        };
        let beat = ConsumerHeartbeat { instance: client.instance.clone(), ..beat };
        let waiter = self.world.send(beat);
        self.clients[chosen].waiting = Some(waiter);
    }

    fn leave(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        if client.epoch.is_none() || client.waiting.is_some() {
            return;
        }
        client.begin_again();
        if client.is_classic {
            let member = LeavingMember { id: client.member.clone(), instance: None };
            // Refused while the group is being deleted, and of no interest to who has left.
            self.world.bench.act(|group, turn| group.leave(&[member], turn)).ok();
            return;
        }
        let is_static = client.instance.is_some() && self.rng.random_bool(0.7);
        let epoch = if is_static { LEAVE_STATIC_EPOCH } else { LEAVE_EPOCH };
        let beat =
            ConsumerHeartbeat { instance: client.instance.clone(), ..alive(&client.member, epoch) };
        // Nobody waits for the answer.
        self.world.send(beat);
    }

    fn change_topics(&mut self) {
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        match self.world.topics.by_name.get(&topic(name)) {
            Some(found) if found.partition_count < 8 => {
                self.world.set_topic(name, found.partition_count + 1);
            }
            Some(_) => self.world.delete_topic(name),
            None => self.world.set_topic(name, 1),
        }
    }

    fn settle(&mut self) {
        if self.world.bench.is_writing() {
            let is_refused = self.rng.random_bool(0.05);
            let refusal = Err(ErrorCode::CoordinatorNotAvailable);
            self.world.bench.settle_one(if is_refused { refusal } else { Ok(()) });
        }
    }

    /// The answers reach the clients, or are lost.
    fn listen(&mut self) {
        for client in &mut self.clients {
            let Some(waiter) = client.waiting.filter(|it| !self.world.bench.is_waiting(*it)) else {
                continue;
            };
            client.waiting = None;
            let answer = self.world.bench.answer(waiter);
            let answer = match answer {
                Some(Reply::Consumer(_, answer)) => answer,
                Some(reply) => {
                    client.hear(reply, &self.world.topics, self.rng.random_bool(0.1));
                    continue;
                }
                None => panic!("it is answered"),
            };
            if self.rng.random_bool(0.1) {
                (client.has_missed, client.told) = (true, None);
                continue;
            }
            match answer {
                Ok(instruction) => {
                    client.epoch = Some(instruction.member_epoch);
                    if let Some(assignment) = instruction.assignment {
                        let all = assignment.into_iter().flat_map(|(topic, partitions)| {
                            let at = move |partition| TopicPartition { topic, partition };
                            partitions.into_iter().map(at)
                        });
                        client.told = Some(all.collect());
                    }
                }
                Err(
                    ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::NotCoordinator,
                ) => {
                    (client.has_missed, client.told) = (true, None);
                }
                Err(
                    ErrorCode::UnknownMemberId
                    | ErrorCode::FencedMemberEpoch
                    | ErrorCode::FencedInstanceId
                    | ErrorCode::UnreleasedInstanceId
                    | ErrorCode::GroupIdNotFound,
                ) => client.begin_again(),
                Err(code) => panic!("{code} to {client:?}"),
            }
        }
    }

    fn change_coordinator(&mut self) {
        self.world.bench.act(|group, turn| group.abandon(ErrorCode::NotCoordinator, turn));
        self.listen();
        let landed = self.rng.random_range(0..=self.world.bench.write_count());
        self.world.bench.restart(landed);
        let group = &self.world.bench.group;
        self.epoch = group.consumers.as_ref().map_or(0, |consumers| consumers.epoch());
    }

    /// A group that leaves nothing makes room for one that begins anew, as the coordinator does it.
    fn forget_void(&mut self) {
        if self.world.bench.group.is_void() {
            self.world.bench.group = Group::new(group_id("g"));
        }
    }

    fn check(&mut self) {
        self.forget_void();
        let group = &self.world.bench.group;
        let Some(consumers) = &group.consumers else {
            // A later one begins anew.
            self.epoch = 0;
            return;
        };
        assert!(self.epoch <= consumers.epoch(), "epochs go forward");
        // Who is a member in good standing owns nothing that another such member owns.
        let mut owners: BTreeMap<TopicPartition, &str> = BTreeMap::new();
        for client in &self.clients {
            let known = consumers.members.get(&*client.member);
            let is_current = known.is_some_and(|known| client.epoch == Some(known.current.epoch));
            for at in client.owned.iter().filter(|_| is_current) {
                let before = owners.insert(*at, &client.member);
                assert_eq!(before, None, "{at} is owned twice: {:?}", self.clients);
            }
        }
    }

    /// Everyone stays and does as it is told: soon each partition has one owner that wants it.
    fn end(mut self) {
        // Whoever is gone is found out first.
        for client in &mut self.clients {
            client.waiting = None;
            client.begin_again();
            client.member.clear();
        }
        for _ in 0..40 {
            self.world.bench.settle();
            self.world.bench.pass(30 * SECOND);
        }
        self.world.bench.settle();
        self.forget_void();
        for _ in 0..30 {
            for chosen in 0..self.clients.len() {
                let (mut client, world) =
                    (std::mem::take(&mut self.clients[chosen]), &mut self.world);
                if client.member.is_empty() {
                    client.member = format!("last{chosen}");
                }
                let beat = match client.epoch {
                    Some(epoch) => owning(&client.member, epoch, listed(&client.owned)),
                    None => join(&client.member, &client.topics),
                };
                let beat = ConsumerHeartbeat { instance: client.instance.clone(), ..beat };
                let told = world.beat(beat).expect("it does all right");
                client.epoch = Some(told.member_epoch);
                if let Some(assignment) = told.assignment {
                    let at = |(topic, partitions): (TopicId, Vec<PartitionIndex>)| {
                        let at = move |partition| TopicPartition { topic, partition };
                        partitions.into_iter().map(at).collect::<Vec<_>>()
                    };
                    client.owned = assignment.into_iter().flat_map(at).collect();
                }
                self.clients[chosen] = client;
            }
            self.world.bench.pass(SECOND);
        }
        assert_eq!(self.world.kind(), GroupState::Stable);
        for (name, found) in &self.world.topics.by_name {
            let wants = |it: &&Client| it.topics.contains(&name.as_str());
            if !self.clients.iter().any(|client| wants(&client)) {
                continue;
            }
            for partition in (0..found.partition_count.cast_signed()).map(PartitionIndex) {
                let at = TopicPartition { topic: found.id, partition };
                let owners: Vec<&Client> =
                    self.clients.iter().filter(|client| client.owned.contains(&at)).collect();
                assert!(owners.len() == 1 && wants(&owners[0]), "{name}/{partition}: {owners:?}");
            }
        }
        let again = self.world.bench.reloaded().expect("it is in the log");
        let topics = Topics::new(self.world.topics.clone());
        let group = &self.world.bench.group;
        assert_eq!(again.describe_consumers(&topics), group.describe_consumers(&topics));
        assert_eq!(again.subscribed, group.subscribed);
    }
}

#[test]
fn no_partition_has_two_owners_and_in_the_end_each_has_one() {
    let chosen = option_env!("RAFKA_SEED").map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = chosen.map_or(0..200, |seed| seed..seed + 1);
    for seed in seeds {
        Fuzz::new(seed).run();
    }
}
