//! The service `rafka.v1.Admin`: topics, configurations, the cluster.

mod configs;
mod topics;

use std::sync::Arc;

use rafka_proto::v1::{
    self, AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest,
    DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeTopicsRequest, DescribeTopicsResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListTopicsRequest, ListTopicsResponse, admin_server,
};
use tonic::{Request, Response, Status};

use crate::gateway::Gateway;
use crate::transactions;

/// The service.
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
}

impl Admin {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn create_topics(
        &self,
        request: Request<CreateTopicsRequest>,
    ) -> Result<Response<CreateTopicsResponse>, Status> {
        topics::create(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn delete_topics(
        &self,
        request: Request<DeleteTopicsRequest>,
    ) -> Result<Response<DeleteTopicsResponse>, Status> {
        topics::delete(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        Ok(Response::new(topics::list(&self.gateway.broker, &request.into_inner())))
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        topics::describe(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn describe_configs(
        &self,
        request: Request<DescribeConfigsRequest>,
    ) -> Result<Response<DescribeConfigsResponse>, Status> {
        configs::describe(&self.gateway.broker, request.into_inner()).map(Response::new)
    }

    async fn alter_configs(
        &self,
        request: Request<AlterConfigsRequest>,
    ) -> Result<Response<AlterConfigsResponse>, Status> {
        configs::alter(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn create_partitions(
        &self,
        request: Request<CreatePartitionsRequest>,
    ) -> Result<Response<CreatePartitionsResponse>, Status> {
        topics::grow(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn delete_records(
        &self,
        request: Request<DeleteRecordsRequest>,
    ) -> Result<Response<DeleteRecordsResponse>, Status> {
        topics::delete_records(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn describe_cluster(
        &self,
        _request: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        let cluster = self.gateway.broker.describe_cluster(rafka_broker::LISTENER_GRPC);
        let node = |node: rafka_broker::topics::Node| v1::DescribedNode {
            node_id: node.id.0,
            address: address(&node.host, node.port),
        };
        Ok(Response::new(DescribeClusterResponse {
            cluster_id: cluster.cluster_id.to_string(),
            node_id: cluster.controller.0,
            nodes: cluster.nodes.into_iter().map(node).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn init_producer_id(
        &self,
        request: Request<InitProducerIdRequest>,
    ) -> Result<Response<InitProducerIdResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(transactions::init_producer_id(&self.gateway.broker, request).await))
    }
}

/// Host and port as clients dial them.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_of_ipv6_hosts_are_bracketed() {
        assert_eq!(address("node-1", 9192), "node-1:9192");
        assert_eq!(address("127.0.0.1", 9192), "127.0.0.1:9192");
        assert_eq!(address("::1", 9192), "[::1]:9192");
    }
}
