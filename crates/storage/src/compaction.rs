//! Compaction: of every key only the latest record stays.
//!
//! A pass surveys what was not yet compacted, then filters the whole log up to where the survey
//! came. Offsets never change, batches are never merged, and a producer's last batch stays even
//! without records, since its sequence numbers are what recognises a repeated send.

mod filter;
mod rewrite;
mod survey;

use rafka_core::{Offset, Timestamp};

pub(crate) use filter::Pass;
pub(crate) use rewrite::{Job, Outcome, compact};
pub(crate) use survey::Survey;

use crate::LogSettings;
use crate::segment::Segment;

/// Up to where a log should be compacted now; `None` if it is not worth it yet.
///
/// `compacted` is how far the last pass came. Nothing at or above `below` is touched, and no
/// segment that holds anything younger than the compaction lag.
pub(crate) fn due(
    segments: &[Segment],
    compacted: Offset,
    settings: &LogSettings,
    below: Offset,
    now: Timestamp,
) -> Option<Offset> {
    if !settings.cleanup.compact {
        return None;
    }
    let lag = settings.compaction_lag_min;
    let old_enough = |segment: &&Segment| {
        segment.end <= below && (lag.is_zero() || segment.newest().plus(lag) <= now)
    };
    let (mut bytes_clean, mut bytes_dirty) = (0_u64, 0_u64);
    let mut until = None;
    for segment in segments.iter().take_while(old_enough) {
        if segment.end <= compacted {
            bytes_clean += segment.batch_bytes;
        } else {
            bytes_dirty += segment.batch_bytes;
            until = Some(segment.end);
        }
    }
    until.filter(|_| is_worth_it(bytes_dirty, bytes_clean, settings.cleanable_ratio_min))
}

/// Whether the share of what is not compacted reaches the minimum.
pub(crate) fn is_worth_it(bytes_dirty: u64, bytes_clean: u64, ratio_min: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share of bytes needs no 53 bits")]
    let (dirty, all) = (bytes_dirty as f64, (bytes_dirty + bytes_clean) as f64);
    0 < bytes_dirty && ratio_min * all <= dirty
}

#[cfg(test)]
mod tests;
