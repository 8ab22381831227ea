//! The error document of an upstream, as a typed detail of a status.

use std::{fmt::Debug, sync::Arc};

use prost::Message;
use prost_types::Any;

/// An upstream's own error document, as far as callers may see it.
pub trait ErrorDocument: Debug + Send + Sync {
    /// Returns the detail.
    fn detail(&self) -> Any;

    /// Returns the document without its least important part, or `None` if nothing can be left out.
    fn shrunk(&self) -> Option<Arc<dyn ErrorDocument>>;
}

/// Packs the message `useradmin.v1.NAME` as a detail.
#[must_use]
pub fn pack(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/useradmin.v1.{name}"),
        value: message.encode_to_vec(),
    }
}
