//! The upstreams: one folder for each platform, and the code that all platforms share. These modules know neither
//! callers nor gRPC.

pub mod attempts;
pub mod azure_batch;
pub mod breaker;
pub(crate) mod bulkhead;
pub mod call_limits;
pub mod classify;
pub(crate) mod client;
pub mod credential_cache;
pub mod deadline;
pub mod ibm_hmc;
pub(crate) mod instrument;
pub mod lease;
pub mod path;
pub(crate) mod platform;
pub mod redact;
pub mod registry;
pub(crate) mod resolver;
pub mod response;
pub mod retry;
pub mod retry_budget;
pub mod run;
pub(crate) mod static_credential;
pub(crate) mod target;
