//! Checks what each platform declares: the names of its resources and its tables of rules. Covers all platforms of the
//! registry.

use std::{collections::BTreeSet, ptr};

use useradmin::{
    error::{
        Effect,
        resource::Level,
        rule::{Body, RequestPart, Rule, first_match},
    },
    proto::{ErrorReason, request_fields},
    service::rpcs::RPCS,
    upstream::registry::tables,
};
use useradmin_testkit::ScriptedReply;

use crate::{
    batch_rules, contract::words, fuzz, hmc_logon, hmc_rules, proto_comments::ReasonComment,
};

#[test]
fn platform_resource_names_match_request_fields() {
    let mut upstreams = BTreeSet::new();
    for (rpc, names) in RPCS {
        let levels: Vec<_> = names.collections.iter().map(|one| one.level).collect();
        assert_eq!(levels.first(), Some(&Level::Target), "{rpc}");
        assert_eq!(levels.last(), Some(&Level::User), "{rpc}");
        let keys = names
            .collections
            .iter()
            .flat_map(|collection| collection.metadata_keys);
        for key in keys {
            assert!(request_fields().any(|field| field == *key), "{rpc}: {key}");
        }
        assert!(
            upstreams.insert(names.upstream),
            "{rpc}: its upstream has two rpcs"
        );
        assert!(
            tables()
                .iter()
                .any(|(named, ..)| named.upstream == names.upstream),
            "{rpc}"
        );
    }
}

/// Only a 5xx status means that a target is down. A rule for a 5xx with any body always does.
#[test]
fn rules_for_5xx_count_for_circuit_breaker() {
    for row in tables().into_iter().flat_map(|(_, _, rules)| rules) {
        let is_5xx = *row.status.start() >= 500 && *row.status.end() < 600;
        assert!(is_5xx || !row.down, "{row:?}");
        assert!(row.down || !is_5xx || row.body != Body::Any, "{row:?}");
    }
}

/// Returns the code of an error document that a row matches, and the part of the request that the document complains
/// about.
fn document(row: &Rule) -> (Option<&'static str>, Vec<RequestPart<'static>>) {
    match row.body {
        Body::Any => (None, Vec::new()),
        Body::AnyErrorDocument => (Some("unlisted"), Vec::new()),
        Body::Code(code) => (Some(code), Vec::new()),
        Body::Part(part) => (Some("unlisted"), vec![part]),
        Body::CodeAndPart(code, part) => (Some(code), vec![part]),
    }
}

/// No error document turns these statuses into a proof that the user still exists, because a proxy may have sent the
/// response, or the upstream may have sent it after the deletion.
#[test]
fn no_code_makes_the_effect_of_a_delete_certain() {
    let is_uncertain = |status: &u16| !matches!(status, 400..=407 | 409..=499 | 501 | 503 | 505);
    let deletions = tables()
        .into_iter()
        .filter(|(_, request, _)| *request == "deletion");
    for (names, _, rules) in deletions {
        for (code, parts) in rules.iter().map(document) {
            for status in (100..=599).filter(is_uncertain) {
                let row = first_match(rules, status, code, &parts).unwrap();
                assert_eq!(
                    row.effect,
                    Effect::Unknown,
                    "{}: a {status} with the code {code:?} must not count as \"not deleted\": {row:?}",
                    names.upstream
                );
            }
        }
    }
}

/// Asserts that every row decides some response, that is, that the rows before it do not cover it completely.
#[track_caller]
fn assert_no_shadowed_row(table: &[Rule]) {
    for row in table {
        let (code, parts) = document(row);
        let decides = |status| {
            first_match(table, status, code, &parts).is_some_and(|found| ptr::eq(found, row))
        };
        assert!(row.status.clone().any(decides), "{row:?}");
        assert!(!row.source.is_empty(), "{row:?}");
    }
    let last = table.last().unwrap();
    assert_eq!((last.status.clone(), last.body), (0..=u16::MAX, Body::Any));
}

#[test]
fn rule_tables_have_no_shadowed_row_and_cover_everything() {
    for (_, _, rules) in tables() {
        assert_no_shadowed_row(rules);
    }
}

/// A comment names the codes of all rows that lead to its reason. Exceptions are the codes that lead to
/// `UPSTREAM_REJECTED_REQUEST` without the caller being the cause: the comment describes them as all other codes.
#[test]
fn comments_name_the_upstream_codes_of_their_reasons() {
    for row in tables().into_iter().flat_map(|(_, _, rules)| rules) {
        let (Body::Code(code) | Body::CodeAndPart(code, _)) = row.body else {
            continue;
        };
        let is_exception = row.reason == ErrorReason::UpstreamRejectedRequest && !row.alternate;
        let when = ReasonComment::of(row.reason).when;
        assert!(
            is_exception || words(&when).any(|word| word == code),
            "error_reason.proto, {:?}: add `{code}` in the part `When`: {when}",
            row.reason
        );
    }
}

/// A response in a test: status, code of the error document, and the parts of the request that it complains about.
pub type TestedResponse = (u16, Option<String>, Vec<RequestPart<'static>>);

/// Returns the responses with which a table is tested, and the file that lists them.
fn tested_responses(upstream: &str, request: &str) -> (Vec<TestedResponse>, &'static str) {
    match (upstream, request) {
        ("azure_batch", "deletion") => (batch_rules::responses(), "batch_rules/table.rs"),
        ("ibm_hmc", "deletion") => {
            let replies = hmc_rules::rows().into_iter().map(|row| row.reply);
            (hmc_responses(replies), "hmc_rules/documented.rs")
        }
        ("ibm_hmc", "logon") => {
            let replies = hmc_logon::rows().into_iter().map(|row| row.reply);
            (hmc_responses(replies), "hmc_logon/responses.rs")
        }
        other => panic!("{other:?}: test its responses with the real server, and add them here"),
    }
}

fn hmc_responses(replies: impl Iterator<Item = ScriptedReply>) -> Vec<TestedResponse> {
    let parts = replies.filter_map(|reply| reply.status_and_reason());
    parts
        .map(|(status, reason)| (status, reason.map(|reason| reason.to_string()), Vec::new()))
        .collect()
}

/// Returns the fuzz entry point for the responses of an upstream.
fn fuzz_entry(upstream: &str) -> &'static str {
    match upstream {
        "azure_batch" => "batch",
        "ibm_hmc" => "hmc",
        other => panic!("{other}: add a fuzz entry point for its responses, and add it here"),
    }
}

#[test]
fn every_upstream_has_tests_of_its_rows_and_a_fuzz_entry_point() {
    for (names, request, rules) in tables() {
        let (responses, file) = tested_responses(names.upstream, request);
        for row in rules {
            let is_tested = responses.iter().any(|(status, code, parts)| {
                let found = first_match(rules, *status, code.as_deref(), parts);
                found.is_some_and(|found| ptr::eq(found, row))
            });
            assert!(
                is_tested,
                "add a response to tests/it/{file}: none leads to {row:?}"
            );
        }
        let entry = fuzz_entry(names.upstream);
        assert!(
            fuzz::NAMES.contains(&entry),
            "add `{entry}` to the list in tests/it/fuzz.rs"
        );
    }
}
