//! Replicas that clients assign to nodes themselves.

use std::collections::BTreeSet;

use rafka_broker::Error;
use rafka_core::ErrorCode;

use crate::gateway::Gateway;

/// Checks the replicas of one partition: at least one, each on another node that there is.
///
/// # Errors
/// What is wrong with them.
pub(super) fn check(gateway: &Gateway, replicas: &[i32]) -> Result<(), Error> {
    if replicas.is_empty() {
        return Err(invalid("a partition needs at least one replica"));
    }
    let nodes: BTreeSet<i32> = gateway.cluster().nodes.into_iter().map(|node| node.id.0).collect();
    let mut seen = BTreeSet::new();
    for node in replicas {
        if !seen.insert(node) {
            return Err(invalid(format!(
                "two replicas of a partition are assigned to node {node}"
            )));
        }
        if !nodes.contains(node) {
            return Err(invalid(format!(
                "a replica is assigned to node {node}, which there is not"
            )));
        }
    }
    Ok(())
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorCode::InvalidReplicaAssignment, message)
}
