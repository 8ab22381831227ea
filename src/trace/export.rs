//! Sends spans to an OpenTelemetry collector, by OTLP over gRPC, in a separate thread. Calls never wait for the
//! export: spans are dropped while the queue of the exporter is full.

use std::{
    env,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, ResourceDetector as _, TelemetryResourceDetector},
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION},
};
use rustls::ClientConfig;
use tokio::task::spawn_blocking;
use url::Url;
use uuid::Uuid;

use crate::{
    client_tls::{self, Trust},
    config::{Roots, Tracing},
    grpc_client::{self, Tls},
};

/// Time limit for sending the last spans at shutdown. The sessions on upstreams are closed at the same time.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Default time limit of a request to the collector (OpenTelemetry, "OTLP Exporter").
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The running export. It is set once, if the configuration names a collector.
static ACTIVE_EXPORT: OnceLock<ActiveExport> = OnceLock::new();

struct ActiveExport {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    collector: Url,
    ca_file: Option<PathBuf>,
    /// TLS configuration, which is replaced when the authorities change; `None` for a plaintext connection.
    tls: Option<Tls>,
}

/// Returns the tracer that creates spans, or `None` if spans are not exported.
pub(super) fn tracer() -> Option<&'static SdkTracer> {
    ACTIVE_EXPORT.get().map(|export| &export.tracer)
}

/// Starts the export if the configuration names a collector, which need not be reachable. Returns an error if the TLS
/// configuration or the exporter cannot be created, or if the export is already running.
pub fn start(config: Option<&Tracing>) -> Result<(), String> {
    let Some(config) = config else {
        return Ok(());
    };
    let collector = &config.collector;
    let tls = tls(collector, &config.roots)?;
    let tls = tls.map(|tls| Arc::new(ArcSwap::from_pointee(tls)));
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(grpc_client::lazy(collector, tls.clone(), timeout())?)
        .build()
        .map_err(|error| error.to_string())?;
    let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource())
        .build();
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build();
    let export = ActiveExport {
        tracer: provider.tracer_with_scope(scope),
        provider,
        collector: collector.clone(),
        ca_file: config.roots.file.clone(),
        tls,
    };
    let set = ACTIVE_EXPORT.set(export);
    set.map_err(|_| "spans are exported already".to_owned())
}

/// Returns the time limit of a request to the collector. The exporter itself has none.
fn timeout() -> Duration {
    let millis = env::var("OTEL_EXPORTER_OTLP_TIMEOUT").ok();
    let millis = millis.and_then(|text| text.trim().parse().ok());
    millis.map_or(DEFAULT_TIMEOUT, Duration::from_millis)
}

fn tls(collector: &Url, roots: &Roots) -> Result<Option<ClientConfig>, String> {
    if collector.scheme() != "https" {
        return Ok(None);
    }
    client_tls::config(collector, Trust::AddToSystem, &roots.certificates, &[b"h2"]).map(Some)
}

/// Replaces the trusted authorities by the current content of the same file. A different file takes effect at a
/// restart. Returns an error if no TLS configuration can be created from the authorities.
pub fn prepare_roots(config: Option<&Tracing>) -> Result<(), String> {
    let (Some(config), Some(export)) = (config, ACTIVE_EXPORT.get()) else {
        return Ok(());
    };
    if let Some(current) = &export.tls
        && config.roots.file == export.ca_file
        && let Some(tls) = tls(&export.collector, &config.roots)?
    {
        current.store(Arc::new(tls));
    }
    Ok(())
}

/// Returns the resource attributes of this process. Environment variables take precedence.
fn resource() -> Resource {
    let own = [
        KeyValue::new(SERVICE_NAME, env!("CARGO_PKG_NAME")),
        KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        KeyValue::new(SERVICE_INSTANCE_ID, Uuid::new_v4().to_string()),
    ];
    let environment = EnvResourceDetector::new().detect();
    let environment = environment
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let name = env::var("OTEL_SERVICE_NAME").ok();
    let name = name.filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_schema_url(own, SCHEMA_URL)
        .with_attributes(environment)
        .with_attributes(name.map(|name| KeyValue::new(SERVICE_NAME, name)))
        .build()
}

/// Sends the remaining spans and stops the export. Logs a warning if this fails or takes longer than 2 seconds.
pub async fn shutdown() {
    let Some(export) = ACTIVE_EXPORT.get() else {
        return;
    };
    let flushed = spawn_blocking(|| export.provider.shutdown_with_timeout(FLUSH_TIMEOUT));
    let error = match flushed.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(error, "last spans not exported");
}
