//! Kafka's messages to bytes and back: pure, bounded, borrowing, without a copy of record data.
//!
//! A module per API holds its `Request`, its `Response` and their structs; all of them are
//! generated from `facts.txt` by `cargo xtask codegen`. A frame is read with a [`Reader`]:
//!
//! ```
//! use bytes::Bytes;
//! use rafka_kafka_wire::{ApiKey, Message, Reader, RequestHeader, api_versions};
//!
//! # fn main() -> Result<(), rafka_kafka_wire::DecodeError> {
//! // What follows the length: ApiVersions (18) in version 0, correlation id 7, client id "me".
//! let frame = Bytes::from_static(b"\0\x12\0\0\0\0\0\x07\0\x02me");
//! let mut reader = Reader::new(&frame);
//! let header = RequestHeader::decode(&mut reader)?;
//! assert_eq!((header.key, header.correlation_id), (ApiKey::ApiVersions, 7));
//! api_versions::Request::decode(header.version, &mut reader)?;
//! # Ok(())
//! # }
//! ```
//!
//! and written with a [`Writer`], which makes a [`Frame`]: pieces for a vectored write.
//!
//! # What a stranger's frame can do
//! Every length and count is checked against what is left of the frame before memory is taken for
//! it, and what a request holds takes at most eight times the size of its frame, and 64 KiB. Tagged
//! fields that are not known are skipped and not kept. Nothing nests deeper than the table says. No
//! input panics.

mod error;
mod frame;
mod header;
mod message;
mod reader;
mod records;
#[cfg(test)]
mod tests;
mod writer;

#[rustfmt::skip]
#[path = "gen/messages.rs"]
mod messages;

pub use error::{DecodeError, EncodeError, Problem};
pub use frame::Frame;
pub use header::{RequestHeader, ResponseHeader};
pub use message::Message;
pub use messages::*;
pub use reader::Reader;
pub use records::Records;
pub use writer::Writer;
