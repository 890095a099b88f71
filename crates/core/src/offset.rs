//! Pure: positions in a log, and the leader epochs that its parts were written under.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// The position of a record in its partition, counted from 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Add<i64> for Offset {
    type Output = Self;
    fn add(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A leader epoch: the number of a partition's leadership. Every new leader has a higher one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Epoch(pub i32);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which leader epoch began at which offset (KIP-101). An epoch enters with its first batch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EpochHistory {
    starts: Vec<(Epoch, Offset)>,
}

impl EpochHistory {
    /// Rebuilds a history from its entries.
    ///
    /// # Panics
    /// If epochs or offsets do not ascend: such a history was never written by us.
    #[must_use]
    pub fn from_entries(starts: Vec<(Epoch, Offset)>) -> Self {
        assert!(
            starts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
            "epoch history does not ascend: {starts:?}"
        );
        Self { starts }
    }

    /// The entries, oldest first: each epoch with the offset of its first batch.
    #[must_use]
    pub fn entries(&self) -> &[(Epoch, Offset)] {
        &self.starts
    }

    /// The newest epoch that has written a batch.
    #[must_use]
    pub fn latest(&self) -> Option<Epoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that a batch of `epoch` begins at `offset`. Epochs already known are left alone.
    pub fn note(&mut self, epoch: Epoch, offset: Offset) {
        if self.latest().is_none_or(|latest| latest < epoch) {
            self.starts.push((epoch, offset));
        }
    }

    /// The largest known epoch not above `epoch`, and the offset where it ended (KIP-279).
    ///
    /// `log_end` is the end of the newest epoch. `None` when every known epoch is newer.
    #[must_use]
    pub fn end_of(&self, epoch: Epoch, log_end: Offset) -> Option<(Epoch, Offset)> {
        let after = self.starts.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = self.starts.get(after.checked_sub(1)?)?;
        let end = self.starts.get(after).map_or(log_end, |(_, start)| *start);
        Some((*found, end))
    }

    /// Forgets the epochs that begin at `end` or above: the log was truncated to `end`.
    pub fn truncate(&mut self, end: Offset) {
        self.starts.retain(|(_, start)| *start < end);
    }

    /// Forgets the epochs that ended at or below `start`: the log now begins at `start`.
    pub fn trim(&mut self, start: Offset) {
        let covering = self.starts.partition_point(|(_, begin)| *begin <= start);
        self.starts.drain(..covering.saturating_sub(1));
        if let Some(first) = self.starts.first_mut() {
            first.1 = first.1.max(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> EpochHistory {
        let mut history = EpochHistory::default();
        for (epoch, offset) in [(1, 0), (1, 5), (3, 10), (4, 20), (3, 25)] {
            history.note(Epoch(epoch), Offset(offset));
        }
        history
    }

    #[test]
    fn an_epoch_enters_once_and_never_goes_back() {
        assert_eq!(
            history().entries(),
            [(Epoch(1), Offset(0)), (Epoch(3), Offset(10)), (Epoch(4), Offset(20))]
        );
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let check = |epoch, expected: Option<(i32, i64)>| {
            let found = history().end_of(Epoch(epoch), Offset(30));
            assert_eq!(found, expected.map(|(epoch, end)| (Epoch(epoch), Offset(end))));
        };
        check(0, None);
        check(1, Some((1, 10)));
        check(2, Some((1, 10)));
        check(3, Some((3, 20)));
        check(4, Some((4, 30)));
        check(9, Some((4, 30)));
    }

    #[test]
    fn truncation_and_trimming_keep_what_the_log_still_holds() {
        let mut truncated = history();
        truncated.truncate(Offset(10));
        assert_eq!(truncated.entries(), [(Epoch(1), Offset(0))]);
        let mut trimmed = history();
        trimmed.trim(Offset(12));
        assert_eq!(trimmed.entries(), [(Epoch(3), Offset(12)), (Epoch(4), Offset(20))]);
    }
}
