//! Pure: one value for each lane of the journal.

use crate::Durability;

/// Both lanes, in the order in which everything is done to them.
pub(crate) const LANES: [Durability; 2] = [Durability::Fsync, Durability::Os];

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PerLane<T> {
    pub(crate) fsync: T,
    pub(crate) os: T,
}

impl<T> PerLane<T> {
    /// That of one lane.
    pub(crate) fn of(&self, lane: Durability) -> &T {
        match lane {
            Durability::Fsync => &self.fsync,
            Durability::Os => &self.os,
        }
    }

    /// That of one lane, to be changed.
    pub(crate) fn of_mut(&mut self, lane: Durability) -> &mut T {
        match lane {
            Durability::Fsync => &mut self.fsync,
            Durability::Os => &mut self.os,
        }
    }
}
