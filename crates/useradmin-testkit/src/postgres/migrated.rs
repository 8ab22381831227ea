//! Databases with the schema of the server, and the configuration of servers that use them.

use std::{fs, path::Path};

use useradmin::{config, postgres::migrate};

use super::{Database, Postgres};
use crate::{App, batch_section, write_secret};

/// The user of the server under test. It has no rights beyond those that `useradmin store migrate` grants.
const SERVER: &str = "useradmin_server";

impl Postgres {
    /// Creates a database with the newest schema, for one test.
    pub async fn migrated_database(&self, name: &str) -> Database<'_> {
        let database = self.create_database(name);
        self.create_user(SERVER);
        let folder = App::folder();
        // A configuration without a target is not valid.
        let target = batch_section(&folder, "http://127.0.0.1:1");
        let text = target + &section(&folder, &database.url("postgres"));
        let config = config::parse(&folder.join("useradmin.toml"), &text);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let store = config.store.postgres().unwrap();
        migrate(&store, Some(SERVER)).await.unwrap();
        fs::remove_dir_all(folder).unwrap();
        database
    }
}

impl Database<'_> {
    /// Writes the URL to this folder, and returns the section `[store]` of a server that uses the database.
    pub fn store_section(&self, folder: &Path) -> String {
        section(folder, &self.url(SERVER))
    }

    /// Returns the section like [`Database::store_section`], for the database behind this port.
    pub fn store_section_at(&self, port: u16, folder: &Path) -> String {
        section(folder, &self.url_at(port, SERVER))
    }

    /// Returns all rows of the schema, as one text.
    pub fn dump(&self) -> String {
        let statement = "SELECT schema_to_xml('useradmin', true, false, '')";
        self.sql(statement).unwrap()
    }
}

fn section(folder: &Path, url: &str) -> String {
    write_secret(&folder.join("store.url"), url);
    "\n[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\n".to_owned()
}
