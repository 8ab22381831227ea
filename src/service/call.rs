//! What an rpc's own part and the pipeline hand to each other.

use super::validate::Checked;
use crate::{
    error::{Failure, resource::ResourceNames},
    proto::DeleteOutcome,
    upstream::attempt::{Ledger, Limits},
};

/// What a call is about.
pub struct Subject {
    /// The rpc's name.
    pub rpc: &'static str,
    /// Names of the upstream.
    pub names: &'static ResourceNames,
    /// The resolved alias.
    pub target: String,
    /// The request left the alias empty.
    pub alias_is_ours: bool,
    /// The pool, where the upstream has pools.
    pub pool: Option<String>,
    /// The user, as the request names it.
    pub user: String,
    /// The request's fields.
    pub checked: Checked,
    /// Nothing is to be deleted.
    pub validate_only: bool,
    /// Whether the request names a protected user.
    pub protected: bool,
    /// `client-request-id` that is going to be sent, where the upstream has one.
    pub client_request_id: String,
}

/// What an rpc's own part needs.
pub struct Work {
    /// This server's id of the call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
    /// Deadline and caller.
    pub limits: Limits,
}

/// How an rpc's own part ended.
pub struct Finished<T> {
    /// The response and what happened, or the failure.
    pub result: Result<(T, DeleteOutcome), Failure>,
    /// The book of the DELETEs.
    pub ledger: Ledger,
    /// Identifiers that the upstream told.
    pub learned: Vec<(&'static str, String)>,
    /// What finds the call in the upstream's own logs.
    pub trace: Trace,
}

/// The ids of a call on the upstream's side, for the log and the audit log.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// `client-request-id` that was sent.
    pub client_request_id: String,
    /// `request-id` of the last answer.
    pub upstream_request_id: String,
}
