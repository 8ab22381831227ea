//! The configuration file: the parsed values, and the messages and positions of errors.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::Duration,
};

use rcgen::CertifiedKey;
use useradmin::config::{self, AuditSink, Config, Credential, EntraKind, KEYS};
use useradmin_testkit::{App, Signer, pki::Authority};

const EXAMPLE: &str = include_str!("../../docs/useradmin.toml");

/// A folder with the files that the configurations in this module name.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = Self(App::folder());
        let certified = rcgen::generate_simple_self_signed(["hmc.example".to_owned()]);
        let CertifiedKey { cert, signing_key } = certified.unwrap();
        folder.write("hmc.pem", cert.pem().as_bytes());
        folder.write("server.pem", cert.pem().as_bytes());
        folder.write("server.key", signing_key.serialize_pem().as_bytes());
        let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        folder.write("other.pem", other.cert.pem().as_bytes());
        folder.write("clients.pem", Authority::new().pem().as_bytes());
        let keys = Signer::es256("key-1").key_set();
        folder.write("build.jwks", keys.as_bytes());
        folder.write("corporate-ca.pem", cert.pem().as_bytes());
        folder.write("db-ca.pem", cert.pem().as_bytes());
        folder.write("store.url", b"postgres://u@db.example/d");
        folder.write("hmc.password", b"secret\r\n");
        folder.write("batch.secret", b"secret");
        folder.write("batch.key", b"c2VjcmV0\n");
        folder.write("federated.token", b"token");
        folder.write("not-base64", b"!!!");
        folder.write("empty", b"\n");
        folder.write("not-text", b"\xFF\xFE");
        folder.write("not-pem", b"hello");
        let not_x509 = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        folder.write("not-x509.pem", not_x509);
        folder
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// Returns the warnings of a valid configuration, except the warning that no callers are listed.
    fn warnings(&self, text: &str) -> Vec<String> {
        let parsed = self.parse(text);
        let config = parsed.unwrap_or_else(|faults| panic!("{faults}"));
        let mut warnings = config.source.warnings;
        warnings.retain(|warning| !warning.contains("no [[callers]]"));
        warnings
    }

    fn parse(&self, text: &str) -> Result<Config, String> {
        let file = self.0.join("useradmin.toml");
        let parsed = config::parse(&file, text);
        let prefix = format!("{}:", file.display());
        parsed.map_err(|errors| errors.to_string().replace(&prefix, "@"))
    }

    /// Returns the errors as `LINE:COLUMN: text`, and checks the line and the caret below each.
    #[track_caller]
    fn errors(&self, text: &str) -> Vec<String> {
        let Err(errors) = self.parse(text) else {
            return Vec::new();
        };
        let lines: Vec<_> = errors.lines().collect();
        let errors = lines.chunks(3).map(|chunk| {
            let &[error, source, caret] = chunk else {
                panic!("not three lines: {errors}");
            };
            let error = error.strip_prefix('@').unwrap();
            let mut numbers = error.splitn(3, ':');
            let mut number = || numbers.next().unwrap().parse::<usize>().unwrap();
            let (line, column) = (number(), number());
            // Text that may be a secret is omitted.
            let file_line = text.lines().nth(line - 1).unwrap_or_default();
            let begins = source.strip_suffix(" ...");
            let is_expected =
                begins.map_or(source == file_line, |begin| file_line.starts_with(begin));
            let secret = ["\"secret\"", "u:p@"]
                .iter()
                .any(|part| source.contains(part));
            assert!(is_expected && !secret, "{errors}");
            assert_eq!(caret.chars().count(), caret_column(source, column));
            assert_eq!(caret.trim_start(), "^", "{errors}");
            for (below, above) in caret.chars().zip(source.chars().take(column - 1)) {
                assert_eq!(below == '\t', above == '\t', "{errors}");
            }
            // The path of the folder is different in each run.
            let folder = self.0.display().to_string();
            error
                .replace(&format!("{folder}/"), "")
                .replace(&folder, "FOLDER")
        });
        errors.collect()
    }
}

/// Returns the column of the caret below a line: at most that of the dots that replace the hidden part.
fn caret_column(line: &str, column: usize) -> usize {
    let visible_length = line.strip_suffix(" ...").map(|line| line.chars().count());
    visible_length.map_or(column, |visible_length| column.min(visible_length + 2))
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn example_file_is_parsed_completely() {
    let folder = Folder::new();
    let config = folder
        .parse(EXAMPLE)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.targets.batch_accounts.len(), 6);
    assert_eq!(config.server.limits.drain, Duration::from_secs(25));
    let audit = folder.0.join("audit.jsonl");
    assert_eq!(config.audit.sink, AuditSink::File(audit));
    let prod = &config.targets.batch_accounts["prod"];
    assert_eq!(
        (prod.roots.certificates.len(), prod.protected_users.len()),
        (1, 2)
    );
    assert!(prod.protected_users[0].matches("ADMINISTRATOR"));
    let hmc = &config.targets.hmcs["dallas1"];
    assert_eq!((hmc.max_in_flight, hmc.max_queued), (8, 256));
    assert_eq!(hmc.own.password.read().unwrap().expose(), "secret");
    let caller = &config.callers[0];
    assert_eq!(caller.deletes_per_minute, Some(60));
    assert!(caller.allow[1].pools.as_ref().unwrap()[0].matches("render-1"));
}

#[test]
fn omitted_keys_have_defaults() {
    let folder = Folder::new();
    let text = "[batch_accounts.a]\nurl = \"http://127.0.0.1:1\"\n\
        [batch_accounts.a.credential]\nkind = \"managed_identity\"\n";
    let config = folder
        .parse(text)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:50051");
    let admin = config.server.admin_listen.unwrap();
    assert_eq!(admin.to_string(), "127.0.0.1:9464");
    assert!(config.server.reflection && config.audit.sync && config.callers.is_empty());
    let account = &config.targets.batch_accounts["a"];
    assert_eq!((account.max_in_flight, account.max_queued), (256, 256));
    let Credential::Entra(entra) = &account.own.credential else {
        panic!("not Entra");
    };
    assert_eq!(entra.scope, "https://batch.core.windows.net//.default");
    assert!(matches!(
        entra.kind,
        EntraKind::ManagedIdentity { client_id: None }
    ));
}

/// The example must contain every key, so that it stays complete. Keys that exclude others are in its comments.
#[test]
fn example_file_has_every_key() {
    let mut found = Vec::new();
    collect_keys("", &EXAMPLE.parse().unwrap(), &mut found);
    for key in KEYS.iter() {
        let named = found.contains(&(key.section.to_owned(), key.name.to_owned()));
        let in_comment = EXAMPLE.contains(&format!("\n#     {} = ", key.name));
        assert!(named || in_comment, "{}.{}", key.section, key.name);
    }
}

fn collect_keys(section: &str, table: &toml::Table, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let name = match section {
            "" => key.clone(),
            "batch_accounts" | "hmcs" => format!("{section}.ALIAS"),
            section => format!("{section}.{key}"),
        };
        found.push((section.to_owned(), key.clone()));
        let inner = value.as_array().into_iter().flatten().chain([value]);
        for table in inner.filter_map(toml::Value::as_table) {
            collect_keys(&name, table, found);
        }
    }
}

#[test]
fn documented_configurations_are_valid() {
    let folder = Folder::new();
    let blocks = |document: &'static str| {
        let blocks = document.split("```toml\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap());
        blocks.collect::<Vec<_>>()
    };
    let readme = blocks(include_str!("../../README.md"));
    let deployment = blocks(include_str!("../../docs/deployment.md"));
    let ([readme], [batch, key, hmc, callers, store, container]) =
        (readme.as_slice(), deployment.as_slice())
    else {
        panic!("{} and {} blocks", readme.len(), deployment.len());
    };
    // Callers need a target, and the section for containers needs both.
    let served = format!("{batch}{callers}");
    let in_a_container = format!("{served}{container}");
    let with_store = format!("{served}{store}");
    for text in [
        readme,
        batch,
        key,
        hmc,
        served.as_str(),
        &with_store,
        &in_a_container,
    ] {
        assert_eq!(folder.errors(text), [""; 0], "{text}");
    }
    // The callers may use targets of both kinds.
    let all_sections = format!("{batch}{hmc}{callers}");
    for text in [readme, all_sections.as_str()] {
        assert_eq!(folder.warnings(text), [""; 0], "{text}");
    }
}

/// Checks the fragments in the guide together with a target, and the files after its first and last step.
#[test]
fn security_guide_configurations_are_valid() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("public")).unwrap();
    let keys = Signer::es256("key-1").key_set();
    folder.write("public/jwks.json", keys.as_bytes());
    let guide = include_str!("../../docs/security.md");
    let section_between = |start: &'static str, end: &'static str| {
        let blocks = guide.split(start).skip(1);
        blocks.map(move |block| block.split(end).next().unwrap())
    };
    let first: Vec<_> = section_between("cat >useradmin.toml <<'END'\n", "END\n").collect();
    let more: Vec<_> = section_between("cat >>useradmin.toml <<'END'\n", "END\n").collect();
    let fragments: Vec<_> = section_between("```toml\n", "```").collect();
    assert_eq!((first.len(), more.len(), fragments.len()), (1, 1, 2));
    let all_sections = format!("{}{}", first[0], more[0]);
    let at_a_url = all_sections.replace(
        "jwks_file = \"public/jwks.json\"",
        "jwks_url = \"http://127.0.0.1:8002/jwks.json\"",
    );
    assert_ne!(all_sections, at_a_url);
    let target = "[hmcs.dallas1]\nurl = \"https://hmc.example\"\nuserid = \"u\"\npassword_file = \"hmc.password\"\n";
    let fragment = format!("{target}{}", fragments[0]);
    for text in [first[0], &all_sections, &at_a_url, &fragment, fragments[1]] {
        assert_eq!(folder.errors(text), [""; 0], "{text}");
    }
}

/// No key accepts a date. A date that causes no fault means that the key is not read.
#[test]
fn every_declared_key_is_read() {
    let folder = Folder::new();
    let kinds = ["client_secret", "workload_identity", "shared_key"];
    for key in KEYS.iter() {
        let is_read = kinds.into_iter().any(|kind| {
            let head = match key.section {
                "" => String::new(),
                "callers" => "[[callers]]\n".to_owned(),
                "jwt_issuers" => "[[jwt_issuers]]\n".to_owned(),
                "callers.allow" => "[[callers]]\n[[callers.allow]]\n".to_owned(),
                section if section.ends_with("credential") && key.name != "kind" => {
                    format!("[{section}]\nkind = \"{kind}\"\n")
                }
                section => format!("[{section}]\n"),
            };
            let text = format!("{head}{} = 1979-05-27\n", key.name);
            let position = format!("{}:", head.lines().count() + 1);
            let expected = format!("`{}` must be ", key.name);
            folder
                .errors(&text)
                .iter()
                .any(|error| error.starts_with(&position) && error.contains(&expected))
        });
        assert!(is_read, "{}.{}", key.section, key.name);
    }
}

mod certificates;
mod encodings;
mod errors;
mod identities;
mod secrets;
mod store;
mod tracing;
mod urls;
