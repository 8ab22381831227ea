//! `[store]`: where the state is kept that must survive a process, or that replicas share.

use std::{net::IpAddr, time::Duration};

use tokio_postgres::config::Host;

use super::{
    reader::Reader,
    schema::Key,
    secret::{SecretEncoding, SecretSource},
    table::{Table as _, table},
    values::{Roots, ca_file, choice, duration, number, seconds, secret},
};
use crate::client_tls::Trust;

const LOCAL: &str = "local";
const POSTGRES: &str = "postgres";

table! {
    /// `[store]`
    #[table("store", check = check)]
    pub struct Store {
        /// Where audit records, quotas and refused HMC logons are kept. `local`: in the audit log and in a file beside
        /// it, quotas in memory. `postgres`: in a PostgreSQL database that all replicas share; `[audit]` then has no
        /// effect.
        kind: &'static str = choice(vec![LOCAL, POSTGRES]).default(LOCAL);
        /// The URL of the database, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; read again for each connection. It
        /// can name several hosts. Instead of its `sslmode`, `ca_file` decides about TLS.
        #[key("url_file")]
        url: Option<SecretSource> = secret("URL", SecretEncoding::Text).optional("required by postgres");
        /// The authorities that can vouch for the database. With it, every connection uses TLS, and host name and dates
        /// are checked; read again for each connection. Without it, only a database on a loopback address is allowed.
        #[key("ca_file")]
        roots: Roots = ca_file(Trust::ReplaceSystem).format("path of a PEM file: the only trusted authorities");
        /// Maximum number of connections of this server. The audit log uses one at a time, each logon to an HMC another
        /// one for a moment.
        max_connections: u32 = number(2..=100).default(4);
        /// Time limit for a new connection, and for waiting for a free one.
        #[key("connect_timeout_seconds")]
        connect_timeout: Duration = seconds(1..=60).default(3).map(duration);
        /// Time limit for a statement, on the server of the database and on this side. Calls do not wait longer than
        /// one second for their audit record in any case.
        #[key("statement_timeout_seconds")]
        statement_timeout: Duration = seconds(1..=60).default(3).map(duration);
        /// Time after which a server that is not heard of counts as dead. Another one then records the outcomes of its
        /// interrupted calls as unknown.
        #[key("lease_seconds")]
        lease: Duration = seconds(3..=600).default(15).map(duration);
    }
}

/// A PostgreSQL database.
#[derive(Clone)]
pub struct Postgres {
    pub url: SecretSource,
    pub roots: Roots,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lease: Duration,
}

impl Store {
    /// Returns a description for people, without secrets.
    pub fn summary(&self) -> String {
        let url = self.url.as_ref().and_then(SecretSource::last_valid);
        let Some(config) = url.and_then(|url| parse_url(url.expose()).ok()) else {
            return LOCAL.to_owned();
        };
        let tls = match &self.roots.file {
            Some(_) => "TLS",
            None => "without TLS",
        };
        format!("{}, {tls}", database_name(&config))
    }

    /// Returns the database, or `None` if the state is kept locally.
    pub fn postgres(&self) -> Option<Postgres> {
        let url = self.url.clone().filter(|_| self.kind == POSTGRES)?;
        Some(Postgres {
            url,
            roots: self.roots.clone(),
            max_connections: self.max_connections,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            lease: self.lease,
        })
    }
}

/// Reports a missing URL, a URL that cannot be used, and keys that have no effect.
fn check(store: &Store, reader: &Reader<'_>) {
    if store.kind == LOCAL {
        for Key { name, .. } in Store::keys() {
            if name != "kind" && reader.has(name) {
                let error = format!("`{name}` does not go with kind `{LOCAL}`");
                reader.error(reader.key_span(name), error);
            }
        }
        return;
    }
    if reader.names_in("audit").next().is_some() {
        let warning = " keeps the audit log in the database; [audit] has no effect";
        reader.warn("kind", warning);
    }
    let Some(url) = &store.url else {
        if !reader.has("url_file") {
            reader.missing("key", "url_file");
        }
        return;
    };
    let secret = url.last_valid();
    let Some(url) = secret.as_ref().map(|secret| parse_url(secret.expose())) else {
        return;
    };
    match url {
        Err(error) => reader.invalid_content("url_file", format!("holds a URL that {error}")),
        Ok(config) if store.roots.file.is_none() && !is_loopback(&config) => {
            let error = "a database on another host needs TLS: `ca_file` is missing";
            reader.error(reader.value_span("url_file"), error);
        }
        Ok(_) => {}
    }
}

/// Returns the parameters of a connection. The error is the predicate of a sentence, and does not quote the URL.
pub fn parse_url(text: &str) -> Result<tokio_postgres::Config, &'static str> {
    let text = text.trim();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("does not start with `postgres://`");
    }
    let config = without_tls_parameters(text).parse::<tokio_postgres::Config>();
    let config = config.map_err(|_| "is not `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host");
    }
    if config.get_user().is_none() {
        return Err("names no user");
    }
    Ok(config)
}

/// Removes the parameters that `ca_file` replaces. libpq has more values for them than the library accepts.
fn without_tls_parameters(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let kept = query
        .split('&')
        .filter(|pair| !pair.starts_with("sslmode=") && !pair.starts_with("sslrootcert="));
    format!("{base}?{}", kept.collect::<Vec<_>>().join("&"))
}

/// Returns hosts and name of a database, without user and password.
pub fn database_name(config: &tokio_postgres::Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = hosts.collect();
    let database = config.get_dbname().or(config.get_user());
    let database = database.unwrap_or_default();
    format!("postgres {}/{database}", hosts.join(","))
}

/// Returns whether all hosts are on this machine.
pub fn is_loopback(config: &tokio_postgres::Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, parse_url};

    #[test]
    fn urls_are_parsed_without_their_tls_parameters() {
        for (url, loopback) in [
            ("postgres://u:p@127.0.0.1:5432/d", Ok(true)),
            (
                "postgresql://u@[::1]/d?sslmode=verify-full&application_name=x",
                Ok(true),
            ),
            ("postgres://u@localhost/d?sslrootcert=/x", Ok(true)),
            ("postgres://u@%2Frun%2Fpostgresql/d", Ok(true)),
            (
                "postgres://u:p@db.example,localhost/d?target_session_attrs=read-write",
                Ok(false),
            ),
            ("postgres://u:p@10.0.0.1/d?sslmode=disable", Ok(false)),
            ("postgres://u:p@localhost/d?hostaddr=10.0.0.1", Ok(false)),
            ("postgres://localhost/d", Err("names no user")),
            ("postgres:///d?user=u", Err("names no host")),
            (
                "host=localhost user=u",
                Err("does not start with `postgres://`"),
            ),
            ("", Err("does not start with `postgres://`")),
            (
                "postgres://u@h/d?unknown=1",
                Err("is not `postgres://USER:PASSWORD@HOST:PORT/DATABASE`"),
            ),
        ] {
            let parsed = parse_url(url).map(|config| is_loopback(&config));
            assert_eq!(parsed, loopback, "{url}");
        }
    }
}
