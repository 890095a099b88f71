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
