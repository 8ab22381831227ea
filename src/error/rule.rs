//! The shape of table A: what an upstream answered -> reason. The rows live in each upstream's `rules.rs`.

use std::ops::RangeInclusive;

use super::{Effect, Form, Repeat};
use crate::proto::ErrorReason;

/// Which bodies a row speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The status line decides, whatever the body.
    Any,
    /// Any error document of the upstream.
    Own,
    /// The document with this code.
    Code(&'static str),
    /// The document with this code that names this header in its values.
    Header(&'static str, &'static str),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Rule {
    /// HTTP statuses, inclusive.
    pub status: RangeInclusive<u16>,
    /// Bodies.
    pub body: Body,
    /// The documented reason.
    pub reason: ErrorReason,
    /// Which code of it.
    pub form: Form,
    /// May this service repeat the request?
    pub repeat: Repeat,
    /// What such an answer says about the DELETE.
    pub effect: Effect,
    /// Whether such an answer means that the target is down.
    pub down: bool,
    /// Where the row comes from.
    pub source: &'static str,
}

impl Rule {
    /// A final answer: surely not deleted, not to be repeated.
    #[must_use]
    pub const fn new(
        status: RangeInclusive<u16>,
        body: Body,
        reason: ErrorReason,
        source: &'static str,
    ) -> Self {
        Self {
            status,
            body,
            reason,
            form: Form::Usual,
            repeat: Repeat::Never,
            effect: Effect::NotDeleted,
            down: false,
            source,
        }
    }

    /// With the reason's second code.
    #[must_use]
    pub const fn alternate(mut self) -> Self {
        self.form = Form::Alternate;
        self
    }

    /// May be repeated after a pause.
    #[must_use]
    pub const fn backoff(mut self) -> Self {
        self.repeat = Repeat::Backoff;
        self
    }

    /// May be repeated once with renewed credentials.
    #[must_use]
    pub const fn renew(mut self) -> Self {
        self.repeat = Repeat::Renew;
        self
    }

    /// Such an answer does not tell whether the DELETE was carried out.
    #[must_use]
    pub const fn unknown(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// Such an answer means that the target is down, and counts for its circuit breaker.
    #[must_use]
    pub const fn down(mut self) -> Self {
        self.down = true;
        self
    }

    /// Does the row speak of this answer? `code` is absent when the body is not the upstream's document.
    #[must_use]
    pub fn matches(&self, status: u16, code: Option<&str>, headers: &[&str]) -> bool {
        self.status.contains(&status)
            && match self.body {
                Body::Any => true,
                Body::Own => code.is_some(),
                Body::Code(wanted) => code == Some(wanted),
                Body::Header(wanted, header) => {
                    code == Some(wanted) && headers.iter().any(|h| h.eq_ignore_ascii_case(header))
                }
            }
    }
}

/// Returns the row for a status, whatever the body.
#[must_use]
pub const fn any(status: u16, reason: ErrorReason, source: &'static str) -> Rule {
    Rule::new(only(status), Body::Any, reason, source)
}

/// Returns the row for a status with any error document of the upstream.
#[must_use]
pub const fn own(status: u16, reason: ErrorReason, source: &'static str) -> Rule {
    Rule::new(only(status), Body::Own, reason, source)
}

/// Returns the row for a status with this code.
#[must_use]
pub const fn code(
    status: u16,
    code: &'static str,
    reason: ErrorReason,
    source: &'static str,
) -> Rule {
    Rule::new(only(status), Body::Code(code), reason, source)
}

/// Returns the range of a single status.
#[must_use]
pub const fn only(status: u16) -> RangeInclusive<u16> {
    status..=status
}

/// The first row that speaks of the answer. Every table ends with a row for everything.
#[must_use]
pub fn decide<'t>(
    table: &'t [Rule],
    status: u16,
    code: Option<&str>,
    headers: &[&str],
) -> Option<&'t Rule> {
    table
        .iter()
        .find(|rule| rule.matches(status, code, headers))
}
