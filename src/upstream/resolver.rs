//! Names of upstreams, resolved by the system, but never to where clouds keep their metadata.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

/// Names that resolve to a link-local address are refused.
pub struct NoLinkLocal;

impl Resolve for NoLinkLocal {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_link_local(address.ip())) {
                return Err(io::Error::other("the name resolves to a link-local address").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
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
    use reqwest::dns::Resolve as _;

    use super::NoLinkLocal;

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
            let Ok(name) = address.parse() else {
                unreachable!("{address} is a name");
            };
            let found = NoLinkLocal.resolve(name).await;
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
