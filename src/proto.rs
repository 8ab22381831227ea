//! The generated code of `proto/useradmin/v1`, and its descriptors.

#![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

tonic::include_proto!("useradmin.v1");

/// Descriptors of `useradmin.v1` with the comments of the proto files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/useradmin.bin"));

/// Files of other APIs are called by their usual names, under which tools know them and other files import them.
const USUAL_NAMES: [(&str, &str); 3] = [
    ("error_details.proto", "google/rpc/error_details.proto"),
    ("status.proto", "google/rpc/status.proto"),
    ("health.proto", "grpc/health/v1/health.proto"),
];

/// The file of the service.
const API: &str = "useradmin/v1/user_admin.proto";
/// What details of errors are made of. No message of the service refers to them, but tools such as grpcui know only the
/// file of a service and what that imports.
const DETAILS: [&str; 3] = [
    "useradmin/v1/error_details.proto",
    "useradmin/v1/error_reason.proto",
    "google/rpc/error_details.proto",
];

fn usual_name(name: &mut String) {
    if let Some((_, usual)) = USUAL_NAMES.iter().find(|(known, _)| known == name) {
        (*usual).clone_into(name);
    }
}

/// Names of the rpcs, in the order of the proto file, and of the fields of their requests.
static NAMES: LazyLock<(Vec<String>, Vec<String>)> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let api = set.file.iter().find(|file| file.name() == API);
    let methods = api.into_iter().flat_map(|file| &file.service);
    let methods: Vec<_> = methods.flat_map(|service| &service.method).collect();
    let is_request = |name: &str| {
        let input = |input: &str| input.rsplit('.').next() == Some(name);
        methods.iter().any(|method| input(method.input_type()))
    };
    let messages = api.into_iter().flat_map(|file| &file.message_type);
    let requests = messages.filter(|message| is_request(message.name()));
    let fields = requests.flat_map(|request| {
        let fields = request.field.iter().map(|field| field.name().to_owned());
        let oneofs = request
            .oneof_decl
            .iter()
            .map(|oneof| oneof.name().to_owned());
        fields.chain(oneofs)
    });
    let names = methods.iter().map(|method| method.name().to_owned());
    (names.collect(), fields.collect())
});

/// Returns the names of the rpcs.
pub fn rpcs() -> impl Iterator<Item = &'static str> {
    NAMES.0.iter().map(String::as_str)
}

/// Returns the names of the fields and oneofs of all requests.
pub fn request_fields() -> impl Iterator<Item = &'static str> {
    NAMES.1.iter().map(String::as_str)
}

/// Returns the encoded [`descriptors`].
#[must_use]
pub fn descriptor_set() -> Vec<u8> {
    descriptors().encode_to_vec()
}

/// Returns what a client has to know: the API, health, and every standard detail of an error, with their imports.
#[must_use]
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
            file.name.iter_mut().for_each(usual_name);
            file.dependency.iter_mut().for_each(usual_name);
            if file.name() == API {
                file.dependency.extend(DETAILS.map(str::to_owned));
            }
            if !all.file.iter().any(|known| known.name == file.name) {
                all.file.push(file);
            }
        }
    }
    // Imports stand before what imports them.
    all.file.sort_by_key(|file| file.name() == API);
    all
}
