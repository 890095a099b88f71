//! The settings of the journal.

use rafka_core::ByteSize;
use rafka_core::setting::{self, InvalidSetting};
use serde::{Deserialize, Serialize};

use super::format::{self, BLOCK};

/// The longest record, unless a quarter of [`Settings::bytes_max`] is less.
const RECORD_BYTES_MAX: ByteSize = ByteSize::mib(128);

/// The settings of the journal. They hold for each lane by itself, and take effect at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The size of a journal file: a multiple of 4 KiB, 64 KiB to 1 GiB, 64 MiB by default. Files
    /// are preallocated; a larger one is changed less often, and replayed longer after a crash.
    /// Restart needed.
    pub file_bytes: ByteSize,
    /// The size of all files together: at least four files, 1 GiB by default. At the bound appends
    /// wait until what the oldest file holds was written to segments. Restart needed.
    pub bytes_max: ByteSize,
    /// The number of writer threads, which is the number of writes in flight: 1 to 64, 4 by
    /// default. More help on disks that take many writes at once. Restart needed.
    pub writers: u32,
    /// The most that one write takes from the queue, if it is more than one record: 4 KiB to 16 MiB,
    /// 256 KiB by default. Restart needed.
    pub group_bytes_max: ByteSize,
    /// The rule that is broken on purpose.
    #[cfg(any(test, feature = "mutants"))]
    #[serde(skip)]
    pub mutant: Option<Mutant>,
}

/// A rule that can be broken on purpose, to show that the crash tests would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A write counts as durable when the page cache has it.
    AckBeforeSync,
    /// The header of a new file is not synced before the file is used.
    HeaderNotSynced,
    /// Checksums are not seeded and sequences not checked: what a recycled file held is valid.
    OldContentValid,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file_bytes: ByteSize::mib(64),
            bytes_max: ByteSize::gib(1),
            writers: 4,
            group_bytes_max: ByteSize::kib(256),
            #[cfg(any(test, feature = "mutants"))]
            mutant: None,
        }
    }
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let file = self.file_bytes;
        setting::check(
            "file_bytes",
            &file,
            file.0.is_multiple_of(BLOCK) && (ByteSize::kib(64)..=ByteSize::gib(1)).contains(&file),
            "a multiple of 4 KiB from 64 KiB to 1 GiB",
        )?;
        setting::check(
            "bytes_max",
            &self.bytes_max,
            4 * file.0 <= self.bytes_max.0,
            "at least four times file_bytes",
        )?;
        setting::in_range("writers", self.writers, 1..=64)?;
        let groups = ByteSize::kib(4)..=ByteSize::mib(16);
        setting::in_range("group_bytes_max", self.group_bytes_max, groups)
    }

    /// The largest batch that can be submitted. A larger record than a file holds gets a file of its
    /// own; a quarter of the bound is what always fits beside the file before and the file after.
    #[must_use]
    pub fn batch_bytes_max(&self) -> ByteSize {
        let record = RECORD_BYTES_MAX.0.min(self.bytes_max.0 / 4 - BLOCK);
        ByteSize(record - format::RECORD_HEADER_LEN as u64)
    }

    #[cfg(any(test, feature = "mutants"))]
    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(any(test, feature = "mutants")))]
    pub(super) fn has(&self, _mutant: Mutant) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let check = |key: Option<&str>, change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(settings.validate().err().map(|error| error.key).as_deref(), key);
        };
        check(None, |_| {});
        check(None, |s| s.file_bytes = ByteSize::kib(64));
        check(Some("file_bytes"), |s| s.file_bytes = ByteSize::kib(60));
        check(Some("file_bytes"), |s| s.file_bytes = ByteSize(65537));
        check(Some("file_bytes"), |s| s.file_bytes = ByteSize::gib(2));
        check(Some("bytes_max"), |s| s.bytes_max = ByteSize::mib(255));
        check(Some("writers"), |s| s.writers = 0);
        check(Some("writers"), |s| s.writers = 65);
        check(Some("group_bytes_max"), |s| s.group_bytes_max = ByteSize(1));
        check(Some("group_bytes_max"), |s| s.group_bytes_max = ByteSize::mib(17));
    }
}
