//! Errors of calls, decoded from the gRPC status and its details.

use std::{collections::HashMap, error, fmt, iter::successors, time::Duration};

use prost::Message as _;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::{
    FieldViolation, PreconditionViolation, QuotaViolation, ResourceInfo, StatusExt as _, pb,
};

use crate::{
    proto::{BatchError, ErrorReason, HmcError},
    token::BoxError,
};

/// The `domain` of the errors of the service.
const DOMAIN: &str = "useradmin.v1.UserAdmin";

/// The error of a failed call.
///
/// The methods of [`Client`](crate::Client) return it. Callers of the generated code can convert a [`Status`] with
/// [`Error::from`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The service returned an error.
    Service(Box<ServiceError>),
    /// The service did not return this error. It comes from the network, a proxy, or the deadline in this process.
    ///
    /// [`Error::code`] and [`Error::outcome`] classify it.
    Transport(Status),
    /// The source of the bearer token failed. Nothing was sent.
    Token(BoxError),
}

/// The effect of a failed call on the user, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No DELETE request was sent to the upstream.
    NotSent,
    /// The upstream did not delete the user.
    NotDeleted,
    /// The user may have been deleted. If [`Error::retry_after`] returns a delay, repeat the call with `allow_missing`:
    /// a success then means that the user is absent, or not visible to the service. Otherwise check whether the user
    /// still exists.
    Unknown,
}

/// An error that the service returned. The documentation of [`ErrorReason`] describes reasons, details and metadata.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceError {
    /// The reason, on which programs should base decisions. [`ErrorReason::Unspecified`] if this version of the crate
    /// does not know it; use `code` in that case.
    pub reason: ErrorReason,
    /// The name of the reason, such as `ERROR_REASON_USER_NOT_FOUND`, even if this version does not know it.
    pub reason_name: String,
    /// The gRPC code.
    pub code: Code,
    /// A description for humans. It does not contain text from the upstream.
    pub message: String,
    /// The effect of the call on the user.
    pub outcome: Outcome,
    /// The number of DELETE requests that the service started.
    pub attempts: u32,
    /// The time after which the same call may succeed. `None` if a retry is useless until the cause is removed.
    pub retry_after: Option<Duration>,
    /// The ID of the call in the log and the audit log of the service.
    pub request_id: String,
    /// The request ID that the upstream returned.
    pub upstream_request_id: Option<String>,
    /// The ID that the service sent to Azure Batch as `client-request-id`.
    pub client_request_id: Option<String>,
    /// The error of the upstream, if it responded with one.
    pub upstream: Option<UpstreamError>,
    /// The fields of the request that violate their rules.
    pub field_violations: Vec<FieldViolation>,
    /// The conditions that must change before the call can succeed.
    pub precondition_violations: Vec<PreconditionViolation>,
    /// The quotas that are exhausted.
    pub quota_violations: Vec<QuotaViolation>,
    /// The resource that does not exist or is not accessible.
    pub resource: Option<ResourceInfo>,
    /// All metadata of the error, such as `upstream`, `upstream_code` and the identifiers of the request.
    pub metadata: HashMap<String, String>,
    /// The status as received.
    pub status: Status,
}

/// An error that an upstream returned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UpstreamError {
    /// An error of Azure Batch.
    Batch(BatchError),
    /// An error of a Hardware Management Console.
    Hmc(HmcError),
}

impl Error {
    /// Returns the error of the service. `None` if the error has another source.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceError> {
        match self {
            Self::Service(error) => Some(error),
            Self::Transport(_) | Self::Token(_) => None,
        }
    }

    /// Returns the reason. `None` if the error does not come from the service.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.service().map(|error| error.reason)
    }

    /// Returns the gRPC code. It is [`Code::DeadlineExceeded`] if the deadline expired in this process, which tonic
    /// reports as [`Code::Cancelled`].
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Service(error) => error.code,
            Self::Transport(status) if has_source::<TimeoutExpired>(status) => {
                Code::DeadlineExceeded
            }
            Self::Transport(status) => status.code(),
            Self::Token(_) => Code::Unauthenticated,
        }
    }

    /// Returns the effect of the call on the user. If the error does not come from the service, the outcome is
    /// [`Outcome::NotSent`] if no connection was established or the token source failed, and otherwise
    /// [`Outcome::Unknown`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Service(error) => error.outcome,
            Self::Transport(status) if has_source::<ConnectError>(status) => Outcome::NotSent,
            Self::Transport(_) => Outcome::Unknown,
            Self::Token(_) => Outcome::NotSent,
        }
    }

    /// Returns the time after which the same call may succeed, if the service returned one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.service()?.retry_after
    }
}

/// Returns whether an error of this type is among the sources of the status.
fn has_source<E: error::Error + 'static>(status: &Status) -> bool {
    let first: Option<&(dyn error::Error + 'static)> = error::Error::source(status);
    successors(first, |error| error.source()).any(<dyn error::Error>::is::<E>)
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match ServiceError::decode(status) {
            Ok(error) => Self::Service(Box::new(error)),
            Err(status) => Self::Transport(status),
        }
    }
}

impl ServiceError {
    /// Decodes the details of a status. Returns the status unchanged if it does not come from the service.
    fn decode(status: Status) -> Result<Self, Status> {
        let details = status.get_error_details();
        let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
            return Err(status);
        };
        let metadata = &info.metadata;
        let reason = ErrorReason::from_str_name(&info.reason);
        let upstream = UpstreamError::decode(&status);
        Ok(Self {
            reason: reason.unwrap_or(ErrorReason::Unspecified),
            reason_name: info.reason.clone(),
            code: status.code(),
            message: status.message().to_owned(),
            outcome: Outcome::parse(metadata.get("outcome").map_or("", String::as_str)),
            attempts: metadata
                .get("attempts")
                .and_then(|number| number.parse().ok())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            request_id: details
                .request_info()
                .map(|info| info.request_id.clone())
                .unwrap_or_default(),
            upstream_request_id: metadata.get("upstream_request_id").cloned(),
            client_request_id: match &upstream {
                Some(UpstreamError::Batch(error)) => Some(error.client_request_id.clone()),
                _ => metadata.get("client_request_id").cloned(),
            },
            upstream,
            field_violations: details
                .bad_request()
                .map(|detail| detail.field_violations.clone())
                .unwrap_or_default(),
            precondition_violations: details
                .precondition_failure()
                .map(|detail| detail.violations.clone())
                .unwrap_or_default(),
            quota_violations: details
                .quota_failure()
                .map(|detail| detail.violations.clone())
                .unwrap_or_default(),
            resource: details.resource_info().cloned(),
            metadata: metadata.clone(),
            status,
        })
    }
}

impl Outcome {
    /// Parses the metadata `outcome`. A missing or unknown value is [`Outcome::Unknown`].
    fn parse(text: &str) -> Self {
        match text {
            "not_sent" => Self::NotSent,
            "not_deleted" => Self::NotDeleted,
            _ => Self::Unknown,
        }
    }
}

impl UpstreamError {
    fn decode(status: &Status) -> Option<Self> {
        let details = pb::Status::decode(status.details()).ok()?.details;
        details.iter().find_map(|detail| {
            let (_, name) = detail.type_url.rsplit_once('/')?;
            let value = detail.value.as_slice();
            match name {
                "useradmin.v1.BatchError" => BatchError::decode(value).ok().map(Self::Batch),
                "useradmin.v1.HmcError" => HmcError::decode(value).ok().map(Self::Hmc),
                _ => None,
            }
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not_sent",
            Self::NotDeleted => "not_deleted",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} ({}, outcome {}, request {})",
            self.code, self.message, self.reason_name, self.outcome, self.request_id
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Transport(status) => {
                write!(f, "{:?}: {}", self.code(), status.message())
            }
            Self::Token(_) => f.write_str("no bearer token"),
        }
    }
}

impl error::Error for ServiceError {}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Service(_) => None,
            Self::Transport(status) => status.source(),
            Self::Token(error) => Some(error.as_ref()),
        }
    }
}
