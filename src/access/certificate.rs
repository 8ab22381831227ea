//! The certificate of a caller: its names, and how long it is valid.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::{identity::Identity, unix_time};

/// Seconds after which the chain of an open connection is verified again.
const VERIFIED_FOR: u64 = 60;

/// A client certificate that was verified when its connection was made.
pub struct PeerCertificate {
    /// The chain, the caller's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The URI names, followed by the DNS names. There are none if the certificate has a SPIFFE ID together with
    /// another URI or an unreadable name (X509-SVID, section 2).
    pub names: Vec<Identity>,
    not_after: u64,
    /// Number of the set of authorities that has verified the chain last.
    verified_by: AtomicU64,
    /// Time of the last verification, in seconds since 1970.
    verified_at: AtomicU64,
}

impl PeerCertificate {
    /// Creates the certificate from a chain that the authorities with this number have verified. The first
    /// certificate of the chain is the caller's own. Returns `None` if it cannot be parsed.
    pub fn new(chain: &[CertificateDer<'_>], authorities: u64) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(chain.first()?).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| identities(&names.value.general_names));
        Some(Self {
            names: names.unwrap_or_default(),
            not_after: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default(),
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            verified_by: AtomicU64::new(authorities),
            verified_at: AtomicU64::new(unix_time()),
        })
    }

    pub fn has_expired(&self) -> bool {
        unix_time() > self.not_after
    }

    /// Returns whether the authorities with this number have verified the chain recently.
    pub fn is_verified_by(&self, authorities: u64) -> bool {
        let age = unix_time().abs_diff(self.verified_at.load(Ordering::Relaxed));
        self.verified_by.load(Ordering::Relaxed) == authorities && age < VERIFIED_FOR
    }

    /// Records that the authorities with this number have verified the chain.
    pub fn set_verified_by(&self, authorities: u64) {
        self.verified_by.store(authorities, Ordering::Relaxed);
        self.verified_at.store(unix_time(), Ordering::Relaxed);
    }
}

fn identities(names: &[GeneralName]) -> Vec<Identity> {
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let others = names
        .iter()
        .filter(|name| matches!(name, GeneralName::Invalid(..)));
    if uris.len() + others.count() > 1 && uris.iter().any(|uri| is_spiffe(uri)) {
        return Vec::new();
    }
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    let uris = uris.into_iter().filter_map(Identity::uri);
    uris.chain(hosts.filter_map(Identity::dns)).collect()
}

fn is_spiffe(uri: &str) -> bool {
    uri.get(..9)
        .is_some_and(|start| start.eq_ignore_ascii_case("spiffe://"))
}
