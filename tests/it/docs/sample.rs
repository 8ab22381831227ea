//! A sample failure as `grpcurl` prints it, created by the code that creates all failures.

use std::sync::Arc;

use prost::Message as _;
use prost_types::Any;
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::pb::{ErrorInfo, RequestInfo, ResourceInfo};
use useradmin::{
    error::{
        Failure, UpstreamResponse,
        status::{CallFacts, status},
    },
    proto::{BatchError, ErrorMessage, ErrorReason},
    upstream::azure_batch::NAMES,
};

/// Returns the failure `USER_NOT_FOUND` of Azure Batch.
pub fn failure() -> String {
    let client_request_id = "9c4d50ee-2d56-4cd3-8152-34347dc9f2b0";
    let request_id = "5289d960-7a3c-4d0e-9a57-0c6f1f0a2b11";
    let mut failure = Failure::new(ErrorReason::UserNotFound, "");
    failure.upstream_response = Some(Box::new(UpstreamResponse {
        http_status: 404,
        code: Some("NodeUserNotFound".to_owned()),
        request_id: Some(request_id.to_owned()),
        document: Some(Arc::new(BatchError {
            code: "NodeUserNotFound".to_owned(),
            message: Some(ErrorMessage {
                lang: "en-US".to_owned(),
                value: "The specified node user does not exist.".to_owned(),
            }),
            values: Vec::new(),
            http_status: 404,
            request_id: request_id.to_owned(),
            client_request_id: client_request_id.to_owned(),
        })),
    }));
    let identifiers = [
        ("account", "prod"),
        ("pool_id", "render-linux"),
        ("node_id", "tvm-1695681911_1-20161121t182739z"),
        ("user_name", "jdoe"),
        ("client_request_id", client_request_id),
    ];
    let facts = CallFacts {
        names: Some(&NAMES),
        request_id: "b7a7d3f4-6a43-4f0f-8f5e-0d6f2f1d6a01".to_owned(),
        identifiers: identifiers
            .map(|(key, value)| (key, value.to_owned()))
            .into(),
        attempts: 1,
        outcome: useradmin::error::Effect::NotDeleted,
        ..CallFacts::default()
    };
    shown(&status(&failure, &facts))
}

fn shown(status: &Status) -> String {
    let (code, message) = (status.code(), status.message());
    let mut text = format!("ERROR:\n  Code: {code:?}\n  Message: {message}\n  Details:\n");
    let status = tonic_types::pb::Status::decode(status.details()).unwrap();
    for (detail, number) in status.details.iter().zip(1..) {
        let value = json(detail);
        let lines = serde_json::to_string_pretty(&value).unwrap();
        let lines = lines.replace('\n', "\n    \t");
        text += &format!("  {number})\t{lines}\n");
    }
    text
}

/// Converts a detail to JSON, with its members in the order in which `grpcurl` prints them.
fn json(detail: &Any) -> Value {
    let value = detail.value.as_slice();
    let mut shown = match detail.type_url.rsplit('/').next().unwrap() {
        "google.rpc.ErrorInfo" => {
            let info = ErrorInfo::decode(value).unwrap();
            json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata })
        }
        "google.rpc.RequestInfo" => {
            json!({ "requestId": RequestInfo::decode(value).unwrap().request_id })
        }
        "google.rpc.ResourceInfo" => {
            let info = ResourceInfo::decode(value).unwrap();
            json!({
                "resourceType": info.resource_type,
                "resourceName": info.resource_name,
                "description": info.description,
            })
        }
        "useradmin.v1.BatchError" => {
            let error = BatchError::decode(value).unwrap();
            let message = error.message.unwrap();
            json!({
                "code": error.code,
                "message": { "lang": message.lang, "value": message.value },
                "httpStatus": error.http_status,
                "requestId": error.request_id,
                "clientRequestId": error.client_request_id,
            })
        }
        other => panic!("the sample has no {other}"),
    };
    shown["@type"] = json!(detail.type_url);
    shown
}
