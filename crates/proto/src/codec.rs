//! The codec of all calls: protobuf, with a bound on how many parts a produce request may have.
//!
//! An empty record takes two bytes on the wire and more than a hundred in memory. Without a bound, a
//! message of 16 MiB could grow to more than a gigabyte while it is decoded.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::v1::ProduceRequest;

/// Entries, records and headers of one produce request, together. 8 MiB when decoded.
pub const PRODUCE_PARTS_MAX: usize = 1 << 16;

/// The fields that lead from a produce request to its entries, their records, and their headers.
const PRODUCE_PATH: &[u64] = &[4, 5, 1, 3];

/// Protobuf messages, encoded as `T` and decoded as `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        let is_produce = TypeId::of::<U>() == TypeId::of::<ProduceRequest>();
        BoundedDecoder { inner: ProstCodec::<T, U>::default().decoder(), is_produce }
    }
}

/// Decodes messages; a produce request only if it does not have too many parts.
#[derive(Debug)]
pub struct BoundedDecoder<U> {
    inner: ProstDecoder<U>,
    is_produce: bool,
}

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The buffer lies in one piece.
        if self.is_produce && PRODUCE_PARTS_MAX < parts(from.chunk(), PRODUCE_PATH) {
            return Err(Status::invalid_argument(format!(
                "the request has more than {PRODUCE_PARTS_MAX} entries, records and headers: send \
                 it in several"
            )));
        }
        self.inner.decode(from)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}

/// How many messages lie on the path of field numbers, at all its levels. What is malformed ends
/// the count: decoding then fails by itself.
fn parts(mut bytes: &[u8], path: &[u64]) -> usize {
    let mut count = 0;
    while let Some((field, content)) = next_field(&mut bytes) {
        match path {
            [wanted, rest @ ..] if field == *wanted => count += 1 + parts(content, rest),
            _ => {}
        }
    }
    count
}

/// Takes a field off the front: its number, and its content if that has a length.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let key = varint(bytes)?;
    let len = match key & 7 {
        0 => {
            varint(bytes)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some((key >> 3, content))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::v1::produce_partition::Data;
    use crate::v1::{Header, ProducePartition, Record, Records};

    fn request(entries: usize, records: usize, headers: usize) -> ProduceRequest {
        let header = Header { name: "n".to_owned(), value: Some(Bytes::from_static(b"\x22\x00")) };
        let record = Record { headers: vec![header; headers], ..Record::default() };
        let data = Data::Records(Records { records: vec![record; records], compression: 1 });
        let entry = ProducePartition { partition: 3, data: Some(data), ..Default::default() };
        let timeout_ms = 1_000_000;
        ProduceRequest { partitions: vec![entry; entries], timeout_ms, ..Default::default() }
    }

    #[test]
    fn entries_records_and_headers_are_counted() {
        let check = |entries, records, headers, expected| {
            let bytes = request(entries, records, headers).encode_to_vec();
            assert_eq!(parts(&bytes, PRODUCE_PATH), expected, "{entries} {records} {headers}");
        };
        // The message that holds an entry's records counts as well.
        check(0, 0, 0, 0);
        check(1, 0, 0, 2);
        check(2, 3, 0, 2 + 2 + 6);
        check(2, 3, 4, 2 + 2 + 6 + 24);
    }

    #[test]
    fn raw_batches_are_not_looked_into() {
        let bytes = request(3, 5, 1).encode_to_vec();
        let entry =
            ProducePartition { data: Some(Data::Batches(bytes.into())), ..Default::default() };
        let request = ProduceRequest { partitions: vec![entry], ..Default::default() };
        assert_eq!(parts(&request.encode_to_vec(), PRODUCE_PATH), 1);
    }

    #[test]
    fn the_count_ends_where_bytes_are_malformed() {
        let bytes = request(2, 3, 4).encode_to_vec();
        let whole = parts(&bytes, PRODUCE_PATH);
        for len in 0..bytes.len() {
            assert!(parts(&bytes[..len], PRODUCE_PATH) < whole, "{len} bytes");
        }
        let unending = [0xff; 32];
        assert_eq!(parts(&unending, PRODUCE_PATH), 0);
        let beyond_the_end = [0x22, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(parts(&beyond_the_end, PRODUCE_PATH), 0);
    }
}
