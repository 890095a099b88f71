//! Pure: Kafka's ConsumerProtocol: what members of a consumer group tell each other in opaque bytes.
//!
//! A member sends its [`Subscription`] when it joins; the leader sends each member its
//! [`Assignment`]. The broker passes both on unread. Bytes of a version above the newest known are
//! read as the newest known, whose fields they begin with.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::PartitionIndex;

/// The newest version of both messages, and the one that is written.
const VERSION: i16 = 3;

/// The name of the protocol: the protocol type of every group of consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The bytes are not a message of the protocol, or a message does not fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end within a field.
    #[error("the consumer protocol message ends within its {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A negative version, length or count where none may be.
    #[error("the consumer protocol message has {value} as its {field}")]
    Negative {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: i32,
    },
    /// A text is not UTF-8.
    #[error("the consumer protocol message holds no UTF-8 in its {field}")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A field is longer than its length prefix can say.
    #[error("the {field} is too long for the consumer protocol: {len}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length or count.
        len: usize,
    },
}

/// Partitions of one topic. The name is as a client wrote it and need not be valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// What a member wants, sent with its request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it wants to consume.
    pub topics: Vec<String>,
    /// Bytes for the assignor.
    pub user_data: Option<Bytes>,
    /// The partitions it still owns (since version 1), for assignors that let members keep them.
    pub owned: Vec<TopicPartitions>,
    /// The generation in which it owned them (since version 2); -1 if it was in none.
    pub generation: i32,
    /// Where it runs (since version 3).
    pub rack: Option<String>,
}

impl Subscription {
    /// A subscription to `topics` of a member that owns nothing.
    #[must_use]
    pub fn new(topics: Vec<String>) -> Self {
        Self { topics, user_data: None, owned: Vec::new(), generation: -1, rack: None }
    }

    /// Reads a subscription of any version. Trailing bytes are left alone, as Kafka leaves them.
    ///
    /// # Errors
    /// If the bytes are malformed. Never is more allocated than a small multiple of their length.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut input = bytes.clone();
        let version = take_version(&mut input)?;
        let mut read = Self::new(take_list(&mut input, "topic", take_text)?);
        read.user_data = take_bytes(&mut input, "user data")?;
        if 1 <= version {
            read.owned = take_list(&mut input, "owned partitions", take_topic_partitions)?;
        }
        if 2 <= version {
            read.generation = input.try_get_i32().map_err(|_end| truncated("generation"))?;
        }
        if 3 <= version {
            read.rack = take_nullable_text(&mut input, "rack")?;
        }
        Ok(read)
    }

    /// Writes the newest version, which members that know less can read.
    ///
    /// # Errors
    /// If a text is longer than 32767 bytes, or a list or the user data than 2147483647.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_len(&mut out, self.topics.len(), "topics")?;
        for topic in &self.topics {
            put_text(&mut out, topic, "topic")?;
        }
        put_bytes(&mut out, self.user_data.as_deref(), "user data")?;
        put_topic_partitions(&mut out, &self.owned)?;
        out.put_i32(self.generation);
        match &self.rack {
            Some(rack) => put_text(&mut out, rack, "rack")?,
            None => out.put_i16(-1),
        }
        Ok(out.freeze())
    }
}

/// What a member gets from the leader of its group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// The partitions it shall consume.
    pub partitions: Vec<TopicPartitions>,
    /// Bytes from the assignor.
    pub user_data: Option<Bytes>,
}

impl Assignment {
    /// Reads an assignment of any version. Trailing bytes are left alone, as Kafka leaves them.
    ///
    /// # Errors
    /// If the bytes are malformed. Never is more allocated than a small multiple of their length.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut input = bytes.clone();
        take_version(&mut input)?;
        Ok(Self {
            partitions: take_list(&mut input, "assigned partitions", take_topic_partitions)?,
            user_data: take_bytes(&mut input, "user data")?,
        })
    }

    /// Writes the newest version, which members that know less can read.
    ///
    /// # Errors
    /// If a text is longer than 32767 bytes, or a list or the user data than 2147483647.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_topic_partitions(&mut out, &self.partitions)?;
        put_bytes(&mut out, self.user_data.as_deref(), "user data")?;
        Ok(out.freeze())
    }
}

fn truncated(field: &'static str) -> Error {
    Error::Truncated { field }
}

fn take_version(input: &mut Bytes) -> Result<i16, Error> {
    let version = input.try_get_i16().map_err(|_end| truncated("version"))?;
    if version < 0 {
        return Err(Error::Negative { field: "version", value: i32::from(version) });
    }
    Ok(version)
}

fn take(input: &mut Bytes, len: i32, field: &'static str) -> Result<Bytes, Error> {
    let len = usize::try_from(len).map_err(|_negative| Error::Negative { field, value: len })?;
    if input.len() < len {
        return Err(truncated(field));
    }
    Ok(input.split_to(len))
}

fn take_text(input: &mut Bytes, field: &'static str) -> Result<String, Error> {
    let len = input.try_get_i16().map_err(|_end| truncated(field))?;
    let text = take(input, i32::from(len), field)?;
    Ok(std::str::from_utf8(&text).map_err(|_bad| Error::NotUtf8 { field })?.to_owned())
}

fn take_nullable_text(input: &mut Bytes, field: &'static str) -> Result<Option<String>, Error> {
    if input.starts_with(&[0xff, 0xff]) {
        input.advance(2);
        return Ok(None);
    }
    take_text(input, field).map(Some)
}

fn take_bytes(input: &mut Bytes, field: &'static str) -> Result<Option<Bytes>, Error> {
    match input.try_get_i32().map_err(|_end| truncated(field))? {
        -1 => Ok(None),
        len => take(input, len, field).map(Some),
    }
}

/// Reads as many items as the count says. Nothing is reserved for a count: the items are pushed
/// one by one, and each takes two bytes of input at least, so that the input's end is the bound.
fn take_list<T>(
    input: &mut Bytes,
    field: &'static str,
    take_item: impl Fn(&mut Bytes, &'static str) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = input.try_get_i32().map_err(|_end| truncated(field))?;
    if count < 0 {
        return Err(Error::Negative { field, value: count });
    }
    (0..count).map(|_| take_item(input, field)).collect::<Result<Vec<T>, Error>>()
}

fn take_topic_partitions(input: &mut Bytes, field: &'static str) -> Result<TopicPartitions, Error> {
    let topic = take_text(input, field)?;
    let partitions = take_list(input, field, |input, field| {
        input.try_get_i32().map(PartitionIndex).map_err(|_end| truncated(field))
    })?;
    Ok(TopicPartitions { topic, partitions })
}

fn put_len(out: &mut BytesMut, len: usize, field: &'static str) -> Result<(), Error> {
    out.put_i32(i32::try_from(len).map_err(|_too_long| Error::TooLong { field, len })?);
    Ok(())
}

fn put_text(out: &mut BytesMut, text: &str, field: &'static str) -> Result<(), Error> {
    let len = text.len();
    out.put_i16(i16::try_from(len).map_err(|_too_long| Error::TooLong { field, len })?);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>, field: &'static str) -> Result<(), Error> {
    let Some(bytes) = bytes else {
        out.put_i32(-1);
        return Ok(());
    };
    put_len(out, bytes.len(), field)?;
    out.put_slice(bytes);
    Ok(())
}

fn put_topic_partitions(out: &mut BytesMut, topics: &[TopicPartitions]) -> Result<(), Error> {
    put_len(out, topics.len(), "topics")?;
    for topic in topics {
        put_text(out, &topic.topic, "topic")?;
        put_len(out, topic.partitions.len(), "partitions")?;
        for partition in &topic.partitions {
            out.put_i32(partition.0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
