//! The list of rpcs.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Service,
    delete_batch_node_user::DeleteBatchNodeUser,
    delete_hmc_user::DeleteHmcUser,
    rpc::{Rpc, handle},
};
use crate::{
    error::resource::ResourceNames,
    proto::{self, user_admin_server::UserAdmin},
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
    delete_batch_node_user: DeleteBatchNodeUser,
    delete_hmc_user: DeleteHmcUser,
}

const fn of<R: Rpc>() -> (&'static str, &'static ResourceNames) {
    (R::NAME, R::Platform::NAMES)
}

/// Returns the name and the upstream of the rpc with this path.
#[must_use]
pub fn rpc(path: &str) -> Option<(&'static str, &'static ResourceNames)> {
    let name = proto::rpc(path)?;
    RPCS.iter().copied().find(|(rpc, _)| *rpc == name)
}

#[cfg(test)]
mod tests {
    use super::RPCS;
    use crate::proto::rpcs;

    #[test]
    fn every_rpc_of_the_proto_file_is_listed() {
        assert!(rpcs().eq(RPCS.iter().map(|(name, _)| *name)));
    }
}
