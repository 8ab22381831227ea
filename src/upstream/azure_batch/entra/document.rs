//! Parses the JSON documents in which token endpoints and the Azure CLI return an access token. The documents state
//! the expiry of the token in different forms.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};
use zeroize::Zeroizing;

use super::token::Token;
use crate::{config::files::BYTE_ORDER_MARK, upstream::credential_cache::Lease};

/// Assumed lifetime of a token of unknown expiry. If it expires earlier, the account's refusal renews it.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// Largest difference by which a time zone is behind UTC.
const MAX_OFFSET_BEHIND_UTC: Duration = Duration::from_hours(12);
/// Longest lifetime that is accepted. A longer one is an error.
const MAX_LIFETIME: Duration = Duration::from_hours(24 * 366 * 10);

#[derive(Deserialize)]
struct Document {
    // A document may contain both names of the token.
    access_token: Option<String>,
    #[serde(rename = "accessToken")]
    cli_access_token: Option<String>,
    /// Remaining lifetime in seconds.
    #[serde(default)]
    expires_in: Value,
    #[serde(default, rename = "expiresIn")]
    cli_expires_in: Value,
    /// Time of the expiry, as Unix time or as a date.
    #[serde(default)]
    expires_on: Value,
    /// Date of the expiry in the output of the Azure CLI: a local time without its zone. Versions before 2.54 print
    /// no other form of the expiry.
    #[serde(default, rename = "expiresOn")]
    cli_expires_on: Value,
}

/// Returns the token of a document. `now` is the time of the clock that computed its expiry. Fails if there is no
/// usable token, if the expiry cannot be read, or if the token has expired.
pub fn read(body: &[u8], now: SystemTime) -> Result<Lease<Token>, &'static str> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "the response holds no access token")?;
    let life = life(&document, now);
    let tokens = [document.access_token, document.cli_access_token];
    let tokens = tokens.map(|token| Zeroizing::new(token.unwrap_or_default()));
    let token = tokens.iter().find(|token| !token.is_empty());
    let token = token.ok_or("the response holds no access token")?;
    let life = life?;
    let token = Token::new(token).ok_or("the access token cannot be the value of a header")?;
    Ok(Lease::new(token, Some(life)))
}

fn life(document: &Document, now: SystemTime) -> Result<Duration, &'static str> {
    let Document {
        expires_in,
        cli_expires_in,
        expires_on,
        cli_expires_on,
        ..
    } = document;
    let absent = |value: &Value| {
        let blank = |text: &str| text.trim().is_empty();
        value.is_null() || value.as_str().is_some_and(blank)
    };
    if absent(expires_in) && absent(cli_expires_in) && absent(expires_on) && absent(cli_expires_on)
    {
        return Ok(DEFAULT_LIFETIME);
    }
    let now = OffsetDateTime::from(now).unix_timestamp();
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
    let left = |value| timestamp(value).map(|moment| moment - now as f64);
    let seconds = number(expires_in).or_else(|| number(cli_expires_in));
    if let Some(seconds) = seconds.or_else(|| left(expires_on)) {
        return duration(seconds);
    }
    let seconds = left(cli_expires_on).ok_or("the expiry of the access token cannot be read")?;
    if (-MAX_OFFSET_BEHIND_UTC.as_secs_f64()..=0.0).contains(&seconds) {
        // The CLI prints no expired tokens, so this is a local time west of UTC, and the lifetime is not known.
        return Ok(DEFAULT_LIFETIME);
    }
    duration(seconds)
}

fn duration(seconds: f64) -> Result<Duration, &'static str> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(life) if life > MAX_LIFETIME => Err("the access token seems to last for many years"),
        Ok(life) if !life.is_zero() => Ok(life),
        _ => Err("the access token has expired already"),
    }
}

/// Returns the value of a JSON number, or of a string that contains a number, with or without a fraction.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number| number.is_finite())
}

/// Returns the seconds since 1970 of a value that is Unix time or a date.
fn timestamp(value: &Value) -> Option<f64> {
    let date = |text: &str| {
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
        date_time(text.trim()).map(|date| date.unix_timestamp() as f64)
    };
    number(value).or_else(|| date(value.as_str()?))
}

/// Parses dates such as `2026-11-29T10:00:00Z`, `2026-11-29 10:00:00.000000` and `11/29/2026 10:00:00 AM +00:00`, and
/// HTTP dates. The default time zone is UTC. Fractions of a second are ignored.
fn date_time(text: &str) -> Option<OffsetDateTime> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date.into());
    }
    let (day, rest) = text.split_once(['T', 't', ' '])?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.');
    let (clock, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let rest = rest.trim().to_ascii_uppercase();
    let (afternoon, zone) = match (rest.strip_prefix("AM"), rest.strip_prefix("PM")) {
        (Some(zone), _) => (Some(0), zone),
        (_, Some(zone)) => (Some(12), zone),
        _ => (None, rest.as_str()),
    };
    let clock = clock.split_once('.').map_or(clock, |(clock, _)| clock);
    let [hour, minute, second] = numbers::<u8>(clock, ':')?;
    let hour = match afternoon {
        // Some services add AM or PM to the hours 0 to 23.
        Some(afternoon) if hour <= 12 => hour % 12 + afternoon,
        _ => hour,
    };
    let time = Time::from_hms(hour, minute, second).ok()?;
    Some(PrimitiveDateTime::new(date(day)?, time).assume_offset(offset(zone.trim())?))
}

/// Parses `2026-11-29` or `11/29/2026`.
fn date(text: &str) -> Option<Date> {
    let [year, month, day] = if text.contains('/') {
        let [month, day, year] = numbers::<u16>(text, '/')?;
        [year, month, day]
    } else {
        numbers(text, '-')?
    };
    let month = u8::try_from(month).ok()?.try_into().ok()?;
    Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()
}

/// Parses a time zone, such as `Z`, `+01:00` or `+0100`. An empty text means UTC.
fn offset(text: &str) -> Option<UtcOffset> {
    if matches!(text, "" | "Z" | "UTC" | "GMT") {
        return Some(UtcOffset::UTC);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let part = |text: &str| text.parse::<i8>().ok().map(|part| part * sign);
    UtcOffset::from_hms(part(hours)?, part(minutes)?, 0).ok()
}

fn numbers<T: std::str::FromStr>(text: &str, between: char) -> Option<[T; 3]> {
    let numbers: Option<Vec<T>> = text.split(between).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{OffsetDateTime, date_time};

    #[test]
    fn parses_dates_in_all_formats() {
        for text in [
            "2026-11-29t21:07:05.1234567z",
            "2026-11-29T22:07:05+01:00",
            "2026-11-29T14:37:05-0630",
            "2026-11-29 21:07:05 UTC",
            "11/29/2026 9:07:05 pm +00:00",
            "11/29/2026 21:07:05 PM +00:00",
            "11/29/2026 21:07:05",
        ] {
            let read = date_time(text).map(OffsetDateTime::unix_timestamp);
            assert_eq!(read, Some(1_795_986_425), "{text}");
        }
        let midnight = date_time("1/2/2026 12:00:00 AM +00:00").map(OffsetDateTime::unix_timestamp);
        assert_eq!(midnight, Some(1_767_312_000));
        for text in [
            "2026-11-29",
            "2026-02-30 00:00:00",
            "2026-11-29T21:07Z",
            "2026-11-29T21:07:05+é",
            "2026-11-29T21:07:05+99:99",
            "11/29/2026 21:07:05 XM",
        ] {
            assert!(date_time(text).is_none(), "{text}");
        }
    }
}
