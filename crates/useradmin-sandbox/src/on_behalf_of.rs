//! The on-behalf-of grant of the token endpoint (Microsoft identity platform, "OAuth 2.0 On-Behalf-Of flow"): checks the
//! token that is exchanged.
//!
//! The signature and the audience of the token are not checked, because the sandbox has no tenant that issues tokens.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The grant type.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The other scope that is supported for this grant.
pub(super) const SCOPE: &str = "https://batch.core.windows.net//user_impersonation";
/// Difference between clocks that is tolerated.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// An error: HTTP status, OAuth error code, AADSTS number and description.
pub(super) type OAuthError = (u16, &'static str, u32, String);

/// Checks the parameters `requested_token_use` and `assertion` of this grant.
pub(super) fn check(token_use: &str, assertion: &str) -> Result<(), OAuthError> {
    if token_use != "on_behalf_of" {
        let text =
            format!("The provided value '{token_use}' for 'requested_token_use' is not valid.");
        return Err((400, "invalid_request", 900_144, text));
    }
    let claims = claims(assertion).ok_or_else(|| {
        let text = "Invalid JWT token. The token is malformed.".to_owned();
        (400, "invalid_request", 50_027, text)
    })?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let expiry = claims["exp"].as_u64().map(Duration::from_secs);
    if expiry.is_none_or(|expiry| expiry + CLOCK_SKEW < now.unwrap_or_default()) {
        let text = "Assertion is not within its valid time range.".to_owned();
        return Err((400, "invalid_grant", 500_133, text));
    }
    if claims["idtyp"] == "app" {
        let text = "Application is not allowed to make application on-behalf-of calls.".to_owned();
        return Err((400, "invalid_grant", 7_000_114, text));
    }
    Ok(())
}

/// Returns the claims of a JSON Web Token, or `None` if it is malformed.
fn claims(token: &str) -> Option<Value> {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, payload, _] = parts.as_slice() else {
        return None;
    };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.is_object().then_some(claims)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::check;

    #[test]
    fn parameters_are_checked() {
        let token = |claims: &str| format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims));
        let valid = token(r#"{"exp":9999999999}"#);
        let rows = [
            ("on_behalf_of", valid.clone(), None),
            ("other", valid, Some(900_144)),
            ("on_behalf_of", "x".to_owned(), Some(50_027)),
            ("on_behalf_of", "x.y".to_owned(), Some(50_027)),
            ("on_behalf_of", token("[]"), Some(50_027)),
            ("on_behalf_of", token(r#"{"exp":1}"#), Some(500_133)),
            ("on_behalf_of", token("{}"), Some(500_133)),
            (
                "on_behalf_of",
                token(r#"{"exp":9999999999,"idtyp":"app"}"#),
                Some(7_000_114),
            ),
        ];
        for (token_use, assertion, expected) in rows {
            let error = check(token_use, &assertion).err();
            let number = error.map(|(_, _, number, _)| number);
            assert_eq!(number, expected, "{token_use} {assertion}");
        }
    }
}
