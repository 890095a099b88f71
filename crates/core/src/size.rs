//! Pure: sizes in bytes, written as people write them (`64 MiB`).

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. In configuration: a plain number, or one with KiB, MiB, GiB or TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl ByteSize {
    /// `n` KiB (1024 bytes).
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB (1024 KiB).
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB (1024 MiB).
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The size as a length in memory.
    ///
    /// # Panics
    /// On a machine whose `usize` cannot hold it.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("sizes fit the address space of a 64-bit machine")
    }

    /// A share of the memory that a process may use: one `part`th of `limit`, at most `most`, which
    /// it is too where nobody knows the limit.
    #[must_use]
    pub fn share(limit: Option<Self>, part: u64, most: Self) -> Self {
        limit.map_or(most, |limit| Self(limit.0 / part).min(most))
    }

    /// The size of something in memory.
    #[must_use]
    pub const fn of_len(len: usize) -> Self {
        Self(len as u64)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write a whole number of bytes, KiB, MiB, GiB or TiB, as in 64 MiB")]
pub struct InvalidByteSize(String);

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidByteSize(text.to_owned());
        let trimmed = text.trim();
        let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(digits_end);
        let number: u64 = digits.parse().map_err(|_too_long_or_empty| invalid())?;
        let unit = unit.trim();
        if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
            return Ok(Self(number));
        }
        let (_, shift) =
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(invalid)?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(invalid)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64 MiB")
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_with_units() {
        let check = |text: &str, bytes: Option<u64>| {
            assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), bytes, "{text}");
        };
        check("0", Some(0));
        check("17", Some(17));
        check("64 MiB", Some(64 << 20));
        check("2gib", Some(2 << 30));
        check(" 3 KiB ", Some(3072));
        check("1 B", Some(1));
        check("", None);
        check("-1", None);
        check("1.5 MiB", None);
        check("5 MB", None);
        check("99999999999 TiB", None);
        assert_eq!(ByteSize::mib(64).to_string(), "64 MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000 B");
    }
}
