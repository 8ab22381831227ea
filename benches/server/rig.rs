//! The test rig: starts servers and upstreams, and measures the servers in turn, round by round.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::ValueEnum as _;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use useradmin::rlimit;
use useradmin_testkit::{Settings, serve};

use crate::{
    baseline, cpus, envoy,
    load::{Load, Sample},
    peer::{Peer, ServerSettings},
    table::median,
    tls::Tls,
    upstream,
};

/// The parameters of the measurements, and the running upstreams.
pub struct Rig {
    /// Number of measurements of each load.
    pub rounds: usize,
    /// Duration of a measurement.
    pub time: Duration,
    /// Paths of the builds of the server to measure.
    pub servers: Vec<PathBuf>,
    envoy: PathBuf,
    /// TLS for all connections, or `None` to use none.
    pub tls: Option<Tls>,
    /// The upstream of the servers, on the CPU of the load generator.
    pub upstream: SocketAddr,
    /// A second upstream, on the CPU of the servers, for direct requests.
    pub near: SocketAddr,
    pub runtime: Runtime,
}

/// A program to measure.
#[derive(Clone)]
pub enum Program {
    /// A build of the useradmin server.
    Useradmin(PathBuf),
    Baseline(baseline::Client),
    Envoy,
}

/// The result of one measurement.
#[derive(Clone, Copy, Default)]
pub struct Measurement {
    pub sample: Sample,
    /// CPU time of the server per call, in microseconds.
    pub cpu: f64,
}

/// The results of all rounds of one load on one server.
#[derive(Default)]
pub struct Rounds(pub Vec<Measurement>);

impl Rounds {
    pub fn median(&self, of: impl Fn(&Measurement) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }
}

impl Rig {
    pub fn new(
        rounds: usize,
        time: Duration,
        servers: Vec<PathBuf>,
        envoy: PathBuf,
        tls: Option<Tls>,
    ) -> Self {
        // Each connection needs a file descriptor. A failure is ignored because most measurements need few connections.
        let _ = rlimit::raise_open_files();
        cpus::pin(&[cpus::LOAD_CPU]);
        Self {
            rounds,
            time,
            servers,
            envoy,
            upstream: start_upstream(cpus::LOAD_CPU, tls.as_ref()),
            near: start_upstream(cpus::SERVER_CPU, None),
            tls,
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Starts a build of the useradmin server.
    pub fn server(&self, program: &Path, setting: &ServerSettings) -> Peer {
        let program = Command::new(program);
        Peer::server(
            &self.runtime,
            program,
            self.upstream,
            setting,
            self.tls.as_ref(),
        )
    }

    /// Starts the first build of the server.
    pub fn first(&self, setting: &ServerSettings) -> Peer {
        self.server(&self.servers[0], setting)
    }

    /// Returns the programs to compare: the builds of this server, the baselines unless there is TLS, which they do not
    /// have, and Envoy if it is installed.
    pub fn programs(&self) -> Vec<Program> {
        let mut programs: Vec<_> = self
            .servers
            .iter()
            .cloned()
            .map(Program::Useradmin)
            .collect();
        if self.tls.is_none() {
            let baselines = baseline::Client::value_variants().iter().copied();
            programs.extend(baselines.map(Program::Baseline));
        }
        if envoy::is_installed(&self.envoy) {
            programs.push(Program::Envoy);
        }
        programs
    }

    /// Starts a program. If `tool` is not empty, it is a command that runs the program.
    pub fn start(&self, program: &Program, tool: &[&str]) -> Peer {
        let under = |path: &Path| match tool {
            [] => Command::new(path),
            [tool, arguments @ ..] => {
                let mut command = Command::new(tool);
                command.args(arguments).arg(path);
                command
            }
        };
        match program {
            Program::Useradmin(path) => {
                let setting = ServerSettings::default();
                let mut peer = Peer::server(
                    &self.runtime,
                    under(path),
                    self.upstream,
                    &setting,
                    self.tls.as_ref(),
                );
                if self.servers.len() > 1 {
                    peer.name = path.display().to_string();
                }
                peer
            }
            Program::Baseline(client) => {
                let command = under(&env::current_exe().unwrap());
                baseline::start(&self.runtime, command, *client, self.upstream)
            }
            Program::Envoy => envoy::start(
                &self.runtime,
                under(&self.envoy),
                self.upstream,
                self.tls.as_ref(),
            ),
        }
    }

    /// Measures one load on one server.
    pub fn measure(&self, peer: &Peer, load: &Load) -> Measurement {
        let mut before = Duration::ZERO;
        let begin = || before = peer.cpu();
        let sample = load.run(&self.runtime, &peer.endpoint, self.time, begin);
        let cpu = peer.cpu().saturating_sub(before).as_secs_f64() * 1e6 / sample.calls as f64;
        peer.discard_output();
        Measurement { sample, cpu }
    }

    /// Measures the loads on the servers in turn. Returns the rounds by server, then by load.
    pub fn in_sequence(&self, peers: &[Peer], loads: &[Load]) -> Vec<Vec<Rounds>> {
        let empty = || loads.iter().map(|_| Rounds::default()).collect();
        let mut all: Vec<Vec<Rounds>> = peers.iter().map(|_| empty()).collect();
        for _ in 0..self.rounds {
            for (at, load) in loads.iter().enumerate() {
                for (peer, rounds) in peers.iter().zip(&mut all) {
                    rounds[at].0.push(self.measure(peer, load));
                }
            }
        }
        all
    }
}

/// Starts an upstream in a thread pinned to this CPU.
fn start_upstream(cpu: usize, tls: Option<&Tls>) -> SocketAddr {
    let settings = Settings {
        tls: tls.map(Tls::upstream),
        ..Settings::default()
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        cpus::pin(&[cpu]);
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, settings, upstream::respond).await;
        });
    });
    receiver.recv().unwrap()
}
