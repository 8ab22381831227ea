//! The audit log that `audit verify` and `audit report` read: files, or the log of a configuration.

use std::{fmt, path::PathBuf, sync::Arc};

use clap::Args;

use super::exit::{display_path, escape_control};
use crate::{audit::Log, config, metrics::Metrics, postgres::Database};

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// The files, oldest first.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read the log of this configuration: its database, or its file without renamed ones.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An audit log to read.
pub enum OpenSource {
    Files(Vec<PathBuf>),
    Database(Arc<Database>),
}

impl Source {
    /// Returns the log. Connects to no database yet. Fails if the configuration is invalid or has no log to read.
    pub fn open(self) -> Result<OpenSource, String> {
        let Some(file) = &self.config else {
            return Ok(OpenSource::Files(self.files));
        };
        let config = config::check_file(file).map_err(|errors| errors.to_string())?;
        let settings = config.store.postgres();
        let database = settings.map(|settings| {
            let database = Database::new(&settings, Metrics::default().store.clone());
            database.map(Arc::new)
        });
        let database = database.transpose();
        let database = database.map_err(|error| format!("[store]: {error}"))?;
        match Log::new(&config.audit, database.as_ref()) {
            Some(Log::Database(database)) => Ok(OpenSource::Database(database)),
            Some(Log::File(file)) => Ok(OpenSource::Files(vec![file])),
            None => {
                Err("`file` in [audit] is not a file, so there are no records to read".to_owned())
            }
        }
    }
}

impl fmt::Display for OpenSource {
    /// Writes the paths of the files or the name of the database, with control characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => {
                let paths = files.iter().map(|file| display_path(file));
                f.write_str(&paths.collect::<Vec<_>>().join(" "))
            }
            Self::Database(database) => f.write_str(&escape_control(database.name())),
        }
    }
}
