//! The state of the users of one target. Each call of the load uses a new user, which is identified by its number.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// The requests for a user and their effect.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserRequests {
    /// Number of DELETE requests received.
    pub deletes_received: u32,
    pub deleted: bool,
}

/// The users for which a DELETE request was received.
#[derive(Default)]
pub struct Users(Mutex<HashMap<u32, UserRequests>>);

impl Users {
    pub fn lock(&self) -> MutexGuard<'_, HashMap<u32, UserRequests>> {
        self.0.lock().unwrap()
    }

    pub fn requests_for(&self, user: u32) -> UserRequests {
        self.lock().get(&user).copied().unwrap_or_default()
    }

    pub fn exists(&self, user: u32) -> bool {
        Traits::of(user).exists && !self.requests_for(user).deleted
    }

    /// Records a DELETE request, and deletes the user if it exists and `carry_out` is true. Returns whether the user
    /// existed.
    pub fn delete(&self, user: u32, carry_out: bool) -> bool {
        let mut users = self.lock();
        let requests = users.entry(user).or_default();
        requests.deletes_received += 1;
        let existed = Traits::of(user).exists && !requests.deleted;
        requests.deleted |= existed && carry_out;
        existed
    }
}

/// The properties of a user and of the call that deletes it. They are derived from the user's number.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent property"
)]
pub struct Traits {
    /// Whether the user exists at the start; one in eight does not.
    pub exists: bool,
    pub allow_missing: bool,
    /// Whether the call names the user by object ID. Ignored for Batch accounts.
    pub by_id: bool,
    /// Whether the caller may cancel the call before the response; one in 32 does.
    pub may_cancel: bool,
}

impl Traits {
    pub const fn of(user: u32) -> Self {
        let bits = user.wrapping_mul(2_654_435_761) >> 16;
        Self {
            exists: bits & 7 != 0,
            allow_missing: bits & 8 != 0,
            by_id: bits & 16 != 0,
            may_cancel: (bits >> 5).is_multiple_of(32),
        }
    }
}
