//! Appending: the journal first, memory at once, the observer when it is durable.

use std::io;
use std::sync::Arc;

use rafka_core::{Batch, ByteSize, Timestamp};

use super::Inner;
use super::log::{Log, Phase, State};
use crate::disk;
use crate::journal::{Entry, Sequence};
use crate::tail::end_after;
use crate::{AppendError, Appended, Error, LogId};

/// Batches below this are copied when they are appended. They are often slices of a larger frame,
/// which would live for as long as one of them is held; of larger ones the gateways make sure that
/// they make up most of their frame.
const COPY_BELOW: ByteSize = ByteSize::kib(16);

/// A log with this much in memory is flushed: a chunk that disks write at full speed.
const FLUSH_BYTES: u64 = ByteSize::mib(4).0;
/// But with little memory for all, already with this share of it.
const FLUSH_BUDGET_SHARE: u64 = 16;

impl Inner {
    pub(super) fn append(
        &self,
        log: LogId,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let log = self.shared.log(log)?;
        self.shared.check_alive()?;
        let mut state = log.state.lock();
        state.check_open(log.id)?;
        self.shared.space.check_for(&state.settings)?;
        if matches!(state.phase, Phase::Truncating(_)) {
            return Err(Error::Truncating(log.id).into());
        }
        end_after(state.end, batches);
        self.check_sizes(batches)?;
        if batches.is_empty() {
            let is_durable = state.durable == state.end;
            return Ok(if is_durable { Appended::Durable } else { Appended::Pending });
        }
        let before = state.tail_weight();
        // On the list before it is in the journal, so that whoever looks for what the journal must
        // keep finds every log that has something there.
        self.mark_dirty(&log, &mut state);
        let result = self.append_locked(&log, &mut state, batches, now);
        let after = state.tail_weight();
        // Before the lock goes, so that nothing is unpinned before it was counted.
        self.shared.sidecar.pin(after - before);
        drop(state);
        let chunk = FLUSH_BYTES.min(self.shared.sidecar.budget() / FLUSH_BUDGET_SHARE);
        if before < chunk && chunk <= after {
            self.shared.note_due(&log);
        } else if self.is_pressed() {
            self.shared.signal.kick();
        }
        result?;
        Ok(Appended::Pending)
    }

    fn append_locked(
        &self,
        log: &Arc<Log>,
        state: &mut State,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<(), Error> {
        let end = state.end;
        for batch in batches {
            let is_small = ByteSize::of_len(batch.len()) < COPY_BELOW;
            let batch = if is_small { batch.detached() } else { batch.clone() };
            // While the log changes lanes, appends wait in memory for the new one.
            let place = match state.next_lane {
                Some(_) => None,
                None => match self.submit(log, state, &batch) {
                    Ok(sequence) => Some(sequence),
                    Err(error) => {
                        // The journal is dead: what it took of this append is never acknowledged.
                        state.truncate_memory(end);
                        return Err(error);
                    }
                },
            };
            state.pin(batch, now, place);
        }
        Ok(())
    }

    /// Submits a batch of a log whose lock is held to the lane that the log is in.
    pub(super) fn submit(
        &self,
        log: &Arc<Log>,
        state: &State,
        batch: &Batch,
    ) -> Result<Sequence, Error> {
        let entry = Entry::Append { log: log.id, batch: batch.clone() };
        let end = Some(batch.next_offset());
        self.shared.lanes.of(state.lane).submit(self.journal(state.lane), log, entry, end)
    }

    /// That the journal takes each of them: it takes all of an append or nothing.
    fn check_sizes(&self, batches: &[Batch]) -> Result<(), Error> {
        let max = self.settings.journal.batch_bytes_max();
        let Some(batch) = batches.iter().find(|batch| max < ByteSize::of_len(batch.len())) else {
            return Ok(());
        };
        let what = format!("a batch of {} bytes exceeds {max}", batch.len());
        let cause = io::Error::new(io::ErrorKind::InvalidInput, what);
        Err(disk::failed("append to", &self.dir)(cause))
    }

    /// Puts a log whose lock is held on the flusher's list, if it is not on it.
    pub(super) fn mark_dirty(&self, log: &Arc<Log>, state: &mut State) {
        if state.dirty_since.is_none() {
            let now = self.shared.clock.now();
            state.dirty_since = Some(now);
            self.shared.note_dirty(log, now);
        }
    }
}
