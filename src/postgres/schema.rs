//! The schema of the database: the embedded migrations, and the check of its version.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::error::Error;

/// Name of the schema.
pub(super) const NAME: &str = "useradmin";
/// Table of the migrations that were applied.
pub(super) const HISTORY: &str = "schema_history";

pub(super) mod embedded {
    refinery::embed_migrations!("src/postgres/migrations");
}

/// Returns the version of the newest migration.
pub(super) fn latest() -> i32 {
    let runner = embedded::migrations::runner();
    let versions = runner
        .get_migrations()
        .iter()
        .map(refinery::Migration::version);
    versions.max().unwrap_or_default()
}

/// Checks the version of the schema. Sets `synchronous_commit` for the session, so that the server of the database does
/// not acknowledge commits before they are durable, even if its configuration changes later.
pub(super) async fn check(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), \
             false); \
         SELECT max(version) FROM {NAME}.{HISTORY}"
    );
    let rows = client.simple_query(&sql).await;
    let rows = rows.map_err(|error| match Error::of_statement(&error) {
        Error::Schema(cause) => Error::Schema(format!(
            "the schema of the database is missing, or its user may not read it: {cause}; run `useradmin store migrate`"
        )),
        other => Error::NoEffect(other.to_string()),
    })?;
    let version = rows.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
        _ => None,
    });
    let (version, latest) = (version.unwrap_or_default(), latest());
    if version < latest {
        return Err(Error::Schema(format!(
            "the schema of the database has version {version}, and this program needs {latest}: run `useradmin store migrate`"
        )));
    }
    Ok(())
}

/// Checks that the user has the rights of a server.
pub(super) async fn check_rights(client: &Client) -> Result<(), Error> {
    let sql = "SELECT \
        (SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc \
            WHERE pronamespace = 'useradmin'::regnamespace AND proname IN \
                ('register_replica', 'maintain', 'append_records', 'probe', 'begin_logon', 'end_logon')) \
        AND (SELECT bool_and(has_table_privilege(oid, 'SELECT')) FROM pg_class \
            WHERE relnamespace = 'useradmin'::regnamespace AND relname IN \
                ('audit_record', 'audit_head', 'digest_key'))";
    let rows = client.query_typed(sql, &[]).await;
    let rows = rows.map_err(|error| Error::of_statement(&error))?;
    if rows.first().and_then(|row| row.get(0)) != Some(true) {
        return Err(Error::Schema(
            "the user of the database lacks rights: run `useradmin store migrate --grant-to`"
                .to_owned(),
        ));
    }
    Ok(())
}
