//! Reasons why a caller could not be authenticated.

/// Declares the errors, each with the value of the metadata key `cause`.
macro_rules! authentication_errors {
    ($($(#[doc = $doc:literal])+ $error:ident = $cause:literal,)+) => {
        /// Reason why a caller could not be authenticated, sent as the metadata key `cause`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuthenticationError {
            $($(#[doc = $doc])+ $error,)+
        }

        impl AuthenticationError {
            /// All errors, for the documentation.
            pub const ALL: [Self; [$($cause),+].len()] = [$(Self::$error),+];

            /// Returns the value of the metadata key `cause`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$error => $cause,)+
                }
            }
        }
    };
}

authentication_errors! {
    /// The call has neither a certificate nor a token.
    NoCredentials = "nothing_shown",
    /// A certificate without a URI or DNS name that can be an identity.
    CertificateUnnamed = "certificate_unnamed",
    /// A certificate that has expired since the connection was made.
    CertificateExpired = "certificate_expired",
    /// A certificate of an authority that is no longer trusted.
    CertificateNotTrusted = "certificate_not_trusted",
    /// The metadata `authorization` is not one bearer token.
    NoBearerToken = "no_bearer_token",
    /// The token is not a JSON Web Token, or a claim is missing or has a wrong type or value.
    TokenMalformed = "token_malformed",
    /// An issuer that is not configured.
    TokenIssuerUnknown = "token_issuer_unknown",
    /// An algorithm that is not configured for the issuer.
    TokenAlgorithmRefused = "token_algorithm_refused",
    /// A key that the issuer does not publish.
    TokenKeyUnknown = "token_key_unknown",
    /// The issuer's keys could not be read.
    TokenKeysUnavailable = "token_keys_unavailable",
    /// The signature does not match the key.
    TokenSignatureInvalid = "token_signature_invalid",
    /// `exp` is in the past.
    TokenExpired = "token_expired",
    /// `nbf` is in the future.
    TokenNotYetValid = "token_not_yet_valid",
    /// `aud` names another audience.
    TokenAudienceWrong = "token_audience_wrong",
    /// The target is called under the caller's identity, and the caller showed no token.
    UserTokenRequired = "user_token_required",
    /// The target is called under the caller's identity, and the token belongs to an application, not to a user.
    AppOnlyToken = "app_only_token",
}
