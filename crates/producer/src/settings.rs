//! Pure: how a producer buffers, batches and sends.

use std::time::Duration;

use rafka_client::settings::{InvalidSettings, at_least};
use rafka_core::ByteSize;
use rafka_core::compression::Compression;
use rafka_core::producer_state::WINDOW;

/// Whose word makes a record "delivered".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Every in-sync replica has it on disk (Kafka's `acks=all`). The default.
    #[default]
    All,
    /// The leader has it on disk (`acks=1`). Lost if the leader is lost before the others have it.
    Leader,
    /// Nobody's: delivered means handed to the connection (`acks=0`). Offsets are unknown.
    None,
}

/// The settings of a [`Producer`](crate::Producer). The defaults lose nothing and double nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Whose word is waited for. Default [`Acks::All`].
    pub acks: Acks,
    /// Whether the node recognises repeated batches, so that a retry never doubles or reorders.
    /// Needs [`Acks::All`]. Default true.
    pub idempotence: bool,
    /// The codec of the batches. Default none.
    pub compression: Compression,
    /// How long a batch that is not full waits for more records. Default 5 ms.
    pub linger: Duration,
    /// The size, before compression, at which a batch is full. A larger record gets a batch of its
    /// own. Default 64 KiB.
    pub batch_bytes: ByteSize,
    /// The largest record, key, value and headers together. Default 1 MiB less 1 KiB for the
    /// batch around it, which fits a topic's default `max.message.bytes`.
    pub record_bytes_max: ByteSize,
    /// The size at which a request takes no further batch. Default 1 MiB.
    pub request_bytes_max: ByteSize,
    /// The memory for records that are not yet delivered. Default 32 MiB.
    pub buffer_bytes: ByteSize,
    /// How long `send` waits for memory and for what is known of the topic. Default 60 s.
    pub send_wait_max: Duration,
    /// Batches of one partition under way at once: 1 to 5. Above 1 without idempotence, a retry
    /// may change the order. Default 5.
    pub in_flight_max: usize,
    /// The time from `send` within which a record is delivered or has failed. Default 2 min.
    pub delivery_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: ByteSize::kib(64),
            record_bytes_max: ByteSize::kib(1023),
            request_bytes_max: ByteSize::mib(1),
            buffer_bytes: ByteSize::mib(32),
            send_wait_max: Duration::from_secs(60),
            in_flight_max: WINDOW,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// Above this a record would not fit the 32-bit lengths of the format with room to spare.
const RECORD_BYTES_MOST: ByteSize = ByteSize::gib(1);
/// Bytes are counted in a semaphore of 32-bit requests.
const BUFFER_BYTES_MOST: ByteSize = ByteSize(u32::MAX as u64);

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first one that cannot work, by its key.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        if self.idempotence && self.acks != Acks::All {
            let rule = "false with acks=leader and acks=none: \
                        without the word of all replicas a retry cannot be recognised";
            return Err(InvalidSettings::new("idempotence", true, rule));
        }
        if !(1..=WINDOW).contains(&self.in_flight_max) {
            let rule = format!("from 1 to {WINDOW}");
            return Err(InvalidSettings::new("in_flight_max", self.in_flight_max, rule));
        }
        within("batch_bytes", self.batch_bytes, ByteSize(256), self.buffer_bytes)?;
        within("record_bytes_max", self.record_bytes_max, ByteSize(1), RECORD_BYTES_MOST)?;
        within("request_bytes_max", self.request_bytes_max, ByteSize(256), RECORD_BYTES_MOST)?;
        let room = ByteSize(self.record_bytes_max.0 + crate::accumulator::RECORD_OVERHEAD);
        within("buffer_bytes", self.buffer_bytes, room, BUFFER_BYTES_MOST)?;
        at_least("delivery_timeout", self.delivery_timeout, self.linger + Duration::from_millis(1))
    }
}

fn within(
    key: &'static str,
    size: ByteSize,
    least: ByteSize,
    most: ByteSize,
) -> Result<(), InvalidSettings> {
    if least <= size && size <= most {
        return Ok(());
    }
    Err(InvalidSettings::new(key, size, format!("from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_lose_nothing_and_double_nothing() {
        let settings = Settings::default();
        assert_eq!(settings.validate(), Ok(()));
        assert!(settings.idempotence);
        assert_eq!(settings.acks, Acks::All);
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let check = |key: &str, change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(settings.validate().expect_err(key).key(), key);
        };
        check("idempotence", |settings| settings.acks = Acks::Leader);
        check("in_flight_max", |settings| settings.in_flight_max = 0);
        check("in_flight_max", |settings| settings.in_flight_max = 6);
        check("batch_bytes", |settings| settings.batch_bytes = ByteSize(1));
        check("batch_bytes", |settings| settings.batch_bytes = ByteSize::gib(1));
        check("record_bytes_max", |settings| settings.record_bytes_max = ByteSize(0));
        check("buffer_bytes", |settings| settings.buffer_bytes = ByteSize::kib(512));
        check("buffer_bytes", |settings| settings.buffer_bytes = ByteSize::gib(4));
        check("delivery_timeout", |settings| settings.delivery_timeout = settings.linger);
    }
}
