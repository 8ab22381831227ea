//! Generates `docs/errors.md` from the comments of the proto files, the recipes and the rules of all platforms.

use tonic::Code;
use useradmin::{
    error::{
        CodeVariant, Effect, Repeat,
        recipe::{Recipe, recipe, retry_delay},
        resource::ResourceNames,
        rule::{Body, Rule},
    },
    proto::ErrorReason,
    upstream::registry::tables,
};

use super::{head, row, sample};
use crate::proto_comments::{ReasonComment, comment, reasons};

const INTRODUCTION: &str = "\
<!-- Made by tests/it/docs/errors.rs from the comments in proto/useradmin/v1/error_reason.proto, the recipes in
src/error/recipe.rs and the tables in src/upstream/*/rules.rs. Change those, then run `cargo test`. -->

# Errors

## How to read an error

1. **The gRPC code** says what kind of failure it is. A client that knows nothing else can go by it.
2. **The reason**, in the detail `google.rpc.ErrorInfo`, says what happened. Programs decide by it.
3. **The other details** say what to do: which field is wrong (`BadRequest`), what is missing (`ResourceInfo`),
   what has to change first (`PreconditionFailure`), whose quota is used up (`QuotaFailure`), when to try again
   (`RetryInfo`), and what the upstream itself said (`BatchError`, `HmcError`).

Three questions decide what a program does next:

- **May I send the same request again?** Yes if there is a `RetryInfo`, after its delay. No if there is none.
- **May my client's library do it by itself?** Where nobody has tried yet, the trailer `grpc-retry-pushback-ms` has
  the delay. Elsewhere this server has tried already, and it has -1, which ends the retries of a library with a retry
  policy, so that tries do not multiply; then the program decides.
- **Is the user gone?** The metadata key `outcome` knows: `not_sent` and `not_deleted` mean that this call did
  not delete it, `unknown` that it may have. After `unknown`, ask again with `allow_missing`: its success
  means that the user is gone.

An error without `ErrorInfo` was not made by this service but by a client library or by something between.

";

const BATCH_SOURCES: &str = "\
The first row that fits decides. \"Any other\" is any other error document of the upstream's own, \"any body\"
also a page of a proxy, an empty body or none. Codes decide before statuses, because the documented status of a code is not
always the one on the wire; but a 404 alone can say that something is absent, and a 5xx is judged by its status.
Sources: D, \"Compute Node - Delete User\" of the Azure Batch REST API 2023-11-01.18.0; C, \"Batch Status and
Error Codes\"; W, recorded responses of the service; HTTP, RFC 9110 and RFC 6585, with which C agrees for 429
`TooManyRequests`, 500 `InternalError`, 501 `NotImplemented`, 503 `ServerBusy` and 505 `UnsupportedHttpVersion`.
";

const HMC_SOURCES: &str = "\
The first row that fits decides. Sources: D, \"Delete User\" of the HMC Web Services API; V, \"Common request
validation reason codes\"; P, \"Common request processing reason codes\"; S, \"HTTP status codes\"; L, \"Change
Logon Password\"; Z, the zhmcclient library; HTTP, RFC 9110 and RFC 6585, with which S agrees.
";

/// Returns the complete document.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "## What every error has\n\n";
    text += &explanation();
    text += "\n## What it looks like\n\nAs `grpcurl` shows it:\n\n```text\n";
    text += &sample::failure();
    text += "```\n\n## All reasons\n\n";
    text += &summary();
    for reason in sent() {
        text += &section(reason);
    }
    for (names, tables) in platforms() {
        let notes = notes(names.upstream);
        text += &format!("\n## Answers of {}\n\n{}", names.title, notes.sources);
        assert_eq!(tables.len(), notes.tables.len(), "{}", names.upstream);
        for ((_, rules), about) in tables.iter().zip(notes.tables) {
            text += about;
            text += &table(rules, notes.code);
        }
    }
    text
}

/// Text of the document about one platform, in addition to its rules.
struct Notes {
    sources: &'static str,
    /// Heading of the column of codes.
    code: &'static str,
    /// Introductory text of each table.
    tables: &'static [&'static str],
}

fn notes(upstream: &str) -> Notes {
    match upstream {
        "azure_batch" => Notes {
            sources: BATCH_SOURCES,
            code: "Code",
            tables: &[""],
        },
        "ibm_hmc" => Notes {
            sources: HMC_SOURCES,
            code: "Reason",
            tables: &[
                "\nTo `DELETE /api/users/{user-id}` and to the reads before it:\n",
                "\nTo the logon, `POST /api/sessions`; the DELETE that waits for it is surely not done:\n",
            ],
        },
        other => panic!("describe the answers of {other}"),
    }
}

type Tables = Vec<(&'static str, &'static [Rule])>;

/// Returns the tables of rules of each platform with their requests.
fn platforms() -> Vec<(&'static ResourceNames, Tables)> {
    let mut platforms: Vec<(&ResourceNames, Tables)> = Vec::new();
    for (names, request, rules) in tables() {
        match platforms.last_mut() {
            Some((last, tables)) if last.upstream == names.upstream => {
                tables.push((request, rules));
            }
            _ => platforms.push((names, vec![(request, rules)])),
        }
    }
    platforms
}

/// Returns the comment of the enum without its first and last paragraph, which describe the comments themselves.
fn explanation() -> String {
    let comment = comment("ErrorReason");
    let paragraphs: Vec<_> = comment.split("\n\n").collect();
    let [_, explaining @ .., _] = paragraphs.as_slice() else {
        panic!("the comment of ErrorReason is too short");
    };
    explaining.join("\n\n") + "\n"
}

/// Returns the reasons that the server can send.
fn sent() -> impl Iterator<Item = ErrorReason> {
    let reasons = reasons().into_iter();
    reasons.filter(|reason| *reason != ErrorReason::Unspecified)
}

/// Returns the name of a reason without the prefix that all reasons share.
fn short(reason: ErrorReason) -> String {
    reason.as_str_name().replacen("ERROR_REASON_", "", 1)
}

fn link(reason: ErrorReason) -> String {
    let anchor = reason.as_str_name().to_lowercase();
    format!("[{}](#{anchor})", short(reason))
}

/// Returns the codes of a reason, each with its retry delay.
fn codes(recipe: &Recipe) -> Vec<(Code, Option<std::time::Duration>)> {
    let usual = (recipe.code, retry_delay(recipe.extras));
    let other = recipe
        .alternate
        .map(|other| (other.code, retry_delay(other.extras)));
    [Some(usual), other].into_iter().flatten().collect()
}

fn summary() -> String {
    let mut text = "`Retry` says whether there is a `RetryInfo`, and its delay when the upstream names none; with a \
        star, `grpc-retry-pushback-ms` has it too.\n\n"
        .to_owned();
    let platforms = platforms();
    let titles = platforms.iter().map(|(names, _)| names.title);
    let titles = titles.map(|title| title.trim_start_matches("the "));
    let columns = ["Reason", "gRPC code", "Retry"];
    text += &head(&columns.into_iter().chain(titles).collect::<Vec<_>>());
    for reason in sent() {
        let codes = codes(&recipe(reason));
        let names: Vec<_> = codes.iter().map(|(code, _)| code_name(*code)).collect();
        let mut retry: Vec<_> = codes
            .iter()
            .map(|(_, delay)| delay.map_or("no".to_owned(), |d| format!("{} s", d.as_secs())))
            .collect();
        retry.dedup();
        if recipe(reason).untried {
            retry[0].push_str(" \\*");
        }
        let mut cells = vec![link(reason), names.join(" or "), retry.join(" or ")];
        for (_, tables) in &platforms {
            let answers = tables.iter().map(|(request, rules)| match *request {
                "deletion" => answers(rules, reason, ""),
                request => answers(rules, reason, &format!("{request} ")),
            });
            cells.push(listed(&answers.collect::<String>()).to_owned());
        }
        text += &row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// Returns a list of answers without the trailing comma, or `-` if the list is empty.
fn listed(answers: &str) -> &str {
    match answers.trim_end_matches(", ") {
        "" => "-",
        answers => answers,
    }
}

/// Returns a short list of the answers that yield a reason.
fn answers(table: &[Rule], reason: ErrorReason, prefix: &str) -> String {
    let rows = table.iter().filter(|row| row.reason == reason);
    let texts = rows.map(|row| match (&row.body, status(row)) {
        (Body::Code(code), _) if code.starts_with(char::is_alphabetic) => format!("`{code}`"),
        (Body::Code(code), status) => format!("{prefix}{status}/{code}"),
        (Body::Header(code, header), _) => format!("`{code}` ({header})"),
        (Body::Own, status) => format!("{prefix}other {status}"),
        (Body::Any, status) => format!("{prefix}{status}"),
    });
    let mut texts: Vec<_> = texts.map(|text| text + ", ").collect();
    texts.dedup();
    texts.concat()
}

fn status(row: &Rule) -> String {
    match (*row.status.start(), *row.status.end()) {
        (0, u16::MAX) => "anything else".to_owned(),
        (400, 499) => "4xx".to_owned(),
        (500, 599) => "5xx".to_owned(),
        (400, 599) => "4xx, 5xx".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn section(reason: ErrorReason) -> String {
    let comment = ReasonComment::of(reason);
    let recipe = recipe(reason);
    let mut text = format!("\n### {}\n\n{}\n\n", reason.as_str_name(), comment.summary);
    for (title, body) in [
        ("gRPC", comment.codes),
        ("When", capitalized(&comment.when)),
        ("Client", capitalized(&comment.client)),
        ("Details", comment.details),
        ("Metadata", comment.metadata),
    ] {
        text += &format!("- **{title}:** {body}\n");
    }
    text + &format!("- **Message:** \"{}\"\n", recipe.message)
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn table(table: &[Rule], code: &str) -> String {
    let mut text = "\n".to_owned();
    text += &head(&[
        "HTTP status",
        code,
        "ErrorReason",
        "gRPC code",
        "The server repeats",
        "The DELETE is",
        "Source",
    ]);
    for rule in table {
        let recipe = recipe(rule.reason);
        let code = match (rule.variant, recipe.alternate) {
            (CodeVariant::Alternate, Some(other)) => other.code,
            _ => recipe.code,
        };
        text += &row(&[
            &status(rule),
            &body(&rule.body),
            &link(rule.reason),
            &code_name(code),
            match rule.repeat {
                Repeat::Never => "no",
                Repeat::Backoff | Repeat::Coalesced => "after a pause",
                Repeat::Renew => "once, with new credentials",
            },
            match rule.effect {
                Effect::NotSent | Effect::NotDeleted => "surely not done",
                Effect::Unknown => "perhaps done",
            },
            rule.source,
        ]);
    }
    text
}

fn body(body: &Body) -> String {
    match body {
        Body::Any => "any body".to_owned(),
        Body::Own => "any other".to_owned(),
        Body::Code(code) => format!("`{code}`"),
        Body::Header(code, header) => format!("`{code}` for the header `{header}`"),
    }
}

/// Converts a code to its canonical name, for example `InvalidArgument` to `INVALID_ARGUMENT`.
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}
