//! Polling for a state that can only be observed from outside the server.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, ToSocketAddrs},
    time::{sleep, timeout},
};

use crate::canary;

/// Time limit of [`wait_until`]. No operation takes that long, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the condition holds. Panics with the name of the case if it does not hold within 20 seconds.
pub async fn wait_until(case: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            sleep(PAUSE).await;
        }
    };
    assert!(
        timeout(LIMIT, polling).await.is_ok(),
        "condition not reached: {case}"
    );
}

/// Time limit of a rejection due to lack of capacity, on an idle machine.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Time limit of such a rejection for a debug build on a machine that runs other tests at the same time.
const BUSY: Duration = Duration::from_secs(1);

/// Asserts that these rejections, at least ten, were immediate. On a busy machine some of them may be late, but not
/// all of them. A call that waits for a resource held by the test exceeds both limits.
#[track_caller]
pub fn assert_immediate(refusals: &[Duration]) {
    assert!(refusals.len() >= 10);
    let (least, most) = (refusals.iter().min(), refusals.iter().max());
    assert!(
        *least.unwrap() < AT_ONCE && *most.unwrap() < BUSY,
        "{refusals:?}"
    );
}

/// Sends a GET to the admin port and returns the whole response, with its headers.
pub async fn http_get(admin: impl ToSocketAddrs, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    canary::check("the admin port", &response);
    response
}
