//! Identities for trying TLS, client certificates and tokens: a certificate authority, a server certificate, a client
//! certificate, and a token with the key set that verifies it. They are regenerated at each start in a folder that the
//! user chooses. They are for the sandbox only.

use std::{
    fmt::Display,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

/// The `iss` claim of the token.
pub const ISSUER: &str = "https://issuer.sandbox.example";
/// The `sub` claim of the token.
pub const SUBJECT: &str = "client";
/// The `aud` claim of the token.
pub const AUDIENCE: &str = "useradmin";
/// The SPIFFE ID in the client certificate, a URI.
pub const SPIFFE_ID: &str = "spiffe://sandbox.example/client";

/// Number of deletions per minute that a caller with the token may request. It is small enough that a trial can
/// exceed it.
pub const TOKEN_QUOTA: u32 = 60;

/// Name of the file that marks a folder whose files the sandbox may replace. Files in other folders are never
/// replaced.
const MARKER: &str = "made-by-useradmin-sandbox";
const KEY_ID: &str = "sandbox";
/// Validity of the certificates and the token. It is short because they are for the sandbox only.
const LIFETIME: Duration = Duration::from_hours(7 * 24);
/// Tolerated clock difference between two machines, or between a container and its host.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// The paths of the generated files.
#[derive(Clone, Debug)]
pub struct Identities {
    /// The certificate of the authority that issues both other certificates. The clients and the server trust it.
    pub ca: PathBuf,
    /// The server certificate, valid for `localhost` and the loopback addresses.
    pub server_certificate: PathBuf,
    /// The private key of the server certificate.
    pub server_key: PathBuf,
    /// The client certificate.
    pub client_certificate: PathBuf,
    /// The private key of the client certificate.
    pub client_key: PathBuf,
    /// The token, without the prefix `Bearer `.
    pub token: PathBuf,
    /// The JSON Web Key Set with the public key of the issuer.
    pub key_set: PathBuf,
}

impl Identities {
    /// Generates all files in `folder`. Files of an earlier sandbox are replaced.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written, or if one exists that was not created by a sandbox.
    pub fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)
            .map_err(|error| path_error(folder, format!("cannot be made: {error}")))?;
        let file = |name: &str| folder.join(name);
        let files = Self {
            ca: file("ca.pem"),
            server_certificate: file("server.pem"),
            server_key: file("server.key"),
            client_certificate: file("client.pem"),
            client_key: file("client.key"),
            token: file("token"),
            key_set: file("jwks.json"),
        };
        files.claim(&file(MARKER))?;
        files.certificates()?;
        files.tokens()?;
        Ok(files)
    }

    fn all(&self) -> [&Path; 7] {
        [
            &self.ca,
            &self.server_certificate,
            &self.server_key,
            &self.client_certificate,
            &self.client_key,
            &self.token,
            &self.key_set,
        ]
    }

    /// Marks the folder as owned by the sandbox. Fails if a folder without the marker contains a file with one of the
    /// names, because that file may be a key of the user.
    fn claim(&self, marker: &Path) -> io::Result<()> {
        if marker.exists() {
            return Ok(());
        }
        let mut files = self.all().into_iter();
        if let Some(existing) = files.find(|file| file.symlink_metadata().is_ok()) {
            let cause = "is there already, and no sandbox has made it; name another folder";
            return Err(path_error(existing, cause));
        }
        write(marker, "")?;
        // Keeps the keys out of Git repositories, where secret scanners would report them.
        write(&marker.with_file_name(".gitignore"), "*\n")
    }

    fn certificates(&self) -> io::Result<()> {
        let new_key = || KeyPair::generate().map_err(crypto);
        let (params, key) = (authority(), new_key()?);
        let ca = params.self_signed(&key).map_err(crypto)?.pem();
        write(&self.ca, &ca)?;
        let issuer = Issuer::new(params, key);
        let issue = |params: CertificateParams, certificate: &Path, key: &Path| {
            let pair = new_key()?;
            let signed = params.signed_by(&pair, &issuer).map_err(crypto)?;
            write(certificate, &signed.pem())?;
            write(key, &pair.serialize_pem())
        };
        issue(server()?, &self.server_certificate, &self.server_key)?;
        issue(client()?, &self.client_certificate, &self.client_key)
    }

    fn tokens(&self) -> io::Result<()> {
        let random = SystemRandom::new();
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(curve, &random).map_err(crypto)?;
        let key = EcdsaKeyPair::from_pkcs8(curve, pair.as_ref(), &random).map_err(crypto)?;
        let header = encode(json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID }).to_string());
        let message = format!("{header}.{}", encode(claims().to_string()));
        let signature = key.sign(&random, message.as_bytes()).map_err(crypto)?;
        write(&self.key_set, &key_set(&key).to_string())?;
        write(&self.token, &format!("{message}.{}", encode(signature)))
    }
}

fn path_error(path: &Path, error: impl Display) -> io::Error {
    io::Error::other(format!("{} {error}", path.display()))
}

fn crypto(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_set(key: &EcdsaKeyPair) -> Value {
    // The public key is an uncompressed point: the byte 4, x, y.
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
        "x": encode(x), "y": encode(y),
    }] })
}

fn claims() -> Value {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let now = SystemTime::now();
    json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE,
        "nbf": seconds(now - CLOCK_SKEW), "exp": seconds(now + LIFETIME),
    })
}

fn authority() -> CertificateParams {
    let mut params = params_named("useradmin sandbox authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server() -> io::Result<CertificateParams> {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names = CertificateParams::new(loopback).map_err(crypto)?;
    let mut params = leaf_params("useradmin sandbox", ExtendedKeyUsagePurpose::ServerAuth);
    params.subject_alt_names = names.subject_alt_names;
    Ok(params)
}

fn client() -> io::Result<CertificateParams> {
    let name = SPIFFE_ID.try_into().map_err(crypto)?;
    let mut params = leaf_params("sandbox client", ExtendedKeyUsagePurpose::ClientAuth);
    params.subject_alt_names = vec![SanType::URI(name)];
    Ok(params)
}

fn leaf_params(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = params_named(name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params
}

fn params_named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + LIFETIME).into();
    params
}

/// Writes a file that only its owner can access. All files are written like this, because some of them contain keys
/// or the token.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // An existing file is removed first, because it may be a symbolic link or have other permissions.
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    removed
        .and_then(|()| options.open(path)?.write_all(text.as_bytes()))
        .map_err(|error| path_error(path, format!("cannot be written: {error}")))
}
