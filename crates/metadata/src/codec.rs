//! Pure: the bytes of commands and snapshots: varints, and lengths that are checked before use.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Bytes that are not a command or snapshot of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes stop in the middle of a field, or name more items than they can hold.
    #[error("{subject} ends too early")]
    Truncated {
        /// What was read.
        subject: &'static str,
    },
    /// A field has a value that we never write.
    #[error("{subject} holds {what}")]
    Invalid {
        /// What was read.
        subject: &'static str,
        /// What was found in it.
        what: &'static str,
    },
    /// A newer Rafka wrote it.
    #[error("{subject} has format version {found}; this build reads up to {known}")]
    UnknownVersion {
        /// What was read.
        subject: &'static str,
        /// The version it carries.
        found: u8,
        /// The newest version that we know.
        known: u8,
    },
}

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(version: u8) -> Self {
        Self { out: vec![version] }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn unsigned(&mut self, mut value: u64) {
        while 0x80 <= value {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }

    /// Zigzag: small negative numbers stay short.
    pub(crate) fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.unsigned(count as u64);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        self.out.extend_from_slice(id.as_bytes());
    }

    pub(crate) fn texts(&mut self, map: &BTreeMap<String, String>) {
        self.count(map.len());
        for (name, value) in map {
            self.text(name);
            self.text(value);
        }
    }
}

/// Reads fields one after the other, trusting nothing.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    subject: &'static str,
    version: u8,
}

impl<'a> Decoder<'a> {
    /// Begins with the version byte, which must be at most `known`.
    pub(crate) fn new(bytes: &'a [u8], known: u8, subject: &'static str) -> Result<Self, Error> {
        let mut decoder = Self { rest: bytes, subject, version: 0 };
        decoder.version = decoder.byte()?;
        match decoder.version {
            0 => Err(decoder.invalid("format version 0")),
            found if known < found => Err(Error::UnknownVersion { subject, found, known }),
            _ => Ok(decoder),
        }
    }

    /// The version that the bytes are of.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    pub(crate) fn invalid(&self, what: &'static str) -> Error {
        Error::Invalid { subject: self.subject, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(Error::Truncated { subject: self.subject })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) =
            self.rest.split_first().ok_or(Error::Truncated { subject: self.subject })?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && 1 < bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.invalid("a number above 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Error> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Error> {
        let value = self.unsigned()?;
        T::try_from(value).map_err(|_out_of_range| self.invalid("a number out of range"))
    }

    pub(crate) fn narrow_signed<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        let value = self.signed()?;
        T::try_from(value).map_err(|_out_of_range| self.invalid("a number out of range"))
    }

    /// A count of items that take at least `bytes_min` each: never more than the rest can hold.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Error> {
        let count: usize = self.narrow()?;
        if self.rest.len() / bytes_min.max(1) < count {
            return Err(Error::Truncated { subject: self.subject });
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.count(1)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_not_utf8| self.invalid("text that is not UTF-8"))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Error> {
        let bytes = self.take(16)?;
        Uuid::from_slice(bytes).map_err(|_length| self.invalid("an id of the wrong length"))
    }

    pub(crate) fn texts(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let mut map = BTreeMap::new();
        for _ in 0..self.count(2)? {
            let name = self.text()?;
            let value = self.text()?;
            if map.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(self.invalid("a name twice"));
            }
        }
        Ok(map)
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.invalid("bytes after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were() {
        for value in [0, 1, -1, 63, 64, -65, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut encoder = Encoder::new(1);
            encoder.signed(value);
            encoder.unsigned(value.cast_unsigned());
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes, 1, "a number").expect("version 1");
            assert_eq!(decoder.signed(), Ok(value));
            assert_eq!(decoder.unsigned(), Ok(value.cast_unsigned()));
            assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn a_count_above_what_is_left_is_refused_before_it_is_used() {
        let mut encoder = Encoder::new(1);
        encoder.unsigned(u64::from(u32::MAX));
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes, 1, "a list").expect("version 1");
        assert_eq!(decoder.count(1), Err(Error::Truncated { subject: "a list" }));
    }

    #[test]
    fn overlong_numbers_and_foreign_versions_are_refused() {
        let mut bytes = vec![1];
        bytes.extend([0xff; 9]);
        bytes.push(2);
        let mut decoder = Decoder::new(&bytes, 1, "a number").expect("version 1");
        assert!(matches!(decoder.unsigned(), Err(Error::Invalid { .. })));
        let newer = Decoder::new(&[9], 1, "a number").expect_err("9 is not known");
        assert_eq!(newer.to_string(), "a number has format version 9; this build reads up to 1");
    }
}
