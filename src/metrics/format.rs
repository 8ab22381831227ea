//! The formats of `/metrics`, and which of them a scraper asks for.

use std::fmt::Write as _;

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus' own text format, version 0.0.4.
    Text,
}

impl Format {
    /// Returns the format that these `Accept` headers ask for (RFC 9110, section 12.5.1): `OpenMetrics` only where it has
    /// a higher weight than the text format.
    pub fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        // Of the ranges that match the text format, the most specific one counts.
        let mut specific = 0;
        for range in headers.flat_map(|header| header.split(',')) {
            let mut parts = range
                .split(';')
                .map(|part| part.trim().to_ascii_lowercase());
            let name = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0, None);
            for part in parts {
                match part.split_once('=') {
                    // A weight that is not valid counts as 0.
                    Some(("q", value)) => weight = weight_of(value),
                    Some(("version", value)) => version = Some(value.trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            let version = version.as_deref();
            match &*name {
                "application/openmetrics-text"
                    if matches!(version, None | Some("1.0.0" | "0.0.1")) =>
                {
                    open_metrics = f32::max(open_metrics, weight);
                }
                "text/plain" if matches!(version, None | Some("0.0.4")) => {
                    text = if specific < 3 {
                        weight
                    } else {
                        text.max(weight)
                    };
                    specific = 3;
                }
                "text/*" if specific < 2 => (specific, text) = (2, weight),
                "*/*" if specific < 1 => (specific, text) = (1, weight),
                _ => {}
            }
        }
        if open_metrics > text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns these metrics, which are encoded as `OpenMetrics`, in this format.
    #[must_use]
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// Returns a weight from 0 to 1, or 0 where `text` is not one.
fn weight_of(text: &str) -> f32 {
    let weight = text.trim().parse().ok();
    weight
        .filter(|weight| (0.0..=1.0).contains(weight))
        .unwrap_or_default()
}

/// Converts `OpenMetrics` to the text format: families have the names of their samples, `info` is a gauge, and
/// `# UNIT` and `# EOF` are dropped. The server emits no exemplars.
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

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn the_format_is_what_the_scraper_prefers() {
        const OPEN: &str = "application/openmetrics-text";
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        const TELEGRAF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (headers, open_metrics) in [
            (&[][..], false),
            (&[""], false),
            (&["*/*"], false),
            (&["text/html, */*"], false),
            (&["application/*"], false),
            (&["text/plain;version=0.0.4"], false),
            (&[TELEGRAF], false),
            (&[PROMETHEUS], true),
            (&[OPEN], true),
            (
                &["APPLICATION/OpenMetrics-Text; Version=1.0.0; charset=utf-8"],
                true,
            ),
            (&["application/openmetrics-text; version=\"0.0.1\""], true),
            (&["application/openmetrics-text; version=2.0.0"], false),
            (&["application/openmetrics-text; q=0"], false),
            (
                &["application/openmetrics-text; q=0.000, text/plain"],
                false,
            ),
            (
                &["application/openmetrics-text; q=0.4, text/plain; q=0.5"],
                false,
            ),
            (
                &["application/openmetrics-text; q=0.5, text/plain; q=0.4"],
                true,
            ),
            (
                &["application/openmetrics-text; q=0.5, text/plain; q=0"],
                true,
            ),
            (&["application/openmetrics-text, text/plain"], false),
            (&["application/openmetrics-text, */*"], false),
            (&["application/openmetrics-text, */*; q=0.1"], true),
            (&["application/openmetrics-text; q=0.5, text/*"], false),
            (&["application/openmetrics-text; q=0.5, */*"], false),
            (
                &["application/openmetrics-text; q=0.5, */*, text/plain; q=0.1"],
                true,
            ),
            (&["application/openmetrics-text; q=x"], false),
            (&["application/openmetrics-text; q=7"], false),
            (&["application/openmetrics-text; q=NaN"], false),
            (&[";;,=,;q=1", OPEN], true),
            (
                &["text/plain; q=0.3", "application/openmetrics-text; q=0.6"],
                true,
            ),
            (
                &["text/plain; q=0.6", "application/openmetrics-text; q=0.3"],
                false,
            ),
        ] {
            let expected = if open_metrics {
                Format::OpenMetrics
            } else {
                Format::Text
            };
            assert_eq!(
                Format::accepted(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn open_metrics_becomes_the_text_format() {
        let open_metrics = "# HELP a_seconds A \\\\ back.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{x=\"# EOF\"} 1\n\
            # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP h H.\n# TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n\
            # HELP g G.\n# TYPE g gauge\ng 1\n# HELP u U.\n# TYPE u unknown\nu 1\n# EOF\n";
        let text = "# HELP a_seconds_total A \\\\ back.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"# EOF\"} 1\n\
            # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP h H.\n# TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n\
            # HELP g G.\n# TYPE g gauge\ng 1\n# HELP u U.\n# TYPE u untyped\nu 1\n";
        assert_eq!(Format::Text.of(open_metrics.to_owned()), text);
        assert_eq!(
            Format::OpenMetrics.of(open_metrics.to_owned()),
            open_metrics
        );
    }
}
