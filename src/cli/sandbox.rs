//! `serve --sandbox`: simulates both upstreams in this process, and runs a server with a configuration for them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::Args;
use jsonwebtoken::Algorithm;
use url::Url;

use super::{
    exit::print_error,
    run::{self, ANNOUNCE_TIMEOUT, DEFAULT_ADDRESS},
};
use crate::{
    config::{
        self, Allow, ApiVersion, Audit, AuditSink, BatchAccount, Caller, Config, Credential, Entra,
        EntraKind, Hmc, Jwks, JwtIssuer, PlatformSettings, Target,
        secret::{Secret, SecretSource},
        tls::TlsFiles,
    },
    identity::Identity,
    pattern::Pattern,
    proto,
    sandbox::{
        Sandbox, Served,
        identities::{AUDIENCE, ISSUER, Identities, SPIFFE_ID, SUBJECT, TOKEN_QUOTA},
    },
    server::Server,
};

/// Name of the protected user of both targets, which the server never deletes.
const PROTECTED: &str = "protected";

#[derive(Args)]
pub struct Arguments {
    /// Simulate both upstreams in this process; needs neither a configuration file nor credentials.
    #[arg(long)]
    sandbox: bool,
    /// The address for gRPC. Port 0 selects a free port.
    #[arg(long, value_name = "IP:PORT", requires = "sandbox", default_value = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// The address for /livez, /readyz and /metrics [default: they are not served].
    #[arg(
        long,
        value_name = "IP:PORT",
        requires = "sandbox",
        conflicts_with = "config"
    )]
    admin_listen: Option<SocketAddr>,
    /// Require TLS and a client certificate or token, which are written to this folder at each start.
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "sandbox",
        conflicts_with = "config"
    )]
    secure: Option<PathBuf>,
}

/// Starts the sandbox and runs a server with it. Returns an error if either cannot start.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    let sandbox = Sandbox::start().await;
    let sandbox = sandbox.map_err(|error| format!("the sandbox cannot start: {error}"))?;
    let mut config = sandbox_config(&sandbox, arguments.listen)?;
    config.server.admin_listen = arguments.admin_listen;
    config.server.admin_listen_is_explicit = true;
    let folder = arguments.secure.as_deref();
    let identities = folder
        .map(|folder| require_authentication(&mut config, folder))
        .transpose();
    let identities = identities.map_err(|error| format!("--secure: {error}"))?;
    let guide = |server: &Server, listen| {
        print(sandbox.guide(&Served {
            listen,
            admin: server.admin_address(),
            identities,
        }));
    };
    run::run(config, guide).await
}

/// Enables TLS, and replaces the caller `anonymous` with two callers: one with a client certificate, one with a token.
/// Returns the files of their identities, or an error if they cannot be written.
fn require_authentication(config: &mut Config, folder: &Path) -> std::io::Result<Identities> {
    let files = Identities::create(folder)?;
    config.server.tls = Some(TlsFiles {
        cert_file: files.server_certificate.clone(),
        key_file: files.server_key.clone(),
        client_ca_file: Some(files.ca.clone()),
    });
    config.jwt_issuers = vec![JwtIssuer {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        algorithms: vec![Algorithm::ES256],
        jwks: Jwks::File(files.key_set.clone()),
    }];
    let token = Identity::Token {
        issuer: ISSUER.to_owned(),
        subject: SUBJECT.to_owned(),
    };
    config.callers = vec![
        caller(Identity::Certificate(SPIFFE_ID.to_owned()), None),
        caller(token, Some(TOKEN_QUOTA)),
    ];
    Ok(files)
}

/// Returns a caller that may delete every user.
fn caller(identity: Identity, deletes_per_minute: Option<u32>) -> Caller {
    let allow = proto::rpcs().map(|rpc| Allow {
        rpc,
        targets: vec![Pattern::exact("*")],
        pools: None,
    });
    Caller {
        identity,
        allow: allow.collect(),
        deletes_per_minute,
    }
}

/// Returns the configuration for a sandbox: both upstreams have the alias `sandbox`, and `anonymous` has all
/// permissions.
pub fn sandbox_config(sandbox: &Sandbox, listen: SocketAddr) -> Result<Config, String> {
    let url = |text: &str| Url::parse(text).map_err(|error| error.to_string());
    let memory = |text: &str| SecretSource::in_memory(Secret::new(text.to_owned()));
    let known = sandbox.credentials();
    let account = BatchAccount {
        api_version: ApiVersion::DEFAULT,
        credential: Credential::Entra(Entra {
            kind: EntraKind::ClientSecret {
                tenant_id: known.tenant_id.clone(),
                client_id: known.client_id.clone(),
                secret: memory(&known.client_secret),
            },
            authority: Some(url(sandbox.authority_url())?),
            scope: config::DEFAULT_SCOPE.to_owned(),
            token_timeout: Entra::TOKEN_TIMEOUT,
        }),
    };
    let hmc = Hmc {
        userid: known.hmc_userid.clone(),
        password: memory(&known.hmc_password),
        logon_timeout: Duration::from_secs(Hmc::LOGON_TIMEOUT.into()),
    };
    let mut config = config::defaults().ok_or("the defaults of the configuration are faulty")?;
    config.server.listen = listen;
    config.server.admin_listen = None;
    config.audit = Audit {
        sink: AuditSink::Discard,
        sync: false,
    };
    let account = target(url(sandbox.batch_url())?, account);
    config.targets.batch_accounts.extend([account]);
    let hmc = target(url(sandbox.hmc_url())?, hmc);
    config.targets.hmcs.extend([hmc]);
    config.callers = vec![caller(Identity::Anonymous, None)];
    Ok(config)
}

/// Returns a target with its alias, `sandbox`.
fn target<S: PlatformSettings>(url: Url, own: S) -> (String, Target<S>) {
    let mut target = Target::new(url, own);
    target.protected_users = vec![Pattern::case_insensitive(PROTECTED)];
    ("sandbox".to_owned(), target)
}

/// Prints the guide to standard error. If the reader is stalled, waits at most [`ANNOUNCE_TIMEOUT`].
fn print(guide: String) {
    let (done, printed) = mpsc::channel();
    thread::spawn(move || {
        print_error(&guide);
        let _ = done.send(());
    });
    let _ = printed.recv_timeout(ANNOUNCE_TIMEOUT);
}
