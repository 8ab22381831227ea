//! Authentication of callers of the Batch service: a bearer token that the simulated Entra issued, or a `SharedKey`
//! signature.
//!
//! There is no authorization: every authenticated caller may delete users.

use std::sync::Arc;
use std::time::SystemTime;

use super::reply::Fault;
use super::shared_key;
use crate::credentials::Credentials;
use crate::entra::Tokens;
use crate::net::Incoming;

const TOKEN_MESSAGE: &str = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.";

/// Authenticates requests with the credentials of the sandbox.
pub(super) struct Gate {
    credentials: Arc<Credentials>,
    tokens: Arc<Tokens>,
}

impl Gate {
    pub(super) fn new(credentials: Arc<Credentials>, tokens: Arc<Tokens>) -> Self {
        Self {
            credentials,
            tokens,
        }
    }

    pub(super) fn check(&self, call: &Incoming) -> Result<(), Fault> {
        let mut values = call.headers.get_all("authorization").iter();
        let Some(value) = values.next() else {
            return Err(
                Fault::new("MissingRequiredHeader").values([("HeaderName", "Authorization")])
            );
        };
        let malformed = || Fault::new("InvalidAuthenticationInfo");
        if values.next().is_some() {
            return Err(malformed());
        }
        let (scheme, rest) = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(malformed)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() && !rest.contains(' ') {
            return self.bearer(rest);
        }
        match rest.split_once(':') {
            Some((account, signature)) if scheme == "SharedKey" => {
                shared_key::check(&self.credentials, call, account, signature)
            }
            _ => Err(malformed()),
        }
    }

    fn bearer(&self, token: &str) -> Result<(), Fault> {
        let now = SystemTime::now();
        let detail = match self.tokens.expiry(token) {
            Some(expiry) if expiry > now => return Ok(()),
            Some(expiry) => format!(
                "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                httpdate::fmt_http_date(expiry),
                httpdate::fmt_http_date(now)
            ),
            None => {
                "The access token is not valid: it was not issued by the tenant of this account."
                    .to_owned()
            }
        };
        let error = Fault::new("AuthenticationFailed").with_status_and_message(401, TOKEN_MESSAGE);
        Err(error.values([("AuthenticationErrorDetail", &detail)]))
    }
}
