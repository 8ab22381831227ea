//! Errors that do not come from the service: connections, proxies, and deadlines.

use std::{convert::Infallible, error::Error as _, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::Empty;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::Code;
use useradmin_client::{Client, Error, ErrorReason, Outcome};
use useradmin_testkit::{App, Reply, Upstream, free_port, hmc_section};

use super::hmc_user;

/// An HTTP/2 proxy that gives each call this response, or none.
async fn proxy(response: Option<fn() -> Response<Empty<Bytes>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = service_fn(move |_| async move {
                match response {
                    Some(response) => Ok::<_, Infallible>(response()),
                    None => std::future::pending().await,
                }
            });
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), respond));
        }
    });
    address
}

/// A call that must fail, with a short deadline.
async fn fail(address: impl std::fmt::Display) -> Error {
    let builder = Client::builder(format!("http://{address}"));
    let client = builder.default_deadline(Duration::from_millis(500)).build();
    let failed = client.unwrap().delete_hmc_user(hmc_user("alice")).await;
    failed.unwrap_err()
}

#[tokio::test]
async fn a_connection_that_is_refused() {
    let error = fail(format!("127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::Unavailable, Outcome::NotSent)
    );
    assert_eq!((error.reason(), error.retry_after()), (None, None));
    assert!(error.source().is_some());
}

#[tokio::test]
async fn statuses_of_a_proxy() {
    let page = || Response::builder().status(503).body(Empty::new()).unwrap();
    let status = || {
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.header("grpc-status", "14");
        let response = response.header("grpc-message", "no healthy upstream");
        response.body(Empty::new()).unwrap()
    };
    let error = fail(proxy(Some(page)).await).await;
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::Unavailable, Outcome::Unknown)
    );
    let error = fail(proxy(Some(status)).await).await;
    assert_eq!(error.to_string(), "Unavailable: no healthy upstream");
    let Error::Transport(status) = error else {
        panic!("{error:?}");
    };
    assert_eq!(status.message(), "no healthy upstream");
}

/// The deadline expires in this process when nothing answers. At the service it expires 100 ms earlier.
#[tokio::test]
async fn deadlines_that_expire_here_and_at_the_service() {
    let error = fail(proxy(None).await).await;
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::DeadlineExceeded, Outcome::Unknown)
    );

    let upstream = Upstream::start(|_| Reply::Hang).await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let error = fail(app.address).await;
    assert_eq!(error.reason(), Some(ErrorReason::DeadlineExceeded));
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::DeadlineExceeded, Outcome::NotSent)
    );
    assert!(error.retry_after().is_some());
}
