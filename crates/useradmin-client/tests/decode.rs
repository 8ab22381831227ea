//! Tests of decoding errors, tokens and client configurations, without a server.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used
)]

use std::{collections::HashMap, error::Error as _, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use useradmin_client::{BuildError, Client, Error, ErrorReason, Outcome, Token};

const DOMAIN: &str = "useradmin.v1.UserAdmin";

fn details(reason: &str, domain: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let pairs = metadata.iter();
    let metadata: HashMap<_, _> = pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    ErrorDetails::with_error_info(reason, domain, metadata)
}

fn decode(code: Code, details: ErrorDetails) -> Error {
    Error::from(Status::with_error_details(code, "text", details))
}

#[test]
fn unknown_reason_keeps_its_name() {
    let mut details = details(
        "ERROR_REASON_FROM_THE_FUTURE",
        DOMAIN,
        &[("outcome", "not_deleted"), ("attempts", "2")],
    );
    details.set_retry_info(Some(Duration::from_secs(3)));
    details.set_request_info("request-1", "");
    let error = decode(Code::Aborted, details);
    assert_eq!(error.reason(), Some(ErrorReason::Unspecified));
    assert_eq!(error.code(), Code::Aborted);
    assert_eq!(error.outcome(), Outcome::NotDeleted);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(
        error.to_string(),
        "Aborted: text (ERROR_REASON_FROM_THE_FUTURE, outcome not_deleted, request request-1)"
    );
    let error = error.service().unwrap();
    assert_eq!(error.reason_name, "ERROR_REASON_FROM_THE_FUTURE");
    assert_eq!(error.attempts, 2);
    assert!(error.upstream.is_none());
}

/// An outcome is unknown unless the service reports a known value.
#[test]
fn missing_or_unrecognized_outcome_is_unknown() {
    let reason = ErrorReason::OutcomeUnknown.as_str_name();
    for metadata in [
        &[][..],
        &[("outcome", "half_deleted"), ("attempts", "many")],
    ] {
        let error = decode(Code::Unavailable, details(reason, DOMAIN, metadata));
        assert_eq!(error.reason(), Some(ErrorReason::OutcomeUnknown));
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error.service().unwrap().attempts, 0);
    }
}

#[test]
fn errors_of_other_services_are_not_decoded() {
    let other = details(
        "USER_NOT_FOUND",
        "proxy.example",
        &[("outcome", "not_sent")],
    );
    for error in [
        decode(Code::NotFound, other),
        decode(Code::NotFound, ErrorDetails::new()),
        Error::from(Status::with_details(
            Code::NotFound,
            "text",
            b"no protobuf".as_slice().into(),
        )),
    ] {
        assert!(matches!(&error, Error::Transport(status) if status.message() == "text"));
        assert_eq!((error.code(), error.reason()), (Code::NotFound, None));
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error.to_string(), "NotFound: text");
    }
}

#[test]
fn token_is_validated_and_never_printed() {
    let token = Token::new("eyJ.secret.signature\r\n").unwrap();
    assert_eq!(format!("{token:?}"), "Token(redacted)");
    for text in ["", " \n", "two words", "line\nbreak", "umlaut-ä", "nul-\0"] {
        let error = Token::new(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("umlaut"), "{text}");
    }
}

#[tokio::test]
async fn invalid_client_configuration_is_rejected() {
    let token = Token::new("secret").unwrap();
    for endpoint in ["", "127.0.0.1:50051", "ftp://127.0.0.1", "https://", "a b"] {
        let error = Client::builder(endpoint).build().unwrap_err();
        assert!(
            matches!(error, BuildError::Endpoint(_)),
            "{endpoint}: {error}"
        );
    }
    for builder in [
        Client::builder("http://127.0.0.1:1").bearer_token(token),
        Client::builder("http://127.0.0.1:1").ca_certificate("PEM"),
        Client::builder("http://127.0.0.1:1").client_certificate("PEM", "secret"),
    ] {
        assert!(!format!("{builder:?}").contains("secret"));
        let error = builder.build().unwrap_err();
        assert!(matches!(error, BuildError::Plaintext), "{error}");
    }
    let builder = Client::builder("https://localhost:1").client_certificate("PEM", "secret");
    let error = builder.build().unwrap_err();
    assert!(matches!(error, BuildError::Tls(_)), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
    assert!(error.source().is_some());
}
