//! Unusable certificate authorities of clients and of upstreams.

use rcgen::{
    CustomExtension, DistinguishedName, DnType, GeneralSubtree, KeyUsagePurpose, NameConstraints,
    date_time_ymd,
};
use useradmin_testkit::pki::{Authority, Validity, fixture};

use super::{Folder, errors::HMC};

/// Authorities of kinds that rcgen does not generate, and the faults of their keys.
const AUTHORITY_KEYS: [(&str, &str); 18] = [
    ("ca-p256", ""),
    ("ca-p384", ""),
    ("ca-ed25519", ""),
    ("ca-rsa2047", ""),
    ("ca-rsa8192", ""),
    ("ca-sha1", ""),
    (
        "ca-p521",
        "its key is on the curve P-521, which is not supported",
    ),
    (
        "ca-p224",
        "its key is on the curve P-224, which is not supported",
    ),
    (
        "ca-secp256k1",
        "its key is on the curve secp256k1, which is not supported",
    ),
    (
        "ca-brainpool",
        "its key is on the curve brainpoolP256r1, which is not supported",
    ),
    (
        "ca-explicit",
        "its key is on a curve that is given by its parameters and not by its name, which is not supported",
    ),
    (
        "ca-compressed",
        "its key is not an uncompressed point of its curve",
    ),
    (
        "ca-rsa1024",
        "its key cannot be used: an RSA key of 1024 bits; 2048 to 8192 are supported",
    ),
    (
        "ca-rsa2040",
        "its key cannot be used: an RSA key of 2040 bits; 2048 to 8192 are supported",
    ),
    (
        "ca-rsa8200",
        "its key cannot be used: an RSA key of 8200 bits; 2048 to 8192 are supported",
    ),
    (
        "ca-rsa-pss",
        "its key is of the kind RSASSA-PSS, which is not supported",
    ),
    (
        "ca-ed448",
        "its key is of the kind Ed448, which is not supported",
    ),
    (
        "ca-dsa",
        "its key is of the kind DSA, which is not supported",
    ),
];

/// Positions in the configuration that name authorities.
const CONFIGURATION_KEYS: [&str; 5] = [
    "client_ca_file",
    "hmcs",
    "batch_accounts",
    "jwt_issuers",
    "tracing",
];

/// Returns the description of a file at this key that contains only authorities with this fault, or `None` if this
/// is only a warning. The file of an HMC may contain its own certificate, and other files are used in addition to the
/// authorities of the system.
fn fault_of_file(key: &str, error: &str) -> Option<&'static str> {
    match key {
        "client_ca_file" => Some("no authority that can admit a caller"),
        "hmcs" if error.contains("its key ") => Some("no certificate that can be used"),
        _ => None,
    }
}

/// Returns a configuration with `authorities.pem` at this key.
fn configuration(key: &str) -> String {
    let file = "ca_file = \"authorities.pem\"";
    match key {
        "client_ca_file" => format!(
            "[server.tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\nclient_{file}\n{HMC}"
        ),
        "hmcs" => format!("{HMC}{file}\n"),
        "batch_accounts" => format!(
            "[batch_accounts.b]\nurl = \"https://b.example\"\n{file}\n[batch_accounts.b.credential]\n\
             kind = \"shared_key\"\naccount_name = \"b\"\nkey_file = \"batch.key\"\n"
        ),
        "jwt_issuers" => format!(
            "{HMC}[[jwt_issuers]]\nissuer = \"https://i.example\"\naudience = \"a\"\n\
             jwks_url = \"https://i.example/keys\"\n{file}\n"
        ),
        "tracing" => {
            format!("[tracing]\notlp_endpoint = \"https://c.example\"\n{file}\n{HMC}")
        }
        other => panic!("{other}"),
    }
}

/// Returns the faults and the warnings of a configuration that names this file.
fn errors_and_warnings(folder: &Folder, key: &str, pem: &str) -> (Vec<String>, Vec<String>) {
    folder.write("authorities.pem", pem.as_bytes());
    let text = configuration(key);
    let errors = folder.errors(&text);
    let warnings = errors.is_empty().then(|| folder.warnings(&text));
    (errors, warnings.unwrap_or_default())
}

/// Asserts that a file with only this authority is rejected or causes a warning, and that it causes a warning together
/// with a usable one.
fn assert_unusable(folder: &Folder, key: &str, pem: &str, error: &str) {
    let good = fixture("ca-p256");
    let mut accepted = vec![format!("{good}{pem}"), format!("{pem}{good}")];
    if let Some(holds) = fault_of_file(key, error) {
        let (errors, _) = errors_and_warnings(folder, key, pem);
        let [printed] = &errors[..] else {
            panic!("{key} {error}: {errors:?}");
        };
        assert!(
            printed.contains(&format!("ca_file` holds {holds}: ")),
            "{key}: {printed}"
        );
        assert!(
            printed.contains(error) && printed.contains("authorities.pem)"),
            "{key} {error}: {printed}"
        );
    } else {
        accepted.push(pem.to_owned());
    }
    for pem in accepted {
        let (errors, warnings) = errors_and_warnings(folder, key, &pem);
        assert!(errors.is_empty(), "{key} {error}: {errors:?}");
        let [warning] = &warnings[..] else {
            panic!("{key} {error}: {warnings:?}");
        };
        assert!(
            warning.contains(error) && warning.contains("authorities.pem)"),
            "{key}: {warning}"
        );
    }
}

#[test]
fn authorities_with_unusable_keys_are_rejected() {
    let folder = Folder::new();
    for key in CONFIGURATION_KEYS {
        for (name, error) in AUTHORITY_KEYS {
            let pem = fixture(name);
            if error.is_empty() {
                assert_eq!(
                    errors_and_warnings(&folder, key, pem),
                    (vec![], vec![]),
                    "{name}"
                );
            } else {
                assert_unusable(&folder, key, pem, &format!("CN={name}: {error}"));
            }
        }
    }
}

/// webpki accepts these authorities but rejects all certificates that they issue.
#[test]
fn authorities_with_directory_name_constraints_are_rejected() {
    let folder = Folder::new();
    let constrained = |lists: fn(GeneralSubtree) -> (Vec<GeneralSubtree>, Vec<GeneralSubtree>)| {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Example");
        let (permitted_subtrees, excluded_subtrees) = lists(GeneralSubtree::DirectoryName(name));
        let constraints = NameConstraints {
            permitted_subtrees,
            excluded_subtrees,
        };
        Authority::with(|params| params.name_constraints = Some(constraints))
    };
    let error = "its name constraints on directory names are not supported";
    for key in CONFIGURATION_KEYS {
        for lists in [
            (|name| (vec![name], vec![])) as fn(_) -> _,
            |name| (vec![], vec![name]),
            |name| {
                (
                    vec![GeneralSubtree::DnsName("example".to_owned()), name],
                    vec![],
                )
            },
        ] {
            assert_unusable(&folder, key, constrained(lists).pem(), error);
        }
        let dns = GeneralSubtree::DnsName("example".to_owned());
        let constraints = NameConstraints {
            permitted_subtrees: vec![dns],
            excluded_subtrees: vec![],
        };
        let usable = Authority::with(|params| params.name_constraints = Some(constraints));
        assert_eq!(
            errors_and_warnings(&folder, key, usable.pem()),
            (vec![], vec![]),
            "{key}"
        );
    }
}

/// rustls checks neither the validity period of authorities nor their critical extensions.
#[test]
fn client_authorities_must_be_currently_valid() {
    let folder = Folder::new();
    let key = CONFIGURATION_KEYS[0];
    let dated = |from, to| {
        Authority::with(|params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        })
    };
    for (authority, error) in [
        (dated(2001, 2002), "it has expired: it was valid until "),
        (dated(2998, 2999), "it is not valid yet: it is valid from "),
    ] {
        assert_unusable(&folder, key, authority.pem(), error);
    }
    let critical = Authority::with(|params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    assert_eq!(
        errors_and_warnings(&folder, key, critical.pem()),
        (vec![], vec![])
    );
}

/// The holder of such a certificate could issue certificates for any name, so it is rejected even next to a usable
/// authority.
#[test]
fn client_authorities_must_be_ca_certificates() {
    let folder = Folder::new();
    let authority = Authority::new();
    let leaf = authority.issue("client.example", Validity::Now);
    let signs_lists = Authority::with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let error = "`client_ca_file` holds a certificate that is not an authority's";
    for pem in [leaf.pem(), signs_lists.pem(), fixture("leaf-of-p256")] {
        for pem in [pem.to_owned(), format!("{}{pem}", authority.pem())] {
            let (errors, _) = errors_and_warnings(&folder, "client_ca_file", &pem);
            assert!(errors.len() == 1 && errors[0].contains(error), "{errors:?}");
            assert!(errors[0].contains("authorities.pem)"), "{errors:?}");
        }
    }
}
