//! Pure: a partition's transactions that have ended: which of them are not decided for readers yet,
//! and which were aborted.

use std::collections::VecDeque;

use rafka_core::Offset;
use rafka_core::batch::Outcome;
use rafka_core::producer_state::Ended;

/// How many aborted transactions a partition keeps at hand; of earlier ones the log knows.
const ABORTED_MAX: usize = 64;

/// See the module. Nothing is allocated for a partition without transactions.
#[derive(Debug, Clone)]
pub(crate) struct Transactions {
    /// Their markers are at the high watermark or above, in order.
    undecided: VecDeque<Ended>,
    /// The last ones that were aborted, in the order of their markers.
    aborted: VecDeque<Ended>,
    /// All that were aborted with a marker at this offset or above are in `aborted`.
    aborted_from: Offset,
}

impl Transactions {
    /// Knows nothing of what lies below `end`.
    pub(crate) fn new(end: Offset) -> Self {
        Self { undecided: VecDeque::new(), aborted: VecDeque::new(), aborted_from: end }
    }

    /// A marker was appended.
    pub(crate) fn ended(&mut self, ended: Ended) {
        self.undecided.push_back(ended);
        if ended.outcome == Outcome::Abort {
            self.aborted.push_back(ended);
        }
        while ABORTED_MAX < self.aborted.len() {
            let dropped = self.aborted.pop_front().expect("the loop has just counted it");
            self.aborted_from = dropped.last_offset.next();
        }
    }

    /// What lies below the high watermark is decided.
    pub(crate) fn decided(&mut self, high_watermark: Offset) {
        while self.undecided.front().is_some_and(|ended| ended.last_offset < high_watermark) {
            self.undecided.pop_front();
        }
    }

    /// Where the first undecided transaction begins, when the first open one begins at `open`.
    pub(crate) fn first_undecided(&self, open: Option<Offset>) -> Option<Offset> {
        // A marker that is not durable may be lost: its transaction is as good as open.
        self.undecided.iter().map(|ended| ended.first_offset).chain(open).min()
    }

    /// The aborted transactions that reach into what lies between. `None` if some may be missing.
    pub(crate) fn aborted(&self, from: Offset, below: Offset) -> Option<Vec<Ended>> {
        let within = |ended: &&Ended| ended.is_aborted_within(from, below);
        let is_known = self.aborted_from <= from;
        is_known.then(|| self.aborted.iter().filter(within).copied().collect())
    }

    /// Forgets all that was aborted below `end`, where the log ends.
    pub(crate) fn forget_aborted(&mut self, end: Offset) {
        self.aborted = VecDeque::new();
        self.aborted_from = end;
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::ProducerId;

    use super::*;

    fn ended(first: i64, last: i64, outcome: Outcome) -> Ended {
        Ended {
            producer: ProducerId(1),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
            outcome,
        }
    }

    #[test]
    fn a_transaction_is_undecided_until_its_marker_is_below_the_high_watermark() {
        let mut transactions = Transactions::new(Offset(0));
        assert_eq!(transactions.first_undecided(None), None);
        assert_eq!(transactions.first_undecided(Some(Offset(9))), Some(Offset(9)));
        transactions.ended(ended(3, 5, Outcome::Commit));
        transactions.ended(ended(2, 7, Outcome::Abort));
        transactions.decided(Offset(5));
        assert_eq!(transactions.first_undecided(Some(Offset(9))), Some(Offset(2)));
        transactions.decided(Offset(8));
        assert_eq!(transactions.first_undecided(Some(Offset(9))), Some(Offset(9)));
    }

    #[test]
    fn what_is_no_longer_at_hand_is_said_to_be_unknown() {
        let mut transactions = Transactions::new(Offset(10));
        let count = i64::try_from(ABORTED_MAX).expect("few");
        for n in 0..=count {
            transactions.ended(ended(10 + 2 * n, 11 + 2 * n, Outcome::Abort));
        }
        let found = |from, below| {
            let found = transactions.aborted(Offset(from), Offset(below));
            found.map(|all| all.iter().map(|ended| ended.first_offset.0).collect::<Vec<_>>())
        };
        assert_eq!(found(9, 100), None);
        assert_eq!(found(11, 100), None, "the first one was dropped");
        assert_eq!(found(12, 15), Some(vec![12, 14]));
        assert_eq!(found(13, 14), Some(vec![12]));
        transactions.forget_aborted(Offset(1000));
        assert_eq!(transactions.aborted(Offset(999), Offset(1000)), None);
        assert_eq!(transactions.aborted(Offset(1000), Offset(1001)), Some(vec![]));
    }
}
