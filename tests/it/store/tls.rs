//! Connections to the database over TLS, and changes of the files that they need.

use std::{fs, path::Path};

use useradmin_testkit::{
    App, CallFailure, Postgres, Process, STORE_USER, Store, Upstream, batch_request, canary,
    pki::{Authority, Validity},
    wait_until, write_secret,
};

use super::replica::{LEASE, Replica, UNAVAILABLE, batch_upstream, deleted_users, start_app};

const NOT_OPENED: &str = "audit log not opened; deletions are refused";

/// All authorities have the same name, so that it is the signature that does not verify.
const BAD_SIGNATURE: &str = "invalid peer certificate: BadSignature";

/// Writes the files of a section `[store]` with this URL and these authorities, and returns the section.
fn section(folder: &Path, url: &str, authorities: &str) -> String {
    write_secret(&folder.join("store.url"), url);
    fs::write(folder.join("ca.pem"), authorities).unwrap();
    format!("[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\nca_file = \"ca.pem\"\n{LEASE}")
}

/// Creates a database on a server that accepts only TLS.
fn create_store<'a>(
    postgres: &'a Postgres,
    name: &str,
    folder: &Path,
    ca: &Authority,
) -> Store<'a> {
    let file = folder.join("authority.pem");
    fs::write(&file, ca.pem()).unwrap();
    let keys = format!("ca_file = \"{}\"\n", file.display());
    Store::create_with(postgres, name, &keys)
}

async fn call(replica: &Replica, user: &str) -> Result<(), String> {
    let mut client = replica.process.client();
    let called = client.delete_batch_node_user(batch_request(user)).await;
    called
        .map(drop)
        .map_err(|status| CallFailure::from(status).reason)
}

/// Waits until the server has logged an error with this text. Asserts that it is not ready, that a call is refused, and
/// that the log contains no secret.
async fn expect_error(replica: &Replica, upstream: &Upstream, text: &str) {
    wait_until(text, async || {
        let records = Process::log_records(&replica.folder, NOT_OPENED);
        let error = records.last().and_then(|record| record["error"].as_str());
        error.is_some_and(|error| error.contains(text)) && !replica.is_ready().await
    })
    .await;
    let before = deleted_users(upstream);
    assert_eq!(
        call(replica, "refused").await.unwrap_err(),
        UNAVAILABLE,
        "{text}"
    );
    assert_eq!(deleted_users(upstream), before);
    canary::check_file(&replica.folder.join("log"));
}

/// Ends all connections of the servers to a database.
fn terminate(store: &Store<'_>) {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE usename = '{STORE_USER}' AND datname = current_database()"
    );
    assert_ne!(store.database.sql(&sql).unwrap(), "0");
}

async fn wait_for_success(replica: &Replica, user: &str) {
    wait_until(user, async || call(replica, user).await.is_ok()).await;
    replica.wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_uses_tls() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1", Validity::Now);
    let Some(postgres) = Postgres::start_with_tls(&identity) else {
        return;
    };
    let folder = App::folder();
    let store = create_store(&postgres, "tls", &folder, &authority);
    let upstream = batch_upstream().await;
    let app = start_app(&store, postgres.port(), &upstream.url).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let sql = format!(
        "SELECT bool_and(ssl), min(version) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{STORE_USER}'"
    );
    assert_eq!(store.database.sql(&sql), Ok("t|TLSv1.3".to_owned()));
    let (code, out, err) = store.verify();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    app.stop().await;
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn database_without_valid_certificate_is_not_used() {
    let authority = Authority::new();
    for (host, validity, trusted, error) in [
        ("127.0.0.1", Validity::Now, &Authority::new(), BAD_SIGNATURE),
        (
            "db.example",
            Validity::Now,
            &authority,
            "not valid for name",
        ),
        ("127.0.0.1", Validity::Past, &authority, "expired"),
    ] {
        let identity = authority.issue(host, validity);
        let Some(postgres) = Postgres::start_with_tls(&identity) else {
            return;
        };
        let upstream = batch_upstream().await;
        let url = postgres.url(STORE_USER);
        let replica = Replica::start(&upstream.url, "", |folder| {
            section(folder, &url, trusted.pem())
        });
        expect_error(&replica, &upstream, error).await;
        replica.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_used_for_the_next_connection() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1", Validity::Now);
    let Some(postgres) = Postgres::start_with_tls(&identity) else {
        return;
    };
    let folder = App::folder();
    let store = create_store(&postgres, "tls_files", &folder, &authority);
    let upstream = batch_upstream().await;
    let url = store.database.url(STORE_USER);
    let replica = Replica::start(&upstream.url, "", |folder| {
        section(folder, &url, authority.pem())
    });
    wait_for_success(&replica, "start").await;

    let password = "kanari-database-2";
    let alter = format!("ALTER ROLE {STORE_USER} PASSWORD '{password}'");
    postgres.sql(&alter).unwrap();
    // The open connection stays.
    call(&replica, "open").await.unwrap();
    terminate(&store);
    expect_error(&replica, &upstream, "password authentication failed").await;
    let (_, host) = url.rsplit_once('@').unwrap();
    let changed = format!("postgres://{STORE_USER}:{password}@{host}");
    write_secret(&replica.folder.join("store.url"), &changed);
    wait_for_success(&replica, "password").await;

    let file = replica.folder.join("ca.pem");
    fs::write(&file, Authority::new().pem()).unwrap();
    call(&replica, "trusted").await.unwrap();
    terminate(&store);
    expect_error(&replica, &upstream, BAD_SIGNATURE).await;
    fs::write(&file, authority.pem()).unwrap();
    wait_for_success(&replica, "authority").await;

    // With a file that is not valid, the authorities at the start are used.
    fs::write(&file, "x").unwrap();
    terminate(&store);
    wait_for_success(&replica, "invalid").await;
    replica.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// The password must not be sent without TLS to another host.
#[tokio::test(flavor = "multi_thread")]
async fn url_of_another_host_needs_tls() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "tls_host");
    let upstream = batch_upstream().await;
    let replica = Replica::start(&upstream.url, "", |folder| store.section(folder, LEASE));
    wait_for_success(&replica, "start").await;
    let file = replica.folder.join("store.url");
    let url = fs::read_to_string(&file).unwrap();
    for host in ["192.0.2.1", "db.example"] {
        write_secret(&file, &url.trim().replace("127.0.0.1", host));
        terminate(&store);
        expect_error(&replica, &upstream, "needs TLS: `ca_file` is missing").await;
        write_secret(&file, url.trim());
        wait_for_success(&replica, host).await;
    }
    replica.stop();
}
