//! The names in a client certificate.

use rustls::pki_types::CertificateDer;
use useradmin::{access::certificate::PeerCertificate, identity::Identity};

/// Checks a certificate in DER.
pub fn certificate(bytes: &[u8]) {
    let chain = [CertificateDer::from(bytes)];
    let Some(certificate) = PeerCertificate::new(&chain, 1) else {
        return;
    };
    assert_eq!(certificate.chain, chain);
    assert!(certificate.is_verified_by(1) && !certificate.is_verified_by(2));
    let mut uris = Vec::new();
    for name in &certificate.names {
        let Identity::Certificate(text) = name else {
            panic!("not a certificate's: {name:?}");
        };
        // The whole name appears in the log and can be written into `[[callers]]`.
        assert!(
            (1..=256).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        );
        assert!(text != "anonymous" && !text.contains('#'), "{text}");
        assert_eq!(Identity::parse(text, std::iter::empty()), *name);
        uris.extend(text.contains(':').then(|| text.to_ascii_lowercase()));
    }
    let spiffe = uris.iter().any(|uri| uri.starts_with("spiffe://"));
    assert!(!spiffe || uris.len() == 1, "{uris:?}");
}
