//! How many connections a listener may have, in all and of one address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::stats::Counter;

/// Refusals are logged at most this often: who is refused tends to try again at once.
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
    /// When refusals were last logged, and how many there have been since.
    told: Option<Instant>,
    untold: u64,
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
        open.untold += 1;
        let now = Instant::now();
        if open.told.is_some_and(|told| now < told + TOLD_EVERY) {
            return;
        }
        let (total, refused) = (open.total, std::mem::take(&mut open.untold));
        open.told = Some(now);
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
}
