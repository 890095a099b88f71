//! `DescribeCluster`: the nodes, and who takes orders.

use rafka_core::ErrorCode;
use rafka_kafka_wire::describe_cluster::{Broker, Request, Response};
use rafka_kafka_wire::{ApiKey, Reader};

use super::{Answer, Api, Context, common};
use crate::connection::Closed;
use crate::gateway::Gateway;

pub(super) const API: Api = Api::new(ApiKey::DescribeCluster, 0..=2);

/// The endpoints that clients use, and those of controllers, which have none of their own.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn answer(
    gateway: &Gateway,
    context: &Context,
    mut reader: Reader<'_>,
) -> Result<Answer, Closed> {
    let request: Request = context.read(&mut reader)?;
    if request.endpoint_type != BROKERS {
        let code = match request.endpoint_type {
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        let (error_code, error_message) = (code.code(), Some(code.text().into()));
        return context.answer(&Response { error_code, error_message, ..Response::default() });
    }
    let cluster = gateway.cluster();
    let brokers = cluster.nodes.into_iter().map(|node| Broker {
        broker_id: node.id.0,
        host: node.host.into(),
        port: i32::from(node.port),
        ..Broker::default()
    });
    context.answer(&Response {
        cluster_id: common::id_text(cluster.cluster_id).into(),
        controller_id: cluster.controller.0,
        brokers: brokers.collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            common::CLUSTER_OPERATIONS
        } else {
            common::OPERATIONS_UNSAID
        },
        ..Response::default()
    })
}
