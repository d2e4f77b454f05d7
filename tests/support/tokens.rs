//! Access tokens, right and wrong in every way, made without the code under test.

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

/// Seconds since 1970 UTC.
pub fn now() -> u64 {
    Timestamp::now().seconds()
}

/// A token that the API takes.
pub fn valid(user: u64) -> String {
    sign(&claims(user))
}

/// The claims of [`valid`], to be changed.
pub fn claims(user: u64) -> Value {
    json!({"sub": user.to_string(), "exp": now() + 3_600})
}

/// A token with these claims, signed as the API wants it.
pub fn sign(claims: &Value) -> String {
    sign_as(
        &json!({"alg": "HS256", "typ": "JWT"}),
        claims,
        hmac::HMAC_SHA256,
        &super::secret(),
    )
}

/// A token with this header and these claims, signed with any algorithm and secret.
pub fn sign_as(header: &Value, claims: &Value, by: hmac::Algorithm, secret: &str) -> String {
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(by, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(tag))
}

/// Somebody whose tokens are signed with a private key.
pub enum Issuer {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Issuer {
    /// `ring` makes no RSA keys: these are for tests, and for nothing else.
    pub fn rsa() -> Self {
        Self::rsa_of(include_bytes!("keys/rsa-2048.pk8"))
    }

    pub fn other_rsa() -> Self {
        Self::rsa_of(include_bytes!("keys/rsa-2048-other.pk8"))
    }

    fn rsa_of(pkcs8: &[u8]) -> Self {
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(pkcs8).unwrap()))
    }

    pub fn p256() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    pub fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// One of each kind, and another of the same kind.
    pub fn each() -> [(Self, Self); 3] {
        [
            (Self::rsa(), Self::other_rsa()),
            (Self::p256(), Self::p256()),
            (Self::ed25519(), Self::ed25519()),
        ]
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key as the algorithm has it: PKCS #1, or a point.
    pub fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::P256(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public key as `SubjectPublicKeyInfo` (RFC 5280).
    pub fn spki(&self) -> Vec<u8> {
        let algorithm: &[u8] = match self {
            Self::Rsa(_) => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
            Self::P256(_) => {
                b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
            }
            Self::Ed25519(_) => b"\x30\x05\x06\x03\x2b\x65\x70",
        };
        let bits = [b"\0", self.public_bytes()].concat();
        der(0x30, &[algorithm, &der(0x03, &bits)].concat())
    }

    pub fn pem(&self) -> String {
        let base64 = STANDARD.encode(self.spki());
        let lines: Vec<_> = base64.as_bytes().chunks(64).collect();
        let lines = String::from_utf8(lines.join(&b"\n"[..])).unwrap();
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    /// The public key as a JSON Web Key, to be changed.
    pub fn jwk(&self, id: &str) -> Value {
        let mut key = match self {
            Self::Rsa(pair) => {
                let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": BASE64.encode(numbers.n), "e": BASE64.encode(numbers.e)})
            }
            Self::P256(_) => {
                let (x, y) = self.public_bytes()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y)})
            }
            Self::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(self.public_bytes())})
            }
        };
        key["kid"] = json!(id);
        key["use"] = json!("sig");
        key["alg"] = json!(self.algorithm());
        key
    }

    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(_) => self.rsa_signature(&RSA_PKCS1_SHA256, message),
            Self::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub fn rsa_signature(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let Self::Rsa(pair) = self else {
            panic!("not an RSA key")
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }

    /// A token with the issuer's algorithm and a key id.
    pub fn token(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(id) = id {
            header["kid"] = json!(id);
        }
        with_signature(&header, claims, |message| self.signature(message))
    }
}

/// A token with any header, claims and signature.
pub fn with_signature(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let signature = BASE64.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A value of DER: tag, length, contents.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let length = match u8::try_from(length) {
        Ok(short) if short < 0x80 => vec![short],
        Ok(byte) => vec![0x81, byte],
        Err(_) => [&[0x82], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
    };
    [&[tag], &length[..], contents].concat()
}
