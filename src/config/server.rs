//! Reads `[server]` and `[audit]`.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    Audience, Audit, AuditSink, Limits, Server, diagnostics::Faults, reader::Section,
    tls::tls_files,
};

/// `[server]`
pub fn server(file: &Section, folder: &Path, faults: &mut Faults) -> Server {
    let section = file.table("server", "server", faults);
    let mut server = Server::default();
    let Some(section) = section else {
        return server;
    };
    server.limits = limits(&section, faults);
    server.tls = tls_files(&section, folder, faults);
    let insecure = section.flag("insecure", false, faults);
    server.health = audience(&section, "health_needs_identity", faults);
    let reflection = audience(&section, "reflection_needs_identity", faults);
    let reflected = section.flag("reflection", true, faults);
    server.reflection = reflected.then_some(reflection);
    if let Some((listen, span)) = address(&section, "listen", faults) {
        if !listen.ip().is_loopback() && !insecure && !section.has("tls") {
            faults.add(
                span,
                "an address other than loopback needs [server.tls]; it is served in plaintext only with \
                 `insecure = true`",
            );
        }
        server.listen = listen;
    }
    if let Some(text) = section.text("admin_listen", faults) {
        server.admin_named = true;
        server.admin_listen = if text.value.is_empty() {
            None
        } else {
            address(&section, "admin_listen", faults).map(|(address, _)| address)
        };
    }
    server
}

fn audience(section: &Section, key: &str, faults: &mut Faults) -> Audience {
    if section.flag(key, false, faults) {
        Audience::Identified
    } else {
        Audience::Everybody
    }
}

fn address(
    section: &Section,
    key: &str,
    faults: &mut Faults,
) -> Option<(SocketAddr, std::ops::Range<usize>)> {
    let text = section.text(key, faults)?;
    let Ok(address) = text.value.parse() else {
        faults.add(
            text.span,
            format!("`{key}` must be an IP address and a port, such as 127.0.0.1:50051"),
        );
        return None;
    };
    faults.reveal(&text.span);
    Some((address, text.span))
}

fn limits(server: &Section, faults: &mut Faults) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = server.table("limits", "server.limits", faults) else {
        return limits;
    };
    let mut set = |key, range, limit: &mut u32| {
        *limit = section.number(key, range, faults).unwrap_or(*limit);
    };
    set(
        "max_request_bytes",
        1024..=4_194_304,
        &mut limits.max_request_bytes,
    );
    set(
        "max_metadata_bytes",
        1024..=65_536,
        &mut limits.max_metadata_bytes,
    );
    set(
        "max_concurrent_streams",
        1..=10_000,
        &mut limits.max_concurrent_streams,
    );
    set(
        "max_concurrent_calls",
        1..=1_000_000,
        &mut limits.max_concurrent_calls,
    );
    set(
        "max_connections",
        1..=1_000_000,
        &mut limits.max_connections,
    );
    set(
        "max_connections_per_peer",
        1..=1_000_000,
        &mut limits.max_connections_per_peer,
    );
    let mut seconds = |key, range, limit: &mut Duration| {
        if let Some(seconds) = section.number(key, range, faults) {
            *limit = Duration::from_secs(seconds.into());
        }
    };
    seconds(
        "max_connection_age_seconds",
        1..=86_400,
        &mut limits.max_connection_age,
    );
    seconds(
        "max_connection_idle_seconds",
        1..=86_400,
        &mut limits.max_connection_idle,
    );
    seconds("drain_seconds", 1..=300, &mut limits.drain);
    limits
}

/// `[audit]`
pub fn audit(file: &Section, folder: &Path, faults: &mut Faults) -> Audit {
    let section = file.table("audit", "audit", faults);
    let named = section.as_ref().and_then(|section| {
        let text = section.text("file", faults)?;
        if text.value.is_empty() {
            faults.add(text.span.clone(), "`file` must not be empty");
        }
        Some(text.value)
    });
    let sink = match named.as_deref() {
        Some("stdout") => AuditSink::Stdout,
        path => AuditSink::File(folder.join(path.unwrap_or("audit.jsonl"))),
    };
    let sync = section.is_none_or(|section| section.flag("sync", true, faults));
    Audit { sink, sync }
}
