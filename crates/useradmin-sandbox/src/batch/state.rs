//! State of the simulated account: the deleted users.

use std::collections::HashSet;
use std::sync::Mutex;

use super::codes;
use super::fixtures::{NODES, Node, POOLS, Pool, SILENT, USERS};
use super::reply::Fault;
use crate::net::lock;

/// Returns a pool, or the error for an unknown one. Pool IDs are case-insensitive.
pub(super) fn pool(pool: &str) -> Result<&'static Pool, Fault> {
    let found = POOLS
        .iter()
        .find(|fixture| fixture.id.eq_ignore_ascii_case(pool));
    found.ok_or_else(|| Fault::new("PoolNotFound"))
}

/// Returns a node of a pool, or the error for an unknown node, an unknown pool or a pool that refuses requests. The
/// documentation does not specify this for node IDs, so they are compared exactly.
pub(super) fn node(pool: &str, node: &str) -> Result<&'static Node, Fault> {
    match self::pool(pool)?.refuses {
        Some(code) => Err(Fault::new(code)),
        None => NODES
            .iter()
            .find(|fixture| fixture.id == node)
            .ok_or_else(|| Fault::new("NodeNotFound")),
    }
}

/// The deleted users, by node ID and user name.
#[derive(Default)]
pub(super) struct State {
    deleted: Mutex<HashSet<(&'static str, String)>>,
}

impl State {
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
