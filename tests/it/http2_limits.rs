//! HTTP/2 streams within their limits, and trailers that the libraries of all clients can read.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{net::TcpStream, sync::Barrier};
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, Reply, SecureClient, Upstream, batch_deleted, batch_document, batch_request,
    batch_response, batch_section, delete_by_name, hmc_reply_or, hmc_section, start_batch,
    token_reply_or,
};

/// The first 100 DELETEs wait for each other and for the test; later ones do not.
#[tokio::test]
async fn connection_allows_100_concurrent_streams() {
    let (together, mut count) = (Arc::new(Barrier::new(101)), 0);
    let all_there = Arc::clone(&together);
    let upstream = Upstream::start(move |received| {
        token_reply_or(received, || {
            if received.method == "GET" {
                return batch_response(200, r#"{"state":"idle"}"#);
            }
            count += 1;
            match count {
                1..=100 => Reply::AtBarrier(Arc::clone(&all_there), Box::new(batch_deleted())),
                _ => batch_deleted(),
            }
        })
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &format!("[audit]\nsync = false\n{section}")).await;
    let calls: Vec<_> = (0..150)
        .map(|number| {
            let (mut client, user) = (app.client(), format!("user-{number}"));
            tokio::spawn(async move { client.delete_batch_node_user(batch_request(&user)).await })
        })
        .collect();
    upstream.wait_for_requests("DELETE", "/pools", 100).await;
    // Another connection has free streams. A complete call on it takes long enough for the waiting calls to proceed if
    // the limit did not hold.
    let other = SecureClient::plain(app.address);
    let request = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request("other")
    };
    other.delete_batch_node_user(request).await.unwrap();
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 100);
    together.wait().await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 150);
}

/// The server announces the limit in its SETTINGS, before the first response.
#[tokio::test]
async fn max_concurrent_streams_is_advertised() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post("http://server/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    response.await.unwrap();
    assert_eq!(client.current_max_send_streams(), 100);
}

/// Returns the header block of a response without a message, as it is sent over the wire.
async fn header_block(app: &App, rpc: &str, message: &impl Message) -> HeaderMap {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let url = format!("http://server/useradmin.v1.UserAdmin/{rpc}");
    let request = Request::post(url).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    body.send_data(Bytes::from(framed), true).unwrap();
    let response = response.await.unwrap();
    assert!(response.headers().contains_key("grpc-status"));
    connection.abort();
    response.into_parts().0.headers
}

/// Returns the size as receivers count it (RFC 9113, section 6.5.2).
fn header_list_size(headers: &HeaderMap) -> usize {
    let lines = headers.iter();
    lines
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// All texts of the caller and the upstream have their maximum length.
#[tokio::test]
async fn largest_trailers_are_below_client_limits() {
    let wide = "\u{1F4A9}".repeat(64);
    let upstream = Upstream::start(|received| {
        token_reply_or(received, || {
            // The test sets the length of the texts of the upstream through the name of the node.
            let long = |length: &str| "\u{1F4A9}".repeat(length.parse::<usize>().unwrap() / 4);
            hmc_reply_or(received, || {
                let Some(node) = received.target.split('/').nth(4) else {
                    let text = long("4000");
                    let document =
                        format!(r#"{{"http-status":409,"reason":320,"message":"{text}"}}"#);
                    return Reply::json(409, &document);
                };
                let text = long(node.split('-').next_back().unwrap());
                let values = vec![(text.as_str(), text.as_str()); 8];
                batch_response(409, &batch_document("NodeStateUnusable", &text, &values))
            })
        })
    })
    .await;
    let folder = App::folder();
    let sections = format!(
        "[audit]\nsync = false\n{}{}",
        batch_section(&folder, &upstream.url),
        hmc_section(&folder, &upstream.url)
    );
    let app = App::start_in(folder, &sections).await;
    let mut largest = header_block(&app, "DeleteHmcUser", &delete_by_name(&wide)).await;
    let mut refusal = batch_request(&"\u{7f}".repeat(300));
    (refusal.pool_id, refusal.node_id) = ("/".repeat(300), "/".repeat(300));
    refusal.client_request_id = "/".repeat(300);
    let of_fields = header_block(&app, "DeleteBatchNodeUser", &refusal).await;
    largest = std::cmp::max_by_key(largest, of_fields, header_list_size);
    for length in (0..=256).step_by(4) {
        let request = DeleteBatchNodeUserRequest {
            pool_id: "p".repeat(64),
            node_id: format!("{}-{length}", "n".repeat(124)),
            ..batch_request(&wide)
        };
        let response = header_block(&app, "DeleteBatchNodeUser", &request).await;
        largest = std::cmp::max_by_key(largest, response, header_list_size);
    }
    // 3,072 bytes of status are 4,096 bytes in base64; the largest header block here has 4,531 bytes. The limit of
    // clients is 8 KiB.
    let details = largest["grpc-status-details-bin"].len();
    assert!((4_000..=4_096).contains(&details), "{details}");
    assert!(
        header_list_size(&largest) <= 5_000,
        "{}",
        header_list_size(&largest)
    );
}
