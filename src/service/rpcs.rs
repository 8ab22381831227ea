//! The list of rpcs.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Service,
    call_context::RpcNames,
    rpc::{Rpc, handle, read_user as read_user_of},
};
use crate::{
    audit::Case,
    error::{Failure, resource::ResourceNames},
    proto::{
        DeleteOutcome,
        user_admin_server::{SERVICE_NAME, UserAdmin},
    },
    upstream::{call_limits::CallLimits, platform::Platform, registry::Targets},
};

/// Declares the rpcs: for each, the method of the generated trait, and the type that implements [`Rpc`]. Generates
/// the list of rpcs and the implementation of the generated trait.
macro_rules! rpcs {
    ($($function:ident: $rpc:ty,)*) => {
        /// The name of each rpc, and the resource names of its platform.
        pub const RPCS: &[(&str, &ResourceNames)] = &[$(of::<$rpc>(),)*];

        /// Returns whether the users of this rpc's platform can be read.
        pub(super) fn reads_user(rpc: &str) -> bool {
            match rpc {
                $(<$rpc as Rpc>::NAME => <$rpc as Rpc>::Platform::READS_USER,)*
                _ => false,
            }
        }

        /// Reads the user of a recorded call. See [`read_user_of`].
        pub(super) async fn read_user(
            targets: &Targets,
            case: &Case,
            limits: &CallLimits,
        ) -> Result<DeleteOutcome, Failure> {
            match case.rpc() {
                $(<$rpc as Rpc>::NAME => read_user_of::<$rpc>(targets, case, limits).await,)*
                _ => Err(Failure::internal("a record of an unknown rpc")),
            }
        }

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
