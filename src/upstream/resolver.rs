//! Resolves the host names of upstreams with the system's resolver, and removes link-local addresses from the
//! results, because clouds serve their metadata at such addresses.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    vec,
};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower::util::{ServiceFn, service_fn};

type Addresses = io::Result<vec::IntoIter<SocketAddr>>;
pub type Resolver = ServiceFn<fn(Name) -> BoxFuture<'static, Addresses>>;

/// Returns a resolver that removes link-local addresses, and fails for names that have no others.
pub fn without_link_local() -> Resolver {
    service_fn(|name| {
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await;
            let named = |error| io::Error::other(format!("host {name}: {error}"));
            found.and_then(usable).map_err(named)
        })
    })
}

/// Returns the addresses that are not link-local. Fails if there are only link-local ones. Resolvers that use mDNS,
/// LLMNR or a hosts file may return link-local addresses together with those of DNS.
fn usable(found: impl Iterator<Item = SocketAddr>) -> Addresses {
    let (refused, usable): (Vec<_>, Vec<_>) = found.partition(|found| is_link_local(found.ip()));
    if usable.is_empty() && !refused.is_empty() {
        return Err(io::Error::other(
            "the name resolves to link-local addresses only",
        ));
    }
    Ok(usable.into_iter())
}

fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::usable;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        let parsed = text.split_whitespace().flat_map(str::parse::<IpAddr>);
        parsed.map(|address| (address, 0).into()).collect()
    }

    #[test]
    fn link_local_addresses_are_removed_and_fail_if_alone() {
        // The addresses that are found, and the usable ones: an empty string if resolving fails.
        let rows = [
            ("10.1.2.3", "10.1.2.3"),
            ("169.253.255.255", "169.253.255.255"),
            ("169.254.0.0", ""),
            ("169.254.255.255", ""),
            ("169.255.0.0", "169.255.0.0"),
            ("::ffff:169.254.169.254", ""),
            ("fe7f::1", "fe7f::1"),
            ("fe80::1", ""),
            ("febf::1", ""),
            ("fec0::1", "fec0::1"),
            ("169.254.7.7 10.1.2.3 fe80::1 ::1", "10.1.2.3 ::1"),
            ("fe80::1 169.254.7.7 ::ffff:169.254.1.1", ""),
        ];
        for (found, expected) in rows {
            let usable = usable(addresses(found).into_iter()).ok();
            let expected = (!expected.is_empty()).then(|| addresses(expected));
            assert_eq!(usable.map(Vec::from_iter), expected, "{found}");
        }
    }
}
