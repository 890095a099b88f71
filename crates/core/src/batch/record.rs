//! Pure: the records inside a batch, read one after the other without trusting a length.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use bytes::Bytes;

use super::{Error, Header, TimestampType, varint};
use crate::{Offset, Timestamp};

/// One record, its parts sharing the memory of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// Its own timestamp, or the batch's under LogAppendTime.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in order. A name may repeat, a value may be absent.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where a record's parts lie, before anything is copied or allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView {
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// Where the key lies in the inflated bytes.
    pub key: Option<Range<usize>>,
    /// Where the value lies in the inflated bytes.
    pub value: Option<Range<usize>>,
    headers: Range<usize>,
    header_count: usize,
}

impl RecordView {
    /// Whether there are headers, which only [`Records::check_headers`] looks at.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        0 < self.header_count
    }
}

/// An iterator over the records of a batch. It ends after the first error.
#[derive(Debug, Clone)]
pub struct Records {
    bytes: Bytes,
    position: usize,
    index: usize,
    count: usize,
    base_offset: Offset,
    last_offset_delta: i32,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
    offset_delta_last: i32,
}

impl Records {
    pub(super) fn new(header: &Header, bytes: Bytes) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            bytes,
            position: 0,
            index: 0,
            count: usize::try_from(header.record_count).unwrap_or(0),
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            append_time,
            offset_delta_last: -1,
        }
    }

    /// The inflated bytes that the views' ranges point into.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The next record without allocating for it. `None` after the last one or an error.
    #[inline]
    pub fn next_view(&mut self) -> Option<Result<RecordView, Error>> {
        if self.index == self.count {
            if self.position == self.bytes.len() {
                return None;
            }
            self.position = self.bytes.len();
            return Some(Err(self.broken("bytes follow the last record")));
        }
        let parsed = self.parse_view();
        match parsed {
            Ok(_) => self.index += 1,
            Err(_) => {
                self.index = self.count;
                self.position = self.bytes.len();
            }
        }
        Some(parsed)
    }

    /// Copies the parts of a view out as slices of the batch's memory.
    ///
    /// # Errors
    /// If a header of the record is malformed.
    pub fn record(&self, view: RecordView) -> Result<Record, Error> {
        let headers = self.headers(&view)?;
        Ok(Record {
            offset: self.base_offset + i64::from(view.offset_delta),
            timestamp: view.timestamp,
            key: view.key.map(|range| self.bytes.slice(range)),
            value: view.value.map(|range| self.bytes.slice(range)),
            headers,
        })
    }

    fn headers(&self, view: &RecordView) -> Result<Vec<(Bytes, Option<Bytes>)>, Error> {
        // Each header takes two bytes at least, so the count is bounded by what is there.
        let mut headers = Vec::with_capacity(view.header_count.min(view.headers.len() / 2));
        self.walk_headers(view, |name, value| {
            headers.push((self.bytes.slice(name), value.map(|range| self.bytes.slice(range))));
        })?;
        Ok(headers)
    }

    /// Whether the headers of a view are sound. Allocates nothing.
    ///
    /// # Errors
    /// If one is cut off or its name is not UTF-8.
    pub fn check_headers(&self, view: &RecordView) -> Result<(), Error> {
        self.walk_headers(view, |_, _| {})
    }

    fn walk_headers(
        &self,
        view: &RecordView,
        mut visit: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) -> Result<(), Error> {
        let mut cursor = self.cursor(view.headers.clone());
        for _ in 0..view.header_count {
            let name = cursor.field().ok_or_else(|| self.broken("a header is cut off"))?;
            let name = name.ok_or_else(|| self.broken("a header has no name"))?;
            let value = cursor.field().ok_or_else(|| self.broken("a header is cut off"))?;
            if self.bytes.get(name.clone()).is_none_or(|name| str::from_utf8(name).is_err()) {
                return Err(self.broken("a header's name is not UTF-8"));
            }
            visit(name, value);
        }
        if cursor.rest.is_empty() {
            Ok(())
        } else {
            Err(self.broken("bytes follow the last header"))
        }
    }

    #[inline]
    fn parse_view(&mut self) -> Result<RecordView, Error> {
        let cut = || self.broken("it is cut off");
        let mut frame = self.cursor(self.position..self.bytes.len());
        let length = varint::take_i32(&mut frame.rest).ok_or_else(cut)?;
        let start = frame.position();
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end <= self.bytes.len())
            .ok_or_else(|| self.broken("its length goes beyond the batch"))?;
        let mut cursor = self.cursor(start..end);
        let (_attributes, rest) = cursor.rest.split_first().ok_or_else(cut)?;
        cursor.rest = rest;
        let timestamp_delta = varint::take_i64(&mut cursor.rest).ok_or_else(cut)?;
        let offset_delta = varint::take_i32(&mut cursor.rest).ok_or_else(cut)?;
        let key = cursor.field().ok_or_else(cut)?;
        let value = cursor.field().ok_or_else(cut)?;
        let header_count = varint::take_i32(&mut cursor.rest).ok_or_else(cut)?;
        let headers = cursor.position()..end;
        let header_count = usize::try_from(header_count)
            .ok()
            .filter(|count| *count <= headers.len() / 2)
            .ok_or_else(|| self.broken("its header count goes beyond the record"))?;
        if header_count == 0 && !headers.is_empty() {
            return Err(self.broken("bytes follow its last field"));
        }
        if offset_delta <= self.offset_delta_last || self.last_offset_delta < offset_delta {
            return Err(self.broken("its offset delta is out of order"));
        }
        let timestamp = match self.append_time {
            Some(append_time) => append_time,
            None => Timestamp(self.base_timestamp.0.saturating_add(timestamp_delta)),
        };
        self.offset_delta_last = offset_delta;
        self.position = end;
        Ok(RecordView { offset_delta, timestamp, key, value, headers, header_count })
    }

    fn cursor(&self, range: Range<usize>) -> Cursor<'_> {
        let end = range.end;
        Cursor { rest: self.bytes.get(range).unwrap_or_default(), end }
    }

    #[cold]
    fn broken(&self, rule: &'static str) -> Error {
        Error::Record { index: self.index, rule }
    }
}

impl Iterator for Records {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = self.next_view()?;
        Some(view.and_then(|view| self.record(view)))
    }
}

/// What is left of a part of the bytes, and where that part ends in the whole.
struct Cursor<'a> {
    rest: &'a [u8],
    end: usize,
}

impl Cursor<'_> {
    fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Takes a length and that many bytes: `Some(None)` for the null field, `None` if cut off.
    #[inline]
    fn field(&mut self) -> Option<Option<Range<usize>>> {
        let length = varint::take_i32(&mut self.rest)?;
        let Ok(length) = usize::try_from(length) else {
            return (length == -1).then_some(None);
        };
        let start = self.position();
        self.rest = self.rest.get(length..)?;
        Some(Some(start..start + length))
    }
}
