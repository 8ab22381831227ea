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
    let answer = call(how, bytes);
    let told = status::check(&answer);
    assert_ne!(answer.code(), Code::Internal, "{answer:?}");
    let known =
        |field: &String| field.is_empty() || field == "grpc-timeout" || FIELDS.contains(field);
    assert!(told.fields.iter().all(known), "{:?}", told.fields);
    let bad = answer.code() == Code::InvalidArgument;
    assert_eq!(told.reason == R::InvalidRequest, bad, "{answer:?}");
    if how.is_nobody() {
        let early = matches!(told.reason, R::DeadlineExceeded | R::InvalidRequest);
        let early = early && matches!(how.timeout(), Some("1m" | "5 S"));
        assert!(
            told.reason == R::CallerUnauthenticated || early,
            "{answer:?}"
        );
        return;
    }
    // The timeout is malformed.
    assert!(bad || how.timeout() != Some("5 S"), "{answer:?}");
    if !how.is_framed() && matches!(how.timeout(), None | Some("5S")) {
        check_message(how, bytes, &told);
    }
}

/// Asserts that the response to a message is the expected one.
fn check_message(how: How, bytes: &[u8], told: &status::Told) {
    let due = if bytes.len() > 65_536 {
        assert_eq!(told.fields, [""]);
        return;
    } else if how.is_hmc() {
        DeleteHmcUserRequest::decode(bytes).map(|request| hmc_faults(&request))
    } else {
        DeleteBatchNodeUserRequest::decode(bytes).map(|request| batch_faults(&request))
    };
    let due = match due {
        Ok(due) => due,
        Err(error) => {
            // The field that the decoder names, if it reaches a field.
            let error = error.to_string();
            let named = FIELDS
                .iter()
                .find(|field| error.contains(&format!("Request.{field}:")));
            let named = named.map_or("", String::as_str);
            assert_eq!(
                (told.reason, &*told.fields),
                (R::InvalidRequest, &[named.to_owned()][..])
            );
            return;
        }
    };
    assert_eq!(told.fields, due);
    let refused = [R::CallerNotAuthorized, R::UnknownTarget, R::ProtectedUser];
    assert_eq!(refused.contains(&told.reason), due.is_empty());
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

fn is_of(text: &str, most: usize, more: &str) -> bool {
    let fits = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9') || more.contains(c);
    !text.is_empty() && text.len() <= most && text.chars().all(fits)
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
