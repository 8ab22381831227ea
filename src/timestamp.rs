//! Timestamps of the log and of the audit log.

use time::OffsetDateTime;

/// Returns a UTC time as RFC 3339 text with milliseconds.
pub fn with_milliseconds(at: OffsetDateTime) -> String {
    let mut text = to_seconds(at);
    push_digits::<3>(&mut text, at.millisecond().into());
    text.push('Z');
    text
}

/// Returns a UTC time as RFC 3339 text with microseconds.
pub fn with_microseconds(at: OffsetDateTime) -> String {
    let mut text = to_seconds(at);
    push_digits::<6>(&mut text, at.microsecond());
    text.push('Z');
    text
}

/// Returns a time as text up to the point before the fraction of its second.
fn to_seconds(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let mut text = String::with_capacity(32);
    push_digits::<4>(&mut text, year.unsigned_abs());
    for (separator, number) in [
        ('-', u8::from(month)),
        ('-', day),
        ('T', hour),
        (':', minute),
        (':', second),
    ] {
        text.push(separator);
        push_digits::<2>(&mut text, number.into());
    }
    text.push('.');
    text
}

/// Appends the last `N` decimal digits of a number.
fn push_digits<const N: usize>(text: &mut String, mut number: u32) {
    let mut digits = ['0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(b'0' + (number % 10) as u8);
        number /= 10;
    }
    text.extend(digits);
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
