//! `useradmin`: a gRPC facade that deletes local users on Azure Batch compute nodes and users on IBM Z Hardware
//! Management Consoles. ARCHITECTURE.md describes the modules and the direction of imports.

#![allow(
    missing_docs,
    reason = "the library serves the program and its tests only"
)]

pub mod access;
pub mod audit;
pub mod caller_token;
mod certificates;
pub mod cli;
mod client_tls;
mod codec;
pub mod config;
pub mod error;
pub mod escape;
mod file_fingerprint;
mod grpc_client;
mod grpc_code;
pub mod identity;
pub mod json;
pub mod jwks;
pub mod metrics;
pub mod names;
pub mod pattern;
pub mod postgres;
pub mod proto;
mod public_keys;
pub mod rlimit;
pub mod runtimes;
pub mod server;
pub mod service;
mod signals;
pub mod telemetry;
mod timestamp;
mod trace;
pub mod upstream;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "sandbox")]
pub use useradmin_sandbox as sandbox;

/// Locks a mutex, even after a panic: the data of every mutex in this crate is consistent at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the current time in seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
