//! Creates the schema, and brings it to the newest version.

use tokio::time::timeout;

use super::{
    connect::Manager,
    error::{Error, describe},
    schema::{self, NAME},
};
use crate::config;

/// Encoding that the database must have.
const ENCODING: &str = "UTF8";

/// Result of [`migrate`].
pub struct Migrated {
    /// The migrations that were applied now.
    pub applied: Vec<String>,
    /// Version of the schema.
    pub version: i32,
}

/// Creates the schema or brings it to the newest version. With `role`, grants this role of the database the rights that
/// a server needs, and no others.
pub async fn migrate(config: &config::Postgres, role: Option<&str>) -> Result<Migrated, Error> {
    let manager = Manager::new(config).map_err(Error::NoEffect)?;
    let connected = timeout(config.connect_timeout, manager.connect()).await;
    let late = |_| Error::NoEffect("no connection to the database in time".to_owned());
    let mut client = connected.map_err(late)??;
    let failed = |error: tokio_postgres::Error| Error::Unavailable(describe(&error));
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
    let mut runner = schema::embedded::migrations::runner();
    runner.set_migration_table_name(schema::HISTORY);
    let report = runner.run_async(&mut client).await;
    let report = report.map_err(|error| Error::Unavailable(error.to_string()))?;
    if let Some(role) = role {
        client.batch_execute(&grants(role)).await.map_err(failed)?;
    }
    let applied = report.applied_migrations().iter().map(ToString::to_string);
    Ok(Migrated {
        applied: applied.collect(),
        version: schema::latest(),
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
