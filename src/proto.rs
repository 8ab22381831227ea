//! The generated code of `proto/useradmin/v1`, and its descriptors.

#![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

tonic::include_proto!("useradmin.v1");

/// Descriptors of `useradmin.v1` with the comments of the proto files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/useradmin.bin"));

/// The names under which tools and other files import the files of other APIs.
const CANONICAL_NAMES: [(&str, &str); 3] = [
    ("error_details.proto", "google/rpc/error_details.proto"),
    ("status.proto", "google/rpc/status.proto"),
    ("health.proto", "grpc/health/v1/health.proto"),
];

/// The file of the service.
const API: &str = "useradmin/v1/user_admin.proto";
/// The files with the messages of error details. No message of the service refers to them, but tools such as grpcui
/// know only the file of a service and its imports.
const DETAILS: [&str; 3] = [
    "useradmin/v1/error_details.proto",
    "useradmin/v1/error_reason.proto",
    "google/rpc/error_details.proto",
];

fn use_canonical_name(name: &mut String) {
    if let Some((_, canonical)) = CANONICAL_NAMES.iter().find(|(known, _)| known == name) {
        (*canonical).clone_into(name);
    }
}

/// Names of the rpcs, in the order of the proto file, each with those of the fields and oneofs of its request.
static NAMES: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let api = set.file.iter().find(|file| file.name() == API);
    let methods = api.into_iter().flat_map(|file| &file.service);
    let methods = methods.flat_map(|service| &service.method);
    let names = methods.map(|method| {
        let request = method.input_type().rsplit('.').next();
        let mut messages = api.into_iter().flat_map(|file| &file.message_type);
        let message = messages.find(|message| message.name == request.map(str::to_owned));
        let fields = message.into_iter().flat_map(|message| &message.field);
        let oneofs = message.into_iter().flat_map(|message| &message.oneof_decl);
        let fields = fields.map(|field| field.name().to_owned());
        let fields = fields.chain(oneofs.map(|oneof| oneof.name().to_owned()));
        (method.name().to_owned(), fields.collect())
    });
    names.collect()
});

pub fn rpcs() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(rpc, _)| rpc.as_str())
}

/// Returns the names of the fields and oneofs of all requests.
pub fn request_fields() -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .flat_map(|(_, fields)| fields)
        .map(String::as_str)
}

pub fn has_field(rpc: &str, field: &str) -> bool {
    let mut names = NAMES.iter();
    names.any(|(name, fields)| name == rpc && fields.iter().any(|own| own == field))
}

/// Returns the descriptors of the API, of health and of every standard detail of an error, with their imports.
pub fn descriptors() -> FileDescriptorSet {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_types::pb::FILE_DESCRIPTOR_SET,
    ];
    let mut all = FileDescriptorSet::default();
    for set in sets {
        let set = FileDescriptorSet::decode(set).unwrap_or_default();
        for mut file in set.file {
            file.name.iter_mut().for_each(use_canonical_name);
            file.dependency.iter_mut().for_each(use_canonical_name);
            if file.name() == API {
                file.dependency.extend(DETAILS.map(str::to_owned));
            }
            if !all.file.iter().any(|known| known.name == file.name) {
                all.file.push(file);
            }
        }
    }
    // A file must follow its imports, so the file of the API is last.
    all.file.sort_by_key(|file| file.name() == API);
    all
}
