//! Client certificates: the identities in them, and invalid certificates.

use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, metadata::MetadataMap};
use useradmin::proto::user_admin_client::UserAdminClient;
use useradmin_testkit::{
    App, CallFailure, SecureClient, alert, batch_request, batch_section,
    pki::{Authority, Validity, fixture, fixture_leaf},
};

use super::{SecureServer, dns, tls_section, uri};
use crate::{authorization::upstream, connection_limit::HTTP2_START};

const CALLERS: &str = r#"
[[callers]]
identity = "spiffe://corp/offboarding"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
[[callers]]
identity = "second.corp.example"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
[[callers]]
identity = "spiffe://corp/few"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["elsewhere"] }]
"#;

async fn start_server() -> SecureServer {
    let sections = |folder: &std::path::Path, url: &str| batch_section(folder, url) + CALLERS;
    SecureServer::start(upstream().await, sections, "").await
}

const OK: &str = "";
const UNNAMED: &str = "certificate_unnamed";
const DENIED: &str = "denied";

fn spiffe_id() -> SanType {
    uri("spiffe://corp/offboarding")
}

fn email_name() -> SanType {
    SanType::Rfc822Name("second.corp.example".try_into().unwrap())
}

fn ip_name() -> SanType {
    SanType::IpAddress("127.0.0.1".parse().unwrap())
}

/// The name of the case, the names in the certificate, and the expected result.
type Case = (&'static str, fn() -> Vec<SanType>, &'static str);

#[rustfmt::skip]
const NAMES: &[Case] = &[
    ("SPIFFE ID", || vec![spiffe_id()], OK),
    ("SPIFFE ID beside DNS names", || vec![dns("a.example"), spiffe_id(), dns("b.example")], OK),
    ("DNS name", || vec![dns("second.corp.example")], OK),
    ("DNS name in capitals", || vec![dns("Second.Corp.Example")], OK),
    ("the second DNS name", || vec![dns("first.corp.example"), dns("second.corp.example")], OK),
    ("DNS name beside a URI", || vec![uri("https://x.example/"), dns("second.corp.example")], OK),
    ("wildcard", || vec![dns("*.corp.example")], DENIED),
    ("two SPIFFE IDs", || vec![spiffe_id(), uri("spiffe://corp/other")], UNNAMED),
    ("a SPIFFE ID and another URI", || vec![uri("https://x.example"), spiffe_id()], UNNAMED),
    ("no name", Vec::new, UNNAMED),
    ("email address", || vec![email_name()], UNNAMED),
    ("IP address", || vec![ip_name()], UNNAMED),
    ("the identity `anonymous`", || vec![dns("anonymous")], UNNAMED),
    ("a URI as a DNS name", || vec![dns("spiffe://corp/offboarding")], UNNAMED),
    ("a DNS name as a URI", || vec![uri("second.corp.example")], UNNAMED),
    ("a URI like the name of a token's subject", || vec![uri("https://login.corp.example#svc")], UNNAMED),
    ("a long name", || vec![uri(&format!("spiffe://corp/{}", "x".repeat(300)))], UNNAMED),
];

#[tokio::test]
async fn certificate_identity_is_uri_or_dns_name() {
    let server = start_server().await;
    for (case, names, expected) in NAMES {
        let client = server.with_names(names());
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        match response {
            Ok(_) => assert_eq!(*expected, OK, "{case}"),
            Err(failure) if *expected == DENIED => {
                failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
            }
            Err(failure) => {
                failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
                assert_eq!(failure.metadata_value("cause"), *expected, "{case}");
            }
        }
    }
    let unnamed = NAMES.iter().filter(|(.., expected)| *expected == UNNAMED);
    let metric_line = format!(
        "useradmin_unidentified_calls_total{{cause=\"{UNNAMED}\"}} {}",
        unnamed.count()
    );
    let found = server.app.metrics("unidentified_calls_total").await;
    assert_eq!(found, [metric_line]);
}

#[tokio::test]
async fn invalid_client_certificate_fails_handshake() {
    let server = start_server().await;
    let names = || vec![spiffe_id()];
    let untrusted = Authority::new();
    let server_identity = server.authority.issue_from(|params| {
        params.subject_alt_names = names();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let valid_identity = server.authority.issue_to(names(), Validity::Now);
    let untrusted_identity = untrusted.issue_to(names(), Validity::Now);
    let cases = [
        (
            AlertDescription::CertificateExpired,
            server.authority.issue_to(names(), Validity::Past),
        ),
        // Not valid yet.
        (
            AlertDescription::CertificateExpired,
            server.authority.issue_to(names(), Validity::Future),
        ),
        (
            AlertDescription::DecryptError,
            valid_identity.with_key_of(&untrusted_identity),
        ),
        // Another authority with the same name.
        (AlertDescription::DecryptError, untrusted_identity),
        (AlertDescription::UnsupportedCertificate, server_identity),
    ];
    let received_alert =
        async |identity| alert(server.app.address, server.authority.pem(), identity).await;
    for (expected, identity) in &cases {
        assert_eq!(received_alert(identity).await, Some(*expected));
        let client = server.client(Some(identity));
        let refusal = client.delete_batch_node_user(batch_request("alice")).await;
        // The client reports the failure; there is no response of a server.
        assert_eq!(refusal.unwrap_err().reason, "", "{expected:?}");
    }
    assert!(server.upstream.received().is_empty());
    assert!(server.app.audit().is_empty());
    // The same client is accepted with a valid certificate.
    assert_eq!(received_alert(&valid_identity).await, None);
    let client = server.client(Some(&valid_identity));
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    response.unwrap();
}

/// The supported kinds of keys and signatures of authorities.
#[tokio::test]
async fn all_supported_authority_key_types_work() {
    for kind in ["p256", "p384", "ed25519", "rsa2047", "rsa8192", "sha1"] {
        let (upstream, folder, authority) = (upstream().await, App::folder(), Authority::new());
        let text = tls_section(&folder, &authority, "") + &batch_section(&folder, &upstream.url);
        std::fs::write(folder.join("clients.pem"), fixture(&format!("ca-{kind}"))).unwrap();
        let app = App::start_with_text(folder, &(text + CALLERS)).await;
        let identity = fixture_leaf(&format!("leaf-of-{kind}"));
        let client = SecureClient::tls(app.address, authority.pem(), Some(&identity));
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        assert!(response.is_ok(), "{kind}: {response:?}");
    }
}

#[tokio::test]
async fn token_takes_precedence_over_certificate() {
    let server = start_server().await;
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let token = server.signer.token(&useradmin_testkit::default_claims(
        super::ISSUER,
        "somebody",
    ));
    let failure = client
        .with_token(&token)
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    let failure = client
        .with_token("rubbish")
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn identity_headers_are_ignored() {
    let server = start_server().await;
    let mut headers = MetadataMap::new();
    for header in [
        "x-forwarded-client-cert",
        "x-forwarded-user",
        "x-client-cert",
        "x-ssl-client-verify",
        "x-spiffe-id",
        "x-remote-user",
        "forwarded",
        "x-envoy-peer-metadata",
        "caller",
        "identity",
    ] {
        let value = "By=spiffe://corp/proxy;URI=spiffe://corp/offboarding"
            .parse()
            .unwrap();
        headers.insert(header, value);
    }
    let unauthorized_client = server.with_names(vec![uri("spiffe://corp/few")]);
    for (client, code, reason, caller) in [
        (
            server.client(None),
            Code::Unauthenticated,
            "CALLER_UNAUTHENTICATED",
            "",
        ),
        (
            unauthorized_client,
            Code::PermissionDenied,
            "CALLER_NOT_AUTHORIZED",
            "spiffe://corp/few",
        ),
    ] {
        let mut request = client.request(batch_request("alice"));
        *request.metadata_mut() = headers.clone();
        let mut client = UserAdminClient::new(client.channel());
        let status = client.delete_batch_node_user(request).await.unwrap_err();
        CallFailure::from(status).expect(code, reason);
        assert_eq!(server.app.audit().last().unwrap()["caller"], caller);
    }
    assert!(server.upstream.received().is_empty());
}

/// Resuming a session would restore a certificate chain without verifying it again.
#[tokio::test]
async fn tls_sessions_are_not_resumed() {
    let server = start_server().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(server.authority.pem().as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let stream = TcpStream::connect(server.app.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            stream.write_all(HTTP2_START).await.unwrap();
            // Tickets would arrive before the settings of the server.
            stream.read_u8().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}
