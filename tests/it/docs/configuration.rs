//! Generates `docs/configuration.md` from the keys that the configuration reader declares.

use useradmin::config::KEYS;

use super::{head, row};

const INTRODUCTION: &str = "\
<!-- Made by tests/it/docs/configuration.rs from the declarations of the keys in src/config/. Change those, then run `cargo test`. -->

# Configuration

For operators who write or review a configuration file. [deployment.md](deployment.md) shows small files for each kind of
target, [useradmin.toml](useradmin.toml) has every key in one file, and the tables below describe them.

```sh
useradmin check-config --config useradmin.toml      # prints every error, and exits with 0 or 2
useradmin serve --config useradmin.toml
```

Changes of `callers`, `jwt_issuers` and `protected_users`, and of files that the configuration names, take effect while the
server runs. All others need a restart ([security.md](security.md#rotation)).

An error is printed as `FILE:LINE:COLUMN: text`, followed by the line and a caret; values that may be secrets are replaced by
`...`. `serve` refuses an invalid file in the same way. Warnings do not change the exit code, and `serve` logs them. The FILE
of `check-config` can be a pipe, such as `/dev/stdin`; paths in it must then be absolute.

| subject | rule |
|---|---|
| keys | Unknown keys are errors. At least one Batch account or HMC is required. |
| paths | A relative path starts at the folder of the configuration file. |
| secrets | They are in separate files, never in this file, on the command line or in the environment. A secret is one line without control and invisible characters; its line end is removed, blanks are not. The file is read again whenever the secret is needed. |
| files | Text in UTF-8, at most 4 MiB (64 KiB for a secret), not empty; a byte order mark is ignored. |
| URLs | https, with a host name or address. Double quotes, blanks, `.` and `..` segments, port 0, user names, unusual forms of IPv4 addresses and names that are not ASCII (write `xn--...`) are errors. |
| placeholders | `${NAME}`, `{NAME}`, `$NAME`, `@NAME@` and `__NAME__` are errors in URLs and identifiers (`issuer`, `audience`, `identity`, `scope`, `tenant_id`, `client_id`, `account_name`, `userid`). In a URI `identity`, only `{`, `}`, `<` and `>` are; in patterns and subjects of tokens, `${` and `{{`. |
| patterns | `*` stands for any text. There are no other wildcards. |
| environment | `RUST_LOG` sets the log level (`info`). `workload_identity` reads the variables in its table, `[tracing]` those in [operations.md](operations.md#traces), and `useradmin health` its arguments from `USERADMIN_HEALTH_ADDR`, `USERADMIN_HEALTH_CA_FILE` and `USERADMIN_HEALTH_SERVER_NAME`. Proxies, such as `HTTPS_PROXY`, are ignored. |
";

/// Returns the complete document.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut section = None;
    for key in KEYS.iter() {
        if section != Some(key.section) {
            section = Some(key.section);
            text += &format!("\n## {}\n\n", title(key.section));
            text += &head(&["Key", "Value", "Default", "Meaning"]);
        }
        let name = format!("`{}`", key.name);
        text += &row(&[&name, &key.format, &key.default, &key.doc]);
    }
    text
}

fn title(section: &str) -> String {
    match section {
        "" => "Top level".to_owned(),
        "callers" | "jwt_issuers" => format!("`[[{section}]]`"),
        "callers.allow" => "`allow` of `[[callers]]`".to_owned(),
        name => format!("`[{name}]`"),
    }
}
