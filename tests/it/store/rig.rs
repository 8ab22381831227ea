//! Checks the PostgreSQL server and the proxy of `useradmin-testkit`, which the tests of the store use.

use std::{
    env, fs,
    process::Command,
    time::{Duration, Instant},
};

use useradmin_testkit::{
    App, Database, Postgres,
    pki::{Authority, Validity},
};

/// Runs these statements on one connection to this URL. Returns the rows or the error.
pub fn psql(url: &str, statements: &[&str]) -> Result<String, String> {
    let bin = env::var("USERADMIN_POSTGRES_BIN").unwrap();
    let mut psql = Command::new(format!("{bin}/psql"));
    psql.args(["-XAt", "-v", "ON_ERROR_STOP=1", url]);
    for statement in statements {
        psql.args(["-c", statement]);
    }
    let output = psql.env("PGCONNECT_TIMEOUT", "2").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

pub fn count(database: &Database<'_>) -> String {
    database.sql("SELECT count(*) FROM t").unwrap()
}

#[test]
fn databases_of_shared_server_are_separate() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    postgres.create_user("rig_reader");
    postgres.create_user("rig_reader");
    for name in ["rig_one", "rig_two"] {
        let database = postgres.create_database(name);
        database.sql("CREATE TABLE t (id int)").unwrap();
        let found = psql(
            &database.url("rig_reader"),
            &["SELECT current_user, current_database()"],
        );
        assert_eq!(found, Ok(format!("rig_reader|{name}")));
        let error = psql(&database.url("rig_reader"), &["SELECT * FROM t"]).unwrap_err();
        assert!(error.contains("permission denied"), "{error}");
    }
    let url = postgres.url("postgres");
    assert_eq!(psql(&url, &["SELECT 1"]), Ok("1".to_owned()));
    let error = psql(&url.replace(":kanari", ":other"), &["SELECT 1"]).unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(postgres.sql("SELECT no_column").is_err());
}

#[test]
fn committed_rows_survive_kill_and_restart() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let database = postgres.create_database("rig");
    database.sql("CREATE TABLE t (id int)").unwrap();
    let url = database.url("postgres");
    for (case, stop) in [
        ("kill", Postgres::kill as fn(&Postgres)),
        ("fast", Postgres::stop_fast),
        ("none", |_| {}),
    ] {
        psql(&url, &["INSERT INTO t VALUES (1)"]).unwrap();
        stop(&postgres);
        if case != "none" {
            let error = psql(&url, &["SELECT 1"]).unwrap_err();
            assert!(error.contains("Connection refused"), "{case}: {error}");
        }
        postgres.restart();
    }
    assert_eq!(count(&database), "3");
    postgres.kill();
}

#[test]
fn paused_server_responds_after_resume() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.url("postgres");
    postgres.pause();
    let start = Instant::now();
    let error = psql(&url, &["SELECT 1"]).unwrap_err();
    assert!(error.contains("timeout expired"), "{error}");
    assert!(start.elapsed() >= Duration::from_secs(1));
    postgres.resume();
    assert_eq!(psql(&url, &["SELECT 1"]), Ok("1".to_owned()));
    // A server that is dropped while it is suspended ends, too.
    postgres.pause();
}

#[test]
fn parameter_is_set_for_new_sessions() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.url("postgres");
    psql(&url, &["CREATE TABLE t (id int)"]).unwrap();
    for (value, expected) in [("on", Err("read-only")), ("off", Ok("INSERT 0 1"))] {
        postgres.set("default_transaction_read_only", value);
        match (psql(&url, &["INSERT INTO t VALUES (1)"]), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (found, _) => panic!("{value}: {found:?}"),
        }
    }
}

#[test]
fn server_with_certificate_refuses_plaintext() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1", Validity::Now);
    let Some(postgres) = Postgres::start_with_tls(&identity) else {
        return;
    };
    let folder = App::folder();
    let file = folder.join("ca.pem");
    let url = postgres.url("postgres");
    let verified = |authority: &Authority| {
        fs::write(&file, authority.pem()).unwrap();
        let url = format!(
            "{url}?sslmode=verify-full&sslrootcert={}&sslsni=0",
            file.display()
        );
        psql(&url, &["SELECT 1"])
    };
    assert_eq!(verified(&authority), Ok("1".to_owned()));
    let error = verified(&Authority::new()).unwrap_err();
    // Both authorities have the same name, so that it is the signature that does not verify.
    assert!(error.contains("SSL error"), "{error}");
    let error = psql(&format!("{url}?sslmode=disable"), &["SELECT 1"]).unwrap_err();
    assert!(error.contains("no encryption"), "{error}");
}
