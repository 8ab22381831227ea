//! The generated code of `proto/useradmin/v1`, and its descriptors.

#![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

tonic::include_proto!("useradmin.v1");

/// Descriptors of `useradmin.v1` with the comments of the proto files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/useradmin.bin"));
