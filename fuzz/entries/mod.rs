//! Input from untrusted peers, and the properties that must hold for any of it. Each function accepts any bytes and
//! panics if a property does not hold. `cargo +nightly fuzz run NAME` runs one without a time limit, and
//! tests/it/fuzz.rs runs all of them briefly. `fuzz/seeds/NAME/` contains initial inputs and inputs that failed once.

mod audit;
mod batch;
mod certificate;
mod config;
mod hmc;
mod path;
mod request;
mod response_text;
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
    path::{SEPARATOR, path},
    request::request,
    text::{escape, pattern},
    time::{retry_after, timeout},
    token::{jwks, token},
};

use std::path::PathBuf;

/// Returns a file or a folder below `fuzz/`, for either crate that includes this module.
#[must_use]
pub fn fuzz_path(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let inner = root.join("fuzz");
    let fuzz = if inner.is_dir() { inner } else { root };
    fuzz.join(name)
}
