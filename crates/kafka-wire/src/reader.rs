//! Pure: reads the fields of a frame, and believes no length before it is checked.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::str;

use bytes::Bytes;
use uuid::Uuid;

use crate::{ApiKey, DecodeError, Message, Problem, Records};

/// Reads a frame: what follows the four bytes of its length.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    /// Never beyond the frame, never before `at`.
    end: usize,
    flexible: bool,
    /// Whether bytes may follow the end of the message.
    is_tolerant: bool,
    /// The memory that arrays may still take.
    memory: usize,
}

/// Arrays may take this much memory for each byte of their frame. An empty text of one byte takes
/// 24 in a list, so that a frame of nothing else would be the means of a flood; what clients send
/// stays below 7: names are longer, and partitions that are spelled out take more bytes.
const GROWTH_MAX: usize = 8;

/// And this much for any frame: short ones may hold short names.
const ARRAYS_BYTES_MIN: usize = 64 * 1024;

/// The fewest bytes that an element of an array takes, in plain and in flexible versions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesMin {
    pub(crate) plain: usize,
    pub(crate) compact: usize,
}

impl BytesMin {
    pub(crate) const I8: Self = Self::fixed(1);
    pub(crate) const I32: Self = Self::fixed(4);
    pub(crate) const I64: Self = Self::fixed(8);
    pub(crate) const STRING: Self = Self { plain: 2, compact: 1 };

    const fn fixed(size: usize) -> Self {
        Self { plain: size, compact: size }
    }
}

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    /// A reader at the start of a frame.
    #[must_use]
    pub fn new(frame: &'a Bytes) -> Self {
        let memory = frame.len().saturating_mul(GROWTH_MAX).saturating_add(ARRAYS_BYTES_MIN);
        Self { frame, at: 0, end: frame.len(), flexible: false, is_tolerant: false, memory }
    }

    /// Passes over what follows the end of the message, as Kafka does: some clients send a few bytes
    /// too many, librdkafka among them when it asks for all topics.
    #[must_use]
    pub fn tolerant(self) -> Self {
        Self { is_tolerant: true, ..self }
    }

    /// The bytes that are not read yet.
    fn left(&self) -> usize {
        self.end - self.at
    }

    /// Checks that nothing is left, unless that is passed over.
    pub(crate) fn finish(&self) -> Read<()> {
        match self.left() {
            0 => Ok(()),
            _ if self.is_tolerant => Ok(()),
            left => Err(self.error("the end", Problem::Trailing(left))),
        }
    }

    /// Turns to the body of a message.
    pub(crate) fn open<M: Message<'a>>(&mut self, version: i16) -> Read<()> {
        if !M::VERSIONS.contains(&version) {
            return Err(self.error(M::KEY.name(), Problem::UnknownVersion(version)));
        }
        self.flexible = M::KEY.flexible(version);
        Ok(())
    }

    /// Turns to a header; its texts are never compact.
    pub(crate) fn open_header(&mut self) {
        self.flexible = false;
    }

    /// Turns to the tagged fields that end a flexible header.
    pub(crate) fn end_header(&mut self, flexible: bool) -> Read<()> {
        self.flexible = flexible;
        self.skip_tags("header")
    }

    pub(crate) fn error(&self, field: &'static str, problem: Problem) -> DecodeError {
        DecodeError { field, at: self.at, problem }
    }

    fn take(&mut self, len: usize, field: &'static str) -> Read<&'a [u8]> {
        let left = self.left();
        let truncated = Problem::Truncated { needed: len, left };
        if left < len {
            return Err(self.error(field, truncated));
        }
        let end = self.at + len;
        let taken = self.frame.get(self.at..end).ok_or_else(|| self.error(field, truncated))?;
        self.at = end;
        Ok(taken)
    }

    fn array_of<const LEN: usize>(&mut self, field: &'static str) -> Read<[u8; LEN]> {
        let mut array = [0; LEN];
        array.copy_from_slice(self.take(LEN, field)?);
        Ok(array)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Read<bool> {
        Ok(self.i8(field)? != 0)
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Read<i8> {
        Ok(i8::from_be_bytes(self.array_of(field)?))
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Read<i16> {
        Ok(i16::from_be_bytes(self.array_of(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array_of(field)?))
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Read<i32> {
        Ok(i32::from_be_bytes(self.array_of(field)?))
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Read<i64> {
        Ok(i64::from_be_bytes(self.array_of(field)?))
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Read<Uuid> {
        Ok(Uuid::from_bytes(self.array_of(field)?))
    }

    /// A number of at most 32 bits, seven in each byte, the low ones first.
    fn varint(&mut self, field: &'static str) -> Read<u32> {
        let start = self.at;
        let endless = DecodeError { field, at: start, problem: Problem::Endless };
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of(field)?;
            if shift == 28 && 0x0f < byte {
                return Err(endless);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(endless)
    }

    /// The length of a compact field, which is stated one too large; 0 stands for null.
    fn compact_len(&mut self, field: &'static str) -> Read<Option<usize>> {
        match self.varint(field)? {
            0 => Ok(None),
            stated => Ok(usize::try_from(stated - 1).ok()),
        }
    }

    /// A length as a number with a sign; -1 stands for null.
    fn signed_len(&self, field: &'static str, stated: i32) -> Read<Option<usize>> {
        match usize::try_from(stated) {
            Ok(len) => Ok(Some(len)),
            Err(_) if stated == -1 => Ok(None),
            Err(_) => Err(self.error(field, Problem::Negative(stated))),
        }
    }

    fn string_len(&mut self, field: &'static str) -> Read<Option<usize>> {
        if self.flexible {
            return self.compact_len(field);
        }
        let stated = self.i16(field)?;
        self.signed_len(field, i32::from(stated))
    }

    /// The length of bytes, or the count of an array.
    fn bytes_len(&mut self, field: &'static str) -> Read<Option<usize>> {
        if self.flexible {
            return self.compact_len(field);
        }
        let stated = self.i32(field)?;
        self.signed_len(field, stated)
    }

    fn required<T>(&self, value: Option<T>, field: &'static str) -> Read<T> {
        value.ok_or_else(|| self.error(field, Problem::Null))
    }

    pub(crate) fn nullable_string(&mut self, field: &'static str) -> Read<Option<Cow<'a, str>>> {
        let Some(len) = self.string_len(field)? else { return Ok(None) };
        let start = self.at;
        let text = str::from_utf8(self.take(len, field)?).map_err(|_invalid| DecodeError {
            field,
            at: start,
            problem: Problem::NotUtf8,
        })?;
        Ok(Some(Cow::Borrowed(text)))
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Read<Cow<'a, str>> {
        let text = self.nullable_string(field)?;
        self.required(text, field)
    }

    fn nullable_bytes(&mut self, field: &'static str) -> Read<Option<Bytes>> {
        let Some(len) = self.bytes_len(field)? else { return Ok(None) };
        let start = self.at;
        self.take(len, field)?;
        Ok(Some(self.frame.slice(start..self.at)))
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Read<Bytes> {
        let bytes = self.nullable_bytes(field)?;
        self.required(bytes, field)
    }

    pub(crate) fn nullable_records(&mut self, field: &'static str) -> Read<Option<Records>> {
        Ok(self.nullable_bytes(field)?.map(Records::from))
    }

    /// A struct behind the byte that says whether it is there.
    pub(crate) fn nullable<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        if self.i8(field)? < 0 {
            return Ok(None);
        }
        read(self).map(Some)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        min: BytesMin,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Option<Vec<T>>> {
        let Some(count) = self.bytes_len(field)? else { return Ok(None) };
        self.check_count(count, if self.flexible { min.compact } else { min.plain }, field)?;
        self.memory = count
            .checked_mul(size_of::<T>())
            .and_then(|taken| self.memory.checked_sub(taken))
            .ok_or_else(|| self.error(field, Problem::Memory { count }))?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    pub(crate) fn array<T>(
        &mut self,
        min: BytesMin,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        let list = self.nullable_array(min, field, element)?;
        self.required(list, field)
    }

    /// What makes it safe to take memory for `count` elements.
    fn check_count(&self, count: usize, min: usize, field: &'static str) -> Read<()> {
        let left = self.left();
        if left / min < count {
            return Err(self.error(field, Problem::Count { count, left }));
        }
        Ok(())
    }

    /// How many tagged fields follow; none do in plain versions.
    pub(crate) fn tags(&mut self, field: &'static str) -> Read<usize> {
        if !self.flexible {
            return Ok(0);
        }
        let stated = self.varint(field)?;
        let count = usize::try_from(stated).unwrap_or(usize::MAX);
        // A tag and a length: two bytes at least.
        self.check_count(count, 2, field)?;
        Ok(count)
    }

    /// A tagged field: its tag, and a reader of its value, which has memory of its own by its length.
    pub(crate) fn tag(&mut self, field: &'static str) -> Read<(u32, Self)> {
        let tag = self.varint(field)?;
        let stated = self.varint(field)?;
        let start = self.at;
        self.take(usize::try_from(stated).unwrap_or(usize::MAX), field)?;
        let len = self.at - start;
        let memory = len.saturating_mul(GROWTH_MAX);
        let value = Self { at: start, end: self.at, memory, ..*self };
        Ok((tag, value))
    }

    pub(crate) fn skip_tags(&mut self, field: &'static str) -> Read<()> {
        for _ in 0..self.tags(field)? {
            self.tag(field)?;
        }
        Ok(())
    }
}

impl ApiKey {
    /// Reads the code of a key.
    pub(crate) fn read(input: &mut Reader<'_>) -> Read<Self> {
        let before = input.at;
        let code = input.i16("api_key")?;
        let unknown =
            DecodeError { field: "api_key", at: before, problem: Problem::UnknownKey(code) };
        Self::from_code(code).ok_or(unknown)
    }
}
