//! Names of resources and users of an HMC.

use crate::error::resource::{Collection, Level, ResourceNames};

pub const NAMES: ResourceNames = ResourceNames {
    display_name: "the HMC",
    upstream: "ibm_hmc",
    collections: &[
        Collection::new(Level::Target, "useradmin/Hmc", "hmcs", &["hmc"]),
        Collection::new(
            Level::User,
            "useradmin/HmcUser",
            "users",
            &["user_id", "user_name"],
        ),
    ],
};

/// How a request identifies a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRef {
    Id(String),
    /// The name, in any case.
    Name(String),
}

/// Returns whether two names are those of the same user. The HMC ignores the case of names.
///
/// An ASCII character never equals a character outside of ASCII. For example, the lower case of the Kelvin sign is
/// `k`, but a name with this sign must not match a user whose name has a `k`.
pub fn same_name(a: &str, b: &str) -> bool {
    let mut pairs = a.chars().zip(b.chars());
    a.chars().count() == b.chars().count()
        && pairs.all(|(a, b)| {
            a.eq_ignore_ascii_case(&b)
                || (!a.is_ascii() && !b.is_ascii() && a.to_lowercase().eq(b.to_lowercase()))
        })
}
