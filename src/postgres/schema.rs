//! The schema of the database: the embedded migrations, and the check of its version.

use tokio_postgres::Client;

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
        .map(|migration| migration.version());
    versions.max().unwrap_or_default()
}

/// Checks the schema, and that the server of the database does not acknowledge commits before they are durable.
pub(super) async fn check(client: &Client) -> Result<(), Error> {
    let sql = format!(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT max(version) FROM {NAME}.{HISTORY}"
    );
    let rows = client.simple_query(&sql).await;
    let rows = rows.map_err(|error| match Error::of_statement(&error) {
        Error::Schema(cause) => Error::Schema(format!(
            "the schema of the database is missing, or its user may not read it: {cause}; run `useradmin store migrate`"
        )),
        other => Error::NotSent(other.to_string()),
    })?;
    let version = rows.iter().rev().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
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
