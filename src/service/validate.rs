//! The rules of the request fields. All violations are reported. No value is normalized, because the changed value
//! could name another user.

use crate::{
    error::Violation,
    names::{self, is_alphanumeric_or, is_dot_segment},
};

/// The fields of a request that have been checked.
#[derive(Default)]
pub struct Validation {
    /// Name and value of the valid fields.
    pub(super) identifiers: Vec<(&'static str, String)>,
    /// The violations, in the order of the fields.
    pub(super) violations: Vec<Violation>,
}

impl Validation {
    /// Adds a field, or its violation if it is not valid.
    fn add(&mut self, field: &'static str, value: &str, valid: bool, rule: &'static str) {
        if !valid {
            self.add_violation(field, rule);
        } else if !value.is_empty() {
            self.identifiers.push((field, value.to_owned()));
        }
    }

    /// Adds a violation of the rule of a field.
    pub(super) fn add_violation(&mut self, field: &'static str, description: &'static str) {
        self.violations.push(Violation { field, description });
    }

    /// Checks an alias. An empty one means the only target. Returns the alias, or an empty string if it is not valid.
    pub(super) fn alias<'a>(
        &mut self,
        field: &'static str,
        value: &'a str,
        mut configured: impl Iterator<Item = &'a String>,
    ) -> String {
        let value = match (value, configured.next(), configured.next()) {
            ("", Some(only), None) => only,
            ("", first, _) => {
                let rule = match first {
                    None => "no target of this kind is configured",
                    Some(_) => "required unless exactly one target is configured",
                };
                self.add_violation(field, rule);
                return String::new();
            }
            _ => value,
        };
        let valid = names::is_alias(value);
        let rule = "must be 1-64 characters of A-Z a-z 0-9 . _ -";
        self.add(field, value, valid, rule);
        if valid {
            value.to_owned()
        } else {
            String::new()
        }
    }

    pub(super) fn pool_id(&mut self, field: &'static str, value: &str) {
        let valid = (1..=64).contains(&value.len()) && is_alphanumeric_or(value, b"_-");
        let rule = "must be 1-64 characters of A-Z a-z 0-9 _ -";
        self.add(field, value, valid, rule);
    }

    pub(super) fn node_id(&mut self, field: &'static str, value: &str) {
        let valid = (1..=128).contains(&value.len())
            && is_alphanumeric_or(value, b"._-")
            && !is_dot_segment(value);
        let rule = "must be 1-128 characters of A-Z a-z 0-9 . _ - and not . or ..";
        self.add(field, value, valid, rule);
    }

    /// Checks the object ID of an HMC user.
    pub(super) fn user_id(&mut self, field: &'static str, value: &str) {
        let valid = names::is_object_id(value);
        let rule = "must be 1-64 characters of A-Z a-z 0-9 . _ - and not . or ..";
        self.add(field, value, valid, rule);
    }

    /// Checks the name of a user. Characters that are not visible, or would be lost in transit, are not allowed.
    pub(super) fn user_name(&mut self, field: &'static str, value: &str) {
        let violated = user_name_rule(value);
        self.add(
            field,
            value,
            violated.is_none(),
            violated.unwrap_or_default(),
        );
    }

    /// Checks a `client-request-id`, which may be empty.
    pub(super) fn client_request_id(&mut self, field: &'static str, value: &str) {
        let valid = value.is_empty() || is_guid(value);
        let rule = "must be a GUID of 8-4-4-4-12 hexadecimal digits without braces, or empty";
        self.add(field, value, valid, rule);
    }
}

/// Returns the rule that the name of a user violates, or `None` if the name is valid.
fn user_name_rule(value: &str) -> Option<&'static str> {
    if !(1..=256).contains(&value.len()) {
        return Some("must be 1-256 bytes of UTF-8");
    }
    if is_dot_segment(value) {
        return Some("must not be . or ..");
    }
    if value.chars().any(names::is_hidden_character) {
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
    use super::user_name_rule;
    use crate::escape::is_hidden;

    #[test]
    fn characters_forbidden_in_names_are_escaped_in_logs() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            if user_name_rule(&format!("a{c}b")).is_some() {
                assert!(c < ' ' || is_hidden(c), "{c:?}");
            }
        }
    }
}
