//! The comments of the proto files, read from the descriptors.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use useradmin::proto::{DESCRIPTORS, ErrorReason};

/// A message, field, enum, value, service or rpc.
pub struct Element {
    /// Full name, such as `useradmin.v1.UserAdmin.DeleteHmcUser`.
    pub name: String,
    pub comment: String,
}

/// Returns the files of this API, without their imports.
pub fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut files = set.file;
    files.retain(|file| file.package() == "useradmin.v1");
    files
}

/// Returns every element of the API.
pub fn elements() -> Vec<Element> {
    files().iter().flat_map(elements_of).collect()
}

/// Returns the comment of one element.
pub fn comment(name: &str) -> String {
    let full_name = format!("useradmin.v1.{name}");
    let found = elements()
        .into_iter()
        .find(|element| element.name == full_name);
    found.unwrap_or_else(|| panic!("no {full_name}")).comment
}

fn elements_of(file: &FileDescriptorProto) -> Vec<Element> {
    let mut walk = Walk::new(file);
    for (message, at) in file.message_type.iter().zip(0..) {
        walk.message(file.package(), message, &[4, at]);
    }
    for (item, at) in file.enum_type.iter().zip(0..) {
        walk.enumeration(file.package(), item, &[5, at]);
    }
    for (service, at) in file.service.iter().zip(0..) {
        walk.service(file.package(), service, &[6, at]);
    }
    walk.found
}

/// Traversal of the descriptors. Paths are those of `SourceCodeInfo.Location.path`: alternating field numbers of
/// descriptor.proto and indexes.
struct Walk {
    comments: HashMap<Vec<i32>, String>,
    found: Vec<Element>,
}

impl Walk {
    fn new(file: &FileDescriptorProto) -> Self {
        let places = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = places.map(|place| (place.path.clone(), place.leading_comments().into()));
        Self {
            comments: comments.collect(),
            found: Vec::new(),
        }
    }

    fn add_element(&mut self, scope: &str, name: &str, path: &[i32]) -> String {
        let name = format!("{scope}.{name}");
        let comment = self.comments.get(path).cloned().unwrap_or_default();
        self.found.push(Element {
            name: name.clone(),
            comment: remove_indentation(&comment),
        });
        name
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto, path: &[i32]) {
        let name = self.add_element(scope, message.name(), path);
        for (field, at) in message.field.iter().zip(0..) {
            self.add_element(&name, field.name(), &[path, &[2, at]].concat());
        }
        // The compiler adds a oneof for each optional field.
        let is_added = |at| {
            let mut fields = message.field.iter();
            fields.any(|field| field.proto3_optional() && field.oneof_index == Some(at))
        };
        let oneofs = message.oneof_decl.iter().zip(0..);
        for (oneof, at) in oneofs.filter(|(_, at)| !is_added(*at)) {
            self.add_element(&name, oneof.name(), &[path, &[8, at]].concat());
        }
        for (nested, at) in message.nested_type.iter().zip(0..) {
            self.message(&name, nested, &[path, &[3, at]].concat());
        }
    }

    fn enumeration(&mut self, scope: &str, item: &EnumDescriptorProto, path: &[i32]) {
        let name = self.add_element(scope, item.name(), path);
        for (value, at) in item.value.iter().zip(0..) {
            self.add_element(&name, value.name(), &[path, &[2, at]].concat());
        }
    }

    fn service(&mut self, scope: &str, service: &ServiceDescriptorProto, path: &[i32]) {
        let name = self.add_element(scope, service.name(), path);
        for (rpc, at) in service.method.iter().zip(0..) {
            self.add_element(&name, rpc.name(), &[path, &[2, at]].concat());
        }
    }
}

/// Returns the comment without the space after `//`.
fn remove_indentation(comment: &str) -> String {
    let lines = comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Returns all reasons, ordered by number.
pub fn reasons() -> Vec<ErrorReason> {
    (0..)
        .map_while(|number| ErrorReason::try_from(number).ok())
        .collect()
}

/// The parts of the comment of a reason, each on one line, except the sample.
#[derive(Debug)]
pub struct ReasonComment {
    pub summary: String,
    pub when: String,
    pub client: String,
    pub codes: String,
    pub details: String,
    pub metadata: String,
    /// The sample `ErrorInfo` in JSON. Empty if there is none.
    pub sample: String,
}

impl ReasonComment {
    pub fn of(reason: ErrorReason) -> Self {
        let comment = comment(&format!("ErrorReason.{}", reason.as_str_name()));
        let (text, sample) = comment.split_once("```json").unwrap_or((&comment, ""));
        let sample = sample.trim_end_matches("```").trim().to_owned();
        let remaining = one_line(text);
        let (summary, remaining) = split_required(&remaining, " When: ");
        let (when, remaining) = split_required(&remaining, " Client: ");
        let (client, remaining) = split_required(&remaining, " gRPC: ");
        let (codes, remaining) = split_required(&remaining, " Details: ");
        let (details, metadata) = split_required(&remaining, " Metadata: ");
        Self {
            summary,
            when,
            client,
            codes,
            details,
            metadata,
            sample,
        }
    }
}

#[track_caller]
fn split_required(text: &str, at: &str) -> (String, String) {
    let Some((before, after)) = text.split_once(at) else {
        panic!("no{at}in: {text}");
    };
    (before.to_owned(), after.to_owned())
}

/// Returns the lines of a comment, joined by single spaces.
pub fn one_line(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}
