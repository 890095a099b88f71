//! How many connections a listener may have, in all and of one address.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::stats::Counter;

/// Refusals, and closings for silence, are each logged at most this often: who is refused tends to try
/// again at once.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The connections of a listener.
#[derive(Debug)]
pub struct Connections {
    listener: &'static str,
    open: Mutex<Open>,
    max: u32,
    per_address_max: u32,
    accepted: Counter,
    refused: Counter,
}

#[derive(Debug, Default)]
struct Open {
    by_address: BTreeMap<IpAddr, u32>,
    total: u32,
    refusals: Told,
    silences: Told,
    strangers: Told,
}

/// When something was last logged, and how often it has happened since.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

impl Told {
    /// Counts one more. If it is time for a line, says how many it speaks of.
    fn count(&mut self) -> Option<u64> {
        self.untold += 1;
        let now = Instant::now();
        if self.at.is_some_and(|at| now < at + TOLD_EVERY) {
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Connections {
    /// None yet, of the listener with this name.
    #[must_use]
    pub fn new(listener: &'static str, max: u32, per_address_max: u32) -> Arc<Self> {
        Arc::new(Self {
            listener,
            open: Mutex::default(),
            max,
            per_address_max,
            accepted: Counter::default(),
            refused: Counter::default(),
        })
    }

    /// The listener's name.
    #[must_use]
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// How many there are now.
    #[must_use]
    pub fn open(&self) -> usize {
        usize::try_from(self.open.lock().total).unwrap_or(usize::MAX)
    }

    /// How many were admitted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.count()
    }

    /// How many were refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.count()
    }

    /// A place for a connection, if there is one left. The log says if there is none.
    pub fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Admission> {
        // An IPv4 client of a dual-stack listener counts with its IPv4 address.
        let address = peer.ip().to_canonical();
        let mut open = self.open.lock();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if self.max <= open.total {
            self.refuse(open, peer, "there are too many connections");
            return None;
        }
        if self.per_address_max <= of_address {
            self.refuse(open, peer, "there are too many connections of its address");
            return None;
        }
        open.by_address.insert(address, of_address + 1);
        open.total += 1;
        self.accepted.add(1);
        Some(Admission { connections: Arc::clone(self), address })
    }

    fn refuse(&self, mut open: parking_lot::MutexGuard<'_, Open>, peer: SocketAddr, why: &str) {
        self.refused.add(1);
        let Some(refused) = open.refusals.count() else { return };
        let total = open.total;
        drop(open);
        let listener = self.listener;
        tracing::warn!(listener, %peer, error = why, open = total, refused, "connections refused");
    }
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub struct Admission {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Admission {
    /// Says in the log that its client speaks another protocol than the listener.
    pub fn foreign(&self, peer: SocketAddr, protocol: &'static str) {
        let told = self.connections.open.lock().strangers.count();
        if let Some(connections) = told {
            let listener = self.connections.listener;
            tracing::warn!(listener, %peer, protocol, connections, "clients speak another protocol");
        }
    }

    /// Says in the log that the connection is closed because its client was silent for too long.
    pub fn silent(&self, peer: SocketAddr, why: impl Display) {
        let told = self.connections.open.lock().silences.count();
        if let Some(closed) = told {
            let listener = self.connections.listener;
            tracing::info!(listener, %peer, error = %why, closed, "silent connections closed");
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> SocketAddr {
        address.parse().expect("it is an address")
    }

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_are_given_back() {
        let connections = Connections::new("kafka", 3, 2);
        let first = connections.admit(peer("10.0.0.1:1")).expect("there is room");
        let mapped = connections.admit(peer("[::ffff:10.0.0.1]:2")).expect("there is room");
        assert!(connections.admit(peer("10.0.0.1:3")).is_none(), "a third of one address");
        let other = connections.admit(peer("10.0.0.2:1")).expect("there is room");
        assert!(connections.admit(peer("10.0.0.3:1")).is_none(), "a fourth in all");
        assert_eq!((connections.open(), connections.accepted(), connections.refused()), (3, 3, 2));
        drop((first, mapped));
        assert_eq!(connections.open(), 1);
        let again = connections.admit(peer("10.0.0.1:4")).expect("there is room again");
        drop((other, again));
        assert_eq!((connections.open(), connections.accepted(), connections.refused()), (0, 4, 2));
        assert!(connections.open.lock().by_address.is_empty(), "nothing is kept of who has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_told_now_and_then_with_its_count() {
        let mut told = Told::default();
        assert_eq!(told.count(), Some(1), "the first at once");
        assert_eq!((told.count(), told.count()), (None, None));
        tokio::time::advance(TOLD_EVERY).await;
        assert_eq!(told.count(), Some(3));
        assert_eq!(told.count(), None);
    }
}
