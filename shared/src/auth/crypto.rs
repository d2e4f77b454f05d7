//! The cryptography of `jsonwebtoken`, from `ring`.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
};
use ring::{hmac, signature as asymmetric};
use signature::{Signer, Verifier};

/// Gives `jsonwebtoken` its cryptography, once a process.
pub(super) fn install() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: signer,
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    // A second call finds it installed, which is what was wanted.
    let _ = RING.install_default();
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is jsonwebtoken's"
)]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256::new(key.as_bytes()))),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

/// A key fits one algorithm; that the token's is the configured one was checked before.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is jsonwebtoken's"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let fits = algorithm.family() == key.family();
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) if fits => {
            Ok(Box::new(Hs256::new(secret)))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) if fits => {
            let (n, e) = (n.clone(), e.clone());
            Ok(Box::new(Rs256(asymmetric::RsaPublicKeyComponents { n, e })))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if fits => Ok(Box::new(Curve {
            algorithm: Algorithm::ES256,
            check: &asymmetric::ECDSA_P256_SHA256_FIXED,
            point: point.clone(),
        })),
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) if fits => Ok(Box::new(Curve {
            algorithm: Algorithm::EdDSA,
            check: &asymmetric::ED25519,
            point: point.clone(),
        })),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

/// HMAC with SHA-256.
struct Hs256(hmac::Key);

impl Hs256 {
    fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

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
    check: &'static dyn asymmetric::VerificationAlgorithm,
    point: Vec<u8>,
}

impl Verifier<Vec<u8>> for Curve {
    fn verify(&self, message: &[u8], by: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        asymmetric::UnparsedPublicKey::new(self.check, &self.point)
            .verify(message, by)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Curve {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
