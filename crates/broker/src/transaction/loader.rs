//! Pure: the transactional ids of a partition, rebuilt from its log.

use std::collections::BTreeMap;

use rafka_core::{Batch, ByteSize, Offset, batch};

use super::ops::State;
use super::record::{self, Entry, Malformed, Value};

/// More than any batch that the coordinator writes.
const INFLATED_MAX: ByteSize = ByteSize::mib(64);

/// What the log has said so far.
#[derive(Debug, Default)]
pub(super) struct Loader {
    next: Offset,
    ids: BTreeMap<String, Value>,
}

/// The log holds what this coordinator cannot read. Its ids are not served, lest a transaction that
/// was decided is forgotten.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the batch at offset {offset} cannot be read: {cause}")]
    Batch { offset: Offset, cause: batch::Error },
    #[error("the record at offset {offset} cannot be read: {cause}")]
    Record { offset: Offset, cause: Malformed },
}

impl Loader {
    /// The offset that comes next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Takes the next batch in. After an error it has not been taken, and can be tried again.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let unreadable = |cause| LoadError::Batch { offset: batch.base_offset(), cause };
        if !batch.header.attributes.is_control() {
            for record in batch.records(INFLATED_MAX).map_err(unreadable)? {
                let record = record.map_err(unreadable)?;
                let entry = record::decode(record.key.as_ref(), record.value.as_ref());
                let offset = record.offset;
                self.note(entry.map_err(|cause| LoadError::Record { offset, cause })?);
            }
        }
        self.next = batch.next_offset();
        Ok(())
    }

    fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Id { id, value: Some(value) } if value.state != State::Dead => {
                self.ids.insert(id, value);
            }
            Entry::Id { id, .. } => {
                self.ids.remove(&id);
            }
            Entry::Unknown { key_version } => {
                tracing::warn!(key_version, "passed over a record of an unknown kind");
            }
        }
    }

    /// The ids that the log speaks of.
    pub(super) fn finish(self) -> BTreeMap<String, Value> {
        self.ids
    }
}
