//! Generates `docs/configuration.md` from the keys that the configuration reader declares.

use useradmin::config::KEYS;

use super::{head, row};

const EXAMPLE: &str = include_str!("../../../docs/useradmin.toml");

const INTRODUCTION: &str = "\
<!-- Made by tests/it/docs/configuration.rs from the declarations of the keys in src/config/. Change those, then run `cargo test`. -->

# Configuration

`useradmin serve --config FILE` reads one [TOML](https://toml.io) file. Changes of `callers`, `jwt_issuers` and
`protected_users`, and of files that it names, are taken up while it runs; everything else needs a restart
([security.md](security.md#rotation)).

`useradmin check-config --config FILE` only checks the file: exit code 0, or 2 with every fault on standard error as
`FILE:LINE:COLUMN: text`, followed by the line and a caret. `serve` refuses a faulty file in the same way. Keys and
values that may be secrets, which is most values, are not shown: the line ends with ` ...` before them. Warnings, such
as for a secret that begins with a blank or is in quotes, do not change the exit code; `serve` logs them. For
`check-config`, FILE can be a pipe, such as `/dev/stdin`; paths in it are then absolute.

- A key that is not listed here is refused, so that a misspelt one is not a setting without effect.
- A relative path starts at the folder of the configuration file, not at the working directory.
- Secrets stand in files of their own, never in this file, on the command line or in the environment. A secret is
  one line; the line ends after it are not part of it, blanks are. Control characters and invisible ones, such as
  U+200B, are refused. Secrets are read again when they are needed, so a rotated one needs no restart.
- All files, this one included, are text: a byte order mark at the beginning is dropped. A file that is missing,
  empty, larger than 4 MiB (64 KiB for a secret), in UTF-16 or UTF-32, binary, or no regular
  file is a fault of the line that names it.
- A URL is https with a host that can be a name or an address. What parsers would repair or drop is refused: double
  quotes, blanks, `.` and `..` between slashes, port 0, a user, other forms of IPv4 addresses. A name that is not
  ASCII is written as `xn--...`.
- Placeholders that were not replaced, such as `${NAME}`, `{NAME}`, `$NAME`, `@NAME@` and `__NAME__`, are refused in URLs
  and in identifiers (`issuer`, `audience`, `identity`, `scope`, `tenant_id`, `client_id`, `account_name`, `userid`). In an
  `identity` that is a URI, only `{`, `}`, `<` and `>` count as such; in patterns and subjects of tokens, `${` and `{{`.
- Patterns know `*`, which stands for any text, and nothing else.
- Proxies in the environment (`HTTPS_PROXY` and the like) are ignored.
- At least one Batch account or HMC is required.

Logs go to standard error as JSON lines; the environment variable `RUST_LOG` sets their level (`info` by
default). Beside it the environment is looked at by `workload_identity`, for the variables that its table names; by
`[tracing]`, for those of OpenTelemetry that [operations.md](operations.md) names; and by `useradmin health`, which
takes its arguments from `USERADMIN_HEALTH_ADDR`, `USERADMIN_HEALTH_CA_FILE` and `USERADMIN_HEALTH_SERVER_NAME`, too.
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
    text + "\n## A complete example\n\n\
        The same text is in [useradmin.toml](useradmin.toml).\n\n```toml\n"
        + EXAMPLE
        + "```\n"
}

fn title(section: &str) -> String {
    match section {
        "" => "Top level".to_owned(),
        "callers" | "jwt_issuers" => format!("`[[{section}]]`"),
        "callers.allow" => "`allow` of `[[callers]]`".to_owned(),
        name => format!("`[{name}]`"),
    }
}
