//! The formats of `/metrics`, and the choice between them by the `Accept` headers of a request.

use std::fmt::Write as _;

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Returns whether the server can send this version of a format. Readers of `OpenMetrics` 0.0.1 read 1.0.0.
fn is_supported(format: &str, version: &str) -> bool {
    match format {
        OPEN_METRICS => matches!(version, "0.0.1" | "1.0.0"),
        _ => version == "0.0.4",
    }
}

/// A text format that Prometheus reads.
#[derive(Clone, Copy)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus' own text format, version 0.0.4.
    Text,
}

impl Format {
    /// Returns the format that these `Accept` headers request (RFC 9110, section 12.5.1): `OpenMetrics` only if it
    /// has a higher weight than the text format.
    pub fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let ranges = headers.flat_map(|header| header.split(','));
        let ranges: Vec<_> = ranges.filter_map(media_range).collect();
        let weight = |name| {
            let same = ranges.iter().filter(|(other, _)| other == name);
            same.map(|(_, weight)| *weight).reduce(f32::max)
        };
        let open_metrics = weight(OPEN_METRICS);
        // The weight of the most specific media range applies.
        let text = ["text/plain", "text/*", "*/*"].into_iter().find_map(weight);
        if open_metrics.unwrap_or(0.0) > text.unwrap_or(0.0) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts metrics from `OpenMetrics` text to this format.
    pub fn convert(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// Returns the name and weight of a media range, unless it requests a version that the server cannot send.
fn media_range(range: &str) -> Option<(String, f32)> {
    let range = range.to_ascii_lowercase();
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next()?.to_owned();
    let mut weight = 1.0;
    for part in parts {
        match part.split_once('=') {
            // An invalid weight counts as 0.
            Some(("q", value)) => weight = value.parse().unwrap_or(0.0),
            Some(("version", version)) => {
                let version = version.trim_matches('"');
                is_supported(&name, version).then_some(())?;
            }
            _ => {}
        }
    }
    let valid = (0.0..=1.0).contains(&weight);
    Some((name, if valid { weight } else { 0.0 }))
}

/// Converts `OpenMetrics` to the text format: metric families get the names of their samples, `info` becomes a gauge,
/// and `# UNIT` and `# EOF` are dropped. Exemplars need no conversion, because the server emits none.
fn text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ');
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap_or((family, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" | "summary" => ("", kind),
                _ => ("", "untyped"),
            };
            // Writing to a string cannot fail.
            if let Some((_, help)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
