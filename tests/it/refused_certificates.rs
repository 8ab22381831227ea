//! The log states the reason of a failed handshake, for callers and for upstreams.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints,
};
use rustls::ALL_VERSIONS;
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    App, Process, SecureClient, Upstream, alert, batch_request, batch_section, default_reply,
    delete_by_name, hmc_section,
    pki::{Authority, Identity, Validity, fixture, fixture_chain, fixture_leaf},
    token_reply_or, wait_until,
};

use crate::callers::{dns, tls_section, uri};

/// The certificate of a peer, and words of the expected log line.
type Row = (Identity, &'static str);

/// Leaf certificates that are refused where the authorities below are trusted. The peer has no private key for those
/// that are not named after their authority; the handshake fails before the key matters.
const FIXTURES: [(&str, &str); 11] = [
    (
        "leaf-of-p384",
        "no trusted authority has issued it, or an intermediate certificate is missing",
    ),
    (
        "leaf-of-below",
        "no trusted authority has issued it, or an intermediate certificate is missing",
    ),
    (
        "leaf-p521",
        "certificate CN=leaf-p521: its key is on the curve P-521, which is not supported",
    ),
    (
        "leaf-rsa1024",
        "certificate CN=leaf-rsa1024: its key cannot be used: an RSA key of 1024 bits",
    ),
    (
        "leaf-ed448",
        "certificate CN=leaf-ed448: its key is of the kind Ed448",
    ),
    (
        "leaf-sha1",
        "a certificate of the chain is signed with ECDSA with SHA-1, which is not supported",
    ),
    (
        "leaf-sha512",
        "a certificate of the chain is signed with ECDSA with SHA-512, which is not supported",
    ),
    (
        "leaf-of-p521",
        "authority CN=ca-p521: its key is on the curve P-521",
    ),
    (
        "leaf-sha512-of-p521",
        "authority CN=ca-p521: its key is on the curve P-521",
    ),
    (
        "leaf-of-rsa1024",
        "authority CN=ca-rsa1024: its key cannot be used: an RSA key of 1024 bits",
    ),
    (
        "leaf-of-ed448",
        "authority CN=ca-ed448: its key is of the kind Ed448",
    ),
];

fn critical_extension(id: &[u64]) -> impl FnOnce(&mut CertificateParams) {
    let mut extension = CustomExtension::from_oid_content(id, vec![0x30, 0]);
    extension.set_criticality(true);
    move |params| params.custom_extensions.push(extension)
}

/// Returns an authority of this name with constraints on the names below it.
fn constrained_authority(name: &str, permitted: GeneralSubtree) -> Authority {
    Authority::with(|params| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![permitted],
            excluded_subtrees: vec![],
        });
    })
}

/// The authorities of a trust store, some of which are unusable.
struct Authorities {
    valid: Authority,
    of_names: Authority,
    of_directory: Authority,
}

impl Authorities {
    fn new() -> Self {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Example");
        Self {
            valid: Authority::new(),
            of_names: constrained_authority(
                "names",
                GeneralSubtree::DnsName("other.example".to_owned()),
            ),
            of_directory: constrained_authority("directory", GeneralSubtree::DirectoryName(name)),
        }
    }

    fn pem(&self) -> String {
        let fixtures = ["ca-p256", "ca-p521", "ca-rsa1024", "ca-ed448"].map(fixture);
        let own = [&self.valid, &self.of_names, &self.of_directory].map(Authority::pem);
        [own.concat(), fixtures.concat()].concat()
    }

    /// Returns certificates for `localhost` that are refused wherever these authorities are trusted.
    fn refused_rows(&self) -> Vec<Row> {
        let fixtures = FIXTURES.map(|(name, words)| (fixture_leaf(name), words));
        let own = [
            (
                self.valid.issue("localhost", Validity::Past),
                "a certificate of the chain has expired: it was valid until 2002-01-01T00:00:00Z",
            ),
            (
                self.valid.issue("localhost", Validity::Future),
                "a certificate of the chain is not valid yet: it is valid from 2998-01-01T00:00:00Z",
            ),
            (
                Authority::new().issue("localhost", Validity::Now),
                "the certificate is from another authority of the same name",
            ),
            (
                self.valid
                    .issue("localhost", Validity::Now)
                    .with_key_of(&self.issue(|_| {})),
                "the peer does not have its key",
            ),
            (
                fixture_chain("leaf-of-below", "ca-below"),
                "certificate CN=ca-below: its key is on the curve P-521",
            ),
            (
                self.issue(critical_extension(&[1, 2, 3, 4])),
                "its critical extension 1.2.3.4 is not supported",
            ),
            (
                self.issue(critical_extension(&[2, 5, 29, 32])),
                "its critical extension certificatePolicies (2.5.29.32) is not supported",
            ),
            (
                self.issue(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
                "it is the certificate of an authority (CA:TRUE)",
            ),
            (
                self.of_names.issue("localhost", Validity::Now),
                "a name is outside of the name constraints of an authority",
            ),
            (
                self.of_directory.issue("localhost", Validity::Now),
                "authority CN=directory: its name constraints on directory names are not supported",
            ),
        ];
        own.into_iter().chain(fixtures).collect()
    }

    /// Returns a certificate for `localhost` with this change.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.valid.issue_from(|params| {
            params.subject_alt_names = vec![dns("localhost")];
            change(params);
        })
    }

    fn issue_for_usage(&self, usage: ExtendedKeyUsagePurpose) -> Identity {
        self.issue(|params| params.extended_key_usages = vec![usage])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cause_of_refused_client_certificate_is_logged() {
    let upstream = Upstream::start(|_| panic!("nothing is sent")).await;
    let (folder, authorities) = (App::folder(), Authorities::new());
    let text = tls_section(&folder, &authorities.valid, "").replace(
        "127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0",
        "127.0.0.1:0\"\nadmin_listen = \"",
    );
    let text = text + &batch_section(&folder, &upstream.url);
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    fs::write(folder.join("clients.pem"), authorities.pem()).unwrap();
    let process = Process::start(&folder);
    let address = process.address.parse().unwrap();
    let mut rows = authorities.refused_rows();
    let for_servers = authorities.issue_for_usage(ExtendedKeyUsagePurpose::ServerAuth);
    rows.push((for_servers, "extended key usage"));
    for (identity, words) in &rows {
        let alert = alert(address, authorities.valid.pem(), identity).await;
        assert!(alert.is_some(), "{words}");
    }
    // A connection that was opened before its authority was removed.
    let identity = authorities
        .valid
        .issue_to(vec![uri("spiffe://corp/offboarding")], Validity::Now);
    let client = SecureClient::tls(address, authorities.valid.pem(), Some(&identity));
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    fs::write(folder.join("clients.pem"), fixture("ca-p256")).unwrap();
    wait_until("the files are in use", async || {
        !Process::log_records(&folder, "files reloaded").is_empty()
    })
    .await;
    let failure = client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    assert_eq!(failure.metadata_value("cause"), "certificate_not_trusted");
    process.stop();
    let log_lines = Process::log_records(&folder, "TLS handshake failed");
    assert_eq!(log_lines.len(), rows.len());
    // Several threads serve connections, so the order of their log lines is not fixed.
    let errors: Vec<_> = log_lines
        .iter()
        .map(|line| line["error"].as_str())
        .collect();
    for (_, words) in &rows {
        let prefix = "invalid peer certificate: ";
        let mut errors = errors.iter().flatten();
        let is_reported = errors.any(|error| error.starts_with(prefix) && error.contains(words));
        assert!(is_reported, "{words}: {log_lines:?}");
    }
    let refusal = Process::log_records(&folder, "client certificate refused");
    let why = refusal[0]["error"].as_str().unwrap();
    assert!(why.contains("no trusted authority has issued it"), "{why}");
    fs::remove_dir_all(folder).unwrap();
}

fn hmc(folder: &Path, alias: &str, url: &str) -> String {
    hmc_section(folder, url).replace("[hmcs.hmc]", &format!("[hmcs.{alias}]"))
        + "ca_file = \"ca.pem\"\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn cause_of_refused_upstream_certificate_is_logged() {
    let (folder, authorities) = (App::folder(), Authorities::new());
    fs::write(folder.join("ca.pem"), authorities.pem()).unwrap();
    let mut rows = authorities.refused_rows();
    let for_clients = authorities.issue_for_usage(ExtendedKeyUsagePurpose::ClientAuth);
    rows.push((for_clients.clone(), "extended key usage"));
    let other = authorities.valid.issue("hmc.example", Validity::Now);
    rows.push((other, "certificate not valid for name \"localhost\"; certificate is only valid for DnsName(\"hmc.example\")"));
    let mut sections = String::new();
    let mut upstreams = Vec::new();
    for (number, (identity, _)) in rows.iter().enumerate() {
        let upstream = Upstream::start_tls(identity.server(ALL_VERSIONS), |received| {
            default_reply(received, 1)
        })
        .await;
        sections += &hmc(&folder, &format!("h{number}"), &upstream.url);
        upstreams.push(upstream);
    }
    // The alert `handshake_failure`, as OpenSSL sends it when the peer supports none of its keys.
    let no_common_keys = Upstream::start_raw(&[0x15, 3, 3, 0, 2, 2, 40]).await;
    let url = no_common_keys
        .url
        .replace("http://127.0.0.1", "https://localhost");
    sections += &hmc(&folder, &format!("h{}", rows.len()), &url);
    // The system's authorities are trusted too, through another verifier.
    let batch = Upstream::start_tls(for_clients.server(ALL_VERSIONS), |received| {
        token_reply_or(received, || panic!("a request"))
    })
    .await;
    sections +=
        &batch_section(&folder, &batch.url).replacen("url =", "ca_file = \"ca.pem\"\nurl =", 1);
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }}, {{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{sections}"
    );
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    let process = Process::start(&folder);
    let mut client = process.client();
    for number in 0..=rows.len() {
        let request = DeleteHmcUserRequest {
            hmc: format!("h{number}"),
            ..delete_by_name("alice")
        };
        client.delete_hmc_user(request).await.unwrap_err();
    }
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    process.stop();
    let words = rows.iter().map(|(_, words)| *words);
    let words = words.chain([
        "received fatal alert: HandshakeFailure (the peer and this service have no TLS cipher suite or kind of key in common; a key on the curve P-521 is not supported)",
        "its extended key usage does not include servers",
    ]);
    let log_lines = Process::log_records(&folder, "call ended");
    assert_eq!(log_lines.len(), rows.len() + 2);
    for (words, line) in words.zip(log_lines) {
        let context = line["context"].as_str().unwrap();
        assert!(context.contains(words), "{words}: {context}");
    }
    fs::remove_dir_all(folder).unwrap();
}
