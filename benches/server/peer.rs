//! Starts and stops servers under test.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{runtime::Runtime, time::sleep};

use crate::{
    cpus,
    load::{self, Endpoint},
    process,
    requests::batch,
    tls::{self, Tls},
};

/// A running server.
pub struct Peer {
    pub name: String,
    pub endpoint: Endpoint,
    /// Time from the start of the process to its first response.
    pub ready: Duration,
    child: Child,
    folder: PathBuf,
}

/// Configuration of the server under test.
#[derive(Clone)]
pub struct ServerSettings {
    /// Destination of the audit log: `stdout`, or a file name in the server's folder.
    pub audit: &'static str,
    pub sync: bool,
    /// URL of the database that keeps the audit log instead.
    pub store: Option<String>,
    /// Number of configured HMCs.
    pub hmcs: usize,
    pub max_connections: u32,
    pub cpus: &'static [usize],
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            audit: "stdout",
            sync: true,
            store: None,
            hmcs: 1,
            max_connections: 1024,
            cpus: &[cpus::SERVER_CPU],
        }
    }
}

/// Creates a temporary folder and reserves a free loopback address.
pub fn place() -> (PathBuf, SocketAddr) {
    let folder = std::env::temp_dir().join(format!("useradmin-bench-{}", uuid::Uuid::new_v4()));
    fs::create_dir(&folder).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (folder, listener.local_addr().unwrap())
}

/// Opens a file for the output of the server, as a supervisor does.
fn output(folder: &Path, name: &str) -> Stdio {
    File::options()
        .create(true)
        .append(true)
        .open(folder.join(name))
        .unwrap()
        .into()
}

fn configuration(
    folder: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    setting: &ServerSettings,
    tls: Option<&Tls>,
) -> String {
    fs::write(folder.join("secret"), "a secret for tests").unwrap();
    let (mut scheme, mut server_tls, mut identity) = ("http", String::new(), "anonymous");
    let mut ca_file = String::new();
    if let Some(tls) = tls {
        tls.write_files(folder);
        (scheme, identity) = ("https", tls::CALLER);
        ca_file = format!("ca_file = \"{}\"\n", tls::AUTHORITY_FILE);
        server_tls = format!(
            "[server.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n",
            tls::CERTIFICATE_FILE,
            tls::KEY_FILE,
            tls::AUTHORITY_FILE
        );
    }
    let log = match &setting.store {
        Some(url) => {
            fs::write(folder.join("store.url"), url).unwrap();
            "[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\n".to_owned()
        }
        None => format!(
            "[audit]\nfile = \"{}\"\nsync = {}\n",
            setting.audit, setting.sync
        ),
    };
    let ServerSettings {
        hmcs,
        max_connections,
        ..
    } = setting;
    let mut text = format!(
        "[server]\nlisten = \"{listen}\"\nadmin_listen = \"127.0.0.1:0\"\n\
        [server.limits]\nmax_connections = {max_connections}\n{server_tls}\
        {log}\
        [batch_accounts.prod]\nurl = \"{scheme}://{upstream}\"\n{ca_file}max_in_flight = 1024\nmax_queued = 1024\n\
        [batch_accounts.prod.credential]\nkind = \"client_secret\"\ntenant_id = \"tenant\"\nclient_id = \"client\"\n\
        secret_file = \"secret\"\nauthority = \"{scheme}://{upstream}\"\n\
        [[callers]]\nidentity = \"{identity}\"\nallow = [\
        {{ rpc = \"DeleteBatchNodeUser\", targets = [\"prod\"], pools = [\"pool-*\"] }}, \
        {{ rpc = \"DeleteHmcUser\", targets = [\"hmc*\"] }}]\n"
    );
    for number in 0..*hmcs {
        let _ = write!(
            text,
            "[hmcs.hmc{number}]\nurl = \"{scheme}://{upstream}\"\n{ca_file}userid = \"svc\"\npassword_file = \"secret\"\n\
            max_in_flight = 1024\nprotected_users = [\"ACSADMIN\", \"SERVICE\", \"ENSADMIN\"]\n"
        );
    }
    text
}

impl Peer {
    /// Starts the useradmin server.
    pub fn server(
        runtime: &Runtime,
        mut program: Command,
        upstream: SocketAddr,
        setting: &ServerSettings,
        tls: Option<&Tls>,
    ) -> Self {
        let (folder, address) = place();
        let file = folder.join("useradmin.toml");
        let text = configuration(&folder, address, upstream, setting, tls);
        fs::write(&file, text).unwrap();
        program.args(["serve", "--config"]).arg(file);
        let endpoint = Endpoint::new(address, tls);
        Self::start(
            runtime,
            "useradmin",
            program,
            (folder, endpoint),
            setting.cpus,
        )
    }

    /// Starts a server on these CPUs, and waits for its first response.
    pub fn start(
        runtime: &Runtime,
        name: &str,
        mut command: Command,
        (folder, endpoint): (PathBuf, Endpoint),
        cpus: &[usize],
    ) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(output(&folder, "stdout"))
            .stderr(output(&folder, "stderr"));
        let started = Instant::now();
        let child = cpus::run_on(cpus, || command.spawn()).unwrap();
        let mut peer = Self {
            name: name.to_owned(),
            endpoint,
            ready: Duration::ZERO,
            child,
            folder,
        };
        runtime.block_on(async {
            while load::connect(&peer.endpoint).await.is_err() {
                assert!(
                    peer.child.try_wait().unwrap().is_none() && started.elapsed().as_secs() < 60,
                    "{}",
                    peer.log()
                );
                sleep(Duration::from_millis(1)).await;
            }
        });
        batch(false).calls(runtime, &peer.endpoint, 1);
        peer.ready = started.elapsed();
        peer
    }

    /// Returns the standard error output so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu(&self) -> Duration {
        process::cpu(self.pid())
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Truncates the output files, so that the disk does not fill up. The server appends to them, so later output
    /// starts at the new end.
    pub fn discard_output(&self) {
        for name in ["stdout", "stderr"] {
            File::options()
                .write(true)
                .open(self.folder.join(name))
                .unwrap()
                .set_len(0)
                .unwrap();
        }
    }
}

impl Peer {
    /// Sends SIGTERM and waits until the process exits.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
