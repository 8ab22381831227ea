//! Errors that do not come from the service: connections, proxies and deadlines.

use std::{error::Error as _, time::Duration};

use tonic::Code;
use useradmin_client::{Client, Error, ErrorReason, Outcome};
use useradmin_testkit::{App, Reply, Settings, Upstream, free_port, hmc_section};

use super::hmc_user;

/// Starts an HTTP/2 proxy that sends this reply to each call.
async fn proxy(reply: Reply) -> Upstream {
    let settings = Settings {
        prior_knowledge: true,
        ..Settings::default()
    };
    Upstream::start_with(settings, move |_| reply.clone()).await
}

/// Makes a call with a short deadline, and returns its error.
async fn delete_error(url: &str) -> Error {
    let builder = Client::builder(url.to_owned());
    let client = builder.default_deadline(Duration::from_millis(500)).build();
    let failure = client.unwrap().delete_hmc_user(hmc_user("alice")).await;
    failure.unwrap_err()
}

#[tokio::test]
async fn refused_connection_is_reported() {
    let error = delete_error(&format!("http://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::Unavailable, Outcome::NotSent)
    );
    assert_eq!((error.reason(), error.retry_after()), (None, None));
    assert!(error.source().is_some());
}

#[tokio::test]
async fn proxy_statuses_are_reported() {
    let page = proxy(Reply::empty(503)).await;
    let reply = Reply::empty(200).with_header("content-type", "application/grpc");
    let reply = reply
        .with_header("grpc-status", "14")
        .with_header("grpc-message", "no healthy upstream");
    let status = proxy(reply).await;
    let error = delete_error(&page.url).await;
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::Unavailable, Outcome::Unknown)
    );
    let error = delete_error(&status.url).await;
    assert_eq!(error.to_string(), "Unavailable: no healthy upstream");
    let Error::Transport(status) = error else {
        panic!("{error:?}");
    };
    assert_eq!(status.message(), "no healthy upstream");
}

/// If there is no response, the deadline expires in the client. At the service it expires 100 ms earlier.
#[tokio::test]
async fn expired_deadlines_are_reported() {
    let silent = proxy(Reply::Hang).await;
    let error = delete_error(&silent.url).await;
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::DeadlineExceeded, Outcome::Unknown)
    );

    let upstream = Upstream::start(|_| Reply::Hang).await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let error = delete_error(&format!("http://{}", app.address)).await;
    assert_eq!(error.reason(), Some(ErrorReason::DeadlineExceeded));
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::DeadlineExceeded, Outcome::NotSent)
    );
    assert!(error.retry_after().is_some());
}
