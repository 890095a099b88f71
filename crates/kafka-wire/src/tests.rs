//! The promises of the codec: each version of each message, both ways, and what hostile frames get.

#[path = "../../../xtask/src/codegen/kafka/facts.rs"]
mod facts;
mod fuzz;
mod hostile;
mod pieces;
mod random;
mod table;
mod versions;

use std::fmt::Debug;

use bytes::{Buf as _, Bytes};

use crate::{EncodeError, Message, Writer};

/// The bytes of a message, without header and length.
fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    message.encode(version, &mut out)?;
    let mut frame = out.finish()?;
    let len = frame.get_i32();
    assert_eq!(usize::try_from(len), Ok(frame.remaining()), "the length that stands in front");
    Ok(frame.copy_to_bytes(frame.remaining()))
}

/// What went wrong, as a text that a test can show.
fn say(error: impl Debug) -> String {
    format!("{error:?}")
}
