//! Reads `[tracing]`.

use std::path::Path;

use super::{
    Tracing,
    fault::Faults,
    section::Section,
    targets::{origin, roots},
};

const ENDPOINT: &str = "otlp_endpoint";

/// `[tracing]`
pub fn tracing(file: &Section, folder: &Path, faults: &mut Faults) -> Tracing {
    let mut tracing = Tracing::default();
    let Some(section) = file.table("tracing", "tracing", faults) else {
        return tracing;
    };
    let insecure = section.flag("insecure", false, faults);
    tracing.roots = roots(&section, folder, faults);
    if let Some(ratio) = section.part("sample_ratio", faults) {
        tracing.sample_ratio = ratio;
    }
    let text = section.required(ENDPOINT, faults);
    if let Some(text) = text {
        match origin(&text.value, insecure) {
            Ok(url) => tracing.collector = Some(url),
            Err(fault) => faults.add(text.span, format!("`{ENDPOINT}` {fault}")),
        }
    }
    tracing
}
