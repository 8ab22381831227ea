//! The text that `serve --sandbox` prints: the addresses, the users with their results, and example calls.
//!
//! The text contains no secrets. The server receives the credentials of the sandbox directly.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use super::identities::{ISSUER, Identities, SPIFFE_ID, SUBJECT, TOKEN_QUOTA};

/// The addresses of the server and the identities that it accepts.
pub struct Served {
    /// The address of the gRPC server.
    pub listen: SocketAddr,
    /// The address of the admin port, if it is enabled.
    pub admin: Option<SocketAddr>,
    /// The certificates and the token for callers. `None` if the server does not use TLS.
    pub identities: Option<Identities>,
}

/// Returns the text. `batch`, `authority` and `hmc` are the base URLs of the simulated upstreams.
pub(super) fn text(served: &Served, batch: &str, authority: &str, hmc: &str) -> String {
    let Served { identities, .. } = served;
    let listen = reachable(served.listen);
    let how = identities.as_ref().map_or("-plaintext".to_owned(), flags);
    let call = |request: &str, rpc: &str| {
        format!("    grpcurl {how} -d '{request}' {listen} useradmin.v1.UserAdmin/{rpc}\n")
    };
    let batch_user = |pool: &str, node: &str, user: &str, more: &str| {
        let request =
            format!(r#"{{"pool_id":"{pool}","node_id":"{node}","user_name":"{user}"{more}}}"#);
        call(&request, "DeleteBatchNodeUser")
    };
    let hmc_user = |request: &str| call(request, "DeleteHmcUser");
    let transport = if identities.is_some() {
        "TLS"
    } else {
        "plaintext"
    };
    [
        format!("Sandbox: nothing here is real. gRPC on {listen} ({transport}, reflection).\n"),
        format!("  Simulated: Azure Batch {batch}, Microsoft Entra {authority}, HMC {hmc}\n"),
        format!(
            "  A deleted user is gone until the next start. There is no audit log{}\n",
            admin(served)
        ),
        identities.as_ref().map_or_else(String::new, callers),
        "\n".to_owned(),
        BATCH.to_owned(),
        batch_user("pool-1", "node-idle", "alice", ""),
        batch_user("pool-1", "node-idle", "nobody", r#","allow_missing":true"#),
        batch_user("pool-1", "node-running", "bob", r#","validate_only":true"#),
        batch_user("pool-1", "node-rebooting", "alice", ""),
        batch_user("pool-1", "node-idle", "answer-ServerBusy", ""),
        HMC.to_owned(),
        hmc_user(r#"{"user_name":"alice"}"#),
        hmc_user(r#"{"user_id":"00000b0b-4a7a-11e4-91ee-1c6f65065a91","validate_only":true}"#),
        hmc_user(r#"{"user_name":"last-admin"}"#),
    ]
    .concat()
}

/// Returns the address at which a local client reaches the server, that is, the loopback address instead of the
/// unspecified one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn admin(served: &Served) -> String {
    match served.admin {
        Some(address) => format!("; http://{address}/metrics has the numbers"),
        None => " and no admin port".to_owned(),
    }
}

fn flags(files: &Identities) -> String {
    let Identities {
        ca,
        client_certificate: certificate,
        client_key: key,
        ..
    } = files;
    let [ca, certificate, key] = [ca, certificate, key].map(|path| quoted(path));
    format!("-cacert {ca} -cert {certificate} -key {key}")
}

/// Returns the absolute path, quoted for a POSIX shell if necessary.
fn quoted(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn callers(files: &Identities) -> String {
    format!(
        "  Trust {} in place of public authorities. A caller shows one of these, and may then do everything:\n\
           \x20   certificate {} with {}, which is {SPIFFE_ID}\n\
           \x20   token: -H \"authorization: Bearer $(cat {})\", which is {ISSUER}#{SUBJECT}; {TOKEN_QUOTA} deletions a minute\n",
        quoted(&files.ca),
        quoted(&files.client_certificate),
        quoted(&files.client_key),
        quoted(&files.token),
    )
}

const BATCH: &str = "\
Batch account `sandbox`, pool `pool-1`:
  node-idle, node-running, tvm-1695681911_1-20161121t182739z: users alice, bob, carol, josé, `user name/with ?#%`
  node-creating, -starting, -rebooting, -reimaging, -unusable, -offline, -preempted, -unknown, -leavingpool,
    -waitingforstarttask, -starttaskfailed: FAILED_PRECONDITION; pools pool-deleting, -resizing, -creating: likewise
  node-idle, user answer-CODE: any documented code, e.g. answer-TooManyRequests, answer-AuthorizationFailure;
    a CODE that is not documented is a user that does not exist
  node-idle, user answer-nothing: the service never answers, so that the outcome stays unknown until the deadline
";

const HMC: &str = "
HMC `sandbox`, users by name; every answer tells the ID too:
  alice, bob, carol, A.B, AxB, ACSADMIN, template-free: can be deleted
  twin: two users, Twin and TWIN, have this name; protected: on the list of protected users, as on the Batch account
  pattern-user 400/312, own-object 400/313, template-in-use 409/317, auto-logon 409/320, last-admin 409/321,
    no-permission 403/1, wrong-state 409/1, busy 409/2, hmc-defect 500/12, hmc-unavailable 503
  invisible: not listed, and 404/1 by its ID 00404001-4a7a-11e4-91ee-1c6f65065a91
  svc-useradmin: the service's own user, which it refuses to delete
";
