//! Pure: what compaction leaves of one batch.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rafka_core::batch::{self, RecordView, TimestampType, put_record};
use rafka_core::compression::Compression;
use rafka_core::{Batch, Offset, ProducerId, Timestamp};

use super::Survey;
use crate::segment::INFLATE_MAX;

/// One pass over a log.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    /// What lies below `until`.
    pub(crate) survey: &'a Survey,
    /// Records at or above this stay.
    pub(crate) until: Offset,
    /// When the pass began.
    pub(crate) now: Timestamp,
    /// Tombstones, and the markers of transactions without records, stay for this long after the
    /// pass that removed what they stand for.
    pub(crate) delete_retention: Duration,
    /// Whose transactions have records left, as far as the pass has come.
    pub(crate) undecided: BTreeSet<ProducerId>,
}

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filtered {
    /// The batch, if any of it stays.
    pub(crate) batch: Option<Batch>,
    /// When a pass first covered all of the batch; to be kept with it.
    pub(crate) compacted_at: Option<Timestamp>,
    /// How many records went.
    pub(crate) records_removed: u64,
}

impl Pass<'_> {
    /// Filters a batch that was first covered by a pass at `compacted_at`. Batches come in order of
    /// their offsets, from the log's first on.
    ///
    /// # Errors
    /// If the codec cannot compress what is left.
    pub(crate) fn filter(
        &mut self,
        batch: Batch,
        compacted_at: Option<Timestamp>,
    ) -> Result<Filtered, batch::Error> {
        let covered = batch.next_offset() <= self.until;
        let compacted_at_now = compacted_at.or_else(|| covered.then_some(self.now));
        let whole = |batch| Filtered {
            batch: Some(batch),
            compacted_at: compacted_at_now,
            records_removed: 0,
        };
        let (producer, attributes) = (batch.header.producer_id, batch.header.attributes);
        if attributes.is_control() {
            let has_records = self.undecided.remove(&producer);
            let is_over = compacted_at.is_some_and(|at| at.plus(self.delete_retention) <= self.now);
            if has_records || !is_over || self.until <= batch.base_offset() {
                return Ok(whole(batch));
            }
            return Ok(Filtered { batch: None, compacted_at, records_removed: 1 });
        }
        // What cannot be read is left as it is: compaction is no reason to lose a byte.
        let kept = if self.until <= batch.base_offset() {
            None
        } else {
            self.kept(&batch, compacted_at).ok()
        };
        if attributes.is_transactional() && kept.as_ref().is_none_or(|kept| 0 < kept.count) {
            self.undecided.insert(producer);
        }
        let Some(kept) = kept else { return Ok(whole(batch)) };
        let count = batch.header.record_count;
        let removed = u64::try_from(i64::from(count) - i64::from(kept.count)).unwrap_or(0);
        let left = match kept.count {
            0 if !self.survey.is_last_of_producer(&batch) => None,
            left if left == count => Some(batch),
            0 => Some(without_records(batch)?),
            _ => Some(with_records(batch, kept)?),
        };
        Ok(Filtered { batch: left, compacted_at: compacted_at_now, records_removed: removed })
    }

    fn kept(&self, batch: &Batch, compacted_at: Option<Timestamp>) -> Result<Kept, batch::Error> {
        let mut kept = Kept { bytes: BytesMut::new(), count: 0, max_timestamp: Timestamp::NONE };
        if self.survey.is_aborted(batch) {
            return Ok(kept);
        }
        let mut records = batch.records(INFLATE_MAX)?;
        let base_timestamp = batch.header.base_timestamp;
        while let Some(view) = records.next_view() {
            let view = view?;
            if !self.stays(batch, &view, records.bytes(), compacted_at) {
                continue;
            }
            kept.count += 1;
            kept.max_timestamp = kept.max_timestamp.max(view.timestamp);
            let record = records.record(view.clone())?;
            let deltas = (view.offset_delta, view.timestamp.0.wrapping_sub(base_timestamp.0));
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            put_record(&mut kept.bytes, deltas, key, value, &record.headers);
        }
        Ok(kept)
    }

    fn stays(
        &self,
        batch: &Batch,
        view: &RecordView,
        inflated: &Bytes,
        compacted_at: Option<Timestamp>,
    ) -> bool {
        let offset = batch.base_offset() + i64::from(view.offset_delta);
        if self.until <= offset {
            return true;
        }
        let Some(key) = view.key.clone().and_then(|range| inflated.get(range)) else {
            return false;
        };
        // A reader who saw the deleted value needs the time to get to the tombstone.
        let expired = view.value.is_none()
            && compacted_at.is_some_and(|at| at.plus(self.delete_retention) <= self.now);
        !expired && !self.survey.is_superseded(key, offset)
    }
}

/// The records of a batch that stay.
struct Kept {
    bytes: BytesMut,
    count: i32,
    max_timestamp: Timestamp,
}

/// The same batch with fewer records: offsets, sequence numbers and codec stay.
fn with_records(batch: Batch, kept: Kept) -> Result<Batch, batch::Error> {
    let mut header = batch.header;
    header.record_count = kept.count;
    if header.attributes.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = kept.max_timestamp;
    }
    Batch::seal(header, kept.bytes.freeze())
}

/// The same batch as a mere header, which still says what its producer sent last. It is part of no
/// transaction any more, whose marker may go.
fn without_records(batch: Batch) -> Result<Batch, batch::Error> {
    let mut header = batch.header;
    header.record_count = 0;
    header.attributes.clear_transactional();
    header.attributes.set_compression(Compression::None);
    Batch::seal(header, Bytes::new())
}
