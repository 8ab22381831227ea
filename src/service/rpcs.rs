//! The list of rpcs.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Service,
    call_context::RpcNames,
    rpc::{Rpc, handle},
};
use crate::{
    error::resource::ResourceNames,
    proto::user_admin_server::{SERVICE_NAME, UserAdmin},
    upstream::platform::Platform,
};

/// Declares the rpcs: for each, the method of the generated trait, and the type that implements [`Rpc`]. Generates
/// the list of rpcs and the implementation of the generated trait.
macro_rules! rpcs {
    ($($function:ident: $rpc:ty,)*) => {
        /// The name of each rpc, and the resource names of its platform.
        pub const RPCS: &[(&str, &ResourceNames)] = &[$(of::<$rpc>(),)*];

        #[tonic::async_trait]
        impl UserAdmin for Service {
            $(async fn $function(
                &self,
                request: Request<<$rpc as Rpc>::Request>,
            ) -> Result<Response<<$rpc as Rpc>::Response>, Status> {
                handle::<$rpc>(Arc::clone(&self.0), request).await
            })*
        }
    };
}

rpcs! {
    delete_batch_node_user: super::delete_batch_node_user::DeleteBatchNodeUser,
    delete_hmc_user: super::delete_hmc_user::DeleteHmcUser,
}

const fn of<R: Rpc>() -> RpcNames {
    (R::NAME, R::Platform::NAMES)
}

/// Returns the rpc with this path and the names of its platform, or `None` if no rpc of `UserAdmin` has this path.
pub(crate) fn rpc(path: &str) -> Option<RpcNames> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let found = RPCS.iter().copied().find(|(rpc, _)| *rpc == name);
    found.filter(|_| service == SERVICE_NAME)
}
