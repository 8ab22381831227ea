//! The error document of an upstream, which a status contains as a typed detail.

use std::{fmt::Debug, sync::Arc};

use prost::Name;
use prost_types::Any;

/// An upstream's own error document, without secrets.
pub trait ErrorDocument: Debug + Send + Sync {
    /// Returns the document as a detail of a status.
    fn detail(&self) -> Any;

    /// Returns the document without its least important part, or `None` if nothing can be left out.
    fn shrunk(&self) -> Option<Arc<dyn ErrorDocument>>;
}

/// A protobuf message that contains an error document. Every such message implements [`ErrorDocument`].
pub trait Shrink: Name + Clone + Debug + 'static {
    /// Removes the least important part of the message. Returns false if nothing can be left out.
    fn shrink(&mut self) -> bool;
}

impl<M: Shrink> ErrorDocument for M {
    fn detail(&self) -> Any {
        Any {
            type_url: M::type_url(),
            value: self.encode_to_vec(),
        }
    }

    fn shrunk(&self) -> Option<Arc<dyn ErrorDocument>> {
        let mut smaller = self.clone();
        smaller.shrink().then(|| Arc::new(smaller) as _)
    }
}
