//! IBM Z Hardware Management Console: `Delete User` of the Web Services API.

pub mod classify;
mod client;
mod credential;
pub mod logon_file;
pub mod logon_guard;
mod names;
pub mod rules;
mod session_watch;
pub mod wire;

pub use client::IbmHmc;
pub use names::{NAMES, UserRef, same_name};
pub use wire::{HmcUser, UserKind};
