//! The simulated account: its pools, nodes and users, and what a deletion does to them.
//!
//! Only the deletions are state; everything else is a table. No HTTP here.

use std::collections::HashSet;
use std::sync::Mutex;

use super::super::net::lock;
use super::codes;
use super::reply::Fault;

/// A pool and the code that every call on its nodes gets.
struct Pool {
    id: &'static str,
    refuses: Option<&'static str>,
}

/// A node of `pool-1`.
pub(super) struct Node {
    pub(super) id: &'static str,
    pub(super) state: &'static str,
    /// The code of a deletion; the document allows it in the states idle and running only.
    refuses: Option<&'static str>,
}

static POOLS: [Pool; 4] = [
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

static NODES: [Node; 14] = [
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
static USERS: [&str; 5] = ["alice", "bob", "carol", "josé", "user name/with ?#%"];

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

/// Pool IDs are case-insensitive; of node IDs nobody says so.
pub(super) fn node(pool: &str, node: &str) -> Result<&'static Node, Fault> {
    let known = POOLS
        .iter()
        .find(|known| known.id.eq_ignore_ascii_case(pool));
    match known.ok_or_else(|| Fault::new("PoolNotFound"))?.refuses {
        Some(code) => Err(Fault::new(code)),
        None => NODES
            .iter()
            .find(|known| known.id == node)
            .ok_or_else(|| Fault::new("NodeNotFound")),
    }
}

/// The account as it is now.
#[derive(Default)]
pub(super) struct World {
    deleted: Mutex<HashSet<(&'static str, String)>>,
}

impl World {
    pub(super) fn delete_user(&self, pool: &str, node: &str, user: &str) -> Result<(), Fault> {
        let node = self::node(pool, node)?;
        if let Some(code) = node.refuses {
            return Err(Fault::new(code));
        }
        if user == SILENT {
            return Ok(());
        }
        if node.id == "node-idle"
            && let Some(row) = user.strip_prefix("answer-").and_then(codes::find)
        {
            return Err(Fault::of(row));
        }
        let deleted =
            USERS.contains(&user) && lock(&self.deleted).insert((node.id, user.to_owned()));
        if deleted {
            Ok(())
        } else {
            Err(Fault::new("NodeUserNotFound"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code without a row would silently become an internal error.
    #[test]
    fn every_refusal_is_a_409_of_the_table() {
        let nodes = NODES.iter().filter_map(|node| node.refuses);
        for code in POOLS.iter().filter_map(|pool| pool.refuses).chain(nodes) {
            assert_eq!(codes::find(code).map(|row| row.status), Some(409), "{code}");
        }
    }
}
