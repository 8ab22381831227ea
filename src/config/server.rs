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
        /// The address of the gRPC listener. With port 0 the system chooses a free port. An address other than loopback
        /// requires `[server.tls]` or `insecure = true`.
        listen: SocketAddr = address().default(local(50051));
        /// Allows plaintext on an address other than loopback. Without `[[jwt_issuers]]`, every client that can reach
        /// the port is then the caller `anonymous`; with them, tokens are sent in plaintext.
        insecure: bool = flag().default(false);
        /// The address of `/livez`, `/readyz` and `/metrics`, which are served over HTTP, without TLS and
        /// authentication; an empty text disables them. If the default port is in use, the server logs a warning and
        /// starts without them; a port that is named here must be free.
        admin_listen: Option<SocketAddr> = optional_address().default_as(local(9464).to_string(), Some(local(9464)));
        /// Whether the file has `admin_listen`.
        admin_listen_is_explicit: bool = Kind::derived(|reader| Some(reader.has("admin_listen")));
        /// Serves gRPC reflection (v1 and v1alpha).
        reflection: bool = flag().default(true);
        /// Health is served only to callers with a valid identity, listed or not. Probes of an orchestrator seldom have
        /// one.
        health_needs_identity: bool = flag().default(false);
        /// Reflection is served only to callers with a valid identity, listed or not. Its content, the API, is public.
        reflection_needs_identity: bool = flag().default(false);
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
        /// Calls in progress; further calls are refused with `RESOURCE_EXHAUSTED` and `OVERLOADED` at once, usually
        /// before authentication. As many again may wait for their message; if there are more, the oldest one of the
        /// peer with the most such calls is refused. Health and reflection are not counted.
        max_concurrent_calls: u32 = number(1..=1_000_000).default(2_048);
        /// Open connections that have begun HTTP/2; further ones are closed at once. Each needs a file descriptor,
        /// and one more for its handshake; at the start, the server lowers this figure to fit the limit of open
        /// files.
        max_connections: u32 = number(1..=1_000_000).default(1_024);
        /// Open connections from one address. Loopback has no such limit, since a proxy there serves many clients.
        /// Behind a proxy on another machine, set it to `max_connections`.
        max_connections_per_peer: u32 = number(1..=1_000_000).default(64);
        /// Maximum age of a connection, shortened by a random part of up to a tenth. Its client is then asked to open
        /// a new one; calls in progress continue for at most 65 seconds.
        #[key("max_connection_age_seconds")]
        max_connection_age: Duration = seconds(1..=86_400).default(1_800).map(duration);
        /// Maximum time of a connection without a call in progress. Its client is then asked to open a new one for
        /// the next call.
        #[key("max_connection_idle_seconds")]
        max_connection_idle: Duration = seconds(1..=86_400).default(300).map(duration);
        /// Time limit for calls in progress after SIGTERM or SIGINT.
        #[key("drain_seconds")]
        drain: Duration = seconds(1..=300).default(25).map(duration);
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Reports an error for plaintext on an address other than loopback without `insecure = true`.
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
