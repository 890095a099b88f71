//! Which stream leads to which partition: opens streams, and waits before it opens them again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rafka_client::{Address, Client, Error, TopicPartition, v1};
use rafka_core::Time;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use crate::accumulator::Slot;
use crate::flight::LinkId;
use crate::link::{self, Growing, LINK_REQUESTS_MAX, Link, LinkNews, Outstanding};
use crate::settings::Acks;
use crate::shared::Shared;

/// The way to a partition's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// There is a stream.
    Open(LinkId),
    /// There is none at the moment.
    Closed,
    /// The leader is not known.
    Unknown,
}

#[derive(Debug, Default)]
struct Connection {
    link: Option<Link>,
    /// Streams lost in a row without an answer in between.
    failures: u32,
    reopen_at: Time,
}

pub(super) struct Routes {
    client: Client,
    transactional_id: Option<String>,
    connections: BTreeMap<Address, Connection>,
    next_link: u64,
    news: mpsc::Sender<(LinkId, LinkNews)>,
    tasks: JoinSet<()>,
}

impl Routes {
    pub(super) fn new(shared: &Shared, news: mpsc::Sender<(LinkId, LinkNews)>) -> Self {
        Self {
            client: shared.client.clone(),
            transactional_id: shared.transaction.as_ref().map(|transaction| transaction.id.clone()),
            connections: BTreeMap::new(),
            next_link: 0,
            news,
            tasks: JoinSet::new(),
        }
    }

    /// The stream to the partition's leader, opened if need be.
    pub(super) fn link_to(&mut self, partition: &TopicPartition, now: Time) -> Route {
        let Some(address) = self.client.leader(&partition.topic, partition.partition) else {
            return Route::Unknown;
        };
        let connection = self.connections.entry(address.clone()).or_default();
        if let Some(link) = &connection.link {
            return Route::Open(link.id);
        }
        if now < connection.reopen_at {
            return Route::Closed;
        }
        let Ok(node) = self.client.node(&address) else { return Route::Unknown };
        while self.tasks.try_join_next().is_some() {}
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let (requests, receiver) = mpsc::channel(LINK_REQUESTS_MAX);
        let task = self.tasks.spawn(link::run(node, id, receiver, self.news.clone()));
        let outstanding = VecDeque::new();
        connection.link = Some(Link { id, requests, outstanding, growing: None, task });
        Route::Open(id)
    }

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.connections.values().filter_map(|known| known.link.as_ref()).find(|link| link.id == id)
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let mut links = self.connections.values_mut().filter_map(|known| known.link.as_mut());
        links.find(|link| link.id == id)
    }

    pub(super) fn growing(&self, id: LinkId) -> Option<&Growing> {
        self.link(id)?.growing.as_ref()
    }

    pub(super) fn links_with_growing(&self) -> Vec<LinkId> {
        let links = self.connections.values().filter_map(|known| known.link.as_ref());
        links.filter(|link| link.growing.is_some()).map(|link| link.id).collect()
    }

    /// Whether the stream takes another request.
    pub(super) fn has_room(&self, id: LinkId) -> bool {
        self.link(id).is_some_and(|link| 0 < link.requests.capacity())
    }

    /// Adds a batch to the request that grows for a stream.
    pub(super) fn put(
        &mut self,
        id: LinkId,
        request: u64,
        slot: Slot,
        entry: v1::ProducePartition,
        bytes: usize,
    ) {
        let Some(link) = self.link_mut(id) else { return };
        let growing = link.growing.get_or_insert_with(|| Growing {
            request,
            slots: Vec::new(),
            partitions: Vec::new(),
            bytes: 0,
        });
        growing.slots.push(slot);
        growing.partitions.push(entry);
        growing.bytes += bytes;
    }

    /// Hands the growing request to its stream. Returns its number and its partitions.
    pub(super) fn post(&mut self, id: LinkId, acks: Acks, now: Time) -> Option<(u64, Vec<Slot>)> {
        let timeout = self.client.settings().request_timeout;
        let transactional_id = self.transactional_id.clone();
        let link = self.link_mut(id)?;
        let Growing { request, slots, partitions, .. } = link.growing.take()?;
        let acks_number = match acks {
            Acks::All => v1::Acks::All,
            Acks::Leader => v1::Acks::Leader,
            Acks::None => v1::Acks::None,
        };
        let message = v1::ProduceRequest {
            request_id: request,
            acks: acks_number.into(),
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            partitions,
            transactional_id,
        };
        if acks != Acks::None {
            // The node answers by its own clock after `timeout`; beyond that the stream is stuck.
            let deadline = now + timeout + timeout / 2;
            link.outstanding.push_back(Outstanding { request, slots: slots.clone(), deadline });
        }
        // Room was asked for before; a stream that has ended says so by itself.
        let _stream_has_ended = link.requests.try_send(message);
        Some((request, slots))
    }

    /// The request that an answer of this stream belongs to.
    pub(super) fn answered(&mut self, id: LinkId) -> Option<Outstanding> {
        let connection = self.connection_mut(id)?;
        connection.failures = 0;
        connection.link.as_mut()?.outstanding.pop_front()
    }

    fn connection_mut(&mut self, id: LinkId) -> Option<&mut Connection> {
        let mut known = self.connections.values_mut();
        known.find(|known| known.link.as_ref().is_some_and(|link| link.id == id))
    }

    /// Gives a stream up. False if that was known.
    pub(super) fn lose(&mut self, id: LinkId, now: Time) -> bool {
        let client = self.client.clone();
        let Some(connection) = self.connection_mut(id) else { return false };
        if let Some(link) = connection.link.take() {
            link.task.abort();
        }
        connection.failures = connection.failures.saturating_add(1);
        connection.reopen_at = now + client.backoff(connection.failures);
        // Nodes that moved away must not collect here.
        let alive = |known: &Connection| known.link.is_some() || now <= known.reopen_at;
        self.connections.retain(|_, known| alive(known));
        true
    }

    /// Ends the streams once they have handed over what they hold, at most after `limit`.
    pub(super) async fn finish(&mut self, limit: Duration) {
        self.connections.clear();
        let all_end = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all_end).await.is_err() {
            debug!(streams = self.tasks.len(), "produce streams did not end in time");
            self.tasks.abort_all();
        }
    }

    /// When closed streams may be opened again.
    pub(super) fn reopen_deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        let closed = self.connections.values().filter(|known| known.link.is_none());
        closed.map(|known| known.reopen_at)
    }

    /// The streams that owe an answer for too long.
    pub(super) fn late_links(&self, now: Time) -> Vec<(LinkId, Error)> {
        let limit = self.client.settings().request_timeout;
        let mut late = Vec::new();
        for (address, connection) in &self.connections {
            let Some(link) = &connection.link else { continue };
            if link.outstanding.front().is_some_and(|oldest| oldest.deadline <= now) {
                let address = address.clone();
                late.push((link.id, Error::NoAnswer { operation: "produce", address, limit }));
            }
        }
        late
    }
}
