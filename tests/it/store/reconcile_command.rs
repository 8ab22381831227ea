//! `useradmin audit reconcile` on a database.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::sync::Notify;
use useradmin_testkit::{
    App, Postgres, Reply, Store, TcpProxy, Upstream, batch_deleted, batch_request,
    batch_with_timeout, delete_by_id, run, wait_until, with_timeout,
};

use super::{
    reconcile::{configuration, findings, start_survivor, upstream_with, wait_for_findings},
    replica::{LEASE, Replica, all_results},
};

/// Runs `audit reconcile` with this configuration. Returns the exit code, standard output without request IDs, and the
/// lines of standard error that are not part of the log.
fn reconcile(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let config = folder.join("useradmin.toml");
    let command = ["audit", "reconcile", "--config", config.to_str().unwrap()];
    let (code, out, err) = run(&[&command, arguments].concat());
    let lines = out.lines().map(|line| match line.split_once(' ') {
        Some((id, rest)) if !id.ends_with(':') && id != "postgres" => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    let messages = err.split_inclusive('\n');
    let messages = messages.filter(|line| !line.starts_with('{'));
    (code, lines.collect(), messages.collect())
}

const BOB: &str = "batch bob not_readable pool_id=pool-1 node_id=node-1\n\
    not_readable: repeat the deletion with allow_missing: DELETED and ALREADY_ABSENT both mean that the user no longer exists\n";
const ALICE: &str = "hmc alice present\n";
const NAME: &str = "postgres 127.0.0.1/reconcile_command";

fn summary(present: usize, not_readable: usize) -> String {
    let all = present + not_readable;
    format!(
        "{NAME}: {all} unknown outcomes: 0 absent, {present} present, 0 unreadable, {not_readable} not_readable"
    )
}

/// Starts an upstream that does not respond to the first deletion of `alice` and `bob`, and to those of `eve` and
/// `held` when it is notified.
async fn hanging_upstream(gate: &Arc<Notify>) -> Upstream {
    let gate = Arc::clone(gate);
    let mut hung = Vec::new();
    upstream_with(move |request| match &*request.user() {
        "eve" | "held" => Reply::Gated(Arc::clone(&gate), Box::new(batch_deleted())),
        user if hung.iter().any(|hung| hung == user) => batch_deleted(),
        user => {
            hung.push(user.to_owned());
            Reply::Hang
        }
    })
    .await
}

/// Deletes `eve` through a replica that is cut off during the call, which another one closes as interrupted.
async fn record_late_outcome(store: &Store<'_>, port: u16, upstream: &Upstream, gate: &Notify) {
    let proxy = TcpProxy::start(port).await;
    let separated = Replica::start(&upstream.url, "", |folder| {
        store.section_at(proxy.port(), folder, LEASE)
    });
    separated.wait_until_ready().await;
    let mut client = separated.process.client();
    let eve =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("eve")).await });
    upstream.wait_for_requests("DELETE", "/pools", 1).await;
    proxy.set_black_hole(true);
    wait_until("the call is closed", async || store.records().len() == 2).await;
    gate.notify_one();
    eve.await.unwrap().unwrap();
    proxy.set_black_hole(false);
    wait_for_findings(store, 1).await;
    separated.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn command_reconciles_while_servers_run() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "reconcile_command");
    let gate = Arc::new(Notify::new());
    let upstream = hanging_upstream(&gate).await;
    let app = start_survivor(&store, &upstream).await;
    record_late_outcome(&store, postgres.port(), &upstream, &gate).await;
    // Unknown, because the upstream does not respond.
    let mut client = app.client();
    let alice = client.delete_hmc_user(with_timeout(delete_by_id("id-1"), 1_500));
    let limit = Duration::from_millis(1_500);
    let bob = batch_with_timeout(&app, batch_request("bob"), limit);
    let (alice, bob) = tokio::join!(alice, bob);
    assert!(alice.is_err() && bob.is_err());
    // In progress.
    let mut client = app.client();
    let held =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("held")).await });
    upstream.wait_for_requests("DELETE", "/pools", 3).await;
    wait_until("all records", async || store.records().len() == 8).await;

    let folder = &app.folder;
    for _ in 0..2 {
        let expected = format!("{ALICE}{BOB}{}; nothing was written\n", summary(1, 1));
        let found = reconcile(folder, &["--dry-run"]);
        assert_eq!(found, (1, expected, String::new()));
    }
    assert_eq!((store.records().len(), findings(&store).len()), (8, 1));
    let expected = format!("{ALICE}{BOB}{}\n", summary(1, 1));
    assert_eq!(reconcile(folder, &[]), (1, expected, String::new()));
    assert_eq!(
        findings(&store)[1],
        ("alice".to_owned(), "present".to_owned())
    );
    for arguments in [&[][..], &["--dry-run"]] {
        let (code, out, err) = reconcile(folder, arguments);
        assert_eq!((code, err.as_str()), (1, ""));
        assert!(out.starts_with(&format!("{BOB}{}", summary(0, 1))), "{out}");
    }
    app.delete_batch_node_user(batch_request("bob"))
        .await
        .unwrap();
    assert_eq!(
        reconcile(folder, &[]),
        (0, summary(0, 0) + "\n", String::new())
    );
    gate.notify_one();
    held.await.unwrap().unwrap();
    assert_eq!(upstream.requests("DELETE", "/api/users").len(), 1);
    assert_eq!(all_results(&store).await.len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_reports_a_database_that_is_away() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "reconcile_away");
    let folder = App::folder();
    let section = store.section_at(1, &folder, "");
    let text = configuration(&folder, 0, "http://127.0.0.1:9", &section);
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    for (arguments, expected, message) in [
        (&[][..], 1, "the audit log cannot be written\n"),
        (&["--dry-run"], 2, "Connection refused (os error 111)\n"),
    ] {
        let (code, out, err) = reconcile(&folder, arguments);
        assert_eq!((code, out.as_str()), (expected, ""), "{err}");
        assert!(
            err.starts_with("postgres 127.0.0.1/reconcile_away: "),
            "{err}"
        );
        assert!(err.ends_with(message), "{err}");
    }
    fs::remove_dir_all(folder).unwrap();
}
