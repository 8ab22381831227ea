//! The calls to measure.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use useradmin::proto::{
    DeleteBatchNodeUserRequest, DeleteHmcUserRequest, delete_hmc_user_request::User,
};

use crate::load::Load;

/// Returns calls for a user of a compute node, with 64 in flight over 4 connections.
pub fn batch(validate_only: bool) -> Load {
    let request = DeleteBatchNodeUserRequest {
        account: "prod".to_owned(),
        pool_id: "pool-1".to_owned(),
        node_id: "tvmps_af9ce4f0c4a0ef52a4c5e3a9d3a0c0d5".to_owned(),
        user_name: "alice".to_owned(),
        validate_only,
        ..DeleteBatchNodeUserRequest::default()
    };
    Load {
        rpc: "/useradmin.v1.UserAdmin/DeleteBatchNodeUser",
        message: framed(&request),
        in_flight: 64,
        connections: 4,
    }
}

/// Returns calls for a user of an HMC, with the same concurrency.
pub fn hmc(alias: &str, validate_only: bool) -> Load {
    let request = DeleteHmcUserRequest {
        hmc: alias.to_owned(),
        user: Some(User::UserId(
            "11111111-2222-3333-4444-555555555555".to_owned(),
        )),
        validate_only,
        ..DeleteHmcUserRequest::default()
    };
    Load {
        rpc: "/useradmin.v1.UserAdmin/DeleteHmcUser",
        message: framed(&request),
        ..batch(false)
    }
}

/// Returns the message with the gRPC prefix: the compression flag and the length.
fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    message.encode(&mut framed).unwrap();
    framed.freeze()
}
