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

type AttackFuture = Pin<Box<dyn Future<Output = String> + Send>>;

/// One kind of attack.
struct Attack {
    name: &'static str,
    /// The expected reaction of the server. Alternatives, which depend on how frames are split, are separated by `or`.
    end: &'static str,
    run: Box<dyn Fn(Arc<Connector>) -> AttackFuture + Send>,
}

/// Creates an attack with several steps. The function returns the reaction of the server.
fn attack<A: Future<Output = String> + Send + 'static>(
    name: &'static str,
    end: &'static str,
    run: fn(Arc<Connector>) -> A,
) -> Attack {
    Attack {
        name,
        end,
        run: Box::new(move |connector| Box::pin(run(connector))),
    }
}

/// Creates an attack that sends these bytes after the preface. The reaction is the end of stream 1 or of the
/// connection.
fn send_bytes(name: &'static str, end: &'static str, bytes: Vec<u8>) -> Attack {
    let run = move |connector: Arc<Connector>| -> AttackFuture {
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
    Attack {
        name,
        end,
        run: Box::new(run),
    }
}

/// Runs all attacks of a group one after another, so that a failure can be attributed to one of them.
async fn run_attacks(group: &str, attacks: fn() -> Vec<Attack>) {
    for tls in [false, true] {
        run_attacks_over(group, attacks(), tls).await;
    }
}

async fn run_attacks_over(group: &str, attacks: Vec<Attack>, tls: bool) {
    let target = Target::start(tls).await;
    let mut failures = Vec::new();
    for Attack { name, end, run } in attacks {
        let case = format!("{name}, TLS {tls}");
        let started = std::time::Instant::now();
        let run = tokio::spawn(timeout(LIMIT, run(Arc::clone(&target.connector))));
        // At least one probe during the attack, and one after it.
        while {
            target.probe().await;
            !run.is_finished()
        } {}
        let actual = match run.await {
            Ok(Ok(actual)) => actual,
            Ok(Err(_)) => "the attack did not end".to_owned(),
            Err(_) => "a panic, see above".to_owned(),
        };
        let elapsed = started.elapsed();
        target.probe().await;
        println!(
            "{case}: {actual} in {elapsed:?}; slowest response {:?}",
            target.slowest()
        );
        if !end.split(" or ").any(|end| end == actual) {
            failures.push(format!("{case}: {actual}; expected: {end}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    target.check(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_frames_affect_only_their_connection() {
    run_attacks("invalid frames", invalid_frames::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_floods_do_not_affect_other_callers() {
    run_attacks("floods", floods::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_fail_only_their_stream() {
    run_attacks("headers", headers::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bodies_receive_an_error() {
    run_attacks("messages", messages::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_are_decompressed_up_to_a_limit() {
    run_attacks("compressed", compressed::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_streams_do_not_affect_other_callers() {
    run_attacks("streams", streams::attacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_preface_are_closed() {
    // Most of the time of this test is spent waiting.
    tokio::join!(
        run_attacks_over("connection setup", connection_setup::attacks(), false),
        run_attacks_over("connection setup", connection_setup::attacks(), true)
    );
}

/// Returns the distinct results, joined by `or`.
fn distinct(mut ends: Vec<String>) -> String {
    ends.sort();
    ends.dedup();
    ends.join(" or ")
}
