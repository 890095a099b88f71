//! Pure: what a client's batch must fulfil before it may enter a log.

use std::ops::RangeInclusive;

use rafka_core::batch::{RecordView, TimestampType};
use rafka_core::{Batch, ByteSize, ErrorCode, Timestamp, batch};
use rafka_metadata::topic_config::TopicConfig;

use crate::{Error, RECORDS_TOLD_MAX, RefusedRecord};

/// What the records of one batch may inflate to. Kafka's clients fill batches of about
/// `max.message.bytes` (1 MiB) before compression.
pub(crate) const INFLATED_BYTES_MAX: ByteSize = ByteSize::mib(32);

/// What is inflated without asking: as long as that takes, others can wait.
pub(crate) const INFLATED_BYTES_FREE: ByteSize = ByteSize::kib(256);

/// Why a batch may not enter.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// Its records inflate to more than the limit: under a higher one it may pass.
    pub(crate) is_beyond_limit: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, is_beyond_limit: false }
    }
}

/// Checks a batch that arrived at `now`, and gives it the append time if the topic asks for that.
///
/// # Errors
/// The first rule that it breaks, with the position of the record; or that its records inflate to
/// more than `limit`. Then the batch is as it was.
pub(crate) fn validate(
    batch: &mut Batch,
    config: &TopicConfig,
    now: Timestamp,
    limit: ByteSize,
) -> Result<(), Refused> {
    check_header(batch, config)?;
    let timestamp_max = check_records(batch, config, now, limit)?;
    if let Some(compression) = config.compression
        && batch.header.attributes.compression() != Ok(compression)
    {
        *batch = batch.recompressed(compression, limit).map_err(damaged)?;
        check_len(batch, config)?;
    }
    match config.timestamp_type {
        TimestampType::LogAppendTime => batch.stamp_append_time(now),
        // Look-ups by time rest on this field; some clients get it wrong.
        TimestampType::CreateTime if batch.max_timestamp() != timestamp_max => {
            batch.set_max_timestamp(timestamp_max);
        }
        TimestampType::CreateTime => {}
    }
    Ok(())
}

fn check_header(batch: &Batch, config: &TopicConfig) -> Result<(), Error> {
    let header = &batch.header;
    check_len(batch, config)?;
    if header.attributes.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        let message = "clients may not set the append time";
        return Err(Error::new(ErrorCode::InvalidTimestamp, message));
    }
    if header.record_count != header.last_offset_delta + 1 {
        return Err(invalid(format!(
            "a record count of {} does not fit a last offset delta of {}",
            header.record_count, header.last_offset_delta
        )));
    }
    let idempotent = header.producer_id.is_some();
    if header.attributes.is_transactional() && !idempotent {
        return Err(invalid("a transactional batch needs a producer id"));
    }
    if idempotent && (header.base_sequence < 0 || header.producer_epoch.0 < 0) {
        return Err(invalid("a batch with a producer id needs an epoch and a sequence number"));
    }
    Ok(())
}

fn check_len(batch: &Batch, config: &TopicConfig) -> Result<(), Error> {
    let (len, max) = (ByteSize::of_len(batch.len()), config.message_bytes_max);
    if len <= max {
        return Ok(());
    }
    let message = format!("the batch has {} bytes, max.message.bytes is {}", len.0, max.0);
    Err(Error::new(ErrorCode::MessageTooLarge, message))
}

/// Walks over the records and returns their largest timestamp.
fn check_records(
    batch: &Batch,
    config: &TopicConfig,
    now: Timestamp,
    limit: ByteSize,
) -> Result<Timestamp, Refused> {
    let mut records = batch.records(limit).map_err(damaged)?;
    let accepted = Accepted::new(config, now);
    let mut timestamp_max = Timestamp::NONE;
    let mut index = 0;
    let mut refused: Option<Error> = None;
    while let Some(view) = records.next_view() {
        let view = view.map_err(damaged)?;
        if let Err(error) = accepted.check(&view, index) {
            // The first one gives the code and the message.
            let message = error.message.clone();
            let told = &mut refused.get_or_insert(error).records;
            if told.len() < RECORDS_TOLD_MAX {
                told.push(RefusedRecord { index, message });
            }
        }
        if view.has_headers() {
            records.check_headers(&view).map_err(damaged)?;
        }
        timestamp_max = timestamp_max.max(view.timestamp);
        index += 1;
    }
    refused.map_or(Ok(timestamp_max), |error| Err(error.into()))
}

/// What records of a topic may be like at some moment.
struct Accepted {
    needs_key: bool,
    /// `None` where the broker gives the time.
    timestamps: Option<RangeInclusive<Timestamp>>,
}

impl Accepted {
    fn new(config: &TopicConfig, now: Timestamp) -> Self {
        let earliest = now.minus(config.timestamp_before_max).max(Timestamp(0));
        let latest = now.plus(config.timestamp_after_max);
        let by_client = config.timestamp_type == TimestampType::CreateTime;
        Self {
            needs_key: config.log.cleanup.compact,
            timestamps: by_client.then_some(earliest..=latest),
        }
    }

    fn check(&self, view: &RecordView, index: i32) -> Result<(), Error> {
        if view.offset_delta != index {
            return Err(invalid(format!("{} has offset delta {}", nth(index), view.offset_delta)));
        }
        if self.needs_key && view.key.is_none() {
            let record = nth(index);
            let message = format!("{record} has no key, which a compacted topic requires");
            return Err(invalid(message));
        }
        match &self.timestamps {
            Some(accepted)
                if view.timestamp != Timestamp::NONE && !accepted.contains(&view.timestamp) =>
            {
                Err(bad_time(view.timestamp, index, accepted))
            }
            _ => Ok(()),
        }
    }
}

/// A record of a batch, the other records of which fail with it.
fn nth(index: i32) -> String {
    format!("record {index} of the batch (counted from 0)")
}

fn bad_time(timestamp: Timestamp, index: i32, accepted: &RangeInclusive<Timestamp>) -> Error {
    let (earliest, latest) = (accepted.start(), accepted.end());
    let message = format!(
        "{} has timestamp {timestamp}, accepted are {earliest} to {latest} \
         (message.timestamp.before.max.ms, message.timestamp.after.max.ms)",
        nth(index)
    );
    Error::new(ErrorCode::InvalidTimestamp, message)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorCode::InvalidRecord, message)
}

/// The bytes passed their checksum, yet are not what they should be.
fn damaged(error: batch::Error) -> Refused {
    let is_beyond_limit =
        matches!(error, batch::Error::Inflate(rafka_core::compression::Error::TooLarge(_)));
    let code = match &error {
        batch::Error::Inflate(_) => ErrorCode::CorruptMessage,
        batch::Error::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
        _ => ErrorCode::InvalidRecord,
    };
    Refused { error: Error::new(code, error.to_string()), is_beyond_limit }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rafka_core::compression::Compression;
    use rafka_core::{ProducerEpoch, ProducerId};

    use super::*;

    fn checked(batch: &mut Batch, config: &TopicConfig) -> Result<(), Error> {
        validate(batch, config, NOW, INFLATED_BYTES_MAX).map_err(|refused| refused.error)
    }

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn config() -> TopicConfig {
        TopicConfig { timestamp_before_max: Duration::from_hours(1), ..TopicConfig::default() }
    }

    fn batch_at(timestamp: Timestamp) -> Batch {
        let mut builder = batch::BatchBuilder::new(Compression::Zstd);
        builder.push(timestamp, Some(b"k"), Some(b"v"), &[]);
        builder.push(timestamp, None, Some(b"v"), &[]);
        builder.build().expect("memory does not fail")
    }

    fn check(change: impl FnOnce(&mut Batch, &mut TopicConfig), expected: Option<ErrorCode>) {
        let (mut batch, mut config) = (batch_at(NOW), config());
        change(&mut batch, &mut config);
        let result = checked(&mut batch, &config);
        assert_eq!(result.as_ref().err().map(|error| error.code), expected, "{result:?}");
    }

    #[test]
    fn each_broken_rule_has_its_code() {
        check(|_, _| {}, None);
        check(
            |_, config| config.message_bytes_max = ByteSize(70),
            Some(ErrorCode::MessageTooLarge),
        );
        check(|batch, _| batch.header.attributes.set_control(), Some(ErrorCode::InvalidRecord));
        check(
            |batch, _| batch.header.attributes.set_log_append_time(),
            Some(ErrorCode::InvalidTimestamp),
        );
        check(|batch, _| batch.header.record_count = 1, Some(ErrorCode::InvalidRecord));
        check(|batch, _| batch.header.record_count = 3, Some(ErrorCode::InvalidRecord));
        check(
            |batch, _| (batch.header.record_count, batch.header.last_offset_delta) = (3, 2),
            Some(ErrorCode::InvalidRecord),
        );
        check(|_, config| config.log.cleanup.compact = true, Some(ErrorCode::InvalidRecord));
        check(
            |batch, _| {
                batch.header.producer_id = ProducerId(1);
                batch.header.producer_epoch = ProducerEpoch(0);
            },
            Some(ErrorCode::InvalidRecord),
        );
        check(
            |batch, _| batch.records = batch.records.slice(..10),
            Some(ErrorCode::CorruptMessage),
        );
    }

    #[test]
    fn a_batch_is_stored_in_the_topics_codec_if_it_has_one() {
        for sent in Compression::ALL {
            for stored in Compression::ALL {
                let mut builder = batch::BatchBuilder::new(sent);
                builder.producer(ProducerId(1), ProducerEpoch(2), 3);
                for key in ["a", "b"] {
                    builder.push(NOW, Some(key.as_bytes()), Some(&[0; 500]), &[]);
                }
                let before = builder.build().expect("memory does not fail");
                let config = TopicConfig { compression: Some(stored), ..config() };
                let mut after = before.clone();
                checked(&mut after, &config).expect("it is sound");
                assert_eq!(after.header.attributes.compression(), Ok(stored));
                let parsed = Batch::parse(after.to_bytes()).expect("the checksum fits");
                let records = |batch: &Batch| {
                    let records = batch.records(INFLATED_BYTES_MAX).expect("sound");
                    records.collect::<Result<Vec<_>, _>>().expect("sound")
                };
                assert_eq!(records(&parsed), records(&before), "{sent:?} as {stored:?}");
                assert_eq!(parsed.header.base_sequence, 3);
                if sent == stored {
                    assert_eq!(
                        after.records.as_ptr(),
                        before.records.as_ptr(),
                        "it passes through"
                    );
                }
            }
        }
        let mut builder = batch::BatchBuilder::new(Compression::Zstd);
        builder.push(NOW, Some(b"key"), Some(&[0; 5000]), &[]);
        let mut batch = builder.build().expect("memory does not fail");
        let none = Some(Compression::None);
        let config =
            TopicConfig { compression: none, message_bytes_max: ByteSize(1000), ..config() };
        let error = checked(&mut batch, &config).expect_err("it grows");
        assert_eq!(error.code, ErrorCode::MessageTooLarge);
    }

    #[test]
    fn each_record_that_is_refused_is_named_up_to_a_bound() {
        let keyless = |count: usize| {
            let mut builder = batch::BatchBuilder::new(Compression::Zstd);
            builder.push(NOW, Some(b"k"), None, &[]);
            (0..count).for_each(|_| builder.push(NOW, None, None, &[]));
            let mut batch = builder.build().expect("memory does not fail");
            let mut config = config();
            config.log.cleanup.compact = true;
            checked(&mut batch, &config).expect_err("a key is needed").records
        };
        let indexes: Vec<i32> = keyless(2).iter().map(|record| record.index).collect();
        assert_eq!(indexes, [1, 2]);
        assert_eq!(keyless(2 * RECORDS_TOLD_MAX).len(), RECORDS_TOLD_MAX);
    }

    #[test]
    fn timestamps_out_of_range_are_refused_unless_the_broker_gives_them() {
        let hours = |hours| Duration::from_hours(hours);
        for (timestamp, accepted) in [
            (NOW, true),
            (Timestamp::NONE, true),
            (NOW.plus(hours(1)), true),
            (NOW.plus(hours(2)), false),
            (NOW.minus(hours(2)), false),
            (Timestamp(-2), false),
            (Timestamp(i64::MAX), false),
        ] {
            let mut batch = batch_at(timestamp);
            assert_eq!(checked(&mut batch, &config()).is_ok(), accepted, "{timestamp}");
            let append_time =
                TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..config() };
            let mut batch = batch_at(timestamp);
            checked(&mut batch, &append_time).expect("the broker gives the time");
            assert_eq!(batch.max_timestamp(), NOW);
        }
    }

    #[test]
    fn a_wrong_largest_timestamp_is_put_right() {
        let mut batch = batch_at(NOW);
        batch.set_max_timestamp(Timestamp(5));
        checked(&mut batch, &config()).expect("the records are sound");
        let read = Batch::parse(batch.to_bytes()).expect("the checksum was renewed");
        assert_eq!(read.max_timestamp(), NOW);
    }

    #[test]
    fn a_bomb_is_refused_within_the_bound() {
        let zeros = vec![0; 64 << 20];
        let mut builder = batch::BatchBuilder::new(Compression::Zstd);
        builder.push(NOW, None, Some(&zeros), &[]);
        let mut bomb = builder.build().expect("memory does not fail");
        assert!(bomb.len() < 1 << 20);
        let error = checked(&mut bomb, &config()).expect_err("it inflates to 64 MiB");
        assert_eq!(error.code, ErrorCode::CorruptMessage);
    }
}
