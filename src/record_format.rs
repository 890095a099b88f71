//! Pure: how `rafka consume` prints a record: kcat's format verbs, and kcat's JSON.

use bytes::Bytes;
use rafka_core::{Offset, PartitionIndex, Timestamp};
use serde_json::json;

/// A record as it is printed.
#[derive(Debug, Clone)]
pub(crate) struct Printed<'a> {
    /// The topic's name.
    pub(crate) topic: &'a str,
    /// The partition.
    pub(crate) partition: PartitionIndex,
    /// The offset.
    pub(crate) offset: Offset,
    /// The timestamp.
    pub(crate) timestamp: Timestamp,
    /// The key, if there is one.
    pub(crate) key: Option<&'a Bytes>,
    /// The value, if there is one.
    pub(crate) value: Option<&'a Bytes>,
    /// The headers.
    pub(crate) headers: &'a [(Bytes, Option<Bytes>)],
}

/// A compiled format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Verb(Verb),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    ValueLengthBinary,
    Timestamp,
    Headers,
}

/// Why a format string cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFormat {
    /// No such verb.
    #[error("%{0} is no verb: there are %t %p %o %k %K %s %S %R %T %h and %%")]
    Verb(char),
    /// A lone `%` at the end.
    #[error("the format ends in a lone %: write %% for a percent sign")]
    Unfinished,
    /// No such escape.
    #[error("\\{0} is no escape: there are \\n \\r \\t \\0 \\\\ and \\xHH")]
    Escape(String),
}

impl Default for Format {
    /// The value and a line feed.
    fn default() -> Self {
        Self { parts: vec![Part::Verb(Verb::Value), Part::Literal(b"\n".to_vec())] }
    }
}

impl Format {
    /// Compiles kcat's `-f` argument.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidFormat> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let verb = match char {
                '\\' => {
                    literal.push(escape(&mut chars)?);
                    continue;
                }
                '%' => match chars.next().ok_or(InvalidFormat::Unfinished)? {
                    '%' => {
                        literal.push(b'%');
                        continue;
                    }
                    name => Verb::named(name).ok_or(InvalidFormat::Verb(name))?,
                },
                plain => {
                    literal.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Verb(verb));
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// Appends the record to `out`.
    pub(crate) fn write(&self, record: &Printed<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Verb(verb) => verb.write(record, out),
            }
        }
    }
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, InvalidFormat> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = chars.take(2).collect();
            u8::from_str_radix(&digits, 16)
                .map_err(|_not_hex| InvalidFormat::Escape(format!("x{digits}")))
        }
        other => Err(InvalidFormat::Escape(other.map(String::from).unwrap_or_default())),
    }
}

impl Verb {
    fn named(name: char) -> Option<Self> {
        Some(match name {
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'k' => Self::Key,
            'K' => Self::KeyLength,
            's' => Self::Value,
            'S' => Self::ValueLength,
            'R' => Self::ValueLengthBinary,
            'T' => Self::Timestamp,
            'h' => Self::Headers,
            _ => return None,
        })
    }

    fn write(self, record: &Printed<'_>, out: &mut Vec<u8>) {
        let mut text = |text: String| out.extend_from_slice(text.as_bytes());
        match self {
            Self::Topic => text(record.topic.to_owned()),
            Self::Partition => text(record.partition.to_string()),
            Self::Offset => text(record.offset.to_string()),
            Self::Timestamp => text(record.timestamp.to_string()),
            Self::KeyLength => text(length(record.key).to_string()),
            Self::ValueLength => text(length(record.value).to_string()),
            Self::ValueLengthBinary => {
                let length = i32::try_from(length(record.value)).unwrap_or(i32::MAX);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Self::Key => out.extend_from_slice(record.key.map_or(&[], |key| key)),
            Self::Value => out.extend_from_slice(record.value.map_or(&[], |value| value)),
            Self::Headers => headers(record.headers, out),
        }
    }
}

/// The length as kcat shows it: -1 for none.
fn length(bytes: Option<&Bytes>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

fn headers(headers: &[(Bytes, Option<Bytes>)], out: &mut Vec<u8>) {
    for (index, (name, value)) in headers.iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value.as_ref().map_or(b"NULL", |value| value));
    }
}

/// Appends the record as one line of JSON, in kcat's words. Bytes that are not text are replaced.
pub(crate) fn write_json(record: &Printed<'_>, out: &mut Vec<u8>) {
    let text =
        |bytes: Option<&Bytes>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut headers = Vec::new();
    for (name, value) in record.headers {
        headers.push(json!(String::from_utf8_lossy(name)));
        headers.push(json!(text(value.as_ref())));
    }
    let mut line = json!({
        "topic": record.topic,
        "partition": record.partition.0,
        "offset": record.offset.0,
        "ts": record.timestamp.0,
        "key": text(record.key),
        "payload": text(record.value),
    });
    if !headers.is_empty() {
        line["headers"] = json!(headers);
    }
    out.extend_from_slice(line.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        format: &str,
        key: Option<&str>,
        value: Option<&str>,
    ) -> Result<String, InvalidFormat> {
        let bytes = |text: Option<&str>| text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let (key, value) = (bytes(key), bytes(value));
        let headers = [(Bytes::from("trace"), Some(Bytes::from("7"))), (Bytes::from("none"), None)];
        let record = Printed {
            topic: "orders",
            partition: PartitionIndex(3),
            offset: Offset(42),
            timestamp: Timestamp(1700),
            key: key.as_ref(),
            value: value.as_ref(),
            headers: &headers,
        };
        let mut out = Vec::new();
        Format::parse(format)?.write(&record, &mut out);
        Ok(String::from_utf8(out).expect("the cases are text"))
    }

    #[test]
    fn verbs_mean_what_they_mean_in_kcat() {
        let check = |format: &str, expected: &str| {
            assert_eq!(shown(format, Some("k1"), Some("väl")).as_deref(), Ok(expected), "{format}");
        };
        check("%t/%p@%o %k(%K)=%s(%S) %T\\n", "orders/3@42 k1(2)=väl(4) 1700\n");
        check("100%%\\t\\x41\\\\", "100%\tA\\");
        check("%h", "trace=7,none=NULL");
        check("%R|", "\0\0\0\u{4}|");
        assert_eq!(shown("[%k|%K|%s|%S]", None, None).as_deref(), Ok("[|-1||-1]"));
    }

    #[test]
    fn what_is_no_verb_is_refused_by_name() {
        let check = |format: &str, expected: InvalidFormat| {
            assert_eq!(shown(format, None, None), Err(expected));
        };
        check("%q", InvalidFormat::Verb('q'));
        check("abc%", InvalidFormat::Unfinished);
        check("\\q", InvalidFormat::Escape("q".to_owned()));
        check("\\xZZ", InvalidFormat::Escape("xZZ".to_owned()));
    }

    #[test]
    fn json_is_one_line_with_keys_of_kcat() {
        let value = Bytes::from_static(b"a\nb");
        let record = Printed {
            topic: "t",
            partition: PartitionIndex(0),
            offset: Offset(1),
            timestamp: Timestamp(2),
            key: None,
            value: Some(&value),
            headers: &[],
        };
        let mut out = Vec::new();
        write_json(&record, &mut out);
        let line = String::from_utf8(out).expect("JSON is text");
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(
            parsed,
            json!({"topic":"t","partition":0,"offset":1,"ts":2,"key":null,"payload":"a\nb"})
        );
    }
}
