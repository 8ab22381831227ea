//! Reports the requests that h2 itself refuses, for example because `:authority` is not a host name. Such requests
//! reach no code of the server, and h2 exposes the reasons only as events at debug level.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Filter directive that enables these events. `h2::server` emits no other events at the debug level, and calls
/// without a fault cause none.
pub const DIRECTIVE: &str = "h2::server=debug";
const TARGET: &str = "h2::server";

tokio::task_local! {
    /// Function that is called with the reason of each refused request on the connection that the current task
    /// serves.
    pub static ON_REFUSAL: Box<dyn Fn(&str) + Send + Sync>;
}

/// Passes h2's events to [`ON_REFUSAL`] and keeps them out of the log.
pub struct Http2Refusals;

impl<S: Subscriber> Layer<S> for Http2Refusals {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() != TARGET || *metadata.level() != Level::DEBUG {
            return true;
        }
        let mut message = Message::default();
        event.record(&mut message);
        // Outside of a connection, `ON_REFUSAL` is not set and there is nothing to report.
        let _ = ON_REFUSAL.try_with(|report| report(&without_secrets(&message.0)));
        false
    }
}

/// Returns the message without possible secrets in the part of a request that h2 quotes as `(b"...")`: the user and
/// password of an authority, and the query and fragment of a path. Percent-encoded delimiters are recognized, too.
fn without_secrets(message: &str) -> String {
    let quoted = message.split_once("(b\"").and_then(|(before, rest)| {
        let (value, after) = rest.rsplit_once("\"): ")?;
        Some((before, value, after))
    });
    let Some((before, value, after)) = quoted else {
        return message.to_owned();
    };
    let first = ["?", "#", "%3f", "%3F", "%23"].map(|mark| value.find(mark));
    let end = first.into_iter().flatten().min().unwrap_or(value.len());
    let last = ["@", "%40"].map(|mark| value.rfind(mark).map(|at| at + mark.len()));
    let start = last.into_iter().flatten().max().unwrap_or(0);
    // The range is empty if `start` is after `end`: a delimiter may be part of a secret of the other kind.
    let shown = value.get(start..end).unwrap_or_default();
    format!("{before}(b\"{shown}\"): {after}")
}

/// The message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
