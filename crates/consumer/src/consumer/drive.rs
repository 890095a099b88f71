//! What goes on inside of `poll`: events of the group, finding positions, keeping the streams open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rafka_client::admin::{Isolation, OffsetSpec};
use rafka_client::convert::{check, code_of};
use rafka_client::{Address, Error as ClientError, TopicPartition, v1};
use rafka_core::{Clock, ErrorCode, Offset, PartitionIndex, Time, TopicName};
use tracing::{debug, warn};

use super::Consumer;
use crate::budget::Share;
use crate::error::Error;
use crate::fetcher::{News, StreamId};
use crate::member::{Common, Event};
use crate::partitions::{Need, Wanted};
use crate::rebalance::Rebalance;
use crate::record::ConsumerRecord;
use crate::settings::OffsetReset;

/// The user is inside of `poll`, as long as this lives.
struct Polling {
    common: Option<Arc<Common>>,
    clock: Arc<dyn Clock>,
}

impl Drop for Polling {
    fn drop(&mut self) {
        if let Some(common) = &self.common {
            common.polling(false, self.clock.now());
        }
    }
}

impl Consumer {
    pub(super) async fn poll_up_to(
        &mut self,
        max: usize,
        limit: Option<Duration>,
    ) -> Result<Vec<ConsumerRecord>, Error> {
        let common = self.subscription.as_ref().map(|subscribed| Arc::clone(&subscribed.common));
        let polling = Polling { common, clock: Arc::clone(self.client.clock()) };
        if let Some(common) = &polling.common {
            common.polling(true, self.now());
        }
        let Some(limit) = limit else { return self.advance(max).await };
        match tokio::time::timeout(limit, self.advance(max)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Ok(Vec::new()),
        }
    }

    /// Works until there are records to give. Dropped at any await, it goes on with the next call.
    async fn advance(&mut self, max: usize) -> Result<Vec<ConsumerRecord>, Error> {
        loop {
            // All that was given before this call counts as processed, and nothing was given since.
            self.auto_commit();
            self.take_events().await;
            while let Some((stream, news)) = self.fetcher.try_next() {
                self.hear(stream, news);
            }
            let records = self.partitions.take(max)?;
            if !records.is_empty() {
                self.count(&records);
                self.reconcile();
                return Ok(records);
            }
            if let Some(error) = self.refused.clone().or_else(|| self.trouble.take()) {
                return Err(error);
            }
            self.locate().await?;
            self.reconcile();
            self.wait().await;
        }
    }

    /// Waits until something happens.
    async fn wait(&mut self) {
        let now = self.now();
        let deadlines = [
            self.partitions.retry_deadline(now),
            self.fetcher.reopen_deadline(now),
            Some(self.refresh_at).filter(|at| now < *at),
            Some(self.locate_at).filter(|at| now < *at),
            Some(self.commit_at).filter(|at| now < *at),
        ];
        let wake = deadlines.into_iter().flatten().min();
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep(wake - now).await,
                None => std::future::pending().await,
            }
        };
        let event = async {
            match &mut self.subscription {
                Some(subscription) => match subscription.events.recv().await {
                    Some(event) => event,
                    // The member has ended, and has said why before.
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = event => self.event = Some(event),
            (stream, news) = self.fetcher.next() => self.hear(stream, news),
            Some(done) = self.refreshes.join_next() => self.refreshed(done.unwrap_or(Ok(()))),
            Some(done) = self.commits.join_next() => self.commit_ended(done.ok()),
            () = sleep => {}
        }
    }

    /// Handles what the member has to say. An event stays until it is handled to its end.
    async fn take_events(&mut self) {
        loop {
            if self.event.is_none()
                && let Some(subscription) = &mut self.subscription
            {
                self.event = subscription.events.try_recv().ok();
            }
            match &self.event {
                None => return,
                Some(Event::Revoke(_)) if self.settings.auto_commit_interval.is_some() => {
                    if let Err(error) = self.commit().await {
                        warn!(%error, "cannot commit before partitions go to others");
                    }
                }
                Some(_) => {}
            }
            let Some(event) = self.event.take() else { return };
            let names = self.partitions.names();
            match event {
                Event::Assigned(partitions) => {
                    self.metrics.rebalances += 1;
                    self.partitions.assign(&partitions, Need::Committed);
                    (self.locate_at, self.locate_failures) = (Time::default(), 0);
                    self.tell(&Rebalance::Assigned(partitions));
                }
                Event::Revoke(done) => {
                    self.partitions.assign(&[], Need::Reset);
                    self.tell(&Rebalance::Revoked(names));
                    // The member does not wait any more if it was neglected for too long.
                    let _member_has_left = done.send(());
                }
                Event::Lost => {
                    self.partitions.assign(&[], Need::Reset);
                    if !names.is_empty() {
                        self.tell(&Rebalance::Lost(names));
                    }
                }
                Event::Failed(cause) => {
                    self.partitions.assign(&[], Need::Reset);
                    let group = self.settings.group.clone().unwrap_or_default();
                    self.refused = Some(Error::Group { group, cause: Box::new(cause) });
                }
            }
            self.reconcile();
        }
    }

    /// Finds the positions that are missing.
    async fn locate(&mut self) -> Result<(), Error> {
        let needs = self.partitions.needs();
        if needs.is_empty() || self.now() < self.locate_at {
            return Ok(());
        }
        match self.find_all(needs).await {
            Ok(()) => self.locate_failures = 0,
            Err(Error::Client(error)) if may_pass(&error) => {
                debug!(%error, "positions not found yet");
                self.locate_failures = self.locate_failures.saturating_add(1);
                self.locate_at = self.now() + self.client.backoff(self.locate_failures);
            }
            Err(error) => {
                self.locate_at = self.now() + self.client.backoff(1);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn find_all(&mut self, needs: Vec<(TopicPartition, Need)>) -> Result<(), Error> {
        let by_commit = |(name, need): &(TopicPartition, Need)| {
            (*need == Need::Committed).then(|| name.clone())
        };
        let committed: Vec<TopicPartition> = needs.iter().filter_map(by_commit).collect();
        let mut known = BTreeMap::new();
        if self.settings.group.is_some() {
            let offsets = self.committed(&committed).await?;
            for (name, offset) in committed.into_iter().zip(offsets) {
                known.extend(offset.map(|offset| (name, offset)));
            }
        }
        let mut questions = Vec::new();
        let mut refused = None;
        for (name, need) in needs {
            if let Some(offset) = known.get(&name) {
                self.partitions.locate(&name, *offset);
                self.partitions.note_committed(&[(name, *offset)]);
                continue;
            }
            let why = if need == Need::Committed {
                "the group has committed none"
            } else {
                "the offset is not in the log"
            };
            let spec = match (need, self.settings.offset_reset) {
                (Need::Find(spec), _) => spec,
                (_, OffsetReset::Earliest) => OffsetSpec::Earliest,
                (_, OffsetReset::Latest) => OffsetSpec::Latest,
                (_, OffsetReset::None) => {
                    refused = Some(Error::NoOffset { partition: name, why: why.to_owned() });
                    continue;
                }
            };
            questions.push((name, spec));
        }
        self.ask_offsets(questions).await?;
        refused.map_or(Ok(()), Err)
    }

    async fn ask_offsets(
        &mut self,
        questions: Vec<(TopicPartition, OffsetSpec)>,
    ) -> Result<(), Error> {
        if questions.is_empty() {
            return Ok(());
        }
        let isolation = self.settings.isolation;
        let found = self.client.admin().list_offsets(&questions, isolation).await;
        let mut failure = None;
        let mut beyond = Vec::new();
        for ((name, _), found) in questions.into_iter().zip(found) {
            match found.map(|found| found.offset) {
                Ok(Some(offset)) => self.partitions.locate(&name, offset),
                Ok(None) => beyond.push((name, OffsetSpec::Latest)),
                Err(error) => failure = Some(error),
            }
        }
        if !beyond.is_empty() {
            // No record is as late as the time asked for: the end, then.
            let found = self.client.admin().list_offsets(&beyond, isolation).await;
            for ((name, _), found) in beyond.into_iter().zip(found) {
                match found.map(|found| found.offset) {
                    Ok(offset) => self.partitions.locate(&name, offset.unwrap_or(Offset::ZERO)),
                    Err(error) => failure = Some(error),
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(Error::Client(error)))
    }

    /// Makes the streams bring what is wanted now.
    pub(super) fn reconcile(&mut self) {
        let now = self.now();
        let mut by_leader: BTreeMap<Address, Vec<Wanted>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for wanted in self.partitions.wanted(now) {
            let name = &wanted.partition;
            match self.client.leader(&name.topic, name.partition) {
                Some(address) => by_leader.entry(address).or_default().push(wanted),
                None => {
                    unknown.insert(name.topic.clone());
                }
            }
        }
        self.fetcher.reconcile(by_leader, now);
        self.refresh(unknown);
    }

    /// Asks who leads the partitions of topics, in the background.
    fn refresh(&mut self, topics: BTreeSet<TopicName>) {
        if topics.is_empty() || !self.refreshes.is_empty() || self.now() < self.refresh_at {
            return;
        }
        let client = self.client.clone();
        let topics: Vec<TopicName> = topics.into_iter().collect();
        self.refreshes.spawn(async move { client.refresh(&topics).await });
    }

    fn refreshed(&mut self, outcome: Result<(), ClientError>) {
        match outcome {
            Ok(()) => self.refresh_failures = 0,
            Err(error) => {
                self.refresh_failures = self.refresh_failures.saturating_add(1);
                debug!(%error, "leaders not known yet");
                if !may_pass(&error) {
                    self.trouble = Some(Error::Client(error));
                }
            }
        }
        self.refresh_at = self.now() + self.client.backoff(self.refresh_failures.max(1));
    }

    fn hear(&mut self, stream: StreamId, news: News) {
        match news {
            News::Partition(fetched, share) => self.hear_partition(stream, fetched, share),
            News::Ended(error) => {
                let now = self.now();
                let topics = self.fetcher.partitions_of(stream);
                if topics.is_empty() && error.is_none() {
                    self.fetcher.ended(stream, now, false);
                    return;
                }
                self.fetcher.ended(stream, now, error.is_some());
                if let Some(error) = error {
                    debug!(%error, "fetch stream lost");
                    if !may_pass(&error) {
                        self.trouble = Some(Error::Client(error));
                    }
                    self.refresh(topics.into_iter().map(|name| name.topic).collect());
                }
            }
        }
    }

    fn hear_partition(&mut self, stream: StreamId, fetched: v1::FetchedPartition, share: Share) {
        let Ok(topic) = TopicName::new(&fetched.topic) else { return };
        let name = TopicPartition::new(topic, PartitionIndex(fetched.partition));
        // A stream that was replaced may still have had something on the way.
        let Some(version) = self.fetcher.version(stream, &name) else { return };
        if let Some(code) = code_of(fetched.error.as_ref()) {
            self.fetcher.dropped(stream, &name);
            let error = check(&name, fetched.error.as_ref());
            self.fetch_failed(&name, code, error.err());
            return;
        }
        self.fetcher.works(stream);
        let end = match self.settings.isolation {
            Isolation::ReadUncommitted => fetched.high_watermark,
            Isolation::ReadCommitted => fetched.last_stable_offset,
        };
        if 0 <= end {
            self.partitions.note_end(&name, Offset(end));
        }
        let next = Offset(fetched.next_offset);
        self.partitions.offer(&name, version, fetched.batches, next, share);
    }

    fn fetch_failed(&mut self, name: &TopicPartition, code: ErrorCode, error: Option<ClientError>) {
        debug!(partition = %name, %code, "partition left the stream");
        if code == ErrorCode::OffsetOutOfRange {
            let position = self.partitions.position(name).unwrap_or(Offset::ZERO);
            warn!(partition = %name, %position, "the offset is not in the log");
            // It is assigned: it was on a stream just now. If it is not any more, nothing is lost.
            let _not_assigned = self.partitions.relocate(name, Need::Reset);
            return;
        }
        let (now, client) = (self.now(), self.client.clone());
        self.partitions.fail(name, |failures| now + client.backoff(failures));
        let stale_leader = matches!(
            code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
        );
        if stale_leader {
            self.refresh([name.topic.clone()].into());
        } else if !code.is_retriable() || code == ErrorCode::CorruptMessage {
            self.trouble = error.map(Error::Client);
        }
    }
}

/// Whether waiting may help. That a topic does not exist is for the user to know.
fn may_pass(error: &ClientError) -> bool {
    error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicOrPartition)
}
