//! A failed call with all its details decoded, as a client in any language would decode them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use prost::Message as _;
use tonic::{Code, Response, Status};
use useradmin_client::{
    Error, ServiceError, UpstreamError,
    proto::{BatchError, HmcError},
};

use crate::canary;

/// The decoded status of a failed call.
pub struct CallFailure {
    pub code: Code,
    pub message: String,
    pub reason: String,
    pub metadata: BTreeMap<String, String>,
    pub request_id: String,
    /// The trailer `x-request-id`.
    pub trailer_id: Option<String>,
    pub bad_request: Vec<(String, String)>,
    pub precondition: Vec<(String, String, String)>,
    pub resource: Option<(String, String)>,
    /// The text of `ResourceInfo`, or an empty string.
    pub resource_description: String,
    pub quota: Vec<(String, String)>,
    pub retry_delay: Option<Duration>,
    /// The trailer `grpc-retry-pushback-ms`.
    pub pushback: Option<i64>,
    pub batch: Option<BatchError>,
    pub hmc: Option<HmcError>,
    /// Length of the serialized details of the status, in bytes.
    pub size: usize,
}

/// Returns the message of a response, or the decoded failure. Checks both for canaries, and aborts the process if
/// there is one.
#[allow(clippy::result_large_err, reason = "only tests handle it")]
pub(crate) fn result<T: fmt::Debug>(
    response: Result<Response<T>, Status>,
) -> Result<T, CallFailure> {
    canary::check("an answer", &format!("{response:?}"));
    response
        .map(Response::into_inner)
        .map_err(CallFailure::from)
}

impl From<Status> for CallFailure {
    fn from(status: Status) -> Self {
        canary::check_status(&status);
        check_details(&status);
        let text = |key| {
            let value = status.metadata().get(key)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let mut failed = Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: String::new(),
            metadata: BTreeMap::new(),
            request_id: String::new(),
            trailer_id: text("x-request-id"),
            bad_request: Vec::new(),
            precondition: Vec::new(),
            resource: None,
            resource_description: String::new(),
            quota: Vec::new(),
            retry_delay: None,
            pushback: text("grpc-retry-pushback-ms").map(|value| value.parse().unwrap()),
            batch: None,
            hmc: None,
            size: status.details().len(),
        };
        if let Error::Service(error) = Error::from(status) {
            failed.take_detail(*error);
        }
        failed
    }
}

/// Asserts that no detail occurs twice, and that clients can decode all of them.
fn check_details(status: &Status) {
    const STANDARD: [&str; 7] = [
        "BadRequest",
        "ErrorInfo",
        "PreconditionFailure",
        "QuotaFailure",
        "RequestInfo",
        "ResourceInfo",
        "RetryInfo",
    ];
    let details = tonic_types::pb::Status::decode(status.details()).unwrap();
    let mut request = BTreeSet::new();
    for detail in details.details {
        let name = detail.type_url.strip_prefix("type.googleapis.com/");
        let name = name.unwrap_or_else(|| panic!("{}", detail.type_url));
        let is_known = match name.strip_prefix("google.rpc.") {
            Some(name) => STANDARD.contains(&name),
            None => ["useradmin.v1.BatchError", "useradmin.v1.HmcError"].contains(&name),
        };
        assert!(is_known, "unexpected detail {name}");
        assert!(request.insert(name.to_owned()), "{name} twice");
    }
}

impl CallFailure {
    fn take_detail(&mut self, error: ServiceError) {
        self.reason = error.reason_name;
        self.metadata = error.metadata.into_iter().collect();
        self.request_id = error.request_id;
        self.retry_delay = error.retry_after;
        let violations = error.field_violations.into_iter();
        self.bad_request = violations.map(|v| (v.field, v.description)).collect();
        let violations = error.precondition_violations.into_iter();
        self.precondition = violations
            .map(|v| (v.r#type, v.subject, v.description))
            .collect();
        let violations = error.quota_violations.into_iter();
        self.quota = violations.map(|v| (v.subject, v.description)).collect();
        let resource = error.resource;
        let description = resource.as_ref().map(|info| info.description.clone());
        self.resource_description = description.unwrap_or_default();
        self.resource = resource.map(|info| (info.resource_type, info.resource_name));
        match error.upstream {
            Some(UpstreamError::Batch(error)) => self.batch = Some(error),
            Some(UpstreamError::Hmc(error)) => self.hmc = Some(error),
            other => assert_eq!(other, None),
        }
    }

    /// Returns the expected value of `grpc-retry-pushback-ms`: the retry delay if the server made no attempt, and -1
    /// otherwise, so that client libraries do not retry.
    fn expected_pushback(&self) -> i64 {
        let retryable_reasons = [
            "DELETE_QUOTA_EXCEEDED",
            "OVERLOADED",
            "CIRCUIT_OPEN",
            "AUDIT_UNAVAILABLE",
            "SHUTTING_DOWN",
        ];
        let delay = self.retry_delay.map(|delay| delay.as_millis());
        let client_may_retry = retryable_reasons
            .iter()
            .any(|reason| self.reason.ends_with(reason));
        let delay = delay.filter(|_| client_may_retry && self.metadata_value("attempts") == "0");
        delay.map_or(-1, |delay| i64::try_from(delay).unwrap())
    }

    /// Returns the metadata value of this key, or an empty string.
    pub fn metadata_value(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// Asserts the code, the reason (without its prefix), and the invariants of every failure.
    #[track_caller]
    pub fn expect(&self, code: Code, reason: &str) -> &Self {
        assert_eq!(
            (self.code, self.reason.as_str()),
            (code, format!("ERROR_REASON_{reason}").as_str()),
            "{self:?}"
        );
        assert!(
            self.message.is_ascii() && self.message.len() <= 512,
            "{self:?}"
        );
        assert!(self.size <= 3_072, "{self:?}");
        assert_eq!(self.trailer_id.as_deref(), Some(self.request_id.as_str()));
        assert_eq!(self.pushback, Some(self.expected_pushback()), "{self:?}");
        for key in ["upstream", "attempts", "outcome"] {
            assert!(self.metadata.contains_key(key), "{key}: {self:?}");
        }
        self
    }
}

/// Prints everything that is the same in every run, for snapshots. IDs are random and therefore omitted.
impl fmt::Debug for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {}: {}", self.code, self.reason, self.message)?;
        for (key, value) in &self.metadata {
            writeln!(f, "  {key} = {value}")?;
        }
        for (field, description) in &self.bad_request {
            writeln!(f, "  BadRequest {field}: {description}")?;
        }
        for (kind, subject, description) in &self.precondition {
            writeln!(f, "  PreconditionFailure {kind} {subject}: {description}")?;
        }
        if let Some((kind, name)) = &self.resource {
            writeln!(f, "  ResourceInfo {kind} {name}")?;
        }
        for (subject, description) in &self.quota {
            writeln!(f, "  QuotaFailure {subject}: {description}")?;
        }
        if let Some(delay) = &self.retry_delay {
            writeln!(f, "  RetryInfo {delay:?}")?;
        }
        if let Some(batch) = &self.batch {
            let message = batch.message.as_ref();
            let text = message.map(|m| format!(" [{}] {}", m.lang, m.value));
            let (code, status) = (&batch.code, batch.http_status);
            writeln!(
                f,
                "  BatchError {status} {code}{}",
                text.unwrap_or_default()
            )?;
            for pair in &batch.values {
                writeln!(f, "    {} = {}", pair.key, pair.value)?;
            }
        }
        if let Some(hmc) = &self.hmc {
            writeln!(
                f,
                "  HmcError {}/{} {}",
                hmc.http_status, hmc.reason, hmc.message
            )?;
        }
        Ok(())
    }
}
