//! Describes faults of certificates: keys that cannot be used, authorities with which no certificate can be verified,
//! and the reasons why a handshake refused a certificate.

pub mod refusal;
pub mod verifier;

use ring::agreement::{ECDH_P256, ECDH_P384};
use rustls::{
    crypto,
    pki_types::{CertificateDer, alg_id},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Oid},
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2sn},
    parse_x509_certificate,
    public_key::PublicKey,
    time::ASN1Time,
    x509::X509Name,
};

use crate::public_keys::{is_edwards_point, is_on_curve, rsa_fault};

/// Names of keys, curves and signatures by object identifier, in addition to those of the parser.
const OID_NAMES: [(&str, &str); 22] = [
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
/// Maximum number of characters of a name in a message. Peers choose the names in their certificates.
const MAX_NAME_CHARS: usize = 128;

/// Remaining life of a certificate, in seconds, below which there is a warning. The alert
/// `UseradminCertificateExpires` has the same limit.
const EXPIRES_SOON_SECONDS: i64 = 14 * 24 * 60 * 60;

/// An authority with which no certificate can be verified.
#[derive(Debug)]
pub struct UnusableAuthority {
    /// Name of the authority in DER.
    subject: Vec<u8>,
    /// Whether a usable authority has the same name.
    name_is_shared: bool,
    /// Description of the fault, which starts with the name of the authority.
    pub fault: String,
}

#[derive(Debug, Default)]
pub struct Authorities {
    pub usable: Vec<CertificateDer<'static>>,
    pub unusable: Vec<UnusableAuthority>,
}

impl Authorities {
    /// Separates the certificates for which `fault` returns a fault from the usable ones.
    pub fn partition(
        certificates: &[CertificateDer<'static>],
        fault: impl Fn(&X509Certificate<'_>) -> Option<String>,
    ) -> Self {
        let mut authorities = Self::default();
        let mut subjects = Vec::new();
        for der in certificates {
            let Ok((_, parsed)) = parse_x509_certificate(der) else {
                // This parser refuses some certificates that webpki accepts, so the certificate counts as usable.
                authorities.usable.push(der.clone());
                continue;
            };
            let subject = parsed.subject().as_raw().to_vec();
            if let Some(fault) = fault(&parsed) {
                authorities.unusable.push(UnusableAuthority {
                    subject,
                    name_is_shared: false,
                    fault: format!("{}: {fault}", display_name(parsed.subject())),
                });
            } else {
                authorities.usable.push(der.clone());
                subjects.push(subject);
            }
        }
        for authority in &mut authorities.unusable {
            authority.name_is_shared = subjects.contains(&authority.subject);
        }
        authorities
    }

    /// Returns a text for each unusable authority, which names the problem, the fault and the file.
    pub fn warnings(&self, problem: &str, shown_path: &str) -> Vec<String> {
        let faults = self.unusable.iter().map(|authority| &authority.fault);
        let texts = faults.map(|fault| format!("{problem}: {fault}{shown_path}"));
        texts.collect()
    }

    /// Returns the faults of the unusable authorities as one text.
    pub fn faults(&self) -> String {
        let faults = self.unusable.iter();
        let faults: Vec<_> = faults.map(|authority| authority.fault.as_str()).collect();
        faults.join("; ")
    }
}

/// Returns why no certificate can be verified with this authority, whatever its dates, or `None` if one can.
pub fn authority_fault(authority: &X509Certificate<'_>) -> Option<String> {
    let key = key_fault(authority).or_else(|| key_point_fault(authority));
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

/// Returns why a certificate is not valid at this time, or `None` if it is.
pub fn date_fault(certificate: &X509Certificate<'_>) -> Option<String> {
    let (validity, now) = (certificate.validity(), ASN1Time::now());
    if now < validity.not_before {
        let from = date(validity.not_before.timestamp());
        Some(format!("it is not valid yet: it is valid from {from}"))
    } else if now > validity.not_after {
        let until = date(validity.not_after.timestamp());
        Some(format!("it has expired: it was valid until {until}"))
    } else {
        None
    }
}

/// Returns why a certificate is not valid now, or that it expires soon; `None` if neither is the case.
pub fn date_warning(certificate: &X509Certificate<'_>) -> Option<String> {
    let end = certificate.validity().not_after.timestamp();
    let is_near = end - ASN1Time::now().timestamp() < EXPIRES_SOON_SECONDS;
    let soon = || format!("it expires soon: it is valid until {}", date(end));
    date_fault(certificate).or_else(|| is_near.then(soon))
}

/// Returns why the kind or size of this certificate's key cannot be used, or `None` if there is no fault.
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
            describe_key_kind(algorithm)
        ));
    }
    let Ok(PublicKey::RSA(key)) = key.parsed() else {
        return None;
    };
    let fault = rsa_fault(key.modulus, key.exponent)?;
    Some(format!("its key cannot be used: {fault}"))
}

/// Returns a fault if the key is not a valid point of its elliptic curve. The check takes as long as the verification
/// of a signature, so it is not made for every certificate of a peer.
pub fn key_point_fault(certificate: &X509Certificate<'_>) -> Option<String> {
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
    let (_, key) = Any::from_der(key).ok()?;
    let (_, algorithm) = Any::from_der(key.data).ok()?;
    Some(algorithm.data)
}

/// Describes the kind of a key with this `AlgorithmIdentifier`, in a phrase such as `is on the curve P-256`.
fn describe_key_kind(algorithm: &[u8]) -> String {
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

/// Returns the name of an object identifier, or its digits if the name is not known.
fn id_name(id: &Oid<'_>) -> String {
    let text = id.to_id_string();
    let named = OID_NAMES.iter().find(|(known, _)| *known == text);
    match (named, oid2sn(id, oid_registry())) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, Ok(name)) => format!("{name} ({text})"),
        (None, Err(_)) => text,
    }
}

/// Returns a name as text, truncated to [`MAX_NAME_CHARS`] characters.
fn display_name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() {
        return "without a name".to_owned();
    }
    text.chars().take(MAX_NAME_CHARS).collect()
}

/// Formats a time in seconds since 1970 as `2026-11-26T15:35:52Z`.
fn date(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "an unknown time".to_owned())
}
