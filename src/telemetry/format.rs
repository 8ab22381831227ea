//! The formats of log lines. Both start with timestamp, level and message, and continue with the fields in the order of
//! the log statement.

use std::fmt;

use clap::ValueEnum;
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Serializer, Value};
use tracing::{Event, Subscriber};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

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
            Self::Json => {
                let line = json(event).map_err(|_| fmt::Error)?;
                writer.write_str(&String::from_utf8_lossy(&line))
            }
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
    pub fn line(self, level: &str, message: &str, key: &str, value: &Value) -> String {
        let timestamp = timestamp();
        match self {
            Self::Json => format!(
                "{{\"timestamp\":\"{timestamp}\",\"level\":\"{level}\",\"message\":\"{message}\",\"{key}\":{value},\
                 \"module\":\"{MODULE}\"}}\n"
            ),
            Self::Text => format!("{timestamp} {level:>5} {message} {key}={value}\n"),
        }
    }
}

/// Returns an event as a line of JSON. The formatter of the library is not used, because it names the module
/// `target`, which in this service is the name of an account or an HMC.
fn json(event: &Event<'_>) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LINE_BYTES);
    let mut serializer = Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &timestamp())?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    let mut map = fields.take_serializer()?;
    map.serialize_entry("module", event.metadata().target())?;
    map.end()?;
    line.push(b'\n');
    Ok(line)
}

/// Returns the current UTC time as RFC 3339 text with microseconds.
fn timestamp() -> String {
    let mut timestamp = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    timestamp
}
