//! Throughput and latency with the audit log in a synced file and in a PostgreSQL database on the same disk.

use useradmin_testkit::{Postgres, STORE_USER, Store};

use crate::{
    load::Load,
    peer::ServerSettings,
    requests::batch,
    rig::{Rig, Rounds},
    table::print,
};

const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];

/// Measures calls/s and latencies. Without `USERADMIN_POSTGRES_BIN`, measures the file only.
pub fn run(rig: &Rig) -> bool {
    let postgres = Postgres::shared();
    let store = postgres.map(|postgres| Store::create(postgres, "benchmark"));
    let file = ServerSettings {
        audit: "audit.jsonl",
        ..ServerSettings::default()
    };
    let mut peers = vec![rig.first(&file)];
    let mut names = vec!["synced file"];
    if let Some(store) = &store {
        peers.push(rig.first(&ServerSettings {
            store: Some(store.database.url(STORE_USER)),
            ..file.clone()
        }));
        names.push("PostgreSQL");
    }
    let loads = IN_FLIGHT.map(|in_flight| Load {
        in_flight,
        connections: in_flight.min(4),
        ..batch(false)
    });
    let all = rig.in_sequence(&peers, &loads);
    let rows = IN_FLIGHT.iter().enumerate().flat_map(|(at, in_flight)| {
        let servers = names.iter().zip(&all);
        servers.map(move |(name, rounds)| row(*in_flight, name, &rounds[at]))
    });
    let heading = [
        "in flight",
        "audit log",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "CPU us",
    ];
    print(&heading, &rows.collect::<Vec<_>>());
    true
}

fn row(in_flight: usize, name: &str, rounds: &Rounds) -> Vec<String> {
    let milliseconds = |microseconds: f64| format!("{:.2}", microseconds / 1e3);
    vec![
        in_flight.to_string(),
        name.to_owned(),
        format!("{:.0}", rounds.median(|round| round.sample.rate)),
        milliseconds(rounds.median(|round| round.sample.p50)),
        milliseconds(rounds.median(|round| round.sample.p99)),
        format!("{:.0}", rounds.median(|round| round.cpu)),
    ]
}
