//! The handle of a consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::Stream;
use rafka_client::admin::OffsetSpec;
use rafka_client::{Client, Error as ClientError, GroupMetadata, TopicPartition};
use rafka_core::{ErrorCode, Offset, TopicName};

use crate::builder::Builder;
use crate::driver::Driver;
use crate::error::Error;
use crate::member::{Membership, Polling};
use crate::metrics::{Counters, Metrics};
use crate::partitions::Need;
use crate::rebalance::Listener;
use crate::record::ConsumerRecord;
use crate::settings::Settings;
use crate::shared::Shared;

/// How long a stream waits at once; then it waits again.
const STREAM_WAIT: Duration = Duration::from_secs(60);

/// Reads records, alone or as a member of a group.
///
/// `poll` is what moves a consumer: it takes over partitions, gives records, commits. What it has
/// given counts as done when it is called again, so a record is processed before the next `poll`.
/// Several tasks that poll one consumer take turns.
///
/// Call [`Consumer::close`] at the end: a group waits `session_timeout` for a member that was
/// dropped.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    driver: tokio::sync::Mutex<Driver>,
}

impl Consumer {
    /// A consumer to be configured, for a cluster at `bootstrap` (`host:port`, commas between).
    pub fn builder(bootstrap: &str) -> Builder {
        Builder::new(bootstrap)
    }

    /// A consumer on a client that others may use too.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn with_client(client: Client, settings: Settings) -> Result<Self, Error> {
        Self::start(client, settings, Listener::default())
    }

    pub(crate) fn start(
        client: Client,
        settings: Settings,
        listener: Listener,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let shared = Arc::new(Shared::new(client, settings, listener));
        let driver = tokio::sync::Mutex::new(Driver::new(Arc::clone(&shared)));
        Ok(Self { shared, driver })
    }

    /// Reads these topics as a member of the group, instead of those that it read before. The group
    /// gives it partitions during the next `poll`s. Waits for a `poll` that is under way.
    ///
    /// A topic that does not exist yet is read once it does.
    ///
    /// # Errors
    /// Without a group, or if a name is invalid. Nothing has changed then.
    ///
    /// # Cancel safety
    /// Dropped, the consumer may be subscribed to nothing.
    pub async fn subscribe(&self, topics: &[impl AsRef<str>]) -> Result<(), Error> {
        let group = self.shared.committer.group("subscribe")?;
        let names = topics.iter().map(|name| TopicName::new(name.as_ref()));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.sort();
        names.dedup();
        let mut driver = self.driver.lock().await;
        self.shared.check_open()?;
        self.shared.subscribed.store(true, Ordering::Release);
        driver.subscribe(group, names).await;
        self.shared.changed();
        Ok(())
    }

    /// Leaves the group and reads nothing. What was given is committed before, if the consumer
    /// commits by itself. Waits for a `poll` that is under way.
    ///
    /// # Errors
    /// If that commit failed. The group was left nevertheless.
    ///
    /// # Cancel safety
    /// Dropped, it may still be subscribed, or have left without a commit.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        let mut driver = self.driver.lock().await;
        let left = driver.unsubscribe().await;
        self.shared.subscribed.store(false, Ordering::Release);
        self.shared.changed();
        left
    }

    /// Reads these partitions and no others, without sharing them with anybody. Each begins where
    /// the group has committed, if there is a group, and else where the settings say; `seek` changes
    /// that.
    ///
    /// # Errors
    /// [`Error::Subscribed`] while the group assigns the partitions.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.shared.check_open()?;
        if self.shared.subscribed.load(Ordering::Acquire) {
            return Err(Error::Subscribed);
        }
        self.shared.partitions.lock().assign(partitions, Need::Committed);
        self.shared.changed();
        Ok(())
    }

    /// The partitions that are read, by topic and number.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.partitions.lock().names()
    }

    /// Waits for records, at most `wait`, and gives up to `poll_records_max` of them; none when the
    /// time is over. The records of a partition are in order; keys and values share the memory in
    /// which they came, which is freed when all of them are dropped.
    ///
    /// # Errors
    /// What stands in the way of reading, once for each time that it happens; most ways go on
    /// afterwards. Lost connections are no errors: they are made anew.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was given.
    pub async fn poll(&self, wait: Duration) -> Result<Vec<ConsumerRecord>, Error> {
        let max = self.shared.settings.poll_records_max;
        let given = self
            .drive(wait, |partitions| {
                let taken = partitions.take(max)?;
                Ok((!taken.is_empty()).then_some(taken))
            })
            .await?;
        let records = given.unwrap_or_default();
        self.count(&records);
        Ok(records)
    }

    /// Waits for one record, at most `wait`. As [`Consumer::poll`] in everything else.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was given.
    pub async fn next(&self, wait: Duration) -> Result<Option<ConsumerRecord>, Error> {
        let record = self.drive(wait, |partitions| partitions.take_one()).await?;
        self.count(record.as_slice());
        Ok(record)
    }

    /// The records one by one, until the consumer is closed. A record counts as done when the next
    /// one is asked for, so [`Consumer::commit`] after each of them is exact.
    pub fn stream(&self) -> impl Stream<Item = Result<ConsumerRecord, Error>> + '_ {
        futures_util::stream::unfold(self, |consumer| async move {
            loop {
                match consumer.next(STREAM_WAIT).await {
                    Ok(Some(record)) => return Some((Ok(record), consumer)),
                    Ok(None) => {}
                    Err(Error::Closed) => return None,
                    Err(error) => return Some((Err(error), consumer)),
                }
            }
        })
    }

    async fn drive<T>(
        &self,
        wait: Duration,
        take: impl FnMut(&mut crate::partitions::Partitions) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let clock = self.shared.client.clock();
        let _polling = Polling::begin(&self.shared.common, clock);
        let begun = clock.now();
        let Ok(mut driver) = tokio::time::timeout(wait, self.driver.lock()).await else {
            return Ok(None);
        };
        let waited = clock.now() - begun;
        driver.poll(wait.saturating_sub(waited), take).await
    }

    fn count(&self, records: &[ConsumerRecord]) {
        let counters = &self.shared.counters;
        Counters::add(&counters.polls, 1);
        Counters::add(&counters.records, records.len() as u64);
        let bytes: usize = records.iter().map(ConsumerRecord::payload_len).sum();
        Counters::add(&counters.bytes, bytes as u64);
    }

    /// Commits, for the group, everything that was given and is not committed yet. Waits until that
    /// is durable.
    ///
    /// # Errors
    /// Without a group; [`Error::NotMember`] if the partitions belong to others by now; or if no
    /// node answers in time.
    ///
    /// # Cancel safety
    /// Dropped, it may have been committed.
    pub async fn commit(&self) -> Result<(), Error> {
        self.shared.committer.group("commit")?;
        self.shared.commit_given().await
    }

    /// Commits these offsets for the group: of each partition the next one to be read.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    ///
    /// # Cancel safety
    /// Dropped, they may have been committed.
    pub async fn commit_offsets(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        let turn = self.shared.committer.turn().await;
        self.shared.committer.commit(turn, offsets).await?;
        self.shared.partitions.lock().note_committed(offsets);
        Ok(())
    }

    /// Who this consumer is in its group, as far as what it was given goes: for a producer that commits
    /// the offsets in a transaction, together with what it made of the records.
    ///
    /// # Errors
    /// Without a group; [`Error::NotMember`] if the consumer is subscribed and the group has given it
    /// nothing, or has taken it away.
    pub fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        let group = self.shared.committer.group("say who it is")?.to_owned();
        if !self.shared.subscribed.load(Ordering::Acquire) {
            return Ok(GroupMetadata::outside(group));
        }
        let owner = self.shared.owner.lock().clone();
        let Some(Membership { member_id, generation }) = owner else {
            let (subject, code) = (format!("group {group}"), ErrorCode::UnknownMemberId);
            let cause = Box::new(ClientError::refused(subject, i32::from(code.code()), ""));
            return Err(Error::NotMember { group, cause });
        };
        let instance_id = self.shared.settings.instance_id.clone();
        Ok(GroupMetadata { group, member_id, generation, instance_id })
    }

    /// Of each partition of which something was given that is not committed by this consumer: the next
    /// offset to be given. What [`Consumer::commit`] would commit, for a producer that commits it in a
    /// transaction; without a commit of the consumer's own it stays in this list.
    #[must_use]
    pub fn uncommitted(&self) -> Vec<(TopicPartition, Offset)> {
        self.shared.partitions.lock().uncommitted()
    }

    /// Goes back, in all assigned partitions, to what the group has committed, or else to where the
    /// settings say: what was given since is given again. For when a transaction was aborted.
    pub fn seek_to_committed(&self) {
        let mut partitions = self.shared.partitions.lock();
        for partition in partitions.names() {
            let found = partitions.relocate(&partition, Need::Committed);
            found.expect("it has just been listed, under the same lock");
        }
        drop(partitions);
        self.shared.changed();
    }

    /// What the group has committed, in the order of the partitions.
    ///
    /// # Errors
    /// Without a group, or if no node answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Offset>>, Error> {
        let group = self.shared.committer.group("ask what is committed")?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.shared.client.admin().committed_offsets(group, partitions).await?;
        let of = |partition: &TopicPartition| {
            found.iter().find(|known| known.partition == *partition)?.offset
        };
        Ok(partitions.iter().map(of).collect())
    }

    /// Goes on at `offset`. What was fetched is dropped.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.shared.partitions.lock().seek(partition, offset)?;
        self.shared.changed();
        Ok(())
    }

    /// Goes on at the start, at the end, or at the first record of a time; at the end if there is
    /// none that late. The next `poll` finds out where that is.
    ///
    /// # Errors
    /// If the partition is not assigned.
    pub fn seek_to(&self, partition: &TopicPartition, place: OffsetSpec) -> Result<(), Error> {
        self.shared.partitions.lock().relocate(partition, Need::Find(place))?;
        self.shared.changed();
        Ok(())
    }

    /// Gives nothing of these partitions until they are resumed, or assigned anew.
    ///
    /// # Errors
    /// If one is not assigned; those before it are paused then.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        partitions.iter().try_for_each(|name| self.shared.partitions.lock().pause(name))?;
        self.shared.changed();
        Ok(())
    }

    /// Goes on giving of these partitions.
    ///
    /// # Errors
    /// If one is not assigned; those before it are resumed then.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        partitions.iter().try_for_each(|name| self.shared.partitions.lock().resume(name))?;
        self.shared.changed();
        Ok(())
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.partitions.lock().paused()
    }

    /// The offset of the next record to be given. `None` if the partition is not assigned, or where
    /// to begin is not known yet.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.shared.partitions.lock().position(partition)
    }

    /// The offset after the last record that can be read, as last heard from the node.
    #[must_use]
    pub fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.shared.partitions.lock().end(partition)
    }

    /// How many offsets lie between position and end, as last heard. `None` if either is unknown.
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        self.shared.partitions.lock().lag(partition)
    }

    /// Whether everything was given that could be read of the assigned partitions when the node was
    /// last heard, which is at most `fetch_wait_max` ago while all is well. Paused ones do not count.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.shared.partitions.lock().is_at_end()
    }

    /// Ends: commits what was given, if the consumer commits by itself, leaves the group (static
    /// members stay), and closes the streams. A `poll` that waits fails with [`Error::Closed`].
    ///
    /// # Errors
    /// If the commit failed, or [`Error::CloseTimedOut`] after `limit`. It is closed all the same.
    ///
    /// # Cancel safety
    /// Dropped, it gives nothing more, but may not have left its group.
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        if self.shared.is_closed() {
            return Ok(());
        }
        self.shared.close();
        let finish = async { self.driver.lock().await.finish().await };
        let finished = tokio::time::timeout(limit, finish).await;
        finished.map_err(|_elapsed| Error::CloseTimedOut { limit })?
    }

    /// What it has done so far, in numbers.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// The client it stands on.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }
}
