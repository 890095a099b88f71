//! What moves a consumer: feeds what the streams bring to the partitions, follows the group, finds
//! positions and leaders, and commits. Works only while the user polls; the streams and the member
//! have tasks of their own.

mod events;
mod locate;
mod news;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rafka_client::{Address, Error as ClientError, TopicPartition};
use rafka_core::{Offset, Time, TopicName};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use crate::error::Error;
use crate::fetcher::Fetcher;
use crate::member::GiveUp;
use crate::metrics::Counters;
use crate::partitions::{Partitions, Wanted};
use crate::shared::Shared;
use events::MemberTask;
use locate::Found;

/// Failures that wait for a `poll` to tell of them; more of them say nothing new.
const FAILURES_MAX: usize = 16;
/// Failures in a row after which a person should know.
const FAILURES_WORTH_A_WARNING: u32 = 4;

/// What the helpers bring back.
#[derive(Debug)]
enum Learnt {
    Located(Vec<Found>),
    Leaders(Result<(), ClientError>),
    Committed(Vec<(TopicPartition, Offset)>, Result<(), Error>),
    /// As `Committed`, the last of the partitions that are given up.
    CommittedLast(Result<(), Error>),
}

/// Something that is tried again after failures.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    at: Time,
}

#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    fetcher: Fetcher,
    member: Option<MemberTask>,
    helpers: JoinSet<Learnt>,
    /// The helper that looks for positions, if one does.
    locating: Option<AbortHandle>,
    locate: Retry,
    /// The helper that asks for leaders, if one does.
    learning: Option<AbortHandle>,
    learn: Retry,
    /// Topics whose leaders should be asked for.
    wanted: BTreeSet<TopicName>,
    /// The helper that commits now and then, if one does.
    committing: Option<AbortHandle>,
    commit_at: Time,
    /// What is being given up, and who waits for it.
    giving_up: Option<(GiveUp, oneshot::Sender<()>)>,
    /// The helper that commits before that, if one does.
    committing_last: Option<AbortHandle>,
    failures: VecDeque<Error>,
    /// When to look again at what is to be fetched and found.
    look_at: Time,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (client, settings) = (shared.client.clone(), shared.settings.clone());
        Self {
            fetcher: Fetcher::new(client, settings, Arc::clone(&shared.budget)),
            commit_at: shared.client.clock().now(),
            shared,
            member: None,
            helpers: JoinSet::new(),
            locating: None,
            locate: Retry::default(),
            learning: None,
            learn: Retry::default(),
            wanted: BTreeSet::new(),
            committing: None,
            giving_up: None,
            committing_last: None,
            failures: VecDeque::new(),
            look_at: Time::default(),
        }
    }

    fn now(&self) -> Time {
        self.shared.client.clock().now()
    }

    /// Works until `take` finds something, at most for `wait`. Whatever was given before is taken
    /// as done.
    ///
    /// Cancel safe: what `take` takes is returned without another wait.
    pub(crate) async fn poll<T>(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(&mut Partitions) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let shared = Arc::clone(&self.shared);
        let end = self.now() + wait;
        loop {
            shared.check_open()?;
            self.take_in_all();
            let now = self.now();
            // Before the look for records: there may always be some.
            self.work(now);
            if self.giving_up.is_none() {
                if let Some(taken) = take(&mut shared.partitions.lock())? {
                    return Ok(Some(taken));
                }
                self.report()?;
            }
            if end <= now {
                return Ok(None);
            }
            let until = end.min(self.next_deadline());
            tokio::select! {
                biased;
                () = shared.wake.notified() => {}
                (stream, news) = self.fetcher.next() => self.hear(stream, news),
                event = MemberTask::next(&mut self.member) => self.follow(event),
                Some(learnt) = self.helpers.join_next() => self.take_in(learnt.ok()),
                () = tokio::time::sleep(until - now) => {}
            }
        }
    }

    /// Takes in everything that is there already.
    fn take_in_all(&mut self) {
        while let Some(event) = MemberTask::try_next(&mut self.member) {
            self.follow(event);
        }
        while let Some(learnt) = self.helpers.try_join_next() {
            self.take_in(learnt.ok());
        }
        while let Some((stream, news)) = self.fetcher.try_next() {
            self.hear(stream, news);
        }
    }

    /// The failure that the user should know of, if there is one.
    fn report(&mut self) -> Result<(), Error> {
        if let Some(error) = self.failures.pop_front() {
            return Err(error);
        }
        self.shared.partitions.lock().nowhere().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: Error) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push_back(error);
        }
    }

    fn work(&mut self, now: Time) {
        self.commit_by_itself(now);
        if self.shared.take_changed() || self.look_at <= now {
            self.look(now);
        }
    }

    fn next_deadline(&self) -> Time {
        match self.shared.settings.auto_commit_interval {
            Some(_) if self.committing.is_none() => self.look_at.min(self.commit_at),
            _ => self.look_at,
        }
    }

    /// Makes streams and helpers fit what is to be read.
    fn look(&mut self, now: Time) {
        self.start_locating(now);
        let wanted = self.shared.partitions.lock().wanted(now);
        let mut by_leader: BTreeMap<Address, Vec<Wanted>> = BTreeMap::new();
        for partition in wanted {
            let topic = &partition.partition.topic;
            if self.shared.client.is_stale(topic.as_str()) {
                self.wanted.insert(topic.clone());
            }
            match self.shared.client.leader(topic, partition.partition.partition) {
                Some(address) => by_leader.entry(address).or_default().push(partition),
                None => {
                    self.wanted.insert(topic.clone());
                }
            }
        }
        let opened = self.fetcher.reconcile(by_leader, now);
        Counters::add(&self.shared.counters.streams_opened, opened);
        self.start_learning(now);
        self.look_at = self.next_look(now);
    }

    fn next_look(&self, now: Time) -> Time {
        let later = |time: Time| (now < time).then_some(time);
        let learn = (!self.wanted.is_empty() && self.learning.is_none()).then_some(self.learn.at);
        let locate = self.locating.is_none().then_some(self.locate.at);
        let deadlines = [
            self.shared.partitions.lock().retry_deadline(now),
            self.fetcher.reopen_deadline(now),
            learn.and_then(later),
            locate.and_then(later),
        ];
        let idle = now + self.shared.client.settings().metadata_age_max;
        deadlines.into_iter().flatten().fold(idle, Time::min)
    }

    fn look_soon(&mut self) {
        self.look_at = Time::default();
    }

    /// Asks who leads the partitions of the wanted topics.
    fn start_learning(&mut self, now: Time) {
        if self.learning.is_some() || now < self.learn.at || self.wanted.is_empty() {
            return;
        }
        let client = self.shared.client.clone();
        let topics: Vec<TopicName> = std::mem::take(&mut self.wanted).into_iter().collect();
        let learning = async move { Learnt::Leaders(client.refresh(&topics).await) };
        self.learning = Some(self.helpers.spawn(learning));
    }

    fn start_locating(&mut self, now: Time) {
        if self.locating.is_some() || now < self.locate.at {
            return;
        }
        let sought = self.shared.partitions.lock().needs();
        if sought.is_empty() {
            return;
        }
        let (client, settings) = (self.shared.client.clone(), self.shared.settings.clone());
        let locating =
            async move { Learnt::Located(locate::find(&client, &settings, sought).await) };
        self.locating = Some(self.helpers.spawn(locating));
    }

    /// Commits what was given, if the consumer does so by itself and it is time.
    fn commit_by_itself(&mut self, now: Time) {
        let Some(interval) = self.shared.settings.auto_commit_interval else { return };
        let pausing = self.committing.is_some() || self.giving_up.is_some();
        if pausing || now < self.commit_at || self.shared.settings.group.is_none() {
            return;
        }
        self.commit_at = now + interval;
        // If somebody commits right now, this can wait for the next time.
        let Some(turn) = self.shared.committer.try_turn() else { return };
        let offsets = self.shared.partitions.lock().uncommitted();
        if offsets.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.committing = Some(self.helpers.spawn(async move {
            let outcome = shared.committer.commit(turn, &offsets).await;
            Learnt::Committed(offsets, outcome)
        }));
    }

    fn take_in(&mut self, learnt: Option<Learnt>) {
        let now = self.now();
        self.look_soon();
        match learnt {
            Some(Learnt::Located(found)) => self.take_located(found, now),
            Some(Learnt::Leaders(outcome)) => {
                self.learning = None;
                let error = outcome.err();
                self.learn.note(error.as_ref(), now, &self.shared);
                // Leaders change seldom: a node that says otherwise is asked again in a moment.
                self.learn.at = self.learn.at.max(now + self.shared.client.backoff(1));
            }
            Some(Learnt::Committed(offsets, outcome)) => {
                self.committing = None;
                match outcome {
                    Ok(()) => self.shared.partitions.lock().note_committed(&offsets),
                    Err(error) => not_committed(&error),
                }
            }
            Some(Learnt::CommittedLast(outcome)) => {
                self.committing_last = None;
                if let Err(error) = outcome {
                    not_committed(&error);
                }
                self.finish_giving_up();
            }
            None => self.clear_lost_helpers(),
        }
    }

    /// A helper was aborted or has panicked: whatever it was for is started again.
    fn clear_lost_helpers(&mut self) {
        for helper in [&mut self.locating, &mut self.learning, &mut self.committing] {
            helper.take_if(|helper| helper.is_finished());
        }
        if self.committing_last.take_if(|helper| helper.is_finished()).is_some() {
            self.finish_giving_up();
        }
    }

    /// Commits what was given, leaves the group, and ends all tasks.
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        let outcome = self.shared.commit_by_itself().await;
        self.end_membership().await;
        self.shared.partitions.lock().assign_none();
        self.fetcher.stop().await;
        self.helpers.shutdown().await;
        outcome
    }
}

/// What is not committed is read again by whoever reads it next.
fn not_committed(error: &Error) {
    warn!(%error, "cannot commit");
}

impl Retry {
    fn note(&mut self, error: Option<&ClientError>, now: Time, shared: &Shared) {
        let Some(error) = error else {
            *self = Self::default();
            return;
        };
        self.failures = self.failures.saturating_add(1);
        self.at = now + shared.client.backoff(self.failures);
        if self.failures == FAILURES_WORTH_A_WARNING || !error.is_retriable() {
            warn!(%error, failures = self.failures, "cannot learn what to read");
        } else {
            debug!(%error, failures = self.failures, "cannot learn what to read");
        }
    }
}

#[cfg(test)]
mod tests;
