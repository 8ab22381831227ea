//! Deletes a user of an HMC over TLS, authenticated with a client certificate, and handles errors by their reason.
//!
//! ```text
//! cargo run -- serve --sandbox --secure target/sandbox    # in a second terminal
//! cargo run --example delete_hmc_user -- https://127.0.0.1:50051 target/sandbox template-in-use
//! ```

use std::{env, error::Error as StdError, fs, path::Path};

use useradmin_client::{
    Client, Error, ErrorReason, UpstreamError,
    proto::{DeleteHmcUserRequest, delete_hmc_user_request::User},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, folder, user] = arguments.as_slice() else {
        return Err("usage: delete_hmc_user URL FOLDER USER".into());
    };
    println!("{}", delete(server, Path::new(folder), user).await?);
    Ok(())
}

/// Deletes the user with one call. Returns the outcome, or advice on how to resolve the error.
pub async fn delete(server: &str, folder: &Path, user: &str) -> Result<String, Box<dyn StdError>> {
    let read = |name| fs::read(folder.join(name));
    let client = Client::builder(server)
        .ca_certificate(read("ca.pem")?)
        .client_certificate(read("client.pem")?, read("client.key")?)
        .build()?;
    // The alias of the HMC can be omitted if only one HMC is configured.
    let request = DeleteHmcUserRequest {
        user: Some(User::UserName(user.to_owned())),
        allow_missing: true,
        ..DeleteHmcUserRequest::default()
    };
    let error = match client.delete_hmc_user(request).await {
        Ok(response) => return Ok(response.get_ref().outcome().as_str_name().to_owned()),
        Err(Error::Service(error)) => error,
        Err(error) => return Err(error.into()),
    };
    Ok(match (error.reason, error.upstream) {
        (ErrorReason::TemplateUserInUse, Some(UpstreamError::Hmc(hmc))) => {
            format!("remove the users that refer to it first: {}", hmc.message)
        }
        _ => match error.retry_after {
            Some(delay) => format!("the same call may succeed after {delay:?}"),
            None => format!("the same call would fail again: {}", error.reason_name),
        },
    })
}
