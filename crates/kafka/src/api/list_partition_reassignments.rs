//! `ListPartitionReassignments`: replicas that are on their way to other nodes, of which there is none.

use rafka_kafka_wire::list_partition_reassignments::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;

pub(super) const API: Api = Api::new(ApiKey::ListPartitionReassignments, 0..=0);

pub(super) fn answer(context: &Context, mut reader: Reader<'_>) -> Result<Answer, Closed> {
    context.read::<Request<'_>>(&mut reader)?;
    // Only what is under way is listed, also of topics that do not exist.
    context.answer(&Response::default())
}
