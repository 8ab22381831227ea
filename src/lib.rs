//! `useradmin`: a gRPC facade that deletes local users on Azure Batch compute nodes and users on
//! IBM Z Hardware Management Consoles. ARCHITECTURE.md shows the rooms and who may import whom.

pub mod config;
pub mod error;
pub mod pattern;
pub mod proto;
