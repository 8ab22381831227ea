//! Load and a schedule of faults at a time, and afterwards the books are compared: what callers were told, what is in
//! the audit log, what the upstream did. Ends with 1 if a single call is lost or told wrongly.
//!
//! `cargo run --release --example soak -- --seconds 60 --callers 32`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

mod books;
mod upstream;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{sync::oneshot, task::JoinSet};
use tonic::{Request, transport::Channel};
use useradmin::{
    config,
    proto::{DeleteBatchNodeUserRequest, user_admin_client::UserAdminClient},
    server::Server,
};

use self::{
    books::{Told, compare},
    upstream::{FAULTS, Upstream},
};

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long each fault lasts, with as long a pause after it.
const WINDOW: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    /// How long the load lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Calls in progress at a time.
    #[arg(long, default_value_t = 32)]
    callers: usize,
}

fn configuration(folder: &Path, url: &str) -> PathBuf {
    fs::write(folder.join("batch.key"), "a2V5LW9mLXRoZS1zb2Fr").unwrap();
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[batch_accounts.prod]
url = "{url}"
[batch_accounts.prod.credential]
kind = "shared_key"
account_name = "account"
key_file = "batch.key"
[[callers]]
identity = "anonymous"
allow = [{{ rpc = "DeleteBatchNodeUser", targets = ["prod"] }}]
"#
    );
    let file = folder.join("useradmin.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Calls one after the other, each for a user of its own.
async fn caller(
    mut client: UserAdminClient<Channel>,
    number: Arc<AtomicU64>,
    until: Instant,
) -> Vec<Told> {
    let mut told = Vec::new();
    while Instant::now() < until {
        let user = format!("user-{}", number.fetch_add(1, Ordering::Relaxed));
        let mut request = Request::new(DeleteBatchNodeUserRequest {
            pool_id: "pool-1".to_owned(),
            node_id: "node-1".to_owned(),
            user_name: user.clone(),
            ..DeleteBatchNodeUserRequest::default()
        });
        request.set_timeout(DEADLINE);
        let begun = Instant::now();
        let answer = client.delete_batch_node_user(request).await;
        let refused = answer.is_err();
        told.push(Told::new(user, begun.elapsed(), answer));
        if refused {
            // As a client does that obeys a RetryInfo, only sooner.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    told
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seconds, callers } = Arguments::parse();
    let folder = std::env::temp_dir().join(format!("useradmin-soak-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let upstream = Upstream::start().await;
    let file = configuration(&folder, &upstream.url);
    let config = config::load(&file)
        .map_err(|faults| faults.to_string())
        .unwrap();
    let server = Server::bind(&config).await.unwrap();
    let url = format!("http://{}", server.address().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }, std::future::pending()));

    let (number, until) = (
        Arc::default(),
        Instant::now() + Duration::from_secs(seconds),
    );
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let channel = Channel::from_shared(url.clone()).unwrap().connect_lazy();
        let client = UserAdminClient::new(channel);
        tasks.spawn(caller(client, Arc::clone(&number), until));
    }
    for fault in FAULTS.into_iter().cycle() {
        for fault in [fault, upstream::Fault::None] {
            upstream.set(fault);
            tokio::time::sleep(WINDOW).await;
        }
        if Instant::now() >= until {
            break;
        }
    }
    let told = tasks.join_all().await.concat();
    let _ = stop.send(());
    running.await.unwrap().unwrap();
    let wrong = compare(&told, &folder.join("audit.jsonl"), &upstream, DEADLINE);
    if wrong > 0 {
        println!(
            "{wrong} calls lost or told wrongly; see {}",
            folder.display()
        );
        return ExitCode::FAILURE;
    }
    fs::remove_dir_all(folder).unwrap();
    ExitCode::SUCCESS
}
