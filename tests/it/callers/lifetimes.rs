//! Credentials that expire: a certificate on an open connection, and keys that cannot be read again.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rustls::AlertDescription;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tonic::Code;
use useradmin::{
    access::{
        Access, Credentials,
        authentication_error::AuthenticationError,
        token::{Fetch, KeySource},
    },
    config,
    identity::Identity,
    metrics::Metrics,
};
use useradmin_testkit::{
    App, Signer, alert, batch_request, batch_section, default_claims, now, wait_until,
};

use super::{ISSUER, SecureServer, uri};
use crate::authorization::upstream;

const CALLERS: &str = r#"
[[callers]]
identity = "spiffe://corp/offboarding"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

#[tokio::test]
async fn expired_certificate_is_refused_on_open_connection() {
    let sections = |folder: &Path, url: &str| batch_section(folder, url) + CALLERS;
    let server = SecureServer::start(upstream().await, sections, "").await;
    let identity = server.authority.issue_from(|params| {
        params.subject_alt_names = vec![uri("spiffe://corp/offboarding")];
        // Long enough for the handshake and a call, even on a busy machine.
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(3);
    });
    let client = server.client(Some(&identity));
    let call = async || client.delete_batch_node_user(batch_request("alice")).await;
    call().await.unwrap();
    wait_until("expired", async || {
        call().await.is_err_and(|failure| {
            failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
            assert_eq!(failure.metadata_value("cause"), "certificate_expired");
            true
        })
    })
    .await;
    let records = server.app.audit();
    let peers: BTreeSet<_> = records
        .iter()
        .map(|record| &record["peer"])
        .map(|peer| peer.as_str())
        .collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
    let unidentified_calls = server.app.metrics("certificate_expired").await;
    assert_eq!(
        unidentified_calls,
        ["useradmin_unidentified_calls_total{cause=\"certificate_expired\"} 1"]
    );
    // A new connection fails in the handshake.
    let actual = alert(server.app.address, server.authority.pem(), &identity).await;
    assert_eq!(actual, Some(AlertDescription::CertificateExpired));
}

/// A server of keys that can be made unavailable.
#[derive(Default)]
struct KeyServer {
    is_down: AtomicBool,
    reads: AtomicUsize,
}

impl KeyServer {
    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn source(self: &Arc<Self>, signer: &Signer) -> impl Fn() -> KeySource {
        let (key_server, key_set) = (Arc::clone(self), Bytes::from(signer.key_set()));
        let fetch: Fetch = Arc::new(move || {
            key_server.reads.fetch_add(1, Ordering::SeqCst);
            let is_down = key_server.is_down.load(Ordering::SeqCst);
            let response = if is_down {
                Err("down".to_owned())
            } else {
                Ok(key_set.clone())
            };
            Box::pin(async { response })
        });
        move || KeySource::Url(Arc::clone(&fetch))
    }
}

/// Returns the access control of a server whose only issuer has these keys.
fn access_with_keys(key_server: &Arc<KeyServer>, signer: &Signer) -> Access {
    let folder = App::folder();
    let text = format!(
        "[[jwt_issuers]]\nissuer = \"{ISSUER}\"\naudience = \"useradmin\"\njwks_url = \"http://127.0.0.1:1/\"\n{}",
        batch_section(&folder, "http://127.0.0.1:1")
    );
    let config = config::parse(&folder.join("useradmin.toml"), &text);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    std::fs::remove_dir_all(folder).unwrap();
    let source = key_server.source(signer);
    let access = Access::new(
        &config,
        None,
        |_| Ok(source()),
        &Arc::new(Metrics::default()),
    );
    access.unwrap()
}

const SECOND: Duration = Duration::from_secs(1);
const FIVE_MINUTES: Duration = Duration::from_mins(5);
const DAY: Duration = Duration::from_hours(24);

/// The paused clock of the runtime advances to the next timer whenever the runtime is idle. Tokens are checked with the
/// system clock.
#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_every_5_minutes_and_expire_after_a_day() {
    let (key_server, signer) = (Arc::new(KeyServer::default()), Signer::es256("key-1"));
    let access = access_with_keys(&key_server, &signer);
    let mut claims = default_claims(ISSUER, "svc");
    claims["exp"] = json!(now() + 7 * DAY.as_secs());
    let token = signer.token(&claims);
    let identify = async || {
        let credentials = Credentials {
            token: Some(Ok(token.clone())),
            ..Credentials::default()
        };
        access
            .authenticate(credentials, Duration::from_millis(100))
            .await
            .map(|caller| caller.identity)
    };
    let expected_identity = Identity::token(ISSUER, "svc").unwrap();
    let started = Instant::now();
    assert_eq!(identify().await, Ok(expected_identity.clone()));
    for read_number in 1..4 {
        let next = started + FIVE_MINUTES * read_number;
        sleep_until(next - SECOND).await;
        assert_eq!(key_server.reads(), read_number as usize);
        sleep_until(next + SECOND).await;
        assert_eq!(key_server.reads(), read_number as usize + 1);
    }
    let last_read = started + FIVE_MINUTES * 3;
    key_server.is_down.store(true, Ordering::SeqCst);
    sleep_until(last_read + DAY - SECOND).await;
    // The reading was retried many times.
    assert!(key_server.reads() > 1_000, "{}", key_server.reads());
    assert_eq!(identify().await, Ok(expected_identity.clone()));
    sleep_until(last_read + DAY + SECOND).await;
    assert_eq!(
        identify().await,
        Err(AuthenticationError::TokenKeysUnavailable)
    );
    // The next reading takes place after the longest pause between retries at the latest.
    key_server.is_down.store(false, Ordering::SeqCst);
    sleep_until(last_read + DAY + 32 * SECOND).await;
    assert_eq!(identify().await, Ok(expected_identity));
}
