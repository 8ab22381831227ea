//! Peers that violate HTTP/2 or gRPC, or exploit them within the rules: over plaintext and over TLS, against the real
//! program, while other callers make calls.

mod compressed;
mod connection_setup;
mod floods;
pub mod frames;
mod headers;
mod hpack;
mod invalid_frames;
mod messages;
pub mod peer;
mod streams;
mod target;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use self::target::{Connector, Target};

/// An upper limit that no attack reaches.
const LIMIT: Duration = Duration::from_secs(30);

type Attack = Pin<Box<dyn Future<Output = String> + Send>>;

/// One kind of attack.
struct Kind {
    name: &'static str,
    /// The expected reaction of the server. Alternatives, which depend on how frames are split, are separated by `or`.
    end: &'static str,
    attack: Box<dyn Fn(Arc<Connector>) -> Attack + Send>,
}

/// Creates an attack with several steps. The function returns the reaction of the server.
fn kind<A: Future<Output = String> + Send + 'static>(
    name: &'static str,
    end: &'static str,
    attack: fn(Arc<Connector>) -> A,
) -> Kind {
    Kind {
        name,
        end,
        attack: Box::new(move |connector| Box::pin(attack(connector))),
    }
}

/// Creates an attack that sends these bytes after the preface. The reaction is the end of stream 1 or of the
/// connection.
fn bytes(name: &'static str, end: &'static str, bytes: Vec<u8>) -> Kind {
    let attack = move |connector: Arc<Connector>| -> Attack {
        let bytes = bytes.clone();
        Box::pin(async move {
            let mut peer = connector.peer().await;
            peer.send(&bytes).await;
            match end {
                "usable" => peer.assert_usable().await,
                _ => peer.end(1).await,
            }
        })
    };
    Kind {
        name,
        end,
        attack: Box::new(attack),
    }
}

/// Runs all attacks of a group one after another, so that a failure can be attributed to one of them.
async fn survive(group: &str, kinds: fn() -> Vec<Kind>) {
    for tls in [false, true] {
        survive_over(group, kinds(), tls).await;
    }
}

async fn survive_over(group: &str, kinds: Vec<Kind>, tls: bool) {
    let target = Target::start(tls).await;
    let mut failures = Vec::new();
    for Kind { name, end, attack } in kinds {
        let case = format!("{name}, TLS {tls}");
        let started = std::time::Instant::now();
        let attack = tokio::spawn(timeout(LIMIT, attack(Arc::clone(&target.connector))));
        // At least one probe during the attack, and one after it.
        while {
            target.probe().await;
            !attack.is_finished()
        } {}
        let actual = match attack.await {
            Ok(Ok(actual)) => actual,
            Ok(Err(_)) => "it never ended".to_owned(),
            Err(_) => "a panic, see above".to_owned(),
        };
        let took = started.elapsed();
        target.probe().await;
        println!(
            "{case}: {actual} in {took:?}; slowest answer {:?}",
            target.slowest()
        );
        if !end.split(" or ").any(|end| end == actual) {
            failures.push(format!("{case}: {actual}, and not: {end}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    target.check(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_frames_affect_only_their_connection() {
    survive("broken frames", invalid_frames::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_floods_do_not_affect_other_callers() {
    survive("floods", floods::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_fail_only_their_stream() {
    survive("headers", headers::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bodies_receive_an_error() {
    survive("messages", messages::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_are_decompressed_up_to_a_limit() {
    survive("compressed", compressed::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_streams_do_not_affect_other_callers() {
    survive("streams", streams::kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_preface_are_closed() {
    // Most of the time of this test is spent waiting.
    tokio::join!(
        survive_over("arrivals", connection_setup::kinds(), false),
        survive_over("arrivals", connection_setup::kinds(), true)
    );
}

/// Returns the distinct results, joined by `or`.
fn distinct(mut ends: Vec<String>) -> String {
    ends.sort();
    ends.dedup();
    ends.join(" or ")
}
