//! Azure Batch: `Compute Node - Delete User` of the REST API, in the versions of `config::API_VERSIONS`.

pub mod classify;
mod client;
mod credential;
mod entra;
mod names;
pub mod rules;
mod shared_key;
pub mod wire;

pub use client::{AzureBatch, check_node};
pub use entra::causes;
pub use names::{NAMES, NodeFacts, NodeUser};
