//! A static upstream over HTTP/1.1 with keep-alive. It returns the documented responses of an Azure Batch account, of its
//! token endpoint and of an HMC, without any work in between.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":86399,"access_token":"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL2JhdGNoLmNvcmUud2luZG93cy5uZXQvIn0.c2lnbmF0dXJl"}"#;
const SESSION: &str = r#"{"api-session":"4j0u1wj3oasr4hnl6xqnkd1exhnq1e2nt6pj23kaw3mdtnewyy"}"#;
const USER: &str = r#"{"object-id":"11111111-2222-3333-4444-555555555555","object-uri":"/api/users/11111111-2222-3333-4444-555555555555","name":"alice","type":"standard","class":"user","parent":null}"#;
const NODE: &str = r#"{"id":"node-1","state":"idle"}"#;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REQUEST_ID: HeaderValue = HeaderValue::from_static("6b1e4a1c-0d5f-4a3e-8f63-0c8f1c7d9a01");
const CLIENT_REQUEST_ID: HeaderValue =
    HeaderValue::from_static("11111111-1111-1111-1111-111111111111");

/// Serves the connections of this listener until the task is aborted.
pub async fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond));
        tokio::spawn(connection);
    }
}

async fn respond(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    // Without this, hyper closes the connection after a body that it has not read to its end.
    body.collect().await?;
    let path = head.uri.path();
    let of_a_node = path.starts_with("/pools/");
    let (status, body) = match head.method {
        Method::DELETE if of_a_node => (StatusCode::OK, "{}"),
        Method::DELETE => (StatusCode::NO_CONTENT, ""),
        Method::GET if of_a_node => (StatusCode::OK, NODE),
        Method::GET => (StatusCode::OK, USER),
        _ if path == "/api/sessions" => (StatusCode::OK, SESSION),
        _ => (StatusCode::OK, TOKEN),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if of_a_node {
        headers.insert("request-id", REQUEST_ID);
        // Azure Batch returns the ID of the client if the request asks for it.
        let id = head.headers.get("client-request-id").cloned();
        headers.insert("client-request-id", id.unwrap_or(CLIENT_REQUEST_ID));
    }
    Ok(response)
}
