//! Databases of `[store]` for the tests.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{App, Database, Postgres, process::run, targets::write_secret};

/// User of the servers, who has only the rights that `store migrate --grant-to` grants.
pub const STORE_USER: &str = "useradmin_server";

/// A database with the schema of the program, and a folder with the files that its configurations name.
pub struct Store<'a> {
    pub database: Database<'a>,
    /// Keys of every section `[store]`, such as `ca_file`.
    keys: String,
}

impl<'a> Store<'a> {
    /// Creates a database, and migrates it by `useradmin store migrate`.
    pub fn create(postgres: &'a Postgres, name: &str) -> Self {
        Self::create_with(postgres, name, "")
    }

    /// Creates a database like [`Store::create`], with these keys of every section `[store]`.
    pub fn create_with(postgres: &'a Postgres, name: &str, keys: &str) -> Self {
        postgres.create_user(STORE_USER);
        let store = Self {
            database: postgres.create_database(name),
            keys: keys.to_owned(),
        };
        let arguments = ["store", "migrate", "--grant-to", STORE_USER];
        let (code, stdout, stderr) = store.run_as("postgres", &arguments);
        assert_eq!(code, 0, "{stdout}{stderr}");
        store
    }

    /// Returns the section `[store]` of a server, with these further keys, and writes its files to the folder.
    pub fn section(&self, folder: &Path, keys: &str) -> String {
        let keys = format!("{}{keys}", self.keys);
        section(folder, &self.database.url(STORE_USER), &keys)
    }

    /// Returns the section `[store]` of a server that reaches the database through this port.
    pub fn section_at(&self, port: u16, folder: &Path, keys: &str) -> String {
        let keys = format!("{}{keys}", self.keys);
        section(folder, &self.database.url_at(port, STORE_USER), &keys)
    }

    /// Returns all records in their order.
    pub fn records(&self) -> Vec<Value> {
        let lines = self.lines();
        let records = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        records.collect()
    }

    /// Runs `useradmin audit verify` on the database with the rights of a server. Returns the exit code, standard
    /// output and standard error.
    pub fn verify(&self) -> (i32, String, String) {
        self.run_as(STORE_USER, &["audit", "verify"])
    }

    /// Runs `useradmin` with these arguments and a configuration that names the database and this user of it. Returns
    /// the exit code, standard output and standard error.
    pub fn run_as(&self, user: &str, arguments: &[&str]) -> (i32, String, String) {
        run_with_keys(&self.database.url(user), &self.keys, arguments)
    }

    /// Returns the lines of all records in their order, each with a newline.
    pub fn lines(&self) -> String {
        let sql = "SELECT line FROM useradmin.audit_record ORDER BY seq";
        let mut lines = self.database.sql(sql).unwrap();
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines
    }
}

/// Runs `useradmin` with these arguments and a configuration that names the database at this URL. Returns the exit
/// code, standard output and standard error.
pub fn run_with_database(url: &str, arguments: &[&str]) -> (i32, String, String) {
    run_with_keys(url, "", arguments)
}

fn run_with_keys(url: &str, keys: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    let text = format!(
        "{}[batch_accounts.unused]\nurl = \"http://127.0.0.1:1\"\n[batch_accounts.unused.credential]\n\
         kind = \"azure_cli\"\n",
        section(&folder, url, keys)
    );
    fs::write(&file, text).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let result = run(&[arguments, &config].concat());
    fs::remove_dir_all(folder).unwrap();
    result
}

/// Returns the section `[store]` with this URL and these further keys, and writes its files to the folder.
pub fn section(folder: &Path, url: &str, keys: &str) -> String {
    write_secret(&folder.join("store.url"), url);
    format!("[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\n{keys}\n")
}
