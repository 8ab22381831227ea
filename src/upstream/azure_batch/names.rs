//! Names of resources and users of Azure Batch.

use crate::error::resource::{
    Collection,
    Level::{Node, Pool, Target, User},
    ResourceNames,
};

pub const NAMES: ResourceNames = ResourceNames {
    display_name: "Azure Batch",
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

/// Facts about the node of a user, and about its pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// State of the node; empty if the node was not read.
    pub state: String,
    /// Whether the pool itself defines a user with this name; `None` if the pool was not read.
    pub defined_by_pool: Option<bool>,
}

/// A user of a node, and the ID that identifies the call in the logs of Azure Batch.
#[derive(Clone, Debug)]
pub struct NodeUser {
    pub pool_id: String,
    pub node_id: String,
    pub user_name: String,
    /// The `client-request-id`, which is the same in every attempt of a call.
    pub client_request_id: String,
    /// Whether the caller chose the `client-request-id`. Otherwise this server did.
    pub id_is_from_caller: bool,
}
