//! Generators of well-formed inputs. More of these pass the first check than inputs of a fuzzer do.

use proptest::{
    arbitrary::any,
    collection::vec,
    option,
    prelude::prop_oneof,
    sample::select,
    strategy::{BoxedStrategy, Just, Strategy},
    string::{RegexGeneratorStrategy, string_regex},
};
use prost::Message as _;
use serde_json::{Value, json};
use useradmin::{
    error::rule::Body,
    proto::{DeleteBatchNodeUserRequest, DeleteHmcUserRequest, delete_hmc_user_request::User},
    upstream::azure_batch::rules::RULES,
};

use super::entries::SEPARATOR;

/// Returns the generator of an entry point, or `None` if it has none.
pub fn generator(name: &str) -> Option<BoxedStrategy<Vec<u8>>> {
    Some(match name {
        "path" => vec(text(), 1..7)
            .prop_map(|segments| segments.join(&SEPARATOR.to_string()).into_bytes())
            .boxed(),
        "request" => prop_oneof![batch_request(), hmc_request()].boxed(),
        "batch" => answer(batch_document()),
        "hmc" => answer(hmc_document()),
        "pattern" => pattern(),
        _ => return None,
    })
}

/// Generates texts that match a pattern. The pattern is compiled once; a plain `&str` strategy would compile it for
/// each text.
fn text_matching(pattern: &str) -> RegexGeneratorStrategy<String> {
    string_regex(pattern).unwrap()
}

/// Generates arbitrary texts, among them many that URLs or regular expressions treat specially.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        any::<String>(),
        text_matching("[./\\\\%?#;:@&=+ \t\r\n\u{0}a-z]{1,12}"),
        text_matching("(\\.|%2e|%2E|%252e|/|%2f|\\\\|%5c){1,6}"),
        text_matching("\\PC{1,64}"),
        text_matching("[A-Za-z0-9._-]{1,70}"),
    ]
    .boxed()
}

fn guid() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        text_matching("[0-9a-fA-F]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        text()
    ]
    .boxed()
}

/// Prepends a byte of call options to a message, without the bit for input that already contains a frame.
fn with_options(message: Vec<u8>, how: u8) -> Vec<u8> {
    let mut bytes = vec![how & !4];
    bytes.extend(message);
    bytes
}

fn batch_request() -> BoxedStrategy<Vec<u8>> {
    let alias = prop_oneof![Just("prod".to_owned()), text()];
    let fields = (
        alias,
        text(),
        text(),
        text(),
        guid(),
        any::<bool>(),
        any::<u8>(),
    );
    fields
        .prop_map(
            |(account, pool_id, node_id, user_name, client_request_id, flag, how)| {
                let request = DeleteBatchNodeUserRequest {
                    account,
                    pool_id,
                    node_id,
                    user_name,
                    allow_missing: flag,
                    validate_only: flag,
                    client_request_id,
                };
                with_options(request.encode_to_vec(), how & !1)
            },
        )
        .boxed()
}

fn hmc_request() -> BoxedStrategy<Vec<u8>> {
    let user = prop_oneof![
        text().prop_map(User::UserId),
        text().prop_map(User::UserName)
    ];
    let alias = prop_oneof![Just("no-such-hmc".to_owned()), text()];
    (alias, option::of(user), any::<u8>())
        .prop_map(|(hmc, user, how)| {
            let request = DeleteHmcUserRequest {
                hmc,
                user,
                ..Default::default()
            };
            with_options(request.encode_to_vec(), how | 1)
        })
        .boxed()
}

/// Generates arbitrary JSON with a few levels of nesting.
fn json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let member = (text_matching("[a-z]{1,8}"), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(member, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Generates a valid text in most cases, and arbitrary JSON otherwise.
fn mostly_valid(right: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![4 => right.prop_map(Value::from), 1 => json()].boxed()
}

fn batch_document() -> BoxedStrategy<Value> {
    let codes = RULES.iter().filter_map(|rule| match rule.body {
        Body::Code(code) | Body::CodeAndPart(code, _) => Some(code.to_owned()),
        Body::Any | Body::AnyErrorDocument | Body::Part(_) => None,
    });
    let code = prop_oneof![select(codes.collect::<Vec<_>>()), text()];
    let name = prop_oneof![
        Just("HeaderName".to_owned()),
        Just("QueryParameterName".to_owned()),
        Just("AuthenticationErrorDetail".to_owned()),
        text()
    ];
    let pair = (mostly_valid(name), mostly_valid(text()))
        .prop_map(|(key, value)| json!({ "key": key, "value": value }));
    (mostly_valid(code), mostly_valid(text()), vec(pair, 0..12))
        .prop_map(|(code, text, values)| {
            json!({ "code": code, "message": { "lang": "en-US", "value": text }, "values": values })
        })
        .boxed()
}

fn hmc_document() -> BoxedStrategy<Value> {
    let status = prop_oneof![select(vec![400, 403, 404, 409, 500, 503]), any::<u16>()];
    let reason = prop_oneof![0..330_u64, any::<u64>()];
    let id = prop_oneof![text_matching("/api/users/[a-z0-9._-]{1,40}"), text()];
    let user = (mostly_valid(text()), mostly_valid(id))
        .prop_map(|(name, uri)| json!({ "name": name, "object-uri": uri }));
    (status, reason, mostly_valid(text()), vec(user, 0..5))
        .prop_map(|(status, reason, text, users)| {
            json!({
                "http-status": status, "reason": reason, "message": text, "users": users, "api-session": text,
                "name": text,
            })
        })
        .boxed()
}

fn answer(document: BoxedStrategy<Value>) -> BoxedStrategy<Vec<u8>> {
    let status = prop_oneof![
        select(vec![
            200, 400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 503, 505
        ]),
        any::<u16>(),
    ];
    (status, option::of(0..100_u32), document)
        .prop_map(|(status, pause, document)| {
            let header = pause.map_or(String::new(), |pause| format!("\nretry-after: {pause}"));
            format!("{status}{header}\n\n{document}").into_bytes()
        })
        .boxed()
}

/// Generates patterns that often match the text with which they are used.
fn pattern() -> BoxedStrategy<Vec<u8>> {
    let part = prop_oneof![
        text_matching("[ab]{0,3}"),
        text_matching("\\PC{0,3}"),
        text_matching("[ßẞİıςσΣſKŉ]{1,2}")
    ];
    (vec((part, any::<bool>()), 0..5), text())
        .prop_map(|(parts, more)| {
            let (mut pattern, mut text) = (String::new(), String::new());
            for (part, star) in parts {
                pattern.push_str(if star { "*" } else { &part });
                text.push_str(&part);
            }
            let text = if more.len() % 3 == 0 { more } else { text };
            format!("{pattern}\n{text}").into_bytes()
        })
        .boxed()
}
