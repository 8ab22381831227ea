//! The pools, nodes and users of the simulated account at the start.

/// A pool and the code that every call on its nodes gets.
pub(super) struct Pool {
    pub(super) id: &'static str,
    pub(super) refuses: Option<&'static str>,
}

/// A node of `pool-1`.
pub(super) struct Node {
    pub(super) id: &'static str,
    pub(super) state: &'static str,
    /// The code of a deletion; the document allows it in the states idle and running only.
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

pub(super) static NODES: [Node; 14] = [
    ready("node-idle", "idle"),
    ready("node-running", "running"),
    ready("tvm-1695681911_1-20161121t182739z", "idle"),
    busy("node-creating", "creating", "NodeBeingCreated"),
    busy("node-starting", "starting", "NodeBeingStarted"),
    busy("node-rebooting", "rebooting", "NodeBeingRebooted"),
    busy("node-reimaging", "reimaging", "NodeBeingReimaged"),
    busy("node-unusable", "unusable", "NodeStateUnusable"),
    // No code carries the name of the remaining states, so they share the general one.
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

/// The user whose deletion is never answered.
pub(super) const SILENT: &str = "answer-nothing";

/// The users of every node that is ready.
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

    /// A code without a row would silently become an internal error.
    #[test]
    fn every_refusal_is_a_409_of_the_table() {
        let nodes = NODES.iter().filter_map(|node| node.refuses);
        for code in POOLS.iter().filter_map(|pool| pool.refuses).chain(nodes) {
            assert_eq!(codes::find(code).map(|row| row.status), Some(409), "{code}");
        }
    }
}
