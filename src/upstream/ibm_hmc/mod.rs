//! IBM Z Hardware Management Console: `Delete User` of the Web Services API.

mod account;
pub mod classify;
mod client;
mod credential;
mod local_guard;
mod logon_file;
mod logon_guard;
mod logon_records;
mod names;
mod password_digest;
pub mod rules;
mod session_watch;
mod store_guard;
pub mod wire;

pub use client::IbmHmc;
pub use names::{NAMES, UserRef, same_name};
pub use wire::{HmcUser, UserKind};
