//! Access tokens for tests, valid and invalid, signed without the code under test.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use chat_shared::domain::Timestamp;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

/// The current time in seconds since 1970 UTC.
pub fn now_seconds() -> u64 {
    Timestamp::now().seconds()
}

/// A token that the API accepts.
pub fn valid_token(user: u64) -> String {
    sign(&valid_claims(user))
}

/// The claims of [`valid_token`], for tests that change one of them.
pub fn valid_claims(user: u64) -> Value {
    json!({"sub": user.to_string(), "exp": now_seconds() + 3_600})
}

/// A token with these claims, signed with the algorithm and the secret that the API expects.
pub fn sign(claims: &Value) -> String {
    sign_with(
        &json!({"alg": "HS256", "typ": "JWT"}),
        claims,
        hmac::HMAC_SHA256,
        &super::secret(),
    )
}

/// A token with any header and claims, signed with any HMAC algorithm and secret.
pub fn sign_with(
    header: &Value,
    claims: &Value,
    algorithm: hmac::Algorithm,
    secret: &str,
) -> String {
    with_signature(header, claims, |message| {
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A token with these claims in JSON, which [`Value`] may not be able to express, signed like [`sign`].
pub fn sign_json(claims: &str) -> String {
    json_with_signature(&json!({"alg": "HS256"}), claims, |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, super::secret().as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A token with any header, claims and signature.
pub fn with_signature(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    json_with_signature(header, &claims.to_string(), sign)
}

fn json_with_signature(
    header: &Value,
    claims: &str,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let message = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims)
    );
    let signature = BASE64.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// An issuer that signs tokens with a private key, one of the fixtures in `keys/`.
pub struct Issuer {
    key_pair: IssuerKeyPair,
    /// The public key as `SubjectPublicKeyInfo` in PEM, with line breaks.
    pem: &'static str,
}

enum IssuerKeyPair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Issuer {
    pub fn rsa() -> Self {
        Self::from_rsa_pkcs8(
            include_bytes!("keys/rsa-2048.pk8"),
            include_str!("keys/rsa-2048.pem"),
        )
    }

    pub fn other_rsa() -> Self {
        Self::from_rsa_pkcs8(
            include_bytes!("keys/rsa-2048-other.pk8"),
            include_str!("keys/rsa-2048-other.pem"),
        )
    }

    pub fn p256() -> Self {
        Self::from_p256_pkcs8(Self::p256_pkcs8(), include_str!("keys/p256.pem"))
    }

    pub fn other_p256() -> Self {
        Self::from_p256_pkcs8(
            include_bytes!("keys/p256-other.pk8"),
            include_str!("keys/p256-other.pem"),
        )
    }

    pub fn ed25519() -> Self {
        Self::from_ed25519_pkcs8(
            include_bytes!("keys/ed25519.pk8"),
            include_str!("keys/ed25519.pem"),
        )
    }

    pub fn other_ed25519() -> Self {
        Self::from_ed25519_pkcs8(
            include_bytes!("keys/ed25519-other.pk8"),
            include_str!("keys/ed25519-other.pem"),
        )
    }

    /// The private key of [`Issuer::p256`], for tests that sign with it in another way.
    pub fn p256_pkcs8() -> &'static [u8] {
        include_bytes!("keys/p256.pk8")
    }

    /// One issuer of each kind, each with another issuer of the same kind.
    pub fn each() -> [(Self, Self); 3] {
        [
            (Self::rsa(), Self::other_rsa()),
            (Self::p256(), Self::other_p256()),
            (Self::ed25519(), Self::other_ed25519()),
        ]
    }

    fn from_rsa_pkcs8(pkcs8: &[u8], pem: &'static str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).unwrap();
        Self {
            key_pair: IssuerKeyPair::Rsa(Box::new(pair)),
            pem,
        }
    }

    fn from_p256_pkcs8(pkcs8: &[u8], pem: &'static str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).unwrap();
        Self {
            key_pair: IssuerKeyPair::P256(pair),
            pem,
        }
    }

    fn from_ed25519_pkcs8(pkcs8: &[u8], pem: &'static str) -> Self {
        // OpenSSL writes version 1 of PKCS #8, which has no public key to check the private key with.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap();
        Self {
            key_pair: IssuerKeyPair::Ed25519(pair),
            pem,
        }
    }

    /// The name of the signature algorithm in a token's header.
    pub fn algorithm(&self) -> &'static str {
        match self.key_pair {
            IssuerKeyPair::Rsa(_) => "RS256",
            IssuerKeyPair::P256(_) => "ES256",
            IssuerKeyPair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key in the algorithm's own format: PKCS #1 for RSA, the encoded point otherwise.
    pub fn public_bytes(&self) -> &[u8] {
        match &self.key_pair {
            IssuerKeyPair::Rsa(pair) => pair.public_key().as_ref(),
            IssuerKeyPair::P256(pair) => pair.public_key().as_ref(),
            IssuerKeyPair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public key as `SubjectPublicKeyInfo` (RFC 5280) in DER.
    pub fn spki(&self) -> Vec<u8> {
        let lines = self.pem.lines();
        let base64: String = lines.filter(|line| !line.starts_with("-----")).collect();
        STANDARD.decode(base64).unwrap()
    }

    /// The public key as `SubjectPublicKeyInfo` in PEM.
    pub fn pem(&self) -> String {
        self.pem.to_owned()
    }

    /// The public key as a JSON Web Key, for tests that change one of its members.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut key = match &self.key_pair {
            IssuerKeyPair::Rsa(pair) => {
                let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": BASE64.encode(numbers.n), "e": BASE64.encode(numbers.e)})
            }
            IssuerKeyPair::P256(_) => {
                // The point starts with a byte that says that both coordinates follow.
                let (x, y) = self.public_bytes()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y)})
            }
            IssuerKeyPair::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(self.public_bytes())})
            }
        };
        key["kid"] = json!(kid);
        key["use"] = json!("sig");
        key["alg"] = json!(self.algorithm());
        key
    }

    /// A signature with the issuer's algorithm.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.key_pair {
            IssuerKeyPair::Rsa(_) => self.rsa_signature(&RSA_PKCS1_SHA256, message),
            IssuerKeyPair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).unwrap();
                signature.as_ref().to_vec()
            }
            IssuerKeyPair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A signature with the issuer's RSA key and any padding.
    pub fn rsa_signature(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let IssuerKeyPair::Rsa(pair) = &self.key_pair else {
            panic!("the issuer has no RSA key")
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }

    /// A token with the issuer's algorithm and, if given, a key id.
    pub fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        with_signature(&header, claims, |message| self.signature(message))
    }
}
