//! The owner while it takes over a partition: its log is read, then its ids are served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Batch, ByteSize, Epoch, PartitionIndex};

use super::owner::{Landed, Owner, Phase, Shard, Slot, What};
use crate::Error;
use crate::transaction::loader::Loader;
use crate::transaction::machine::Transaction;

/// How much of a log is read at once while it is loaded.
const LOAD_BYTES: ByteSize = ByteSize::mib(4);

/// How long to wait before a log that could not be read is tried again: each attempt reads the same
/// bytes and logs the same error.
const LOAD_PAUSE: Duration = Duration::from_secs(5);

impl Owner {
    pub(super) fn lead(&mut self, partition: PartitionIndex, epoch: Epoch) {
        if self.shards.get(&partition).is_some_and(|shard| epoch <= shard.epoch) {
            return;
        }
        self.resign(partition);
        self.shards.insert(partition, Shard { epoch, phase: Phase::Loading(Loader::default()) });
        self.read(partition, None);
    }

    /// Reads on in the log of a partition that is being loaded.
    fn read(&mut self, partition: PartitionIndex, pause: Option<Duration>) {
        let Some(Shard { epoch, phase: Phase::Loading(loader) }) = self.shards.get(&partition)
        else {
            return;
        };
        let (surroundings, epoch, from) = (Arc::clone(&self.surroundings), *epoch, loader.next());
        self.flights.push(Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let read = surroundings.read(partition, epoch, from, LOAD_BYTES).await;
            Landed { partition, epoch, what: What::Read(read) }
        }));
    }

    /// Takes in what was read, and reads on, tries again later, or begins to serve.
    pub(super) fn load(&mut self, partition: PartitionIndex, read: Result<Vec<Batch>, Error>) {
        let Some(Shard { epoch, phase: Phase::Loading(loader) }) = self.shards.get_mut(&partition)
        else {
            return;
        };
        match take(loader, read) {
            Ok(true) => self.read(partition, None),
            Ok(false) => self.serve_loaded(partition),
            Err(error) => {
                let offset = loader.next();
                let again_ms = LOAD_PAUSE.as_millis();
                tracing::error!(%partition, %epoch, %offset, error, again_ms, "cannot load transactions");
                self.read(partition, Some(LOAD_PAUSE));
            }
        }
    }

    /// Begins to serve a partition whose log has been read, and ends what was being ended.
    fn serve_loaded(&mut self, partition: PartitionIndex) {
        let Some(Shard { phase, .. }) = self.shards.get_mut(&partition) else { return };
        let Phase::Loading(loader) = std::mem::replace(phase, Phase::Ready(BTreeMap::new())) else {
            unreachable!("only a partition that is being loaded becomes ready, not {partition}");
        };
        let found = loader.finish();
        tracing::debug!(%partition, ids = found.len(), "transactions loaded");
        for (id, value) in found {
            let transaction = Transaction::restore(value, &self.turn());
            let planned = transaction.next_deadline();
            self.bytes += transaction.bytes() + id.len();
            self.id_count += 1;
            if let Some(time) = planned {
                self.deadlines.insert((time, partition, id.clone()));
            }
            if let Some(Shard { phase: Phase::Ready(ids), .. }) = self.shards.get_mut(&partition) {
                ids.insert(id, Slot { transaction, planned, waiting: None });
            }
        }
    }
}

/// Takes batches in, up to the first that cannot be read. Whether there may be more.
fn take(loader: &mut Loader, read: Result<Vec<Batch>, Error>) -> Result<bool, String> {
    let batches = read.map_err(|error| error.to_string())?;
    for batch in &batches {
        loader.take(batch).map_err(|error| error.to_string())?;
    }
    Ok(!batches.is_empty())
}
