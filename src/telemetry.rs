//! The log: lines on standard error, at level `info` unless `RUST_LOG` sets another one. After the start of the log,
//! nothing else is written to standard error, except the guide of the sandbox.

mod format;
mod http2_refusals;
mod output;

use std::{
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
};

use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt::format::DefaultFields, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub use self::{format::LogFormat, output::OutputGuard};
use self::{http2_refusals::Http2Refusals, output::Output};
pub(crate) use self::{http2_refusals::ON_REFUSAL, output::dropped_lines};
use crate::{
    error::status::{MAX_TEXT_BYTES, truncate},
    escape::escape_controls,
};

const DEFAULT_FILTER: &str = "info";
/// Log targets of libraries that are limited to errors. h2 warns about frames that peers can send at any rate, such
/// as unexpected responses to pings. The server itself logs the connections that end for such a reason, with a limit
/// for each peer. The Azure library logs its failed requests, which the server logs as `access token request failed`.
const QUIET_TARGETS: [&str; 4] = [
    "h2::proto::ping_pong=error",
    "h2::proto::streams::recv=error",
    "h2::proto::streams::streams=error",
    "typespec_client_core=error",
];

/// Parses a list of levels, or of `target=level`, separated by commas. Returns `None` for other texts, because they
/// would disable the log.
fn filter(text: &str) -> Option<EnvFilter> {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let valid = text.split(',').all(|part| match part.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    });
    valid.then(|| EnvFilter::try_new(text).ok()).flatten()
}

/// Set once, by [`start`].
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Writer of the subscriber. Queues whole lines. In lines of text, escapes hidden characters.
struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(output) = OUTPUT.get() else {
            return Ok(line.len());
        };
        match output.format() {
            LogFormat::Json => output.send(line),
            LogFormat::Text => {
                let text = String::from_utf8_lossy(line);
                let text = escape_controls(text.trim_end());
                output.send(format!("{text}\n").as_bytes());
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging, by default as text if standard error is a terminal and as JSON otherwise. Panics are logged too, but
/// without their text, which may contain secrets. The tests check that no library logs a secret at any level.
///
/// Dropping the returned guard writes the queued lines and waits for that at most about one second.
pub fn start(format: Option<LogFormat>) -> io::Result<OutputGuard> {
    let format = format.unwrap_or_else(|| {
        if io::stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    });
    let (output, guard) = Output::start(format)?;
    // A second call keeps the first output, as it keeps the first subscriber.
    let _ = OUTPUT.set(output);
    let requested = std::env::var("RUST_LOG").unwrap_or_default();
    let parsed = filter(&requested);
    let is_invalid = parsed.is_none() && !requested.is_empty();
    let mut filter = parsed.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    for directive in QUIET_TARGETS.into_iter().chain([http2_refusals::DIRECTIVE]) {
        if let Ok(directive) = directive.parse() {
            filter = filter.add_directive(directive);
        }
    }
    let started = tracing_subscriber::fmt()
        // Otherwise, if a log line cannot be written, the library reports that on standard error, and panics if that
        // fails, too.
        .log_internal_errors(false)
        .event_format(format)
        .fmt_fields(DefaultFields::new())
        .with_env_filter(filter)
        .with_writer(|| LineWriter)
        .finish()
        .with(Http2Refusals)
        .try_init();
    if is_invalid {
        let requested = truncate(&requested, MAX_TEXT_BYTES);
        tracing::warn!(
            value = requested,
            using = DEFAULT_FILTER,
            "invalid RUST_LOG ignored"
        );
    }
    if started.is_ok() {
        std::panic::set_hook(Box::new(|info| {
            let location = info.location().map(ToString::to_string);
            tracing::error!(location, "thread panicked");
        }));
    }
    Ok(guard)
}

/// Logs why the server failed, regardless of `RUST_LOG`.
pub(crate) fn fatal(error: &str) {
    if let Some(output) = OUTPUT.get() {
        let line = output
            .format()
            .line("ERROR", "server failed", "error", &error.into());
        let _ = LineWriter.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn filter_without_target_must_be_a_level() {
        for (text, fits) in [
            ("info", true),
            ("WARN", true),
            ("off", true),
            ("debug,hyper=info", true),
            ("useradmin::server=trace", true),
            ("", false),
            ("DEBG", false),
            ("verbose", false),
            ("a,,b=", false),
            ("hyper=loud", false),
        ] {
            assert_eq!(filter(text).is_some(), fits, "{text}");
        }
    }
}
