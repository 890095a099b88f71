//! Pure: which parts of a log go because they are too old or too many.

use rafka_core::{Offset, Timestamp};

use crate::LogSettings;
use crate::segment::Segment;

/// A part of a log that goes as a whole: a segment, or what stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it ends.
    pub(crate) end: Offset,
    /// What it takes.
    pub(crate) bytes: u64,
    /// The larger of its largest timestamp and the time when it was last appended to, so that
    /// neither a jumping clock nor an invented timestamp makes it old early.
    pub(crate) newest: Timestamp,
}

impl From<&Segment> for Extent {
    fn from(segment: &Segment) -> Self {
        Self { end: segment.end, bytes: segment.batch_bytes, newest: segment.newest() }
    }
}

/// How many of the first `extents` go.
///
/// `bytes` is the size of the whole log, what is in no extent yet included. Nothing goes that ends
/// above `below`, and nothing goes out of turn.
pub(crate) fn expired(
    extents: impl IntoIterator<Item = Extent>,
    bytes: u64,
    settings: &LogSettings,
    below: Offset,
    now: Timestamp,
) -> usize {
    if !settings.cleanup.delete {
        return 0;
    }
    let mut left = bytes;
    extents
        .into_iter()
        .take_while(|extent| {
            let too_old = settings.retention_age.is_some_and(|age| extent.newest.plus(age) < now);
            let rest = left.saturating_sub(extent.bytes);
            // It goes only if what remains is still as much as should be kept.
            let too_many = settings.retention_bytes.is_some_and(|keep| keep.0 <= rest);
            left = rest;
            extent.end <= below && (too_old || too_many)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rafka_core::ByteSize;

    use super::*;

    /// Three extents of 100 bytes, last appended to at 10, 20 and 30 seconds.
    fn extents() -> [Extent; 3] {
        [10, 20, 30].map(|n| Extent { end: Offset(n), bytes: 100, newest: Timestamp(n * 1000) })
    }

    fn settings(age_s: Option<u64>, bytes: Option<u64>) -> LogSettings {
        LogSettings {
            retention_age: age_s.map(Duration::from_secs),
            retention_bytes: bytes.map(ByteSize),
            ..LogSettings::default()
        }
    }

    #[test]
    fn what_is_too_old_or_too_much_goes_from_the_front_and_never_above_the_limit() {
        let check = |age_s, bytes, below, now_s: i64, expected| {
            let settings = settings(age_s, bytes);
            let now = Timestamp(now_s * 1000);
            // 50 bytes are in no extent yet.
            let found = expired(extents(), 350, &settings, Offset(below), now);
            assert_eq!(found, expected, "age {age_s:?} bytes {bytes:?} below {below} at {now_s} s");
        };
        check(Some(5), None, 100, 15, 0);
        check(Some(5), None, 100, 16, 1);
        check(Some(5), None, 100, 1000, 3);
        check(Some(5), None, 29, 1000, 2);
        check(None, None, 100, i64::MAX / 1000, 0);
        check(None, Some(251), 100, 0, 0);
        check(None, Some(250), 100, 0, 1);
        check(None, Some(249), 100, 0, 1);
        check(None, Some(50), 100, 0, 3);
        check(None, Some(0), 19, 0, 1);
        check(Some(5), Some(150), 100, 16, 2);
    }

    #[test]
    fn a_clock_that_jumps_back_and_timestamps_of_the_future_delete_nothing() {
        let mut future = extents();
        future[0].newest = Timestamp(i64::MAX);
        let settings = settings(Some(5), None);
        assert_eq!(expired(future, 350, &settings, Offset(100), Timestamp(1_000_000)), 0);
        assert_eq!(expired(extents(), 350, &settings, Offset(100), Timestamp(0)), 0);
    }

    #[test]
    fn nothing_goes_where_deletion_is_not_the_policy() {
        let mut settings = settings(Some(0), Some(0));
        settings.cleanup.delete = false;
        assert_eq!(expired(extents(), 350, &settings, Offset(100), Timestamp(i64::MAX)), 0);
    }
}
