//! The streams that bring records: one to each node that leads partitions, opened again whenever
//! what it should bring has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_client::{Address, Client, Error, Node, TopicPartition, v1};
use rafka_core::Time;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::budget::{Budget, Share};
use crate::partitions::Wanted;
use crate::settings::Settings;

/// Messages between the streams and the consumer; their bytes are bounded by the budget.
const NEWS_MAX: usize = 64;
/// Bytes that a message is counted with beside its batches.
const MESSAGE_OVERHEAD: usize = 64;

/// Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(u64);

/// News from a stream.
#[derive(Debug)]
pub(crate) enum News {
    /// Something about one partition.
    Partition(v1::FetchedPartition, Share),
    /// The stream is over; all of its partitions need another.
    Ended(Option<Error>),
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// What it brings, with the version that each partition had when it was opened.
    versions: BTreeMap<TopicPartition, u64>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Connection {
    stream: Option<Stream>,
    failures: u32,
    reopen_at: Time,
}

#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    settings: Settings,
    connections: BTreeMap<Address, Connection>,
    budget: Arc<Budget>,
    news_in: mpsc::Sender<(StreamId, News)>,
    news: mpsc::Receiver<(StreamId, News)>,
    tasks: JoinSet<()>,
    opened: u64,
}

impl Fetcher {
    pub(crate) fn new(client: Client, settings: Settings, budget: Arc<Budget>) -> Self {
        let (news_in, news) = mpsc::channel(NEWS_MAX);
        Self {
            budget,
            client,
            settings,
            connections: BTreeMap::new(),
            news_in,
            news,
            tasks: JoinSet::new(),
            opened: 0,
        }
    }

    /// Waits for news.
    pub(crate) async fn next(&mut self) -> (StreamId, News) {
        match self.news.recv().await {
            Some(news) => news,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// News that are there already.
    pub(crate) fn try_next(&mut self) -> Option<(StreamId, News)> {
        self.news.try_recv().ok()
    }

    /// The version of a partition on a stream; none if the stream is not the present one any more.
    pub(crate) fn version(&self, id: StreamId, partition: &TopicPartition) -> Option<u64> {
        self.stream(id)?.versions.get(partition).copied()
    }

    /// What a stream brings, if it is a present one.
    pub(crate) fn partitions_of(&self, id: StreamId) -> Vec<TopicPartition> {
        self.stream(id).map(|stream| stream.versions.keys().cloned().collect()).unwrap_or_default()
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        let streams = self.connections.values().filter_map(|known| known.stream.as_ref());
        streams.into_iter().find(|stream| stream.id == id)
    }

    fn connection_mut(&mut self, id: StreamId) -> Option<&mut Connection> {
        let mut known = self.connections.values_mut();
        known.find(|known| known.stream.as_ref().is_some_and(|stream| stream.id == id))
    }

    /// Notes that the node let go of one partition.
    pub(crate) fn dropped(&mut self, id: StreamId, partition: &TopicPartition) {
        if let Some(stream) = self.connection_mut(id).and_then(|known| known.stream.as_mut()) {
            stream.versions.remove(partition);
        }
    }

    /// Notes that a stream works.
    pub(crate) fn works(&mut self, id: StreamId) {
        if let Some(connection) = self.connection_mut(id) {
            connection.failures = 0;
        }
    }

    /// Notes that a stream is over, and when the node may be asked again.
    pub(crate) fn ended(&mut self, id: StreamId, now: Time, failed: bool) {
        let client = self.client.clone();
        let Some(connection) = self.connection_mut(id) else { return };
        connection.stream = None;
        connection.failures = connection.failures.saturating_add(u32::from(failed));
        // Also after a stream that ended well: a node that always ends them is not asked in a loop.
        connection.reopen_at = now + client.backoff(connection.failures.max(1));
    }

    /// When a node that failed may be asked again.
    pub(crate) fn reopen_deadline(&self, now: Time) -> Option<Time> {
        let closed = self.connections.values().filter(|known| known.stream.is_none());
        closed.map(|known| known.reopen_at).filter(|reopen_at| now < *reopen_at).min()
    }

    /// Makes the streams bring what is wanted and nothing else. Returns how many it opened.
    pub(crate) fn reconcile(&mut self, wanted: BTreeMap<Address, Vec<Wanted>>, now: Time) -> u64 {
        let opened_before = self.opened;
        for (address, connection) in &mut self.connections {
            let fits =
                |stream: &Stream| wanted.get(address).is_some_and(|wanted| stream.brings(wanted));
            if let Some(stream) = connection.stream.take_if(|stream| !fits(stream)) {
                stream.task.abort();
            }
        }
        self.connections.retain(|address, known| {
            known.stream.is_some() || now < known.reopen_at || wanted.contains_key(address)
        });
        for (address, wanted) in wanted {
            let connection = self.connections.entry(address.clone()).or_default();
            if connection.stream.is_some() || now < connection.reopen_at {
                continue;
            }
            let Ok(node) = self.client.node(&address) else { continue };
            while self.tasks.try_join_next().is_some() {}
            let id = StreamId(self.opened);
            self.opened += 1;
            let reader = Reader {
                node,
                id,
                news: self.news_in.clone(),
                budget: Arc::clone(&self.budget),
                silence_max: self.settings.fetch_wait_max + self.client.settings().request_timeout,
            };
            let task = self.tasks.spawn(reader.run(request(&wanted, &self.settings)));
            let versions =
                wanted.into_iter().map(|wanted| (wanted.partition, wanted.version)).collect();
            connection.stream = Some(Stream { id, versions, task });
        }
        self.opened - opened_before
    }

    /// Ends all streams.
    pub(crate) async fn stop(&mut self) {
        self.connections.clear();
        self.tasks.shutdown().await;
    }
}

impl Stream {
    fn brings(&self, wanted: &[Wanted]) -> bool {
        self.versions.len() == wanted.len()
            && wanted
                .iter()
                .all(|wanted| self.versions.get(&wanted.partition) == Some(&wanted.version))
    }
}

fn request(wanted: &[Wanted], settings: &Settings) -> v1::FetchRequest {
    let partition = |wanted: &Wanted| v1::FetchPartition {
        topic: wanted.partition.topic.to_string(),
        partition: wanted.partition.partition.0,
        offset: wanted.from.0,
        ..Default::default()
    };
    let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
    v1::FetchRequest {
        partitions: wanted.iter().map(partition).collect(),
        max_bytes: u32::try_from(settings.fetch_bytes_max.0).unwrap_or(u32::MAX),
        min_bytes: 1,
        max_wait_ms: millis(settings.fetch_wait_max),
        isolation: settings.isolation.number(),
        decode: false,
        until_end: false,
    }
}

/// The reading end of a stream.
struct Reader {
    node: Arc<Node>,
    id: StreamId,
    news: mpsc::Sender<(StreamId, News)>,
    budget: Arc<Budget>,
    silence_max: Duration,
}

impl Reader {
    async fn run(self, request: v1::FetchRequest) {
        let error = self.read(request).await.err();
        let _consumer_is_gone = self.news.send((self.id, News::Ended(error))).await;
    }

    async fn read(&self, request: v1::FetchRequest) -> Result<(), Error> {
        let mut log = self.node.log();
        let mut messages = self.node.ask("fetch", log.fetch(request)).await?;
        loop {
            // Before the read: what waits in the connection makes the node wait.
            self.budget.room().await;
            let address = self.node.address();
            let message = match tokio::time::timeout(self.silence_max, messages.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return Err(Error::from_status("fetch", address, &status)),
                Err(_elapsed) => {
                    let (address, limit) = (address.clone(), self.silence_max);
                    return Err(Error::NoAnswer { operation: "fetch", address, limit });
                }
            };
            for partition in message.partitions {
                let share = self.budget.take(partition.batches.len() + MESSAGE_OVERHEAD);
                let news = News::Partition(partition, share);
                if self.news.send((self.id, news)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
