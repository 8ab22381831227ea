//! Look-up by name. The filter is a regular expression for the HMC, so the service escapes the name, and compares the
//! names in the response again.

use futures_util::future::join_all;
use tonic::Code::{FailedPrecondition, NotFound};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{HmcSetup, Step, delete_by_name};

use super::{setup_with_document, user_list};

/// Names, each with the value of the filter on the wire: a backslash precedes every ASCII character other than letters
/// and digits, and all but unreserved characters are percent-encoded.
const WIRE: [(&str, &str); 22] = [
    ("alice", "alice"),
    ("ALICE7", "ALICE7"),
    ("A.B", "A%5C.B"),
    ("a*", "a%5C%2A"),
    ("*", "%5C%2A"),
    (r"\E", "%5C%5CE"),
    (r"\Qa\E", "%5C%5CQa%5C%5CE"),
    ("$^", "%5C%24%5C%5E"),
    ("a-b_c~d", "a%5C-b%5C_c%5C~d"),
    ("(a|b)", "%5C%28a%5C%7Cb%5C%29"),
    ("[a]{2}", "%5C%5Ba%5C%5D%5C%7B2%5C%7D"),
    ("user one", "user%5C%20one"),
    ("a+b", "a%5C%2Bb"),
    ("a&name=b", "a%5C%26name%5C%3Db"),
    ("a?type=x", "a%5C%3Ftype%5C%3Dx"),
    ("a#b", "a%5C%23b"),
    ("a/../b", "a%5C%2F%5C.%5C.%5C%2Fb"),
    ("a%2Fb", "a%5C%252Fb"),
    ("a;b,c@d", "a%5C%3Bb%5C%2Cc%5C%40d"),
    ("\"'`<>!:", "%5C%22%5C%27%5C%60%5C%3C%5C%3E%5C%21%5C%3A"),
    ("ü", "%C3%BC"),
    ("日本 语", "%E6%97%A5%E6%9C%AC%5C%20%E8%AF%AD"),
];

#[tokio::test]
async fn user_name_is_escaped_and_encoded_in_filter() {
    join_all(WIRE.map(|(name, wire)| async move {
        let setup = setup_with_document(user_list(&[("id-7", name)]), "").await;
        let response = setup.app.delete_hmc_user(delete_by_name(name)).await;
        let response = response.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        assert_eq!(
            (response.user_id.as_str(), response.user_name.as_str()),
            ("id-7", name)
        );
        let [list] = setup.requests_of(Step::List).try_into().unwrap();
        assert_eq!(list.target, format!("/api/console/users?name={wire}"));
        assert_eq!(decode_filter(&list.target), name);
        let [delete] = setup.requests_of(Step::Delete).try_into().unwrap();
        assert_eq!(delete.target, "/api/users/id-7");
    }))
    .await;
}

/// Returns the literal text that the Java regular expression in the query matches. Fails if the expression has any
/// operator.
fn decode_filter(target: &str) -> String {
    let (_, query) = target.split_once('?').unwrap();
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let [(key, filter)] = pairs.as_slice() else {
        panic!("{query}");
    };
    assert_eq!(key, "name");
    let (mut literal, mut chars) = (String::new(), filter.chars());
    while let Some(c) = chars.next() {
        let escaped = c == '\\';
        let meant = if escaped { chars.next().unwrap() } else { c };
        assert_eq!(
            escaped,
            meant.is_ascii() && !meant.is_ascii_alphanumeric(),
            "{filter}"
        );
        literal.push(meant);
    }
    literal
}

/// Object ID and name of a user.
type Entry = (&'static str, &'static str);

/// The requested name, the users that the HMC lists, and the object ID of the user that must be deleted.
#[rustfmt::skip]
const FOUND: [(&str, &[Entry], Option<&str>); 18] = [
    ("ALICE", &[("id-1", "alice")], Some("id-1")),
    ("alice", &[("id-1", "ALICE")], Some("id-1")),
    ("JÖRG", &[("id-1", "jörg")], Some("id-1")),
    ("ωμέγα", &[("id-1", "ΩΜΈΓΑ")], Some("id-1")),
    // The unescaped pattern `A.B` would match both.
    ("A.B", &[("id-1", "AxB"), ("id-2", "a.b")], Some("id-2")),
    ("alice", &[("id-1", "alice2"), ("id-2", "malice"), ("id-3", "alice")], Some("id-3")),
    ("alice", &[("id-1", "alice2"), ("id-2", "malice")], None),
    ("alice", &[("id-1", "alice ")], None),
    ("alice", &[("id-1", "")], None),
    ("alice", &[], None),
    // Java folds the Kelvin sign to k and the long s to s; neither may lead to the deletion of another user.
    ("\u{212A}ate", &[("id-1", "kate")], None),
    ("kate", &[("id-1", "\u{212A}ate")], None),
    ("\u{17F}am", &[("id-1", "sam")], None),
    ("sam", &[("id-1", "\u{17F}am")], None),
    ("\u{212A}ate", &[("id-1", "kate"), ("id-2", "\u{212A}ate")], Some("id-2")),
    ("kate", &[("id-1", "kate"), ("id-2", "\u{212A}ate")], Some("id-1")),
    ("strasse", &[("id-1", "straße")], None),
    ("\u{130}", &[("id-1", "i\u{307}")], None),
];

#[tokio::test]
async fn returned_name_is_compared_ignoring_case() {
    join_all(FOUND.map(|(name, users, expected)| async move {
        let setup = setup_with_document(user_list(users), "").await;
        let response = setup.app.delete_hmc_user(delete_by_name(name)).await;
        let deletes: Vec<_> = setup
            .requests_of(Step::Delete)
            .into_iter()
            .map(|d| d.target)
            .collect();
        match (response, expected) {
            (Ok(result), Some(id)) => {
                assert_eq!(result.user_id, id, "{name}");
                let actual_name = users.iter().find(|user| user.0 == id).unwrap().1;
                assert_eq!(result.user_name, actual_name);
                assert_eq!(deletes, [format!("/api/users/{id}")]);
            }
            (Err(failure), None) => {
                failure.expect(NotFound, "USER_NOT_FOUND");
                setup.assert_not_sent(&failure);
            }
            (response, expected) => panic!("{name}: wanted {expected:?}: {response:?}"),
        }
    }))
    .await;
}

/// The HMC has returned a list and no error, so the failure has no error of the HMC.
#[tokio::test]
async fn empty_lookup_means_absent() {
    let setup = setup_with_document(user_list(&[]), "").await;
    let failure = setup.fail(delete_by_name("nobody")).await;
    failure.expect(NotFound, "USER_NOT_FOUND");
    setup.assert_not_sent(&failure);
    assert!(failure.hmc.is_none() && failure.retry_delay.is_none());
    for absent in ["upstream_http_status", "upstream_code", "user_id"] {
        assert!(!failure.metadata.contains_key(absent), "{absent}");
    }
    assert_eq!(failure.resource.unwrap().1, "hmcs/hmc/users/nobody");

    let mut request = delete_by_name("nobody");
    request.allow_missing = true;
    let response = setup.app.delete_hmc_user(request).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::AlreadyAbsent, 0)
    );
    assert_eq!(
        (response.user_id.as_str(), response.user_name.as_str()),
        ("", "nobody")
    );
    assert_eq!(setup.count(Step::Delete), 0);
}

#[tokio::test]
async fn two_matching_users_are_ambiguous() {
    let both: [&[Entry]; 3] = [
        &[("id-1", "alice"), ("id-2", "ALICE")],
        &[("id-1", "alice"), ("id-1", "alice")],
        &[("id-1", "Alice"), ("id-2", "bob"), ("id-3", "aLICE")],
    ];
    join_all(both.map(|users| async move {
        let setup: HmcSetup = setup_with_document(user_list(users), "").await;
        let mut request = delete_by_name("alice");
        request.allow_missing = true;
        let failure = setup.fail(request).await;
        failure.expect(FailedPrecondition, "AMBIGUOUS_USER_NAME");
        setup.assert_not_sent(&failure);
        assert_eq!(failure.precondition.len(), 1, "{failure:?}");
    }))
    .await;
}
