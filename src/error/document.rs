//! The error document of an upstream, as a typed detail of a status.

use std::{fmt::Debug, sync::Arc};

use prost::Name;
use prost_types::Any;

/// An upstream's own error document, as far as callers may see it.
pub trait ErrorDocument: Debug + Send + Sync {
    /// Returns the detail.
    fn detail(&self) -> Any;

    /// Returns the document without its least important part, or `None` if nothing can be left out.
    fn shrunk(&self) -> Option<Arc<dyn ErrorDocument>>;
}

/// Packs a message as a detail.
#[must_use]
pub fn pack<M: Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}
