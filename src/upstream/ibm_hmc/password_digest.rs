//! Slow digests of passwords, for the records of refused logons.

use std::num::NonZeroU32;

use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

/// Number of iterations of PBKDF2, which take about 30 ms of CPU time. More would add little protection, since a
/// process that can read the record can usually read the password file, too.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

pub fn derive(secret: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, ITERATIONS, salt, secret, &mut digest);
    digest
}

/// Returns whether this is the digest of the secret.
pub fn matches(secret: &[u8], salt: &[u8], digest: &[u8]) -> bool {
    pbkdf2::verify(PBKDF2_HMAC_SHA256, ITERATIONS, salt, secret, digest).is_ok()
}
