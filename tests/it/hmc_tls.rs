//! Which certificates the service accepts from an HMC: those issued by a CA in `ca_file`, and those listed in it,
//! always with the right name and within their validity. The password is not sent to any other server.

mod untrusted;

use std::fs;

use futures_util::future::join_all;
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    App, CallFailure, Upstream, default_reply, delete_by_name, hmc_section,
    pki::{Authority, Identity, Kind, Validity, fixture, fixture_leaf},
};

type Versions = &'static [&'static SupportedProtocolVersion];

const BOTH: Versions = &[&TLS12, &TLS13];
const ONLY_1_2: Versions = &[&TLS12];
const ONLY_1_3: Versions = &[&TLS13];

/// The certificate that an HMC presents, and the content of `ca_file`.
struct Case {
    description: &'static str,
    certificate: Identity,
    trusted: String,
    host: &'static str,
    versions: Versions,
}

fn tls_case(description: &'static str, certificate: &Identity, trusted: &[&str]) -> Case {
    Case {
        description,
        certificate: certificate.clone(),
        trusted: trusted.concat(),
        host: "localhost",
        versions: BOTH,
    }
}

/// Asks the HMC to delete `alice`. Returns the response, and the number of requests that the HMC has received.
async fn delete_over_tls(case: &Case) -> (Result<DeleteOutcome, CallFailure>, usize) {
    let config = case.certificate.server(case.versions);
    let upstream = Upstream::start_tls(config, |request| default_reply(request, 1)).await;
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), &case.trusted).unwrap();
    let url = upstream.url.replace("localhost", case.host);
    let section = hmc_section(&folder, &url);
    let app = App::start_in(folder, &format!("{section}ca_file = \"ca.pem\"\n")).await;
    let response = app.delete_hmc_user(delete_by_name("alice")).await;
    (
        response.map(|result| result.outcome()),
        upstream.received().len(),
    )
}

async fn expect_trusted(cases: Vec<Case>) {
    join_all(cases.iter().map(|case| async move {
        let (response, requests) = delete_over_tls(case).await;
        let outcome =
            response.unwrap_or_else(|failure| panic!("{}: {failure:?}", case.description));
        assert_eq!(
            (outcome, requests),
            (DeleteOutcome::Deleted, 3),
            "{}",
            case.description
        );
    }))
    .await;
}

#[tokio::test]
async fn configured_authority_or_certificate_is_trusted() {
    let (ca, other) = (Authority::new(), Authority::new());
    let issued = ca.issue("localhost", Validity::Now);
    let chained = ca.issue_through_intermediate("localhost");
    let plain = Identity::self_signed("localhost", Kind::Plain, Validity::Now);
    let no_ca = Identity::self_signed("localhost", Kind::NoCa, Validity::Now);
    let is_ca = Identity::self_signed("localhost", Kind::Ca, Validity::Now);
    let constrained = Identity::self_signed("localhost", Kind::Constrained, Validity::Now);
    let by_address = Case {
        host: "127.0.0.1",
        ..tls_case(
            "an address",
            &ca.issue("127.0.0.1", Validity::Now),
            &[ca.pem()],
        )
    };
    let pinned_address = Identity::self_signed("127.0.0.1", Kind::Ca, Validity::Now);
    expect_trusted(vec![
        tls_case("issued by the CA", &issued, &[ca.pem()]),
        tls_case("issued by an intermediate", &chained, &[ca.pem()]),
        tls_case(
            "issued, the certificate itself is named",
            &issued,
            &[issued.pem()],
        ),
        tls_case("self-signed, without constraints", &plain, &[plain.pem()]),
        tls_case("self-signed, CA:FALSE", &no_ca, &[no_ca.pem()]),
        tls_case("self-signed, CA:TRUE", &is_ca, &[is_ca.pem()]),
        tls_case(
            "self-signed, with constraints on directory names",
            &constrained,
            &[constrained.pem()],
        ),
        tls_case(
            "the CA among others",
            &issued,
            &[other.pem(), is_ca.pem(), ca.pem()],
        ),
        tls_case("the certificate first", &is_ca, &[is_ca.pem(), ca.pem()]),
        tls_case(
            "the certificate last",
            &no_ca,
            &["# HMC\n", ca.pem(), is_ca.pem(), no_ca.pem()],
        ),
        by_address,
        Case {
            host: "127.0.0.1",
            ..tls_case("a named address", &pinned_address, &[pinned_address.pem()])
        },
    ])
    .await;
}

#[tokio::test]
async fn tls_1_2_and_1_3_work() {
    let ca = Authority::new();
    let issued = ca.issue("localhost", Validity::Now);
    let is_ca = Identity::self_signed("localhost", Kind::Ca, Validity::Now);
    let no_ca = Identity::self_signed("localhost", Kind::NoCa, Validity::Now);
    let only = |versions: Versions| {
        [
            tls_case("issued", &issued, &[ca.pem()]),
            tls_case("CA:TRUE", &is_ca, &[is_ca.pem()]),
            tls_case("CA:FALSE", &no_ca, &[no_ca.pem()]),
        ]
        .map(|case| Case { versions, ..case })
    };
    let cases = only(ONLY_1_2).into_iter().chain(only(ONLY_1_3));
    expect_trusted(cases.collect()).await;
}

/// The supported kinds of keys and signatures of authorities.
#[tokio::test]
async fn all_supported_authority_key_types_work() {
    let kinds = ["p256", "p384", "ed25519", "rsa2047", "rsa8192", "sha1"];
    let cases = kinds.map(|kind| {
        let identity = fixture_leaf(&format!("leaf-of-{kind}"));
        tls_case(kind, &identity, &[fixture(&format!("ca-{kind}"))])
    });
    expect_trusted(cases.into()).await;
}
