//! `check-config --connect`: checks the credential of each target.

use std::{fs, path::Path};

use tokio::task::spawn_blocking;
use useradmin_testkit::{
    App, ReceivedRequest, Reply, Step, Upstream, batch_section, canary, default_reply, error_reply,
    hmc_section,
    pki::{Identity, Kind, Validity},
    token_reply_or,
};

use super::check;

type Script = fn(&ReceivedRequest) -> Reply;

/// Where the target is.
enum TargetLocation {
    Upstream(Script),
    /// An upstream whose certificate is not trusted.
    UntrustedUpstream,
    /// A port on which nothing listens.
    ClosedPort,
}

/// Returns the upstream and its URL.
async fn start_target(place: TargetLocation) -> (Option<Upstream>, String) {
    let upstream = match place {
        TargetLocation::ClosedPort => return (None, "http://127.0.0.1:1".to_owned()),
        TargetLocation::Upstream(script) => Upstream::start(script).await,
        TargetLocation::UntrustedUpstream => {
            let identity = Identity::self_signed("localhost", Kind::Plain, Validity::Now);
            let config = identity.server(rustls::ALL_VERSIONS);
            Upstream::start_tls(config, |seen| panic!("{seen:?}")).await
        }
    };
    let url = upstream.url.clone();
    (Some(upstream), url)
}

/// Runs `check-config --connect` with targets from `sections`.
async fn check_connections(
    folder: &Path,
    sections: String,
    arguments: &'static [&'static str],
) -> (i32, String) {
    let folder = folder.to_owned();
    let callers = "[[callers]]\nidentity = \"anonymous\"\nallow = []\n";
    let result = spawn_blocking(move || {
        check(
            &folder,
            &format!("{sections}{callers}"),
            &[&["--connect"], arguments].concat(),
        )
    });
    let (code, out, err) = result.await.unwrap();
    canary::check("the output of check-config", &format!("{out}{err}"));
    (code, out)
}

fn logons(upstream: &Upstream) -> (usize, usize) {
    let seen = upstream.received();
    let count = |step| seen.iter().filter(|seen| Step::of(seen) == step).count();
    (count(Step::Logon), count(Step::Logoff))
}

const REJECTED: &str = "ERROR_REASON_UPSTREAM_CREDENTIALS_REJECTED: ";
const UNREACHABLE: &str = "ERROR_REASON_UPSTREAM_UNREACHABLE: ";

#[tokio::test]
async fn hmc_is_logged_on_to_and_off_once() {
    let cases: [(TargetLocation, &str, (usize, usize)); 4] = [
        (
            TargetLocation::Upstream(|seen| default_reply(seen, 1)),
            "",
            (1, 1),
        ),
        (
            TargetLocation::Upstream(|seen| error_reply(seen, 403, 0)),
            REJECTED,
            (1, 0),
        ),
        (TargetLocation::UntrustedUpstream, UNREACHABLE, (0, 0)),
        (TargetLocation::ClosedPort, UNREACHABLE, (0, 0)),
    ];
    for (place, reason, expected) in cases {
        let folder = App::folder();
        let (upstream, url) = start_target(place).await;
        let (code, out) = check_connections(&folder, hmc_section(&folder, &url), &[]).await;
        expect("hmcs.hmc", code, &out, reason);
        if let Some(upstream) = upstream {
            assert_eq!(logons(&upstream), expected, "{out}");
            assert_eq!(upstream.received().len(), expected.0 + expected.1);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

#[track_caller]
fn expect(target: &str, code: i32, out: &str, reason: &str) {
    if reason.is_empty() {
        assert_eq!((code, out), (0, format!("{target}: ok\n").as_str()));
    } else {
        let start = format!("{target}: failed: {reason}");
        assert!(code == 1 && out.starts_with(&start), "{code} {out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }
}

#[tokio::test]
async fn token_is_obtained_for_batch_account() {
    let cases: [(TargetLocation, &str, usize); 4] = [
        (
            TargetLocation::Upstream(|seen| token_reply_or(seen, || panic!("{seen:?}"))),
            "",
            1,
        ),
        (
            TargetLocation::Upstream(|_| {
                Reply::json(
                    401,
                    r#"{"error":"invalid_client","error_description":"AADSTS7000215: x"}"#,
                )
            }),
            REJECTED,
            1,
        ),
        (TargetLocation::UntrustedUpstream, UNREACHABLE, 0),
        (TargetLocation::ClosedPort, UNREACHABLE, 0),
    ];
    for (place, reason, requests) in cases {
        let folder = App::folder();
        let (upstream, url) = start_target(place).await;
        let (code, out) = check_connections(&folder, batch_section(&folder, &url), &[]).await;
        expect("batch_accounts.batch", code, &out, reason);
        assert_eq!(reason == REJECTED, out.contains("AADSTS7000215"), "{out}");
        if let Some(upstream) = upstream {
            assert_eq!(upstream.received().len(), requests, "{out}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

/// Every target has a line, and one that fails decides the exit code. A refused logon counts for the limit of the
/// server, so that the third one with the same password is not sent.
#[tokio::test]
async fn refused_logons_are_limited_across_runs() {
    let folder = App::folder();
    let hmc = Upstream::start(|seen| error_reply(seen, 403, 0)).await;
    let batch = Upstream::start(|seen| panic!("{seen:?}")).await;
    fs::write(folder.join("batch.key"), "c2VjcmV0\n").unwrap();
    let account = format!(
        "[batch_accounts.b]\nurl = \"{}\"\n[batch_accounts.b.credential]\nkind = \"shared_key\"\n\
         account_name = \"b\"\nkey_file = \"batch.key\"\n",
        batch.url
    );
    for expected in [1, 2, 2] {
        let sections = format!("{}{account}", hmc_section(&folder, &hmc.url));
        let (code, out) = check_connections(&folder, sections, &[]).await;
        let lines: Vec<_> = out.lines().collect();
        let [first, second] = lines[..] else {
            panic!("{out}");
        };
        let not_checked = "batch_accounts.b: not checked: a shared key is only checked by requests to the account";
        assert_eq!((code, first), (1, not_checked));
        assert!(second.starts_with("hmcs.hmc: failed: "), "{out}");
        assert_eq!(logons(&hmc), (expected, 0), "{out}");
    }
    assert!(batch.received().is_empty());
    fs::remove_dir_all(folder).unwrap();
}

/// A target that does not respond fails when the time is over.
#[tokio::test]
async fn connection_check_has_time_limit() {
    let folder = App::folder();
    let hmc = Upstream::start(|_| Reply::Hang).await;
    let (code, out) =
        check_connections(&folder, hmc_section(&folder, &hmc.url), &["--timeout", "1"]).await;
    let expected = "hmcs.hmc: failed: ERROR_REASON_DEADLINE_EXCEEDED: the deadline passed: waiting for credentials\n";
    assert_eq!((code, out.as_str()), (1, expected));
    assert_eq!(logons(&hmc), (1, 0));
    fs::remove_dir_all(folder).unwrap();
}
