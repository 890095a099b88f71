//! What remains of a segment when the log is truncated.

use rafka_core::{Offset, Timestamp, TopicPartition};

use super::Segment;
use super::format::{self, FRAME_LEN};
use super::reader::last_offset;
use super::store::Store;
use super::walk::{Step, Walk};
use crate::Error;

impl Store {
    /// The segment without the batches that end above `end`; `None` if none are left.
    ///
    /// Only reads. The order is: this, the manifest with the new value, and from then on
    /// [`Store::resume`], which cuts the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn truncated(
        &self,
        name: &TopicPartition,
        segment: &Segment,
        end: Offset,
    ) -> Result<Option<Segment>, Error> {
        if segment.end <= end {
            return Ok(Some(segment.clone()));
        }
        if end <= segment.base {
            return Ok(None);
        }
        let opened = self.opened(name, segment)?;
        let floor = self.floor(&opened, |entry| entry.offset(segment.base) <= end)?;
        let mut walk = opened.walk_from(&floor);
        let mut left = Segment {
            end: floor.last.map_or(segment.base, |entry| entry.offset(segment.base)),
            file_len: walk.position(),
            max_timestamp: floor.last.map_or(Timestamp::NONE, |entry| entry.max_before),
            ..segment.clone()
        };
        let floor_position = walk.position();
        let mut frames_dropped = 0;
        while let Some(step) = walk.step()? {
            match kept(&mut walk, &step, end)? {
                Some((batch_end, max_timestamp)) if frames_dropped == 0 => {
                    left.end = batch_end;
                    left.file_len = walk.position();
                    left.max_timestamp = left.max_timestamp.max(max_timestamp);
                }
                _ => frames_dropped += 1,
            }
        }
        let bytes_dropped = segment.file_len.saturating_sub(left.file_len);
        let frame_bytes = bytes_dropped.min(frames_dropped * FRAME_LEN as u64);
        left.batch_bytes = segment.batch_bytes.saturating_sub(bytes_dropped - frame_bytes);
        // The entry that led here goes if its own batch does.
        let floor_dropped = floor.last.is_some() && left.file_len == floor_position;
        left.index_entries = floor.count - u32::from(floor_dropped);
        let header_len = format::HEADER_LEN as u64;
        Ok((header_len < left.file_len).then_some(left))
    }
}

/// Whether the batch just passed ends at or below `end`: its end and largest timestamp.
fn kept(
    walk: &mut Walk<'_>,
    step: &Step,
    end: Offset,
) -> Result<Option<(Offset, Timestamp)>, Error> {
    let frame = match step {
        Step::Frame(frame) if frame.base_offset < end => frame,
        Step::Frame(_) | Step::Damage { .. } => return Ok(None),
    };
    let (batch_end, max_timestamp) = match walk.batch(frame)? {
        Some(batch) => (batch.next_offset(), batch.max_timestamp()),
        // A damaged batch is no reason to keep the log from being truncated behind it.
        None => (last_offset(frame).next(), frame.unverified.max_timestamp),
    };
    Ok((batch_end <= end).then_some((batch_end, max_timestamp)))
}
