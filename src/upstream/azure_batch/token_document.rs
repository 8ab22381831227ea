//! Parses the JSON documents in which token endpoints and the Azure CLI return an access token.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::entra::Token;
use crate::upstream::renewable::Lease;

const BOM: &[u8] = b"\xEF\xBB\xBF";
/// A longer lifetime is taken for an error.
const LONGEST_LIFE: Duration = Duration::from_hours(24 * 366 * 10);

#[derive(Deserialize)]
struct Document {
    #[serde(alias = "accessToken")]
    access_token: String,
    /// Seconds from now.
    #[serde(default)]
    expires_in: Value,
    /// Unix time.
    #[serde(default)]
    expires_on: Value,
}

/// Returns the token of a document. `now` is the time of the clock that computed its expiry.
pub fn read(body: &[u8], now: SystemTime) -> Result<Lease<Token>, &'static str> {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "the response holds no access token")?;
    let life = life(&document, now)?;
    let token = Zeroizing::new(document.access_token);
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the access token cannot be the value of a header");
    }
    Ok(Lease::lasting(Token::new(&token), life))
}

fn life(document: &Document, now: SystemTime) -> Result<Duration, &'static str> {
    let now = OffsetDateTime::from(now).unix_timestamp();
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
    let left = |value| number(value).map(|moment| moment - now as f64);
    let seconds = number(&document.expires_in).or_else(|| left(&document.expires_on));
    let seconds = seconds.ok_or("the expiry of the access token cannot be read")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(life) if life > LONGEST_LIFE => Err("the access token seems to last for many years"),
        Ok(life) if !life.is_zero() => Ok(life),
        _ => Err("the access token has expired already"),
    }
}

/// Returns a JSON number, or the number in a string, with or without a fraction.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number| number.is_finite())
}
