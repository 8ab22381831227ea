//! The verified access token of a caller. Targets that act under the identity of the caller exchange it for a token of
//! their own; it is never sent to the upstream itself.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    config::secret::{Secret, unprintable},
    unix_time,
};

pub struct CallerToken {
    text: Secret,
    /// Issuer and subject, in the form of [`crate::identity::Identity`].
    pub person: Arc<str>,
    /// Whether the token belongs to an application and not to a user.
    pub is_app_only: bool,
    /// Time of the expiry, in seconds since 1970.
    expires_at: u64,
}

unprintable!(CallerToken);

impl CallerToken {
    /// Creates a token from its text and its claims, which have been verified.
    pub fn new(text: String, claims: &Map<String, Value>, person: Arc<str>) -> Self {
        let expires_at = claims.get("exp").and_then(Value::as_f64);
        Self {
            text: Secret::new(text),
            person,
            is_app_only: is_app_only(claims),
            // The conversion saturates. Without a usable expiry, the token counts as expired.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "seconds since 1970"
            )]
            expires_at: expires_at.unwrap_or_default() as u64,
        }
    }

    /// Returns the text, which must be sent only to the token endpoint that exchanges it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Returns the time until the token expires, which is zero if it has expired. An expired token can still be
    /// accepted for a short time, because clocks differ.
    pub fn remaining(&self) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(unix_time()))
    }

    pub fn is_same_as(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Returns whether these are the claims of an application that acts for no user (Microsoft identity platform, "Access
/// token claims reference"). `idtyp` is an optional claim. Otherwise such a token has no scopes, and has roles or the
/// application itself as its subject.
fn is_app_only(claims: &Map<String, Value>) -> bool {
    let claim = |name: &str| claims.get(name).and_then(Value::as_str);
    if claim("idtyp") == Some("app") {
        return true;
    }
    let has_scope = claim("scp").is_some_and(|scope| !scope.trim().is_empty());
    let is_own_subject = claim("oid").is_some_and(|oid| claim("sub") == Some(oid));
    !has_scope && (claims.contains_key("roles") || is_own_subject)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::is_app_only;

    #[test]
    fn app_only_tokens_are_recognized_by_their_claims() {
        #[rustfmt::skip]
        let rows = [
            (json!({"idtyp": "app"}), true),
            (json!({"idtyp": "app", "scp": "user_impersonation"}), true),
            (json!({"roles": ["Users.Delete"]}), true),
            (json!({"roles": []}), true),
            (json!({"roles": ["Users.Delete"], "scp": " "}), true),
            (json!({"sub": "id-1", "oid": "id-1"}), true),
            (json!({"sub": "id-1", "oid": "id-1", "scp": ""}), true),
            (json!({"sub": "id-1", "oid": "id-1", "scp": 7}), true),
            (json!({"idtyp": "user", "sub": "id-1"}), false),
            (json!({"roles": ["Users.Delete"], "scp": "access_as_user"}), false),
            (json!({"sub": "id-1", "oid": "id-1", "scp": "access_as_user"}), false),
            (json!({"sub": "id-1", "oid": "id-2"}), false),
            (json!({"sub": "id-1"}), false),
            (json!({}), false),
        ];
        for (claims, expected) in rows {
            let map = claims.as_object().cloned().unwrap_or_default();
            assert_eq!(is_app_only(&map), expected, "{}", Value::from(map));
        }
    }
}
