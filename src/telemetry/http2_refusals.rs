//! Reports the requests that h2 itself refuses, for example because `:authority` is not a host name. They reach no
//! code of the server, and h2 has no other interface for their reasons than its events at debug level.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Enables the events. At this level, h2 has no others there, and calls without a fault cause none.
pub const DIRECTIVE: &str = "h2::server=debug";
const TARGET: &str = "h2::server";

tokio::task_local! {
    /// Called with the reason of each refused request of the connection that the current task serves.
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
        // Outside of connections there is nothing to report.
        let _ = ON_REFUSAL.try_with(|report| report(&message.0));
        false
    }
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
