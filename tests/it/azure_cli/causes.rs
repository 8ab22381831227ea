//! Reasons why the Azure CLI provides no token, in the error metadata and in the log.

use tonic::Code;
use useradmin::proto::DeleteOutcome::Deleted;

use super::{Server, script_with_token};

fn fails(status: i32, text: &str) -> String {
    format!("cat >&2 <<'E'\n{text}\nE\nexit {status}")
}

/// Exit status, standard error; cause, AADSTS code, words of the log.
type Row = (i32, &'static str, &'static str, &'static str, &'static str);

const NOT_LOGGED_IN: &str = "azure_cli_not_logged_in";
const TOO_OLD: &str = "azure_cli_too_old";
const FAILED: &str = "azure_cli_failed";
const NOT_UNDERSTOOD: &str = "azure_cli_output_not_understood";

/// Failures that last until the operator corrects their cause.
#[rustfmt::skip]
const REJECTED: &[Row] = &[
    (1, "ERROR: Please run 'az login' to setup account.", NOT_LOGGED_IN, "", "exit status: 1"),
    (1, "WARNING: old\nERROR: Please run \"az login\" to access your accounts.", NOT_LOGGED_IN, "", "exit status: 1"),
    (1, "Please run 'az login' to setup account.", NOT_LOGGED_IN, "", "exit status: 1"),
    (1, "ERROR: No subscription found. Run 'az account set' to select one.", NOT_LOGGED_IN, "", "exit status: 1"),
    (1, "ERROR: AADSTS50076: you must use multi-factor authentication.\nTo re-authenticate, please run: az login", "interaction_required", "50076", "AADSTS50076"),
    (1, "ERROR: AADSTS700082: The refresh token has expired.\nPlease run: az login --scope x", "interaction_required", "700082", "AADSTS700082"),
    (1, "ERROR: AADSTS53003: Access has been blocked by Conditional Access policies.", "credential_refused", "53003", "AADSTS53003"),
    (1, "ERROR: AADSTS90002: Tenant 'x' not found.", "credential_refused", "90002", "AADSTS90002"),
    (1, "ERROR: invalid_client: AADSTS7000222: The keys are expired.", "invalid_client", "7000222", "exit status: 1, invalid_client, AADSTS7000222"),
    (2, "az: error: unrecognized arguments: --scope x", TOO_OLD, "", "exit status: 2"),
    (2, "ERROR: 'get-access-token' is misspelled or not recognized by the system.", TOO_OLD, "", "exit status: 2"),
    (127, "python3: not found", "azure_cli_not_found", "", "127"),
    (1, "Traceback\nOSError: no space left\n\n", FAILED, "", "exit status: 1"),
    (3, "", FAILED, "", "3"),
    (1, "ERROR: refused C4N4RYa1b2~c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7 twice", FAILED, "", "exit status: 1"),
    (1, "ERROR: {\"password\": \"C4N4RY\", \"error\": \"odd\"}", FAILED, "", "exit status: 1"),
    (1, "C4N4RY", FAILED, "", "exit status: 1"),
    (1, "ERROR: AADSTS7000215: invalid_client: the secret C4N4RY is wrong.", "invalid_client", "7000215", "exit status: 1, invalid_client, AADSTS7000215"),
    (1, "ERROR: AADSTSC4N4RY", FAILED, "", "exit status: 1"),
    (1, "ERROR: odd {\"accessToken\": \"C4N4RY\"}", FAILED, "", "exit status: 1"),
];

/// Transient failures.
#[rustfmt::skip]
const TRANSIENT: &[Row] = &[
    (1, "ERROR: Please ensure you have network connection. Error detail: Max retries exceeded", "token_endpoint_unreachable", "", "exit status: 1"),
    (1, "ERROR: AADSTS90055: There are too many incoming requests.", "credential_refused", "90055", "AADSTS90055"),
];

/// Scripts that exit successfully but print no usable token, and words of the log.
#[rustfmt::skip]
const SUCCEED: &[(&str, &str)] = &[
    ("", "no access token"),
    ("echo not json", "no access token"),
    ("echo '{}'", "no access token"),
    ("printf '\\377\\0\\1'", "no access token"),
    ("echo null; echo ERROR: C4N4RY >&2", "no access token"),
    (r#"echo '{"accessToken":"kanari-token-az","expiresOn":"soon"}'"#, "expiry"),
    (r#"echo '{"accessToken":"kanari-token-az","expires_on":1577836800}'"#, "expired"),
];

#[derive(Debug)]
struct Expected {
    code: Code,
    reason: &'static str,
    cause: &'static str,
    aadsts: &'static str,
    logged: &'static str,
    runs: usize,
}

fn rows() -> Vec<(String, Expected)> {
    let row = |code, reason, runs| {
        move |&(status, text, cause, aadsts, logged): &Row| {
            let expected = Expected {
                code,
                reason,
                cause,
                aadsts,
                logged,
                runs,
            };
            (fails(status, text), expected)
        }
    };
    let rejected = row(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", 1);
    let transient = row(Code::Unavailable, "UPSTREAM_UNREACHABLE", 3);
    let last = row(Code::Unavailable, "UPSTREAM_UNREACHABLE", 1);
    let killed = transient(&(0, "", FAILED, "", "signal: 9")).1;
    let rejected = REJECTED.iter().map(rejected);
    let transient = TRANSIENT.iter().map(transient);
    let succeed = SUCCEED.iter().map(|(script, logged)| {
        let (_, expected) = last(&(0, "", NOT_UNDERSTOOD, "", logged));
        ((*script).to_owned(), expected)
    });
    let mut rows: Vec<_> = rejected.chain(transient).chain(succeed).collect();
    rows.push(("kill -9 $$".to_owned(), killed));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_failure_cause_is_in_metadata_and_log() {
    for (script, expected) in rows() {
        let server = Server::start("", &script).await;
        let failure = server.delete(20.0).await.unwrap_err();
        failure.expect(expected.code, expected.reason);
        assert_eq!(failure.metadata_value("cause"), expected.cause, "{script}");
        assert_eq!(
            failure.metadata_value("aadsts_code"),
            expected.aadsts,
            "{script}"
        );
        assert_eq!(server.started_runs(), expected.runs, "{script}");
        let [calls, tokens] = server.stop_and_read_contexts();
        assert_eq!(tokens.len(), expected.runs, "{script}: {tokens:?}");
        for context in calls.iter().chain(&tokens) {
            assert!(context.contains(expected.logged), "{script}: {context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_is_retried_after_transient_failure() {
    let text = "ERROR: AADSTS90033: A transient error has occurred. Please try again.";
    let transient = fails(1, text);
    let token_script = script_with_token(r#""expires_in":3599,"#);
    for first in [&*transient, "kill -9 $$"] {
        let script = format!(
            "if [ $(wc -l <$(dirname $0)/begun) -gt 1 ]; then {token_script}; exit; fi\n{first}"
        );
        let server = Server::start("", &script).await;
        let response = server.delete(20.0).await.unwrap();
        assert_eq!(response.outcome(), Deleted);
        assert_eq!(server.started_runs(), 2);
    }
}
