//! Reads `[server]`, `[audit]` and `[[callers]]`.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use super::{
    Allow, Audit, AuditSink, Caller, Limits, RPCS, Server,
    fault::Faults,
    section::{Placed, Section},
};
use crate::pattern::Pattern;

/// `[server]`
pub fn server(file: &Section, faults: &mut Faults) -> Server {
    let section = file.table("server", "server", faults);
    let mut server = Server::default();
    let Some(section) = section else {
        return server;
    };
    server.limits = limits(&section, faults);
    if section.has("tls") {
        faults.add(
            section.key_span("tls"),
            "[server.tls] is not available in this version; the server would not be protected by it",
        );
    }
    let insecure = section.flag("insecure", false, faults);
    server.reflection = section.flag("reflection", true, faults);
    if let Some((listen, span)) = address(&section, "listen", faults) {
        if !listen.ip().is_loopback() && !insecure {
            faults.add(
                span,
                "an address other than loopback is served in plaintext only with `insecure = true`",
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
    if let Some(seconds) = section.number("drain_seconds", 1..=300, faults) {
        limits.drain = Duration::from_secs(u64::from(seconds));
    }
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

/// `[[callers]]`, and the refusal of `[[jwt_issuers]]`.
pub fn callers(file: &Section, faults: &mut Faults) -> Vec<Caller> {
    if file.has("jwt_issuers") {
        faults.add(
            file.key_span("jwt_issuers"),
            "[[jwt_issuers]] is not available in this version; no caller would be checked by it",
        );
    }
    let mut seen = BTreeSet::new();
    let mut callers = Vec::new();
    for section in file.tables("callers", "callers", faults) {
        let identity = section.required("identity", faults);
        if let Some(Placed { value, span }) = &identity
            && !seen.insert(value.clone())
        {
            faults.add(
                span.clone(),
                format!(
                    "the caller `{value}` is listed twice; put all that it may do into one `allow`"
                ),
            );
        }
        callers.push(Caller {
            identity: identity.map(|placed| placed.value).unwrap_or_default(),
            allow: allow(&section, faults),
            deletes_per_minute: section.number("deletes_per_minute", 1..=1_000_000, faults),
        });
    }
    callers
}

fn allow(caller: &Section, faults: &mut Faults) -> Vec<Allow> {
    if !caller.has("allow") {
        faults.add(caller.span(), "missing key `allow`");
    }
    caller
        .tables("allow", "callers.allow", faults)
        .iter()
        .filter_map(|entry| allow_entry(entry, faults))
        .collect()
}

fn allow_entry(entry: &Section, faults: &mut Faults) -> Option<Allow> {
    let targets = patterns(entry, "targets", faults);
    if !entry.has("targets") {
        faults.add(entry.span(), "missing key `targets`");
    }
    let pools = patterns(entry, "pools", faults);
    let rpc = entry.required("rpc", faults)?;
    let Some(known) = RPCS.into_iter().find(|known| *known == rpc.value) else {
        faults.add(
            rpc.span,
            format!("`rpc` must be one of {}", RPCS.join(", ")),
        );
        return None;
    };
    if pools.is_some() && known != "DeleteBatchNodeUser" {
        faults.add(entry.key_span("pools"), "an HMC has no pools");
    }
    Some(Allow {
        rpc: known,
        targets: targets.unwrap_or_default(),
        pools,
    })
}

fn patterns(section: &Section, key: &str, faults: &mut Faults) -> Option<Vec<Pattern>> {
    let list = section.texts(key, faults)?;
    if list.value.is_empty() {
        faults.add(list.span, format!("`{key}` must not be empty"));
    }
    let texts = list.value.iter();
    Some(texts.map(|text| Pattern::exact(&text.value)).collect())
}
