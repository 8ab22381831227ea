//! Files in encodings other than UTF-8, and paths that are not regular files. All kinds of files behave in the same
//! way.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
};

use useradmin::config;

use super::{
    Folder,
    errors::{ACCOUNT, HMC, KEY},
};

const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Returns the kinds of files: the name in the folder, and a configuration that names it.
fn kinds() -> Vec<(&'static str, String)> {
    let tls = |more: &str| {
        format!(
            "[server.tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\n{more}\n{HMC}"
        )
    };
    let identity = ACCOUNT
        .replace("client_secret", "workload_identity")
        .replace(
            "secret_file = \"batch.secret\"",
            "token_file = \"federated.token\"",
        );
    let issuer = "[[jwt_issuers]]\nissuer = \"i\"\naudience = \"a\"\n";
    vec![
        ("hmc.password", HMC.to_owned()),
        ("batch.secret", ACCOUNT.to_owned()),
        ("batch.key", KEY.to_owned()),
        ("federated.token", identity),
        ("hmc.pem", format!("{HMC}ca_file = \"hmc.pem\"")),
        ("server.pem", tls("")),
        ("server.key", tls("")),
        ("clients.pem", tls("client_ca_file = \"clients.pem\"")),
        (
            "build.jwks",
            format!("{HMC}{issuer}jwks_file = \"build.jwks\""),
        ),
    ]
}

const SECRETS: [&str; 4] = [
    "hmc.password",
    "batch.secret",
    "batch.key",
    "federated.token",
];

fn encode_utf16(text: &[u8], unit: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    text.iter().flat_map(|byte| unit((*byte).into())).collect()
}

/// Returns invalid files: the fault, the content, and a part of the message.
fn invalid_variants(valid: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let little = encode_utf16(valid, |unit| unit.to_le_bytes().to_vec());
    let big = encode_utf16(valid, |unit| unit.to_be_bytes().to_vec());
    let four = encode_utf16(valid, |unit| u32::from(unit).to_le_bytes().to_vec());
    vec![
        ("UTF-16 LE", [b"\xFF\xFE", &*little].concat(), "UTF-16"),
        ("UTF-16 BE", [b"\xFE\xFF", &*big].concat(), "UTF-16"),
        ("UTF-16 without mark", little, "NUL"),
        ("UTF-16 BE without mark", big, "NUL"),
        ("UTF-32 LE", [b"\xFF\xFE\0\0", &*four].concat(), "UTF-32"),
        ("UTF-32 BE", b"\0\0\xFE\xFF\0\0\0a".to_vec(), "UTF-32"),
        ("NUL at the end", [valid, b"\0"].concat(), "NUL"),
        ("NUL at the beginning", [b"\0", valid].concat(), "NUL"),
        ("empty", Vec::new(), "is empty"),
        ("blanks", b" \t \r\n\n".to_vec(), "is empty"),
        ("a mark alone", MARK.to_vec(), "is empty"),
        (
            "a mark and a line end",
            [MARK, b"\r\n"].concat(),
            "is empty",
        ),
        (
            "a mark at the end",
            [valid, MARK].concat(),
            "byte order mark",
        ),
        (
            "two files joined",
            [valid, MARK, valid].concat(),
            "byte order mark",
        ),
        ("large", b"x".repeat(5 * 1024 * 1024), "is larger than"),
    ]
}

#[track_caller]
fn expect_fault(folder: &Folder, case: &str, file: &str, text: &str, part: &str) {
    let errors = folder.errors(text);
    assert_eq!(errors.len(), 1, "{file}, {case}: {errors:?}");
    assert!(errors[0].contains(part), "{file}, {case}: {errors:?}");
}

#[test]
fn binary_file_is_an_error_of_the_key_that_names_it() {
    let folder = Folder::new();
    for (file, text) in kinds() {
        let valid = fs::read(folder.0.join(file)).unwrap();
        for (case, content, part) in invalid_variants(&valid) {
            folder.write(file, &content);
            expect_fault(&folder, case, file, &text, part);
        }
        folder.write(file, &valid);
        assert_eq!(folder.errors(&text), [""; 0], "{file}");
    }
}

#[test]
fn byte_order_mark_is_ignored() {
    let folder = Folder::new();
    for (file, text) in kinds() {
        let valid = fs::read(folder.0.join(file)).unwrap();
        for marks in [MARK, &MARK.repeat(2)] {
            folder.write(file, &[marks, &valid].concat());
            assert_eq!(folder.errors(&text), [""; 0], "{file}");
        }
        folder.write(file, &valid);
    }
    folder.write("hmc.password", &[MARK, b"right\r\n"].concat());
    let config = folder
        .parse(HMC)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let password = config.targets.hmcs["h"].own.password.read().unwrap();
    assert_eq!(password.expose(), "right");
}

#[test]
fn secret_must_be_one_line() {
    let folder = Folder::new();
    let kinds = kinds();
    let of = |file: &str| &kinds.iter().find(|(name, _)| *name == file).unwrap().1;
    for file in SECRETS {
        let text = of(file);
        for (content, part) in [
            (&b"c2VjcmV0\nc2VjcmV0\n"[..], "several lines"),
            (b"c2VjcmV0\rc2VjcmV0", "several lines"),
            (b"\nc2VjcmV0\n", "several lines"),
            (b"c2VjcmV0\n  \n", "several lines"),
            (b"c2Vj\x1B[2JcmV0", "control characters"),
            (b"c2Vj\x0BcmV0", "control characters"),
            ("c2Vj\u{85}cmV0".as_bytes(), "control characters"),
            ("c2Vj\u{2028}cmV0".as_bytes(), "control characters"),
            (
                "c2VjcmV0\u{200B}\n".as_bytes(),
                "invisible character, U+200B",
            ),
            ("\u{200D}c2VjcmV0".as_bytes(), "invisible character, U+200D"),
            ("\u{200F}c2VjcmV0".as_bytes(), "invisible character, U+200F"),
            ("\u{FFFE}c2VjcmV0".as_bytes(), "invisible character, U+FFFE"),
            ("c2Vj\u{FDD0}cmV0".as_bytes(), "invisible character, U+FDD0"),
            ("c2Vj\u{AD}cmV0".as_bytes(), "invisible character, U+00AD"),
            ("c2VjcmV0\u{2060}".as_bytes(), "invisible character, U+2060"),
            (
                "\u{E0001}c2VjcmV0".as_bytes(),
                "invisible character, U+E0001",
            ),
            (
                "c2VjcmV0\u{10FFFF}".as_bytes(),
                "invisible character, U+10FFFF",
            ),
            (b"c2Vj\xFFcmV0", "not UTF-8"),
        ] {
            folder.write(file, content);
            expect_fault(&folder, part, file, text, part);
        }
        for content in ["c2VjcmV0", "c2VjcmV0\n", "c2VjcmV0\r\n", "c2VjcmV0\r\n\r\n"] {
            folder.write(file, content.as_bytes());
            assert_eq!(folder.errors(text), [""; 0], "{file} {content:?}");
        }
    }
    // Spaces and tabs can be part of a password.
    folder.write("hmc.password", b" a\tb \n");
    let config = folder
        .parse(HMC)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.targets.hmcs["h"]
            .own
            .password
            .read()
            .unwrap()
            .expose(),
        " a\tb "
    );
}

/// Content that is valid in a secret but unlikely causes a warning.
#[test]
fn suspicious_secret_logs_a_warning() {
    let folder = Folder::new();
    for (file, text) in kinds() {
        let key = match file {
            "hmc.password" => ":4:17: warning: `password_file`: the secret",
            "batch.secret" => ":7:15: warning: `secret_file`: the secret",
            "federated.token" => ":7:14: warning: `token_file`: the token",
            _ => continue,
        };
        for (content, part) in [
            (" a\tb \n", Some("begins or ends with a blank")),
            ("a\u{A0}", Some("begins or ends with a blank")),
            ("\"secret\"\n", Some("is in quotes")),
            ("'secret'", Some("is in quotes")),
            ("`secret`", Some("is in quotes")),
            ("+/v8-secret", Some("UTF-7")),
            ("+/v9secret", Some("UTF-7")),
            ("\"secret", None),
            ("\"", None),
            ("se\"cr\"et", None),
            ("+/vsecret", None),
            ("pässwörd漢", None),
        ] {
            folder.write(file, content.as_bytes());
            let warnings = folder.warnings(&text);
            assert_eq!(
                warnings.len(),
                usize::from(part.is_some()),
                "{content}: {warnings:?}"
            );
            for (warning, part) in warnings.iter().zip(part) {
                assert!(
                    warning.contains(key) && warning.contains(part),
                    "{content}: {warning}"
                );
            }
        }
    }
}

/// `check-config` can read the configuration from a pipe. The files that it names must be regular files.
#[test]
fn configuration_can_be_a_pipe() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let check = |content: Vec<u8>| {
        let path = pipe.clone();
        // The writer fails if the reader stops early, which is expected.
        let writer = std::thread::spawn(move || drop(fs::write(path, content)));
        let checked = config::check_file(&pipe)
            .err()
            .map(|errors| errors.to_string());
        writer.join().unwrap();
        checked
    };
    assert_eq!(check(HMC.into()), None);
    assert_eq!(check([MARK, HMC.as_bytes()].concat()), None);
    let error = check(format!("x = 1\n{HMC}").into()).unwrap();
    assert!(error.contains("pipe:1:1: unknown key `x`\n"), "{error}");
    for (case, content, part) in invalid_variants(HMC.as_bytes()) {
        let error = check(content).unwrap();
        assert!(error.contains(part), "{case}: {error}");
    }
    // The server reads its file repeatedly, which a pipe does not allow.
    let error = config::load(&pipe).err().unwrap().to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
    let callers = "[[callers]]\nidentity = \"anonymous\"\n\
                   allow = [{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }]\n";
    let (code, out, err) = run_with_input(&format!("{HMC}{callers}"), &folder.0);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
}

/// Runs `check-config --config /dev/stdin` with a configuration whose files are in this folder.
fn run_with_input(text: &str, folder: &Path) -> (i32, String, String) {
    let path = folder.join("hmc.password").display().to_string();
    let text = text.replace("hmc.password", &path);
    let mut child = Command::new(useradmin_testkit::program())
        .args(["check-config", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, err)
}

/// Names and comments in a bundle of certificates are not always UTF-8.
#[test]
fn pem_file_may_contain_comments() {
    let folder = Folder::new();
    let pem = fs::read(folder.0.join("hmc.pem")).unwrap();
    folder.write("hmc.pem", &[b"subject=Z\xFCrich\n", &*pem].concat());
    let text = format!("{HMC}ca_file = \"hmc.pem\"");
    assert_eq!(folder.errors(&text), [""; 0]);
}

#[test]
fn special_files_are_rejected() {
    let folder = Folder::new();
    for (file, text) in kinds() {
        let path = folder.0.join(file);
        let valid = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        expect_fault(&folder, "folder", file, &text, "a directory");
        fs::remove_dir(&path).unwrap();
        // Opening a pipe would wait for a writer.
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        expect_fault(&folder, "FIFO", file, &text, "not a regular file");
        fs::remove_file(&path).unwrap();
        let socket = UnixListener::bind(&path).unwrap();
        expect_fault(&folder, "socket", file, &text, "not a regular file");
        drop(socket);
        fs::remove_file(&path).unwrap();
        let device = text.replace(&format!("\"{file}\""), "\"/dev/zero\"");
        expect_fault(&folder, "device", file, &device, "not a regular file");
        folder.write(file, &valid);
    }
}

/// The same checks for the configuration file itself.
#[test]
fn configuration_must_be_utf8() {
    let folder = Folder::new();
    let file = folder.0.join("useradmin.toml");
    let fault = || config::load(&file).err().map(|errors| errors.to_string());
    fs::write(&file, [MARK, HMC.as_bytes()].concat()).unwrap();
    assert_eq!(fault(), None);
    // Columns are counted without the byte order mark.
    fs::write(&file, [MARK, b"x = 1\n", HMC.as_bytes()].concat()).unwrap();
    assert!(
        fault()
            .unwrap()
            .contains(":1:1: unknown key `x`\nx = ...\n^\n")
    );
    for (case, content, part) in invalid_variants(HMC.as_bytes()) {
        fs::write(&file, content).unwrap();
        let fault = fault().unwrap();
        let head = format!("{}:1:1: ", file.display());
        assert!(
            fault.starts_with(&head) && fault.contains(part),
            "{case}: {fault}"
        );
    }
    fs::write(&file, b"\xFF").unwrap();
    assert!(fault().unwrap().contains("not UTF-8"));
}
