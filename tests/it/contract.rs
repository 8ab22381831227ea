//! Consistency of the API contract: proto comments, tables and recipes must agree. The tests iterate over the tables
//! and make no calls.

use std::collections::BTreeSet;

use tonic::Code;
use useradmin::{
    access::authentication_error::AuthenticationError,
    error::{
        Failure, UpstreamResponse,
        recipe::{Extra, recipe},
        rule::Rule,
        status::{CallFacts, status},
    },
    proto::ErrorReason as R,
    service::rpcs::RPCS,
    upstream::{
        azure_batch::{NAMES, causes},
        registry::tables,
    },
};
use useradmin_testkit::CallFailure;

use crate::proto_comments::{self, ReasonComment, comment, elements, one_line, reasons};

/// Reasons that the server itself reports for both rpcs.
const SERVER_REASONS: [R; 15] = [
    R::InvalidRequest,
    R::CallerUnauthenticated,
    R::CallerNotAuthorized,
    R::UnknownTarget,
    R::ProtectedUser,
    R::DeleteQuotaExceeded,
    R::Overloaded,
    R::CircuitOpen,
    R::AuditUnavailable,
    R::ShuttingDown,
    R::DeadlineExceeded,
    R::OutcomeUnknown,
    R::UpstreamUnreachable,
    R::UpstreamProtocolError,
    R::Internal,
];
/// Reasons that the server itself reports for Azure Batch: for the state of the node, and for the token endpoint.
const BATCH_SERVER_REASONS: [R; 3] = [
    R::NodeNotReady,
    R::NodeUnusable,
    R::UpstreamCredentialsRejected,
];
/// Reasons that the server itself reports for an HMC: for the user that was read, and for the lock-out protection.
const HMC_SERVER_REASONS: [R; 5] = [
    R::UserNotFound,
    R::PatternBasedUser,
    R::OwnUser,
    R::AmbiguousUserName,
    R::UpstreamCredentialsRejected,
];
/// Reasons of the server itself that are reported with both of their codes.
const ALTERNATE_REASONS: [R; 1] = [R::OutcomeUnknown];

/// Pairs of gRPC code and reason.
type Pairs = BTreeSet<(String, &'static str)>;

/// Returns the pair of a reason with its first code, or with its second one.
fn code_and_reason(reason: R, alternate: bool) -> (String, &'static str) {
    let recipe = recipe(reason);
    let code = match (alternate, recipe.alternate) {
        (true, Some(other)) => other.code,
        (true, None) => panic!("{reason:?} has no second code"),
        (false, _) => recipe.code,
    };
    (code_name(code), short(reason))
}

fn pairs_of_rules(rows: &[Rule]) -> Pairs {
    rows.iter()
        .map(|row| code_and_reason(row.reason, row.alternate))
        .collect()
}

fn pairs_of_server(additional: &[R]) -> Pairs {
    let standard = SERVER_REASONS.iter().chain(additional);
    let standard = standard.map(|reason| code_and_reason(*reason, false));
    let alternate = ALTERNATE_REASONS.map(|reason| code_and_reason(reason, true));
    standard.chain(alternate).collect()
}

/// Returns the pairs in the response tables of an upstream.
fn pairs_of_upstream(upstream: &str) -> Pairs {
    let tables = tables().into_iter();
    let tables = tables.filter(|(names, ..)| names.upstream == upstream);
    tables
        .flat_map(|(_, _, rules)| pairs_of_rules(rules))
        .collect()
}

/// Returns the reasons that the server itself reports only for this upstream.
fn server_reasons(upstream: &str) -> &'static [R] {
    match upstream {
        "azure_batch" => &BATCH_SERVER_REASONS,
        "ibm_hmc" => &HMC_SERVER_REASONS,
        other => panic!("the reasons that the server itself reports for {other}"),
    }
}

/// Returns whether the server can report this reason for this upstream without a response of the upstream.
pub fn is_reported_by_server(reason: R, upstream: &str) -> bool {
    SERVER_REASONS.contains(&reason) || server_reasons(upstream).contains(&reason)
}

/// Returns the pairs that a call to this upstream can report.
fn possible_pairs(upstream: &str) -> Pairs {
    &pairs_of_server(server_reasons(upstream)) | &pairs_of_upstream(upstream)
}

/// Returns the name of a reason without the common prefix.
fn short(reason: R) -> &'static str {
    reason.as_str_name().strip_prefix("ERROR_REASON_").unwrap()
}

/// Returns the name of a code in upper case: `InvalidArgument` becomes `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Returns the words of a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// Returns the words of a text that are in the list.
fn words_in<'a>(text: &'a str, list: &[&str]) -> BTreeSet<&'a str> {
    words(text).filter(|word| list.contains(word)).collect()
}

#[test]
fn reason_names_are_valid_in_error_info() {
    for reason in reasons() {
        let name = reason.as_str_name();
        let inner = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        assert!(name.len() <= 63, "{name}");
        assert!(name.as_bytes()[0].is_ascii_uppercase(), "{name}");
        assert!(name.bytes().all(|b| inner(b) || b == b'_'), "{name}");
        assert!(name.bytes().last().is_some_and(inner), "{name}");
    }
}

#[test]
fn messages_are_short_ascii() {
    for reason in reasons() {
        let message = recipe(reason).message;
        let is_ascii = message.bytes().all(|b| (32..127).contains(&b));
        assert!(is_ascii && (1..=512).contains(&message.len()), "{reason:?}");
    }
}

#[test]
fn comments_and_recipes_agree_on_codes() {
    for reason in reasons().into_iter().filter(|r| *r != R::Unspecified) {
        let text = ReasonComment::of(reason).codes;
        let all: Vec<String> = (0..17).map(|n| code_name(Code::from_i32(n))).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let recipe = recipe(reason);
        let codes = [Some(recipe.code), recipe.alternate.map(|other| other.code)];
        let codes: BTreeSet<_> = codes.into_iter().flatten().map(code_name).collect();
        let actual: BTreeSet<_> = words_in(&text, &all)
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(actual, codes, "{reason:?}: {text}");
    }
}

const DETAILS: [&str; 7] = [
    "ErrorInfo",
    "RequestInfo",
    "BadRequest",
    "PreconditionFailure",
    "QuotaFailure",
    "ResourceInfo",
    "RetryInfo",
];

fn details(extras: &[Extra]) -> BTreeSet<&'static str> {
    let extras = extras.iter().map(|extra| match extra {
        Extra::BadRequest => "BadRequest",
        Extra::Target | Extra::Resource(_) => "ResourceInfo",
        Extra::Precondition(..) => "PreconditionFailure",
        Extra::Quota(..) => "QuotaFailure",
        Extra::Retry(_) => "RetryInfo",
    });
    extras.chain(["ErrorInfo", "RequestInfo"]).collect()
}

/// A detail of only one of two codes needs a condition in the comment; other details must not have one.
#[test]
fn comments_and_recipes_agree_on_details() {
    for reason in reasons().into_iter().filter(|r| *r != R::Unspecified) {
        let text = ReasonComment::of(reason).details;
        let recipe = recipe(reason);
        let standard = details(recipe.extras);
        let other = recipe
            .alternate
            .map_or(standard.clone(), |o| details(o.extras));
        assert_eq!(words_in(&text, &DETAILS), &standard | &other, "{reason:?}");
        for detail in &standard | &other {
            let following = text.split_once(detail).unwrap().1;
            let conditional = following.starts_with(" when ") || following.starts_with(" where ");
            let always = standard.contains(detail) && other.contains(detail);
            assert_eq!(conditional, !always, "{reason:?} {detail}: {text}");
        }
    }
}

#[test]
fn comments_and_tables_agree_on_the_upstreams_own_errors() {
    let upstreams: BTreeSet<_> = tables().iter().map(|(names, ..)| names.upstream).collect();
    let compared = ["azure_batch", "ibm_hmc"].into();
    assert_eq!(upstreams, compared, "compare the comments of each upstream");
    let (batch, hmc) = (
        pairs_of_upstream("azure_batch"),
        pairs_of_upstream("ibm_hmc"),
    );
    let has = |rows: &Pairs, reason| rows.iter().any(|(_, name)| *name == short(reason));
    for reason in reasons() {
        let comment = ReasonComment::of(reason);
        let (batch, hmc) = (has(&batch, reason), has(&hmc, reason));
        let (details, keys) = (&comment.details, &comment.metadata);
        let either = batch || hmc;
        for (part, text, word, expected) in [
            ("Details", details, "BatchError", batch),
            ("Details", details, "HmcError", hmc),
            ("Metadata", keys, "upstream_http_status", either),
            ("Metadata", keys, "upstream_code", either),
            ("Metadata", keys, "upstream_request_id", batch),
            ("Metadata", keys, "(Batch only)", batch && hmc),
        ] {
            let action = if expected { "add" } else { "remove" };
            assert_eq!(
                text.contains(word),
                expected,
                "error_reason.proto, {reason:?}: {action} `{word}` in the part `{part}`"
            );
        }
    }
}

#[test]
fn every_cause_is_documented() {
    let text = one_line(&comment("ErrorReason"));
    let lists = text.split("Values of `cause` for ").skip(1);
    let lists = lists.map(|list| list.split(" The comment of ").next().unwrap());
    let listed_names: BTreeSet<_> = lists
        .flat_map(|list| list.split('`').skip(1).step_by(2))
        .collect();
    let words = AuthenticationError::ALL.map(AuthenticationError::as_str);
    let others = [
        "authorization",
        "Bearer",
        "aadsts_code",
        "token_timeout_seconds",
    ];
    let field_names: BTreeSet<_> = words
        .into_iter()
        .chain(causes::all())
        .chain(others)
        .collect();
    assert_eq!(listed_names, field_names);
    for reason in reasons() {
        let has_cause = ReasonComment::of(reason).metadata.contains("cause");
        let expected = [
            R::CallerUnauthenticated,
            R::DeadlineExceeded,
            R::UpstreamCredentialsRejected,
            R::UpstreamUnreachable,
        ];
        assert_eq!(has_cause, expected.contains(&reason), "{reason:?}");
    }
}

#[test]
fn every_reason_can_occur() {
    let possible: Pairs = RPCS
        .iter()
        .flat_map(|(_, names)| possible_pairs(names.upstream))
        .collect();
    let impossible: Vec<_> = reasons()
        .into_iter()
        .filter(|reason| !possible.iter().any(|(_, name)| *name == short(*reason)))
        .collect();
    assert_eq!(impossible, [R::Unspecified]);
    // A second code that is never reported would be misleading.
    for reason in reasons() {
        if recipe(reason).alternate.is_some() {
            assert!(
                possible.contains(&code_and_reason(reason, true)),
                "{reason:?}"
            );
        }
    }
}

/// Returns the pairs of the list `Errors:` at the end of the comment of an rpc.
fn listed_pairs(rpc: &str) -> Pairs {
    let comment = comment(&format!("UserAdmin.{rpc}"));
    let (_, list) = comment.split_once("Errors:").unwrap();
    let known: Vec<_> = reasons().into_iter().map(short).collect();
    let mut pairs = Pairs::new();
    for item in one_line(list).split("- ").filter(|item| !item.is_empty()) {
        let (code, names) = item.split_once(": ").unwrap();
        for name in names.split(',').map(str::trim) {
            let known = known.iter().find(|known| **known == name);
            let name = known.unwrap_or_else(|| panic!("{rpc}: no reason {name}"));
            assert!(pairs.insert((code.to_owned(), name)), "{name} twice");
        }
    }
    pairs
}

#[test]
fn rpc_comments_list_exactly_the_possible_errors() {
    for (rpc, names) in RPCS {
        assert_eq!(listed_pairs(rpc), possible_pairs(names.upstream), "{rpc}");
    }
}

#[test]
fn every_element_has_a_comment() {
    let elements = elements();
    assert!(elements.len() > 80, "{}", elements.len());
    for element in elements {
        let ends = element.comment.ends_with(['.', '`']) || element.comment.contains("Errors:");
        assert!(!element.comment.is_empty() && ends, "{}", element.name);
    }
}

/// Returns the keys in the comment of `ErrorReason` and those of the identifiers.
pub fn metadata_keys() -> BTreeSet<String> {
    let comment = comment("ErrorReason");
    let (_, list) = comment.split_once("can have these keys").unwrap();
    let (list, _) = list.split_once("Values of `cause`").unwrap();
    let items = one_line(list);
    let mut keys = BTreeSet::new();
    for item in items.split("- ").skip(1) {
        if item.starts_with("the identifiers") {
            let (item, _) = item.split_once(". ").unwrap();
            keys.extend(item.split('`').skip(1).step_by(2).map(str::to_owned));
        } else {
            keys.insert(item.split('`').nth(1).unwrap().to_owned());
        }
    }
    keys
}

/// Returns the string fields of both requests, which identify a call.
fn identifiers() -> BTreeSet<String> {
    let files = proto_comments::files();
    let messages = files.iter().flat_map(|file| &file.message_type);
    let requests = messages.filter(|message| message.name().ends_with("Request"));
    let fields = requests.flat_map(|message| &message.field);
    let texts =
        fields.filter(|field| field.r#type() == prost_types::field_descriptor_proto::Type::String);
    texts.map(|field| field.name().to_owned()).collect()
}

#[test]
fn metadata_keys_are_the_documented_ones() {
    let documented = metadata_keys();
    for key in &documented {
        let is_snake_case = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!((2..=64).contains(&key.len()) && is_snake_case, "{key}");
    }
    let names = identifiers().into_iter().map(|name| &*name.leak());
    let facts = CallFacts {
        names: Some(&NAMES),
        user_was_present: true,
        identifiers: names.map(|name| (name, "x".to_owned())).collect(),
        ..CallFacts::default()
    };
    let mut failure = Failure::unidentified("nothing_shown").with_clock_skew(Some(-301));
    failure = failure
        .with_aadsts_code(Some(7_000_215))
        .with_claims(Some("{}".to_owned()));
    failure.upstream_response = Some(Box::new(UpstreamResponse {
        http_status: 404,
        code: Some("NodeUserNotFound".to_owned()),
        request_id: Some("r".to_owned()),
        missing_task: Some("Manage Users"),
        document: None,
    }));
    let actual = CallFailure::from(status(&failure, &facts)).metadata;
    assert_eq!(actual.into_keys().collect::<BTreeSet<_>>(), documented);
}
