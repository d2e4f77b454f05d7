//! Signature verification for `jsonwebtoken`, implemented with `ring`.
//!
//! `ring` is in the binary anyway, because TLS to `DynamoDB` uses it. Of the two providers that
//! `jsonwebtoken` offers, one would add a second crypto library and the other depends on an `rsa` crate
//! with an open advisory. This provider only verifies: no function signs tokens.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
};
use ring::{hmac, signature as asymmetric};
use signature::Verifier;

/// Installs the provider, once per process.
pub(super) fn install() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: signer,
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    // An error means that it is installed already.
    let _ = RING.install_default();
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "jsonwebtoken defines the signature"
)]
fn signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

/// A key supports one algorithm. The caller has checked that the token uses the configured algorithm.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "jsonwebtoken defines the signature"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let is_same_family = algorithm.family() == key.family();
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) if is_same_family => {
            Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) if is_same_family => {
            let (n, e) = (n.clone(), e.clone());
            Ok(Box::new(Rs256(asymmetric::RsaPublicKeyComponents { n, e })))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if is_same_family => {
            Ok(Box::new(Curve {
                algorithm: Algorithm::ES256,
                verification: &asymmetric::ECDSA_P256_SHA256_FIXED,
                point: point.clone(),
            }))
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) if is_same_family => {
            Ok(Box::new(Curve {
                algorithm: Algorithm::EdDSA,
                verification: &asymmetric::ED25519,
                point: point.clone(),
            }))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

/// HMAC with SHA-256.
struct Hs256(hmac::Key);

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        hmac::verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// RSA with PKCS #1 v1.5 padding and SHA-256, 2,048 to 8,192 bits.
struct Rs256(asymmetric::RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], by: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.0
            .verify(&asymmetric::RSA_PKCS1_2048_8192_SHA256, message, by)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

/// ECDSA with P-256 and SHA-256, or Ed25519.
struct Curve {
    algorithm: Algorithm,
    verification: &'static dyn asymmetric::VerificationAlgorithm,
    point: Vec<u8>,
}

impl Verifier<Vec<u8>> for Curve {
    fn verify(&self, message: &[u8], by: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        asymmetric::UnparsedPublicKey::new(self.verification, &self.point)
            .verify(message, by)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Curve {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_verifier_only_for_its_own_algorithm() {
        let keys = [
            (Algorithm::HS256, DecodingKey::from_secret(&[1; 32])),
            (
                Algorithm::RS256,
                DecodingKey::from_rsa_raw_components(&[1; 256], &[1, 0, 1]),
            ),
            (Algorithm::ES256, DecodingKey::from_ec_der(&[4; 65])),
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&[1; 32])),
        ];
        for (own, key) in &keys {
            for algorithm in [
                Algorithm::HS256,
                Algorithm::HS384,
                Algorithm::RS256,
                Algorithm::PS256,
                Algorithm::ES256,
                Algorithm::ES384,
                Algorithm::EdDSA,
            ] {
                let verifier = verifier(&algorithm, key);
                assert_eq!(verifier.is_ok(), algorithm == *own, "{own:?} {algorithm:?}");
                if let Ok(verifier) = verifier {
                    assert_eq!(verifier.algorithm(), algorithm);
                }
            }
        }
    }

    #[test]
    fn the_provider_does_not_sign() {
        let key = EncodingKey::from_secret(&[1; 32]);
        assert!(signer(&Algorithm::HS256, &key).is_err());
    }
}
