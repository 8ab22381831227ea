//! Faults in `[server.tls]`, in `[[jwt_issuers]]` and in identifiers.

use super::{
    Folder,
    errors::{ACCOUNT, HMC, KEY, check, replace_line},
};

fn tls_configuration(cert: &str, key: &str, more: &str) -> String {
    let listen = "listen = \"0.0.0.0:1\"";
    format!(
        "[server]\n{listen}\n[server.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n{more}\n{HMC}"
    )
}

#[test]
fn invalid_server_certificates_are_reported() {
    check(&[
        (tls_configuration("server.pem", "server.key", ""), &[]),
        (
            tls_configuration(
                "server.pem",
                "server.key",
                "client_ca_file = \"clients.pem\"",
            ),
            &[],
        ),
        (
            tls_configuration("gone", "server.key", ""),
            &[
                "4:13: `cert_file` cannot be read: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            tls_configuration("not-pem", "server.key", ""),
            &["4:13: `cert_file` holds no certificate in PEM (not-pem)"],
        ),
        (
            tls_configuration("server.pem", "gone", ""),
            &[
                "5:12: `key_file` cannot be read: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            tls_configuration("server.pem", "server.pem", ""),
            &["5:12: `key_file` holds no private key in PEM; an encrypted one cannot be used"],
        ),
        (
            tls_configuration("other.pem", "server.key", ""),
            &[
                "5:12: `key_file` does not go with `cert_file`: keys may not be consistent: KeyMismatch",
            ],
        ),
        (
            format!("[server.tls]\ncert_file = \"server.pem\"\n{HMC}"),
            &["1:9: missing key `key_file`"],
        ),
    ]);
}

#[test]
fn invalid_client_authorities_are_reported() {
    check(&[
        (
            tls_configuration("server.pem", "server.key", "client_ca_file = \"gone\""),
            &[
                "6:18: `client_ca_file` cannot be read: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            tls_configuration(
                "server.pem",
                "server.key",
                "client_ca_file = \"not-x509.pem\"",
            ),
            &[
                "6:18: `client_ca_file` holds something that is not a usable X.509 certificate: number 1: its encoding is not that of X.509 (not-x509.pem)",
            ],
        ),
        (
            tls_configuration(
                "server.pem",
                "server.key",
                "client_ca_file = \"server.pem\"",
            ),
            &["6:18: `client_ca_file` holds a certificate that is not an authority's (server.pem)"],
        ),
    ]);
}

#[test]
fn invalid_issuers_are_reported() {
    let issuer = |keys: &str| {
        format!("{HMC}[[jwt_issuers]]\nissuer = \"https://i.example\"\naudience = \"a\"\n{keys}\n")
    };
    let file = "jwks_file = \"build.jwks\"";
    check(&[
        (issuer(file), &[]),
        (
            issuer("jwks_url = \"https://i.example/keys?x=1\"\nca_file = \"hmc.pem\""),
            &[],
        ),
        (issuer("jwks_url = \"http://127.0.0.1:1/keys\""), &[]),
        (
            issuer("jwks_url = \"http://i.example/keys\""),
            &["8:12: `jwks_url` must be https; http is for loopback hosts only"],
        ),
        (
            issuer(""),
            &["5:1: an issuer needs either `jwks_url` or `jwks_file`"],
        ),
        (
            issuer(&format!("{file}\njwks_url = \"https://i.example\"")),
            &["5:1: an issuer needs either `jwks_url` or `jwks_file`"],
        ),
        (
            issuer(&format!("{file}\nca_file = \"hmc.pem\"")),
            &["9:1: `ca_file` goes with `jwks_url`"],
        ),
        (
            issuer("jwks_file = \"gone\""),
            &[
                "8:13: `jwks_file` cannot be read: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            issuer("jwks_file = \"not-pem\""),
            &["8:13: `jwks_file` is not JSON: expected value at line 1 column 1"],
        ),
        (
            issuer(&format!(
                "{file}\nalgorithms = [\"ES256\", \"HS256\", \"none\"]"
            )),
            &[
                "9:24: `algorithms` holds only RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
                "9:33: `algorithms` holds only RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
            ],
        ),
        (
            issuer(&format!("{file}\nalgorithms = []")),
            &["9:14: `algorithms` must not be empty"],
        ),
        (
            issuer(file).replace("i.example", "i.example/#x"),
            &["6:10: `issuer` must not hold a `#`"],
        ),
        (
            format!("{}{}", issuer(file), issuer(file).replace(HMC, "")),
            &["10:10: this issuer is listed twice"],
        ),
    ]);
}

/// Returns files with this identifier in each kind of key, and the position and key.
fn identifiers(text: &str) -> Vec<(String, &'static str)> {
    let issuer = |issuer: &str, audience: &str| {
        format!(
            "{HMC}[[jwt_issuers]]\nissuer = \"{issuer}\"\naudience = \"{audience}\"\njwks_file = \"build.jwks\"\n"
        )
    };
    let caller = "[[callers]]\nidentity";
    vec![
        (issuer(text, "a"), "6:10: `issuer` "),
        (issuer("i", text), "7:12: `audience` "),
        (
            format!("{HMC}{caller} = \"{text}\"\nallow = []"),
            "6:12: `identity` ",
        ),
        (format!("{ACCOUNT}scope = \"{text}\""), "8:9: `scope` "),
        (
            replace_line(ACCOUNT, 5, &format!("tenant_id = \"{text}\"")),
            "5:13: `tenant_id` ",
        ),
        (
            replace_line(ACCOUNT, 6, &format!("client_id = \"{text}\"")),
            "6:13: `client_id` ",
        ),
        (
            replace_line(KEY, 5, &format!("account_name = \"{text}\"")),
            "5:16: `account_name` ",
        ),
        (
            replace_line(HMC, 3, &format!("userid = \"{text}\"")),
            "3:10: `userid` ",
        ),
    ]
}

#[test]
fn identifiers_have_no_placeholders() {
    let folder = Folder::new();
    for text in [
        "${NAME}",
        "{name}",
        "{{ name }}",
        "$NAME",
        "$name",
        "$(NAME)",
        "<name>",
        "[NAME]",
        "@NAME@",
        "__NAME__",
        "%NAME%",
        "https:/x/${A}",
        "https://x/${A}",
        "a-${NAME}",
    ] {
        for (file, position) in identifiers(text) {
            let errors = folder.errors(&file);
            let is_expected = errors.len() == 1 && errors[0].starts_with(position);
            assert!(is_expected, "{file}: {errors:?}");
        }
    }
    for text in ["${USER}", "a-{{ user }}"] {
        let allow = |part: &str| {
            format!(
                "{HMC}[[callers]]\nidentity = \"x\"\nallow = [{{ rpc = \"DeleteBatchNodeUser\", {part} }}]"
            )
        };
        for file in [
            format!("{HMC}protected_users = [\"{text}\"]"),
            allow(&format!("targets = [\"{text}\"]")),
            allow(&format!("targets = [\"*\"], pools = [\"{text}\"]")),
            identifiers("i")[0].0.clone()
                + &format!("[[callers]]\nidentity = \"i#{text}\"\nallow = []"),
        ] {
            let errors = folder.errors(&file);
            let is_expected = errors.len() == 1 && errors[0].contains("placeholder");
            assert!(is_expected, "{file}: {errors:?}");
        }
    }
}

#[test]
fn identifiers_can_be_any_uri() {
    let folder = Folder::new();
    for text in [
        "spiffe://corp/o'neil",
        "spiffe://corp/$A",
        "spiffe://corp/@A@/__B__",
        "spiffe://corp/%7BA%7D",
        "urn:a:b",
        "host.example",
    ] {
        let file = &identifiers(text)[2].0;
        assert_eq!(folder.errors(file), [""; 0], "{file}");
    }
    for text in [
        "https://i.example/o'neil",
        "api://a_b__c/.default",
        "a@b.example",
        "a__b__c",
    ] {
        for at in [0, 1, 3, 5, 7] {
            let file = &identifiers(text)[at].0;
            assert_eq!(folder.errors(file), [""; 0], "{file}");
        }
    }
}

#[test]
fn identifiers_that_are_urls_have_no_placeholders() {
    let folder = Folder::new();
    for (text, expected) in [
        (
            format!(
                "{HMC}[[jwt_issuers]]\nissuer = \"https://l.example/{{tenantid}}/v2.0\"\naudience = \"a\"\njwks_url = \"https://l.example\"\n"
            ),
            "6:10: `issuer` holds a placeholder",
        ),
        (
            format!("{ACCOUNT}scope = \"api://${{CLIENT_ID}}/.default\"\n"),
            "8:9: `scope` holds a placeholder",
        ),
        (
            format!("{HMC}[[callers]]\nidentity = \"spiffe://<trust-domain>/svc\"\nallow = []\n"),
            "6:12: `identity` holds a placeholder",
        ),
    ] {
        let errors = folder.errors(&text);
        assert!(
            errors.len() == 1 && errors[0].starts_with(expected),
            "{errors:?}"
        );
    }
}
