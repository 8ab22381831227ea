//! Azure Batch: `Compute Node - Delete User` of the REST API 2023-11-01.18.0.

mod azure_cli;
pub mod classify;
mod client;
mod credential;
mod entra;
mod federated;
mod names;
pub mod no_token;
pub mod rules;
mod shared_key;
mod token_document;
mod token_endpoint;
pub mod wire;

pub use client::{AzureBatch, Node};
pub use names::{NAMES, NodeUser};
