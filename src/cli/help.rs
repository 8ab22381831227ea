//! The sections that follow the options in `--help` and in the man pages. Every command has the same sections.

/// Environment variable that every command reads.
const COLORS: (&str, &str) = (
    "NO_COLOR",
    "Disables the colors of help and usage errors, if it is not empty",
);
const LOG_LEVEL: (&str, &str) = (
    "RUST_LOG",
    "Log level: off, error, warn, info, debug or trace [default: info]",
);
const CREDENTIALS: (&str, &str) = (
    "AZURE_*, IDENTITY_*",
    "Settings of `workload_identity` and `managed_identity` credentials",
);
const AUTHORITIES: (&str, &str) = (
    "SSL_CERT_FILE, SSL_CERT_DIR",
    "Certificate authorities of the system, in place of the default files",
);
const LOG_UNREADABLE: (&str, &str) = (
    "2",
    "A file or the database cannot be read, or the configuration or an argument is invalid",
);
const USAGE: (&str, &str) = ("2", "An argument is invalid");

/// The sections of one command.
pub struct Sections {
    examples: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    exit_codes: &'static [(&'static str, &'static str)],
    documents: &'static str,
}

impl Sections {
    pub fn text(&self) -> String {
        let variables = [self.variables, &[COLORS]].concat();
        format!(
            "Examples:\n  {}\n\nEnvironment variables:\n{}\n\nExit codes:\n{}\n\nDocumentation:\n  {}",
            self.examples.join("\n  "),
            list(&variables),
            list(self.exit_codes),
            self.documents,
        )
    }
}

/// Formats terms and their meanings in two columns.
fn list(entries: &[(&str, &str)]) -> String {
    let width = entries.iter().map(|(term, _)| term.len()).max();
    let width = width.unwrap_or_default();
    let lines = entries.iter();
    let lines = lines.map(|(term, meaning)| format!("  {term:width$}  {meaning}"));
    lines.collect::<Vec<_>>().join("\n")
}

pub const PROGRAM: Sections = Sections {
    examples: &[
        #[cfg(feature = "sandbox")]
        "useradmin serve --sandbox",
        "useradmin check-config --config useradmin.toml",
        "useradmin serve --config useradmin.toml",
        "useradmin help serve",
    ],
    variables: &[],
    exit_codes: &[
        ("0", "Success"),
        ("1", "The command failed"),
        ("2", "An argument or the configuration is invalid"),
    ],
    documents: "README.md, docs/deployment.md",
};

pub const SERVE: Sections = Sections {
    examples: &[
        "useradmin serve --config /etc/useradmin/useradmin.toml",
        #[cfg(feature = "sandbox")]
        "useradmin serve --sandbox --listen 127.0.0.1:0",
    ],
    variables: &[
        LOG_LEVEL,
        (
            "TOKIO_WORKER_THREADS",
            "Number of threads that serve calls [default: number of CPUs]",
        ),
        CREDENTIALS,
        (
            "OTEL_*",
            "Settings of the export of traces; docs/operations.md lists them",
        ),
        AUTHORITIES,
    ],
    exit_codes: &[
        ("0", "The server was stopped by SIGTERM or SIGINT"),
        (
            "1",
            "The server cannot start, for example because its port is in use",
        ),
        ("2", "The configuration or an argument is invalid"),
    ],
    documents: "docs/deployment.md, docs/configuration.md, docs/operations.md",
};

pub const CHECK_CONFIG: Sections = Sections {
    examples: &[
        "useradmin check-config --config useradmin.toml",
        "useradmin check-config --config useradmin.toml --verbose --connect",
    ],
    variables: &[LOG_LEVEL, CREDENTIALS, AUTHORITIES],
    exit_codes: &[
        (
            "0",
            "The configuration is valid; there may be warnings on standard error",
        ),
        (
            "1",
            "With --connect: a target did not accept its credential or was not reached within --timeout",
        ),
        ("2", "The configuration or an argument is invalid"),
    ],
    documents: "docs/deployment.md, docs/configuration.md",
};

pub const HEALTH: Sections = Sections {
    examples: &[
        "useradmin health",
        "useradmin health --addr localhost:50051 --ca-file ca.pem",
    ],
    variables: &[
        ("USERADMIN_HEALTH_ADDR", "Default of --addr"),
        ("USERADMIN_HEALTH_CA_FILE", "Default of --ca-file"),
        ("USERADMIN_HEALTH_SERVER_NAME", "Default of --server-name"),
    ],
    exit_codes: &[
        ("0", "The server is serving"),
        (
            "1",
            "The server is not serving, or does not respond within 5 seconds",
        ),
        USAGE,
    ],
    documents: "docs/deployment.md, docs/security.md",
};

pub const AUDIT: Sections = Sections {
    examples: &[
        AUDIT_VERIFY.examples[0],
        AUDIT_RECONCILE.examples[0],
        AUDIT_REPORT.examples[0],
        "useradmin audit help reconcile",
    ],
    variables: AUDIT_RECONCILE.variables,
    exit_codes: &[
        (
            "0",
            "The log is complete and unchanged, all outcomes are known, or the calls were printed",
        ),
        (
            "1",
            "There are faults or unknown outcomes, or the output cannot be written",
        ),
        (
            "2",
            "The log cannot be read, or an argument or the configuration is invalid",
        ),
    ],
    documents: "docs/audit.md",
};

pub const AUDIT_RECONCILE: Sections = Sections {
    examples: &[
        "useradmin audit reconcile --config useradmin.toml",
        "useradmin audit reconcile --config useradmin.toml --dry-run",
    ],
    variables: &[LOG_LEVEL, AUTHORITIES],
    exit_codes: &[
        (
            "0",
            "Each user with an unknown outcome is absent or present; with --dry-run: nothing would remain",
        ),
        (
            "1",
            "Some users were not read, Azure Batch deletions remain, or the audit log is in use or cannot be written",
        ),
        (
            "2",
            "The audit log cannot be read, or the configuration or an argument is invalid",
        ),
    ],
    documents: "docs/audit.md",
};

pub const AUDIT_VERIFY: Sections = Sections {
    examples: &[
        "useradmin audit verify audit.jsonl.1 audit.jsonl",
        "useradmin audit verify --config useradmin.toml",
    ],
    variables: &[],
    exit_codes: &[
        ("0", "The log is complete and unchanged"),
        ("1", "There are faults, each with a line on standard error"),
        LOG_UNREADABLE,
    ],
    documents: "docs/audit.md",
};

pub const STORE: Sections = Sections {
    examples: &[STORE_MIGRATE.examples[0], "useradmin store help migrate"],
    ..STORE_MIGRATE
};

pub const STORE_MIGRATE: Sections = Sections {
    examples: &[
        "useradmin store migrate --config owner.toml",
        "useradmin store migrate --config owner.toml --grant-to useradmin",
    ],
    variables: &[],
    exit_codes: &[
        ("0", "The schema has the version that this program needs"),
        (
            "1",
            "The database cannot be reached, or refused a statement",
        ),
        (
            "2",
            "The configuration has no database, or it or an argument is invalid",
        ),
    ],
    documents: "docs/store.md",
};

pub const AUDIT_REPORT: Sections = Sections {
    examples: &[
        "useradmin audit report --user SMITH audit.jsonl.1 audit.jsonl",
        "useradmin audit report --caller spiffe://corp/offboarding --since 7d audit.jsonl",
        "useradmin audit report --since 2026-11-01 --until 2026-12-01 --json audit.jsonl >november.jsonl",
        "useradmin audit report --config useradmin.toml --user SMITH",
    ],
    variables: &[],
    exit_codes: &[
        ("0", "The calls were printed; there may be none"),
        (
            "1",
            "Some lines are not records, each with a line on standard error, or the output cannot be written",
        ),
        LOG_UNREADABLE,
    ],
    documents: "docs/audit.md",
};

pub const PROTOSET: Sections = generated(
    &["useradmin protoset >useradmin.protoset"],
    "docs/clients.md, docs/debugging.md",
);

pub const COMPLETIONS: Sections = generated(
    &["useradmin completions bash >/etc/bash_completion.d/useradmin"],
    "docs/deployment.md",
);

pub const MAN: Sections = generated(
    &["useradmin man /usr/local/share/man/man1"],
    "docs/deployment.md",
);

/// Returns the sections of a command that writes generated text.
const fn generated(examples: &'static [&'static str], documents: &'static str) -> Sections {
    Sections {
        examples,
        variables: &[],
        exit_codes: &[
            ("0", "The output was written"),
            ("1", "The output cannot be written"),
            USAGE,
        ],
        documents,
    }
}
