#![doc = include_str!("../README.md")]

mod builder;
mod client;
mod error;
mod token;

pub mod proto {
    //! Code generated from `proto/useradmin/v1`: the messages, and [`user_admin_client`], the client that [`Client`]
    //! uses.
    //!
    //! [`Client`]: crate::Client

    #![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

    tonic::include_proto!("useradmin.v1");
}

pub use tonic;
pub use tonic_types::{FieldViolation, PreconditionViolation, QuotaViolation, ResourceInfo};

pub use self::{
    builder::{BuildError, ClientBuilder},
    client::Client,
    error::{Error, Outcome, ServiceError, UpstreamError},
    proto::ErrorReason,
    token::{BoxError, InvalidToken, Token},
};
