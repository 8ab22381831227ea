//! `[server]` and `[server.limits]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    reader::Reader,
    table::{Kind, table},
    tls::TlsFiles,
    values::{
        address, bytes, duration, flag, number, optional_address, seconds, subtable,
        subtable_or_defaults,
    },
};

table! {
    /// `[server]`
    #[table("server", check = check)]
    pub struct Server {
        /// Where gRPC is served. Port 0 lets the system choose. An address other than loopback needs `[server.tls]`, or
        /// `insecure = true`.
        listen: SocketAddr = address().default(local(50051));
        /// Allows plaintext on an address other than loopback. Without `[[jwt_issuers]]`, everybody who can reach the port
        /// is then the caller `anonymous`; with them, tokens travel in plaintext.
        insecure: bool = flag().default(false);
        /// Where `/livez`, `/readyz` and `/metrics` are served over HTTP, without TLS and to everybody; empty switches them
        /// off. If the default port is taken the server warns and goes on without; a port that is named here must be free.
        admin_listen: Option<SocketAddr> = optional_address().default_as(local(9464).to_string(), Some(local(9464)));
        /// Whether the file has `admin_listen`.
        admin_named: bool = Kind::derived(|reader| Some(reader.has("admin_listen")));
        /// Serves gRPC reflection (v1 and v1alpha).
        #[key("reflection")]
        is_reflected: bool = flag().default(true);
        /// Health is told only to callers who show a valid identity, listed or not. Probes of an orchestrator seldom have
        /// one.
        #[key("health_needs_identity")]
        health: Audience = flag().default(false).map(audience);
        /// Reflection is served only to callers who show a valid identity, listed or not. What it tells is public: the API.
        #[key("reflection_needs_identity")]
        reflection_audience: Audience = flag().default(false).map(audience);
        /// TLS 1.2 or newer. Its files are read again when they change.
        tls: Option<TlsFiles> = subtable().optional("none: plaintext");
        /// Sizes and times.
        limits: Limits = subtable_or_defaults();
    }
}

table! {
    /// `[server.limits]`
    #[table("server.limits")]
    pub struct Limits {
        /// Largest request message. A larger one is refused as `INVALID_REQUEST`.
        max_request_bytes: u32 = bytes(1024..=4_194_304).default(65_536);
        /// Largest metadata of one request: names, values, and 32 bytes for each entry. Advertised as
        /// `SETTINGS_MAX_HEADER_LIST_SIZE`. A larger request is refused with `INVALID_REQUEST`; above 256 KiB HTTP/2 refuses
        /// it, or ends the connection.
        max_metadata_bytes: u32 = bytes(1024..=65_536).default(8_192);
        /// Calls in progress on one connection.
        max_concurrent_streams: u32 = number(1..=10_000).default(100);
        /// Calls in progress; more get `RESOURCE_EXHAUSTED` with `OVERLOADED` at once, before anybody asks who calls. As many
        /// again may wait for their message; when there are more, the one that is silent longest is refused. Health and
        /// reflection are not counted.
        max_concurrent_calls: u32 = number(1..=1_000_000).default(2_048);
        /// Connections at a time that have begun HTTP/2; more are closed at once. Each needs a file descriptor, and one more
        /// for its handshake; the server lowers this figure at the start where the limit of the process cannot hold it.
        max_connections: u32 = number(1..=1_000_000).default(1_024);
        /// ... and of one address. Loopback has no such limit, for a proxy there stands for many. Behind a proxy on another
        /// machine, set it to `max_connections`.
        max_connections_per_peer: u32 = number(1..=1_000_000).default(64);
        /// How old a connection gets, or up to a tenth less, before its client is asked to make a new one; calls in progress
        /// go on, for 65 seconds at most.
        #[key("max_connection_age_seconds")]
        max_connection_age: Duration = seconds(1..=86_400).default(1_800).map(duration);
        /// How long a connection may be without a call in progress before its client is asked to make a new one for the
        /// next.
        #[key("max_connection_idle_seconds")]
        max_connection_idle: Duration = seconds(1..=86_400).default(300).map(duration);
        /// How long calls in progress may go on after SIGTERM or SIGINT.
        #[key("drain_seconds")]
        drain: Duration = seconds(1..=300).default(25).map(duration);
    }
}

/// To whom a service without rights of its own answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Who can reach the port.
    Everybody,
    /// Who shows a valid identity, whether or not it is listed.
    Identified,
}

fn audience(needs_identity: bool) -> Audience {
    if needs_identity {
        Audience::Identified
    } else {
        Audience::Everybody
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Server {
    /// Returns to whom reflection is served, or `None` if it is switched off.
    #[must_use]
    pub fn reflection(&self) -> Option<Audience> {
        self.is_reflected.then_some(self.reflection_audience)
    }
}

/// Reports plaintext on an address other than loopback, unless it is intended.
fn check(server: &Server, reader: &Reader<'_>) {
    if !server.listen.ip().is_loopback() && !server.insecure && !reader.has("tls") {
        let error = "an address other than loopback needs [server.tls]; it is served in plaintext only with \
                     `insecure = true`";
        reader.error(reader.value_span("listen"), error);
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    impl Default for Limits {
        #[expect(clippy::unwrap_used, reason = "the defaults are a valid configuration")]
        fn default() -> Self {
            crate::config::defaults().unwrap().server.limits
        }
    }
}
