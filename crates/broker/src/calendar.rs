//! Pure: the date by which ages are judged, while the machine's calendar may be wrong.

use std::time::Duration;

use rafka_core::{Time, Timestamp};

/// For how long a calendar that jumped ahead is not believed. What it would delete stays a day
/// longer, which is time to notice; a node that was started with a date long past comes right by
/// itself.
const DOUBT: Duration = Duration::from_hours(24);

/// What a calendar may gain between two looks without being doubted: clocks are slewed by up to
/// 0.05 %, which is 43 s in the longest interval of a day.
const GAIN_MAX_MS: i64 = 60_000;

/// Follows a calendar, slowly where it would make things old.
#[derive(Debug)]
pub(crate) struct Calendar {
    /// The believed date less the monotonic time, in milliseconds.
    offset: i64,
    /// Since when the calendar has been further ahead than that.
    ahead_since: Option<Time>,
}

impl Calendar {
    /// Believes what the calendar says.
    pub(crate) fn new(now: Time, says: Timestamp) -> Self {
        Self { offset: offset(now, says), ahead_since: None }
    }

    /// The date at `now`, when the calendar says `says`.
    pub(crate) fn date(&mut self, now: Time, says: Timestamp) -> Timestamp {
        let offset = offset(now, says);
        let gain = offset.saturating_sub(self.offset);
        // Going back makes everything younger, which deletes nothing.
        let is_believed =
            gain <= GAIN_MAX_MS || DOUBT <= now.since(*self.ahead_since.get_or_insert(now));
        if is_believed {
            self.offset = offset;
            self.ahead_since = None;
        }
        Timestamp(milliseconds(now).saturating_add(self.offset))
    }

    /// Whether the calendar is ahead of what is believed.
    pub(crate) fn is_doubted(&self) -> bool {
        self.ahead_since.is_some()
    }
}

fn offset(now: Time, says: Timestamp) -> i64 {
    says.0.saturating_sub(milliseconds(now))
}

fn milliseconds(now: Time) -> i64 {
    i64::try_from(now.0 / 1_000_000).expect("nanoseconds in 64 bits are fewer milliseconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    fn date(seconds: i64) -> Timestamp {
        Timestamp((1_000_000 + seconds) * 1000)
    }

    #[test]
    fn a_jump_ahead_is_believed_after_a_day_and_one_back_at_once() {
        let mut calendar = Calendar::new(at(0), date(0));
        // Monotonic seconds, what the calendar says, what is believed.
        for (now, says, expected) in [
            (10, 10, 10),
            (HOUR, 3601, 3601),
            // An hour ahead.
            (2 * HOUR, 3 * 3600, 2 * 3600 + 1),
            (25 * HOUR, 26 * 3600, 25 * 3600 + 1),
            (26 * HOUR, 27 * 3600, 27 * 3600),
            // An hour back, and forth again.
            (27 * HOUR, 27 * 3600, 27 * 3600),
            (28 * HOUR, 29 * 3600, 28 * 3600),
            // Back before it was believed: the next jump begins a day of its own.
            (29 * HOUR, 29 * 3600, 29 * 3600),
            (51 * HOUR, 52 * 3600, 51 * 3600),
            (53 * HOUR, 54 * 3600, 53 * 3600),
        ] {
            assert_eq!(calendar.date(at(now), date(says)), date(expected), "at {now}");
        }
        assert!(calendar.is_doubted());
    }

    #[test]
    fn no_calendar_is_out_of_reach() {
        let mut calendar = Calendar::new(at(0), Timestamp(i64::MIN));
        for says in [i64::MAX, i64::MIN, 0, i64::MAX] {
            assert!(calendar.date(at(1), Timestamp(says)) < date(0), "{says}");
        }
    }
}
