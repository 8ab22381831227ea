//! A call to one of the two rpcs.

use std::{collections::BTreeSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use useradmin::proto::{
    DESCRIPTORS, DeleteBatchNodeUserRequest, DeleteHmcUserRequest, ErrorReason as R,
    delete_hmc_user_request::User,
};

use super::{
    stack::{How, call},
    status,
};

/// Names of the fields and oneofs of both request messages.
static FIELDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors");
    let messages = files.file.into_iter().flat_map(|file| file.message_type);
    let requests = messages.filter(|message| message.name().ends_with("Request"));
    let names = requests.flat_map(|request| {
        let fields = request.field.into_iter().filter_map(|field| field.name);
        let choices = request
            .oneof_decl
            .into_iter()
            .filter_map(|choice| choice.name);
        fields.chain(choices).collect::<Vec<_>>()
    });
    names.collect()
});

/// Checks a call: a byte that selects how the call is made, followed by a message.
pub fn request(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let how = How(*first);
    let response = call(how, bytes);
    let actual = status::check(&response);
    assert_ne!(response.code(), Code::Internal, "{response:?}");
    let known =
        |field: &String| field.is_empty() || field == "grpc-timeout" || FIELDS.contains(field);
    assert!(actual.fields.iter().all(known), "{:?}", actual.fields);
    let bad = response.code() == Code::InvalidArgument;
    assert_eq!(actual.reason == R::InvalidRequest, bad, "{response:?}");
    if how.is_nobody() {
        let early = matches!(actual.reason, R::DeadlineExceeded | R::InvalidRequest);
        let early = early && matches!(how.timeout(), Some("1m" | "5 S"));
        assert!(
            actual.reason == R::CallerUnauthenticated || early,
            "{response:?}"
        );
        return;
    }
    // The timeout is malformed.
    assert!(bad || how.timeout() != Some("5 S"), "{response:?}");
    if !how.is_framed() && matches!(how.timeout(), None | Some("5S")) {
        check_message(how, bytes, &actual);
    }
}

/// Asserts that the response to a message is the expected one.
fn check_message(how: How, bytes: &[u8], actual: &status::Told) {
    let expected = if bytes.len() > 65_536 {
        assert_eq!(actual.fields, [""]);
        return;
    } else if how.is_hmc() {
        DeleteHmcUserRequest::decode(bytes).map(|request| hmc_faults(&request))
    } else {
        DeleteBatchNodeUserRequest::decode(bytes).map(|request| batch_faults(&request))
    };
    let expected = match expected {
        Ok(expected) => expected,
        Err(error) => {
            // The field that the decoder names, if it reaches a field.
            let error = error.to_string();
            let named = FIELDS
                .iter()
                .find(|field| error.contains(&format!("Request.{field}:")));
            let named = named.map_or("", String::as_str);
            assert_eq!(
                (actual.reason, &*actual.fields),
                (R::InvalidRequest, &[named.to_owned()][..])
            );
            return;
        }
    };
    assert_eq!(actual.fields, expected);
    let refused = [R::CallerNotAuthorized, R::UnknownTarget, R::ProtectedUser];
    assert_eq!(refused.contains(&actual.reason), expected.is_empty());
}

fn batch_faults(request: &DeleteBatchNodeUserRequest) -> Vec<&'static str> {
    let dots = |text: &str| matches!(text, "." | "..");
    let node = &request.node_id;
    let id = &request.client_request_id;
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    let guid = groups == [8, 4, 4, 4, 12] && is_of(&id.replace('-', ""), 32, "") && is_hex(id);
    faults([
        (
            "account",
            request.account.is_empty() || is_of(&request.account, 64, "._-"),
        ),
        ("pool_id", is_of(&request.pool_id, 64, "_-")),
        ("node_id", is_of(node, 128, "._-") && !dots(node)),
        ("user_name", is_name(&request.user_name)),
        ("client_request_id", id.is_empty() || guid),
    ])
}

fn hmc_faults(request: &DeleteHmcUserRequest) -> Vec<&'static str> {
    let user = match &request.user {
        None => ("user", false),
        Some(User::UserId(id)) => (
            "user_id",
            is_of(id, 64, "._-") && !matches!(&**id, "." | ".."),
        ),
        Some(User::UserName(name)) => ("user_name", is_name(name)),
    };
    faults([
        (
            "hmc",
            request.hmc.is_empty() || is_of(&request.hmc, 64, "._-"),
        ),
        user,
    ])
}

fn faults<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    let faulty = fields.into_iter().filter(|(_, fits)| !fits);
    faulty.map(|(field, _)| field).collect()
}

fn is_of(text: &str, max: usize, more: &str) -> bool {
    let fits = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9') || more.contains(c);
    !text.is_empty() && text.len() <= max && text.chars().all(fits)
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Returns whether the text is a name without invisible characters.
fn is_name(text: &str) -> bool {
    let unseen = |c: char| matches!(c as u32, 0..=0x1F | 0x7F..=0x9F | 0x61C | 0x200E | 0x200F | 0x2028..=0x202E | 0x2066..=0x2069);
    !text.is_empty()
        && text.len() <= 256
        && text != "."
        && text != ".."
        && !text.contains(unseen)
        && text.trim() == text
}
