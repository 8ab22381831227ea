//! Why a call has no identity.

/// Why a call has no identity. The caller receives it as the metadata key `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationError {
    /// Neither certificate nor token.
    NoCredentials,
    /// A certificate without a URI or DNS name that can be an identity.
    CertificateUnnamed,
    /// A certificate that has expired since the connection was made.
    CertificateExpired,
    /// A certificate of an authority that is no longer trusted.
    CertificateNotTrusted,
    /// The metadata `authorization` is not one bearer token.
    NoBearerToken,
    /// No JSON Web Token, or one with claims of a wrong kind.
    TokenMalformed,
    /// An issuer that is not configured.
    TokenIssuerUnknown,
    /// An algorithm that is not configured for the issuer.
    TokenAlgorithmRefused,
    /// A key that the issuer does not publish.
    TokenKeyUnknown,
    /// The issuer's keys could not be read.
    TokenKeysUnavailable,
    /// The signature is not the key's.
    TokenSignatureInvalid,
    /// `exp` is past.
    TokenExpired,
    /// `nbf` is in the future.
    TokenNotYetValid,
    /// `aud` names another audience.
    TokenAudienceWrong,
}

impl AuthenticationError {
    /// All errors, for the documentation.
    pub const ALL: [Self; 14] = [
        Self::NoCredentials,
        Self::CertificateUnnamed,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::NoBearerToken,
        Self::TokenMalformed,
        Self::TokenIssuerUnknown,
        Self::TokenAlgorithmRefused,
        Self::TokenKeyUnknown,
        Self::TokenKeysUnavailable,
        Self::TokenSignatureInvalid,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenAudienceWrong,
    ];

    /// Returns the value of the metadata key `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "nothing_shown",
            Self::CertificateUnnamed => "certificate_unnamed",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotTrusted => "certificate_not_trusted",
            Self::NoBearerToken => "no_bearer_token",
            Self::TokenMalformed => "token_malformed",
            Self::TokenIssuerUnknown => "token_issuer_unknown",
            Self::TokenAlgorithmRefused => "token_algorithm_refused",
            Self::TokenKeyUnknown => "token_key_unknown",
            Self::TokenKeysUnavailable => "token_keys_unavailable",
            Self::TokenSignatureInvalid => "token_signature_invalid",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenAudienceWrong => "token_audience_wrong",
        }
    }
}
