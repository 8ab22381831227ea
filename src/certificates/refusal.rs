//! Descriptions of the errors of TLS handshakes.

use std::{error::Error as StdError, io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError,
    pki_types::{CertificateDer, UnixTime},
};
use x509_parser::{
    asn1_rs::{FromDer as _, Oid},
    certificate::X509Certificate,
    parse_x509_certificate,
};

use super::{
    UnusableAuthority, date, date_fault, describe_key_kind, display_name, id_name, key_fault,
    key_point_fault,
};

/// Maximum number of examined certificates of a chain: the longest chain that webpki accepts.
const MAX_CHAIN: usize = 7;
/// Object identifiers of the extensions that webpki supports. Others must not be critical.
const EXTENSIONS: [&str; 6] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.37",
];

/// The description of the error for a peer that does not speak TLS.
pub const PLAINTEXT: &str = "the peer sent plaintext instead of TLS";

/// Returns the error for a certificate whose fault has no equivalent among the errors of rustls.
fn refused(certificate: &X509Certificate<'_>, fault: &str) -> Error {
    other(format!(
        "certificate {}: {fault}",
        display_name(certificate.subject())
    ))
}

fn other(text: String) -> Error {
    let error: Box<dyn StdError + Send + Sync> = text.into();
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(error))))
}

/// Returns an error if the key of a peer's own certificate cannot verify the signature of a handshake.
pub fn check_key(own: &CertificateDer<'_>) -> Result<(), Error> {
    match parse_x509_certificate(own) {
        Ok((_, own)) => key_fault(&own).map_or(Ok(()), |fault| Err(refused(&own, &fault))),
        // This parser refuses some certificates that webpki has accepted.
        Err(_) => Ok(()),
    }
}

/// Returns an error if a certificate is not valid at this time, or cannot be parsed.
pub fn check_dates(certificate: &CertificateDer<'_>) -> Result<(), Error> {
    let (_, certificate) = parse_x509_certificate(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    date_fault(&certificate).map_or(Ok(()), |fault| Err(refused(&certificate, &fault)))
}

/// Returns an error that names the fault of the certificate's key, if that is why its signature was refused.
pub fn explain_signature(error: Error, own: &CertificateDer<'_>) -> Error {
    let parsed = parse_x509_certificate(own).ok();
    let refused = parsed.and_then(|(_, own)| Some(refused(&own, &key_point_fault(&own)?)));
    refused.unwrap_or(error)
}

/// Returns an error that names the fault of a certificate in the chain, or of its authority. Returns `error` itself
/// if it already names the fault, or if no fault is found.
pub fn explain(
    error: Error,
    own: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    unusable: &[UnusableAuthority],
) -> Error {
    use CertificateError as E;
    let Error::InvalidCertificate(cause) = &error else {
        return error;
    };
    let is_unclear = matches!(
        cause,
        E::BadSignature
            | E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            | E::Other(_)
    );
    if !is_unclear && *cause != E::UnknownIssuer {
        return error;
    }
    let chain: Vec<_> = std::iter::once(own)
        .chain(intermediates)
        .take(MAX_CHAIN)
        .filter_map(|certificate| parse_x509_certificate(certificate).ok())
        .map(|(_, certificate)| certificate)
        .collect();
    let issued = |authority: &&UnusableAuthority| {
        let mut chain = chain.iter();
        !authority.name_is_shared
            && chain.any(|certificate| certificate.issuer().as_raw() == authority.subject)
    };
    if let Some(authority) = unusable.iter().find(issued) {
        return other(format!("authority {}", authority.fault));
    }
    let mut chain = chain.iter().filter(|_| is_unclear);
    let named = chain.find_map(|certificate| {
        Some(refused(
            certificate,
            &certificate_fault(certificate, cause)?,
        ))
    });
    named.unwrap_or(error)
}

/// Returns the fault of this certificate that explains why its chain was refused for `cause`.
fn certificate_fault(
    certificate: &X509Certificate<'_>,
    cause: &CertificateError,
) -> Option<String> {
    let CertificateError::Other(OtherError(cause)) = cause else {
        return key_fault(certificate);
    };
    match cause.downcast_ref() {
        Some(webpki::Error::UnsupportedCriticalExtension) => {
            let mut extensions = certificate.extensions().iter();
            let extension = extensions.find(|extension| {
                extension.critical && !EXTENSIONS.contains(&extension.oid.to_id_string().as_str())
            })?;
            let extension = id_name(&extension.oid);
            Some(format!(
                "its critical extension {extension} is not supported"
            ))
        }
        Some(_) => None,
        // The system's verifier reports no details if it refuses a certificate that is not for servers.
        None => {
            let usage = certificate.extended_key_usage().ok()??;
            (!usage.value.server_auth)
                .then(|| "its extended key usage does not include servers".to_owned())
        }
    }
}

/// Describes an error of a connection. The recursion unwraps errors of TLS, which `hyper-rustls` wraps twice.
pub fn describe_io_error(error: &io::Error) -> String {
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref()) {
        describe_tls_error(tls)
    } else if let Some(wrapped) = inner.and_then(|inner| inner.downcast_ref()) {
        describe_io_error(wrapped)
    } else {
        error.to_string()
    }
}

pub fn describe_tls_error(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(cause) => format!(
            "invalid peer certificate: {}",
            describe_certificate_error(cause)
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => PLAINTEXT.to_owned(),
        Error::AlertReceived(alert) => match meaning(*alert) {
            "" => error.to_string(),
            meaning => format!("{error} ({meaning})"),
        },
        _ => error.to_string(),
    }
}

/// Returns the meaning of a peer's alert, or an empty text if its name is clear.
const fn meaning(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::HandshakeFailure => {
            "the peer and this service have no TLS cipher suite or kind of key in common; a key on the curve P-521 is not supported"
        }
        A::ProtocolVersion => "the peer and this service have no version of TLS in common",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::DecryptError => "the peer refused the certificate of this service",
        A::CertificateRequired => "the peer asks for a client certificate",
        _ => "",
    }
}

pub fn describe_certificate_error(cause: &CertificateError) -> String {
    use CertificateError as E;
    let text = match cause {
        E::BadEncoding => "its encoding is not that of X.509",
        E::ExpiredContext { not_after, .. } => {
            let date = unix_date(*not_after);
            return format!("a certificate of the chain has expired: it was valid until {date}");
        }
        E::NotValidYetContext { not_before, .. } => {
            let date = unix_date(*not_before);
            return format!("a certificate of the chain is not valid yet: it is valid from {date}");
        }
        E::UnknownIssuer => {
            "no trusted authority has issued it, or an intermediate certificate is missing"
        }
        E::BadSignature => {
            "a signature does not verify: the certificate is from another authority of the same name, or the peer does not have its key"
        }
        E::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            ..
        } => {
            let algorithm = signature(signature_algorithm_id);
            return format!(
                "a certificate of the chain is signed with {algorithm}, which is not supported"
            );
        }
        E::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => {
            let algorithm = signature(signature_algorithm_id);
            let kind = describe_key_kind(public_key_algorithm_id);
            return format!(
                "a signature with {algorithm} cannot be verified with a key that {kind}"
            );
        }
        E::InvalidPurpose => "its extended key usage does not allow this use",
        E::Other(OtherError(cause)) => match cause.downcast_ref() {
            Some(cause) => return describe_webpki_error(cause),
            None => return cause.to_string(),
        },
        // The other texts are sufficient: they contain, for example, the names that a certificate is valid for.
        _ => return cause.to_string(),
    };
    text.to_owned()
}

/// Describes an error of webpki that has no equivalent in rustls.
fn describe_webpki_error(cause: &webpki::Error) -> String {
    use webpki::Error as E;
    let text = match cause {
        E::UnsupportedCriticalExtension => {
            "a certificate of the chain has a critical extension that is not supported"
        }
        E::NameConstraintViolation => {
            "a name is outside of the name constraints of an authority; constraints on URIs and directory names exclude all of them"
        }
        E::CaUsedAsEndEntity => "it is the certificate of an authority (CA:TRUE)",
        E::EndEntityUsedAsCa => "an issuer in the chain is not an authority (CA:FALSE)",
        E::PathLenConstraintViolated => {
            "the chain is longer than the path length of an authority allows"
        }
        E::MaximumPathDepthExceeded => "the chain is too long",
        E::EmptyEkuExtension => "its extended key usage is empty",
        E::SignatureAlgorithmMismatch => "it names two different signature algorithms",
        E::UnsupportedCertVersion => "a certificate of the chain is not of version 3 of X.509",
        E::MalformedExtensions | E::ExtensionValueInvalid => {
            "a certificate of the chain has an extension that cannot be read"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// Returns the name of a signature algorithm by the content of its `AlgorithmIdentifier`.
fn signature(algorithm: &[u8]) -> String {
    let id = Oid::from_der(algorithm);
    id.map_or_else(
        |_| "an unknown algorithm".to_owned(),
        |(_, id)| id_name(&id),
    )
}

fn unix_date(time: UnixTime) -> String {
    date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
