//! Pure: what a consumer tells its user about the partitions that its group gives and takes.

use std::fmt;
use std::sync::Arc;

use rafka_client::TopicPartition;

/// A change of what the group lets this consumer read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// These partitions are read from now on. With the cooperative assignor they come beside those
    /// that are read already, and may be none; otherwise those were given up before.
    Assigned(Vec<TopicPartition>),
    /// These partitions are given up, in good order: what `poll` gave of them is committed by now,
    /// if the consumer commits by itself.
    Revoked(Vec<TopicPartition>),
    /// These partitions were given to others because the group took this consumer for dead. What
    /// was read of them since the last commit, others read again.
    Lost(Vec<TopicPartition>),
}

type Listen = dyn Fn(&Rebalance) + Send + Sync;

/// Called for every change, within `poll`.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<Listen>>);

impl Listener {
    pub(crate) fn new(listen: impl Fn(&Rebalance) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listen)))
    }

    pub(crate) fn tell(&self, rebalance: &Rebalance) {
        if let Some(listen) = &self.0 {
            listen(rebalance);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener(Some)" } else { "Listener(None)" })
    }
}
