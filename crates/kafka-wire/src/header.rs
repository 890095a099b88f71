//! Pure: what stands before a request and before a response.

use std::borrow::Cow;

use crate::{ApiKey, DecodeError, EncodeError, Reader, Writer};

/// What a request begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// What is asked.
    pub key: ApiKey,
    /// The version of the request, and of the response that is expected. Any number.
    pub version: i16,
    /// The response has to bear the same number.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// Reads a header; the request follows in `input`.
    ///
    /// # Errors
    /// If the bytes are not a header, or its key is of no API that this crate knows: then the rest
    /// cannot be understood.
    pub fn decode(input: &mut Reader<'a>) -> Result<Self, DecodeError> {
        input.open_header();
        let header = Self {
            key: ApiKey::read(input)?,
            version: input.i16("api_version")?,
            correlation_id: input.i32("correlation_id")?,
            client_id: input.nullable_string("client_id")?,
        };
        input.end_header(header.key.flexible(header.version))?;
        Ok(header)
    }

    /// Writes the header; the request has to follow.
    ///
    /// # Errors
    /// If the client id is longer than 32767 bytes.
    pub fn encode(&self, out: &mut Writer) -> Result<(), EncodeError> {
        out.open_header();
        out.i16(self.key.code());
        out.i16(self.version);
        out.i32(self.correlation_id);
        out.nullable_string(self.client_id.as_deref(), "client_id")?;
        out.end_header(self.key.flexible(self.version));
        Ok(())
    }
}

/// What a response begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The number of the request that is answered.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response to a request of this key and version.
    ///
    /// # Errors
    /// If the bytes are not a header.
    pub fn decode(key: ApiKey, version: i16, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.open_header();
        let header = Self { correlation_id: input.i32("correlation_id")? };
        input.end_header(key.flexible_response_header(version))?;
        Ok(header)
    }

    /// Writes the header of a response to a request of this key and version.
    pub fn encode(self, key: ApiKey, version: i16, out: &mut Writer) {
        out.open_header();
        out.i32(self.correlation_id);
        out.end_header(key.flexible_response_header(version));
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};

    use super::*;
    use crate::Problem;

    fn request(key: ApiKey, version: i16) -> RequestHeader<'static> {
        RequestHeader { key, version, correlation_id: 7, client_id: Some("me".into()) }
    }

    /// The bytes that `write` writes, without the length in front.
    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer::new();
        write(&mut out);
        let mut frame = out.finish().expect("a short frame");
        frame.advance(4);
        frame.copy_to_bytes(frame.remaining()).to_vec()
    }

    #[test]
    fn the_client_id_is_plain_in_each_version_and_only_tags_are_added() {
        let check = |key: ApiKey, version: i16, expected: &[u8]| {
            let header = request(key, version);
            let bytes = written(|out| header.encode(out).expect("a short client id"));
            assert_eq!(bytes, expected, "{key:?} {version}");
            let frame = Bytes::from(bytes);
            let mut input = Reader::new(&frame);
            assert_eq!(RequestHeader::decode(&mut input), Ok(header));
            assert_eq!(input.finish(), Ok(()));
        };
        check(ApiKey::Produce, 8, b"\0\0\0\x08\0\0\0\x07\0\x02me");
        check(ApiKey::Produce, 9, b"\0\0\0\x09\0\0\0\x07\0\x02me\0");
        check(ApiKey::OffsetDelete, 0, b"\0\x2f\0\0\0\0\0\x07\0\x02me");
        // A client from the future has to be told which versions there are.
        check(ApiKey::ApiVersions, 99, b"\0\x12\0\x63\0\0\0\x07\0\x02me\0");
    }

    #[test]
    fn unknown_tags_of_a_header_are_skipped() {
        let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x07\xff\xff\x02\0\x01a\x09\0rest");
        let mut input = Reader::new(&frame);
        let header = RequestHeader::decode(&mut input).expect("well-formed");
        assert_eq!(header.client_id, None);
        let rest = input.finish().expect_err("the body follows");
        assert_eq!(rest.problem, Problem::Trailing(4));
    }

    #[test]
    fn a_key_that_nobody_knows_is_named() {
        let frame = Bytes::from_static(b"\x03\xe7\0\x03\0\0\0\x07\xff\xff");
        let error = RequestHeader::decode(&mut Reader::new(&frame)).expect_err("no such API");
        assert_eq!(
            error.to_string(),
            "API key 999 is not known (in api_key, at byte 0 of the frame)"
        );
    }

    #[test]
    fn the_answer_to_api_versions_begins_with_a_plain_header() {
        let check = |key: ApiKey, version: i16, expected: &[u8]| {
            let header = ResponseHeader { correlation_id: 7 };
            let bytes = written(|out| header.encode(key, version, out));
            assert_eq!(bytes, expected, "{key:?} {version}");
            let frame = Bytes::from(bytes);
            let mut input = Reader::new(&frame);
            assert_eq!(ResponseHeader::decode(key, version, &mut input), Ok(header));
            assert_eq!(input.finish(), Ok(()));
        };
        check(ApiKey::ApiVersions, 4, b"\0\0\0\x07");
        check(ApiKey::Produce, 8, b"\0\0\0\x07");
        check(ApiKey::Produce, 9, b"\0\0\0\x07\0");
    }
}
