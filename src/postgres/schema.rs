//! The schema of the database: its migrations, and the check of its version.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    Error,
    connect::{self, Manager},
};
use crate::config;

/// Name of the schema.
pub(super) const NAME: &str = "useradmin";
/// Encoding that the database must have.
const ENCODING: &str = "UTF8";
/// Table of the migrations that were applied.
const HISTORY: &str = "schema_history";

mod embedded {
    refinery::embed_migrations!("src/postgres/migrations");
}

/// Result of [`migrate`].
pub struct Migrated {
    /// The migrations that were applied now.
    pub applied: Vec<String>,
    /// Version of the schema.
    pub version: i32,
}

/// Returns the version of the newest migration.
fn latest() -> i32 {
    let runner = embedded::migrations::runner();
    let versions = runner
        .get_migrations()
        .iter()
        .map(|migration| migration.version());
    versions.max().unwrap_or_default()
}

/// Checks the version of the schema and the rights of the user. Sets `synchronous_commit` for the session, so that the
/// server of the database does not acknowledge commits before they are durable, even if its configuration changes later.
pub(super) async fn check(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), \
             false); \
         SELECT max(version), \
             (SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc \
                 WHERE pronamespace = '{NAME}'::regnamespace) \
             AND (SELECT bool_and(has_table_privilege(oid, 'SELECT')) FROM pg_class \
                 WHERE relnamespace = '{NAME}'::regnamespace AND relkind = 'r') \
         FROM {NAME}.{HISTORY}"
    );
    let rows = client.simple_query(&sql).await;
    let rows = rows.map_err(|error| match connect::error(&error) {
        Error::Schema(cause) => Error::Schema(format!(
            "the schema of the database is missing, or its user may not read it: {cause}; run `useradmin store migrate`"
        )),
        other => Error::NotSent(other.to_string()),
    })?;
    let row = rows.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |index| row.and_then(|row| row.get(index));
    let version = column(0).and_then(|version| version.parse::<i32>().ok());
    let (version, latest) = (version.unwrap_or_default(), latest());
    if version < latest {
        return Err(Error::Schema(format!(
            "the schema of the database has version {version}, and this program needs {latest}: run `useradmin store migrate`"
        )));
    }
    if column(1) != Some("t") {
        return Err(Error::Schema(
            "the user of the database lacks rights: run `useradmin store migrate --grant-to`"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Creates the schema or brings it to the newest version. With `role`, grants this role of the database the rights that a
/// server needs, and no others.
pub async fn migrate(config: &config::Postgres, role: Option<&str>) -> Result<Migrated, Error> {
    let manager = Manager::new(config).map_err(Error::NotSent)?;
    let mut client = manager.connect().await?;
    let failed = |error: tokio_postgres::Error| Error::Unavailable(connect::describe(&error));
    let encoding = client.query_typed("SHOW server_encoding", &[]).await;
    let encoding = encoding.map_err(failed)?;
    let encoding: &str = encoding.first().map_or("", |row| row.get(0));
    if encoding != ENCODING {
        return Err(Error::Schema(format!(
            "the database has the encoding {encoding}: create one with {ENCODING}, which can store all names"
        )));
    }
    // Only one program migrates at a time. The lock ends with the connection.
    let lock = format!(
        "SET statement_timeout = 0; SELECT pg_advisory_lock(hashtextextended('{NAME}.migrate', 0)); \
         CREATE SCHEMA IF NOT EXISTS {NAME}"
    );
    client.batch_execute(&lock).await.map_err(failed)?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(&mut client).await;
    let report = report.map_err(|error| Error::Unavailable(error.to_string()))?;
    if let Some(role) = role {
        client.batch_execute(&grants(role)).await.map_err(failed)?;
    }
    let applied = report.applied_migrations().iter().map(ToString::to_string);
    Ok(Migrated {
        applied: applied.collect(),
        version: latest(),
    })
}

/// Returns the statements that grant a role the rights of a server: to read, and to call the functions.
fn grants(role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "GRANT USAGE ON SCHEMA {NAME} TO {role}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA {NAME} TO {role}; \
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {NAME} TO {role}"
    )
}
