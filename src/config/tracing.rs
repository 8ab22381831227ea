//! Reads `[tracing]`.

use std::path::Path;

use url::Url;

use super::{
    Tracing,
    fault::Faults,
    section::Section,
    targets::{origin, roots},
};
use crate::channel;

const ENDPOINT: &str = "otlp_endpoint";

/// A host that a certificate can name.
fn named(url: Url) -> Result<Url, String> {
    match channel::server_name(url.host_str().unwrap_or_default()) {
        Ok(_) => Ok(url),
        Err(error) => Err(format!("has a host that cannot be used: {error}")),
    }
}

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
        match origin(&text.value, insecure).and_then(named) {
            Ok(url) => tracing.collector = Some(url),
            Err(fault) => faults.add(text.span, format!("`{ENDPOINT}` {fault}")),
        }
    }
    tracing
}
