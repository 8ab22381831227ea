//! Logs: JSON lines on standard error, `info` unless `RUST_LOG` says otherwise.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

const DEFAULT: &str = "info";

/// A level, or `target=level` with commas between; anything else would silence the server without a word.
fn filter(text: &str) -> Option<EnvFilter> {
    let level = |text: &str| text.parse::<LevelFilter>().is_ok();
    let fits = text.split(',').all(|part| match part.rsplit_once('=') {
        Some((target, wanted)) => !target.is_empty() && level(wanted),
        None => !part.is_empty() && level(part),
    });
    fits.then(|| EnvFilter::try_new(text).ok()).flatten()
}

/// Starts logging. Panics are logged like everything else, so that every line stays JSON.
pub fn start() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let understood = filter(&wanted);
    let unknown = understood.is_none() && !wanted.is_empty();
    let filter = understood.unwrap_or_else(|| EnvFilter::new(DEFAULT));
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would tell on standard error that standard error cannot be written, and panic.
        .log_internal_errors(false)
        .try_init();
    if unknown {
        tracing::warn!(wanted, using = DEFAULT, "RUST_LOG is not understood");
    }
    if started.is_ok() {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            tracing::error!(place, "a panic");
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn what_is_no_level_is_not_taken_for_a_target() {
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
