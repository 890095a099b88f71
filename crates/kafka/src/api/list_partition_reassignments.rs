//! `ListPartitionReassignments`: there are none while a cluster is one node.

use rafka_kafka_wire::list_partition_reassignments::{Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context};
use crate::connection::Closed;

pub(super) const API: Api = Api::new(ApiKey::ListPartitionReassignments, 0..=0);

pub(super) fn answer(context: &Context, mut reader: Reader<'_>) -> Result<Answer, Closed> {
    let _all_or_some: Request<'_> = context.read(&mut reader)?;
    context.answer(&Response::default())
}
