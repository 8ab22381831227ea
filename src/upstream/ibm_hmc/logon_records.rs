//! The refused logons of one account in the database, and the keyed digests under which they are counted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::task::spawn_blocking;
use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    logon_guard::{LogonResult, MAX_REFUSED, SUSPENSION},
    password_digest,
};
use crate::{
    config::secret::Secret,
    postgres::{Database, Error, Parameter},
};

/// Whether a logon may begin.
pub enum Begun {
    /// The logon counts as refused now.
    Granted,
    /// Logons with this password are suspended.
    Suspended,
    /// Another logon is in progress.
    Busy,
}

pub struct LogonRecords {
    account: String,
    database: Arc<Database>,
    /// The part of the key of digests that is in the database. It is read again after a failed statement.
    key: Mutex<Option<String>>,
    /// The last digest, because a digest is slow.
    last: Mutex<Option<LastDigest>>,
}

struct LastDigest {
    key: String,
    secret: Zeroizing<Vec<u8>>,
    text: String,
}

impl LogonRecords {
    pub fn new(account: String, database: Arc<Database>) -> Self {
        Self {
            account,
            database,
            key: Mutex::default(),
            last: Mutex::default(),
        }
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    /// Returns a name for a logon that no other logon has.
    pub fn new_holder(&self) -> String {
        format!("{} {}", self.database.replica, Uuid::new_v4())
    }

    /// Returns the part of the key of digests that is in the database.
    pub async fn digest_key(&self) -> Result<String, Error> {
        if let Some(key) = crate::lock(&self.key).clone() {
            return Ok(key);
        }
        let sql = "SELECT key FROM digest_key";
        let row = self.database.query_one("digest_key", sql, &[]).await?;
        let key: String = column(&row)?;
        *crate::lock(&self.key) = Some(key.clone());
        Ok(key)
    }

    /// Returns the digest of a password, which is the same on all servers. Besides the key in the database, it depends
    /// on the password of the database, which a copy of the database does not contain.
    pub async fn digest(&self, key: &str, password: &Secret) -> Result<String, Error> {
        let database_password = self.database.password();
        let parts: [&[u8]; 3] = [
            self.account.as_bytes(),
            password.expose().as_bytes(),
            &database_password,
        ];
        let secret = Zeroizing::new(parts.join(&b'\n'));
        if let Some(last) = &*crate::lock(&self.last)
            && last.key == key
            && last.secret == secret
        {
            return Ok(last.text.clone());
        }
        let (key, input) = (key.to_owned(), secret.clone());
        let work = spawn_blocking(move || {
            let digest = password_digest::derive(&input, key.as_bytes());
            (key, BASE64_STANDARD.encode(digest))
        });
        let stopping = |_| Error::NoEffect("the server stops".to_owned());
        let (key, digest) = work.await.map_err(stopping)?;
        *crate::lock(&self.last) = Some(LastDigest {
            key,
            secret,
            text: digest.clone(),
        });
        Ok(digest)
    }

    /// Requests that this holder may log on for this time.
    pub async fn begin(&self, digest: &str, holder: &str, time: Duration) -> Result<Begun, Error> {
        let sql = "SELECT begin_logon($1, $2, $3, $4, make_interval(secs => $5), make_interval(secs => $6))";
        let parameters: [Parameter<'_>; 6] = [
            (&self.account, Type::TEXT),
            (&digest, Type::TEXT),
            (&holder, Type::TEXT),
            (&MAX_REFUSED.cast_signed(), Type::INT4),
            (&SUSPENSION.as_secs_f64(), Type::FLOAT8),
            (&time.as_secs_f64(), Type::FLOAT8),
        ];
        let answer: String = self.call("begin_logon", sql, &parameters).await?;
        match answer.as_str() {
            "granted" => Ok(Begun::Granted),
            "suspended" => Ok(Begun::Suspended),
            "busy" => Ok(Begun::Busy),
            _ => Err(Error::Schema("begin_logon: an unknown result".to_owned())),
        }
    }

    /// Records the result of a logon. Returns the number of refused logons with its password if it was refused.
    pub async fn end(&self, digest: &str, holder: &str, result: LogonResult) -> Result<u32, Error> {
        let result = match result {
            LogonResult::Accepted => "accepted",
            LogonResult::Refused => "refused",
            LogonResult::Failed => "failed",
        };
        let sql = "SELECT end_logon($1, $2, $3, $4, make_interval(secs => $5))";
        let parameters: [Parameter<'_>; 5] = [
            (&self.account, Type::TEXT),
            (&digest, Type::TEXT),
            (&holder, Type::TEXT),
            (&result, Type::TEXT),
            (&SUSPENSION.as_secs_f64(), Type::FLOAT8),
        ];
        let refused: i32 = self.call("end_logon", sql, &parameters).await?;
        Ok(u32::try_from(refused).unwrap_or_default())
    }

    /// Runs a statement that returns one value.
    async fn call<T: for<'a> FromSql<'a>>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<T, Error> {
        let row = self.database.query_one(what, sql, parameters).await;
        if row.is_err() {
            *crate::lock(&self.key) = None;
        }
        column(&row?)
    }
}

fn column<T: for<'a> FromSql<'a>>(row: &Row) -> Result<T, Error> {
    let value = row.try_get(0);
    value.map_err(|error| Error::Schema(error.to_string()))
}
