//! The initial pools, nodes and users of the simulated account.

/// A pool. If `refuses` is set, all requests for its nodes fail with this code.
pub(super) struct Pool {
    pub(super) id: &'static str,
    pub(super) refuses: Option<&'static str>,
}

/// A node of `pool-1`.
pub(super) struct Node {
    pub(super) id: &'static str,
    pub(super) state: &'static str,
    /// Error code with which deletions on this node fail. According to the documentation, users can be deleted only
    /// in the states idle and running.
    pub(super) refuses: Option<&'static str>,
}

pub(super) static POOLS: [Pool; 4] = [
    Pool {
        id: "pool-1",
        refuses: None,
    },
    Pool {
        id: "pool-deleting",
        refuses: Some("PoolBeingDeleted"),
    },
    Pool {
        id: "pool-resizing",
        refuses: Some("PoolBeingResized"),
    },
    Pool {
        id: "pool-creating",
        refuses: Some("PoolBeingCreated"),
    },
];

pub(super) static NODES: [Node; 16] = [
    ready("node-idle", "idle"),
    ready("node-running", "running"),
    ready("tvm-1695681911_1-20161121t182739z", "idle"),
    busy("node-creating", "creating", "NodeBeingCreated"),
    busy("node-starting", "starting", "NodeBeingStarted"),
    busy("node-rebooting", "rebooting", "NodeBeingRebooted"),
    busy("node-reimaging", "reimaging", "NodeBeingReimaged"),
    busy("node-unusable", "unusable", "NodeStateUnusable"),
    // The vendor documents no specific codes for the remaining states, so they share the general code. It does not
    // document either which state older versions of the API report for a deallocated node.
    busy("node-offline", "offline", "OperationInvalidForCurrentState"),
    busy(
        "node-preempted",
        "preempted",
        "OperationInvalidForCurrentState",
    ),
    busy("node-unknown", "unknown", "OperationInvalidForCurrentState"),
    busy(
        "node-leavingpool",
        "leavingpool",
        "OperationInvalidForCurrentState",
    ),
    busy(
        "node-deallocated",
        "deallocated",
        "OperationInvalidForCurrentState",
    ),
    busy(
        "node-deallocating",
        "deallocating",
        "OperationInvalidForCurrentState",
    ),
    busy(
        "node-waitingforstarttask",
        "waitingforstarttask",
        "OperationInvalidForCurrentState",
    ),
    busy(
        "node-starttaskfailed",
        "starttaskfailed",
        "OperationInvalidForCurrentState",
    ),
];

/// The user whose deletion receives no response.
pub(super) const SILENT: &str = "answer-nothing";

/// The user that every pool defines, so that Azure Batch creates it on each new node.
pub(super) const POOL_USER: &str = "carol";

/// The users of each node that is idle or running.
pub(super) static USERS: [&str; 5] = ["alice", "bob", "carol", "josé", "user name/with ?#%"];

const fn ready(id: &'static str, state: &'static str) -> Node {
    Node {
        id,
        state,
        refuses: None,
    }
}

const fn busy(id: &'static str, state: &'static str, code: &'static str) -> Node {
    Node {
        id,
        state,
        refuses: Some(code),
    }
}

#[cfg(test)]
mod tests {
    use super::{NODES, POOLS};
    use crate::batch::codes;

    /// Checks that each code is in the table: a missing one would be replaced with an internal error.
    #[test]
    fn node_refusals_are_documented_409_codes() {
        let nodes = NODES.iter().filter_map(|node| node.refuses);
        for code in POOLS.iter().filter_map(|pool| pool.refuses).chain(nodes) {
            assert_eq!(codes::find(code).map(|row| row.status), Some(409), "{code}");
        }
    }
}
