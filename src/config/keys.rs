//! Every key of the configuration file. Unknown keys are told from this table, and
//! `docs/configuration.md` is made from it.

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table that it stands in.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Type, unit and range.
    pub format: &'static str,
    /// What holds when it is absent; `-` where it must be there.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    format: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        section,
        name,
        format,
        default,
        doc,
    }
}

const SERVER: &str = "server";
const TLS: &str = "server.tls";
const ISSUERS: &str = "jwt_issuers";
const LIMITS: &str = "server.limits";
const TRACING: &str = "tracing";
const BATCH: &str = "batch_accounts.ALIAS";
const CREDENTIAL: &str = "batch_accounts.ALIAS.credential";
const HMC: &str = "hmcs.ALIAS";

/// The table.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("", "server", "table", "all defaults", "The listener."),
    key("", "audit", "table", "all defaults", "Where every deletion is recorded."),
    key("", "tracing", "table", "none: nothing is exported", "Where traces are sent."),
    key("", "batch_accounts", "tables by alias", "none", "The Azure Batch accounts that requests can name in `account`. An alias is 1-64 of `A-Z a-z 0-9 . _ -`."),
    key("", "hmcs", "tables by alias", "none", "The HMCs that requests can name in `hmc`. An alias is 1-64 of `A-Z a-z 0-9 . _ -`."),
    key("", "callers", "list of tables", "none: every call is refused", "Who may do what. Nothing is allowed that is not listed."),
    key("", "jwt_issuers", "list of tables", "none", "Whose JSON Web Tokens are believed. With at least one, a caller must show a token or a client certificate."),

    key(SERVER, "listen", "IP address and port", "127.0.0.1:50051", "Where gRPC is served. Port 0 lets the system choose. An address other than loopback needs `[server.tls]`, or `insecure = true`."),
    key(SERVER, "insecure", "true or false", "false", "Allows plaintext on an address other than loopback. Without `[[jwt_issuers]]`, everybody who can reach the port is then the caller `anonymous`; with them, tokens travel in plaintext."),
    key(SERVER, "admin_listen", "IP address and port, or empty", "127.0.0.1:9464", "Where `/livez`, `/readyz` and `/metrics` are served over HTTP, without TLS and to everybody; empty switches them off. If the default port is taken the server warns and goes on without; a port that is named here must be free."),
    key(SERVER, "reflection", "true or false", "true", "Serves gRPC reflection (v1 and v1alpha)."),
    key(SERVER, "health_needs_identity", "true or false", "false", "Health is told only to callers who show a valid identity, listed or not. Probes of an orchestrator seldom have one."),
    key(SERVER, "reflection_needs_identity", "true or false", "false", "Reflection is served only to callers who show a valid identity, listed or not. What it tells is public: the API."),
    key(SERVER, "tls", "table", "none: plaintext", "TLS 1.2 or newer. Its files are read again when they change."),
    key(SERVER, "limits", "table", "all defaults", "Sizes and times."),

    key(LIMITS, "max_request_bytes", "bytes, 1024-4194304", "65536", "Largest request message. A larger one is refused as INVALID_REQUEST."),
    key(LIMITS, "max_metadata_bytes", "bytes, 1024-65536", "8192", "Largest metadata of one request: names, values, and 32 bytes for each entry. Advertised as SETTINGS_MAX_HEADER_LIST_SIZE. A larger request is refused with INVALID_REQUEST; above 256 KiB HTTP/2 refuses it, or ends the connection."),
    key(LIMITS, "max_concurrent_streams", "1-10000", "100", "Calls in progress on one connection."),
    key(LIMITS, "max_concurrent_calls", "1-1000000", "2048", "Calls in progress; more get RESOURCE_EXHAUSTED with OVERLOADED at once, before anybody asks who calls. As many again may wait for their message; when there are more, the one that is silent longest is refused. Health and reflection are not counted."),
    key(LIMITS, "max_connections", "1-1000000", "1024", "Connections at a time that have begun HTTP/2; more are closed at once. Each needs a file descriptor, and one more for its handshake; the server lowers this figure at the start where the limit of the process cannot hold it."),
    key(LIMITS, "max_connections_per_peer", "1-1000000", "64", "... and of one address. Loopback has no such limit, for a proxy there stands for many. Behind a proxy on another machine, set it to `max_connections`."),
    key(LIMITS, "max_connection_age_seconds", "seconds, 1-86400", "1800", "How old a connection gets, or up to a tenth less, before its client is asked to make a new one; calls in progress go on, for 65 seconds at most."),
    key(LIMITS, "max_connection_idle_seconds", "seconds, 1-86400", "300", "How long a connection may be without a call in progress before its client is asked to make a new one for the next."),
    key(LIMITS, "drain_seconds", "seconds, 1-300", "25", "How long calls in progress may go on after SIGTERM or SIGINT."),

    key(TLS, "cert_file", "path of a PEM file", "-", "The server's certificate, and the intermediate ones below the authority. [security.md](security.md#kinds-of-keys) has the kinds of keys that can be used."),
    key(TLS, "key_file", "path of a PEM file", "-", "Its private key: PKCS #8, PKCS #1 or SEC 1."),
    key(TLS, "client_ca_file", "path of a PEM file", "none: no client certificates", "The authorities of client certificates. With it, a caller must show a certificate or a token; a certificate that does not verify ends the handshake. A file without an authority that can admit a caller is a fault."),

    key("audit", "file", "path, or `stdout`", "audit.jsonl", "The audit log, one JSON object a line. With `stdout` the records follow the line `listening on`, and refused HMC logons are counted in memory only: each restart permits two more. Beside a file, in a folder that is writable, `.NAME.logons` keeps them over a restart."),
    key("audit", "sync", "true or false", "true", "The intent is on the disk before anything is sent. Records that wait at the same time share one sync."),

    key(TRACING, "otlp_endpoint", "https URL without path", "-", "The OpenTelemetry collector, `https://collector.example:4317`, which is spoken to by OTLP over gRPC. Without `insecure`, http is allowed for a loopback host only."),
    key(TRACING, "insecure", "true or false", "false", "Allows http on a host other than loopback. Spans name targets, pools, nodes and users."),
    key(TRACING, "ca_file", "path of a PEM file", "none", "More certificate authorities for `otlp_endpoint`, beside the system's; taken up when the file changes."),
    key(TRACING, "sample_ratio", "0.0-1.0", "1.0", "The part of the calls without a `traceparent` whose traces are exported. For the others, the flag in it decides."),

    key(BATCH, "url", "https URL without path", "-", "The account's endpoint, `https://account.region.batch.azure.com`. http is allowed for a loopback host only."),
    key(BATCH, "ca_file", "path of a PEM file", "none", "More certificate authorities for `url` and `authority`, beside the system's."),
    key(BATCH, "protected_users", "list of patterns", "[]", "Users that are never deleted. `*` stands for any text; case does not matter."),
    key(BATCH, "max_in_flight", "1-4096", "256", "Calls to this account at a time."),
    key(BATCH, "max_queued", "0-65536", "256", "Calls that wait for a place; further ones are refused with OVERLOADED."),
    key(BATCH, "credential", "table", "-", "How this service shows who it is."),

    key(CREDENTIAL, "kind", "client_secret, workload_identity, managed_identity, azure_cli or shared_key", "-", "The kind of credential."),
    key(CREDENTIAL, "tenant_id", "text", "required by client_secret; environment (AZURE_TENANT_ID) for workload_identity; the CLI's for azure_cli", "Microsoft Entra tenant."),
    key(CREDENTIAL, "client_id", "text", "required by client_secret; environment (AZURE_CLIENT_ID) for workload_identity; system-assigned for managed_identity", "Application or user-assigned identity."),
    key(CREDENTIAL, "secret_file", "path", "required by client_secret", "The client secret; read again for each token."),
    key(CREDENTIAL, "token_file", "path", "environment (AZURE_FEDERATED_TOKEN_FILE)", "The federated token of workload_identity; read again for each token."),
    key(CREDENTIAL, "authority", "https URL without path", "https://login.microsoftonline.com; environment (AZURE_AUTHORITY_HOST) for workload_identity", "The Entra authority. http is allowed for a loopback host only."),
    key(CREDENTIAL, "scope", "text", "https://batch.core.windows.net//.default", "The scope that tokens are asked for. The double slash is right: the audience ends in one."),
    key(CREDENTIAL, "token_timeout_seconds", "seconds, 1-60", "8; 25 for azure_cli", "How long a call waits for a token. A request to a token endpoint is then given up, and the next call sends another one. The Azure CLI continues for up to 60 seconds in total, and the next call uses the token that it prints."),
    key(CREDENTIAL, "account_name", "text", "required by shared_key", "The Batch account's name."),
    key(CREDENTIAL, "key_file", "path", "required by shared_key", "The account's key in base64; read again when the account refuses it."),

    key(HMC, "url", "https URL without path", "-", "The HMC, `https://hmc.example:6794`. http is allowed for a loopback host only."),
    key(HMC, "userid", "text", "-", "The HMC user that this service logs on with. It is never deleted."),
    key(HMC, "password_file", "path", "-", "Its password; read again at each logon."),
    key(HMC, "logon_timeout_seconds", "seconds, 1-60", "8", "How long a logon may take before it is given up, and the next call begins another one."),
    key(HMC, "ca_file", "path of a PEM file", "the system's authorities", "The only authorities that are trusted for this HMC, or the HMC's own self-signed certificate. Host name and dates are checked in any case."),
    key(HMC, "protected_users", "list of patterns", "[]", "Users that are never deleted. `*` stands for any text; case does not matter."),
    key(HMC, "max_in_flight", "1-4096", "8", "Calls to this HMC at a time. HMCs are small machines."),
    key(HMC, "max_queued", "0-65536", "256", "Calls that wait for a place; further ones are refused with OVERLOADED."),

    key("callers", "identity", "text", "-", "Who calls: a URI (such as a SPIFFE ID) or DNS name of the client certificate; `ISSUER#SUBJECT` of a token; or `anonymous`, who is everybody while neither `client_ca_file` nor `[[jwt_issuers]]` is there."),
    key("callers", "allow", "list of tables", "-", "What this caller may do."),
    key("callers", "deletes_per_minute", "1-1000000", "no limit", "Maximum number of deletions of this caller in any period of 60 seconds, over all targets. Calls with `validate_only` and calls that end as `not_sent` do not count; a changed figure takes the deletions of the last minute into account, except those that were made without any limit."),

    key("callers.allow", "rpc", "DeleteBatchNodeUser or DeleteHmcUser", "-", "The rpc."),
    key("callers.allow", "targets", "list of patterns", "-", "Aliases; `*` stands for any text; case matters."),
    key("callers.allow", "pools", "list of patterns", "all pools", "Pools, for DeleteBatchNodeUser alone; `*` stands for any text; case matters."),

    key(ISSUERS, "issuer", "text without `#`", "-", "What the claim `iss` of a token must be, to the letter."),
    key(ISSUERS, "audience", "text", "-", "What the claim `aud` must be, or hold: the name of this service at the issuer."),
    key(ISSUERS, "algorithms", "list of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA", "[\"RS256\", \"ES256\"]", "What the header `alg` may be."),
    key(ISSUERS, "jwks_url", "https URL", "either this or `jwks_file`", "The issuer's keys as a JSON Web Key Set; read every 5 minutes and when a token names an unknown key. http is allowed for a loopback host only. RSA keys of 2048 to 8192 bits and keys of P-256, P-384 and Ed25519 are used; others are left out, with a warning."),
    key(ISSUERS, "jwks_file", "path", "either this or `jwks_url`", "The same in a file; read again when it changes. It must hold a key for one of the `algorithms`."),
    key(ISSUERS, "ca_file", "path of a PEM file", "none", "More certificate authorities for `jwks_url`, beside the system's."),
];

/// Does the table of this name have this key?
#[must_use]
pub fn known(section: &str, name: &str) -> bool {
    KEYS.iter()
        .any(|key| key.section == section && key.name == name)
}

/// Whether a message may show a key. A secret that stands in the place of a key seldom looks like one.
#[must_use]
pub fn is_showable(name: &str) -> bool {
    let usual = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let plain = name.to_ascii_lowercase().replace('-', "_");
    name.bytes().all(usual)
        || KEYS
            .iter()
            .any(|key| strsim::normalized_levenshtein(key.name, &plain) > 0.7)
}

/// What to say of a key that nobody knows.
#[must_use]
pub fn unknown_text(section: &str, name: &str) -> String {
    let nearest = KEYS
        .iter()
        .filter(|key| key.section == section)
        .map(|key| (strsim::jaro_winkler(key.name, name), key.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let mut text = "unknown key".to_owned();
    if is_showable(name) {
        text = format!("{text} `{name}`");
    }
    match nearest {
        Some((_, near)) => format!("{text}; did you mean `{near}`?"),
        None => text,
    }
}
