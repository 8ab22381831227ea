//! The state of the users of one target. Each call of the load uses a new user, which is identified by its number.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// The requests for a user and their effect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Number of DELETE requests received.
    pub asked: u32,
    pub deleted: bool,
}

/// The users for which a DELETE request was received.
#[derive(Default)]
pub struct Users(Mutex<HashMap<u32, Done>>);

impl Users {
    pub fn book(&self) -> MutexGuard<'_, HashMap<u32, Done>> {
        self.0.lock().unwrap()
    }

    pub fn done(&self, user: u32) -> Done {
        self.book().get(&user).copied().unwrap_or_default()
    }

    pub fn is_there(&self, user: u32) -> bool {
        Traits::of(user).exists && !self.done(user).deleted
    }

    /// Records a DELETE request, and deletes the user if it exists and `write_to` is set. Returns whether the user
    /// existed.
    pub fn delete(&self, user: u32, write_to: bool) -> bool {
        let mut book = self.book();
        let done = book.entry(user).or_default();
        done.asked += 1;
        let was_there = Traits::of(user).exists && !done.deleted;
        done.deleted |= was_there && write_to;
        was_there
    }
}

/// The properties of a user and of the call that deletes it. They are derived from the user's number.
#[allow(clippy::struct_excessive_bools, reason = "each is a coin of its own")]
pub struct Traits {
    /// Whether the user exists at the start; one in eight does not.
    pub exists: bool,
    pub allow_missing: bool,
    /// Whether the call names the user by object ID. Ignored for Batch accounts.
    pub by_id: bool,
    /// Whether the caller may cancel the call before the response; one in 32 does.
    pub leaves: bool,
}

impl Traits {
    pub const fn of(user: u32) -> Self {
        let bits = user.wrapping_mul(2_654_435_761) >> 16;
        Self {
            exists: bits & 7 != 0,
            allow_missing: bits & 8 != 0,
            by_id: bits & 16 != 0,
            leaves: (bits >> 5).is_multiple_of(32),
        }
    }
}
