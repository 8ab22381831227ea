//! `useradmin health`: checks the health of a server, for example for the health check of a container.

use std::{error::Error, iter, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Uri},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;
use url::Url;

use super::{exit::fail, run::DEFAULT_ADDRESS};
use crate::{
    certificates::refusal::PLAINTEXT,
    client_tls::{self, Trust},
    config::pem,
    grpc_client,
};

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct Health {
    /// The address of the server.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "USERADMIN_HEALTH_ADDR",
        hide_env = true,
        default_value = DEFAULT_ADDRESS,
        value_parser = host_and_port
    )]
    addr: String,
    /// The authority of the server's certificate, or the certificate itself, in PEM [default: plaintext].
    #[arg(
        long,
        value_name = "FILE",
        env = "USERADMIN_HEALTH_CA_FILE",
        hide_env = true
    )]
    ca_file: Option<PathBuf>,
    /// The name in the server's certificate [default: the host of --addr].
    #[arg(
        long,
        value_name = "NAME",
        env = "USERADMIN_HEALTH_SERVER_NAME",
        hide_env = true,
        requires = "ca_file"
    )]
    server_name: Option<String>,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    fits.then(|| text.to_owned())
        .ok_or_else(|| "must be HOST:PORT, such as 127.0.0.1:50051".to_owned())
}

/// Checks the health of the server. Returns exit code 0 if the server is serving, and otherwise prints the cause and
/// returns 1.
pub async fn run(arguments: Health) -> ExitCode {
    let address = arguments.addr.clone();
    match timeout(TIMEOUT, check(arguments)).await {
        Ok(Ok(ServingStatus::Serving)) => ExitCode::SUCCESS,
        Ok(Ok(status)) => fail(status.as_str_name(), 1),
        Ok(Err(error)) => fail(&format!("{address}: {error}"), 1),
        Err(_) => fail(&format!("{address}: no response in time"), 1),
    }
}

async fn check(arguments: Health) -> Result<ServingStatus, String> {
    let plaintext = arguments.ca_file.is_none();
    let mut client = HealthClient::new(connect(arguments).await?);
    match client.check(HealthCheckRequest::default()).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        // The server responds, but has no health service.
        Err(status) if status.code() == Code::Unimplemented => Err("no health service".to_owned()),
        Err(_) if plaintext => {
            Err("no response in plaintext; a server with TLS requires --ca-file".to_owned())
        }
        Err(status) => Err(status.code().to_string()),
    }
}

async fn connect(arguments: Health) -> Result<Channel, String> {
    let endpoint = grpc_client::endpoint(&arguments.addr)?;
    let Some(ca_file) = &arguments.ca_file else {
        return endpoint.connect().await.map_err(|error| causes(&error));
    };
    let url = format!("https://{}", arguments.addr);
    let url = Url::parse(&url).map_err(|error| error.to_string())?;
    let (named, _) =
        pem::roots(ca_file, Trust::ReplaceSystem).map_err(|fault| format!("--ca-file {fault}"))?;
    let tls = client_tls::config(&url, Trust::ReplaceSystem, &named, &[b"h2"])?;
    let host = url.host_str().unwrap_or_default();
    let name = arguments.server_name.as_deref().unwrap_or(host);
    let name = grpc_client::server_name(name).map_err(|error| format!("--server-name: {error}"))?;
    let connector = TlsConnector::from(Arc::new(tls));
    let connect = service_fn(move |_: Uri| {
        grpc_client::connect(arguments.addr.clone(), connector.clone(), name.clone())
    });
    let connected = endpoint.connect_with_connector(connect).await;
    connected.map_err(|error| causes(&error))
}

/// Returns the causes of an error whose own text is only "transport error". Causes that repeat others are omitted.
fn causes(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |cause| (*cause).source());
    let mut texts: Vec<String> = Vec::new();
    for cause in causes.map(ToString::to_string) {
        if !texts.iter().any(|before| before.contains(&cause)) {
            texts.push(cause);
        }
    }
    let text = texts.join(": ");
    if text.contains(PLAINTEXT) {
        return "the server does not use TLS; omit --ca-file".to_owned();
    }
    text
}
