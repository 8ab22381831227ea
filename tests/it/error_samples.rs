//! The comment of each reason contains a sample `ErrorInfo`. It must be one that the server can send: the test
//! rebuilds it with the code that builds every status, from the values in the sample and the rules of the upstream.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::Type;
use serde_json::{Value, json};
use useradmin::{
    error::{
        DOMAIN, Effect, Failure, UpstreamResponse,
        resource::ResourceNames,
        rule::first_match,
        status::{CallFacts, status},
    },
    proto::ErrorReason as R,
    service::rpcs::RPCS,
    upstream::registry::tables,
};
use useradmin_testkit::CallFailure;

use crate::{
    contract::{is_reported_by_server, metadata_keys, words},
    proto_comments::{ReasonComment, files, reasons},
};

/// A sample with the names of its upstream.
struct Sample {
    reason: R,
    json: Value,
    rpc: &'static str,
    names: &'static ResourceNames,
}

impl Sample {
    fn of(reason: R) -> Self {
        let text = ReasonComment::of(reason).sample;
        let json: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{reason:?}: {error}: {text}"));
        let upstream = &json["metadata"]["upstream"];
        let rpc = RPCS.iter().find(|(_, names)| names.upstream == upstream);
        let (rpc, names) = *rpc.unwrap_or_else(|| panic!("{reason:?}: upstream {upstream}"));
        Self {
            reason,
            json,
            rpc,
            names,
        }
    }

    /// Returns a value of the metadata.
    fn metadata_value(&self, key: &str) -> Option<&str> {
        self.json["metadata"].get(key).and_then(Value::as_str)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.metadata_value(key).and_then(|text| text.parse().ok())
    }

    fn effect(&self) -> Effect {
        let all = [Effect::NotSent, Effect::NotDeleted, Effect::Unknown];
        let found = all
            .into_iter()
            .find(|effect| self.metadata_value("outcome") == Some(effect.as_str()));
        found.unwrap_or_else(|| panic!("{:?}: no outcome", self.reason))
    }

    /// Returns the response of the upstream. A rule of the upstream must map it to the reason and the outcome.
    fn response(&self) -> Option<UpstreamResponse> {
        let reason = self.reason;
        let code = self.metadata_value("upstream_code");
        let Some(http_status) = self.number("upstream_http_status") else {
            let upstream = self.names.upstream;
            assert!(is_reported_by_server(reason, upstream), "{reason:?}");
            return None;
        };
        let confirmed = tables().into_iter().any(|(names, request, rules)| {
            let row = first_match(rules, http_status, code, &[]).unwrap();
            let effect = match request {
                "deletion" => row.effect,
                _ => Effect::NotSent,
            };
            names.upstream == self.names.upstream && row.reason == reason && effect == self.effect()
        });
        assert!(confirmed, "{reason:?}: no rule for {http_status}/{code:?}");
        let has_id = code.is_some() && self.names.upstream == "azure_batch";
        let id = self
            .metadata_value("upstream_request_id")
            .unwrap_or("missing");
        Some(UpstreamResponse {
            http_status,
            code: code.map(str::to_owned),
            request_id: has_id.then(|| id.to_owned()),
            missing_task: self
                .metadata_value("missing_task")
                .map(|task| &*task.to_owned().leak()),
            document: None,
        })
    }

    /// Returns the identifiers. Unless fields are invalid, those that every request of this rpc has must be present.
    fn identifiers(&self) -> Vec<(&'static str, String)> {
        let name = format!("{}Request", self.rpc);
        let messages = files().into_iter().flat_map(|file| file.message_type);
        let message = messages.into_iter().find(|message| message.name() == name);
        let (mut found, mut alternatives) = (Vec::new(), Vec::new());
        for field in message.unwrap().field {
            if field.r#type() != Type::String {
                continue;
            }
            let (key, value) = (field.name(), self.metadata_value(field.name()));
            if field.oneof_index.is_some() {
                alternatives.push(value.is_some());
            } else if key != "client_request_id" && self.reason != R::InvalidRequest {
                assert!(value.is_some(), "{:?}: no {key}", self.reason);
            }
            found.extend(value.map(|value| (&*key.to_owned().leak(), value.to_owned())));
        }
        let any = alternatives.is_empty() || alternatives.contains(&true);
        assert!(any || self.reason == R::InvalidRequest, "{:?}", self.reason);
        found
    }

    /// Builds the metadata as the server does.
    fn built_error_info(&self) -> Value {
        let mut failure = Failure::new(self.reason, "");
        failure.upstream_response = self.response().map(Box::new);
        failure.cause = self
            .metadata_value("cause")
            .map(|cause| &*cause.to_owned().leak());
        let failure = failure
            .with_aadsts_code(self.number("aadsts_code"))
            .with_claims(self.metadata_value("claims").map(str::to_owned))
            .with_clock_skew(self.number("clock_skew_seconds"));
        let facts = CallFacts {
            names: Some(self.names),
            identifiers: self.identifiers(),
            attempts: self.number("attempts").expect("attempts"),
            outcome: self.effect(),
            ..CallFacts::default()
        };
        json!(CallFailure::from(status(&failure, &facts)).metadata)
    }
}

#[test]
fn samples_match_errors_of_server() {
    for reason in reasons().into_iter().filter(|r| *r != R::Unspecified) {
        let sample = Sample::of(reason);
        let metadata = sample.built_error_info();
        let expected = json!({
            "reason": reason.as_str_name(),
            "domain": DOMAIN,
            "metadata": metadata,
        });
        assert_eq!(sample.json, expected, "{reason:?}");
        let no_delete = sample.number::<u32>("attempts") == Some(0);
        assert_eq!(no_delete, sample.effect() == Effect::NotSent, "{reason:?}");
    }
}

/// The comment of a reason lists the keys of its sample, apart from identifiers, and the sample has all keys that do
/// not depend on the case.
#[test]
fn samples_contain_documented_metadata_keys() {
    let keys = metadata_keys();
    for reason in reasons().into_iter().filter(|r| *r != R::Unspecified) {
        let sample = Sample::of(reason);
        let line = ReasonComment::of(reason).metadata;
        let listed: BTreeSet<_> = words(&line).filter(|word| keys.contains(*word)).collect();
        let identifiers = sample.identifiers();
        for key in sample.json["metadata"].as_object().unwrap().keys() {
            let is_identifier = identifiers.iter().any(|(known, _)| known == key);
            assert!(
                is_identifier || listed.contains(&**key),
                "{reason:?}: {key}"
            );
        }
        let has = |key| sample.metadata_value(key).is_some();
        for key in listed.into_iter().filter(|key| !has(key)) {
            let may_be_absent = match key {
                "upstream_code" => {
                    !has("upstream_http_status") || reason == R::UpstreamProtocolError
                }
                "upstream_request_id" => {
                    !has("upstream_code") || sample.names.upstream == "ibm_hmc"
                }
                "cause" => reason != R::CallerUnauthenticated,
                // Whether there is a response is checked by `response`.
                "upstream_http_status"
                | "clock_skew_seconds"
                | "aadsts_code"
                | "claims"
                | "observed" => true,
                _ => false,
            };
            assert!(may_be_absent, "{reason:?}: no {key}");
        }
    }
}
