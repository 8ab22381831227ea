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
mod process;
mod secure;
mod targets;
mod tokens;
mod upstream;
mod wait;

pub use app::{App, COMMON, batch_request, by_id, by_name};
pub use audit_log::{Forged, lines, records, sha256, text_of, verify};
pub use azure_batch::{
    CANARY, REQUEST_ID, batch, batch_answer, batch_deleted, batch_document, batch_error,
    batch_within, check_secrecy, in_turn,
};
pub use collector::{Collector, ReceivedSpan};
pub use failure::Failed;
pub use hmc::{Console, Say, Step, refusal, timed, usual};
pub use process::{Process, configure, configure_with_admin, free_port, program, run, run_in};
pub use secure::{Secure, alert, connect, connector};
pub use targets::{batch_section, hmc_or, hmc_section, token_or, write_secret};
pub use tokens::{Signer, claims, now};
pub use upstream::{Reply, Request as Seen, Settings, Upstream, serve};
pub use wait::{ask, expect_at_once, until};
