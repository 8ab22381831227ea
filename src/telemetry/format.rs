//! The formats of log lines. Both start with timestamp, level and message, and continue with the fields in the order of
//! the log statement.

use std::fmt;

use clap::ValueEnum;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
    },
    registry::LookupSpan,
};

use crate::{escape::escape, json::Members, timestamp::with_microseconds};

/// Value of the field `module` in lines that do not come from a log statement.
const MODULE: &str = "useradmin::telemetry";
/// Initial capacity of a line in bytes, which is enough for most lines.
const LINE_BYTES: usize = 768;

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object in each line
    Json,
    /// Text to read in a terminal
    Text,
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Json => writer.write_str(&json(event)),
            // Colors are disabled, because their control characters would be escaped like all others.
            Self::Text => Format::default()
                .with_ansi(false)
                .with_target(false)
                .format_event(context, writer, event),
        }
    }
}

impl LogFormat {
    /// Returns a line, with its newline, that does not come from a log statement. `key` and `value` are its only
    /// field.
    pub fn line(self, level: &str, message: &str, key: &'static str, value: &Value) -> String {
        match self {
            Self::Json => {
                let mut members = start(level);
                members.string("message", message);
                members.value(key, escape(&value.to_string()));
                end(members, MODULE)
            }
            Self::Text => format!("{} {level:>5} {message} {key}={value}\n", timestamp()),
        }
    }
}

/// Returns an event as a line of JSON. The formatter of the library is not used, because it names the module
/// `target`, which in this service is the name of an account or an HMC, and because it does not escape hidden
/// characters.
fn json(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut fields = Fields(start(metadata.level().as_str()));
    event.record(&mut fields);
    end(fields.0, metadata.target())
}

/// Returns the first members of a line.
fn start(level: &str) -> Members {
    let mut members = Members::with_capacity(LINE_BYTES);
    members.plain("timestamp", &timestamp());
    members.plain("level", level);
    members
}

/// Adds the last member of a line, and returns the line.
fn end(mut members: Members, module: &str) -> String {
    members.plain("module", module);
    ["{", members.as_str(), "}\n"].concat()
}

/// Adds the fields of an event to an object.
struct Fields(Members);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.string(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.value(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.value(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.value(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.value(field.name(), Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.string(field.name(), &format!("{value:?}"));
    }
}

fn timestamp() -> String {
    with_microseconds(OffsetDateTime::now_utc())
}
