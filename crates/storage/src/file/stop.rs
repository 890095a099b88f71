//! The orderly end: everything written out, so that the next start has nothing to replay.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Inner;
use crate::Error;
use crate::journal::Driver;
use crate::manifest;
use crate::per_lane::LANES;

/// How often the last round is repeated for what became durable meanwhile.
const ROUNDS: u32 = 8;

/// How long a journal may make no progress, on a full disk say, before it is left as it is.
const PATIENCE: Duration = Duration::from_secs(5);

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
        result = result.and_then(|()| self.note_clean_stop());
        self.manifest.close();
        // Nothing writes any more.
        drop(self.lock.lock().take());
        result
    }

    /// Flushes everything, unless appends go on.
    fn write_out(&self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            // First what is durable: the journal may wait for the files that this releases.
            self.flush_all()?;
            for lane in LANES {
                let reported = self.shared.lanes.of(lane);
                match (reported.last_submitted(), self.driver) {
                    (None, _) => {}
                    (Some(last), Driver::Threads) => {
                        reported.wait_reported(last, Some(PATIENCE), || !self.shared.is_alive());
                    }
                    (Some(_), Driver::Manual) => self.journal(lane).settle(),
                }
            }
            self.flush_all()?;
            if self.dirty_logs().is_empty() {
                return self.shared.check_alive();
            }
        }
        // Appends go on. What they leave is in the journal.
        tracing::warn!("storage was stopped under load, the next start replays its journal");
        Ok(())
    }

    /// Says that nobody needs the journals, if so. Nothing is appended any more.
    fn note_clean_stop(&self) -> Result<(), Error> {
        let maintenance = self.maintenance.lock();
        if !self.dirty_logs().is_empty() {
            return Ok(());
        }
        self.commit(&manifest::not_needed(&maintenance.lanes))
    }
}
