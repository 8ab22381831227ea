//! What became of the users of one target. Each call of the load has a user of its own, which is known by its number.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// What became of a user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// DELETEs that were read.
    pub asked: u32,
    pub deleted: bool,
}

/// The users that somebody asked for.
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

    /// A DELETE has come. Was the user there?
    pub fn delete(&self, user: u32, carry_out: bool) -> bool {
        let mut book = self.book();
        let done = book.entry(user).or_default();
        done.asked += 1;
        let was_there = Traits::of(user).exists && !done.deleted;
        done.deleted |= was_there && carry_out;
        was_there
    }
}

/// What is particular to a user and to the call that wants it deleted; it follows from the number.
#[allow(clippy::struct_excessive_bools, reason = "each is a coin of its own")]
pub struct Traits {
    /// One in eight has never been there.
    pub exists: bool,
    pub allow_missing: bool,
    /// By object ID, where there is one.
    pub by_id: bool,
    /// One caller in 32 does not wait for the answer.
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
