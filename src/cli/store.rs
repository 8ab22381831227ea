//! `store migrate`: creates the schema of the database that replicas share, or brings it to the newest version.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{
    exit::{BAD_CONFIGURATION, fail, print},
    help,
};
use crate::{config, postgres};

#[derive(Subcommand)]
pub enum Store {
    /// Create the schema of the database, or bring it to the version that this program needs.
    ///
    /// Servers do not migrate. Run this command before a new version of the program starts.
    ///
    /// Servers of the earlier version can continue meanwhile.
    #[command(after_long_help = help::STORE_MIGRATE.text())]
    Migrate(Migrate),
}

#[derive(Args)]
pub struct Migrate {
    /// The configuration file. The user in its `url_file` becomes the owner of the schema.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Grant this role the rights that a server needs: to read the tables, and to call the functions.
    #[arg(long, value_name = "ROLE")]
    grant_to: Option<String>,
}

pub async fn run(command: Store) -> ExitCode {
    let Store::Migrate(arguments) = command;
    let config = match config::check_file(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), BAD_CONFIGURATION),
    };
    let Some(settings) = config.store.postgres() else {
        let text = "the configuration has no [store] of kind `postgres`";
        return fail(text, BAD_CONFIGURATION);
    };
    match postgres::migrate(&settings, arguments.grant_to.as_deref()).await {
        Ok(migrated) => {
            for migration in &migrated.applied {
                print(&format!("applied {migration}"));
            }
            print(&format!("schema version {}", migrated.version));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("[store]: {error}"), 1),
    }
}
