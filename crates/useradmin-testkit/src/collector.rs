//! A substitute for an OpenTelemetry collector: receives spans by OTLP over gRPC and decodes them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{canary, pki};

/// The export requests received so far, and whether the collector responds.
#[derive(Clone, Default)]
pub struct Received {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    /// Whether requests are left without a response.
    hangs: Arc<AtomicBool>,
}

/// A decoded span, with its attributes as text.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    pub name: String,
    pub kind: i32,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// Status code: 0 unset, 1 OK, 2 error.
    pub status: i32,
    pub attributes: BTreeMap<String, String>,
}

/// A running collector.
pub struct Collector {
    pub address: SocketAddr,
    received: Received,
    server_task: JoinHandle<()>,
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        canary::check("a span", &format!("{request:?}"));
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.requests.lock().unwrap().push(request);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}

impl From<&Span> for ReceivedSpan {
    fn from(span: &Span) -> Self {
        Self {
            name: span.name.clone(),
            kind: span.kind,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            status: span.status.as_ref().map_or(0, |status| status.code),
            attributes: texts(&span.attributes),
        }
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(Server::builder()).await
    }

    /// Starts a collector that serves TLS with this certificate.
    pub async fn secure(certificate: &pki::Identity) -> Self {
        let identity = Identity::from_pem(certificate.pem(), certificate.key_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve(Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(mut server: Server) -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(received.clone());
        let router = server.add_service(service);
        let server_task = router.serve_with_incoming(TcpIncoming::from(listener));
        let server_task = tokio::spawn(async move { server_task.await.unwrap() });
        Self {
            address,
            received,
            server_task,
        }
    }

    /// Sets whether requests are left without a response.
    pub fn hang(&self, hangs: bool) {
        self.received.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Returns all spans received so far, in the order in which they ended.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let received = self.received.requests.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let spans = scopes.flat_map(|scope| &scope.spans);
        spans.map(ReceivedSpan::from).collect()
    }

    /// Returns the resource attributes of the first spans, which describe the program that sends them.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let received = self.received.requests.lock().unwrap();
        let resource = received[0].resource_spans[0].resource.clone();
        texts(&resource.unwrap().attributes)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server_task.abort();
    }
}
