//! `serve --sandbox --secure FOLDER`, which generates TLS keys, a client certificate and a token, and other output of a
//! sandbox.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::Code;
use useradmin_testkit::{
    App, Process, SecureClient, batch_request, delete_by_name, http_get, pki::Identity, run,
};

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn serve_sandbox(folder: &Path) -> (Process, Vec<String>) {
    let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0"];
    let secure = folder.join("made here");
    let more = ["--secure", secure.to_str().unwrap()];
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let arguments = [&arguments[..], &more, &admin].concat();
    let log = fs::File::create(folder.join("log")).unwrap();
    let serving = Process::start_with_log(&arguments, log, "");
    let actual = read(folder, "log").lines().map(str::to_owned).collect();
    (serving, actual)
}

#[tokio::test]
async fn callers_authenticate_with_certificate_or_token() {
    let folder = App::folder();
    let (serving, actual) = serve_sandbox(&folder);
    let output = folder.join("made here");
    let address = serving.address.parse().unwrap();
    let (authority, token) = (read(&output, "ca.pem"), read(&output, "token"));
    let client = Identity::read(&read(&output, "client.pem"), &read(&output, "client.key"));
    let unauthenticated = SecureClient::tls(address, &authority, None);
    let by_certificate = SecureClient::tls(address, &authority, Some(&client));

    let alice = delete_by_name("alice");
    let refusal = unauthenticated.delete_hmc_user(alice.clone()).await;
    let refusal = refusal.unwrap_err();
    refusal.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    let response = by_certificate.delete_hmc_user(alice).await;
    assert_eq!(response.unwrap().user_name, "alice");
    let by_token = unauthenticated.with_token(&token);
    let response = by_token.delete_hmc_user(delete_by_name("bob")).await;
    assert_eq!(response.unwrap().user_name, "bob");

    // Deletions with the token count towards a quota, those with the certificate do not.
    let absent = || {
        let mut request = delete_by_name("nobody");
        request.allow_missing = true;
        request
    };
    let mut refusal = None;
    for _ in 0..200 {
        refusal = by_token.delete_hmc_user(absent()).await.err();
        if refusal.is_some() {
            break;
        }
    }
    let refusal = refusal.unwrap();
    refusal.expect(Code::ResourceExhausted, "DELETE_QUOTA_EXCEEDED");
    assert!(refusal.pushback.unwrap() > 0);
    assert!(by_certificate.delete_hmc_user(absent()).await.is_ok());

    // The guide names the generated files.
    for name in ["ca.pem", "client.pem", "client.key", "token"] {
        let path = output.join(name).display().to_string();
        assert!(
            actual.iter().any(|line| line.contains(&path)),
            "{name} in {actual:#?}"
        );
    }
    let admin = actual.iter().find_map(|line| {
        let (_, rest) = line.split_once("; http://")?;
        rest.split('/').next()
    });
    let metrics = http_get(admin.unwrap(), "/metrics").await;
    for file in ["cert_file", "client_ca_file"] {
        let name = "useradmin_tls_certificate_expires_timestamp_seconds";
        let line = format!("{name}{{file=\"{file}\"}} ");
        let (_, expires) = metrics.split_once(&line).unwrap();
        let expires: u64 = expires.lines().next().unwrap().parse().unwrap();
        let seconds = expires - useradmin_testkit::now();
        assert!(seconds > 6 * 86_400 && seconds <= 7 * 86_400, "{seconds}");
    }
    assert!(
        metrics.contains("DELETE_QUOTA_EXCEEDED\"} 1\n"),
        "{metrics}"
    );
    assert_eq!(serving.stop_with("TERM").0, Some(0));
    fs::remove_dir_all(folder).unwrap();
}

/// Only the owner can read the keys, and every start generates all files again.
#[cfg(unix)]
#[test]
fn generated_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = App::folder();
    let output = folder.join("made here");
    let (serving, _) = serve_sandbox(&folder);
    let original_key = read(&output, "client.key");
    serving.stop();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(output.join("client.key"), open).unwrap();
    let (serving, _) = serve_sandbox(&folder);
    for entry in fs::read_dir(&output).unwrap() {
        let entry = entry.unwrap();
        let allowed = entry.metadata().unwrap().permissions().mode();
        assert_eq!(allowed & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_ne!(read(&output, "client.key"), original_key);
    serving.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// Existing files of the user are not replaced.
#[test]
fn unusable_folder_is_reported() {
    let folder = App::folder();
    let (file, own) = (folder.join("file"), folder.join("own"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&own).unwrap();
    fs::write(own.join("server.key"), "precious").unwrap();
    for (secure, actual) in [
        (&file, "file cannot be made: "),
        (
            &own,
            "server.key is there already, and no sandbox has made it",
        ),
    ] {
        let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0", "--secure"];
        let arguments = [&arguments[..], &[secure.to_str().unwrap()]].concat();
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("--secure: ") && err.contains(actual), "{err}");
    }
    assert_eq!(read(&own, "server.key"), "precious");
    assert_eq!(fs::read_dir(&own).unwrap().count(), 1);
    fs::remove_dir_all(folder).unwrap();
}

/// A user whose deletion receives no response, so that client developers can test an unknown outcome.
#[tokio::test]
async fn deletion_can_hang() {
    let sandbox = useradmin::sandbox::Sandbox::start().await.unwrap();
    let app = super::serve_sandbox(&sandbox).await;
    let mut request = batch_request("answer-nothing");
    request.node_id = "node-idle".to_owned();
    let within = std::time::Duration::from_millis(800);
    let failure = useradmin_testkit::batch_with_timeout(&app, request, within).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    assert_eq!(failure.metadata["outcome"], "unknown");
}

/// The descriptors for client generators: they contain all messages of responses, with comments.
#[test]
fn protoset_is_complete() {
    let program = useradmin_testkit::program();
    let output = Command::new(&program).arg("protoset").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let set = FileDescriptorSet::decode(&*output.stdout).unwrap();
    let names: Vec<_> = set.file.iter().map(FileDescriptorProto::name).collect();
    for expected in [
        "useradmin/v1/user_admin.proto",
        "useradmin/v1/error_reason.proto",
        "useradmin/v1/error_details.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "google/protobuf/any.proto",
        "google/protobuf/duration.proto",
        "grpc/health/v1/health.proto",
    ] {
        let times = names.iter().filter(|name| name.ends_with(expected)).count();
        assert_eq!(times, 1, "{expected} in {names:?}");
    }
    // Tools accept the set only if it contains all imports.
    for file in &set.file {
        for import in &file.dependency {
            assert!(names.contains(&import.as_str()), "{import}");
        }
    }
    let api = set
        .file
        .iter()
        .find(|file| file.package() == "useradmin.v1");
    let comments = &api.unwrap().source_code_info.as_ref().unwrap().location;
    assert!(
        comments
            .iter()
            .any(|place| place.leading_comments.is_some())
    );
    // A write error is reported.
    let full_device = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut child = Command::new(program);
    let status = child
        .arg("protoset")
        .stdout(full_device.unwrap())
        .stderr(Stdio::null());
    assert_eq!(status.status().unwrap().code(), Some(1));
}
