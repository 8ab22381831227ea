//! Tests through the real server over the wire. One binary: a link step costs more than all of them.

#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod access;
mod hostile;
mod properties;
mod sandbox;
mod server;
mod support;
