//! Pure: what was acknowledged against what is there: the checks of the demo.

use std::collections::{BTreeMap, BTreeSet};

use rafka_core::{Offset, PartitionIndex};

/// A record's identity: its key, and which of that key's records it is, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) key: String,
    pub(super) number: u64,
}

/// A record at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: PartitionIndex,
    pub(super) offset: Offset,
    pub(super) name: Name,
}

impl Name {
    /// The value of the record: the number, then filling.
    pub(super) fn value(&self, filling: &str) -> String {
        format!("{} {filling}", self.number)
    }

    /// Reads a record back.
    pub(super) fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        let key = std::str::from_utf8(key?).ok()?.to_owned();
        let (number, _filling) = std::str::from_utf8(value?).ok()?.split_once(' ')?;
        Some(Self { key, number: number.parse().ok()? })
    }
}

/// Everything that must agree.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What producers were told, each with the place that they were told.
    pub(super) acked: Vec<Placed>,
    /// What the log holds, by partition in the order of reading.
    pub(super) stored: Vec<Placed>,
    /// What the members of the group have seen.
    pub(super) consumed: BTreeSet<Name>,
}

impl Ledger {
    /// Checks everything.
    ///
    /// # Errors
    /// The first check that failed, with the record that shows it.
    pub(super) fn check(&self) -> Result<(), String> {
        self.nothing_acked_is_lost()?;
        self.nothing_is_doubled()?;
        self.keys_are_in_order()?;
        self.the_group_saw_everything()
    }

    fn nothing_acked_is_lost(&self) -> Result<(), String> {
        let places: BTreeMap<(PartitionIndex, Offset), &Name> = self
            .stored
            .iter()
            .map(|placed| ((placed.partition, placed.offset), &placed.name))
            .collect();
        for Placed { partition, offset, name } in &self.acked {
            let found = places.get(&(*partition, *offset));
            if found != Some(&name) {
                return Err(format!(
                    "an acknowledged record is lost: {name:?} was acknowledged at partition \
                     {partition} offset {offset}, where {found:?} is"
                ));
            }
        }
        Ok(())
    }

    fn nothing_is_doubled(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for Placed { partition, offset, name } in &self.stored {
            if !seen.insert(name) {
                return Err(format!(
                    "a record is there twice: {name:?} again at partition {partition} offset {offset}"
                ));
            }
        }
        Ok(())
    }

    fn keys_are_in_order(&self) -> Result<(), String> {
        let mut next: BTreeMap<&str, (PartitionIndex, u64)> = BTreeMap::new();
        for Placed { partition, offset, name } in &self.stored {
            let (home, expected) = next.entry(&name.key).or_insert((*partition, 0));
            if home != partition {
                return Err(format!(
                    "a key has two partitions: {} in {home} and in {partition}",
                    name.key
                ));
            }
            if *expected != name.number {
                return Err(format!(
                    "records of a key are out of order: {name:?} at partition {partition} offset \
                     {offset}, where number {expected} was due"
                ));
            }
            *expected += 1;
        }
        Ok(())
    }

    fn the_group_saw_everything(&self) -> Result<(), String> {
        match self.acked.iter().find(|placed| !self.consumed.contains(&placed.name)) {
            None => Ok(()),
            Some(Placed { partition, offset, name }) => Err(format!(
                "the group did not see {name:?} at partition {partition} offset {offset}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(partition: i32, offset: i64, key: &str, number: u64) -> Placed {
        let name = Name { key: key.to_owned(), number };
        Placed { partition: PartitionIndex(partition), offset: Offset(offset), name }
    }

    fn sound() -> Ledger {
        let stored = vec![
            placed(0, 0, "a", 0),
            placed(0, 1, "b", 0),
            placed(0, 2, "a", 1),
            placed(1, 0, "c", 0),
        ];
        let consumed = stored.iter().map(|placed| placed.name.clone()).collect();
        Ledger { acked: stored.clone(), stored, consumed }
    }

    #[test]
    fn each_broken_promise_is_found_and_named() {
        let check = |change: fn(&mut Ledger), expected: &str| {
            let mut ledger = sound();
            change(&mut ledger);
            let error = ledger.check().expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        };
        assert_eq!(sound().check(), Ok(()));
        check(|l| drop(l.stored.remove(3)), "an acknowledged record is lost");
        check(|l| l.stored[2].offset = Offset(3), "an acknowledged record is lost");
        check(|l| l.stored.push(placed(0, 3, "a", 1)), "a record is there twice");
        check(|l| l.stored.push(placed(1, 1, "a", 2)), "a key has two partitions");
        check(|l| l.stored.push(placed(0, 3, "a", 3)), "records of a key are out of order");
        check(|l| l.consumed.clear(), "the group did not see");
    }

    #[test]
    fn what_was_stored_but_not_acknowledged_is_no_fault() {
        let mut ledger = sound();
        ledger.acked.remove(3);
        assert_eq!(ledger.check(), Ok(()));
    }

    #[test]
    fn records_are_read_back_as_they_were_written() {
        let name = Name { key: "customer-7".to_owned(), number: 42 };
        let value = name.value("filling with spaces");
        assert_eq!(Name::parse(Some(b"customer-7"), Some(value.as_bytes())), Some(name));
        assert_eq!(Name::parse(None, Some(b"1 x")), None);
        assert_eq!(Name::parse(Some(b"k"), Some(b"x 1")), None);
    }
}
