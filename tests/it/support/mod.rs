//! What all tests share: the server in this process, a scripted upstream, decoded errors.

mod app;
mod failure;
mod scripted;
mod targets;

pub use app::{App, batch_request, by_id, by_name};
pub use failure::Failed;
pub use scripted::{Reply, Seen, Upstream};
pub use targets::{batch_section, hmc_or, hmc_section, token_or};
