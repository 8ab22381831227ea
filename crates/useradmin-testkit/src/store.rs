//! Databases of `[store]` for the tests.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{App, Database, Postgres, audit_log::verify, process::run, targets::write_secret};

/// User of the servers, who has only the rights that `store migrate --grant-to` grants.
pub const STORE_USER: &str = "useradmin_server";

/// A database with the schema of the program, and a folder with the files that its configurations name.
pub struct Store<'a> {
    pub database: Database<'a>,
}

impl<'a> Store<'a> {
    /// Creates a database, and migrates it by `useradmin store migrate`.
    pub fn create(postgres: &'a Postgres, name: &str) -> Self {
        postgres.create_user(STORE_USER);
        let store = Self {
            database: postgres.create_database(name),
        };
        let folder = App::folder();
        let file = folder.join("owner.toml");
        let url = store.database.url("postgres");
        let text = format!(
            "{}[batch_accounts.unused]\nurl = \"http://127.0.0.1:1\"\n[batch_accounts.unused.credential]\n\
             kind = \"azure_cli\"\n",
            section(&folder, &url, "")
        );
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let (code, stdout, stderr) = run(&[
            "store",
            "migrate",
            "--config",
            file,
            "--grant-to",
            STORE_USER,
        ]);
        assert_eq!(code, 0, "{stdout}{stderr}");
        fs::remove_dir_all(folder).unwrap();
        store
    }

    /// Returns the section `[store]` of a server, with these further keys, and writes its files to the folder.
    pub fn section(&self, folder: &Path, keys: &str) -> String {
        section(folder, &self.database.url(STORE_USER), keys)
    }

    /// Returns the section `[store]` of a server that reaches the database through this port.
    pub fn section_at(&self, port: u16, folder: &Path, keys: &str) -> String {
        section(folder, &self.database.url_at(port, STORE_USER), keys)
    }

    /// Returns all records in their order.
    pub fn records(&self) -> Vec<Value> {
        let lines = self.lines();
        let records = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        records.collect()
    }

    /// Runs `useradmin audit verify` on a copy of the log. Returns the exit code, standard output and standard error.
    pub fn verify(&self) -> (i32, String, String) {
        let folder = App::folder();
        let file = folder.join("copy.jsonl");
        fs::write(&file, self.lines()).unwrap();
        let verified = verify([&file]);
        fs::remove_dir_all(folder).unwrap();
        verified
    }

    fn lines(&self) -> String {
        let sql = "SELECT line FROM useradmin.audit_record ORDER BY seq";
        let mut lines = self.database.sql(sql).unwrap();
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines
    }
}

/// Returns the section `[store]` with this URL and these further keys, and writes its files to the folder.
pub fn section(folder: &Path, url: &str, keys: &str) -> String {
    write_secret(&folder.join("store.url"), url);
    format!("[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\n{keys}\n")
}
