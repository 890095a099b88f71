//! The settings of the file engine.

use rafka_core::ByteSize;
use rafka_core::setting::{self, InvalidSetting};
use serde::{Deserialize, Serialize};

use crate::journal;
use crate::memory_limit::memory_limit;

/// The sidecar takes this share of the memory that the process may use ...
const SIDECAR_SHARE: u64 = 4;
/// ... but not more than this, unless it is told to.
const SIDECAR_BYTES_DEFAULT_MAX: ByteSize = ByteSize::mib(256);
const SIDECAR_BYTES_MIN: ByteSize = ByteSize::mib(1);

/// The settings of the file engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The memory for records that are not yet in segments and for those worth keeping: at least
    /// 1 MiB. By default a quarter of the memory that the process may use (cgroup limits included),
    /// at most 256 MiB. Appends wait while half of it is not yet in segments. Restart needed.
    pub sidecar_bytes: Option<ByteSize>,
    /// The free disk space below which appends are refused, so that retention, metadata and offsets
    /// can still be written: any size, 256 MiB by default. Restart needed.
    pub disk_reserve_bytes: ByteSize,
    /// The number of segment and index files kept open for reading: 8 to 100000, 256 by default.
    /// Restart needed.
    pub open_files_max: u32,
    /// The journal.
    pub journal: journal::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sidecar_bytes: None,
            disk_reserve_bytes: ByteSize::mib(256),
            open_files_max: 256,
            journal: journal::Settings::default(),
        }
    }
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        if let Some(bytes) = self.sidecar_bytes {
            let holds = SIDECAR_BYTES_MIN <= bytes;
            setting::check("sidecar_bytes", &bytes, holds, "at least 1 MiB")?;
        }
        setting::in_range("open_files_max", self.open_files_max, 8..=100_000)?;
        self.journal.validate().map_err(|error| error.within("journal"))
    }

    /// The memory that the sidecar may take, worked out if it was not given.
    #[must_use]
    pub fn sidecar_budget(&self) -> ByteSize {
        self.sidecar_bytes.unwrap_or_else(|| share_of(memory_limit()))
    }
}

fn share_of(limit: Option<ByteSize>) -> ByteSize {
    ByteSize::share(limit, SIDECAR_SHARE, SIDECAR_BYTES_DEFAULT_MAX).max(SIDECAR_BYTES_MIN)
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
        check(None, |s| s.sidecar_bytes = Some(ByteSize::mib(1)));
        check(Some("sidecar_bytes"), |s| s.sidecar_bytes = Some(ByteSize::kib(1)));
        check(Some("open_files_max"), |s| s.open_files_max = 7);
        check(Some("journal.writers"), |s| s.journal.writers = 0);
    }

    #[test]
    fn the_sidecar_takes_a_quarter_of_the_memory_up_to_its_default() {
        assert_eq!(share_of(Some(ByteSize::mib(256))), ByteSize::mib(64));
        assert_eq!(share_of(Some(ByteSize::gib(64))), ByteSize::mib(256));
        assert_eq!(share_of(None), ByteSize::mib(256));
        assert_eq!(share_of(Some(ByteSize::kib(1))), ByteSize::mib(1));
    }
}
