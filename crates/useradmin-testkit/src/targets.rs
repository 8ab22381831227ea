//! Configuration sections for scripted upstreams, and the parts that most scripts share.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    ReceivedRequest, Reply,
    canary::{CLIENT_SECRET, PASSWORD, SESSION, TOKEN},
};

/// Writes a secret to a file that only its owner can read.
pub fn write_secret(path: &Path, secret: &str) {
    fs::write(path, format!("{secret}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Returns the section of a Batch account `batch` with a client secret. The token endpoint is on the same upstream.
pub fn batch_section(folder: &Path, url: &str) -> String {
    write_secret(&folder.join("client.secret"), CLIENT_SECRET);
    format!(
        r#"
[batch_accounts.batch]
url = "{url}"
[batch_accounts.batch.credential]
kind = "client_secret"
tenant_id = "tenant-1"
client_id = "client-1"
secret_file = "client.secret"
authority = "{url}"
"#
    )
}

/// Returns the section of an HMC `hmc` with a password file.
pub fn hmc_section(folder: &Path, url: &str) -> String {
    write_secret(&folder.join("hmc.password"), PASSWORD);
    format!(
        r#"
[hmcs.hmc]
url = "{url}"
userid = "svc-useradmin"
password_file = "hmc.password"
"#
    )
}

/// Returns the reply to a token request. For all other requests, returns the result of `other`.
pub fn token_reply_or(request: &ReceivedRequest, other: impl FnOnce() -> Reply) -> Reply {
    if request.target == "/tenant-1/oauth2/v2.0/token" {
        let body =
            format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{TOKEN}1"}}"#);
        return Reply::json(200, &body);
    }
    other()
}

/// Returns the reply to logon, logoff, and reads of the user `alice` with the ID `id-1`. For all other requests, that
/// is, the DELETE, returns the result of `delete`.
pub fn hmc_reply_or(request: &ReceivedRequest, delete: impl FnOnce() -> Reply) -> Reply {
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/api/sessions") => {
            Reply::json(200, &format!(r#"{{"api-session":"{SESSION}1"}}"#))
        }
        ("DELETE", "/api/sessions/this-session") => Reply::empty(204),
        ("GET", "/api/users/id-1") => Reply::json(
            200,
            r#"{"object-id":"id-1","name":"alice","type":"standard"}"#,
        ),
        ("GET", target) if target.starts_with("/api/console/users?name=") => Reply::json(
            200,
            r#"{"users":[{"object-uri":"/api/users/id-1","name":"alice","type":"standard"}]}"#,
        ),
        _ => delete(),
    }
}
