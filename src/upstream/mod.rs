//! The upstreams: one folder for each platform, and what they share. Imports nothing of callers or gRPC.

pub mod attempts;
pub mod azure_batch;
pub mod breaker;
pub mod bulkhead;
pub mod call_limits;
pub mod classify;
pub mod client;
pub mod credential_cache;
pub mod deadline;
pub mod ibm_hmc;
pub mod instrument;
pub mod path;
pub mod platform;
pub mod redact;
pub mod registry;
pub mod resilience;
pub mod resolver;
pub mod response;
pub mod retry;
pub mod retry_budget;
pub mod static_credential;
pub mod target;
