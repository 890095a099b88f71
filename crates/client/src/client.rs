//! The client: nodes, the view of the cluster, and the one place that tries again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{Clock, PartitionIndex, SystemClock, TopicName};
use tracing::debug;

use crate::address::Address;
use crate::admin::Admin;
use crate::error::Error;
use crate::metadata;
use crate::node::Node;
use crate::settings::{InvalidSettings, Settings};
use crate::transactions::Transactions;
use crate::view::{Topic, View};

/// A connection to a cluster, shared by producers, consumers and admin calls. Cheap to clone.
///
/// Nothing is sent until something is asked.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    bootstrap: Vec<Address>,
    clock: Arc<dyn Clock>,
    /// Taken alone, for a draw; never while another lock is held.
    rng: Mutex<Rng>,
    /// One per address ever used: the bootstrap and what the cluster advertised.
    nodes: Mutex<BTreeMap<Address, Arc<Node>>>,
    view: Mutex<View>,
    /// Which of the candidates the next call to any node begins with.
    turn: AtomicUsize,
    /// Held while the view is refreshed, so that many who miss the same ask once.
    refreshing: tokio::sync::Mutex<()>,
}

/// Addresses kept at most; a cluster that moves around forever must not grow the map.
const NODES_MAX: usize = 4096;

impl Client {
    /// A client with the machine's clock and the operating system's randomness.
    ///
    /// # Errors
    /// If a setting cannot work, or the operating system gives no randomness.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let rng = rng::from_system().map_err(|cause| {
            InvalidSettings::new("randomness", cause, "given by the operating system")
        })?;
        Self::with(settings, Arc::new(SystemClock::new()), rng)
    }

    /// A client with the given clock and randomness.
    ///
    /// # Errors
    /// If a setting cannot work.
    pub fn with(settings: Settings, clock: Arc<dyn Clock>, rng: Rng) -> Result<Self, Error> {
        settings.validate()?;
        let bootstrap = settings.addresses()?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                bootstrap,
                clock,
                rng: Mutex::new(rng),
                nodes: Mutex::new(BTreeMap::new()),
                view: Mutex::new(View::default()),
                turn: AtomicUsize::new(0),
                refreshing: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// A new generator, seeded by this client's.
    #[must_use]
    pub fn fork_rng(&self) -> Rng {
        rng::from_seed(self.inner.rng.lock().random())
    }

    /// The wait after `failures` failures in a row.
    #[must_use]
    pub fn backoff(&self, failures: u32) -> Duration {
        self.inner.settings.retry.wait(failures, &mut self.inner.rng.lock())
    }

    /// Administration of topics, groups and records.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What transactional producers ask.
    #[must_use]
    pub fn transactions(&self) -> Transactions {
        Transactions::new(self.clone())
    }

    /// The node at `address`.
    ///
    /// # Errors
    /// If the address cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn node(&self, address: &Address) -> Result<Arc<Node>, Error> {
        let mut nodes = self.inner.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        if NODES_MAX <= nodes.len() {
            nodes.clear();
        }
        let node = Arc::new(Node::new(address.clone(), &self.inner.settings)?);
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    /// Any node: the same one until [`Client::try_another`].
    ///
    /// # Errors
    /// If its address cannot be used.
    pub fn any_node(&self) -> Result<Arc<Node>, Error> {
        let mut candidates: Vec<Address> = self.inner.bootstrap.clone();
        for address in self.inner.view.lock().addresses() {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        let turn = self.inner.turn.load(Ordering::Relaxed) % candidates.len();
        self.node(&candidates[turn])
    }

    /// Makes [`Client::any_node`] give the next one.
    pub fn try_another(&self) {
        self.inner.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Where the leader of a partition is, as far as is known now. Asks nobody.
    #[must_use]
    pub fn leader(&self, topic: &TopicName, partition: PartitionIndex) -> Option<Address> {
        self.inner.view.lock().leader(topic.as_str(), partition).cloned()
    }

    /// What is known of a topic, however old. Asks nobody.
    #[must_use]
    pub fn known_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.inner.view.lock().topic(name).map(|(topic, _)| topic)
    }

    /// Whether what is known of a topic is older than `metadata_age_max`, or nothing is known.
    #[must_use]
    pub fn is_stale(&self, name: &str) -> bool {
        let now = self.inner.clock.now();
        let known = self.inner.view.lock().topic(name);
        known.is_none_or(|(_, learnt_at)| self.inner.settings.metadata_age_max < now - learnt_at)
    }

    /// What the cluster says of a topic, asked for again when it is older than `metadata_age_max`.
    ///
    /// # Errors
    /// If no node can be asked in time, or the topic does not exist. `missing` says whether the
    /// node may then create it.
    ///
    /// # Cancel safety
    /// Cancel safe; a topic may have been created.
    pub async fn topic(&self, name: &TopicName, missing: Missing) -> Result<Arc<Topic>, Error> {
        if !self.is_stale(name.as_str())
            && let Some(topic) = self.known_topic(name.as_str())
        {
            return Ok(topic);
        }
        let _single = self.inner.refreshing.lock().await;
        if !self.is_stale(name.as_str())
            && let Some(topic) = self.known_topic(name.as_str())
        {
            return Ok(topic);
        }
        self.call("describe topics", |node| self.learn(node, std::slice::from_ref(name), missing))
            .await??;
        let known = self.known_topic(name.as_str());
        known.ok_or_else(|| Error::Malformed {
            operation: "describe topics",
            what: format!("topic {name} is missing from it"),
        })
    }

    /// Asks once more who leads the partitions of `topics`. One attempt: the caller is in a loop of
    /// its own, with its own waits.
    ///
    /// # Errors
    /// If a node cannot be asked, or one of the topics does not exist; the others are known then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refresh(&self, topics: &[TopicName]) -> Result<(), Error> {
        let _single = self.inner.refreshing.lock().await;
        let learnt = self.learn(self.any_node()?, topics, Missing::Refuse).await;
        if learnt.is_err() {
            self.try_another();
        }
        learnt?
    }

    /// Outside what went wrong with asking, inside what is wrong with a topic: that is an answer.
    async fn learn(
        &self,
        node: Arc<Node>,
        topics: &[TopicName],
        missing: Missing,
    ) -> Result<Result<(), Error>, Error> {
        let learnt = metadata::ask(&node, topics, missing).await?;
        let now = self.inner.clock.now();
        let mut failure = None;
        let mut view = self.inner.view.lock();
        view.learn_nodes(learnt.nodes);
        for (name, outcome) in learnt.topics {
            match outcome {
                Ok(topic) => view.learn_topic(Arc::new(topic), now),
                Err(error) => {
                    view.forget_topic(&name);
                    failure = Some(error);
                }
            }
        }
        Ok(failure.map_or(Ok(()), Err))
    }

    /// Asks nodes, one after the other, until one gives an answer that is not retriable, or until
    /// the attempts or the time of the settings are used up. Waits in between with full jitter.
    ///
    /// # Errors
    /// The first that is not retriable, or [`Error::GaveUp`] with the last one.
    ///
    /// # Cancel safety
    /// Dropped, the present attempt is cancelled; it may have taken effect.
    pub async fn call<T, F, Fut>(&self, operation: &'static str, attempt: F) -> Result<T, Error>
    where
        F: FnMut(Arc<Node>) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.call_within(operation, self.inner.settings.retry.total, attempt).await
    }

    /// As [`Client::call`], with a time of its own for all attempts together.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// # Cancel safety
    /// As [`Client::call`].
    pub async fn call_within<T, F, Fut>(
        &self,
        operation: &'static str,
        total: Duration,
        mut attempt: F,
    ) -> Result<T, Error>
    where
        F: FnMut(Arc<Node>) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut attempts = 0;
        let mut last = None;
        let attempts_max = self.inner.settings.retry.attempts_max;
        let tries = async {
            while attempts < attempts_max {
                attempts += 1;
                let node = match self.any_node() {
                    Ok(node) => node,
                    Err(error) => return Some(Err(error)),
                };
                match attempt(node).await {
                    Err(error) if error.is_retriable() => {
                        debug!(operation, attempts, %error, "attempt failed");
                        last = Some(error);
                        self.try_another();
                    }
                    outcome => return Some(outcome),
                }
                if attempts < attempts_max {
                    tokio::time::sleep(self.backoff(attempts)).await;
                }
            }
            None
        };
        if let Ok(Some(outcome)) = tokio::time::timeout(total, tries).await {
            return outcome;
        }
        let nothing = || Error::NoAnswer {
            operation,
            address: self.inner.bootstrap[0].clone(),
            limit: total,
        };
        let last = Box::new(last.unwrap_or_else(nothing));
        Err(Error::GaveUp { operation, attempts, last })
    }
}

/// What the node shall do about a topic that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Say so.
    Refuse,
    /// Create it, if its `auto.create.topics.enable` allows.
    Create,
}
