//! A PostgreSQL server for tests, on Linux. The environment variable `USERADMIN_POSTGRES_BIN` names the folder with the
//! programs of PostgreSQL; without it, the tests are skipped.
//!
//! The methods block the thread. A test that runs the server under test or a [`TcpProxy`](crate::TcpProxy) in the same
//! process needs a runtime with several threads.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, Once, OnceLock},
};

use uuid::Uuid;

use crate::{canary::DATABASE_PASSWORD, free_port, pki::Identity, wait::block_until};

mod account;
mod processes;

use account::{give, run_as, unprivileged_user};
use processes::{children, is_running, is_stopped, signal};

const BIN: &str = "USERADMIN_POSTGRES_BIN";
const SUPERUSER: &str = "postgres";

/// Waits until standard input is closed, that is, until the server is dropped or the test process has ended for any
/// reason. Then stops PostgreSQL without a checkpoint and removes its folder and, after a crash, its shared memory.
const GUARD: &str = r#"
read -r _
file=$0/data/postmaster.pid
pid=$(head -n 1 "$file")
runs() { [ -e "$file" ] && [ "$(cat "/proc/$pid/comm")" = postgres ]; }
if runs; then
    kill -s QUIT "$pid"
    kill -s CONT "$pid"
    while runs; do sleep 0.02; done
fi
[ -e "$file" ] && ipcrm -m "$(sed -n '7s/.* //p' "$file")"
rm -rf "$0"
"#;

/// A PostgreSQL server on 127.0.0.1 with separate data. It is stopped when dropped, and when the test process ends.
pub struct Postgres {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    /// User and group ID of the processes, if the test runs as root, since PostgreSQL refuses to.
    owner: Option<(u32, u32)>,
    postmaster: Mutex<Option<Child>>,
    guard: Child,
}

impl Postgres {
    /// Starts a server, or returns `None` and prints once that tests are skipped.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts a server with this certificate. It accepts connections to its port only over TLS.
    pub fn start_with_tls(identity: &Identity) -> Option<Self> {
        Self::start_with(Some(identity))
    }

    /// Returns the server that all tests of the process share. A test creates its own database, and neither stops the
    /// server nor changes its settings.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start_with(tls: Option<&Identity>) -> Option<Self> {
        let bin = bin()?;
        let folder = env::temp_dir().join(format!("useradmin-postgres-{}", Uuid::new_v4()));
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let owner = (fs::metadata(&folder).unwrap().uid() == 0).then(unprivileged_user);
        give(&folder, owner);
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).arg(&folder).stdin(Stdio::piped());
        run_as(&mut guard, owner);
        let server = Self {
            bin,
            port: free_port(),
            owner,
            postmaster: Mutex::new(None),
            guard: guard.spawn().unwrap(),
            folder,
        };
        server.initialize();
        if let Some(identity) = tls {
            server.enable_tls(identity);
        }
        server.run();
        Some(server)
    }

    fn initialize(&self) {
        let password = self.folder.join("password");
        fs::write(&password, DATABASE_PASSWORD).unwrap();
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(self.data()).args(["-U", SUPERUSER]);
        initdb.arg("--pwfile").arg(password);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        // The initial files need no sync, unlike those of the running server.
        initdb.args(["--no-locale", "--encoding=UTF8", "--no-sync"]);
        let output = initdb.stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb: {error}");
        let Self { port, folder, .. } = self;
        self.append(&format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 200\n",
            folder.display()
        ));
    }

    fn enable_tls(&self, identity: &Identity) {
        for (name, pem) in [
            ("server.crt", identity.pem()),
            ("server.key", &identity.key_pem()),
        ] {
            let file = self.data().join(name);
            fs::write(&file, pem).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            give(&file, self.owner);
        }
        self.append("ssl = on\n");
        let rules = self.data().join("pg_hba.conf");
        let text = fs::read_to_string(&rules).unwrap();
        fs::write(rules, text.replace("\nhost ", "\nhostssl ")).unwrap();
    }

    /// Appends these lines to the configuration.
    fn append(&self, lines: &str) {
        let file = OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"));
        file.unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// Runs the server and waits until it accepts connections.
    fn run(&self) {
        let file = self.folder.join("log");
        let log = OpenOptions::new().create(true).append(true).open(&file);
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).stderr(log.unwrap());
        let mut postmaster = self.postmaster.lock().unwrap();
        let child = postmaster.insert(postgres.spawn().unwrap());
        block_until("PostgreSQL accepts connections", || {
            let exited = child.try_wait().unwrap();
            assert!(
                exited.is_none(),
                "PostgreSQL: {}",
                fs::read_to_string(&file).unwrap()
            );
            let mut ready = self.command("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            ready.status().unwrap().success()
        });
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of the database `postgres` for this user, with the password.
    pub fn url(&self, user: &str) -> String {
        url(user, self.port, "postgres")
    }

    /// Runs a statement as superuser in the database `postgres`. Returns the rows without a header, with `|` between
    /// columns, or the error. Not affected by [`TcpProxy`](crate::TcpProxy), TLS and read-only mode.
    pub fn sql(&self, statement: &str) -> Result<String, String> {
        self.sql_in("postgres", statement)
    }

    fn sql_in(&self, database: &str, statement: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        psql.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER]);
        psql.arg("-h").arg(&self.folder);
        psql.args(["-p", &self.port.to_string(), "-d", database]);
        psql.args(["-c", statement]);
        psql.env("PGCONNECT_TIMEOUT", "5");
        psql.env("PGOPTIONS", "-c default_transaction_read_only=off");
        psql.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = psql.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }

    /// Creates an empty database, for one test.
    pub fn create_database(&self, name: &str) -> Database<'_> {
        self.sql(&format!("CREATE DATABASE \"{name}\"")).unwrap();
        Database {
            server: self,
            name: name.to_owned(),
        }
    }

    /// Creates a user without any privilege, unless it exists. Users belong to all databases of the server, and have
    /// the password [`DATABASE_PASSWORD`].
    pub fn create_user(&self, name: &str) {
        let statement = format!(
            "DO $$ BEGIN CREATE ROLE \"{name}\" LOGIN PASSWORD '{DATABASE_PASSWORD}'; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        self.sql(&statement).unwrap();
    }

    /// Sets a configuration parameter of the whole server, such as `default_transaction_read_only`, for new and, unless
    /// they have set it themselves, existing sessions.
    pub fn set(&self, name: &str, value: &str) {
        // Sessions inherit this time from the postmaster, which signals the existing sessions before it starts another.
        let loaded = || self.sql("SELECT pg_conf_load_time()").unwrap();
        let before = loaded();
        let statement = format!("ALTER SYSTEM SET {name} = '{value}'");
        self.sql(&statement).unwrap();
        self.sql("SELECT pg_reload_conf()").unwrap();
        block_until("the configuration is loaded", || loaded() != before);
    }

    /// Kills all processes of the server with SIGKILL and waits until they have ended.
    pub fn kill(&self) {
        let processes = self.stop_processes();
        signal("KILL", &processes);
        let mut child = self.take_postmaster();
        child.wait().unwrap();
        block_until("PostgreSQL is killed", || {
            !processes.iter().any(|id| is_running(*id))
        });
    }

    /// Stops the server in an orderly way, but without waiting for its clients.
    pub fn stop_fast(&self) {
        let mut child = self.take_postmaster();
        signal("INT", &[child.id()]);
        child.wait().unwrap();
    }

    /// Starts the server again on the same port with the same data. If it is running, it is stopped first.
    pub fn restart(&self) {
        if self.postmaster.lock().unwrap().is_some() {
            self.stop_fast();
        }
        self.run();
    }

    /// Suspends all processes of the server, as if the machine did not respond.
    pub fn pause(&self) {
        self.stop_processes();
    }

    /// Continues after [`Postgres::pause`].
    pub fn resume(&self) {
        let postmaster = self.postmaster_id();
        signal("CONT", &children(postmaster));
        signal("CONT", &[postmaster]);
    }

    /// Suspends all processes and returns their IDs. The postmaster is the first, so that it starts no more of them.
    fn stop_processes(&self) -> Vec<u32> {
        let postmaster = self.postmaster_id();
        let suspend = |ids: &[u32]| {
            signal("STOP", ids);
            block_until("PostgreSQL is suspended", || {
                ids.iter().all(|id| is_stopped(*id) || !is_running(*id))
            });
        };
        suspend(&[postmaster]);
        let mut processes = children(postmaster);
        suspend(&processes);
        processes.push(postmaster);
        processes
    }

    fn postmaster_id(&self) -> u32 {
        let postmaster = self.postmaster.lock().unwrap();
        postmaster.as_ref().expect("PostgreSQL is running").id()
    }

    fn take_postmaster(&self) -> Child {
        let mut postmaster = self.postmaster.lock().unwrap();
        postmaster.take().expect("PostgreSQL is running")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns a command that runs a program of PostgreSQL without input and output.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.stdin(Stdio::null());
        run_as(&mut command, self.owner);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let postmaster = self.postmaster.get_mut();
        let mut postmaster = postmaster.ok().and_then(Option::take);
        if let Some(child) = &postmaster {
            signal("CONT", &children(child.id()));
        }
        drop(self.guard.stdin.take());
        if let Some(child) = &mut postmaster {
            let _ = child.wait();
        }
        let _ = self.guard.wait();
    }
}

/// A database of a server.
pub struct Database<'a> {
    server: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// Returns the URL of the database for this user, with the password.
    pub fn url(&self, user: &str) -> String {
        self.url_at(self.server.port, user)
    }

    /// Returns the URL of the database behind this port, for example that of a [`TcpProxy`](crate::TcpProxy).
    pub fn url_at(&self, port: u16, user: &str) -> String {
        url(user, port, &self.name)
    }

    /// Runs a statement in the database like [`Postgres::sql`].
    pub fn sql(&self, statement: &str) -> Result<String, String> {
        self.server.sql_in(&self.name, statement)
    }
}

fn url(user: &str, port: u16, database: &str) -> String {
    let password: String = DATABASE_PASSWORD
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
}

fn bin() -> Option<PathBuf> {
    static SKIPPED: Once = Once::new();
    let bin = env::var_os(BIN).filter(|value| !value.is_empty());
    if bin.is_none() {
        SKIPPED.call_once(|| {
            // The output of `eprintln` is captured by the test harness.
            let _ = writeln!(
                io::stderr(),
                "SKIPPED: tests with PostgreSQL: {BIN} is not set"
            );
        });
    }
    bin.map(PathBuf::from)
}
