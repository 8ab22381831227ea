//! Refused logons to an HMC are counted over all restarts, with each kind of `[store]`, and over all replicas that
//! share a database.

use std::{
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tonic::Code::{DeadlineExceeded, Internal, Unavailable};
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    App, COMMON, CallFailure, Postgres, Process, ReceivedRequest, Reply, Step, Store, Upstream,
    canary::{self, PASSWORD},
    default_reply, delete_by_id, error_reply, hmc_section, run, sha256, wait_until, with_timeout,
};

use crate::hmc_logon::{FILE, logons};

pub const OTHER_PASSWORD: &str = "kanari-password-2";

/// What keeps refused logons, from one process to the next.
enum State {
    /// The content of the file beside the audit log.
    Local(Mutex<Option<Vec<u8>>>),
    Postgres(Store<'static>),
}

impl State {
    /// Returns an empty state of each kind.
    fn kinds(name: &str) -> Vec<Self> {
        let mut kinds = vec![Self::Local(Mutex::default())];
        if let Some(postgres) = Postgres::shared() {
            kinds.push(Self::Postgres(Store::create(postgres, name)));
        }
        kinds
    }

    async fn start(&self, upstream: &Upstream, password: &str) -> App {
        let state = match self {
            Self::Local(state) => state.lock().unwrap().clone(),
            Self::Postgres(store) => return start_replica(store, upstream, password).await,
        };
        let folder = App::folder();
        if let Some(state) = state {
            fs::write(folder.join(FILE), state).unwrap();
        }
        let section = section(&folder, upstream, password);
        App::start_in(folder, &section).await
    }

    /// Stops a server and keeps its state, which a SIGKILL would leave, too.
    fn stop(&self, app: App) {
        if let Self::Local(state) = self {
            *state.lock().unwrap() = fs::read(app.folder.join(FILE)).ok();
        }
        drop(app);
    }

    /// Ends the suspension, as if five minutes had passed.
    fn end_suspension(&self) {
        match self {
            Self::Local(state) => {
                let mut state = state.lock().unwrap();
                let text = String::from_utf8(state.take().unwrap()).unwrap();
                let mut content: serde_json::Value = serde_json::from_str(&text).unwrap();
                for entry in content["hmcs"].as_object_mut().unwrap().values_mut() {
                    entry["until"] = 1.into();
                }
                *state = Some(content.to_string().into_bytes());
            }
            Self::Postgres(store) => {
                let statement = "UPDATE useradmin.hmc_logon SET until = clock_timestamp()";
                store.database.sql(statement).unwrap();
            }
        }
    }

    /// Returns whether refused logons are recorded.
    fn has_records(&self) -> bool {
        match self {
            Self::Local(state) => state.lock().unwrap().is_some(),
            Self::Postgres(store) => !refused(store).is_empty(),
        }
    }
}

/// Returns the numbers of refused logons in the database, one for each password.
pub fn refused(store: &Store<'_>) -> String {
    let statement = "SELECT refused FROM useradmin.hmc_logon ORDER BY refused";
    store.database.sql(statement).unwrap()
}

/// Returns the section of an HMC with this password.
fn section(folder: &Path, upstream: &Upstream, password: &str) -> String {
    let section = hmc_section(folder, &upstream.url);
    fs::write(folder.join("hmc.password"), password).unwrap();
    section
}

async fn start_replica(store: &Store<'_>, upstream: &Upstream, password: &str) -> App {
    let folder = App::folder();
    let section = section(&folder, upstream, password);
    let store = store.section(&folder, "");
    App::start_in(folder, &(section + &store)).await
}

/// Returns a request that logs on and reads the user, and records no intent.
pub fn validation() -> DeleteHmcUserRequest {
    DeleteHmcUserRequest {
        validate_only: true,
        ..delete_by_id("id-1")
    }
}

pub async fn expect_refused(app: &App) {
    let failure = app.delete_hmc_user(validation()).await.unwrap_err();
    failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
}

/// Starts an HMC that refuses every password but these.
pub async fn hmc_with_passwords(accepted: &'static [&'static str]) -> Upstream {
    Upstream::start(move |request: &ReceivedRequest| {
        let accepts = |password: &&str| request.body.contains(*password);
        if Step::of(request) == Step::Logon && !accepted.iter().any(accepts) {
            return error_reply(request, 403, 0);
        }
        default_reply(request, 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_logons_are_counted_over_restarts() {
    for state in State::kinds("logons_restarts") {
        let upstream = hmc_with_passwords(&[OTHER_PASSWORD]).await;
        for expected in [1, 2, 2, 2] {
            let app = state.start(&upstream, PASSWORD).await;
            expect_refused(&app).await;
            assert_eq!(logons(&upstream), expected);
            state.stop(app);
        }
        // After five minutes, one more logon is sent in five minutes.
        state.end_suspension();
        for _ in 0..2 {
            let app = state.start(&upstream, PASSWORD).await;
            expect_refused(&app).await;
            expect_refused(&app).await;
            assert_eq!(logons(&upstream), 3);
            state.stop(app);
        }
        // A changed file is used at once, by a running server and by a new one.
        let app = state.start(&upstream, PASSWORD).await;
        expect_refused(&app).await;
        fs::write(app.folder.join("hmc.password"), OTHER_PASSWORD).unwrap();
        app.delete_hmc_user(validation()).await.unwrap();
        state.stop(app);
        let app = state.start(&upstream, OTHER_PASSWORD).await;
        app.delete_hmc_user(validation()).await.unwrap();
        assert_eq!(logons(&upstream), 5);
        state.stop(app);
    }
}

/// A logon that fails for another reason, or succeeds, leaves no record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_results_of_logons_do_not_count() {
    for state in State::kinds("logons_results") {
        let mut count = 0;
        let upstream = Upstream::start(move |request: &ReceivedRequest| {
            count += usize::from(Step::of(request) == Step::Logon);
            match (Step::of(request), count) {
                (Step::Logon, 1 | 2) => error_reply(request, 400, 7),
                (Step::Logon, 3 | 5) => error_reply(request, 403, 0),
                _ => default_reply(request, 1),
            }
        })
        .await;
        for (logon, expected) in [
            (1, Some("UPSTREAM_REJECTED_REQUEST")),
            (2, Some("UPSTREAM_REJECTED_REQUEST")),
            (3, Some("UPSTREAM_CREDENTIALS_REJECTED")),
            (4, None),
            (5, Some("UPSTREAM_CREDENTIALS_REJECTED")),
            (6, None),
        ] {
            let app = state.start(&upstream, PASSWORD).await;
            let called = app.delete_hmc_user(validation()).await;
            let reason = called.err().map(|failure| failure.reason);
            let reason = reason
                .as_deref()
                .map(|reason| reason.trim_start_matches("ERROR_REASON_"));
            assert_eq!((logons(&upstream), reason), (logon, expected));
            state.stop(app);
            let refused = expected == Some("UPSTREAM_CREDENTIALS_REJECTED");
            assert_eq!(state.has_records(), refused, "logon {logon}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_replicas_send_a_wrong_password_twice() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_wrong");
    let upstream = hmc_with_passwords(&[OTHER_PASSWORD]).await;
    for _ in 0..3 {
        let started = (0..5).map(|_| start_replica(&store, &upstream, PASSWORD));
        let apps = join_all(started).await;
        for _ in 0..2 {
            join_all(apps.iter().map(expect_refused)).await;
        }
        assert_eq!(logons(&upstream), 2);
    }
    let apps = join_all((0..5).map(|_| start_replica(&store, &upstream, PASSWORD))).await;
    let changed = apps.iter().map(async |app| {
        fs::write(app.folder.join("hmc.password"), OTHER_PASSWORD).unwrap();
        app.delete_hmc_user(validation()).await.unwrap();
    });
    join_all(changed).await;
    assert_eq!(logons(&upstream), 2 + 5);
    assert_eq!(refused(&store), "2");
    assert_no_password(
        &store
            .database
            .sql("SELECT schema_to_xml('useradmin', true, false, '')")
            .unwrap(),
    );
}

/// Asserts that the rows of a database contain neither the passwords nor digests that anyone can compute.
fn assert_no_password(rows: &str) {
    assert!(rows.contains("svc-useradmin@127.0.0.1"), "{rows}");
    canary::check("the database", rows);
    for password in [PASSWORD, OTHER_PASSWORD] {
        let digest = Sha256::digest(password);
        for form in [sha256(password.as_bytes()), BASE64_STANDARD.encode(digest)] {
            assert!(!rows.contains(&form), "{rows}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_log_on_one_after_another() {
    const DURATION: Duration = Duration::from_millis(150);
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_turns");
    let (tell, arrivals) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |request: &ReceivedRequest| {
        let reply = default_reply(request, 1);
        if Step::of(request) != Step::Logon {
            return reply;
        }
        tell.send(Instant::now()).unwrap();
        Reply::Delayed(DURATION, Box::new(reply))
    })
    .await;
    let apps = join_all((0..5).map(|_| start_replica(&store, &upstream, PASSWORD))).await;
    let calls = apps
        .iter()
        .flat_map(|app| (0..3).map(|_| app.delete_hmc_user(validation())));
    for called in join_all(calls).await {
        called.unwrap();
    }
    let arrivals: Vec<_> = arrivals.try_iter().collect();
    assert_eq!(arrivals.len(), 5);
    for pair in arrivals.windows(2) {
        assert!(pair[1] - pair[0] >= DURATION, "{arrivals:?}");
    }
    assert!(refused(&store).is_empty());
}

/// Two logons that are interrupted by the death of their replicas count as refused, and each delays the others until
/// its turn ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replica_delays_others_until_its_turn_ends() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_killed");
    let upstream = Upstream::start(|request: &ReceivedRequest| match Step::of(request) {
        Step::Logon if !request.body.contains(OTHER_PASSWORD) => Reply::Hang,
        _ => default_reply(request, 1),
    })
    .await;
    for count in 1..=2 {
        let folder = App::folder();
        let text = [
            COMMON,
            &hmc_section(&folder, &upstream.url),
            &store.section(&folder, ""),
        ];
        fs::write(folder.join("useradmin.toml"), text.concat()).unwrap();
        let process = Process::start(&folder);
        let mut client = process.client();
        let call = tokio::spawn(async move { client.delete_hmc_user(validation()).await });
        wait_until("a logon", async || logons(&upstream) == count).await;
        process.kill();
        call.await.unwrap().unwrap_err();
        assert_eq!(refused(&store), count.to_string());

        let app = start_replica(&store, &upstream, PASSWORD).await;
        let waiting = with_timeout(validation(), 1_000);
        let waiting = app.client().delete_hmc_user(waiting).await;
        let failure = CallFailure::from(waiting.unwrap_err());
        failure.expect(DeadlineExceeded, "DEADLINE_EXCEEDED");
        let rest = "SELECT ceil(extract(epoch FROM until - clock_timestamp())) FROM useradmin.hmc_logon_turn";
        let rest: u64 = store.database.sql(rest).unwrap().parse().unwrap();
        assert!((10..=25).contains(&rest), "{rest}");
        let end = "UPDATE useradmin.hmc_logon_turn SET until = clock_timestamp()";
        store.database.sql(end).unwrap();
    }
    let app = start_replica(&store, &upstream, PASSWORD).await;
    expect_refused(&app).await;
    assert_eq!(logons(&upstream), 2);
    fs::write(app.folder.join("hmc.password"), OTHER_PASSWORD).unwrap();
    app.delete_hmc_user(validation()).await.unwrap();
}

/// `check-config --connect` is subject to the limit, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_of_the_configuration_count() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_checks");
    let upstream = hmc_with_passwords(&[OTHER_PASSWORD]).await;
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    let section = hmc_section(&folder, &upstream.url);
    let text = [COMMON, &section, &store.section(&folder, "")];
    fs::write(&file, text.concat()).unwrap();
    let arguments = ["check-config", "--connect", "--config"];
    let check = || run(&[&arguments[..], &[file.to_str().unwrap()]].concat());
    for expected in [1, 2, 2] {
        let (code, output, _) = check();
        let refused = "store: ok\nhmcs.hmc: failed: ERROR_REASON_UPSTREAM_CREDENTIALS_REJECTED";
        assert!(code == 1 && output.starts_with(refused), "{output}");
        assert_eq!(logons(&upstream), expected);
    }
    fs::write(folder.join("hmc.password"), OTHER_PASSWORD).unwrap();
    let (code, output, _) = check();
    assert_eq!((code, output.as_str()), (0, "store: ok\nhmcs.hmc: ok\n"));
}

/// During the change of a password, replicas may have different ones. The accepted one does not reset the count of the
/// other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_password_does_not_reset_refusals_of_another() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "logons_rotation");
    let upstream = hmc_with_passwords(&[PASSWORD]).await;
    for _ in 0..4 {
        let right = start_replica(&store, &upstream, PASSWORD).await;
        right.delete_hmc_user(validation()).await.unwrap();
        let wrong = start_replica(&store, &upstream, OTHER_PASSWORD).await;
        expect_refused(&wrong).await;
    }
    let mut requests = upstream.requests("POST", "/api/sessions");
    requests.retain(|request| request.body.contains(OTHER_PASSWORD));
    assert_eq!(requests.len(), 2);
}

/// The failures of a server that cannot reach its database.
pub async fn expect_not_counted(app: &App) {
    let failure = app.delete_hmc_user(validation()).await.unwrap_err();
    failure.expect(Unavailable, "AUDIT_UNAVAILABLE");
    assert_eq!(failure.metadata_value("outcome"), "not_sent");
}
