//! Pure: what is agreed on about one partition: who holds it, who is in sync, who leads.

use std::fmt;

use rafka_core::{Epoch, NodeId};
use smallvec::SmallVec;

use crate::codec::{self, Decoder, Encoder};

/// More copies than anybody keeps; lets sets of replicas be the bits of one small number.
pub const REPLICAS_MAX: usize = 16;

/// Which life of a node's data an entry speaks of. It changes only when the node lost data that it
/// had promised to keep; what was said of another life counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StorageEpoch(pub u32);

impl fmt::Display for StorageEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of a partition's entry: every change names the one it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionEpoch(pub i32);

impl PartitionEpoch {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for PartitionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node that holds a copy, in one life of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The node.
    pub node: NodeId,
    /// The life of its data that is meant.
    pub storage: StorageEpoch,
}

/// The replicas of a partition, the preferred leader first. Up to three take no allocation.
pub type Replicas = SmallVec<[Replica; 3]>;

/// Some of a partition's replicas, as the bits of their places in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Places(u16);

impl Places {
    fn first(count: usize) -> Self {
        Self(u16::try_from((1_u32 << count) - 1).expect("at most REPLICAS_MAX places"))
    }

    fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    fn remove(&mut self, place: usize) {
        self.0 &= !(1 << place);
    }

    fn lowest(self) -> Option<u8> {
        (self.0 != 0)
            .then(|| u8::try_from(self.0.trailing_zeros()).expect("a bit of 16 is below 16"))
    }

    fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// The whole assignment of a partition, as a change puts it in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// All that hold a copy or are to hold one, the preferred leader first.
    pub replicas: Replicas,
    /// Those of the replicas that are being added.
    pub adding: SmallVec<[NodeId; 3]>,
    /// Those of the replicas that are to go.
    pub removing: SmallVec<[NodeId; 3]>,
    /// In sync: every acked record is on each of them.
    pub isr: SmallVec<[NodeId; 3]>,
    /// Eligible to lead although not in sync: they hold all that was acked (KIP-966).
    pub elr: SmallVec<[NodeId; 3]>,
    /// Who leads, of those in sync.
    pub leader: Option<NodeId>,
}

/// One partition. 56 bytes for up to three replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    replicas: Replicas,
    adding: Places,
    removing: Places,
    isr: Places,
    elr: Places,
    leader: Option<u8>,
    leader_epoch: Epoch,
    epoch: PartitionEpoch,
}

impl Partition {
    /// A partition that begins with all replicas in sync, led by the first.
    ///
    /// # Errors
    /// If the replicas are none, too many, or not distinct.
    pub fn new(replicas: Replicas) -> Result<Self, InvalidAssignment> {
        check_replicas(&replicas)?;
        Ok(Self {
            isr: Places::first(replicas.len()),
            leader: Some(0),
            replicas,
            adding: Places::default(),
            removing: Places::default(),
            elr: Places::default(),
            leader_epoch: Epoch::default(),
            epoch: PartitionEpoch::default(),
        })
    }

    /// All that hold a copy or are to hold one, the preferred leader first.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// In sync: every acked record is on each of them.
    pub fn isr(&self) -> impl Iterator<Item = NodeId> {
        self.nodes(self.isr)
    }

    /// Eligible to lead although not in sync.
    pub fn elr(&self) -> impl Iterator<Item = NodeId> {
        self.nodes(self.elr)
    }

    /// The replicas that are being added.
    pub fn adding(&self) -> impl Iterator<Item = NodeId> {
        self.nodes(self.adding)
    }

    /// The replicas that are to go.
    pub fn removing(&self) -> impl Iterator<Item = NodeId> {
        self.nodes(self.removing)
    }

    /// Who leads, if anybody can.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.replicas.get(usize::from(self.leader?)).map(|replica| replica.node)
    }

    /// The number of the current leadership.
    #[must_use]
    pub fn leader_epoch(&self) -> Epoch {
        self.leader_epoch
    }

    /// The version of this entry.
    #[must_use]
    pub fn epoch(&self) -> PartitionEpoch {
        self.epoch
    }

    /// Whether the node holds a copy.
    #[must_use]
    pub fn has_replica(&self, node: NodeId) -> bool {
        self.place_of(node).is_some()
    }

    fn nodes(&self, places: Places) -> impl Iterator<Item = NodeId> {
        let chosen =
            move |(place, replica): (usize, &Replica)| places.has(place).then_some(replica.node);
        self.replicas.iter().enumerate().filter_map(chosen)
    }

    fn place_of(&self, node: NodeId) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.node == node)
    }

    /// The node started again. Whether that changed anything.
    ///
    /// It ends the node's leadership: if the node leads on, then under a new epoch, so that what the
    /// two runs wrote cannot be mistaken for each other. If its data broke, it leaves the sets whose
    /// members vouch for acked records.
    pub(crate) fn begin_session(&mut self, node: NodeId, storage: StorageEpoch) -> bool {
        let Some(place) = self.place_of(node) else { return false };
        let was_leader = self.leader.is_some_and(|leader| usize::from(leader) == place);
        let is_intact = self.replicas[place].storage == storage;
        if !is_intact {
            self.replicas[place].storage = storage;
            self.isr.remove(place);
            self.elr.remove(place);
        }
        if was_leader || self.leader.is_none() {
            let leader = if was_leader && is_intact { self.leader } else { self.candidate() };
            if was_leader || leader.is_some() {
                self.lead(leader);
            }
        }
        let has_changed = !is_intact || was_leader || self.leader_is(place);
        if has_changed {
            self.epoch = self.epoch.next();
        }
        has_changed
    }

    fn leader_is(&self, place: usize) -> bool {
        self.leader.is_some_and(|leader| usize::from(leader) == place)
    }

    /// Who may lead without losing anything: the first in sync, else the first eligible.
    fn candidate(&self) -> Option<u8> {
        self.isr.lowest().or_else(|| self.elr.lowest())
    }

    fn lead(&mut self, leader: Option<u8>) {
        self.leader = leader;
        self.leader_epoch = self.leader_epoch.next();
        if let Some(place) = leader {
            self.isr.insert(usize::from(place));
            self.elr.remove(usize::from(place));
        }
    }

    /// Puts another assignment in place. A new leader, or a new life of the leader's data, gets a
    /// new leader epoch.
    pub(crate) fn assign(
        &mut self,
        to: &Assignment,
        is_unclean: bool,
    ) -> Result<(), InvalidAssignment> {
        check_replicas(&to.replicas)?;
        let mut changed = Self { replicas: to.replicas.clone(), ..self.clone() };
        changed.adding = changed.places(&to.adding)?;
        changed.removing = changed.places(&to.removing)?;
        changed.isr = changed.places(&to.isr)?;
        changed.elr = changed.places(&to.elr)?;
        changed.leader = match to.leader {
            None => None,
            Some(leader) => changed.places(&[leader])?.lowest(),
        };
        changed.check()?;
        let led_by = |partition: &Self| {
            partition.leader.and_then(|place| partition.replicas.get(usize::from(place)).copied())
        };
        if led_by(self) != led_by(&changed) {
            if let Some(leader) = led_by(&changed)
                && !self.vouches(leader)
                && !is_unclean
            {
                return Err(InvalidAssignment("a leader that may miss acked records"));
            }
            changed.leader_epoch = self.leader_epoch.next();
        }
        changed.epoch = self.epoch.next();
        *self = changed;
        Ok(())
    }

    /// Whether this replica, in this life of its data, holds all that was acked.
    fn vouches(&self, replica: Replica) -> bool {
        let vouching = Places(self.isr.0 | self.elr.0);
        self.replicas
            .iter()
            .enumerate()
            .any(|(place, known)| *known == replica && vouching.has(place))
    }

    fn places(&self, nodes: &[NodeId]) -> Result<Places, InvalidAssignment> {
        let mut places = Places::default();
        for node in nodes {
            let place =
                self.place_of(*node).ok_or(InvalidAssignment("a node that is no replica"))?;
            places.insert(place);
        }
        Ok(places)
    }

    fn check(&self) -> Result<(), InvalidAssignment> {
        check_replicas(&self.replicas)?;
        let all = Places::first(self.replicas.len());
        if ![self.adding, self.removing, self.isr, self.elr].iter().all(|set| set.is_within(all)) {
            return Err(InvalidAssignment("a place that no replica has"));
        }
        if self.isr.0 & self.elr.0 != 0 {
            return Err(InvalidAssignment("a node both in sync and merely eligible"));
        }
        match self.leader.map(usize::from) {
            Some(place) if self.replicas.len() <= place => {
                Err(InvalidAssignment("a leader that is no replica"))
            }
            Some(place) if !self.isr.has(place) => {
                Err(InvalidAssignment("a leader that is not in sync"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        encode_replicas(&self.replicas, out);
        for places in [self.adding, self.removing, self.isr, self.elr] {
            out.unsigned(u64::from(places.0));
        }
        out.byte(self.leader.map_or(0, |place| place + 1));
        out.signed(i64::from(self.leader_epoch.0));
        out.signed(i64::from(self.epoch.0));
    }

    /// The fewest bytes that a partition is written in.
    pub(crate) const ENCODED_MIN: usize = 10;

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, codec::Error> {
        let replicas = decode_replicas(from)?;
        let mut places = || from.narrow::<u16>().map(Places);
        let (adding, removing, isr, elr) = (places()?, places()?, places()?, places()?);
        let partition = Self {
            replicas,
            adding,
            removing,
            isr,
            elr,
            leader: from.byte()?.checked_sub(1),
            leader_epoch: Epoch(from.narrow_signed()?),
            epoch: PartitionEpoch(from.narrow_signed()?),
        };
        partition.check().map_err(|invalid| from.invalid(invalid.0))?;
        Ok(partition)
    }
}

fn check_replicas(replicas: &[Replica]) -> Result<(), InvalidAssignment> {
    if replicas.is_empty() {
        return Err(InvalidAssignment("no replica"));
    }
    if REPLICAS_MAX < replicas.len() {
        return Err(InvalidAssignment("more than 16 replicas"));
    }
    let is_repeated = |(place, replica): (usize, &Replica)| {
        replicas.iter().take(place).any(|earlier| earlier.node == replica.node)
    };
    if replicas.iter().enumerate().any(is_repeated) {
        return Err(InvalidAssignment("a node twice"));
    }
    Ok(())
}

pub(crate) fn encode_replicas(replicas: &[Replica], out: &mut Encoder) {
    out.count(replicas.len());
    for replica in replicas {
        out.signed(i64::from(replica.node.0));
        out.unsigned(u64::from(replica.storage.0));
    }
}

pub(crate) fn decode_replicas(from: &mut Decoder<'_>) -> Result<Replicas, codec::Error> {
    let count = from.count(2)?;
    if REPLICAS_MAX < count {
        return Err(from.invalid("more than 16 replicas"));
    }
    let mut replicas = Replicas::new();
    for _ in 0..count {
        let node = NodeId(from.narrow_signed()?);
        replicas.push(Replica { node, storage: StorageEpoch(from.narrow()?) });
    }
    Ok(replicas)
}

/// An assignment that contradicts itself or would lose acked records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the assignment names {0}")]
pub struct InvalidAssignment(pub(crate) &'static str);

#[cfg(test)]
mod tests;
