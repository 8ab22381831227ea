//! Names of resources and users of Azure Batch.

use crate::error::resource::{
    Collection,
    Level::{Node, Pool, Target, User},
    ResourceNames,
};

pub const NAMES: ResourceNames = ResourceNames {
    title: "Azure Batch",
    upstream: "azure_batch",
    collections: &[
        Collection::new(
            Target,
            "useradmin/BatchAccount",
            "batchAccounts",
            &["account"],
        ),
        Collection::new(Pool, "useradmin/BatchPool", "pools", &["pool_id"]),
        Collection::new(Node, "useradmin/BatchNode", "nodes", &["node_id"]),
        Collection::new(User, "useradmin/BatchNodeUser", "users", &["user_name"]),
    ],
};

/// A user of a node, and the ID that identifies the call at Azure.
#[derive(Clone, Debug)]
pub struct NodeUser {
    pub pool_id: String,
    pub node_id: String,
    pub user_name: String,
    /// `client-request-id`, the same in every attempt.
    pub client_request_id: String,
    /// Whether the caller chose the `client-request-id`.
    pub callers_id: bool,
}
