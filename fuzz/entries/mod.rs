//! What strangers can send, and what must hold of it, whatever it is. Each function takes any bytes and panics when
//! something does not hold: `cargo +nightly fuzz run NAME` calls it for as long as wanted, tests/it/fuzz.rs for a
//! moment in every run of the tests. `fuzz/seeds/NAME/` holds inputs to begin with, and those that once failed.

mod answer;
mod audit;
mod batch;
mod certificate;
mod config;
mod hmc;
mod path;
mod request;
mod stack;
mod status;
mod text;
mod time;
mod token;

pub use self::{
    audit::audit,
    batch::batch,
    certificate::certificate,
    config::config,
    hmc::hmc,
    path::{BETWEEN, path},
    request::request,
    text::{escape, pattern},
    time::{retry_after, timeout},
    token::{jwks, token},
};

use std::path::PathBuf;

/// A file or a folder below `fuzz/`, for whichever crate this is a module of.
#[must_use]
pub fn below(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let inner = root.join("fuzz");
    let fuzz = if inner.is_dir() { inner } else { root };
    fuzz.join(name)
}
