//! The random credentials of a sandbox, and the generator of all random texts.
//!
//! The credentials are never written to disk. [`Credentials`] deliberately implements neither `Debug` nor `Display`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// The credentials that the simulated upstreams accept.
#[allow(
    missing_debug_implementations,
    reason = "secrets must not be printable"
)]
pub struct Credentials {
    /// The ID of the Microsoft Entra tenant, a GUID.
    pub tenant_id: String,
    /// The application (client) ID, a GUID.
    pub client_id: String,
    /// The client secret of the application.
    pub client_secret: String,
    /// The name of the Batch account in `SharedKey` signatures.
    pub batch_account_name: String,
    /// The key of the Batch account, encoded in base64.
    pub batch_key: String,
    /// The HMC user that may log on to the Web Services API.
    pub hmc_userid: String,
    /// The password of that user.
    pub hmc_password: String,
}

impl Credentials {
    pub(super) fn random() -> Self {
        Self {
            tenant_id: Uuid::new_v4().to_string(),
            client_id: Uuid::new_v4().to_string(),
            // Real secrets contain a tilde, too. It detects a client with a wrong form encoding.
            client_secret: format!("8Q~{}", text::<2>()),
            batch_account_name: format!("sandbox{}", token(8)),
            batch_key: STANDARD.encode(bytes::<4>()),
            hmc_userid: "svc-useradmin".to_owned(),
            // The quote, `+` and `&` detect a client that does not escape the password in JSON.
            hmc_password: format!("\"+&{}", token(24)),
        }
    }
}

/// Returns `N` times 16 random bytes, taken from version 4 UUIDs, a source of randomness that the product already
/// depends on. Six bits of each UUID are constant.
fn bytes<const N: usize>() -> Vec<u8> {
    (0..N).flat_map(|_| Uuid::new_v4().into_bytes()).collect()
}

/// Returns a random text that is safe in URLs and headers, from `N` times 16 bytes.
pub(super) fn text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<N>())
}

/// Returns `length` random characters of `a-z0-9`, the format of an HMC session ID. The maximum length is 64.
pub(super) fn token(length: usize) -> String {
    let digit = |byte: u8| char::from_digit(u32::from(byte % 36), 36).unwrap_or('0');
    bytes::<4>().into_iter().take(length).map(digit).collect()
}
