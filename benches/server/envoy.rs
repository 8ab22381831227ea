//! Envoy with its gRPC-JSON reverse transcoder and one worker.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use tokio::runtime::Runtime;

use crate::{
    cpus::SERVER_CPU,
    load::Endpoint,
    peer::{Peer, place},
    tls::Tls,
};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
const FILE: &str = "useradmin/v1/user_admin.proto";
const PACKAGE: &str = "\npackage useradmin.v1;";
const IMPORT: &str = "import \"google/api/annotations.proto\";";
const RPC: &str =
    "rpc DeleteBatchNodeUser(DeleteBatchNodeUserRequest) returns (DeleteBatchNodeUserResponse)";
/// The HTTP rule that Envoy transcodes the rpc with.
const RULE: &str = r#" { option (google.api.http) = { delete: "/pools/{pool_id}/nodes/{node_id}/users/{user_name}" }; }"#;

/// Compiles the API with this rule added.
fn compiler(folder: &Path) -> protox::Compiler {
    let text = fs::read_to_string(format!("{FOLDER}/proto/{FILE}")).unwrap();
    let with_rule = text
        .replace(PACKAGE, &format!("{PACKAGE}\n{IMPORT}"))
        .replace(&format!("{RPC};"), &format!("{RPC}{RULE}"));
    assert!(
        with_rule.contains(IMPORT) && with_rule.contains(RULE),
        "{text}"
    );
    fs::create_dir_all(folder.join("useradmin/v1")).unwrap();
    fs::write(folder.join(FILE), with_rule).unwrap();
    let api = format!("{FOLDER}/proto");
    let google = format!("{FOLDER}/benches/server/envoy");
    let mut compiler = protox::Compiler::new([folder, api.as_ref(), google.as_ref()]).unwrap();
    compiler.include_imports(true);
    compiler.open_file(FILE).unwrap();
    compiler
}

/// Returns whether Envoy is installed.
pub fn is_installed(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok()
}

/// Starts Envoy. `command` is Envoy, or a tool that runs Envoy.
pub fn start(
    runtime: &Runtime,
    mut command: Command,
    upstream: SocketAddr,
    tls: Option<&Tls>,
) -> Peer {
    let (folder, address) = place();
    let compiler = compiler(&folder);
    let descriptors = folder.join("descriptors");
    fs::write(&descriptors, compiler.encode_file_descriptor_set()).unwrap();
    let mut text = include_str!("envoy/envoy.yaml").to_owned();
    if let Some(tls) = tls {
        tls.write_files(&folder);
        for (comment, part) in [
            (
                "# DOWNSTREAM_TLS\n",
                include_str!("envoy/downstream_tls.yaml"),
            ),
            ("# UPSTREAM_TLS\n", include_str!("envoy/upstream_tls.yaml")),
        ] {
            assert!(text.contains(comment));
            text = text.replace(comment, &part.replace("FOLDER", folder.to_str().unwrap()));
        }
    }
    let text = text
        .replace("LISTEN_PORT", &address.port().to_string())
        .replace("UPSTREAM_PORT", &upstream.port().to_string())
        .replace("DESCRIPTORS", descriptors.to_str().unwrap());
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).unwrap();
    command.args(["--concurrency", "1", "--log-level", "error"]);
    command.arg("--disable-hot-restart");
    command.arg("--config-path").arg(file);
    Peer::start(
        runtime,
        "Envoy",
        command,
        (folder, Endpoint::new(address, tls)),
        &[SERVER_CPU],
    )
}
