//! Frames that lie about what follows.

use bytes::Bytes;

use crate::{Message as _, Problem, Reader, metadata};

/// What is wrong with the body of a Metadata request.
fn problem(version: i16, body: &[u8]) -> Problem {
    let frame = Bytes::copy_from_slice(body);
    let error = metadata::Request::decode(version, &mut Reader::new(&frame));
    error.expect_err("the frame lies").problem
}

#[test]
fn a_count_beyond_the_frame_takes_no_memory() {
    let bomb = [0x7f, 0xff, 0xff, 0xff, 0];
    assert_eq!(problem(7, &bomb), Problem::Count { count: 0x7fff_ffff, left: 1 });
}
