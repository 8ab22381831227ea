//! The secrets of one sandbox, made at random at each start, and the source of every other random text.
//!
//! Nothing here is written anywhere: [`Credentials`] has neither `Debug` nor `Display` on purpose.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// What a client of this sandbox has to know.
#[allow(
    missing_debug_implementations,
    reason = "secrets must not be printable"
)]
pub struct Credentials {
    /// The Microsoft Entra tenant, a GUID.
    pub tenant_id: String,
    /// The application (client) ID, a GUID.
    pub client_id: String,
    /// The application's client secret.
    pub client_secret: String,
    /// The name of the Batch account, as `SharedKey` signs it.
    pub batch_account_name: String,
    /// The key of the Batch account, in base64.
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
            // Real secrets hold a tilde too, which a wrong form encoding would break.
            client_secret: format!("8Q~{}", text::<2>()),
            batch_account_name: format!("sandbox{}", token(8)),
            batch_key: STANDARD.encode(bytes::<4>()),
            hmc_userid: "svc-useradmin".to_owned(),
            // `+`, `&` and the quote make sure that the password travels as JSON, not pasted together.
            hmc_password: format!("\"+&{}", token(24)),
        }
    }
}

/// `N` times 16 random bytes. A version 4 UUID is the random source that the product has anyway.
fn bytes<const N: usize>() -> Vec<u8> {
    (0..N).flat_map(|_| Uuid::new_v4().into_bytes()).collect()
}

/// An opaque text that is safe in URLs and headers.
pub(super) fn text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<N>())
}

/// `length` characters of `a-z0-9`, the look of an HMC session ID; at most 64.
pub(super) fn token(length: usize) -> String {
    let digit = |byte: u8| char::from_digit(u32::from(byte % 36), 36).unwrap_or('0');
    bytes::<4>().into_iter().take(length).map(digit).collect()
}
