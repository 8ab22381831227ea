//! Client certificates: whose they are, and those that are none.

use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::{House, dns, uri};
use crate::{
    access::upstream,
    support::{
        batch_request, batch_section,
        pki::{Authority, Validity},
    },
};

const CALLERS: &str = r#"
[[callers]]
identity = "spiffe://corp/offboarding"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
[[callers]]
identity = "second.corp.example"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

async fn house() -> House {
    let sections = |folder: &std::path::Path, url: &str| batch_section(folder, url) + CALLERS;
    House::start(upstream().await, sections, "").await
}

const OK: &str = "";
const UNNAMED: &str = "certificate_unnamed";
const DENIED: &str = "denied";

fn name() -> SanType {
    uri("spiffe://corp/offboarding")
}

fn mail() -> SanType {
    SanType::Rfc822Name("second.corp.example".try_into().unwrap())
}

fn address() -> SanType {
    SanType::IpAddress("127.0.0.1".parse().unwrap())
}

/// What is special, the names of the certificate, and what comes of it.
type Case = (&'static str, fn() -> Vec<SanType>, &'static str);

#[rustfmt::skip]
const NAMES: &[Case] = &[
    ("SPIFFE ID", || vec![name()], OK),
    ("SPIFFE ID beside DNS names", || vec![dns("a.example"), name(), dns("b.example")], OK),
    ("DNS name", || vec![dns("second.corp.example")], OK),
    ("DNS name in capitals", || vec![dns("Second.Corp.Example")], OK),
    ("the second DNS name", || vec![dns("first.corp.example"), dns("second.corp.example")], OK),
    ("DNS name beside a URI", || vec![uri("https://x.example/"), dns("second.corp.example")], OK),
    ("wildcard", || vec![dns("*.corp.example")], DENIED),
    ("two SPIFFE IDs", || vec![name(), uri("spiffe://corp/other")], UNNAMED),
    ("a SPIFFE ID and another URI", || vec![uri("https://x.example"), name()], UNNAMED),
    ("no name", Vec::new, UNNAMED),
    ("mail address", || vec![mail()], UNNAMED),
    ("address", || vec![address()], UNNAMED),
    ("the name of nobody", || vec![dns("anonymous")], UNNAMED),
    ("a URI as a DNS name", || vec![dns("spiffe://corp/offboarding")], UNNAMED),
    ("a DNS name as a URI", || vec![uri("second.corp.example")], UNNAMED),
    ("a URI like the name of a token's subject", || vec![uri("https://login.corp.example#svc")], UNNAMED),
    ("a long name", || vec![uri(&format!("spiffe://corp/{}", "x".repeat(300)))], UNNAMED),
];

#[tokio::test]
async fn a_certificate_is_known_by_its_uri_and_dns_names_alone() {
    let house = house().await;
    for (what, names, expected) in NAMES {
        let client = house.with_names(names());
        let answer = client.delete_batch_node_user(batch_request("alice")).await;
        match answer {
            Ok(_) => assert_eq!(*expected, OK, "{what}"),
            Err(failed) if *expected == DENIED => {
                failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
            }
            Err(failed) => {
                failed.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
                assert_eq!(failed.meta("cause"), *expected, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_ends_the_handshake() {
    let house = house().await;
    let name = || vec![name()];
    let stranger = Authority::new();
    let for_servers = house.authority.issue_from(|params| {
        params.subject_alt_names = name();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let good = house.authority.issue_to(name(), Validity::Now);
    let cases = [
        ("expired", house.authority.issue_to(name(), Validity::Past)),
        (
            "not yet valid",
            house.authority.issue_to(name(), Validity::Future),
        ),
        (
            "another authority",
            stranger.issue_to(name(), Validity::Now),
        ),
        ("for servers", for_servers),
        (
            "somebody else's",
            good.with_the_key_of(&stranger.issue_to(name(), Validity::Now)),
        ),
    ];
    for (what, shown) in cases {
        let client = house.client(Some(&shown)).channel();
        let mut client = useradmin::proto::user_admin_client::UserAdminClient::new(client);
        let status = client
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        assert!(status.details().is_empty(), "{what}: {status:?}");
    }
    assert!(house.upstream.seen().is_empty());
    assert!(house.app.audit().is_empty());
}

#[tokio::test]
async fn a_token_goes_before_a_certificate_and_is_never_passed_over() {
    let house = house().await;
    let named = house.with_names(vec![uri("spiffe://corp/offboarding")]);
    named
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let token = house
        .signer
        .token(&crate::support::claims(super::ISSUER, "somebody"));
    let failed = named
        .with_token(&token)
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    let failed = named
        .with_token("rubbish")
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn headers_that_name_somebody_change_nothing() {
    let house = house().await;
    let mut request = house.client(None).request(batch_request("alice"));
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
        request.metadata_mut().insert(header, value);
    }
    let mut client =
        useradmin::proto::user_admin_client::UserAdminClient::new(house.client(None).channel());
    let status = client.delete_batch_node_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(house.upstream.seen().is_empty());
}

/// A session that was taken up again would bring back a chain that nobody has looked at since.
#[tokio::test]
async fn no_session_is_taken_up_again() {
    let house = house().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(house.authority.pem().as_bytes());
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
            let stream = TcpStream::connect(house.app.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .await
                .unwrap();
            // Tickets would come before the server's settings.
            stream.read_u8().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}
