//! How many connections there may be, in all and of one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Settings;

/// The connections that are open.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    total_max: u32,
    per_address_max: u32,
}

#[derive(Debug, Default)]
struct Open {
    by_address: BTreeMap<IpAddr, u32>,
    total: u32,
}

impl Connections {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            total_max: settings.connections_max,
            per_address_max: settings.connections_per_address_max,
        })
    }

    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.open.lock().total).unwrap_or(usize::MAX)
    }

    /// A place for a connection, if there is one left.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admission> {
        // An IPv4 client of a dual-stack listener counts with its IPv4 address.
        let peer = peer.to_canonical();
        let mut open = self.open.lock();
        if self.total_max <= open.total {
            return None;
        }
        let of_peer = open.by_address.entry(peer).or_insert(0);
        if self.per_address_max <= *of_peer {
            return None;
        }
        *of_peer += 1;
        open.total += 1;
        Some(Admission { connections: Arc::clone(self), peer })
    }
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: Arc<Connections>,
    peer: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(of_peer) = open.by_address.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                open.by_address.remove(&self.peer);
            }
        }
    }
}
