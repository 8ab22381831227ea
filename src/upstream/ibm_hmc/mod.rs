//! IBM Z Hardware Management Console: `Delete User` of the Web Services API.

pub mod classify;
mod client;
mod credential;
pub mod logon_file;
pub mod logon_guard;
pub mod rules;
mod session_watch;
pub mod wire;

pub use client::{IbmHmc, NAMES, UserRef};
pub use wire::HmcUser;

/// Do these name the same HMC user? Names are case-insensitive there.
///
/// ASCII and other scripts never meet: the Kelvin sign folds to `k`, and must not reach a user with a `k`.
#[must_use]
pub fn same_name(a: &str, b: &str) -> bool {
    let mut pairs = a.chars().zip(b.chars());
    a.chars().count() == b.chars().count()
        && pairs.all(|(a, b)| {
            a.eq_ignore_ascii_case(&b)
                || (!a.is_ascii() && !b.is_ascii() && a.to_lowercase().eq(b.to_lowercase()))
        })
}
