//! A failed call with all its details decoded, as a client of any language would see it.

use std::{collections::BTreeMap, fmt, time::Duration};

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb::{
    BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo,
};
use useradmin::proto::{BatchError, HmcError};

use crate::canary;

/// The failure.
pub struct Failed {
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
    pub quota: Vec<(String, String)>,
    pub retry_delay: Option<Duration>,
    /// The trailer `grpc-retry-pushback-ms`.
    pub pushback: Option<i64>,
    pub batch: Option<BatchError>,
    pub hmc: Option<HmcError>,
    /// Length of the serialized status.
    pub size: usize,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        canary::check_status(&status);
        let header = status.metadata().get("x-request-id");
        let mut failed = Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: String::new(),
            metadata: BTreeMap::new(),
            request_id: String::new(),
            trailer_id: header.map(|id| id.to_str().unwrap().to_owned()),
            bad_request: Vec::new(),
            precondition: Vec::new(),
            resource: None,
            quota: Vec::new(),
            retry_delay: None,
            pushback: status
                .metadata()
                .get("grpc-retry-pushback-ms")
                .map(|value| value.to_str().unwrap().parse().unwrap()),
            batch: None,
            hmc: None,
            size: status.details().len(),
        };
        let pb = tonic_types::pb::Status::decode(status.details()).unwrap();
        let mut seen = Vec::new();
        for detail in pb.details {
            assert!(
                !seen.contains(&detail.type_url),
                "{} twice",
                detail.type_url
            );
            failed.take(&detail.type_url, &detail.value);
            seen.push(detail.type_url);
        }
        failed
    }
}

impl Failed {
    fn take(&mut self, type_url: &str, value: &[u8]) {
        match type_url.strip_prefix("type.googleapis.com/").unwrap() {
            "google.rpc.ErrorInfo" => {
                let info = ErrorInfo::decode(value).unwrap();
                assert_eq!(info.domain, "useradmin.v1.UserAdmin");
                self.reason = info.reason;
                self.metadata = info.metadata.into_iter().collect();
            }
            "google.rpc.RequestInfo" => {
                self.request_id = RequestInfo::decode(value).unwrap().request_id;
            }
            "google.rpc.BadRequest" => {
                let violations = BadRequest::decode(value).unwrap().field_violations;
                let pairs = violations.into_iter().map(|v| (v.field, v.description));
                self.bad_request = pairs.collect();
            }
            "google.rpc.PreconditionFailure" => {
                let violations = PreconditionFailure::decode(value).unwrap().violations;
                let triples = violations
                    .into_iter()
                    .map(|v| (v.r#type, v.subject, v.description));
                self.precondition = triples.collect();
            }
            "google.rpc.ResourceInfo" => {
                let info = ResourceInfo::decode(value).unwrap();
                self.resource = Some((info.resource_type, info.resource_name));
            }
            "google.rpc.QuotaFailure" => {
                let violations = QuotaFailure::decode(value).unwrap().violations;
                self.quota = violations
                    .into_iter()
                    .map(|v| (v.subject, v.description))
                    .collect();
            }
            "google.rpc.RetryInfo" => {
                let delay = RetryInfo::decode(value).unwrap().retry_delay.unwrap();
                self.retry_delay = Some(Duration::try_from(delay).unwrap());
            }
            "useradmin.v1.BatchError" => self.batch = Some(BatchError::decode(value).unwrap()),
            "useradmin.v1.HmcError" => self.hmc = Some(HmcError::decode(value).unwrap()),
            other => panic!("unexpected detail {other}"),
        }
    }

    /// What this server has not tried, a client's library may try again by itself.
    fn due_pushback(&self) -> i64 {
        let untried = [
            "DELETE_QUOTA_EXCEEDED",
            "OVERLOADED",
            "CIRCUIT_OPEN",
            "AUDIT_UNAVAILABLE",
            "SHUTTING_DOWN",
        ];
        let delay = self.retry_delay.map(|delay| delay.as_millis());
        let untried = untried.iter().any(|reason| self.reason.ends_with(reason));
        let delay = delay.filter(|_| untried && self.meta("attempts") == "0");
        delay.map_or(-1, |delay| i64::try_from(delay).unwrap())
    }

    /// One metadata value, or an empty text.
    pub fn meta(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// Asserts code and reason (without its prefix), and what must hold of every failure.
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
        assert_eq!(self.pushback, Some(self.due_pushback()), "{self:?}");
        for key in ["upstream", "attempts", "outcome"] {
            assert!(self.metadata.contains_key(key), "{key}: {self:?}");
        }
        self
    }
}

/// All that is the same on every run, for snapshots: ids that are made at random are left out.
impl fmt::Debug for Failed {
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
