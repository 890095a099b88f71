//! Many members come and go, fall silent, commit, while the log fails and coordinators change.

use std::collections::BTreeSet;

use rafka_core::rng::RngExt as _;

use super::*;
use crate::group::machine::{State, Write};
use crate::group::ops::LeavingMember;

const TOPICS: [&str; 3] = ["t", "u", "v"];

/// A client that does what it likes, in no order.
#[derive(Debug, Default)]
struct Client {
    member: String,
    instance: Option<String>,
    generation: i32,
    leads: Vec<String>,
    waiting: Option<Waiter>,
}

/// An offset that will be the topic's once its commit is acknowledged.
#[derive(Debug, Clone, Copy)]
struct Claim {
    topic: &'static str,
    /// None if somebody asked for its deletion behind the commit.
    offset: Option<i64>,
}

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again: RAFKA_SEED={} cargo test -p rafka-broker {PROMISE}", self.0);
        }
    }
}

const PROMISE: &str = "groups_keep_their_promises_whatever_happens";

struct Fuzz {
    rng: Rng,
    bench: Bench,
    clients: Vec<Client>,
    /// Everyone who was promised an answer and has not got it.
    unanswered: Vec<Waiter>,
    /// Commits on their way, with what they commit and in whose transaction.
    commits: Vec<(Waiter, Option<i64>, Vec<Claim>)>,
    /// What was acknowledged within each open transaction.
    open: BTreeMap<i64, Vec<Claim>>,
    /// Every offset that was sent within each open transaction.
    sent: BTreeMap<i64, Vec<i64>>,
    /// The offsets of aborted transactions, which nobody may ever see.
    aborted: BTreeSet<i64>,
    /// The newest acknowledged offset of each topic.
    acked: BTreeMap<&'static str, i64>,
    next_offset: i64,
    generation: i32,
    /// Who was told to lead a generation of this coordinator.
    leaders: BTreeMap<i32, String>,
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut rng = rng::from_seed(seed);
        let mut bench = Bench::new();
        bench.settings.group_rebalance_delay_initial = SECOND * rng.random_range(0..3);
        bench.settings.group_members_max = rng.random_range(3..8);
        let clients = (0..6)
            .map(|number| Client {
                instance: rng.random_bool(0.4).then(|| format!("i{}", number / 2)),
                ..Client::default()
            })
            .collect();
        Self {
            rng,
            bench,
            clients,
            unanswered: Vec::new(),
            commits: Vec::new(),
            open: BTreeMap::new(),
            sent: BTreeMap::new(),
            aborted: BTreeSet::new(),
            acked: BTreeMap::new(),
            next_offset: 0,
            generation: 0,
            leaders: BTreeMap::new(),
        }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            let chosen = self.rng.random_range(0..self.clients.len());
            match self.rng.random_range(0..100) {
                0..20 => self.join(chosen),
                20..24 => self.commit_within(chosen),
                24..25 => self.end_transaction(),
                25..45 => self.sync(chosen),
                45..55 => self.beat(chosen),
                55..68 => self.commit(chosen),
                68..70 => self.leave(chosen),
                70..72 => self.clients[chosen].member.clear(),
                72..74 => self.forget(),
                74..82 => {
                    let span = Duration::from_millis(self.rng.random_range(0..8000));
                    self.bench.pass(span);
                }
                82..98 => self.settle(),
                _ => self.change_coordinator(),
            }
            self.listen();
            self.check();
        }
        self.end();
    }

    fn join(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        let topics = if self.rng.random_bool(0.9) { &TOPICS[..1] } else { &TOPICS[..2] };
        let waiter = self.bench.join(Join {
            member: client.member.clone(),
            instance: client.instance.clone(),
            member_id_required: self.rng.random_bool(0.5),
            skip_assignment_known: self.rng.random_bool(0.5),
            ..newcomer(topics)
        });
        client.waiting = Some(waiter);
        self.unanswered.push(waiter);
    }

    fn sync(&mut self, chosen: usize) {
        let client = &self.clients[chosen];
        let request = Sync {
            instance: client.instance.clone(),
            assignments: assignments(&client.leads),
            ..sync(&client.member, client.generation)
        };
        let waiter = self.bench.sync(request);
        self.unanswered.push(waiter);
    }

    fn beat(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        let instance = client.instance.as_deref();
        let answer = self.bench.beat(&client.member, instance, client.generation);
        if matches!(answer, Err(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId)) {
            client.member.clear();
        }
    }

    /// A producer commits offsets in its transaction.
    fn commit_within(&mut self, chosen: usize) {
        let (offsets, claims) = self.some_offsets();
        let client = &self.clients[chosen];
        let instance = client.instance.clone();
        let order = if self.rng.random_bool(0.5) {
            commit("", -1, &offsets)
        } else {
            CommitOffsets { instance, ..commit(&client.member, client.generation, &offsets) }
        };
        let producer = self.rng.random_range(1..=3);
        let sent = offsets.iter().map(|(_, offset)| *offset);
        self.sent.entry(producer).or_default().extend(sent);
        let waiter = self.bench.commit_within(producer, order);
        self.commits.push((waiter, Some(producer), claims));
    }

    /// Its marker comes behind all that is on its way.
    fn end_transaction(&mut self) {
        self.bench.settle();
        self.listen();
        let producer = self.rng.random_range(1..=3);
        let outcome = if self.rng.random_bool(0.6) { Outcome::Commit } else { Outcome::Abort };
        self.bench.end(producer, outcome);
        let claims = self.open.remove(&producer).unwrap_or_default();
        let sent = self.sent.remove(&producer).unwrap_or_default();
        match outcome {
            Outcome::Abort => self.aborted.extend(sent),
            // Later offsets are larger: whatever was said last counts.
            Outcome::Commit => {
                for Claim { topic, offset } in claims {
                    let Some(offset) = offset else { continue };
                    let acked = self.acked.entry(topic).or_insert(offset);
                    *acked = offset.max(*acked);
                }
            }
        }
    }

    fn leave(&mut self, chosen: usize) {
        let client = &self.clients[chosen];
        let leaving =
            [LeavingMember { id: client.member.clone(), instance: client.instance.clone() }];
        // Refused only while the group is being deleted.
        self.bench.act(|group, turn| group.leave(&leaving, turn)).ok();
    }

    fn some_offsets(&mut self) -> (Vec<(&'static str, i64)>, Vec<Claim>) {
        let mut offsets = Vec::new();
        for topic in TOPICS {
            if self.rng.random_bool(0.5) {
                self.next_offset += 1;
                offsets.push((topic, self.next_offset));
            }
        }
        let claims =
            offsets.iter().map(|(topic, offset)| Claim { topic, offset: Some(*offset) }).collect();
        (offsets, claims)
    }

    fn commit(&mut self, chosen: usize) {
        let (offsets, claims) = self.some_offsets();
        let client = &self.clients[chosen];
        let is_operator = self.rng.random_bool(0.1);
        let waiter = self.bench.commit(if is_operator {
            commit("", -1, &offsets)
        } else {
            let instance = client.instance.clone();
            CommitOffsets { instance, ..commit(&client.member, client.generation, &offsets) }
        });
        self.commits.push((waiter, None, claims));
    }

    /// An operator deletes something.
    fn forget(&mut self) {
        let waiter = self.bench.waiter();
        let topic = TOPICS[self.rng.random_range(0..TOPICS.len())];
        match self.rng.random_range(0..3) {
            0 => {
                let partitions = vec![(super::topic(topic), PartitionIndex(0))];
                self.bench.act(|group, turn| group.delete_offsets(partitions, waiter, turn));
                self.unanswered.push(waiter);
                self.disclaim(|claimed| claimed == topic);
            }
            1 => {
                let topic_name = super::topic(topic);
                self.bench.act(|group, turn| group.forget_topic(&topic_name, turn));
                self.disclaim(|claimed| claimed == topic);
            }
            _ => {
                self.bench.act(|group, turn| group.delete(waiter, turn));
                self.unanswered.push(waiter);
                self.disclaim(|_| true);
            }
        }
    }

    fn disclaim(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.acked.retain(|topic, _| !is_gone(topic));
        let claims = self.commits.iter_mut().flat_map(|(_, _, claims)| claims);
        let claims = claims.chain(self.open.values_mut().flatten());
        claims.filter(|claim| is_gone(claim.topic)).for_each(|claim| claim.offset = None);
    }

    /// The oldest write ends; seldom, it is refused.
    fn settle(&mut self) {
        let Some(append) = self.bench.appends.front() else { return };
        // After a refusal of these the log is behind, as it would be after a lost node.
        let write = &self.bench.group.writes[&append.ticket];
        let must_land = matches!(write, Write::Group | Write::StaticMember { .. });
        let is_refused = !must_land && self.rng.random_bool(0.1);
        self.bench.settle_one(if is_refused {
            Err(ErrorCode::CoordinatorNotAvailable)
        } else {
            Ok(())
        });
    }

    /// Another coordinator takes over: it knows what is in the log, and nothing else.
    fn change_coordinator(&mut self) {
        self.bench.act(|group, turn| group.abandon(ErrorCode::NotCoordinator, turn));
        // Some writes on their way still get into the log, others never do.
        let landed = self.rng.random_range(0..=self.bench.appends.len());
        self.bench.restart(landed);
        self.generation = self.bench.group.generation;
        self.leaders.clear();
    }

    /// Takes the answers in.
    fn listen(&mut self) {
        let waiters = std::mem::take(&mut self.unanswered);
        for waiter in waiters {
            match self.bench.answer(waiter) {
                None => self.unanswered.push(waiter),
                Some(Reply::Join(_, answer)) => self.hear(waiter, answer),
                Some(_) => {}
            }
        }
        let commits = std::mem::take(&mut self.commits);
        for (waiter, producer, claims) in commits {
            match self.bench.answer(waiter) {
                None => self.commits.push((waiter, producer, claims)),
                Some(Reply::Offsets(_, Ok(results))) => {
                    let done = claims.into_iter().zip(results).filter(|(_, r)| r.result.is_ok());
                    let done = done.map(|(claim, _)| claim);
                    match producer {
                        Some(producer) => self.open.entry(producer).or_default().extend(done),
                        None => self
                            .acked
                            .extend(done.filter_map(|claim| Some((claim.topic, claim.offset?)))),
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn hear(&mut self, waiter: Waiter, answer: Result<Joined, Refusal>) {
        if let Ok(joined) = &answer
            && !joined.members.is_empty()
            && !joined.skip_assignment
        {
            assert_eq!(joined.leader, joined.member, "only leaders see members");
            let leader =
                self.leaders.entry(joined.generation).or_insert_with(|| joined.member.clone());
            assert_eq!(*leader, joined.member, "two leaders of a generation");
        }
        let mut clients = self.clients.iter_mut();
        let Some(client) = clients.find(|client| client.waiting == Some(waiter)) else { return };
        client.waiting = None;
        match answer {
            Ok(joined) => {
                client.member = joined.member;
                client.generation = joined.generation;
                client.leads = joined.members.into_iter().map(|member| member.id).collect();
            }
            Err(Refusal::MemberIdRequired(member)) => client.member = member,
            Err(Refusal::Code(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId)) => {
                client.member.clear();
            }
            Err(Refusal::Code(_)) => {}
        }
    }

    fn check(&mut self) {
        let group = &self.bench.group;
        if group.generation == 0 && !group.is_recorded {
            // It was deleted and is another one.
            self.generation = 0;
            self.leaders.clear();
        }
        assert!(self.generation <= group.generation, "a generation went back");
        self.generation = group.generation;
        if group.state != State::Dead {
            let leader = group.leader.as_deref();
            assert_eq!(leader.is_none(), group.roster.is_empty(), "{leader:?}");
            assert!(leader.is_none_or(|id| group.roster.contains(id)), "{leader:?}");
            for (topic, offset) in &self.acked {
                let found = self.bench.committed(topic);
                let is_kept = found.is_some_and(|found| *offset <= found);
                assert!(is_kept, "{topic} was {offset}, is {found:?}");
            }
        }
        for topic in TOPICS {
            let found = self.bench.committed(topic);
            let is_aborted = found.is_some_and(|found| self.aborted.contains(&found));
            assert!(!is_aborted, "{topic} is {found:?}, which was aborted");
        }
        if !self.bench.is_writing() && self.bench.group.leftovers.is_empty() {
            self.check_log();
        }
    }

    /// With nothing on its way, the log says what the group is.
    fn check_log(&mut self) {
        let again = self.bench.reloaded().unwrap_or_else(|| Group::new(group_id("g")));
        let group = &self.bench.group;
        let stable = FetchOffsets { require_stable: true, ..everything() };
        assert_eq!(again.fetch(&stable), group.fetch(&stable), "other offsets");
        match group.kind() {
            // What the log refused has been told again: the coordinator drops the group.
            _ if group.is_void() => assert!(again.is_void()),
            GroupState::Stable => {
                assert_eq!(again.generation, group.generation);
                assert_eq!(again.leader, group.leader);
                assert_eq!(members(&again), members(group));
                assert_eq!(again.subscribed, group.subscribed);
            }
            GroupState::Empty => {
                assert_eq!(again.generation, group.generation);
                assert!(again.roster.is_empty());
            }
            // Generations enter the log with their assignments.
            GroupState::PreparingRebalance | GroupState::CompletingRebalance => {
                assert!(again.generation <= group.generation);
            }
            GroupState::Dead => assert!(again.is_void()),
            GroupState::Assigning | GroupState::Reconciling => {
                unreachable!("nobody speaks the next protocol here")
            }
        }
    }

    /// Everyone goes away: each answer that was promised comes, and the group becomes empty.
    fn end(mut self) {
        for _ in 0..100 {
            self.bench.settle();
            self.bench.pass(Duration::from_secs(15));
        }
        self.listen();
        assert_eq!(self.unanswered, [], "never answered");
        assert!(self.commits.is_empty(), "never answered");
        assert!(self.bench.group.roster.is_empty(), "{:?}", self.bench.group.kind());
        assert!(self.bench.group.pending.is_empty());
    }
}

#[test]
fn groups_keep_their_promises_whatever_happens() {
    let chosen = option_env!("RAFKA_SEED").map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = chosen.map_or(0..150, |seed| seed..seed + 1);
    for seed in seeds {
        let _replay = Replay(seed);
        Fuzz::new(seed).run(400);
    }
}
