//! Checks public keys in the same way as ring when it verifies a signature, but reports the cause of a failure.

use num_bigint::BigUint;
use ring::{
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey},
    rand::SystemRandom,
};

/// Sizes of an RSA modulus in bits that ring's `RSA_PKCS1_2048_8192_*` and `RSA_PSS_2048_8192_*` accept; ring rounds
/// the size up to whole bytes.
const MODULUS_BITS: std::ops::RangeInclusive<u64> = 2_041..=8_192;
/// The largest exponent that ring accepts.
const MAX_EXPONENT: u64 = (1 << 33) - 1;
pub const ED25519_BYTES: usize = 32;

/// Returns why an RSA key with these numbers in big-endian order cannot verify signatures, or `None` if it can.
pub fn rsa_fault(modulus: &[u8], exponent: &[u8]) -> Option<String> {
    let modulus = BigUint::from_bytes_be(modulus);
    let bits = modulus.bits();
    if !MODULUS_BITS.contains(&bits) {
        return Some(format!(
            "an RSA key of {bits} bits; 2048 to 8192 are supported"
        ));
    }
    if !modulus.bit(0) {
        return Some("its `n` is even, so that it is no RSA key".to_owned());
    }
    let value = u64::try_from(BigUint::from_bytes_be(exponent)).unwrap_or(u64::MAX);
    if value % 2 == 0 || !(3..=MAX_EXPONENT).contains(&value) {
        let rule = format!("odd numbers from 3 to {MAX_EXPONENT} are supported");
        return Some(format!("its `e` is not supported; {rule}"));
    }
    None
}

/// Returns whether ring accepts the point as a public key. Key agreement reports what verification checks.
pub fn is_on_curve(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    EphemeralPrivateKey::generate(curve, &SystemRandom::new())
        .and_then(|own| {
            let point = UnparsedPublicKey::new(curve, point);
            agreement::agree_ephemeral(own, &point, |_| ())
        })
        .is_ok()
}

/// Returns whether the bytes encode a point of edwards25519 (RFC 8032, section 5.1.3). ring has no function for it.
pub fn is_edwards_point(mut encoded: [u8; ED25519_BYTES]) -> bool {
    // The highest bit is the sign of x.
    encoded[ED25519_BYTES - 1] &= 0x7F;
    let y = BigUint::from_bytes_le(&encoded);
    let prime = (BigUint::from(1_u8) << 255) - 19_u8;
    let square = &y * &y % &prime;
    // There is an x if (y² - 1) / (d y² + 1) is a square, with d = -121665/121666. Multiplying by the denominators
    // instead of dividing changes the value only by factors that are squares.
    let numerator = &square + &prime - 1_u8;
    let denominator = 121_666_u32 + (&prime - 121_665_u32) * square;
    let product: BigUint = numerator * denominator * 121_666_u32;
    let euler = product.modpow(&((&prime - 1_u8) >> 1), &prime);
    euler <= BigUint::from(1_u8)
}
