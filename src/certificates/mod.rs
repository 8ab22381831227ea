//! The faults of certificates, in words: which keys cannot be used, which authorities can vouch for no certificate, and
//! why a handshake refused one.

pub mod callers;
pub mod refusal;

use std::borrow::Cow;

use ring::agreement::{ECDH_P256, ECDH_P384};
use rustls::{
    crypto,
    pki_types::{CertificateDer, alg_id},
};
use x509_parser::{
    asn1_rs::{FromDer as _, Oid, Sequence},
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2sn},
    parse_x509_certificate,
    public_key::PublicKey,
    x509::X509Name,
};

use crate::public_keys::{is_edwards_point, is_on_curve, rsa_fault};

/// Names of keys, curves and signatures by object identifier, beside those that the parser has.
const NAMES: [(&str, &str); 22] = [
    ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
    ("1.2.840.10045.4.3.1", "ECDSA with SHA-224"),
    ("1.2.840.10045.4.3.2", "ECDSA with SHA-256"),
    ("1.2.840.10045.4.3.3", "ECDSA with SHA-384"),
    ("1.2.840.10045.4.3.4", "ECDSA with SHA-512"),
    ("1.2.840.113549.1.1.4", "RSA with MD5"),
    ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
    ("1.2.840.113549.1.1.14", "RSA with SHA-224"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
];
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
/// Longest part of a name that is shown, in characters. Peers choose the names in their certificates.
const MAX_NAME: usize = 128;

/// An authority that can vouch for no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its name in DER.
    subject: Vec<u8>,
    /// Whether a usable authority has the same name.
    has_namesake: bool,
    /// Its name and its fault.
    pub fault: String,
}

/// The authorities of a file.
#[derive(Debug, Default)]
pub struct Authorities {
    /// Those that can vouch for certificates.
    pub usable: Vec<CertificateDer<'static>>,
    /// The others.
    pub unusable: Vec<Unusable>,
}

impl Authorities {
    /// Sorts certificates by whether `fault` finds one in them.
    pub fn sort(
        certificates: &[CertificateDer<'static>],
        fault: impl Fn(&X509Certificate<'_>) -> Option<String>,
    ) -> Self {
        let mut sorted = Self::default();
        let mut subjects = Vec::new();
        for der in certificates {
            // The parser refuses some certificates that webpki accepts.
            let parsed = parse_x509_certificate(der).ok();
            let subject = parsed
                .as_ref()
                .map(|(_, parsed)| parsed.subject().as_raw().to_vec());
            let found =
                parsed.and_then(|(_, parsed)| Some((name(parsed.subject()), fault(&parsed)?)));
            if let Some((name, fault)) = found {
                sorted.unusable.push(Unusable {
                    subject: subject.unwrap_or_default(),
                    has_namesake: false,
                    fault: format!("{name}: {fault}"),
                });
            } else {
                sorted.usable.push(der.clone());
                subjects.extend(subject);
            }
        }
        for authority in &mut sorted.unusable {
            authority.has_namesake = subjects.contains(&authority.subject);
        }
        sorted
    }

    /// Returns the faults of the others, one after the other.
    #[must_use]
    pub fn faults(&self) -> String {
        let faults = self.unusable.iter();
        let faults: Vec<_> = faults.map(|authority| authority.fault.as_str()).collect();
        faults.join("; ")
    }
}

/// Returns why no certificate of this authority can be verified. The validity period is not checked.
#[must_use]
pub fn authority_fault(authority: &X509Certificate<'_>) -> Option<String> {
    let key = key_fault(authority).or_else(|| point_fault(authority));
    key.or_else(|| match authority.name_constraints() {
        Ok(None) => None,
        Ok(Some(constraints)) => {
            let lists = [
                &constraints.value.permitted_subtrees,
                &constraints.value.excluded_subtrees,
            ];
            let mut names = lists.into_iter().flatten().flatten();
            // webpki refuses every certificate below such an authority.
            names
                .any(|subtree| matches!(subtree.base, GeneralName::DirectoryName(_)))
                .then(|| "its name constraints on directory names are not supported".to_owned())
        }
        Err(_) => Some("its name constraints cannot be read".to_owned()),
    })
}

/// Returns why the kind or size of this certificate's key cannot be used.
#[must_use]
pub fn key_fault(certificate: &X509Certificate<'_>) -> Option<String> {
    let key = certificate.public_key();
    let Some(algorithm) = algorithm(key.raw) else {
        return Some("its key cannot be read".to_owned());
    };
    let verifying = crypto::ring::default_provider().signature_verification_algorithms;
    let mut known = verifying.all.iter();
    if !known.any(|known| known.public_key_alg_id().as_ref() == algorithm) {
        return Some(format!(
            "its key {}, which is not supported",
            kind(algorithm)
        ));
    }
    let Ok(PublicKey::RSA(key)) = key.parsed() else {
        return None;
    };
    let fault = rsa_fault(key.modulus, key.exponent)?;
    Some(format!("its key cannot be used: {fault}"))
}

/// Returns why no signature can be verified with the point that is this certificate's key. The check takes as long as
/// that of a signature, so that it is not made for every certificate of a peer.
#[must_use]
pub fn point_fault(certificate: &X509Certificate<'_>) -> Option<String> {
    let key = certificate.public_key();
    let (algorithm, point) = (algorithm(key.raw)?, &*key.subject_public_key.data);
    let is_point = if algorithm == alg_id::ECDSA_P256.as_ref() {
        is_on_curve(&ECDH_P256, point)
    } else if algorithm == alg_id::ECDSA_P384.as_ref() {
        is_on_curve(&ECDH_P384, point)
    } else if algorithm == alg_id::ED25519.as_ref() {
        point.try_into().is_ok_and(is_edwards_point)
    } else {
        true
    };
    (!is_point).then(|| "its key is not an uncompressed point of its curve".to_owned())
}

/// Returns the content of the `AlgorithmIdentifier` of a `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
fn algorithm(key: &[u8]) -> Option<&[u8]> {
    let (_, key) = Sequence::from_der(key).ok()?;
    let Cow::Borrowed(content) = key.content else {
        return None;
    };
    let (_, algorithm) = Sequence::from_der(content).ok()?;
    match algorithm.content {
        Cow::Borrowed(content) => Some(content),
        Cow::Owned(_) => None,
    }
}

/// Describes the kind of a key by the content of its `AlgorithmIdentifier`.
fn kind(algorithm: &[u8]) -> String {
    let Ok((parameters, id)) = Oid::from_der(algorithm) else {
        return "is of an unknown kind".to_owned();
    };
    if id.to_id_string() != EC_PUBLIC_KEY {
        return format!("is of the kind {}", id_name(&id));
    }
    match Oid::from_der(parameters) {
        Ok((_, curve)) => format!("is on the curve {}", id_name(&curve)),
        Err(_) => "is on a curve that is given by its parameters and not by its name".to_owned(),
    }
}

/// Returns the name of an object identifier.
fn id_name(id: &Oid<'_>) -> String {
    let text = id.to_id_string();
    let named = NAMES.iter().find(|(known, _)| *known == text);
    match (named, oid2sn(id, oid_registry())) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, Ok(name)) => format!("{name} ({text})"),
        (None, Err(_)) => text,
    }
}

/// Returns the beginning of a name.
fn name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() {
        return "without a name".to_owned();
    }
    text.chars().take(MAX_NAME).collect()
}
