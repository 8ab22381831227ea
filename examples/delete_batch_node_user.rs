//! Deletes a local user of a compute node: over TLS, with a bearer token, and repeated where that may help.
//!
//! ```text
//! cargo run -- serve --sandbox --secure target/sandbox    # in a terminal of its own
//! cargo run --example delete_batch_node_user -- 127.0.0.1:50051 target/sandbox pool-1 node-idle alice
//! ```

use std::{env, error::Error, fs, path::Path, process::ExitCode, time::Duration};

use tokio::time::sleep;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tonic_types::StatusExt as _;
use useradmin::proto::{DeleteBatchNodeUserRequest, user_admin_client::UserAdminClient};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run() -> Result<String, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, folder, pool, node, user] = arguments.as_slice() else {
        return Err(
            "want HOST:PORT, the folder with ca.pem and token, a pool, a node and a user".into(),
        );
    };
    let user = DeleteBatchNodeUserRequest {
        pool_id: pool.clone(),
        node_id: node.clone(),
        user_name: user.clone(),
        // After an unknown outcome, a repetition must not fail because the first one has succeeded.
        allow_missing: true,
        ..DeleteBatchNodeUserRequest::default()
    };
    delete(server, Path::new(folder), user).await
}

/// What has happened to the user; or, as an error, why nothing has.
pub async fn delete(
    server: &str,
    folder: &Path,
    user: DeleteBatchNodeUserRequest,
) -> Result<String, Box<dyn Error>> {
    let read = |name: &str| {
        let text = fs::read_to_string(folder.join(name));
        text.map_err(|error| format!("{name}: {error}"))
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")?));
    let endpoint = Channel::from_shared(format!("https://{server}"))?.tls_config(tls)?;
    let token: MetadataValue<Ascii> = format!("Bearer {}", read("token")?.trim()).parse()?;
    let with_token = move |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
        Ok(request)
    };
    let mut client = UserAdminClient::with_interceptor(endpoint.connect().await?, with_token);
    for last in [false, false, true] {
        let mut request = Request::new(user.clone());
        request.set_timeout(Duration::from_secs(20));
        let status = match client.delete_batch_node_user(request).await {
            Ok(response) => return Ok(response.into_inner().outcome().as_str_name().to_owned()),
            Err(status) => status,
        };
        match delay(&status) {
            Some(delay) if !last => sleep(delay).await,
            _ => return Err(reason(&status).into()),
        }
    }
    Err("every attempt returns".into())
}

/// Where the same call may succeed later, `RetryInfo` says when. Where it is absent, a repetition is useless.
fn delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| status.code().to_string(), |info| info.reason)
}
