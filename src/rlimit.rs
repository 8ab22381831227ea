//! The limit of open files of the process, and the number of connections that it permits.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    config::Config,
    runtimes,
    server::{acceptor::MIN_HANDSHAKES, admin_listener},
};

/// File descriptors reserved for the audit log and its rotation, files that are read again, name resolution, token
/// endpoints, standard streams and listeners.
const RESERVE: u64 = 64;
/// File descriptors reserved for the event queue of each worker.
const WORKER_RESERVE: u64 = 4;

/// Raises the soft limit of open files, which is usually less than `max_connections`, to the hard limit.
pub fn raise_open_files() -> std::io::Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    Ok(setrlimit(Resource::Nofile, files)?)
}

/// Lowers `max_connections` if the limit of open files is too low for the configured number and all other open files,
/// so that callers cannot use up the descriptors of upstream requests, the admin port and the audit log.
pub fn fit_connections(config: &mut Config) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let configured = config.server.limits.max_connections;
    let admin = config.server.admin_listen;
    let admin = admin.map_or(0, |_| admin_listener::MAX_CONNECTIONS as u64);
    let server = admin + RESERVE + WORKER_RESERVE * runtimes::count() as u64;
    // Each upstream request may have its own connection.
    let targets = config.targets.list().into_iter();
    let upstreams: u64 = targets.map(|target| u64::from(target.max_in_flight)).sum();
    let shared = limit.saturating_sub(server);
    // Callers get at least half: upstream requests seldom need as many connections as they may have in flight.
    let fitting = fitting_connections(shared - upstreams.min(shared / 2));
    if fitting < configured {
        config.server.limits.max_connections = fitting;
        tracing::warn!(
            open_files = limit,
            needed = server + upstreams + needed_by_callers(configured),
            configured,
            effective = fitting,
            "max_connections lowered to fit the open-file limit",
        );
    }
}

/// Returns the number of descriptors for connections of callers: those in use, and as many in handshakes.
fn needed_by_callers(connections: u32) -> u64 {
    u64::from(connections) + u64::from(connections.max(MIN_HANDSHAKES))
}

/// Returns the largest `max_connections` for which [`needed_by_callers`] does not exceed `descriptors`; at least one.
fn fitting_connections(descriptors: u64) -> u32 {
    let besides_handshakes = descriptors.saturating_sub(MIN_HANDSHAKES.into());
    let connections = besides_handshakes.min(descriptors / 2).max(1);
    u32::try_from(connections).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{fitting_connections, needed_by_callers};

    #[test]
    fn connections_are_limited_by_file_descriptors() {
        for descriptors in [66, 100, 127, 128, 129, 1_000, 1_000_000] {
            let fitting = fitting_connections(descriptors);
            assert!(needed_by_callers(fitting) <= descriptors, "{descriptors}");
            assert!(
                needed_by_callers(fitting + 1) > descriptors,
                "{descriptors}"
            );
        }
        for descriptors in [0, 1, 64, 65] {
            assert_eq!(fitting_connections(descriptors), 1, "{descriptors}");
        }
        assert_eq!(fitting_connections(u64::MAX), u32::MAX);
    }
}
