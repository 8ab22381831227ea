//! Deletes a user of an HMC: over TLS, with a client certificate, a deadline, and an error that is read to its end.
//!
//! ```text
//! cargo run -- serve --sandbox --secure target/sandbox    # in a terminal of its own
//! cargo run --example delete_hmc_user -- 127.0.0.1:50051 target/sandbox template-in-use
//! ```

use std::{env, error::Error, fs, path::Path, process::ExitCode, time::Duration};

use prost::Message as _;
use tonic::{
    Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_types::StatusExt as _;
use useradmin::proto::{
    DeleteHmcUserRequest, ErrorReason, HmcError, delete_hmc_user_request::User,
    user_admin_client::UserAdminClient,
};

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
    let [server, folder, user] = arguments.as_slice() else {
        return Err(
            "want HOST:PORT, the folder with ca.pem, client.pem and client.key, and a user's name"
                .into(),
        );
    };
    delete(server, Path::new(folder), user).await
}

/// What has happened to the user; or, as an error, why nothing has.
pub async fn delete(server: &str, folder: &Path, user: &str) -> Result<String, Box<dyn Error>> {
    let mut client = UserAdminClient::new(connect(server, folder).await?);
    let mut request = Request::new(DeleteHmcUserRequest {
        user: Some(User::UserName(user.to_owned())),
        // With a single HMC configured, its name can be left out. A user who is not there is fine.
        allow_missing: true,
        ..DeleteHmcUserRequest::default()
    });
    request.set_timeout(Duration::from_secs(20));
    match client.delete_hmc_user(request).await {
        Ok(response) => {
            let response = response.into_inner();
            let outcome = response.outcome().as_str_name();
            Ok(format!("{}: {outcome}", response.user_id))
        }
        Err(status) => Err(explain(&status).into()),
    }
}

async fn connect(server: &str, folder: &Path) -> Result<Channel, Box<dyn Error>> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")?))
        .identity(Identity::from_pem(read("client.pem")?, read("client.key")?));
    let endpoint = Channel::from_shared(format!("https://{server}"))?.tls_config(tls)?;
    Ok(endpoint.connect().await?)
}

/// The reason decides what to do; the HMC's own words are for people.
fn explain(status: &Status) -> String {
    // Every error of this service has it; without, the network or a proxy has ended the call.
    let Some(info) = status.get_details_error_info() else {
        return status.to_string();
    };
    let advice = match ErrorReason::from_str_name(&info.reason) {
        Some(ErrorReason::TemplateUserInUse) => "remove the users that refer to it first",
        // A delete was sent, and nobody knows what became of it.
        Some(ErrorReason::OutcomeUnknown) => "repeat the call: `allow_missing` makes that exact",
        _ if status.get_details_retry_info().is_some() => "the same call may succeed later",
        _ => "the same call will fail again",
    };
    let words = hmc_error(status).map_or_else(String::new, |error| {
        format!(
            " (the HMC says {}/{}: {})",
            error.http_status, error.reason, error.message
        )
    });
    format!("{}: {advice}{words}", info.reason)
}

/// `tonic-types` knows the standard details alone; others are found by their type.
fn hmc_error(status: &Status) -> Option<HmcError> {
    let details = tonic_types::pb::Status::decode(status.details())
        .ok()?
        .details;
    let ours = details
        .iter()
        .find(|any| any.type_url.ends_with("/useradmin.v1.HmcError"))?;
    HmcError::decode(&*ours.value).ok()
}
