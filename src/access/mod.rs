//! Who may do what, how often, and what was written down. Knows no upstream.

pub mod audit;
pub mod policy;
pub mod quota;
