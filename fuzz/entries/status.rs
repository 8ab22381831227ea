//! Properties of every status.

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb::{BadRequest, ErrorInfo, RequestInfo};
use useradmin::{
    error::{
        Effect, Failure,
        resource::ResourceNames,
        status::{CallFacts, MAX_STATUS_BYTES, status},
    },
    proto::ErrorReason,
};

/// The decoded parts of a status.
pub struct DecodedStatus {
    /// The reason in `ErrorInfo`.
    pub reason: ErrorReason,
    /// The fields in `BadRequest`.
    pub fields: Vec<String>,
}

/// Decodes a status as a client does.
pub fn check(status: &Status) -> DecodedStatus {
    let never = [Code::Ok, Code::Cancelled, Code::Unknown];
    assert!(!never.contains(&status.code()), "{status:?}");
    assert!(status.details().len() <= MAX_STATUS_BYTES, "{status:?}");
    let message = status.message();
    assert!(message.is_ascii() && message.len() <= 512, "{status:?}");
    let details = tonic_types::pb::Status::decode(status.details()).expect("details are a Status");
    assert_eq!(details.code, i32::from(status.code()));
    let find = |name: &str| {
        let mut found = details.details.iter();
        let found = found.find(|any| any.type_url.ends_with(name));
        found.map(|any| &*any.value)
    };
    let info = find("google.rpc.ErrorInfo").map(ErrorInfo::decode);
    let info = info.expect("an ErrorInfo").expect("it can be read");
    let request = find("google.rpc.RequestInfo").map(RequestInfo::decode);
    let request = request.expect("a RequestInfo").expect("it can be read");
    assert!(!request.request_id.is_empty());
    let bad = find("google.rpc.BadRequest").map(BadRequest::decode);
    let bad = bad.map(|bad| bad.expect("it can be read").field_violations);
    let fields = bad.into_iter().flatten().map(|violation| violation.field);
    DecodedStatus {
        reason: ErrorReason::from_str_name(&info.reason).expect("a documented reason"),
        fields: fields.collect(),
    }
}

/// Returns the status that callers receive for a failure of an upstream.
pub fn status_of(
    failure: &Failure,
    names: &'static ResourceNames,
    identifiers: &[(&'static str, &str)],
) -> Status {
    let owned = identifiers
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()));
    let facts = CallFacts {
        names: Some(names),
        caller: "anonymous".into(),
        request_id: "5289d960-0000-0000-0000-000000000000".into(),
        identifiers: owned.collect(),
        attempts: 1,
        outcome: failure.effect,
        user_was_present: false,
    };
    let status = status(failure, &facts);
    assert_eq!(check(&status).reason, failure.reason);
    // `Internal` is reserved for faults of this service; no response causes it.
    assert_ne!(failure.reason, ErrorReason::Internal);
    status
}

/// Asserts that the failure reports no more about the DELETE than the response does.
pub fn check_outcome(failure: &Failure, sure: bool) {
    let effect = if sure {
        Effect::NotDeleted
    } else {
        Effect::Unknown
    };
    assert_eq!(failure.effect, effect, "{failure:?}");
    let after = failure.retry_after;
    assert!(after.is_none_or(|after| (1..=60).contains(&after.as_secs())));
}

/// Asserts that no text of the product contains one of the secrets.
pub fn check_secrets(failure: &Failure, status: &Status, secrets: &[&str]) {
    let facts = format!("{failure:?}");
    let details = String::from_utf8_lossy(status.details());
    for secret in secrets {
        assert!(!facts.contains(secret), "{facts}");
        assert!(!details.contains(secret), "{details}");
    }
}
