//! The documented responses of an Azure Batch account, its token endpoint and an HMC, returned without any processing.

use useradmin_testkit::{ReceivedRequest, Reply};

const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":86399,"access_token":"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL2JhdGNoLmNvcmUud2luZG93cy5uZXQvIn0.c2lnbmF0dXJl"}"#;
const SESSION: &str = r#"{"api-session":"4j0u1wj3oasr4hnl6xqnkd1exhnq1e2nt6pj23kaw3mdtnewyy"}"#;
const USER: &str = r#"{"object-id":"11111111-2222-3333-4444-555555555555","object-uri":"/api/users/11111111-2222-3333-4444-555555555555","name":"alice","type":"standard","class":"user","parent":null}"#;
const REQUEST_ID: &str = "6b1e4a1c-0d5f-4a3e-8f63-0c8f1c7d9a01";
const CLIENT_REQUEST_ID: &str = "11111111-1111-1111-1111-111111111111";

/// Returns the node that a path identifies: `/pools/{poolId}/nodes/{nodeId}`.
fn node(path: &str) -> String {
    let id = path.rsplit('/').next().unwrap_or_default();
    format!(r#"{{"id":"{id}","state":"idle"}}"#)
}

/// Returns the response to a request.
pub fn respond(request: &ReceivedRequest) -> Reply {
    let path = request.path();
    let is_batch = path.starts_with("/pools/");
    let reply = match request.method.as_str() {
        "DELETE" if is_batch => Reply::json(200, "{}"),
        "DELETE" => Reply::json(204, ""),
        "GET" if is_batch => Reply::json(200, &node(path)),
        "GET" => Reply::json(200, USER),
        _ if path == "/api/sessions" => Reply::json(200, SESSION),
        _ => Reply::json(200, TOKEN),
    };
    if !is_batch {
        return reply;
    }
    // Echoes the client request ID, as Azure Batch does on request; the server always requests it.
    let id = request.header("client-request-id");
    reply
        .with_header("request-id", REQUEST_ID)
        .with_header("client-request-id", id.unwrap_or(CLIENT_REQUEST_ID))
}
