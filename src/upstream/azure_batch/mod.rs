//! Azure Batch: `Compute Node - Delete User` of the REST API 2023-11-01.18.0.

mod client;
mod credential;
mod entra;
mod federated;
pub mod rules;
mod shared_key;
pub mod verdict;
pub mod wire;

pub use client::{Action, BatchAccount, NodeUser};
