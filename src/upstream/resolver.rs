//! Names of upstreams, resolved by the system, but never to where clouds keep their metadata.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tower::Service;

/// Names that resolve to a link-local address are refused.
#[derive(Clone)]
pub struct NoLinkLocal;

async fn resolve(name: &str) -> io::Result<vec::IntoIter<SocketAddr>> {
    let found: Vec<SocketAddr> = lookup_host((name, 0)).await?.collect();
    if found.iter().any(|address| is_link_local(address.ip())) {
        return Err(io::Error::other(
            "the name resolves to a link-local address",
        ));
    }
    Ok(found.into_iter())
}

/// For reqwest.
impl Resolve for NoLinkLocal {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = resolve(name.as_str()).await?;
            Ok(Box::new(found) as Addrs)
        })
    }
}

/// For hyper.
impl Service<dns::Name> for NoLinkLocal {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(async move { resolve(name.as_str()).await })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    /// What is an address already is answered without asking anybody.
    #[tokio::test]
    async fn names_that_resolve_to_link_local_addresses_are_refused() {
        let rows = [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("169.253.255.255", true),
            ("169.254.0.0", false),
            ("169.254.169.254", false),
            ("169.254.255.255", false),
            ("169.255.0.0", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", false),
            ("fe7f::1", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
        ];
        for (address, goes) in rows {
            let found = resolve(address).await;
            let told = found.map(|found| found.map(|found| found.ip().to_string()).collect());
            let told: Result<Vec<_>, _> = told.map_err(|error| error.to_string());
            let refused = "the name resolves to a link-local address".to_owned();
            let expected = if goes {
                Ok(vec![address.to_owned()])
            } else {
                Err(refused)
            };
            assert_eq!(told, expected, "{address}");
        }
    }
}
