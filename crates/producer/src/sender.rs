//! The sending side of a producer: takes due batches, numbers them, sends them to the leaders, and
//! settles them. One task; it alone changes what it owns.

mod answers;
mod routes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rafka_client::{Error as ClientError, v1};
use rafka_core::{Time, TopicName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::accumulator::{Collected, Slot};
use crate::delivery::Receipt;
use crate::error::{Error, Fate};
use crate::flight::{Consequences, Flight, Identity, LinkId, Naming};
use crate::link::{Growing, LinkNews};
use crate::metrics::Counters;
use crate::settings::Acks;
use crate::shared::Shared;
use routes::{Route, Routes};

/// News that the streams may leave before the sending side reads them.
const NEWS_MAX: usize = 256;

/// How long the streams have, at the end, to hand over what needs no answer.
const LINKS_END_WITHIN: Duration = Duration::from_secs(1);

/// What the helpers of the sending side bring back.
#[derive(Debug)]
enum Learnt {
    Identity(Result<Identity, ClientError>),
    Topics(Vec<TopicName>, Result<(), ClientError>),
}

pub(crate) struct Sender {
    shared: Arc<Shared>,
    /// By slot.
    flights: Vec<Flight>,
    routes: Routes,
    identity: Option<Identity>,
    /// Why nothing can be sent at the moment, for the errors of what is late.
    trouble: Option<String>,
    failures_to_learn: u32,
    learn_again_at: Time,
    learning: bool,
    /// Topics whose leaders should be asked for.
    wanted: BTreeSet<TopicName>,
    next_request: u64,
    expire_at: Time,
    news: mpsc::Receiver<(LinkId, LinkNews)>,
    helpers: JoinSet<Learnt>,
}

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        Self {
            routes: Routes::new(&shared, sender),
            identity: shared.transaction.as_ref().map(|transaction| transaction.identity),
            shared,
            flights: Vec::new(),
            trouble: None,
            failures_to_learn: 0,
            learn_again_at: Time::default(),
            learning: false,
            wanted: BTreeSet::new(),
            next_request: 0,
            expire_at: Time::default(),
            news,
            helpers: JoinSet::new(),
        }
    }

    /// Works until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.now();
            self.learn(now);
            self.expire(now);
            self.send_due(now);
            let wait = self.next_deadline(now);
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((link, heard)) = self.news.recv() => {
                    self.hear(link, heard);
                    // What has come in the meantime is cheaper to take along.
                    while let Ok((link, heard)) = self.news.try_recv() {
                        self.hear(link, heard);
                    }
                }
                Some(learnt) = self.helpers.join_next() => self.take_in(learnt.ok()),
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.routes.finish(LINKS_END_WITHIN).await;
    }

    fn now(&self) -> Time {
        self.shared.client.clock().now()
    }

    /// How often the clock is looked at for batches whose time has run out.
    fn expiry_step(&self) -> Duration {
        let step = self.shared.settings.delivery_timeout / 20;
        step.clamp(Duration::from_millis(1), Duration::from_millis(500))
    }

    fn next_deadline(&self, now: Time) -> Duration {
        let (linger, settled) = {
            let accumulator = self.shared.accumulator.lock();
            (accumulator.linger_deadline(), accumulator.is_settled())
        };
        // Idle, only the age of what is known of the topics passes.
        let mut next = now + self.shared.client.settings().metadata_age_max;
        if !settled {
            let later = |time: Time| (now < time).then_some(time);
            let retries = self.flights.iter().filter_map(Flight::retry_at).filter_map(later);
            let rest = [linger, Some(self.expire_at), later(self.learn_again_at)];
            next = retries
                .chain(rest.into_iter().flatten())
                .chain(self.routes.reopen_deadlines().filter_map(later))
                .fold(next, Time::min);
        }
        next - now
    }

    /// Sends all that can be sent now.
    fn send_due(&mut self, now: Time) {
        let shared = Arc::clone(&self.shared);
        let mut slots: BTreeSet<Slot> = {
            let mut accumulator = shared.accumulator.lock();
            if 0 < shared.starved.load(Ordering::Acquire) {
                accumulator.end_all_lingers();
            } else {
                accumulator.end_linger(now);
            }
            self.grow_flights(accumulator.slot_count(), |slot| accumulator.partition(slot).clone());
            accumulator.due().collect()
        };
        let open = |(index, flight): (usize, &Flight)| (!flight.is_empty()).then_some(Slot(index));
        slots.extend(self.flights.iter().enumerate().filter_map(open));
        // Each round sends at most one batch of each partition: an answer names it by its request.
        while !slots.is_empty() {
            slots.retain(|slot| self.send_one(*slot, now));
            self.post_all(now);
        }
    }

    fn grow_flights(
        &mut self,
        count: usize,
        partition: impl Fn(Slot) -> rafka_client::TopicPartition,
    ) {
        let naming = match self.identity {
            _ if !self.shared.settings.idempotence => Naming::Off,
            None => Naming::Awaited,
            Some(identity) if self.shared.transaction.is_some() => Naming::Within(identity),
            Some(identity) => Naming::As(identity),
        };
        let in_flight_max = self.shared.settings.in_flight_max;
        for index in self.flights.len()..count {
            self.flights.push(Flight::new(partition(Slot(index)), naming, in_flight_max));
        }
    }

    /// Puts the next batch of a partition into a request. False if there is none, or not now.
    fn send_one(&mut self, slot: Slot, now: Time) -> bool {
        let partition = self.flights[slot.0].partition().clone();
        let link = match self.routes.link_to(&partition, now) {
            Route::Open(link) => link,
            Route::Closed => return false,
            Route::Unknown => {
                self.wanted.insert(partition.topic);
                self.learn(now);
                return false;
            }
        };
        let full =
            |growing: &Growing| self.shared.settings.request_bytes_max.as_usize() <= growing.bytes;
        if self.routes.growing(link).is_some_and(full) {
            self.post(link, now);
        }
        if !self.routes.has_room(link) {
            return false;
        }
        let request =
            self.routes.growing(link).map_or(self.next_request, |growing| growing.request);
        let Some(bytes) = self.next_batch(slot, now, link, request) else { return false };
        Counters::add(&self.shared.counters.batches_sent, 1);
        Counters::add(&self.shared.counters.bytes_sent, bytes.len() as u64);
        if request == self.next_request {
            self.next_request += 1;
        }
        let data = v1::produce_partition::Data::Batches(bytes.clone());
        let entry = v1::ProducePartition {
            topic: partition.topic.to_string(),
            topic_id: Bytes::new(),
            partition: partition.partition.0,
            data: Some(data),
        };
        self.routes.put(link, request, slot, entry, bytes.len());
        true
    }

    fn next_batch(&mut self, slot: Slot, now: Time, link: LinkId, request: u64) -> Option<Bytes> {
        if let Some(bytes) = self.flights[slot.0].send(now, link, request) {
            return Some(bytes);
        }
        // A batch that cannot be compressed must not stop those behind it.
        while self.flights[slot.0].can_admit(now) {
            let collected = self.shared.accumulator.lock().take(slot)?;
            if self.admit(slot, collected) {
                return self.flights[slot.0].send(now, link, request);
            }
        }
        None
    }

    fn admit(&mut self, slot: Slot, collected: Collected) -> bool {
        let flight = &mut self.flights[slot.0];
        let Collected { mut builder, receipt } = collected;
        if let Some((identity, sequence)) = flight.next_numbers() {
            builder.producer(identity.id, identity.epoch, sequence);
        }
        if self.shared.transaction.is_some() {
            builder.transactional();
        }
        match builder.build() {
            Ok(batch) => {
                flight.admit(batch.to_bytes(), batch.header.record_count, receipt);
                true
            }
            Err(cause) => {
                let partition = receipt.partition.clone();
                let cause = cause.to_string();
                self.shared.settle(receipt, Err(Error::Codec { partition, cause }));
                false
            }
        }
    }

    fn post_all(&mut self, now: Time) {
        for link in self.routes.links_with_growing() {
            self.post(link, now);
        }
    }

    fn post(&mut self, link: LinkId, now: Time) {
        let acks = self.shared.settings.acks;
        let Some((request, slots)) = self.routes.post(link, acks, now) else { return };
        if acks == Acks::None {
            for slot in slots {
                if let Some(settled) = self.flights[slot.0].handed_over(request) {
                    self.shared.settle(settled.receipt, settled.outcome);
                }
            }
        }
    }

    /// Fails what was not delivered in time.
    fn expire(&mut self, now: Time) {
        if now < self.expire_at {
            return;
        }
        self.expire_at = now + self.expiry_step();
        self.want_stale();
        let timeout = self.shared.settings.delivery_timeout;
        let age = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        if let Some(limit) = now.0.checked_sub(age).map(Time) {
            let unsent = self.shared.accumulator.lock().expire(limit);
            for receipt in unsent {
                let error = self.late(&receipt, timeout);
                self.shared.settle(receipt, Err(error));
            }
            for index in 0..self.flights.len() {
                let consequences = self.flights[index].expire(limit, timeout);
                self.apply(consequences);
            }
        }
        for (link, error) in self.routes.late_links(now) {
            self.hear(link, LinkNews::Lost { error, in_doubt: true });
        }
    }

    /// Asks again for topics that were learnt long ago: they may have more partitions by now.
    fn want_stale(&mut self) {
        for flight in &self.flights {
            let topic = &flight.partition().topic;
            if self.shared.client.is_stale(topic.as_str()) {
                self.wanted.insert(topic.clone());
            }
        }
    }

    fn late(&self, receipt: &Receipt, timeout: Duration) -> Error {
        let waiting = || "earlier batches of the partition are still on their way".to_owned();
        Error::TimedOut {
            partition: receipt.partition.clone(),
            limit: timeout,
            last: self.trouble.clone().unwrap_or_else(waiting),
            fate: Fate::NotWritten,
        }
    }

    fn apply(&mut self, consequences: Consequences) {
        Counters::add(&self.shared.counters.retries, consequences.retries);
        for settled in consequences.settled {
            self.shared.settle(settled.receipt, settled.outcome);
        }
        if let Some(error) = consequences.finished {
            self.finish(&error);
        }
    }

    /// Nothing more can be sent: a newer producer has this one's id, say.
    fn finish(&mut self, error: &Error) {
        warn!(%error, "the producer is finished");
        let _first_cause_counts = self.shared.ended_by.set(error.clone());
        for flight in &mut self.flights {
            for (receipt, _) in flight.drain() {
                self.shared.settle(receipt, Err(error.clone()));
            }
        }
        let unsent = self.shared.accumulator.lock().drain();
        for receipt in unsent {
            self.shared.settle(receipt, Err(error.clone()));
        }
        self.shared.end();
    }
}

impl Drop for Sender {
    /// However the sending side ends, nobody waits for it any more.
    fn drop(&mut self) {
        for flight in &mut self.flights {
            for (receipt, fate) in flight.drain() {
                self.shared.settle(receipt, Err(Error::Closed { fate }));
            }
        }
        self.shared.end();
    }
}
