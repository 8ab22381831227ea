//! Integration tests of the real server over the wire. All of them are one binary, because linking several would take
//! longer than running the tests.

// `disallowed_methods` applies to the modules of `src/`.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used
)]

mod abuse;
mod access;
mod admin_port;
mod audit;
mod audit_chain;
mod audit_crash;
mod audit_late;
mod audit_readiness;
mod audit_rotation;
mod audit_sync;
mod audit_verify;
mod authority;
mod azure_cli;
mod batch_bodies;
mod batch_caller;
mod batch_documents;
mod batch_environment;
mod batch_http;
mod batch_http2;
mod batch_ids;
mod batch_pauses;
mod batch_protected;
mod batch_retries;
mod batch_rows;
mod batch_validate;
mod batch_wire;
mod breaker;
mod budget;
mod bulkhead;
mod caller_disconnects;
mod callers;
mod canaries;
mod chunked_requests;
mod clocks;
mod close_notify;
mod comments;
mod config;
mod connecting;
mod connections;
mod contract;
mod credential_cache;
mod docs;
mod draining;
mod examples;
mod fuzz;
mod hmc_logon;
mod hmc_lookup;
mod hmc_retries;
mod hmc_rows;
mod hmc_session;
mod hmc_tls;
mod hostile;
mod imports;
mod information_disclosure;
mod large_metadata;
mod lines;
mod log_output;
mod metadata;
mod metrics;
mod overload;
mod platforms;
mod program;
mod properties;
mod quota;
mod refusals;
mod refused_certificates;
mod remaining_time;
mod rooms;
mod rust_client;
mod sandbox;
mod secrets;
mod server;
mod shared_key;
mod stops;
mod tokens;
mod traces;
mod two_callers;
mod unreadable;
mod upstream_connections;
mod workers;
