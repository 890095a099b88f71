//! Giving the journal's files back: what every log's checkpoint covers is not needed there.

use std::sync::Arc;

use super::log::Log;
use super::{Inner, Maintenance};
use crate::journal::Sequence;
use crate::manifest;
use crate::per_lane::LANES;
use crate::{Durability, Error};

impl Inner {
    /// Releases what the journals hold and no log needs, if that gives a file back: the manifest
    /// says so first, and a journal that begins later does not belong to it. With the maintenance lock
    /// nobody moves a log from the list while it is read.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub(super) fn release(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        for lane in LANES {
            let Some(journal) = self.journals.of(lane).get() else { continue };
            let below = self.uncovered(lane);
            if journal.frees(below) {
                let known = manifest::Lane { released: below, ..*maintenance.lanes.of(lane) };
                self.note_lane(maintenance, lane, known)?;
                journal.release(below);
            }
        }
        Ok(())
    }

    /// The first record of a lane that a restart would need.
    fn uncovered(&self, lane: Durability) -> Sequence {
        // First how far it is durable, then who needs what: a log goes on the list before it submits
        // anything, so that none that has something below this is missed.
        let durable = self.shared.lanes.of(lane).reported();
        self.dirty_logs()
            .iter()
            .filter_map(|log| {
                let state = log.state.lock();
                if state.lane == lane { state.uncovered() } else { None }
            })
            .fold(durable, Sequence::min)
    }

    /// The logs that wait for the flusher, those first that wait longest.
    pub(super) fn dirty_logs(&self) -> Vec<Arc<Log>> {
        self.shared.dirty.lock().since.values().map(Arc::clone).collect()
    }
}
