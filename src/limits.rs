//! What the system allows the process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets it have as many files and connections open as an administrator allows: what most processes begin with is less
/// than the connections that there may be.
pub fn raise_open_files() -> std::io::Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    Ok(setrlimit(Resource::Nofile, files)?)
}
