//! The server without its socket: a call passes through all layers. Every call is rejected before it reaches an
//! upstream.

use std::{cell::LazyCell, convert::Infallible, path::Path, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{Request, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::runtime::{Builder, Runtime};
use tonic::{Status, body::Body};
use tower::Service as _;
use useradmin::{
    config::{self, AuditSink},
    proto::user_admin_server::UserAdminServer,
    server::call_layer::CallLayer,
    service::{Service, Shared},
};

use super::fuzz_path;

/// Allows every caller everything, but only on protected users.
const ANONYMOUS_CALLERS: &str = r#"
[[callers]]
identity = "anonymous"
allow = [
    { rpc = "DeleteBatchNodeUser", targets = ["prod"] },
    { rpc = "DeleteHmcUser", targets = ["no-such-*"] },
]
"#;
/// Requires a token, which no call has.
const TOKEN_REQUIRED: &str = r#"
[[jwt_issuers]]
issuer = "https://issuer.example"
audience = "useradmin"
algorithms = ["EdDSA"]
jwks_file = "jwks.json"
"#;
const TARGETS: &str = r#"
[batch_accounts.prod]
url = "http://127.0.0.1:9"
protected_users = ["*"]
credential = { kind = "shared_key", account_name = "prod", key_file = "key" }
[hmcs.east]
url = "http://127.0.0.1:9"
userid = "service"
password_file = "secret"
"#;

/// Values of `grpc-timeout`. The second one (1 ms) is too short to start any work, and the fourth one is malformed.
const TIMEOUTS: [Option<&str>; 4] = [None, Some("1m"), Some("5S"), Some("5 S")];

type Stack = CallLayer<UserAdminServer<Service>>;

thread_local! {
    static STACKS: LazyCell<(Runtime, [Stack; 2])> = LazyCell::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let stacks = [ANONYMOUS_CALLERS, TOKEN_REQUIRED].map(|callers| runtime.block_on(stack(callers)));
        (runtime, stacks)
    });
}

/// The way in which a call is made, encoded in the bits of the first byte.
#[derive(Clone, Copy)]
pub struct CallOptions(pub u8);

impl CallOptions {
    pub fn is_hmc(self) -> bool {
        self.0 & 1 > 0
    }

    pub fn requires_token(self) -> bool {
        self.0 & 2 > 0
    }

    /// Returns whether the bytes are the whole body including the frame; otherwise they are the message.
    pub fn is_framed(self) -> bool {
        self.0 & 4 > 0
    }

    /// Returns whether the body is sent in small parts.
    pub fn is_split(self) -> bool {
        self.0 & 8 > 0
    }

    pub fn timeout(self) -> Option<&'static str> {
        TIMEOUTS[usize::from(self.0 >> 4 & 3)]
    }
}

/// Returns the status of a call.
pub fn call(options: CallOptions, bytes: &[u8]) -> Status {
    let rpc = if options.is_hmc() {
        "DeleteHmcUser"
    } else {
        "DeleteBatchNodeUser"
    };
    let request = Request::post(format!("/useradmin.v1.UserAdmin/{rpc}"));
    let mut request = request.header(CONTENT_TYPE, "application/grpc");
    if let Some(timeout) = options.timeout() {
        request = request.header("grpc-timeout", timeout);
    }
    let request = request.body(body(options, bytes)).expect("a request");
    STACKS.with(|state| {
        let (runtime, stacks) = &**state;
        let mut stack = stacks[usize::from(options.requires_token())].clone();
        let response = runtime.block_on(async { stack.call(request).await });
        let Ok(response) = response;
        assert!(response.headers().contains_key("x-request-id"));
        Status::from_header_map(response.headers()).expect("a refusal has no body")
    })
}

/// Returns the HTTP body of a call.
fn body(options: CallOptions, bytes: &[u8]) -> Body {
    let mut complete = BytesMut::new();
    if !options.is_framed() {
        complete.put_u8(0);
        complete.put_u32(u32::try_from(bytes.len()).expect("inputs are short"));
    }
    complete.extend_from_slice(bytes);
    let part = if options.is_split() {
        3
    } else {
        complete.len().max(1)
    };
    let parts: Vec<_> = complete
        .chunks(part)
        .map(|part| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(part))))
        .collect();
    Body::new(StreamBody::new(stream::iter(parts)))
}

/// Creates the service stack in the same way as `server/mod.rs`.
async fn stack(callers: &str) -> Stack {
    let text = format!("{callers}{TARGETS}");
    let file = fuzz_path("files/useradmin.toml");
    let mut config =
        config::parse(Path::new(&file), &text).unwrap_or_else(|errors| panic!("{errors}"));
    config.audit.sink = AuditSink::Discard;
    let shared = Shared::new(&config).await.expect("it can be called");
    let shared = Arc::new(shared);
    let limits = &config.server.limits;
    let service = UserAdminServer::new(Service(Arc::clone(&shared)))
        .max_decoding_message_size(limits.max_request_bytes as usize);
    CallLayer::new(service, shared, None, &config.server)
}
