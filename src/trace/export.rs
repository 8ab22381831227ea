//! Sends spans to an OpenTelemetry collector, by OTLP over gRPC, in a thread of its own. Calls never wait for it: what
//! does not fit its queue is dropped.

use std::{env, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, ResourceDetector as _},
    trace::{Sampler, SdkTracerProvider},
};
use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::TRACER;
use crate::{
    channel,
    config::Tracing,
    upstream::tls::{self, Trust},
};

/// How long the last spans may take to leave: a stop has other things to wait for.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Spans are exported for as long as this lives.
pub struct Exporting(SdkTracerProvider);

/// Begins to export, if the configuration names a collector. Nothing waits for it to be there.
pub fn start(config: &Tracing) -> Result<Option<Exporting>, String> {
    let Some(collector) = &config.collector else {
        return Ok(None);
    };
    let tls = match collector.scheme() {
        "https" => Some(tls::config(
            collector,
            Trust::More,
            &config.roots.certificates,
            &[b"h2"],
        )?),
        _ => None,
    };
    let channel = channel::lazy(collector, tls)?;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .build()
        .map_err(|error| error.to_string())?;
    let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource())
        .build();
    let scope = opentelemetry::InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build();
    if TRACER.set(provider.tracer_with_scope(scope)).is_err() {
        return Err("spans are exported already".to_owned());
    }
    Ok(Some(Exporting(provider)))
}

/// What runs here. The environment has the last word, as everywhere in OpenTelemetry.
fn resource() -> Resource {
    let own = [
        KeyValue::new(SERVICE_NAME, env!("CARGO_PKG_NAME")),
        KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        KeyValue::new(SERVICE_INSTANCE_ID, Uuid::new_v4().to_string()),
    ];
    let told = EnvResourceDetector::new().detect();
    let told = told
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let name = env::var("OTEL_SERVICE_NAME").ok();
    let name = name.filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_schema_url(own, SCHEMA_URL)
        .with_attributes(told)
        .with_attributes(name.map(|name| KeyValue::new(SERVICE_NAME, name)))
        .build()
}

impl Exporting {
    /// Sends what is left.
    pub async fn end(self) {
        let flushed = spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_TIMEOUT));
        match flushed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not exported"),
            Err(error) => tracing::warn!(%error, "the last spans were not exported"),
        }
    }
}
