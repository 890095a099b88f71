//! Producer ids, handed out from blocks that the cluster granted to this node.

use rafka_core::{ProducerEpoch, ProducerId};

use super::{Broker, Inner, topics};
use crate::Error;

impl Broker {
    /// A producer id that nobody had before, for an idempotent producer.
    ///
    /// # Errors
    /// If the node has none left and cannot get more.
    ///
    /// # Cancel safety
    /// Dropped before it completes, ids may be skipped, which does no harm.
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        Ok((self.inner.new_producer_id().await?, ProducerEpoch(0)))
    }
}

impl Inner {
    /// A producer id that nobody had before.
    pub(super) async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        let next = || self.producer_ids.lock().next();
        let id = match next() {
            Some(id) => id,
            None => {
                let block = self.metadata.producer_id_block().await.map_err(topics::refused)?;
                let mut ids = self.producer_ids.lock();
                // Somebody else may have got a block meanwhile: what is left of it is skipped.
                *ids = block.start.0..block.end.0;
                ids.next().expect("a block holds a thousand ids")
            }
        };
        Ok(ProducerId(id))
    }
}
