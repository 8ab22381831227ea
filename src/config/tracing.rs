//! Reads `[tracing]`.

use std::path::Path;

use super::{Tracing, diagnostics::Faults, reader::Section, references::roots, urls::Shape};
use crate::client_tls::Trust;

const ENDPOINT: &str = "otlp_endpoint";

/// `[tracing]`
pub fn tracing(file: &Section, folder: &Path, faults: &mut Faults) -> Tracing {
    let mut tracing = Tracing::default();
    let Some(section) = file.table("tracing", "tracing", faults) else {
        return tracing;
    };
    let insecure = section.flag("insecure", false, faults);
    tracing.roots = roots(&section, Trust::More, folder, faults);
    if let Some(ratio) = section.part("sample_ratio", faults) {
        tracing.sample_ratio = ratio;
    }
    tracing.collector = section.url(ENDPOINT, Shape::Origin, insecure, faults);
    tracing
}
