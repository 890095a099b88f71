//! Giving the journal's files back: what every log's checkpoint covers is not needed there.

use std::sync::Arc;

use super::Inner;
use super::log::Log;
use crate::Durability;
use crate::journal::Sequence;
use crate::per_lane::LANES;

impl Inner {
    /// Releases what the journals hold and no log needs. The maintenance lock is held, so that
    /// nobody moves a log from the list while it is read.
    pub(super) fn release(&self) {
        for lane in LANES {
            if let Some(journal) = self.journals.of(lane).get() {
                journal.release(self.uncovered(lane));
            }
        }
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
