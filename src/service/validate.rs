//! The rules of the request fields. All violations are reported; no value is changed, because it would name another
//! user.

use crate::{
    error::Violation,
    names::{self, is_dots, is_made_of},
};

/// The valid fields of a request, and the violations of the others.
#[derive(Debug, Default)]
pub struct Checked {
    /// Name and value of the valid fields.
    pub identifiers: Vec<(&'static str, String)>,
    /// The violations, in the order of the fields.
    pub violations: Vec<Violation>,
}

impl Checked {
    fn note(&mut self, field: &'static str, value: &str, fault: Option<&'static str>) {
        match fault {
            None if value.is_empty() => {}
            None => self.identifiers.push((field, value.to_owned())),
            Some(description) => self.violations.push(Violation { field, description }),
        }
    }

    /// Adds a violation that does not concern the value of a field.
    pub fn fault(&mut self, field: &'static str, description: &'static str) {
        self.violations.push(Violation { field, description });
    }

    /// An alias: 1-64 of `A-Z a-z 0-9 . _ -`. An empty one means the only one that is configured.
    /// Returns the alias, or an empty text when it breaks the rule.
    pub fn alias<'a>(
        &mut self,
        field: &'static str,
        value: &'a str,
        mut configured: impl Iterator<Item = &'a String>,
    ) -> String {
        let value = if value.is_empty() {
            let (Some(only), None) = (configured.next(), configured.next()) else {
                self.fault(field, "required unless exactly one target is configured");
                return String::new();
            };
            only
        } else {
            value
        };
        let fits = names::is_alias(value);
        let rule = "must be 1-64 characters of A-Z a-z 0-9 . _ -";
        self.note(field, value, (!fits).then_some(rule));
        if fits {
            value.to_owned()
        } else {
            String::new()
        }
    }

    /// A pool: 1-64 of `A-Z a-z 0-9 _ -`.
    pub fn pool_id(&mut self, field: &'static str, value: &str) {
        let fits = (1..=64).contains(&value.len()) && is_made_of(value, b"_-");
        let rule = "must be 1-64 characters of A-Z a-z 0-9 _ -";
        self.note(field, value, (!fits).then_some(rule));
    }

    /// A node: 1-128 of `A-Z a-z 0-9 . _ -`, but not `.` or `..`.
    pub fn node_id(&mut self, field: &'static str, value: &str) {
        let fits = (1..=128).contains(&value.len()) && is_made_of(value, b"._-") && !is_dots(value);
        let rule = "must be 1-128 characters of A-Z a-z 0-9 . _ - and not . or ..";
        self.note(field, value, (!fits).then_some(rule));
    }

    /// An HMC object ID: 1-64 of `A-Z a-z 0-9 . _ -`, but not `.` or `..`.
    pub fn user_id(&mut self, field: &'static str, value: &str) {
        let fits = names::is_object_id(value);
        let rule = "must be 1-64 characters of A-Z a-z 0-9 . _ - and not . or ..";
        self.note(field, value, (!fits).then_some(rule));
    }

    /// A user's name: 1-256 bytes of UTF-8 without what cannot be seen or what would be lost on the way.
    pub fn user_name(&mut self, field: &'static str, value: &str) {
        self.note(field, value, user_name_fault(value));
    }

    /// A GUID of 8-4-4-4-12 hexadecimal digits, or empty.
    pub fn client_request_id(&mut self, field: &'static str, value: &str) {
        let fits = value.is_empty() || is_guid(value);
        let rule = "must be a GUID of 8-4-4-4-12 hexadecimal digits without braces, or empty";
        self.note(field, value, (!fits).then_some(rule));
    }
}

fn user_name_fault(value: &str) -> Option<&'static str> {
    if !(1..=256).contains(&value.len()) {
        return Some("must be 1-256 bytes of UTF-8");
    }
    if is_dots(value) {
        return Some("must not be . or ..");
    }
    if value.chars().any(names::is_unseen) {
        return Some("must not hold control characters, line separators or bidirectional controls");
    }
    if value.starts_with(char::is_whitespace) || value.ends_with(char::is_whitespace) {
        return Some("must not start or end with a blank");
    }
    None
}

fn is_guid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, b)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                b == b'-'
            } else {
                b.is_ascii_hexdigit()
            }
        })
}

#[cfg(test)]
mod tests {
    use super::user_name_fault;
    use crate::escape::is_hidden;

    /// The logs escape all characters that a name must not contain.
    #[test]
    fn what_a_name_may_not_hold_never_stands_raw_in_a_line() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            if user_name_fault(&format!("a{c}b")).is_some() {
                assert!(c < ' ' || is_hidden(c), "{c:?}");
            }
        }
    }
}
