//! What all tests share: the server in this process, a scripted upstream, decoded errors.

mod app;
mod batch;
pub mod canary;
mod collector;
mod failure;
mod hmc;
mod ledger;
mod looks;
pub mod pki;
mod process;
mod request;
mod scripted;
pub mod secure;
mod streams;
mod targets;
mod tokens;
mod told;

pub use app::{App, COMMON, batch_request, by_id, by_name};
pub use batch::{
    CANARY, REQUEST_ID, batch, batch_answer, batch_deleted, batch_document, batch_error,
    batch_within, check_secrecy, in_turn,
};
pub use collector::{Collector, Told};
pub use failure::Failed;
pub use hmc::{Console, Say, Step, refusal, timed, usual};
pub use ledger::{Forged, lines, records, sha256, text_of, verify};
pub use looks::{ask, expect_at_once, until};
pub use process::{Process, configure, configure_with_admin, free_port, run, run_in};
pub use scripted::{Reply, Seen, Upstream};
pub use secure::{Secure, alert};
pub use streams::{Http2, Stream};
pub use targets::{batch_section, hmc_or, hmc_section, token_or};
pub use tokens::{Signer, claims, now};
