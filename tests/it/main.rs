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
mod admin_port;
mod audit;
mod audit_chain;
mod audit_crash;
mod audit_delayed_writes;
mod audit_readiness;
mod audit_reconcile;
mod audit_report;
mod audit_rotation;
mod audit_sync;
mod audit_verify;
mod authority_header;
mod authorization;
mod azure_cli;
mod batch_api_versions;
mod batch_deadlines;
mod batch_environment;
mod batch_error_documents;
mod batch_http;
mod batch_http2;
mod batch_protected_users;
mod batch_requests;
mod batch_response_bodies;
mod batch_response_ids;
mod batch_retries;
mod batch_retry_delays;
mod batch_rules;
mod batch_validate_only;
mod breaker;
mod bulkhead;
mod call_deadlines;
mod caller_disconnects;
mod callers;
mod canaries;
mod check_config;
mod chunked_requests;
mod clock_skew;
mod close_notify;
mod concurrent_deletes;
mod config;
mod connection_limit;
mod connection_mistakes;
mod contract;
mod credential_cache;
mod docs;
mod drain;
mod error_samples;
mod examples;
mod fuzz;
mod help;
mod hmc_logon;
mod hmc_lookup;
mod hmc_retries;
mod hmc_rules;
mod hmc_session;
mod hmc_tls;
mod hostile_input;
mod http2_limits;
mod import_cycles;
mod information_disclosure;
mod large_metadata;
mod layers;
mod log_format;
mod log_injection;
mod log_output;
mod malformed_requests;
mod metrics;
mod on_behalf_of;
mod overload;
mod platforms;
mod program;
mod property_tests;
mod proto_comments;
mod quota;
mod quota_window;
mod redaction;
mod refusal_windows;
mod refusals;
mod refused_certificates;
mod retry_budget;
mod rust_client;
mod sandbox;
mod server;
mod shared_key;
mod stop_under_load;
mod store;
mod texts;
mod tokens;
mod traces;
mod upstream_connect;
mod upstream_connections;
mod worker_threads;
