//! Polling for a state that can only be observed from outside the server.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, ToSocketAddrs},
    time::{sleep, timeout},
};

use crate::canary;

/// Time limit of [`wait_until`]. No operation takes that long, even on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition holds. Panics with the name of the case if it does not hold within 20 seconds.
pub async fn wait_until(case: &str, mut condition: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !condition().await {
            sleep(POLL_INTERVAL).await;
        }
    };
    assert!(
        timeout(WAIT_LIMIT, polling).await.is_ok(),
        "condition not reached: {case}"
    );
}

/// Waits like [`wait_until`], but blocks the thread.
pub fn block_until(case: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < WAIT_LIMIT,
            "condition not reached: {case}"
        );
        thread::sleep(POLL_INTERVAL);
    }
}

/// Time limit of a rejection due to lack of capacity, on an idle machine.
const IMMEDIATE_LIMIT: Duration = Duration::from_millis(50);
/// Time limit of such a rejection for a debug build on a machine that runs other tests at the same time.
const BUSY_LIMIT: Duration = Duration::from_secs(1);

/// Asserts that these rejections, at least ten, were immediate. On a busy machine some of them may be late, but not
/// all of them. A call that waits for a resource held by the test exceeds both limits.
#[track_caller]
pub fn assert_immediate(durations: &[Duration]) {
    assert!(durations.len() >= 10);
    let (shortest, longest) = (durations.iter().min(), durations.iter().max());
    assert!(
        *shortest.unwrap() < IMMEDIATE_LIMIT && *longest.unwrap() < BUSY_LIMIT,
        "{durations:?}"
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
