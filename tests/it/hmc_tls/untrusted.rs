//! Certificates that are not accepted: no request and no password is sent.

use futures_util::future::join_all;
use tonic::Code::Unavailable;
use useradmin_testkit::pki::{Authority, Identity, Kind, Validity};

use super::{Case, ONLY_1_2, ONLY_1_3, ask, case};

async fn expect_refused(cases: Vec<Case>) {
    join_all(cases.iter().map(|case| async move {
        let (response, requests) = ask(case).await;
        let failed = response.expect_err(case.description);
        failed.expect(Unavailable, "UPSTREAM_UNREACHABLE");
        let actual = (
            failed.metadata_value("attempts"),
            failed.metadata_value("outcome"),
        );
        assert_eq!(actual, ("0", "not_sent"), "{}", case.description);
        assert!(
            failed.retry_delay.is_some() && failed.hmc.is_none(),
            "{failed:?}"
        );
        assert_eq!(requests, 0, "{}", case.description);
    }))
    .await;
}

#[tokio::test]
async fn issued_certificate_needs_valid_authority_name_and_dates() {
    let (ca, other) = (Authority::new(), Authority::new());
    let good = ca.issue("localhost", Validity::Now);
    let foreign = Identity::self_signed("localhost", Kind::Ca, Validity::Now);
    expect_refused(vec![
        case(
            "another name",
            &ca.issue("hmc.example", Validity::Now),
            &[ca.pem()],
        ),
        case(
            "an address for a name",
            &ca.issue("127.0.0.1", Validity::Now),
            &[ca.pem()],
        ),
        Case {
            host: "127.0.0.1",
            ..case("a name for an address", &good, &[ca.pem()])
        },
        case(
            "expired",
            &ca.issue("localhost", Validity::Past),
            &[ca.pem()],
        ),
        case(
            "not yet valid",
            &ca.issue("localhost", Validity::Future),
            &[ca.pem()],
        ),
        // Both authorities have the same name.
        case("another authority", &good, &[other.pem()]),
        case("no authority", &good, &[foreign.pem()]),
        case("self-signed and not named", &foreign, &[ca.pem()]),
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
            cases.push(case(description, &own, &[own.pem()]));
        }
        // The HMC has a new certificate, and the file still contains the old one.
        let (old, new) = (
            Identity::self_signed("localhost", kind, Validity::Now),
            Identity::self_signed("localhost", kind, Validity::Now),
        );
        cases.push(case("replaced", &new, &[old.pem()]));
        // The certificate is public; only the HMC has its private key.
        for versions in [ONLY_1_2, ONLY_1_3] {
            let stolen = old.with_key_of(&new);
            cases.push(Case {
                versions,
                ..case("stolen", &stolen, &[old.pem()])
            });
        }
    }
    expect_refused(cases).await;
}
