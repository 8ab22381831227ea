//! Two minimal servers to compare with: tonic on the caller's side; the pooled client of hyper-util or reqwest on the
//! upstream side. They only forward the DELETE request. Like the server, they use mimalloc and a release build.

use std::{fmt::Display, future::Future, mem, net::SocketAddr, process::Command};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tonic::{Request, Response, Status, transport::Server};
use useradmin::proto::{
    DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteHmcUserRequest,
    DeleteHmcUserResponse, DeleteOutcome,
    user_admin_server::{UserAdmin, UserAdminServer},
};

use crate::{
    cpus::SERVER_CPU,
    load::Endpoint,
    peer::{Peer, place},
};

/// The HTTP client of a baseline.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Client {
    HyperUtil,
    Reqwest,
}

impl Client {
    /// Returns the baseline's name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HyperUtil => "tonic + hyper-util",
            Self::Reqwest => "tonic + reqwest",
        }
    }
}

/// Command-line arguments of the process that runs a baseline.
#[derive(Args, Clone, Copy)]
pub struct Arguments {
    client: Client,
    listen: SocketAddr,
    upstream: SocketAddr,
}

/// Starts a baseline. `command` is this program, or a tool that runs this program.
pub fn start(
    runtime: &Runtime,
    mut command: Command,
    client: Client,
    upstream: SocketAddr,
) -> Peer {
    let (folder, address) = place();
    let value = client.to_possible_value().unwrap();
    command.args(["baseline", value.get_name()]);
    command.args([address.to_string(), upstream.to_string()]);
    let endpoint = Endpoint::new(address, None);
    Peer::start(
        runtime,
        client.name(),
        command,
        (folder, endpoint),
        &[SERVER_CPU],
    )
}

/// Runs a baseline until SIGTERM.
pub fn run(arguments: Arguments) {
    let Arguments {
        client,
        listen,
        upstream,
    } = arguments;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match client {
            Client::HyperUtil => serve(listen, upstream, hyper_util_client()).await,
            Client::Reqwest => serve(listen, upstream, reqwest_client()).await,
        }
    });
}

async fn serve(listen: SocketAddr, upstream: SocketAddr, client: impl Upstream) {
    let service = UserAdminServer::new(Facade { client, upstream });
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        served = Server::builder().add_service(service).serve(listen) => served.unwrap(),
        _ = terminate.recv() => {}
    }
}

/// Status and headers of a response whose body has been read.
type DeleteResult = Result<(StatusCode, HeaderMap), Status>;

trait Upstream: Send + Sync + 'static {
    fn delete_user(&self, url: String) -> impl Future<Output = DeleteResult> + Send;
}

type HyperUtil = legacy::Client<HttpConnector, Empty<Bytes>>;

fn hyper_util_client() -> HyperUtil {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    legacy::Client::builder(TokioExecutor::new()).build(connector)
}

impl Upstream for HyperUtil {
    async fn delete_user(&self, url: String) -> DeleteResult {
        let request = http::Request::builder().method(Method::DELETE).uri(url);
        let request = request.body(Empty::new()).map_err(unavailable)?;
        let (head, body) = self
            .request(request)
            .await
            .map_err(unavailable)?
            .into_parts();
        body.collect().await.map_err(unavailable)?;
        Ok((head.status, head.headers))
    }
}

fn reqwest_client() -> reqwest::Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Upstream for reqwest::Client {
    async fn delete_user(&self, url: String) -> DeleteResult {
        let mut response = self.delete(url).send().await.map_err(unavailable)?;
        let (status, headers) = (response.status(), mem::take(response.headers_mut()));
        response.bytes().await.map_err(unavailable)?;
        Ok((status, headers))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unavailable(error: impl Display) -> Status {
    Status::unavailable(error.to_string())
}

struct Facade<C> {
    client: C,
    upstream: SocketAddr,
}

#[tonic::async_trait]
impl<C: Upstream> UserAdmin for Facade<C> {
    async fn delete_batch_node_user(
        &self,
        request: Request<DeleteBatchNodeUserRequest>,
    ) -> Result<Response<DeleteBatchNodeUserResponse>, Status> {
        let user = request.into_inner();
        let url = format!(
            "http://{}/pools/{}/nodes/{}/users/{}?api-version=2023-11-01.18.0",
            self.upstream, user.pool_id, user.node_id, user.user_name
        );
        let (status, headers) = self.client.delete_user(url).await?;
        if status != StatusCode::OK {
            return Err(unavailable(status));
        }
        let id = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Response::new(DeleteBatchNodeUserResponse {
            outcome: DeleteOutcome::Deleted.into(),
            request_id: id("request-id").unwrap_or_default().to_owned(),
            client_request_id: id("client-request-id").unwrap_or_default().to_owned(),
            attempts: 1,
            validation: None,
        }))
    }

    async fn delete_hmc_user(
        &self,
        _: Request<DeleteHmcUserRequest>,
    ) -> Result<Response<DeleteHmcUserResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
