//! The PostgreSQL database that replicas share: connections, TLS, schema. Other modules call the functions of the
//! schema in `migrations/`; each call is one statement and one transaction.

mod connect;
mod error;
mod migrate;
mod schema;

use std::time::{Duration, Instant};

use deadpool::{
    Runtime,
    managed::{Object, Pool, PoolError},
};
use futures_util::{Stream, TryStreamExt as _};
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::connect::Manager;
pub use self::{
    error::Error,
    migrate::{Migrated, migrate},
};
use crate::{config, metrics::StoreMetrics};

/// Time beyond the limit of a statement after which its connection counts as broken.
const GRACE: Duration = Duration::from_millis(500);

/// A parameter of a statement, with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

pub struct Database {
    pool: Pool<Manager>,
    statement_timeout: Duration,
    /// Hosts and name of the database, for log lines.
    name: String,
    /// Name of this process among the replicas.
    pub replica: String,
    /// Time after which a replica that is not heard of counts as dead.
    pub lease: Duration,
    metrics: StoreMetrics,
}

impl Database {
    /// Creates a pool without connections. Fails if the authorities or the URL cannot be used.
    pub fn new(config: &config::Postgres, metrics: StoreMetrics) -> Result<Self, String> {
        let manager = Manager::new(config)?;
        let name = manager.name();
        let pool = Pool::builder(manager)
            .max_size(config.max_connections as usize)
            .wait_timeout(Some(config.connect_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            pool,
            statement_timeout: config.statement_timeout,
            name,
            replica: Uuid::new_v4().to_string(),
            lease: config.lease,
            metrics,
        })
    }

    /// Returns hosts and name of the database, without user and password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the password of the URL, which may be empty.
    pub fn password(&self) -> Zeroizing<Vec<u8>> {
        self.pool.manager().password()
    }

    /// Connects unless there is a connection, and checks the schema and the rights of a server.
    pub async fn check(&self) -> Result<(), Error> {
        let connection = self.connection().await?;
        let checked = timeout(self.statement_timeout, schema::check_rights(&connection)).await;
        checked.unwrap_or_else(|_| Err(late()))
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.pool.status().size
    }

    async fn connection(&self) -> Result<Object<Manager>, Error> {
        let connected = self.pool.get().await;
        connected.map_err(|error| {
            self.metrics.connect_failed();
            match error {
                PoolError::Backend(error) => error,
                PoolError::Timeout(_) => {
                    Error::NoEffect("no connection to the database in time".to_owned())
                }
                error => Error::NoEffect(error.to_string()),
            }
        })
    }

    /// Runs a statement, and returns its rows. `what` names it in the metrics.
    pub async fn query(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        let connection = self.connection().await?;
        let start = Instant::now();
        let limit = self.statement_timeout + GRACE;
        let result = timeout(limit, connection.query_typed(sql, parameters)).await;
        self.metrics.observe(what, start.elapsed());
        let error = match result {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Error::of_statement(&error),
            Err(_) => late(),
        };
        // The connection is closed, because it may be broken, or its host may have become a standby.
        drop(Object::take(connection));
        Err(error)
    }

    /// Runs a statement that returns exactly one row.
    pub async fn query_one(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, Error> {
        let rows = self.query(what, sql, parameters).await?;
        let row = rows.into_iter().next();
        row.ok_or_else(|| Error::Unavailable("the database returned nothing".to_owned()))
    }

    /// Runs a statement, and returns its rows as they arrive. There is no time limit after the connection.
    pub async fn stream(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<impl Stream<Item = Result<Row, Error>> + use<>, Error> {
        let connection = self.connection().await?;
        // The connection ends with the stream, so that other statements do not wait for it.
        let client = Object::take(connection);
        // The setting ends with the transaction, in case that a proxy uses the session for others.
        client
            .batch_execute("BEGIN READ ONLY; SET LOCAL statement_timeout = 0")
            .await
            .map_err(|error| Error::of_statement(&error))?;
        let parameters = parameters
            .iter()
            .map(|(value, kind)| (*value, kind.clone()));
        let rows = client.query_typed_raw(sql, parameters).await;
        let rows = rows.map_err(|error| Error::of_statement(&error))?;
        Ok(rows.map_err(|error| Error::of_statement(&error)))
    }
}

fn late() -> Error {
    Error::Unavailable("the database does not answer in time".to_owned())
}
