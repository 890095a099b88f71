//! Fetch messages as the bytes of a response's body: large batches pass through without a copy.
//!
//! An encoder of tonic writes into one buffer that it owns. Megabytes of records a message would be
//! copied into it, after they were joined for the message, only to be copied to the socket.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use prost::Message as _;
use rafka_core::Batch;
use rafka_core::batch::HEADER_LEN;
use rafka_proto::v1::FetchedPartition;
use tokio_stream::Stream;
use tonic::{Code, Status};

/// What gRPC puts before a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// The key of `FetchResponse.partitions`: field 1, with a length.
const PARTITIONS: u8 = 1 << 3 | 2;

/// The key of `FetchedPartition.batches`: field 4, with a length.
const BATCHES: u8 = 4 << 3 | 2;

/// Records of this size are passed on as they are. Below HTTP/2's usual frame size, a frame of their
/// own costs more than a copy.
const PASSED_FROM: usize = 16 << 10;

/// News of one partition.
#[derive(Debug)]
pub(super) struct Part {
    /// Everything but the raw batches.
    pub(super) about: FetchedPartition,
    /// The raw batches.
    pub(super) batches: Vec<Batch>,
}

impl From<FetchedPartition> for Part {
    fn from(about: FetchedPartition) -> Self {
        Self { about, batches: Vec::new() }
    }
}

impl Part {
    fn batches_len(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    fn len(&self) -> usize {
        let batches = match self.batches_len() {
            0 => 0,
            len => 1 + prost::length_delimiter_len(len) + len,
        };
        self.about.encoded_len() + batches
    }
}

/// One message of a fetch stream.
pub(super) type Message = Vec<Part>;

/// A message with its prefix, in pieces.
fn pieces(message: &[Part]) -> VecDeque<Bytes> {
    let len: usize =
        message.iter().map(Part::len).map(|len| 1 + prost::length_delimiter_len(len) + len).sum();
    let mut pieces = Pieces::new(PREFIX_LEN + len - passed_len(message));
    pieces.open.put_u8(0);
    pieces.open.put_u32(u32::try_from(len).expect("a message is bounded far below 4 GiB"));
    for part in message {
        pieces.delimit(PARTITIONS, part.len());
        part.about.encode_raw(&mut pieces.open);
        if !part.batches.is_empty() {
            pieces.delimit(BATCHES, part.batches_len());
        }
        for batch in &part.batches {
            pieces.put(batch);
        }
    }
    pieces.close();
    pieces.closed
}

fn passed_len(message: &[Part]) -> usize {
    let batches = message.iter().flat_map(|part| &part.batches);
    batches.filter(|batch| is_passed(batch)).map(|batch| batch.len() - HEADER_LEN).sum()
}

fn is_passed(batch: &Batch) -> bool {
    PASSED_FROM <= batch.records.len()
}

/// The pieces of a message, and the one that is being written.
struct Pieces {
    closed: VecDeque<Bytes>,
    open: BytesMut,
}

impl Pieces {
    /// `copied` is what all pieces together take that are not passed on.
    fn new(copied: usize) -> Self {
        Self { closed: VecDeque::new(), open: BytesMut::with_capacity(copied) }
    }

    fn delimit(&mut self, key: u8, len: usize) {
        self.open.put_u8(key);
        prost::encode_length_delimiter(len, &mut self.open).expect("the buffer grows");
    }

    fn put(&mut self, batch: &Batch) {
        if is_passed(batch) {
            self.open.put_slice(&batch.header_bytes());
            self.close();
            self.closed.push_back(batch.records.clone());
        } else {
            batch.put(&mut self.open);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(self.open.split().freeze());
        }
    }
}

/// The body of a fetch stream's response.
pub(super) struct Body<S> {
    messages: Pin<Box<S>>,
    pieces: VecDeque<Bytes>,
    is_over: bool,
}

impl<S> Body<S> {
    pub(super) fn new(messages: S) -> Self {
        Self { messages: Box::pin(messages), pieces: VecDeque::new(), is_over: false }
    }
}

impl<S: Stream<Item = Result<Message, Status>>> http_body::Body for Body<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let status = match ready!(self.messages.as_mut().poll_next(cx)) {
                Some(Ok(message)) => {
                    self.pieces = pieces(&message);
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::new(Code::Ok, ""),
            };
            self.is_over = true;
            let mut trailers = HeaderMap::new();
            let written = status.add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use rafka_core::batch::BatchBuilder;
    use rafka_core::compression::Compression;
    use rafka_core::{Offset, Timestamp};
    use rafka_proto::v1::FetchResponse;

    use super::*;

    fn batch(base: i64, len: usize) -> Batch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(7), None, Some(&vec![1; len]), &[]);
        let mut batch = builder.build().expect("the codecs work");
        batch.header.base_offset = Offset(base);
        batch
    }

    fn part(partition: i32, batches: Vec<Batch>) -> Part {
        let about = FetchedPartition {
            topic: "orders".to_owned(),
            partition,
            next_offset: i64::MAX,
            high_watermark: -1,
            ..FetchedPartition::default()
        };
        Part { about, batches }
    }

    fn joined(parts: &[Part]) -> FetchResponse {
        let whole = |part: &Part| {
            let batches: Vec<u8> =
                part.batches.iter().flat_map(|batch| batch.to_bytes().to_vec()).collect();
            FetchedPartition { batches: batches.into(), ..part.about.clone() }
        };
        FetchResponse { partitions: parts.iter().map(whole).collect() }
    }

    #[test]
    fn the_pieces_together_are_the_message() {
        let check = |parts: Vec<Part>, piece_count: usize| {
            let pieces = pieces(&parts);
            assert_eq!(pieces.len(), piece_count, "{parts:?}");
            let bytes = pieces.iter().flatten().copied().collect::<Bytes>();
            let (prefix, message) = bytes.split_at(PREFIX_LEN);
            let len = u32::try_from(message.len()).expect("small").to_be_bytes();
            assert_eq!(prefix, [&[0], &len[..]].concat());
            assert_eq!(FetchResponse::decode(message), Ok(joined(&parts)));
        };
        let large = PASSED_FROM;
        check(vec![], 1);
        check(vec![part(0, vec![])], 1);
        check(vec![part(0, vec![batch(0, 5)]), part(3, vec![]), part(1, vec![batch(9, 300)])], 1);
        check(vec![part(0, vec![batch(0, large)])], 2);
        check(vec![part(0, vec![batch(0, 5), batch(1, large), batch(2, large), batch(3, 5)])], 5);
        check(vec![part(0, vec![batch(0, large)]), part(1, vec![batch(7, large), batch(8, 1)])], 5);
    }

    #[test]
    fn records_of_a_large_batch_are_not_copied() {
        let batch = batch(0, PASSED_FROM);
        let pieces = pieces(&[part(0, vec![batch.clone()])]);
        assert_eq!(pieces[1].as_ptr(), batch.records.as_ptr());
    }

    #[test]
    fn what_is_copied_is_written_into_memory_of_the_right_size() {
        let message = [part(0, vec![batch(0, 5), batch(1, PASSED_FROM)]), part(1, vec![])];
        let pieces = pieces(&message);
        let copied: usize = [&pieces[0], &pieces[2]].map(Bytes::len).iter().sum();
        let whole: usize = pieces.iter().map(Bytes::len).sum();
        assert_eq!(copied, whole - passed_len(&message));
        assert_eq!(pieces[0].as_ptr().wrapping_add(pieces[0].len()), pieces[2].as_ptr());
    }

    #[test]
    fn the_body_ends_with_the_status_of_its_stream() {
        let check = |last: Option<Status>, code: &str| {
            let messages = [Ok(vec![part(0, vec![])])].into_iter().chain(last.map(Err));
            let mut body = Body::new(tokio_stream::iter(messages));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut next = || Pin::new(&mut body).poll_frame(&mut cx);
            assert!(matches!(next(), Poll::Ready(Some(Ok(frame))) if frame.is_data()));
            let Poll::Ready(Some(Ok(end))) = next() else { panic!("there is a status") };
            let trailers = end.into_trailers().expect("nothing else is left");
            assert_eq!(trailers["grpc-status"], code);
            assert!(matches!(next(), Poll::Ready(None)));
            assert!(body.is_end_stream());
        };
        check(None, "0");
        check(Some(Status::unavailable("stopping")), "14");
    }
}
