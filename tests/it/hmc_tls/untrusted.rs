//! Certificates that are not accepted: no request and no password is sent.

use futures_util::future::join_all;
use tonic::Code::Unavailable;
use useradmin_testkit::pki::{Authority, Identity, Kind, Validity};

use super::{Case, ONLY_1_2, ONLY_1_3, delete_over_tls, tls_case};

async fn expect_refused(cases: Vec<Case>) {
    join_all(cases.iter().map(|case| async move {
        let (response, requests) = delete_over_tls(case).await;
        let failure = response.expect_err(case.description);
        failure.expect(Unavailable, "UPSTREAM_UNREACHABLE");
        let actual = (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        );
        assert_eq!(actual, ("0", "not_sent"), "{}", case.description);
        assert!(
            failure.retry_delay.is_some() && failure.hmc.is_none(),
            "{failure:?}"
        );
        assert_eq!(requests, 0, "{}", case.description);
    }))
    .await;
}

#[tokio::test]
async fn issued_certificate_needs_valid_authority_name_and_dates() {
    let (ca, other) = (Authority::new(), Authority::new());
    let valid = ca.issue("localhost", Validity::Now);
    let foreign = Identity::self_signed("localhost", Kind::Ca, Validity::Now);
    expect_refused(vec![
        tls_case(
            "another name",
            &ca.issue("hmc.example", Validity::Now),
            &[ca.pem()],
        ),
        tls_case(
            "an address for a name",
            &ca.issue("127.0.0.1", Validity::Now),
            &[ca.pem()],
        ),
        Case {
            host: "127.0.0.1",
            ..tls_case("a name for an address", &valid, &[ca.pem()])
        },
        tls_case(
            "expired",
            &ca.issue("localhost", Validity::Past),
            &[ca.pem()],
        ),
        tls_case(
            "not yet valid",
            &ca.issue("localhost", Validity::Future),
            &[ca.pem()],
        ),
        // Both authorities have the same name.
        tls_case("another authority", &valid, &[other.pem()]),
        tls_case("no authority", &valid, &[foreign.pem()]),
        tls_case("self-signed and not named", &foreign, &[ca.pem()]),
    ])
    .await;
}

#[tokio::test]
async fn pinned_certificate_needs_valid_name_dates_and_key() {
    let mut cases = Vec::new();
    for kind in [Kind::NoCa, Kind::Ca] {
        for (description, host, validity) in [
            ("another name", "hmc.example", Validity::Now),
            ("expired", "localhost", Validity::Past),
            ("not yet valid", "localhost", Validity::Future),
        ] {
            let own = Identity::self_signed(host, kind, validity);
            cases.push(tls_case(description, &own, &[own.pem()]));
        }
        // The HMC has a new certificate, and the file still contains the old one.
        let (old, new) = (
            Identity::self_signed("localhost", kind, Validity::Now),
            Identity::self_signed("localhost", kind, Validity::Now),
        );
        cases.push(tls_case("replaced", &new, &[old.pem()]));
        // The certificate is public; only the HMC has its private key.
        for versions in [ONLY_1_2, ONLY_1_3] {
            let with_other_key = old.with_key_of(&new);
            cases.push(Case {
                versions,
                ..tls_case("stolen", &with_other_key, &[old.pem()])
            });
        }
    }
    expect_refused(cases).await;
}
