//! Errors of the database, without the values of statements.

use std::fmt;

use tokio_postgres::error::{DbError, Severity, SqlState};

/// SQLSTATE of statements of a replica whose lease has ended, or that has registered again.
const NOT_REGISTERED: &str = "UA001";

/// Why a statement failed.
#[derive(Debug)]
pub enum Error {
    /// The database cannot be reached, or the statement failed. Repeating it may succeed. It is unknown whether the
    /// statement took effect.
    Unavailable(String),
    /// As [`Error::Unavailable`], but the statement had no effect, because it was not sent, or the database has refused
    /// it.
    NoEffect(String),
    /// The statement had no effect, because the replica must register first.
    NotRegistered,
    /// The schema is missing or too old, or the user of the database has too few rights.
    Schema(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable(text) | Self::NoEffect(text) | Self::Schema(text) => text,
            Self::NotRegistered => "the replica is not registered any more",
        })
    }
}

/// Describes an error without the values of the statement.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let error: &dyn std::error::Error = error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Returns the error of a statement.
    pub(super) fn of_statement(error: &tokio_postgres::Error) -> Self {
        let text = describe(error);
        let severity = error.as_db_error().and_then(DbError::parsed_severity);
        let schema = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ];
        match error.code() {
            Some(code) if code.code() == NOT_REGISTERED => Self::NotRegistered,
            Some(code) if schema.contains(code) => Self::Schema(text),
            // PostgreSQL has rolled the statement back. After a fatal error, for example when it stops while a commit
            // waits for standbys, the transaction may be committed. Errors of a proxy have codes of connections.
            Some(code) if severity == Some(Severity::Error) && !code.code().starts_with("08") => {
                Self::NoEffect(text)
            }
            _ => Self::Unavailable(text),
        }
    }
}
