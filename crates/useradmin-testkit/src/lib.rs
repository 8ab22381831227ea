//! Common parts of the tests, the soak test and the benchmark: the server under test, an upstream that injects faults,
//! certificates, tokens, and decoded errors.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::panic,
    clippy::return_self_not_must_use,
    clippy::unwrap_used,
    reason = "code of tests, which ends with a panic when something is wrong"
)]

mod app;
mod audit_log;
mod azure_batch;
pub mod canary;
mod collector;
mod failure;
mod hmc;
mod outcome;
pub mod pki;
mod postgres;
mod process;
mod secure;
mod store;
mod targets;
mod tcp_proxy;
mod tokens;
mod upstream;
mod wait;

pub use app::{App, COMMON, batch_request, delete_by_id, delete_by_name};
pub use audit_log::{ForgedLog, lines, records, sha256, values_of, verify};
pub use azure_batch::{
    CANARY, REQUEST_ID, assert_not_disclosed, batch_deleted, batch_document, batch_error,
    batch_response, batch_with_timeout, in_sequence, start_batch,
};
pub use collector::{Collector, ReceivedSpan};
pub use failure::CallFailure;
pub use hmc::{HmcSetup, ScriptedReply, Step, default_reply, error_reply, with_timeout};
pub use postgres::{Database, Postgres};
pub use process::{
    Process, configure, configure_with_admin, free_port, program, run, run_with_env,
};
pub use secure::{SecureClient, alert, connect, connector};
pub use store::{STORE_USER, Store, run_with_database};
pub use targets::{batch_section, hmc_reply_or, hmc_section, token_reply_or, write_secret};
pub use tcp_proxy::{Cut, TcpProxy};
pub use tokens::{Signer, default_claims, now};
pub use upstream::{Reply, Request as ReceivedRequest, Settings, Upstream, serve};
pub use wait::{assert_immediate, http_get, wait_until};
