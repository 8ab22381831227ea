//! Calls to the service.

use std::{fmt, time::Duration};

use tonic::{IntoRequest, Request, Response, transport::Channel};

use crate::{
    error::Error,
    proto::{
        DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteHmcUserRequest,
        DeleteHmcUserResponse, user_admin_client::UserAdminClient,
    },
    token::TokenSource,
};

/// A client of the service `useradmin.v1.UserAdmin`.
///
/// Clones share one connection, so create one client and clone it.
///
/// Each method takes a message, or a [`tonic::Request`] that sets a deadline ([`Request::set_timeout`]) or metadata for
/// the call. The metadata of a response contains `x-request-id`, which identifies the call in the log and the audit log
/// of the service.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    token: Option<TokenSource>,
    deadline: Duration,
}

impl Client {
    pub(crate) fn new(channel: Channel, token: Option<TokenSource>, deadline: Duration) -> Self {
        Self {
            channel,
            token,
            deadline,
        }
    }

    /// Deletes a user account from a compute node of Azure Batch.
    ///
    /// [`UserAdminClient::delete_batch_node_user`] documents effect, idempotency and errors.
    ///
    /// # Errors
    ///
    /// Returns an error if the user was not deleted or the outcome is unknown: see [`Error::outcome`].
    pub async fn delete_batch_node_user(
        &self,
        request: impl IntoRequest<DeleteBatchNodeUserRequest>,
    ) -> Result<Response<DeleteBatchNodeUserResponse>, Error> {
        let request = self.prepare(request)?;
        Ok(self.generated().delete_batch_node_user(request).await?)
    }

    /// Deletes a user of a Hardware Management Console.
    ///
    /// [`UserAdminClient::delete_hmc_user`] documents effect, idempotency and errors.
    ///
    /// # Errors
    ///
    /// Returns an error if the user was not deleted or the outcome is unknown: see [`Error::outcome`].
    pub async fn delete_hmc_user(
        &self,
        request: impl IntoRequest<DeleteHmcUserRequest>,
    ) -> Result<Response<DeleteHmcUserResponse>, Error> {
        let request = self.prepare(request)?;
        Ok(self.generated().delete_hmc_user(request).await?)
    }

    /// Returns the channel, for example to call the health service of the server. Calls over it have neither a default
    /// deadline nor a token.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn generated(&self) -> UserAdminClient<Channel> {
        UserAdminClient::new(self.channel())
    }

    /// Adds the token, and the default deadline unless the caller has set one.
    fn prepare<T>(&self, request: impl IntoRequest<T>) -> Result<Request<T>, Error> {
        let mut request = request.into_request();
        if !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(self.deadline);
        }
        if let Some(source) = &self.token {
            let token = source().map_err(Error::Token)?;
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.authorization());
        }
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
