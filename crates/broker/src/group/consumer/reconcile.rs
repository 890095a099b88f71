//! Pure: how one member gets from what it owns to what it shall own.
//!
//! It first lets go of what it shall not own; only then does it enter the epoch of the target, and
//! is given what is new to it, each partition once its owner before has let it go.

use std::collections::BTreeSet;

use rafka_core::{PartitionIndex, TopicId};

use super::assignor::Share;

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group) enum Progress {
    /// It owns what it shall own.
    Stable,
    /// It must let partitions go first.
    Revoking,
    /// It waits for partitions that others have not let go yet.
    Waiting,
}

/// What a member is told to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) struct Current {
    pub(super) epoch: i32,
    /// The epoch before, which a member comes with whose last answer was lost.
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    pub(super) assigned: Share,
    pub(super) revoking: Share,
}

impl Current {
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            previous_epoch: 0,
            progress: Progress::Stable,
            assigned: Share::new(),
            revoking: Share::new(),
        }
    }

    /// Whether it owns all that it shall own in the target of this epoch.
    pub(super) fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == target_epoch
    }

    /// The next step towards the target, if there is one to make.
    ///
    /// `owned` is what the member says that it owns, if it says. `is_free` tells whether nobody
    /// owns a partition.
    pub(super) fn next(
        &self,
        (target, target_epoch): (&Share, i32),
        owned: Option<&Share>,
        is_free: impl Fn(TopicId, PartitionIndex) -> bool,
    ) -> Option<Self> {
        match self.progress {
            Progress::Stable if self.epoch == target_epoch => return None,
            // It has not confirmed that it let them go.
            Progress::Revoking if still_owns(&self.revoking, owned) => return None,
            Progress::Stable | Progress::Revoking | Progress::Waiting => {}
        }
        let (mut kept, mut lost) = (Share::new(), Share::new());
        for (topic, partitions) in &self.assigned {
            let wanted = target.get(topic);
            let is_wanted = |at: &PartitionIndex| wanted.is_some_and(|wanted| wanted.contains(at));
            let (stay, go): (BTreeSet<_>, BTreeSet<_>) =
                partitions.iter().copied().partition(is_wanted);
            put(&mut kept, *topic, stay);
            put(&mut lost, *topic, go);
        }
        if !lost.is_empty() && still_owns(&lost, owned) {
            return Some(Self {
                progress: Progress::Revoking,
                assigned: kept,
                revoking: lost,
                epoch: self.epoch,
                previous_epoch: self.previous_epoch,
            });
        }
        let mut progress = Progress::Stable;
        for (topic, partitions) in target {
            let has = kept.get(topic);
            let missing =
                partitions.iter().copied().filter(|at| !has.is_some_and(|has| has.contains(at)));
            // What this member lets go just now is free for others, but never wanted by itself.
            let (free, taken): (BTreeSet<_>, BTreeSet<_>) =
                missing.partition(|at| is_free(*topic, *at) || revokes(self, *topic, *at));
            if !taken.is_empty() {
                progress = Progress::Waiting;
            }
            if !free.is_empty() {
                kept.entry(*topic).or_default().extend(free);
            }
        }
        let previous_epoch =
            if self.epoch == target_epoch { self.previous_epoch } else { self.epoch };
        let next = Self {
            epoch: target_epoch,
            previous_epoch,
            progress,
            assigned: kept,
            revoking: Share::new(),
        };
        (next != *self).then_some(next)
    }
}

/// Whether the member has the partition in the count of owners only to let it go, which it has now
/// confirmed. A newer target may want it back.
fn revokes(current: &Current, topic: TopicId, partition: PartitionIndex) -> bool {
    current.revoking.get(&topic).is_some_and(|revoking| revoking.contains(&partition))
}

/// Whether a member owns any of `share`, which it does unless it says that it does not.
fn still_owns(share: &Share, owned: Option<&Share>) -> bool {
    let Some(owned) = owned else { return true };
    share.iter().any(|(topic, partitions)| {
        owned.get(topic).is_some_and(|owned| !owned.is_disjoint(partitions))
    })
}

fn put(share: &mut Share, topic: TopicId, partitions: BTreeSet<PartitionIndex>) {
    if !partitions.is_empty() {
        share.insert(topic, partitions);
    }
}
