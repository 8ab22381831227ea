//! Logons to an HMC while the database is away, and statements whose connection is lost.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use useradmin_testkit::{
    App, Cut, Postgres, ReceivedRequest, Step, Store, TcpProxy, Upstream,
    canary::{PASSWORD, SESSION},
    default_reply, error_reply, hmc_section, wait_until,
};

use super::logons::{
    OTHER_PASSWORD, expect_not_counted, expect_refused, hmc_with_passwords, refused, validation,
};
use crate::hmc_logon::logons;

/// Starts a server whose connections to the database pass the proxy.
async fn start(upstream: &Upstream, store: &Store<'_>, proxy: &TcpProxy) -> App {
    let folder = App::folder();
    let sections = hmc_section(&folder, &upstream.url);
    let store = store.section_at(proxy.port(), &folder, "");
    App::start_in(folder, &(sections + &store)).await
}

/// Starts an HMC whose sessions end when their number is below the returned one.
async fn hmc_with_short_sessions() -> (Upstream, Arc<AtomicUsize>) {
    let first_valid = Arc::new(AtomicUsize::new(0));
    let valid = Arc::clone(&first_valid);
    let mut logons = 0;
    let upstream = Upstream::start(move |request: &ReceivedRequest| {
        if Step::of(request) == Step::Logon {
            logons += 1;
            return default_reply(request, logons);
        }
        let session = request.header("x-api-session").unwrap_or_default();
        let session: usize = session.trim_start_matches(SESSION).parse().unwrap();
        if session < valid.load(Ordering::Relaxed) {
            return error_reply(request, 403, 5);
        }
        default_reply(request, logons)
    })
    .await;
    (upstream, first_valid)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_accepted_password_is_sent_without_the_database() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    for black_hole in [false, true] {
        let name = format!("logons_away_{black_hole}");
        let store = Store::create(postgres, &name);
        let mut proxy = TcpProxy::start(postgres.port()).await;
        let (upstream, first_valid) = hmc_with_short_sessions().await;
        let app = start(&upstream, &store, &proxy).await;
        app.delete_hmc_user(validation()).await.unwrap();
        if black_hole {
            proxy.set_black_hole(true);
        } else {
            proxy.refuse().await;
            proxy.cut().await;
        }
        first_valid.store(2, Ordering::Relaxed);
        app.delete_hmc_user(validation()).await.unwrap();
        assert_eq!(logons(&upstream), 2);

        // The HMC would accept this password, too.
        first_valid.store(3, Ordering::Relaxed);
        fs::write(app.folder.join("hmc.password"), OTHER_PASSWORD).unwrap();
        let started = Instant::now();
        expect_not_counted(&app).await;
        assert!(started.elapsed() < Duration::from_secs(3));
        let restarted = start(&upstream, &store, &proxy).await;
        expect_not_counted(&restarted).await;
        assert_eq!(logons(&upstream), 2);

        if black_hole {
            proxy.set_black_hole(false);
        } else {
            proxy.accept().await;
        }
        for app in [&app, &restarted] {
            wait_until("a logon", async || {
                app.delete_hmc_user(validation()).await.is_ok()
            })
            .await;
        }
        wait_until("no record", async || refused(&store).is_empty()).await;
    }
}

/// A statement whose connection is lost may have taken effect. The record of a logon that was not sent, or that was
/// accepted, is removed nevertheless, and the next logon begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_leave_no_record_of_accepted_logons() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_cut");
    for (cut, sent) in [
        (Cut::BeforeRequest("digest_key"), false),
        (Cut::BeforeRequest("begin_logon"), false),
        (Cut::BeforeResponseTo("begin_logon"), false),
        (Cut::BeforeRequest("end_logon"), true),
        (Cut::BeforeResponseTo("end_logon"), true),
    ] {
        let proxy = TcpProxy::start(postgres.port()).await;
        let upstream = hmc_with_passwords(&[PASSWORD]).await;
        let app = start(&upstream, &store, &proxy).await;
        proxy.cut_at(cut);
        if sent {
            app.delete_hmc_user(validation()).await.unwrap();
        } else {
            expect_not_counted(&app).await;
        }
        assert_eq!(logons(&upstream), usize::from(sent));
        wait_until("no record", async || {
            let turns = store.database.sql("SELECT FROM useradmin.hmc_logon_turn");
            !proxy.will_cut() && refused(&store).is_empty() && turns.unwrap().is_empty()
        })
        .await;
        wait_until("a call", async || {
            app.delete_hmc_user(validation()).await.is_ok()
        })
        .await;
        assert_eq!(logons(&upstream), 1);
    }
}

/// A refusal counts even if its result cannot be recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_no_refusal() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    for (number, cut) in [
        Cut::BeforeRequest("begin_logon"),
        Cut::BeforeResponseTo("begin_logon"),
        Cut::BeforeRequest("end_logon"),
        Cut::BeforeResponseTo("end_logon"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("logons_lost_{number}");
        let store = Store::create(postgres, &name);
        let proxy = TcpProxy::start(postgres.port()).await;
        let upstream = hmc_with_passwords(&[]).await;
        let app = start(&upstream, &store, &proxy).await;
        proxy.cut_at(cut);
        wait_until("the suspension", async || {
            app.delete_hmc_user(validation()).await.unwrap_err();
            !proxy.will_cut() && refused(&store).as_str() >= "2"
        })
        .await;
        expect_refused(&app).await;
        assert!(logons(&upstream) <= 2);
    }
}

/// A logon with an accepted password that is refused during an outage of the database is counted afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_during_outage_is_counted_afterwards() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_outage");
    let mut proxy = TcpProxy::start(postgres.port()).await;
    let mut requests = HashMap::new();
    let upstream = Upstream::start(move |request: &ReceivedRequest| {
        let count: &mut u32 = requests.entry(Step::of(request)).or_default();
        *count += 1;
        match (Step::of(request), *count) {
            // The password and the session are valid once.
            (Step::Logon, 2..) => error_reply(request, 403, 0),
            (Step::Read, 2..) => error_reply(request, 403, 5),
            _ => default_reply(request, 1),
        }
    })
    .await;
    let app = start(&upstream, &store, &proxy).await;
    app.delete_hmc_user(validation()).await.unwrap();
    proxy.refuse().await;
    proxy.cut().await;
    expect_refused(&app).await;
    expect_not_counted(&app).await;
    assert_eq!(logons(&upstream), 2);
    proxy.accept().await;
    wait_until("the record", async || refused(&store) == "1").await;
    for _ in 0..3 {
        wait_until("a refusal", async || {
            let failure = app.delete_hmc_user(validation()).await.unwrap_err();
            failure.reason == "ERROR_REASON_UPSTREAM_CREDENTIALS_REJECTED"
        })
        .await;
    }
    assert_eq!(logons(&upstream), 3);
}
