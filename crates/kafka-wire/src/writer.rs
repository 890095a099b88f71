//! Pure: writes the fields of a frame; record data stays where it is and is only pointed to.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{EncodeError, Frame, Message, Records};

/// Shorter pieces are copied: that is quicker than one more entry in a vectored write.
const SPLICE_BYTES_MIN: usize = 512;

/// The length of a frame takes this much in front of it.
const PREFIX_BYTES: usize = 4;

/// What most responses without records fit in.
const START_BYTES: usize = 256;

/// No length or count on the wire is above.
const LEN_MAX: usize = i32::MAX as usize;

/// Writes one frame: a header, then a message.
#[derive(Debug)]
pub struct Writer {
    /// Everything but what is spliced in.
    plain: BytesMut,
    /// Pieces with the position in `plain` that they stand before, in order.
    splices: Vec<(usize, Bytes)>,
    /// The bytes of all splices.
    spliced: usize,
    flexible: bool,
}

type Written = Result<(), EncodeError>;

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        let mut plain = BytesMut::with_capacity(START_BYTES);
        plain.put_bytes(0, PREFIX_BYTES);
        Self { plain, splices: Vec::new(), spliced: 0, flexible: false }
    }

    /// The frame, with its length in front.
    ///
    /// # Errors
    /// If it is longer than a frame can be.
    pub fn finish(mut self) -> Result<Frame, EncodeError> {
        let len = self.len() - PREFIX_BYTES;
        let too_long = EncodeError::TooLong { field: "frame", len };
        let prefix = i32::try_from(len).map_err(|_large| too_long)?.to_be_bytes();
        self.plain[..PREFIX_BYTES].copy_from_slice(&prefix);

        let plain = self.plain.freeze();
        let mut pieces = VecDeque::with_capacity(2 * self.splices.len() + 1);
        let mut from = 0;
        for (at, piece) in self.splices {
            if from < at {
                pieces.push_back(plain.slice(from..at));
                from = at;
            }
            pieces.push_back(piece);
        }
        if from < plain.len() {
            pieces.push_back(plain.slice(from..));
        }
        Ok(Frame::new(pieces))
    }

    /// The bytes so far.
    fn len(&self) -> usize {
        self.plain.len() + self.spliced
    }

    /// Turns to the body of a message.
    pub(crate) fn open<'a, M: Message<'a>>(&mut self, version: i16) -> Written {
        if !M::VERSIONS.contains(&version) {
            return Err(EncodeError::UnknownVersion { key: M::KEY, version });
        }
        self.flexible = M::KEY.flexible(version);
        Ok(())
    }

    /// Turns to a header; its texts are never compact.
    pub(crate) fn open_header(&mut self) {
        self.flexible = false;
    }

    /// Writes the tagged fields that end a flexible header: none.
    pub(crate) fn end_header(&mut self, flexible: bool) {
        self.flexible = flexible;
        self.tags(0);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.plain.put_u8(u8::from(value));
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.plain.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.plain.put_i16(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.plain.put_u16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.plain.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.plain.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.plain.put_slice(value.as_bytes());
    }

    fn varint(&mut self, value: u32) {
        let (bytes, len) = varint(value);
        self.plain.put_slice(&bytes[..len]);
    }

    /// The length of a compact field, stated one too large.
    fn compact_len(&mut self, len: usize, field: &'static str) -> Written {
        let too_long = EncodeError::TooLong { field, len };
        let stated = u32::try_from(len.min(LEN_MAX + 1)).map_err(|_large| too_long)?;
        if LEN_MAX < len {
            return Err(too_long);
        }
        self.varint(stated + 1);
        Ok(())
    }

    fn string_len(&mut self, len: usize, field: &'static str) -> Written {
        let stated = i16::try_from(len).map_err(|_large| EncodeError::TooLong { field, len })?;
        if self.flexible {
            return self.compact_len(len, field);
        }
        self.plain.put_i16(stated);
        Ok(())
    }

    /// The length of bytes, or the count of an array.
    fn bytes_len(&mut self, len: usize, field: &'static str) -> Written {
        if self.flexible {
            return self.compact_len(len, field);
        }
        let stated = i32::try_from(len).map_err(|_large| EncodeError::TooLong { field, len })?;
        self.plain.put_i32(stated);
        Ok(())
    }

    /// Null in place of bytes or an array.
    fn null(&mut self) {
        if self.flexible {
            self.varint(0);
        } else {
            self.plain.put_i32(-1);
        }
    }

    pub(crate) fn string(&mut self, text: &str, field: &'static str) -> Written {
        self.string_len(text.len(), field)?;
        self.plain.put_slice(text.as_bytes());
        Ok(())
    }

    pub(crate) fn nullable_string(&mut self, text: Option<&str>, field: &'static str) -> Written {
        match text {
            Some(text) => self.string(text, field),
            None if self.flexible => {
                self.varint(0);
                Ok(())
            }
            None => {
                self.plain.put_i16(-1);
                Ok(())
            }
        }
    }

    fn splice(&mut self, piece: &Bytes) {
        if piece.len() < SPLICE_BYTES_MIN {
            self.plain.put_slice(piece);
        } else {
            self.spliced += piece.len();
            self.splices.push((self.plain.len(), piece.clone()));
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &Bytes, field: &'static str) -> Written {
        self.bytes_len(bytes.len(), field)?;
        self.splice(bytes);
        Ok(())
    }

    fn records(&mut self, records: &Records, field: &'static str) -> Written {
        self.bytes_len(records.len(), field)?;
        for piece in records.pieces() {
            self.splice(piece);
        }
        Ok(())
    }

    pub(crate) fn nullable_records(
        &mut self,
        records: Option<&Records>,
        field: &'static str,
    ) -> Written {
        match records {
            Some(records) => self.records(records, field),
            None => {
                self.null();
                Ok(())
            }
        }
    }

    /// A struct behind the byte that says whether it is there.
    pub(crate) fn nullable<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> Written,
    ) -> Written {
        match value {
            Some(value) => {
                self.i8(1);
                write(self, value)
            }
            None => {
                self.i8(-1);
                Ok(())
            }
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        list: &[T],
        field: &'static str,
        mut element: impl FnMut(&mut Self, &T) -> Written,
    ) -> Written {
        self.bytes_len(list.len(), field)?;
        list.iter().try_for_each(|value| element(self, value))
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        list: Option<&[T]>,
        field: &'static str,
        element: impl FnMut(&mut Self, &T) -> Written,
    ) -> Written {
        match list {
            Some(list) => self.array(list, field, element),
            None => {
                self.null();
                Ok(())
            }
        }
    }

    /// How many tagged fields follow; plain versions have no place for them.
    pub(crate) fn tags(&mut self, count: u32) {
        if self.flexible {
            self.varint(count);
        }
    }

    /// A tagged field. Its length is known only when it is written, and is then put before it.
    pub(crate) fn tag(&mut self, tag: u32, value: impl FnOnce(&mut Self) -> Written) -> Written {
        self.varint(tag);
        let (start, before) = (self.plain.len(), self.len());
        let first_splice = self.splices.len();
        value(self)?;
        let len = self.len() - before;
        let stated = u32::try_from(len)
            .map_err(|_large| EncodeError::TooLong { field: "tagged field", len })?;
        let (bytes, shift) = varint(stated);
        self.plain.put_slice(&bytes[..shift]);
        self.plain[start..].rotate_right(shift);
        for (at, _) in &mut self.splices[first_splice..] {
            *at += shift;
        }
        Ok(())
    }
}

/// A number, seven bits in each byte, the low ones first: the bytes, and how many they are.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    for byte in &mut bytes {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        len += 1;
        if value == 0 {
            *byte = low;
            break;
        }
        *byte = low | 0x80;
    }
    (bytes, len)
}

/// Complains about a value that the version has no field for.
pub(crate) fn absent(differs: bool, field: &'static str, version: i16) -> Written {
    if differs { Err(EncodeError::Absent { field, version }) } else { Ok(()) }
}

/// Complains about null where the version does not allow it.
pub(crate) fn required<'v, T>(
    value: &'v Option<T>,
    field: &'static str,
    version: i16,
) -> Result<&'v T, EncodeError> {
    value.as_ref().ok_or(EncodeError::Null { field, version })
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;

    #[test]
    fn numbers_of_variable_length_have_as_few_bytes_as_they_need() {
        let check = |value: u32, expected: &[u8]| {
            let (bytes, len) = varint(value);
            assert_eq!(&bytes[..len], expected);
        };
        check(0, &[0]);
        check(0x7f, &[0x7f]);
        check(0x80, &[0x80, 1]);
        check(u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn a_tagged_field_may_hold_what_is_spliced_in() {
        for len in [10, SPLICE_BYTES_MIN, 20_000] {
            let blob = Bytes::from(vec![5; len]);
            let mut out = Writer::new();
            out.flexible = true;
            out.bytes(&blob, "before").expect("short");
            out.tag(3, |out| {
                out.i8(9);
                out.bytes(&blob, "within")
            })
            .expect("short");
            out.i8(8);

            let (prefix, prefix_len) = varint(u32::try_from(len + 1).expect("short"));
            let field = [&prefix[..prefix_len], &blob].concat();
            let (size, size_len) = varint(u32::try_from(1 + field.len()).expect("short"));
            let tagged = [&[3], &size[..size_len], &[9], &field[..]].concat();
            let expected = [&field[..], &tagged, &[8]].concat();
            let mut frame = out.finish().expect("short");
            assert_eq!(usize::try_from(frame.get_i32()), Ok(expected.len()));
            assert_eq!(frame.copy_to_bytes(frame.remaining()), expected);
        }
    }

    #[test]
    fn a_text_longer_than_its_length_can_say_is_refused() {
        let (longest, text) = ("x".repeat(32_767), "x".repeat(32_768));
        let error = EncodeError::TooLong { field: "name", len: 32_768 };
        for flexible in [false, true] {
            let mut out = Writer::new();
            out.flexible = flexible;
            assert_eq!(out.string(&text, "name"), Err(error));
            assert_eq!(out.string(&longest, "name"), Ok(()));
        }
    }
}
