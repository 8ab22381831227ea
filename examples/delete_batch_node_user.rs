//! Deletes a user of a compute node over TLS, authenticated with a bearer token, and retries if the error permits it.
//!
//! ```text
//! cargo run -- serve --sandbox --secure target/sandbox    # in a second terminal
//! cargo run --example delete_batch_node_user -- https://127.0.0.1:50051 target/sandbox pool-1 node-idle alice
//! ```

use std::{env, error::Error as StdError, fs, path::Path};

use tokio::time::sleep;
use useradmin_client::{Client, Error, proto::DeleteBatchNodeUserRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, folder, pool, node, user] = arguments.as_slice() else {
        return Err("usage: delete_batch_node_user URL FOLDER POOL NODE USER".into());
    };
    let request = DeleteBatchNodeUserRequest {
        pool_id: pool.clone(),
        node_id: node.clone(),
        user_name: user.clone(),
        // If the outcome of the first call is unknown, the second one may find the user absent.
        allow_missing: true,
        ..DeleteBatchNodeUserRequest::default()
    };
    let folder = Path::new(folder);
    let client = Client::builder(server)
        .ca_certificate(fs::read(folder.join("ca.pem"))?)
        .bearer_token_file(folder.join("token"))
        .build()?;
    println!("{}", delete(&client, &request).await?);
    Ok(())
}

/// Deletes the user with up to three calls. Returns the outcome.
pub async fn delete(
    client: &Client,
    request: &DeleteBatchNodeUserRequest,
) -> Result<String, Error> {
    let mut calls = 1;
    loop {
        let error = match client.delete_batch_node_user(request.clone()).await {
            Ok(response) => return Ok(response.get_ref().outcome().as_str_name().to_owned()),
            Err(error) => error,
        };
        match error.retry_after() {
            Some(delay) if calls < 3 => sleep(delay).await,
            _ => return Err(error),
        }
        calls += 1;
    }
}
