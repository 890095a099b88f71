//! Pure: the one error of a setting that is out of its range, and the checks that give it.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration;

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: it must be {rule}")]
pub struct InvalidSetting {
    /// The setting, without the name of the section that holds it.
    pub key: String,
    /// The value that was found, as it would be written.
    pub value: String,
    /// What is allowed.
    pub rule: String,
}

impl InvalidSetting {
    /// The same error, told by the section that holds the setting's section.
    #[must_use]
    pub fn within(self, section: &str) -> Self {
        Self { key: format!("{section}.{}", self.key), ..self }
    }
}

/// Checks that `holds`, which `rule` says in words.
///
/// # Errors
/// If it does not.
pub fn check(
    key: &str,
    value: &dyn Display,
    holds: bool,
    rule: &str,
) -> Result<(), InvalidSetting> {
    if holds {
        return Ok(());
    }
    Err(InvalidSetting { key: key.to_owned(), value: value.to_string(), rule: rule.to_owned() })
}

/// Checks that a number or size lies in its range.
///
/// # Errors
/// If it does not.
pub fn in_range<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), InvalidSetting> {
    let rule = format!("from {} to {}", range.start(), range.end());
    check(key, &value, range.contains(&value), &rule)
}

/// Checks that a span of time lies in its range.
///
/// # Errors
/// If it does not.
pub fn span_in_range(
    key: &str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), InvalidSetting> {
    let (least, most) = range.into_inner();
    in_range(key, duration::Display(value), duration::Display(least)..=duration::Display(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteSize;

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        let says = |checked: Result<(), InvalidSetting>, expected: Option<&str>| {
            assert_eq!(checked.err().map(|error| error.to_string()).as_deref(), expected);
        };
        says(in_range("writers", 64, 1..=64), None);
        says(in_range("writers", 0, 1..=64), Some("writers is 0: it must be from 1 to 64"));
        let sizes = ByteSize::kib(64)..=ByteSize::gib(1);
        says(
            in_range("bytes", ByteSize(1), sizes).map_err(|error| error.within("journal")),
            Some("journal.bytes is 1 B: it must be from 64 KiB to 1 GiB"),
        );
        let spans = Duration::from_secs(1)..=Duration::from_hours(24);
        says(span_in_range("wait", Duration::from_secs(1), spans.clone()), None);
        says(
            span_in_range("wait", Duration::ZERO, spans),
            Some("wait is 0 s: it must be from 1 s to 1 d"),
        );
    }
}
