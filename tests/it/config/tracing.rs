//! Faults in `[tracing]`.

use super::errors::{HMC, check};

/// Returns a file whose second line is the first one of `[tracing]`.
fn tracing_configuration(lines: &str) -> String {
    format!("[tracing]\n{lines}\n{HMC}")
}

#[test]
fn collector_url_must_be_an_origin() {
    check(&[
        (
            tracing_configuration("otlp_endpoint = \"https://collector.example:4317\""),
            &[],
        ),
        (
            tracing_configuration("otlp_endpoint = \"http://127.0.0.1:4317\""),
            &[],
        ),
        (
            tracing_configuration(
                "otlp_endpoint = \"http://collector.example:4317\"\ninsecure = true",
            ),
            &[],
        ),
        (
            tracing_configuration("otlp_endpoint = \"http://collector.example:4317\""),
            &["2:17: `otlp_endpoint` must be https; http is for loopback hosts only"],
        ),
        (
            tracing_configuration(
                "otlp_endpoint = \"http://user:word@collector.example\"\ninsecure = true",
            ),
            &["2:17: `otlp_endpoint` must not hold a user or a password"],
        ),
        (
            tracing_configuration("otlp_endpoint = \"https://collector.example/v1/traces\""),
            &["2:17: `otlp_endpoint` must have no path, query or fragment"],
        ),
        (
            tracing_configuration("otlp_endpoint = \"grpc://collector.example\""),
            &["2:17: `otlp_endpoint` must be an https URL"],
        ),
        (
            tracing_configuration(""),
            &["1:2: missing key `otlp_endpoint`"],
        ),
    ]);
}

#[test]
fn sample_ratio_is_between_0_and_1() {
    const WANTED: &str = "2:16: `sample_ratio` must be a number from 0.0 to 1.0";
    let ratio = |value: &str| {
        tracing_configuration(&format!(
            "sample_ratio = {value}\notlp_endpoint = \"https://c.example\""
        ))
    };
    check(&[
        (ratio("0"), &[]),
        (ratio("1"), &[]),
        (ratio("1.0"), &[]),
        (ratio("0.000_1"), &[]),
        (ratio("1e-3"), &[]),
        (ratio("1.01"), &[WANTED]),
        (ratio("-0.1"), &[WANTED]),
        (ratio("nan"), &[WANTED]),
        (ratio("inf"), &[WANTED]),
        (ratio("2"), &[WANTED]),
        (
            ratio("\"1\""),
            &["2:16: `sample_ratio` must be a number from 0.0 to 1.0, not string"],
        ),
    ]);
}
