//! The service `rafka.v1.Groups`: membership, committed offsets, and the administration of groups.

mod admin;
mod describe;
mod membership;
pub(crate) mod offsets;

use std::sync::Arc;

use rafka_broker::Error;
use rafka_core::PartitionIndex;
use rafka_proto::v1::{
    self, CommitOffsetsRequest, CommitOffsetsResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DeleteOffsetsRequest, DeleteOffsetsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FetchOffsetsRequest, FetchOffsetsResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse, groups_server,
};
use tonic::{Request, Response, Status};

use crate::connection;
use crate::convert;
use crate::gateway::Gateway;

/// The most groups that one call may name: each costs several questions.
const GROUPS_MAX: usize = 1000;

/// The service.
pub(crate) struct Groups {
    gateway: Arc<Gateway>,
}

impl Groups {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

#[tonic::async_trait]
impl groups_server::Groups for Groups {
    async fn join_group(
        &self,
        request: Request<JoinGroupRequest>,
    ) -> Result<Response<JoinGroupResponse>, Status> {
        let host = connection::client_host(request.extensions());
        let request = request.into_inner();
        membership::join(self.gateway.broker.groups(), request, host).await.map(Response::new)
    }

    async fn sync_group(
        &self,
        request: Request<SyncGroupRequest>,
    ) -> Result<Response<SyncGroupResponse>, Status> {
        let groups = self.gateway.broker.groups();
        membership::sync(groups, request.into_inner()).await.map(Response::new)
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let groups = self.gateway.broker.groups();
        Ok(Response::new(membership::heartbeat(groups, request.into_inner()).await))
    }

    async fn leave_group(
        &self,
        request: Request<LeaveGroupRequest>,
    ) -> Result<Response<LeaveGroupResponse>, Status> {
        let groups = self.gateway.broker.groups();
        membership::leave(groups, request.into_inner()).await.map(Response::new)
    }

    async fn commit_offsets(
        &self,
        request: Request<CommitOffsetsRequest>,
    ) -> Result<Response<CommitOffsetsResponse>, Status> {
        let groups = self.gateway.broker.groups();
        let commit = |order| groups.commit_offsets(order);
        offsets::commit(request.into_inner(), commit).await.map(Response::new)
    }

    async fn fetch_offsets(
        &self,
        request: Request<FetchOffsetsRequest>,
    ) -> Result<Response<FetchOffsetsResponse>, Status> {
        let groups = self.gateway.broker.groups();
        offsets::fetch(groups, request.into_inner()).await.map(Response::new)
    }

    async fn delete_offsets(
        &self,
        request: Request<DeleteOffsetsRequest>,
    ) -> Result<Response<DeleteOffsetsResponse>, Status> {
        let groups = self.gateway.broker.groups();
        offsets::delete(groups, request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(
        &self,
        request: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        let groups = self.gateway.broker.groups();
        admin::list(groups, &request.into_inner()).await.map(Response::new)
    }

    async fn describe_groups(
        &self,
        request: Request<DescribeGroupsRequest>,
    ) -> Result<Response<DescribeGroupsResponse>, Status> {
        describe::describe(&self.gateway.broker, request.into_inner()).await.map(Response::new)
    }

    async fn delete_groups(
        &self,
        request: Request<DeleteGroupsRequest>,
    ) -> Result<Response<DeleteGroupsResponse>, Status> {
        let groups = self.gateway.broker.groups();
        admin::delete(groups, request.into_inner()).await.map(Response::new)
    }
}

/// Checks the number of groups that a call names.
fn check_groups(found: usize) -> Result<(), Status> {
    match found {
        0 => Err(convert::invalid("groups is empty: name at least one")),
        1..=GROUPS_MAX => Ok(()),
        _ => {
            let message = format!("groups has {found} items: at most {GROUPS_MAX} are allowed");
            Err(convert::invalid(message))
        }
    }
}

/// The outcome for one partition.
fn partition_result(
    topic: String,
    partition: i32,
    result: Result<(), Error>,
) -> v1::PartitionResult {
    let error = result.err().map(|error| convert::error(&error));
    v1::PartitionResult { topic, partition, error }
}

fn index(partition: i32) -> PartitionIndex {
    PartitionIndex(partition)
}
