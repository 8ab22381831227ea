//! Timestamps of the log and of the audit log.

use time::OffsetDateTime;

/// Returns a UTC time as RFC 3339 text with milliseconds.
pub fn with_milliseconds(at: OffsetDateTime) -> String {
    let mut text = *b"0000-00-00T00:00:00.000Z";
    write_seconds(&mut text, at);
    write_digits(&mut text[20..23], at.millisecond().into());
    to_string(&text)
}

/// Returns a UTC time as RFC 3339 text with microseconds.
pub fn with_microseconds(at: OffsetDateTime) -> String {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    write_seconds(&mut text, at);
    write_digits(&mut text[20..26], at.microsecond());
    to_string(&text)
}

/// Writes the digits of a time, except those of the fraction of its second.
fn write_seconds(text: &mut [u8], at: OffsetDateTime) {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    write_digits(&mut text[..4], year.unsigned_abs());
    for (position, number) in [
        (5, u8::from(month)),
        (8, day),
        (11, hour),
        (14, minute),
        (17, second),
    ] {
        write_digits(&mut text[position..position + 2], number.into());
    }
}

/// Writes the last decimal digits of a number.
fn write_digits(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn to_string(text: &[u8]) -> String {
    // Digits and separators are always valid UTF-8.
    str::from_utf8(text).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{with_microseconds, with_milliseconds};

    #[test]
    fn every_part_has_its_digits() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_767_323_045_006_007_900);
        let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(with_milliseconds(at), "2026-01-02T03:04:05.006Z");
        assert_eq!(with_microseconds(at), "2026-01-02T03:04:05.006007Z");
    }
}
