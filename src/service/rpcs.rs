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

/// Lists the rpcs: the function of the generated trait, and the type that implements [`Rpc`].
macro_rules! rpcs {
    ($($function:ident: $rpc:ty,)*) => {
        /// Name of each rpc, and the names of its upstream.
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

/// Returns the rpc with this path, and the names of its platform.
pub(crate) fn rpc(path: &str) -> Option<RpcNames> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let found = RPCS.iter().copied().find(|(rpc, _)| *rpc == name);
    found.filter(|_| service == SERVICE_NAME)
}
