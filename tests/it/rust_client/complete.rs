//! Checks that the crate covers the whole API: every rpc has a method, and every error of an upstream a type.

use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb::{self, ErrorInfo};
use useradmin::proto::descriptors;
use useradmin_client::Error;

const CLIENT: &str = include_str!("../../../crates/useradmin-client/src/client.rs");

fn snake_case(name: &str) -> String {
    let parts = name.chars().map(|c| {
        if c.is_uppercase() {
            format!("_{}", c.to_lowercase())
        } else {
            c.to_string()
        }
    });
    parts.collect::<String>().trim_start_matches('_').to_owned()
}

#[test]
fn every_rpc_has_a_method() {
    let files = descriptors().file;
    let api = files.iter().filter(|file| file.package() == "useradmin.v1");
    let rpcs = api.flat_map(|file| file.service.iter().flat_map(|service| &service.method));
    let mut count = 0;
    for rpc in rpcs {
        let method = format!("pub async fn {}(", snake_case(rpc.name()));
        assert!(CLIENT.contains(&method), "client.rs has no `{method}`");
        count += 1;
    }
    assert!(count >= 2);
}

/// By convention, the error of an upstream is a message `...Error` with a field `http_status`.
#[test]
fn every_upstream_error_is_decoded() {
    let files = descriptors().file;
    let api = files.iter().filter(|file| file.package() == "useradmin.v1");
    let errors = api.flat_map(|file| &file.message_type).filter(|message| {
        let mut fields = message.field.iter();
        message.name().ends_with("Error") && fields.any(|field| field.name() == "http_status")
    });
    let mut count = 0;
    for message in errors {
        let info = ErrorInfo {
            domain: "useradmin.v1.UserAdmin".to_owned(),
            ..ErrorInfo::default()
        };
        let any = |name: &str, value| Any {
            type_url: format!("type.googleapis.com/{name}"),
            value,
        };
        let name = format!("useradmin.v1.{}", message.name());
        let status = pb::Status {
            details: vec![
                any("google.rpc.ErrorInfo", info.encode_to_vec()),
                any(&name, Vec::new()),
            ],
            ..pb::Status::default()
        };
        let bytes = status.encode_to_vec().into();
        let error = Error::from(Status::with_details(Code::Internal, "", bytes));
        assert!(error.service().unwrap().upstream.is_some(), "{name}");
        count += 1;
    }
    assert!(count >= 2);
}
