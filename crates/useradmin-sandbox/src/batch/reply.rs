//! Responses of the Batch service: headers, the `OData` layout of documents, the error document.
//!
//! This module formats responses. It does not decide which response is sent.

use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

use super::codes::{self, Row};
use super::formatter::layout;
use crate::net::{Incoming, now, response, set};

const JSON: &str = "application/json; odata=minimalmetadata";
const ERROR_TYPE: &str = "Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element";

/// An error response: a row of the table, with values provided by the check that reports the error.
pub(super) struct Fault {
    code: &'static str,
    status: u16,
    message: &'static str,
    values: Vec<Detail>,
    retry_after: Option<u32>,
}

#[derive(Serialize)]
struct Detail {
    key: String,
    value: String,
}

impl Fault {
    pub(super) fn new(code: &str) -> Self {
        Self::of(codes::find(code).unwrap_or(&codes::INTERNAL_ERROR))
    }

    pub(super) fn of(row: &'static Row) -> Self {
        let detail = |&(key, value): &(&str, &str)| Detail {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let values = row.values.iter().map(detail).collect();
        let Row {
            code,
            status,
            message,
            retry_after,
            ..
        } = *row;
        Self {
            code,
            status,
            message,
            values,
            retry_after,
        }
    }

    /// Replaces the default values of the row by these values.
    pub(super) fn values<const N: usize>(mut self, values: [(&str, &str); N]) -> Self {
        self.values = values
            .map(|(key, value)| Detail {
                key: key.to_owned(),
                value: value.to_owned(),
            })
            .into_iter()
            .collect();
        self
    }

    /// Replaces the status and the message. The service uses different ones for bearer tokens than for `SharedKey`
    /// signatures.
    pub(super) fn with_status_and_message(mut self, status: u16, message: &'static str) -> Self {
        self.status = status;
        self.message = message;
        self
    }
}

/// The values that all responses to a request share.
pub(super) struct Exchange {
    request_id: String,
    /// The `client-request-id` that the response repeats, if the request asked for that.
    echo: Option<String>,
    /// Scheme and authority of the request URL, which are the first part of `odata.metadata`.
    pub(super) origin: String,
}

impl Exchange {
    pub(super) fn new(call: &Incoming) -> Self {
        let echo_requested = call
            .header("return-client-request-id")
            .is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        Self {
            request_id: Uuid::new_v4().to_string(),
            echo: call
                .header("client-request-id")
                .filter(|_| echo_requested)
                .map(str::to_owned),
            origin: format!("http://{}", call.header("host").unwrap_or_default()),
        }
    }

    /// Returns a 200 response with an empty chunked body and without a `Content-Type` header.
    pub(super) fn empty(&self) -> Response {
        // The HTTP server sends a stream of unknown length with chunked encoding.
        self.with_headers(response(
            200,
            Body::from_stream(Body::empty().into_data_stream()),
        ))
    }

    /// Returns a 200 response with a document.
    pub(super) fn document(&self, document: &impl Serialize) -> Response {
        let body = Body::from(layout(document));
        let mut result =
            self.with_headers(response(200, Body::from_stream(body.into_data_stream())));
        set(&mut result, "content-type", JSON);
        result
    }

    /// Returns the error document, with a `Content-Length` header.
    pub(super) fn fault(&self, fault: &Fault) -> Response {
        let mut result = self.with_headers(response(fault.status, self.error_body(fault, &now())));
        set(&mut result, "content-type", JSON);
        if let Some(seconds) = fault.retry_after {
            set(&mut result, "retry-after", &seconds.to_string());
        }
        result
    }

    fn with_headers(&self, mut response: Response) -> Response {
        set(&mut response, "request-id", &self.request_id);
        set(&mut response, "dataserviceversion", "3.0");
        set(&mut response, "server", "Microsoft-HTTPAPI/2.0");
        set(
            &mut response,
            "strict-transport-security",
            "max-age=31536000; includeSubDomains",
        );
        set(&mut response, "x-content-type-options", "nosniff");
        if let Some(id) = &self.echo {
            set(&mut response, "client-request-id", id);
        }
        response
    }

    fn error_body(&self, fault: &Fault, now: &str) -> Vec<u8> {
        layout(&ErrorBody {
            metadata: format!("{}/$metadata#{ERROR_TYPE}", self.origin),
            code: fault.code,
            message: Message {
                lang: "en-US",
                value: format!(
                    "{}\nRequestId:{}\nTime:{now}",
                    fault.message, self.request_id
                ),
            },
            values: &fault.values,
        })
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "odata.metadata")]
    metadata: String,
    code: &'a str,
    message: Message,
    #[serde(skip_serializing_if = "<[Detail]>::is_empty")]
    values: &'a [Detail],
}

#[derive(Serialize)]
struct Message {
    lang: &'static str,
    value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected layout was compared with a recorded response, byte for byte.
    #[test]
    fn error_document_has_recorded_layout() {
        let exchange = Exchange {
            request_id: "5289d960".into(),
            echo: None,
            origin: "https://a.r.batch.azure.com".into(),
        };
        let now = "2024-11-20T17:44:19.8906540Z";
        let body =
            |fault: Fault| String::from_utf8(exchange.error_body(&fault, now)).unwrap_or_default();
        let head = "{\r\n  \"odata.metadata\":\"https://a.r.batch.azure.com/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element\",";
        let tail = "\\nRequestId:5289d960\\nTime:2024-11-20T17:44:19.8906540Z\"\r\n  }";
        let plain = format!(
            "{head}\"code\":\"NodeUserNotFound\",\"message\":{{\r\n    \"lang\":\"en-US\",\"value\":\"The specified node user does not exist.{tail}\r\n}}"
        );
        assert_eq!(body(Fault::new("NodeUserNotFound")), plain);
        let values = ",\"values\":[\r\n    {\r\n      \"key\":\"A\",\"value\":\"1\"\r\n    },{\r\n      \"key\":\"B\",\"value\":\"2\"\r\n    }\r\n  ]\r\n}";
        assert!(
            body(Fault::new("InvalidUri").values([("A", "1"), ("B", "2")]))
                .ends_with(&format!("{tail}{values}"))
        );
    }
}
