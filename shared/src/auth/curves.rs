//! Checks whether the point of a public key is on its curve.
//!
//! A key whose point is not on the curve can never verify a signature. `ring` finds that out only when it
//! verifies one, and does not distinguish it from a wrong signature. These checks run once, when a key is
//! loaded, so that the log can name the key.
//!
//! - **P-256**: key agreement in `ring` checks the point of the other side.
//! - **Ed25519**: `ring` has no such check, but `curve25519-dalek` has.

use curve25519_dalek::edwards::CompressedEdwardsY;
use ring::{
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};

/// Whether an uncompressed point is on P-256.
pub(super) fn is_on_p256(point: &[u8]) -> bool {
    EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
        .and_then(|own| agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, point), |_| ()))
        .is_ok()
}

/// Whether an encoded point (RFC 8032, section 5.1.3) is on Ed25519 and can be a public key. The eight points
/// of small order cannot: anybody can make signatures that they verify.
pub(super) fn is_ed25519_key(point: &[u8; 32]) -> bool {
    let point = CompressedEdwardsY(*point).decompress();
    point.is_some_and(|point| !point.is_small_order())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the hexadecimal form of RFC 8032.
    fn ed25519_point(hex: &str) -> [u8; 32] {
        let byte = |index: usize| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    #[test]
    fn a_p256_point_with_a_changed_bit_is_not_on_the_curve() {
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let point = key.compute_public_key().unwrap().as_ref().to_vec();
        assert!(is_on_p256(&point));
        for index in 1..point.len() {
            let mut changed = point.clone();
            changed[index] ^= 1;
            assert!(!is_on_p256(&changed), "byte {index}");
        }
        for invalid in [
            vec![],
            vec![0],
            vec![4; 64],
            [&[4_u8][..], &[0; 64]].concat(),
        ] {
            assert!(!is_on_p256(&invalid), "{invalid:?}");
        }
    }

    #[test]
    fn the_public_keys_of_rfc_8032_are_on_ed25519() {
        for hex in [
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
            "ec172b93ad5e563f4932c70e1245034c35467ef2efd4d64ebf819683467e2bf2",
        ] {
            assert!(is_ed25519_key(&ed25519_point(hex)), "{hex}");
        }
    }

    /// These y have no x: x² would not be a square.
    #[test]
    fn an_encoding_without_a_point_is_not_on_ed25519() {
        for y in [2, 7, 8, 11, 12] {
            let mut point = [0; 32];
            point[0] = y;
            assert!(!is_ed25519_key(&point), "{y}");
            // The sign of x does not matter.
            point[31] = 0x80;
            assert!(!is_ed25519_key(&point), "{y}");
        }
        for y in [3, 4, 5, 6, 9, 10] {
            let mut point = [0; 32];
            point[0] = y;
            assert!(is_ed25519_key(&point), "{y}");
        }
    }

    #[test]
    fn a_point_of_small_order_is_not_an_ed25519_key() {
        for hex in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            // The same numbers plus p.
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let mut point = ed25519_point(hex);
            assert!(!is_ed25519_key(&point), "{hex}");
            point[31] ^= 0x80;
            assert!(!is_ed25519_key(&point), "{hex}");
        }
    }
}
