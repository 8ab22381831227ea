//! The generated code of `proto/useradmin/v1`, and its descriptors.

#![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

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
