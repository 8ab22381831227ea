//! Times that peers send: `Retry-After` and `grpc-timeout`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use useradmin::{
    service::call_context::{CallContext, parse_timeout},
    upstream::response::Response,
};

/// The last second that a date with a four-digit year can express, in Unix time.
const LAST_DATE: u64 = 253_402_300_799;

/// Checks the bytes as a header value, and the first eight bytes as a time in all three date formats.
pub fn retry_after(bytes: &[u8]) {
    check_text(bytes);
    if let Some(number) = bytes.first_chunk() {
        // A time near now, which is not clamped, and an arbitrary time.
        let number = u64::from_le_bytes(*number);
        let now = unix_seconds(SystemTime::now());
        check_date((now - 30 + number % 120).min(LAST_DATE));
        check_date(number % (LAST_DATE + 1));
    }
}

fn parse_retry_after(value: HeaderValue) -> Option<Duration> {
    let response = Response {
        status: 503,
        headers: HeaderMap::from_iter([(RETRY_AFTER, value)]),
        body: None,
    };
    let delay = response.retry_after();
    assert!(delay.is_none_or(|delay| (1..=60).contains(&delay.as_secs())));
    delay
}

fn check_text(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let delay = parse_retry_after(value);
    let text = bytes.trim_ascii();
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !digits {
        // Only dates have a length in this range.
        assert!(delay.is_none() || (24..=33).contains(&text.len()));
        return;
    }
    let expected = text.iter().fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    assert_eq!(delay, Some(Duration::from_secs(expected.clamp(1, 60))));
}

/// Checks the three date formats (RFC 9110, section 5.6.7).
fn check_date(unix_time: u64) {
    let standard = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_time));
    let parts: Vec<&str> = standard
        .split([' ', ','])
        .filter(|part| !part.is_empty())
        .collect();
    let [weekday, day, month, year, time, _] = parts[..] else {
        panic!("{standard}");
    };
    let short_day = day.strip_prefix('0').unwrap_or(day);
    let asctime = format!("{weekday} {month} {short_day:>2} {time} {year}");
    let mut dates = vec![standard.clone(), asctime];
    // Only these times can be expressed with a two-digit year.
    if (0..=2_145_916_799).contains(&unix_time) {
        let weekday = match weekday {
            "Tue" => "Tuesday".to_owned(),
            "Wed" => "Wednesday".to_owned(),
            "Thu" => "Thursday".to_owned(),
            "Sat" => "Saturday".to_owned(),
            other => format!("{other}day"),
        };
        dates.push(format!(
            "{weekday}, {day}-{month}-{} {time} GMT",
            &year[2..]
        ));
    }
    for date in dates {
        let before = unix_seconds(SystemTime::now());
        let delay = parse_retry_after(HeaderValue::from_str(&date).expect("it is plain"));
        let delay = delay
            .unwrap_or_else(|| panic!("not read: {date}"))
            .as_secs();
        // A second may pass between the two readings of the clock.
        let expected_delay = |now: u64| unix_time.saturating_sub(now).clamp(1, 60);
        let fits = expected_delay(unix_seconds(SystemTime::now()) + 1)..=expected_delay(before);
        assert!(fits.contains(&delay), "{date}: {delay}");
    }
}

fn unix_seconds(unix_time: SystemTime) -> u64 {
    let since = unix_time.duration_since(UNIX_EPOCH);
    since.expect("it is later").as_secs()
}

/// Checks the bytes as a header value.
pub fn timeout(bytes: &[u8]) {
    let unit = match bytes.last() {
        Some(b'H') => 3_600_000_000_000,
        Some(b'M') => 60_000_000_000,
        Some(b'S') => 1_000_000_000,
        Some(b'm') => 1_000_000,
        Some(b'u') => 1_000,
        Some(b'n') => 1_u128,
        _ => 0,
    };
    let digits = bytes.split_last().map_or(&[][..], |(_, digits)| digits);
    let fits = unit > 0 && (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let expected = fits.then(|| {
        let number = digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        number * unit
    });
    assert_eq!(parse_timeout(bytes).map(|time| time.as_nanos()), expected);
    let context = CallContext::new(Some(bytes), None);
    assert_eq!(context.deadline.is_some(), fits);
    let max = expected.unwrap_or_default().min(60_000_000_000);
    assert!(context.remaining().as_nanos() <= max.saturating_sub(100_000_000));
}
