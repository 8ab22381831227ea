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
    stack::{CallOptions, call},
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
    let options = CallOptions(*first);
    let response = call(options, bytes);
    let actual = status::check(&response);
    assert_ne!(response.code(), Code::Internal, "{response:?}");
    let is_known_field =
        |field: &String| field.is_empty() || field == "grpc-timeout" || FIELDS.contains(field);
    assert!(
        actual.fields.iter().all(is_known_field),
        "{:?}",
        actual.fields
    );
    let is_invalid_argument = response.code() == Code::InvalidArgument;
    assert_eq!(
        actual.reason == R::InvalidRequest,
        is_invalid_argument,
        "{response:?}"
    );
    if options.requires_token() {
        let may_fail_before_authentication =
            matches!(actual.reason, R::DeadlineExceeded | R::InvalidRequest);
        let may_fail_before_authentication =
            may_fail_before_authentication && matches!(options.timeout(), Some("1m" | "5 S"));
        assert!(
            actual.reason == R::CallerUnauthenticated || may_fail_before_authentication,
            "{response:?}"
        );
        return;
    }
    // The timeout is malformed.
    assert!(
        is_invalid_argument || options.timeout() != Some("5 S"),
        "{response:?}"
    );
    if !options.is_framed() && matches!(options.timeout(), None | Some("5S")) {
        check_message(options, bytes, &actual);
    }
}

/// Asserts that the response to a message is the expected one.
fn check_message(options: CallOptions, bytes: &[u8], actual: &status::DecodedStatus) {
    let expected = if bytes.len() > 65_536 {
        assert_eq!(actual.fields, [""]);
        return;
    } else if options.is_hmc() {
        DeleteHmcUserRequest::decode(bytes).map(|request| hmc_faults(&request))
    } else {
        DeleteBatchNodeUserRequest::decode(bytes).map(|request| batch_faults(&request))
    };
    let expected = match expected {
        Ok(expected) => expected,
        Err(error) => {
            // The field that the decoder names, if it reaches a field.
            let error = error.to_string();
            let named_field = FIELDS
                .iter()
                .find(|field| error.contains(&format!("Request.{field}:")));
            let named_field = named_field.map_or("", String::as_str);
            assert_eq!(
                (actual.reason, &*actual.fields),
                (R::InvalidRequest, &[named_field.to_owned()][..])
            );
            return;
        }
    };
    assert_eq!(actual.fields, expected);
    let rejections = [R::CallerNotAuthorized, R::UnknownTarget, R::ProtectedUser];
    assert_eq!(rejections.contains(&actual.reason), expected.is_empty());
}

fn batch_faults(request: &DeleteBatchNodeUserRequest) -> Vec<&'static str> {
    let is_dot_segment = |text: &str| matches!(text, "." | "..");
    let node_id = &request.node_id;
    let id = &request.client_request_id;
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    let is_guid =
        groups == [8, 4, 4, 4, 12] && has_only(&id.replace('-', ""), 32, "") && is_hex(id);
    faults([
        (
            "account",
            request.account.is_empty() || has_only(&request.account, 64, "._-"),
        ),
        ("pool_id", has_only(&request.pool_id, 64, "_-")),
        (
            "node_id",
            has_only(node_id, 128, "._-") && !is_dot_segment(node_id),
        ),
        ("user_name", is_name(&request.user_name)),
        ("client_request_id", id.is_empty() || is_guid),
    ])
}

fn hmc_faults(request: &DeleteHmcUserRequest) -> Vec<&'static str> {
    let user = match &request.user {
        None => ("user", false),
        Some(User::UserId(id)) => (
            "user_id",
            has_only(id, 64, "._-") && !matches!(&**id, "." | ".."),
        ),
        Some(User::UserName(name)) => ("user_name", is_name(name)),
    };
    faults([
        (
            "hmc",
            request.hmc.is_empty() || has_only(&request.hmc, 64, "._-"),
        ),
        user,
    ])
}

fn faults<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    let faulty = fields.into_iter().filter(|(_, is_valid)| !is_valid);
    faulty.map(|(field, _)| field).collect()
}

fn has_only(text: &str, max: usize, other_characters: &str) -> bool {
    let is_valid =
        |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9') || other_characters.contains(c);
    !text.is_empty() && text.len() <= max && text.chars().all(is_valid)
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Returns whether the text is a name without invisible characters.
fn is_name(text: &str) -> bool {
    let is_invisible = |c: char| matches!(c as u32, 0..=0x1F | 0x7F..=0x9F | 0x61C | 0x200E | 0x200F | 0x2028..=0x202E | 0x2066..=0x2069);
    !text.is_empty()
        && text.len() <= 256
        && text != "."
        && text != ".."
        && !text.contains(is_invisible)
        && text.trim() == text
}
