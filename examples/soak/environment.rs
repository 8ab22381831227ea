//! The server as a separate process, and its four targets.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use useradmin_client::Client;

use crate::upstream::{
    Batch, Control, Entra, Fault, Hmc, Kind, PASSWORD, SECRET, Service, Upstream, Users,
};

/// Aliases of the targets: two Batch accounts, with tokens and with a shared key, and two HMCs.
pub const TARGETS: [&str; 4] = ["prod", "render", "dallas", "zurich"];

/// Settings of the environment that depend on the scenario.
#[derive(Clone)]
pub struct Settings {
    /// Delay of each response of an upstream.
    pub latency: Duration,
    /// Delay of each response of an upstream that is slow.
    pub slow_latency: Duration,
    /// Lifetime of the access tokens.
    pub token_lifetime: Duration,
    /// Additional keys of `[server.limits]`.
    pub limit_keys: &'static str,
    /// Additional keys of each Batch account.
    pub batch: &'static str,
    /// Additional keys of each HMC.
    pub hmc: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            slow_latency: Duration::ZERO,
            token_lifetime: Duration::from_hours(1),
            limit_keys: "",
            batch: "",
            hmc: "",
        }
    }
}

/// The server and all upstreams.
pub struct Environment {
    pub folder: PathBuf,
    pub entra: Arc<Upstream<Entra>>,
    pub batch: [Upstream<Batch>; 2],
    pub hmcs: [Upstream<Hmc>; 2],
    server: Child,
    address: String,
}

impl Environment {
    pub fn start(settings: &Settings) -> Self {
        let folder = std::env::temp_dir().join(format!("useradmin-soak-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let control = Control {
            fault: Fault::None,
            affected_kind: None,
            latency: settings.latency,
            slow_latency: settings.slow_latency,
            clock_offset: 0,
        };
        let entra = Arc::new(Upstream::start(
            Entra::new(settings.token_lifetime),
            control,
        ));
        let batch = [Some(Arc::clone(&entra)), None];
        let batch = batch.map(|tokens| Upstream::start(Batch::new(tokens), control));
        let hmcs = [(), ()].map(|()| Upstream::start(Hmc::default(), control));
        let urls = [&batch[0].url, &batch[1].url, &hmcs[0].url, &hmcs[1].url];
        write_configuration(&folder, settings, &entra.url, urls);
        let (server, address) = start_server(&folder);
        Self {
            folder,
            entra,
            batch,
            hmcs,
            server,
            address,
        }
    }

    /// Returns clients for a number of callers. They have at most 32 connections in total.
    pub fn clients(&self, count: usize) -> Vec<Client> {
        let url = format!("http://{}", self.address);
        let client = || Client::builder(url.clone()).build().unwrap();
        (0..count.min(32)).map(|_| client()).collect()
    }

    pub fn users(&self, target: usize) -> &Users {
        match target {
            0 | 1 => &self.batch[target].users,
            _ => &self.hmcs[target - 2].users,
        }
    }

    pub fn requests(&self, target: usize) -> u32 {
        match target {
            0 | 1 => self.batch[target].requests(),
            _ => self.hmcs[target - 2].requests(),
        }
    }

    /// Injects a fault into later requests of this kind to a target, or into all its requests.
    pub fn set_fault(&self, target: usize, error: Fault, only: Option<Kind>) {
        match target {
            0 | 1 => self.batch[target].set_fault(error, only),
            _ => self.hmcs[target - 2].set_fault(error, only),
        }
    }

    /// Sets the offset of the clocks of all upstreams, in seconds.
    pub fn set_clock_offsets(&self, seconds: i64) {
        fn set_clock_offset<S: Service>(upstream: &Upstream<S>, seconds: i64) {
            upstream
                .control
                .send_modify(|now| now.clock_offset = seconds);
        }
        set_clock_offset(&self.entra, seconds);
        self.batch
            .iter()
            .for_each(|account| set_clock_offset(account, seconds));
        self.hmcs
            .iter()
            .for_each(|hmc| set_clock_offset(hmc, seconds));
    }

    /// Returns the resident memory of the server, in KiB.
    pub fn memory(&self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    }

    /// Stops the server with SIGTERM. Returns whether it exited with 0.
    pub fn stop(&mut self) -> bool {
        let server = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw);
        kill_process(server.unwrap(), Signal::TERM).unwrap();
        self.server.wait().unwrap().success()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // The process has already exited, unless the scenario failed.
        let _ = self.server.kill();
    }
}

fn start_server(folder: &Path) -> (Child, String) {
    let log = File::create(folder.join("server.log")).unwrap();
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["serve", "--config"])
        .arg(folder.join("useradmin.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = server.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ");
    let address = address.expect("the server has not started; see server.log");
    (server, address.to_owned())
}

fn write_configuration(folder: &Path, settings: &Settings, authority: &str, urls: [&String; 4]) {
    fs::write(folder.join("batch.key"), Batch::key()).unwrap();
    fs::write(folder.join("batch.secret"), SECRET).unwrap();
    fs::write(folder.join("hmc.password"), PASSWORD).unwrap();
    let Settings {
        limit_keys,
        batch,
        hmc,
        ..
    } = settings;
    let [prod, render, dallas, zurich] = urls;
    let hmc_section = |name: &str, url: &str| {
        format!(
            "[hmcs.{name}]\nurl = \"{url}\"\nuserid = \"svc-soak\"\npassword_file = \"hmc.password\"\n{hmc}\n"
        )
    };
    let (dallas, zurich) = (hmc_section("dallas", dallas), hmc_section("zurich", zurich));
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[server.limits]
{limit_keys}
[[callers]]
identity = "anonymous"
allow = [
    {{ rpc = "DeleteBatchNodeUser", targets = ["*"] }},
    {{ rpc = "DeleteHmcUser", targets = ["*"] }},
]
[batch_accounts.prod]
url = "{prod}"
{batch}
[batch_accounts.prod.credential]
kind = "client_secret"
tenant_id = "tenant"
client_id = "client"
secret_file = "batch.secret"
authority = "{authority}"
[batch_accounts.render]
url = "{render}"
{batch}
[batch_accounts.render.credential]
kind = "shared_key"
account_name = "render"
key_file = "batch.key"
{dallas}
{zurich}
"#
    );
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}
