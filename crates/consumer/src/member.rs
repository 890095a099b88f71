//! A member of a group: joins, learns its partitions, gives signs of life, and leaves. One task, so
//! that a `poll` that is dropped leaves nothing half done.

mod assign;
mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_client::{Error, Missing, TopicPartition};
use rafka_core::assignor::Assignor;
use rafka_core::consumer_protocol::Subscription;
use rafka_core::{Clock, Time, TopicName};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use calls::{Group, Meaning, Membership};
use calls::{Join, NotJoined};

/// Events that wait for `poll`; the member goes no further without its answer.
pub(crate) const EVENTS_MAX: usize = 4;
/// How often the leader looks for subscribed topics that did not exist when it assigned.
const MISSING_TOPICS_EVERY: Duration = Duration::from_secs(1);
/// How long leaving may take at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What the member tells the consumer.
#[derive(Debug)]
pub(crate) enum Event {
    /// Partitions must be given up. The member waits for the answer before it joins again.
    Revoke(GiveUp, oneshot::Sender<()>),
    /// The partitions were given to others already.
    Lost,
    /// These partitions, and no others, are the member's now, which is this one.
    Assigned(Vec<TopicPartition>, Membership),
    /// These partitions are the member's now, beside those it has.
    Added(Vec<TopicPartition>, Membership),
    /// The group does not take the member. Its task has ended.
    Failed(Error),
}

/// What is to be given up.
#[derive(Debug)]
pub(crate) enum GiveUp {
    All,
    These(Vec<TopicPartition>),
}

/// What the consumer and its member both know.
#[derive(Debug)]
pub(crate) struct Common {
    membership: Mutex<Membership>,
    polled_at: AtomicU64,
    /// How many `poll`s are under way.
    polling: AtomicUsize,
}

impl Common {
    pub(crate) fn new(now: Time) -> Arc<Self> {
        Arc::new(Self {
            membership: Mutex::new(Membership::none()),
            polled_at: AtomicU64::new(now.0),
            polling: AtomicUsize::new(0),
        })
    }

    /// Who the consumer is in the group now.
    pub(crate) fn membership(&self) -> Membership {
        self.membership.lock().clone()
    }

    fn is_neglected(&self, now: Time, limit: Duration) -> bool {
        self.polling.load(Ordering::Acquire) == 0
            && limit < now - Time(self.polled_at.load(Ordering::Acquire))
    }
}

/// The user is in a `poll`, as long as this lives.
pub(crate) struct Polling<'a> {
    common: &'a Common,
    clock: &'a Arc<dyn Clock>,
}

impl<'a> Polling<'a> {
    pub(crate) fn begin(common: &'a Common, clock: &'a Arc<dyn Clock>) -> Self {
        common.polling.fetch_add(1, Ordering::AcqRel);
        common.polled_at.store(clock.now().0, Ordering::Release);
        Self { common, clock }
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.common.polled_at.store(self.clock.now().0, Ordering::Release);
        self.common.polling.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The member and its task's state.
pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) topics: Vec<TopicName>,
    /// What the group gave it and did not take back.
    pub(crate) owned: BTreeSet<TopicPartition>,
    pub(crate) common: Arc<Common>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop: CancellationToken,
}

/// How a generation begins.
enum Entered {
    /// In the steady state.
    Stays(Join),
    /// Partitions were given up for others, who get them in the next.
    JoinsAgain,
    /// They should have been, and the user does not poll.
    Neglected,
}

/// Why the steady state of a generation ended.
enum Ended {
    /// Give the partitions up, then join again.
    Rebalance,
    /// The partitions are lost.
    Lost {
        forgotten: bool,
    },
    /// The user does not poll: leave until it does.
    Neglected,
    Failed(Error),
}

/// What the leader assigned from: when that changes, it assigns again.
type Counts = BTreeMap<TopicName, Option<u32>>;

impl Member {
    /// Is a member until `stop` is cancelled, then leaves.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            error = self.belong() => Some(error),
        };
        if let Some(error) = outcome {
            warn!(group = self.group.id, %error, "the group does not take this member");
            let _consumer_is_gone = self.events.send(Event::Failed(error)).await;
        }
        self.leave().await;
    }

    /// Goes through generations, until the group refuses for good.
    async fn belong(&mut self) -> Error {
        loop {
            let (join, counts) = match self.enter().await {
                Ok(entered) => entered,
                Err(error) => return error,
            };
            let ended = match join {
                Entered::Stays(join) => self.stay(&join, counts).await,
                // What moves to others was given up: they get it when all have joined again.
                Entered::JoinsAgain => continue,
                Entered::Neglected => Ended::Neglected,
            };
            match ended {
                Ended::Rebalance if self.group.settings.is_cooperative() => {}
                Ended::Rebalance => {
                    self.owned.clear();
                    if !self.give_up(GiveUp::All).await {
                        self.rest().await;
                    }
                }
                Ended::Lost { forgotten } => {
                    info!(group = self.group.id, forgotten, "partitions lost to others");
                    self.forget(forgotten);
                    self.lose().await;
                }
                Ended::Neglected => self.rest().await,
                Ended::Failed(error) => return error,
            }
        }
    }

    fn forget(&self, member_id_too: bool) {
        let mut membership = self.common.membership.lock();
        membership.generation = -1;
        if member_id_too {
            membership.member_id.clear();
        }
    }

    async fn lose(&mut self) {
        self.owned.clear();
        let _consumer_is_gone = self.events.send(Event::Lost).await;
    }

    /// Joins and syncs until there is an assignment, and hands it to the consumer.
    async fn enter(&mut self) -> Result<(Entered, Counts), Error> {
        let mut failures = 0;
        loop {
            let error = match self.enter_once().await {
                Ok((join, counts, partitions)) => {
                    *self.common.membership.lock() = join.membership.clone();
                    let (group, generation) = (&self.group.id, join.membership.generation);
                    info!(group, generation, partitions = partitions.len(), "joined");
                    return Ok((self.take_over(join, partitions).await, counts));
                }
                Err(error) => error,
            };
            match Meaning::of(&error) {
                Meaning::Rejoin => failures = 0,
                Meaning::Lost => self.fall_out(false).await,
                Meaning::Forgotten => self.fall_out(true).await,
                Meaning::Later => {}
                Meaning::Never => return Err(error),
            }
            debug!(group = self.group.id, %error, "not joined yet");
            failures += 1;
            // One turn without a wait: a rebalance that goes on wants its members back at once.
            if 1 < failures || Meaning::of(&error) == Meaning::Later {
                self.group.client.try_another();
                tokio::time::sleep(self.group.client.backoff(failures)).await;
            }
        }
    }

    /// The group has gone on without the member while it was joining: what it kept is others' now.
    async fn fall_out(&mut self, forgotten: bool) {
        self.forget(forgotten);
        if !self.owned.is_empty() {
            self.lose().await;
        }
    }

    /// Hands an assignment to the consumer: all of it, or what is new once what moves is given up.
    async fn take_over(&mut self, join: Join, partitions: Vec<TopicPartition>) -> Entered {
        let assigned: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        let before = std::mem::replace(&mut self.owned, assigned);
        if !self.group.settings.is_cooperative() {
            let event = Event::Assigned(partitions, join.membership.clone());
            let _consumer_is_gone = self.events.send(event).await;
            return Entered::Stays(join);
        }
        let moving: Vec<_> = before.difference(&self.owned).cloned().collect();
        let moves = !moving.is_empty();
        if moves && !self.give_up(GiveUp::These(moving)).await {
            return Entered::Neglected;
        }
        let added = self.owned.difference(&before).cloned().collect();
        let event = Event::Added(added, join.membership.clone());
        let _consumer_is_gone = self.events.send(event).await;
        if moves { Entered::JoinsAgain } else { Entered::Stays(join) }
    }

    fn subscription(&self, generation: i32) -> Subscription {
        let topics = self.topics.iter().map(TopicName::to_string).collect();
        let owned = assign::owned(&self.owned);
        let generation = if owned.is_empty() { -1 } else { generation };
        Subscription { owned, generation, ..Subscription::new(topics) }
    }

    async fn enter_once(&self) -> Result<(Join, Counts, Vec<TopicPartition>), Error> {
        let Membership { member_id, generation } = self.common.membership();
        let subscription = self.subscription(generation);
        let join = match self.group.join(&member_id, &subscription).await {
            Ok(join) => join,
            Err(NotJoined { error, member_id }) => {
                if let Some(member_id) = member_id {
                    self.common.membership.lock().member_id = member_id;
                }
                return Err(error);
            }
        };
        // Kept at once: should syncing fail, the next attempt is that of the same member.
        self.common.membership.lock().member_id.clone_from(&join.membership.member_id);
        let malformed = |cause: rafka_core::consumer_protocol::Error| Error::Malformed {
            operation: "assign partitions",
            what: cause.to_string(),
        };
        let mut counts = Counts::new();
        let mut assignments = Vec::new();
        if let Some(joined) = &join.to_assign {
            let members = assign::members(joined);
            counts = self.count(assign::topics_of(&members)).await?;
            let known =
                |(topic, count): (&TopicName, &Option<u32>)| Some((topic.clone(), (*count)?));
            let known = counts.iter().filter_map(known).collect();
            let assignor = Assignor::from_name(&join.protocol).ok_or_else(|| Error::Malformed {
                operation: "assign partitions",
                what: format!("the group chose assignor {:?}", join.protocol),
            })?;
            assignments = assign::assign(assignor, &known, &members).map_err(malformed)?;
        } else if join.leads {
            counts = self.count(self.topics.iter().cloned()).await?;
        }
        let share = self.group.sync(&join, assignments).await?;
        let partitions = assign::read(&share).map_err(malformed)?;
        Ok((join, counts, partitions))
    }

    /// How many partitions topics have; none for those that do not exist.
    async fn count(&self, topics: impl IntoIterator<Item = TopicName>) -> Result<Counts, Error> {
        let mut counts = Counts::new();
        for name in topics {
            let count = match self.group.client.topic(&name, Missing::Refuse).await {
                Ok(topic) => Some(topic.partition_count()),
                Err(error) if error.is_unreachable() => return Err(error),
                Err(_does_not_exist) => None,
            };
            counts.insert(name, count);
        }
        Ok(counts)
    }

    /// Gives signs of life as long as the generation lasts.
    async fn stay(&mut self, join: &Join, counts: Counts) -> Ended {
        let settings = self.group.settings.clone();
        let clock = Arc::clone(self.group.client.clock());
        let complete = counts.values().all(Option::is_some);
        let age_max = self.group.client.settings().metadata_age_max;
        let recount_every = if complete { age_max } else { MISSING_TOPICS_EVERY.min(age_max) };
        let mut recount_at = clock.now() + recount_every;
        loop {
            tokio::time::sleep(settings.heartbeat_interval).await;
            if self.common.is_neglected(clock.now(), settings.poll_interval_max) {
                return Ended::Neglected;
            }
            if let Err(error) = self.group.heartbeat(&join.membership).await {
                match Meaning::of(&error) {
                    Meaning::Rejoin => return Ended::Rebalance,
                    Meaning::Lost => return Ended::Lost { forgotten: false },
                    Meaning::Forgotten => return Ended::Lost { forgotten: true },
                    // A node that was restarted knows the member still, if it is back in time.
                    Meaning::Later => self.group.client.try_another(),
                    Meaning::Never => return Ended::Failed(error),
                }
            }
            if join.leads && recount_at <= clock.now() {
                recount_at = clock.now() + recount_every;
                match self.count(counts.keys().cloned()).await {
                    Ok(now) if now != counts => return Ended::Rebalance,
                    _ => {}
                }
            }
        }
    }

    /// Lets the consumer commit and let go of partitions. False if it does not in time.
    async fn give_up(&mut self, what: GiveUp) -> bool {
        let (done, is_done) = oneshot::channel();
        if self.events.send(Event::Revoke(what, done)).await.is_err() {
            return true;
        }
        let limit = self.group.settings.poll_interval_max;
        let every = self.group.settings.heartbeat_interval;
        let membership = self.common.membership();
        let signs_of_life = async {
            loop {
                tokio::time::sleep(every).await;
                let _rebalancing = self.group.heartbeat(&membership).await;
                let now = self.group.client.clock().now();
                if self.common.is_neglected(now, limit) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            // An error means that the consumer has dropped the question: it has nothing to give up.
            _given_up = is_done => true,
            () = signs_of_life => false,
        }
    }

    /// Leaves the group, and waits until the user polls again.
    async fn rest(&mut self) {
        let limit = self.group.settings.poll_interval_max;
        warn!(group = self.group.id, ?limit, "no poll for too long: leaving the group");
        self.leave().await;
        self.lose().await;
        let clock = Arc::clone(self.group.client.clock());
        while self.common.is_neglected(clock.now(), limit) {
            tokio::time::sleep(self.group.settings.heartbeat_interval).await;
        }
    }

    /// Leaves, unless the member is static: its partitions wait for it then.
    async fn leave(&self) {
        let membership = std::mem::replace(&mut *self.common.membership.lock(), Membership::none());
        if membership.member_id.is_empty() || self.group.settings.instance_id.is_some() {
            return;
        }
        let left = tokio::time::timeout(LEAVE_WITHIN, self.group.leave(&membership)).await;
        match left {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(group = self.group.id, %error, "could not leave"),
            Err(_elapsed) => debug!(group = self.group.id, "could not leave in time"),
        }
    }
}
