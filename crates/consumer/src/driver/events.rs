//! Following the group: what the member's task says, and how it is started and ended.

use std::sync::Arc;

use rafka_client::TopicPartition;
use rafka_core::TopicName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Driver, Learnt};
use crate::error::Error;
use crate::member::{EVENTS_MAX, Event, GiveUp, Group, Member, Membership};
use crate::metrics::Counters;
use crate::partitions::{Need, Partitions};
use crate::rebalance::Rebalance;

/// The running member.
#[derive(Debug)]
pub(super) struct MemberTask {
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl MemberTask {
    fn start(shared: &crate::shared::Shared, group: &str, topics: Vec<TopicName>) -> Self {
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let stop = CancellationToken::new();
        let group = Group {
            client: shared.client.clone(),
            id: group.to_owned(),
            settings: shared.settings.clone(),
        };
        let common = Arc::clone(&shared.common);
        let owned = std::collections::BTreeSet::new();
        let member = Member { group, topics, owned, common, events: events_in, stop: stop.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn(member.run());
        Self { events, stop, tasks }
    }

    /// The next event. Waits for ever where there is no member.
    pub(super) async fn next(member: &mut Option<Self>) -> Event {
        let event = match member {
            Some(member) => member.events.recv().await,
            None => None,
        };
        match event {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    pub(super) fn try_next(member: &mut Option<Self>) -> Option<Event> {
        member.as_mut()?.events.try_recv().ok()
    }
}

impl Driver {
    /// Becomes a member that wants `topics`. What it wanted before counts no more.
    pub(crate) async fn subscribe(&mut self, group: &str, topics: Vec<TopicName>) {
        if let Err(error) = self.unsubscribe().await {
            super::not_committed(&error);
        }
        let shared = Arc::clone(&self.shared);
        self.member = Some(MemberTask::start(&shared, group, topics));
    }

    /// Commits what was given, and belongs to the group no longer.
    pub(crate) async fn unsubscribe(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        if self.member.is_some() {
            outcome = self.shared.commit_by_itself().await;
        }
        self.end_membership().await;
        self.let_go(Rebalance::Revoked);
        outcome
    }

    /// Leaves the group, if there is a member.
    pub(super) async fn end_membership(&mut self) {
        let Some(MemberTask { events, stop, mut tasks }) = self.member.take() else { return };
        stop.cancel();
        // Whatever it still wanted to say, nobody waits for it.
        drop(events);
        self.giving_up = None;
        while tasks.join_next().await.is_some() {}
    }

    pub(super) fn follow(&mut self, event: Event) {
        match event {
            Event::Revoke(what, done) => {
                self.giving_up = Some((what, done));
                self.give_up();
            }
            Event::Lost => {
                self.giving_up = None;
                self.let_go(Rebalance::Lost);
            }
            Event::Assigned(partitions, membership) => {
                self.take_over(partitions, membership, Partitions::assign);
            }
            Event::Added(partitions, membership) => {
                self.take_over(partitions, membership, Partitions::add);
            }
            Event::Failed(cause) => {
                self.member = None;
                self.giving_up = None;
                self.let_go(Rebalance::Lost);
                let group = self.shared.settings.group.clone().unwrap_or_default();
                self.fail(Error::Group { group, cause: Box::new(cause) });
            }
        }
    }

    /// Commits what was given, if the consumer does so by itself, before others may read on.
    fn give_up(&mut self) {
        if self.shared.settings.auto_commit_interval.is_none() {
            self.finish_giving_up();
            return;
        }
        let shared = Arc::clone(&self.shared);
        // Nothing is given meanwhile: what it finds uncommitted is all done.
        let commit = async move { Learnt::CommittedLast(shared.commit_by_itself().await) };
        self.committing_last = Some(self.helpers.spawn(commit));
    }

    /// Lets the member join again, if it waits for that.
    pub(super) fn finish_giving_up(&mut self) {
        let Some((what, done)) = self.giving_up.take() else { return };
        match what {
            GiveUp::All => self.let_go(Rebalance::Revoked),
            GiveUp::These(partitions) => self.let_go_of(partitions, Rebalance::Revoked),
        }
        // Without a listener the member has stopped waiting: the user came back too late.
        let _too_late = done.send(());
    }

    fn let_go(&mut self, rebalance: fn(Vec<TopicPartition>) -> Rebalance) {
        *self.shared.owner.lock() = None;
        let all = self.shared.partitions.lock().names();
        self.let_go_of(all, rebalance);
    }

    fn let_go_of(
        &mut self,
        given_up: Vec<TopicPartition>,
        rebalance: fn(Vec<TopicPartition>) -> Rebalance,
    ) {
        self.shared.partitions.lock().remove(&given_up);
        self.forget_search();
        if !given_up.is_empty() {
            self.shared.listener.tell(&rebalance(given_up));
        }
    }

    fn take_over(
        &mut self,
        assigned: Vec<TopicPartition>,
        membership: Membership,
        take: fn(&mut Partitions, &[TopicPartition], Need),
    ) {
        *self.shared.owner.lock() = Some(membership);
        take(&mut self.shared.partitions.lock(), &assigned, Need::Committed);
        self.forget_search();
        Counters::add(&self.shared.counters.rebalances, 1);
        self.shared.listener.tell(&Rebalance::Assigned(assigned));
    }

    /// A search for positions of partitions that are gone must not hold up that for the new ones.
    fn forget_search(&mut self) {
        if let Some(search) = self.locating.take() {
            search.abort();
        }
        self.locate = super::Retry::default();
        self.look_soon();
    }
}
