//! Builds the gRPC status of a failure. No other module builds one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message;
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
};
use tonic_types::{ErrorDetails, PreconditionViolation, QuotaViolation, StatusExt as _};

use super::{
    DOMAIN, Effect, Failure,
    document::ErrorDocument,
    recipe::{Extra, Subject, recipe, retry_delay},
    resource::{Level, ResourceNames},
};

/// Maximum size of a serialized `google.rpc.Status`, in bytes. Several clients lose the status if trailers are larger.
pub const MAX_STATUS_BYTES: usize = 3_072;

/// Maximum length of a text in metadata or in a typed detail, in bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// Maximum number of key-value pairs of a `BatchError` detail.
pub const MAX_BATCH_VALUES: usize = 8;

/// Trailer that delays or prevents the automatic retry of a client library (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

#[derive(Clone, Debug, Default)]
pub struct CallFacts {
    /// Names of the upstream's resources. `None` for services without an upstream, such as health.
    pub names: Option<&'static ResourceNames>,
    pub caller: Arc<str>,
    /// The ID that this server assigned to the call.
    pub request_id: Arc<str>,
    /// The valid fields of the request: the name of each field in the proto, and its value.
    pub identifiers: Vec<(&'static str, String)>,
    /// Number of DELETEs that were started.
    pub attempts: u32,
    /// The least certain effect of all attempts.
    pub outcome: Effect,
    /// Whether the server read the user after a DELETE with an unknown effect, and the user was still there.
    pub user_was_present: bool,
}

impl CallFacts {
    /// Creates the facts of a call of which only the ID is known.
    pub fn of_request(request_id: Arc<str>) -> Self {
        Self {
            request_id,
            ..Self::default()
        }
    }

    fn identifier(&self, name: &str) -> &str {
        self.identifiers
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }
}

pub fn status(failure: &Failure, facts: &CallFacts) -> Status {
    let (code, extras) = form(failure);
    let mut details = ErrorDetails::new();
    details.set_error_info(
        failure.reason.as_str_name(),
        DOMAIN,
        metadata(failure, facts),
    );
    details.set_request_info(&*facts.request_id, "");
    for extra in extras {
        add(&mut details, *extra, failure, facts);
    }
    let recipe = recipe(failure.reason);
    let upstream_response = failure.upstream_response.as_deref();
    let document = upstream_response.and_then(|response| response.document.clone());
    let mut status = build_status(code, recipe.message, details, document);
    let client_may_retry = recipe.client_may_retry && facts.attempts == 0;
    let delay = client_may_retry.then(|| delay(failure, extras)).flatten();
    status.metadata_mut().insert(PUSHBACK, pushback(delay));
    status
}

/// Returns the delay after which the same request may be repeated, or `None` if a repetition does not help.
fn delay(failure: &Failure, extras: &[Extra]) -> Option<Duration> {
    retry_delay(extras).map(|usual| failure.retry_after.unwrap_or(usual))
}

/// Returns the delay in milliseconds, or -1, which ends the retries of a client library (gRFC A6).
fn pushback(delay: Option<Duration>) -> MetadataValue<Ascii> {
    let value = delay.and_then(|delay| i64::try_from(delay.as_millis()).ok());
    MetadataValue::from(value.unwrap_or(-1))
}

/// Returns the code and the details of the failure.
fn form(failure: &Failure) -> (Code, &'static [Extra]) {
    let recipe = recipe(failure.reason);
    match recipe.alternate {
        Some(other) if failure.alternate => (other.code, other.extras),
        _ => (recipe.code, recipe.extras),
    }
}

fn metadata(failure: &Failure, facts: &CallFacts) -> HashMap<String, String> {
    let mut map = HashMap::new();
    let mut add = |key: &str, value: Option<String>| {
        map.extend(value.map(|value| (key.to_owned(), value)));
    };
    let text = |text: &str| truncate(text, MAX_TEXT_BYTES).to_owned();
    for (key, value) in &facts.identifiers {
        add(key, (!value.is_empty()).then(|| text(value)));
    }
    let names = facts.names;
    add("attempts", Some(facts.attempts.to_string()));
    add("outcome", Some(facts.outcome.as_str().to_owned()));
    add("upstream", names.map(|names| names.upstream.to_owned()));
    add("cause", failure.cause.map(str::to_owned));
    if let Some(refusal) = &failure.refusal {
        let (code, skew) = (refusal.aadsts_code, refusal.clock_skew);
        add("aadsts_code", code.map(|code| code.to_string()));
        // Not truncated, because the caller cannot use a part of the claims.
        add("claims", refusal.claims.clone());
        add("clock_skew_seconds", skew.map(|skew| skew.to_string()));
    }
    let present = facts.user_was_present;
    add("observed", present.then(|| "present".to_owned()));
    if let Some(response) = &failure.upstream_response {
        let (status, id) = (response.http_status, response.request_id.as_deref());
        add("upstream_http_status", Some(status.to_string()));
        add("upstream_code", response.code.as_deref().map(text));
        add("upstream_request_id", id.map(text));
        add("missing_task", response.missing_task.map(str::to_owned));
    }
    map
}

fn add(details: &mut ErrorDetails, extra: Extra, failure: &Failure, facts: &CallFacts) {
    match extra {
        Extra::BadRequest => {
            for violation in &failure.violations {
                details.add_bad_request_violation(violation.field, violation.description);
            }
        }
        Extra::Target => {
            let (kind, name) = resource(Level::Target, facts);
            details.set_resource_info(kind, name, "", "not configured on this server");
        }
        Extra::Resource(level) => {
            let (kind, name) = resource(level, facts);
            let message = recipe(failure.reason).message;
            let response = failure.upstream_response.as_deref();
            let description = match response.and_then(|response| response.missing_task) {
                Some(task) => format!("{message}: the service's user lacks the task {task}"),
                None => message.to_owned(),
            };
            details.set_resource_info(kind, name, "", description);
        }
        Extra::Precondition(kind, description) => {
            let (_, subject) = resource(Level::User, facts);
            details.set_precondition_failure(vec![PreconditionViolation::new(
                kind,
                subject,
                description,
            )]);
        }
        Extra::Quota(subject, description) => {
            details.set_quota_failure(vec![QuotaViolation::new(
                quota_subject(subject, facts),
                description,
            )]);
        }
        Extra::Retry(_) => {
            details.set_retry_info(delay(failure, &[extra]));
        }
    }
}

fn quota_subject(subject: Subject, facts: &CallFacts) -> String {
    match subject {
        Subject::Caller => format!("caller:{}", facts.caller),
        Subject::Target => resource(Level::Target, facts).1,
    }
}

/// Returns type and name of the call's resource at this level, or empty strings if the service has no upstream.
fn resource(level: Level, facts: &CallFacts) -> (&'static str, String) {
    let value = |key| truncate(facts.identifier(key), MAX_TEXT_BYTES);
    facts
        .names
        .map(|names| names.resource(level, value))
        .unwrap_or_default()
}

/// Types of the details that a status always contains, however large it is.
const ESSENTIAL_DETAILS: [&str; 3] = [
    "type.googleapis.com/google.rpc.ErrorInfo",
    "type.googleapis.com/google.rpc.RequestInfo",
    "type.googleapis.com/google.rpc.RetryInfo",
];

/// Builds the status. If the serialized status is larger than [`MAX_STATUS_BYTES`], parts of the upstream's error
/// document are left out first, and then all details that are not essential.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
fn build_status(
    code: Code,
    message: &str,
    details: ErrorDetails,
    mut document: Option<Arc<dyn ErrorDocument>>,
) -> Status {
    let mut base = encode(code, message, details);
    loop {
        let mut status = base.clone();
        status
            .details
            .extend(document.as_ref().map(|document| document.detail()));
        let bytes = status.encode_to_vec();
        let essential = base.details.iter().all(is_essential);
        if bytes.len() <= MAX_STATUS_BYTES || (document.is_none() && essential) {
            return Status::with_details(code, message, bytes.into());
        }
        if document.is_none() {
            base.details.retain(is_essential);
        }
        document = document.and_then(|document| document.shrunk());
    }
}

fn is_essential(detail: &prost_types::Any) -> bool {
    ESSENTIAL_DETAILS.contains(&detail.type_url.as_str())
}

fn encode(code: Code, message: &str, details: ErrorDetails) -> tonic_types::pb::Status {
    let bytes = Status::with_error_details(code, message, details);
    tonic_types::pb::Status::decode(bytes.details()).unwrap_or_default()
}

/// Limits the length of a text that a caller or an upstream chose to [`MAX_TEXT_BYTES`].
pub fn short(text: &str) -> &str {
    truncate(text, MAX_TEXT_BYTES)
}

/// Returns the start of a text: at most `max` bytes, cut at a character boundary.
pub fn truncate(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
