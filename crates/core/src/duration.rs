//! Pure: spans of time written as people write them (`500 ms`, `10 min`, `7 d`), for settings.
//!
//! `#[serde(with = "rafka_core::duration")]` on a `Duration`, `rafka_core::duration::option` on an
//! `Option<Duration>`.

use std::fmt;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserializer, Serializer};

/// Units from large to small, each with its nanoseconds. The first name is the one we write.
const UNITS: [(&[&str], u64); 7] = [
    (&["d"], 86_400_000_000_000),
    (&["h"], 3_600_000_000_000),
    (&["min", "m"], 60_000_000_000),
    (&["s"], 1_000_000_000),
    (&["ms"], 1_000_000),
    (&["us"], 1_000),
    (&["ns"], 1),
];

/// The text is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a whole number with ms, s, min, h or d, as in 500 ms")]
pub struct InvalidDuration(String);

/// Reads a whole number with a unit; `0` needs none.
///
/// # Errors
/// If the text is anything else, or longer than 584 years.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_too_long_or_empty| invalid())?;
    let unit = unit.trim();
    if unit.is_empty() && number == 0 {
        return Ok(Duration::ZERO);
    }
    let (_, nanos) = UNITS.iter().find(|(names, _)| names.contains(&unit)).ok_or_else(invalid)?;
    number.checked_mul(*nanos).map(Duration::from_nanos).ok_or_else(invalid)
}

/// Shows a span in its largest unit that divides it, so that [`parse`] reads it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Display(pub Duration);

impl fmt::Display for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        for (names, unit) in UNITS {
            let unit = u128::from(unit);
            if nanos != 0 && nanos.is_multiple_of(unit) {
                return write!(f, "{} {}", nanos / unit, names[0]);
            }
        }
        f.write_str("0 s")
    }
}

/// Writes the span as text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Display(*span))
}

/// Reads the span from text.
///
/// # Errors
/// Those of [`parse`] and of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(SpanVisitor)
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Duration;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as 500 ms")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Duration, E> {
        parse(&number.to_string()).map_err(E::custom)
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
        parse(&number.to_string()).map_err(E::custom)
    }
}

/// The same for spans that may be absent (`null`).
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the span as text, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the span from text, or from nothing.
    ///
    /// # Errors
    /// As [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        struct Span(Duration);
        impl<'de> Deserialize<'de> for Span {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::deserialize(deserializer).map(Self)
            }
        }
        Ok(Option::<Span>::deserialize(deserializer)?.map(|span| span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_a_unit_and_written_back_the_same() {
        let check = |text: &str, expected: Option<(u64, &str)>| match (parse(text), expected) {
            (Ok(span), Some((nanos, shown))) => {
                assert_eq!(span, Duration::from_nanos(nanos), "{text}");
                assert_eq!(Display(span).to_string(), shown, "{text}");
                assert_eq!(parse(shown), Ok(span), "{text}");
            }
            (Err(_), None) => {}
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        };
        check("0", Some((0, "0 s")));
        check("500 ms", Some((500_000_000, "500 ms")));
        check("1500ms", Some((1_500_000_000, "1500 ms")));
        check(" 3 s ", Some((3_000_000_000, "3 s")));
        check("60 s", Some((60_000_000_000, "1 min")));
        check("48 h", Some((172_800_000_000_000, "2 d")));
        check("7 us", Some((7_000, "7 us")));
        check("", None);
        check("5", None);
        check("-5 s", None);
        check("1.5 s", None);
        check("5 parsecs", None);
        check("99999999999 d", None);
    }
}
