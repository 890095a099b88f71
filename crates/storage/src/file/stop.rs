//! The orderly end: everything written out, so that the next start has nothing to replay.

use std::sync::atomic::Ordering;

use super::Inner;
use super::lane::LANES;
use crate::Error;
use crate::manifest::Change;

/// How often the last round is repeated for what became durable meanwhile.
const ROUNDS: u32 = 8;

impl Inner {
    pub(super) fn stop(&self) -> Result<(), Error> {
        if self.is_stopped.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let written_out = self.write_out();
        self.shared.end_quietly();
        let mut result = written_out;
        for lane in LANES {
            if let Some(journal) = self.journals.of(lane).get() {
                result = result.and(journal.stop());
            }
        }
        let _maintenance = self.maintenance.lock();
        self.manifest.close();
        // Nothing writes any more.
        drop(self.lock.lock().take());
        result
    }

    /// Flushes everything and marks the directory clean.
    fn write_out(&self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            for lane in LANES {
                if let Some(last) = self.shared.lanes.of(lane).last_submitted() {
                    self.await_reported(lane, last)?;
                }
            }
            self.flush_all()?;
            if self.dirty_logs().is_empty() {
                let _maintenance = self.maintenance.lock();
                self.shared.check_alive()?;
                return self.commit(&[Change::Clean(true)]);
            }
        }
        // Appends go on. What they leave is in the journal.
        tracing::warn!("storage was stopped under load, the next start replays its journal");
        Ok(())
    }
}
