//! Signing keys from the environment. All keys are read and validated once at init, so that a weak or
//! unreadable key fails the deployment instead of every request.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm,
        KeyOperations, PublicKeyUse,
    },
};
use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode, Reader, SliceReader, asn1::UintRef},
};

use crate::error::ConfigError;

/// HS256 requires a key at least as long as its hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// RS256 requires 2,048 bits (RFC 7518, section 3.3). `ring` supports at most 8,192.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The length of an uncompressed P-256 point.
const P256_BYTES: usize = 65;
/// The length of an Ed25519 public key.
const ED25519_BYTES: usize = 32;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that verifies access tokens, and its only algorithm.
pub(super) struct VerificationKey {
    pub id: Option<String>,
    pub algorithm: Algorithm,
    pub decoding: DecodingKey,
}

impl VerificationKey {
    /// Reads the configured keys. There is at least one. `env` returns only values that are not empty.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>, ConfigError> {
        let (secret, public_key) = (env("JWT_SECRET"), env("JWT_PUBLIC_KEY"));
        let previous = env("JWT_SECRET_PREVIOUS");
        if previous.is_some() && secret.is_none() {
            return Err(ConfigError::new(
                "JWT_SECRET_PREVIOUS",
                "is set without JWT_SECRET; it is only used together with JWT_SECRET, during a rotation",
            ));
        }
        match (secret, public_key, env("JWT_JWKS")) {
            (Some(secret), None, None) => {
                let secrets = [
                    ("JWT_SECRET", Some(secret)),
                    ("JWT_SECRET_PREVIOUS", previous),
                ];
                let secrets = secrets
                    .into_iter()
                    .filter_map(|(name, secret)| Some((name, secret?)));
                secrets
                    .map(|(name, secret)| Self::from_secret(name, &secret))
                    .collect()
            }
            (None, Some(pem), None) => from_pem(&pem).map(|key| vec![key]),
            (None, None, Some(document)) => from_jwks(&document),
            (None, None, None) => Err(ConfigError::new(
                "JWT_SECRET",
                "is not set; set it to the HS256 key that signs your access tokens, or set \
                 JWT_PUBLIC_KEY or JWT_JWKS instead",
            )),
            (_, None, Some(_)) => Err(ConfigError::new("JWT_JWKS", ONE_KIND_OF_KEY)),
            (_, Some(_), _) => Err(ConfigError::new("JWT_PUBLIC_KEY", ONE_KIND_OF_KEY)),
        }
    }

    fn from_secret(variable: &'static str, secret: &str) -> Result<Self, ConfigError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(ConfigError::new(
                variable,
                "is too short; an HS256 key must have at least 32 bytes",
            ));
        }
        Ok(Self {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        })
    }
}

const ONE_KIND_OF_KEY: &str = "is set together with another key; set exactly one of JWT_SECRET, \
                               JWT_PUBLIC_KEY and JWT_JWKS";

/// The reason why a key is rejected. It continues the sentence that starts with the name of the variable.
type Problem = &'static str;

fn from_pem(pem: &str) -> Result<VerificationKey, ConfigError> {
    let problem = |problem| ConfigError::new("JWT_PUBLIC_KEY", problem);
    let der = decode_pem(pem).ok_or_else(|| {
        problem(
            "is not a public key in PEM format; it must start with `-----BEGIN PUBLIC KEY-----` and end \
             with `-----END PUBLIC KEY-----`",
        )
    })?;
    let (algorithm, decoding) = from_spki(&der).map_err(problem)?;
    Ok(VerificationKey {
        id: None,
        algorithm,
        decoding,
    })
}

/// Decodes a PEM file. Environment variables often lose line breaks or contain them as `\n`, and the PEM
/// reader of the `spki` crate rejects both.
fn decode_pem(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\n", "\n");
    let base64 = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = base64.split_whitespace().collect();
    STANDARD.decode(base64).ok()
}

fn from_spki(der: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    const UNREADABLE: Problem = "contains a public key that cannot be read";

    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| UNREADABLE)?;
    let key = info.subject_public_key.as_bytes().ok_or(UNREADABLE)?;
    let curve = info.algorithm.parameters_oid().ok();
    match (info.algorithm.oid, curve) {
        (RSA, _) => {
            let mut reader = SliceReader::new(key).map_err(|_| UNREADABLE)?;
            let numbers = reader.sequence(|numbers| {
                let number = |numbers: &mut SliceReader<'_>| {
                    Ok::<_, spki::der::Error>(UintRef::decode(numbers)?.as_bytes().to_vec())
                };
                Ok::<_, spki::der::Error>((number(numbers)?, number(numbers)?))
            });
            let (n, e) = numbers.map_err(|_| UNREADABLE)?;
            rsa(&n, &e)
        }
        (ELLIPTIC_CURVE, Some(P256)) => p256(key),
        (ED25519, None) => ed25519(key),
        _ => Err("contains a kind of key that is not supported; use RSA, P-256 or Ed25519"),
    }
}

/// The keys of a set that can verify tokens. Key sets of identity providers also contain keys for other
/// purposes and algorithms, which are ignored.
fn from_jwks(document: &str) -> Result<Vec<VerificationKey>, ConfigError> {
    let problem = |problem| ConfigError::new("JWT_JWKS", problem);
    let set: JwkSet = serde_json::from_str(document).map_err(|_| {
        problem("is not a JSON Web Key Set; it must have the form `{\"keys\":[…]}`")
    })?;
    let keys = set.keys.iter().map(from_jwk);
    let keys: Result<Vec<_>, _> = keys.filter_map(Result::transpose).collect();
    let keys = keys.map_err(problem)?;
    if keys.is_empty() {
        return Err(problem("contains no key for RS256, ES256 or EdDSA"));
    }
    let mut ids: Vec<_> = keys.iter().map(|key| &key.id).collect();
    if ids.len() > 1 && ids.contains(&&None) {
        return Err(problem(
            "contains several keys, and one of them has no `kid`",
        ));
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < keys.len() {
        return Err(problem("contains two keys with the same `kid`"));
    }
    Ok(keys)
}

/// Converts a key of a set. Returns `None` if the key is for another purpose.
fn from_jwk(jwk: &Jwk) -> Result<Option<VerificationKey>, Problem> {
    if !is_for_signatures(&jwk.common) {
        return Ok(None);
    }
    match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => {
            return Err("contains a secret (`oct`); set JWT_SECRET instead");
        }
        AlgorithmParameters::RSA(_) => {}
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {}
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {}
        _ => return Ok(None),
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "contains a key that cannot be read")?;
    let (algorithm, decoding) = match (&jwk.algorithm, key.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => rsa(n, e)?,
        (AlgorithmParameters::EllipticCurve(_), DecodingKeyKind::SecretOrDer(point)) => {
            p256(point)?
        }
        (_, DecodingKeyKind::SecretOrDer(point)) => ed25519(point)?,
    };
    let is_other = |named: KeyAlgorithm| named != KeyAlgorithm::from(algorithm);
    if jwk.common.key_algorithm.is_some_and(is_other) {
        return Ok(None);
    }
    Ok(Some(VerificationKey {
        id: jwk.common.key_id.clone(),
        algorithm,
        decoding,
    }))
}

/// Whether a key is for signatures, or does not name its purpose.
fn is_for_signatures(key: &CommonParameters) -> bool {
    let used = key.public_key_use.as_ref();
    let operations = key.key_operations.as_ref();
    used.is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

fn rsa(n: &[u8], e: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("contains an RSA key of the wrong size; RS256 requires 2,048 to 8,192 bits");
    }
    // A modulus and an exponent are odd. With the exponent 1, anybody could sign.
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !is_odd(n) || !is_odd(e) || e == [1] || e.len() > 4 {
        return Err("contains an unsafe RSA key; its numbers are not those of a valid public key");
    }
    let key = DecodingKey::from_rsa_raw_components(n, e);
    Ok((Algorithm::RS256, key))
}

fn p256(point: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    if point.len() != P256_BYTES || point.first() != Some(&4) {
        return Err("contains a P-256 key that is not an uncompressed point");
    }
    Ok((Algorithm::ES256, DecodingKey::from_ec_der(point)))
}

fn ed25519(point: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    if point.len() != ED25519_BYTES {
        return Err("contains an Ed25519 key that does not have 32 bytes");
    }
    Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(point)))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "the secret of these unit tests, of 32 bytes or more";
    const RSA_PEM: &str = include_str!("../../../tests/support/keys/rsa-2048.pem");
    const P256_PEM: &str = include_str!("../../../tests/support/keys/p256.pem");
    const ED25519_PEM: &str = include_str!("../../../tests/support/keys/ed25519.pem");

    fn keys(variables: &[(&str, &str)]) -> Result<Vec<VerificationKey>, String> {
        let keys = VerificationKey::from_env(|name| {
            let variable = variables.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| (*value).to_owned())
        });
        keys.map_err(|error| error.to_string())
    }

    fn error(variables: &[(&str, &str)]) -> String {
        keys(variables).err().expect("the configuration is invalid")
    }

    fn jwks(keys: &serde_json::Value) -> Result<Vec<VerificationKey>, String> {
        self::keys(&[("JWT_JWKS", &json!({ "keys": keys }).to_string())])
    }

    /// Numbers of an RSA key of this many bits, in base64url.
    fn rsa_jwk(bits: usize, n_end: u8, e: &str) -> serde_json::Value {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= n.len() * 8 - bits;
        *n.last_mut().unwrap() = n_end;
        let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(n);
        json!({"kty": "RSA", "n": n, "e": e})
    }

    #[test]
    fn exactly_one_kind_of_key_must_be_configured() {
        assert!(error(&[]).starts_with("JWT_SECRET is not set"));
        let set = r#"{"keys":[]}"#;
        for (variables, named) in [
            (
                &[("JWT_SECRET", SECRET), ("JWT_PUBLIC_KEY", P256_PEM)][..],
                "JWT_PUBLIC_KEY",
            ),
            (&[("JWT_SECRET", SECRET), ("JWT_JWKS", set)], "JWT_JWKS"),
            (
                &[("JWT_PUBLIC_KEY", P256_PEM), ("JWT_JWKS", set)],
                "JWT_PUBLIC_KEY",
            ),
            (&[("JWT_SECRET_PREVIOUS", SECRET)], "JWT_SECRET_PREVIOUS"),
        ] {
            assert!(error(variables).starts_with(named), "{variables:?}");
        }
    }

    #[test]
    fn a_secret_has_at_least_32_bytes() {
        let (short, long) = ("x".repeat(31), "x".repeat(32));
        assert!(error(&[("JWT_SECRET", &short)]).starts_with("JWT_SECRET is too short"));
        let previous = [("JWT_SECRET", &*long), ("JWT_SECRET_PREVIOUS", &short)];
        assert!(error(&previous).starts_with("JWT_SECRET_PREVIOUS is too short"));
        assert_eq!(keys(&[("JWT_SECRET", &long)]).unwrap().len(), 1);
        let both = [("JWT_SECRET", &*long), ("JWT_SECRET_PREVIOUS", &long)];
        assert_eq!(keys(&both).unwrap().len(), 2);
    }

    #[test]
    fn a_pem_file_may_have_lost_its_line_breaks_and_determines_the_algorithm() {
        for (pem, algorithm) in [
            (RSA_PEM, Algorithm::RS256),
            (P256_PEM, Algorithm::ES256),
            (ED25519_PEM, Algorithm::EdDSA),
        ] {
            for text in [
                pem.to_owned(),
                pem.replace('\n', "\\n"),
                pem.replace('\n', " "),
            ] {
                let keys = keys(&[("JWT_PUBLIC_KEY", &text)]).unwrap();
                assert_eq!(keys[0].algorithm, algorithm, "{text}");
            }
        }
        for text in [
            "x",
            "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----",
        ] {
            assert!(error(&[("JWT_PUBLIC_KEY", text)]).starts_with("JWT_PUBLIC_KEY"));
        }
    }

    #[test]
    fn keys_for_other_purposes_are_ignored() {
        let ignored = [
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("alg", json!("RS512")),
        ];
        let good = rsa_jwk(2_048, 0xff, "AQAB");
        assert_eq!(jwks(&json!([good])).unwrap().len(), 1);
        for (name, value) in ignored {
            let mut other = good.clone();
            other[name] = value;
            let error = jwks(&json!([other])).err().unwrap();
            assert!(error.contains("no key for RS256"), "{name}: {error}");
        }
        for (name, value) in [
            ("use", json!("sig")),
            ("key_ops", json!(["verify"])),
            ("alg", json!("RS256")),
        ] {
            let mut same = good.clone();
            same[name] = value;
            assert_eq!(jwks(&json!([same])).unwrap().len(), 1, "{name}");
        }
        for key in [
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            json!({"kty": "OKP", "crv": "P-256", "x": "AA"}),
        ] {
            let error = jwks(&json!([key])).err().unwrap();
            assert!(error.contains("no key for RS256"), "{key}: {error}");
        }
    }

    #[test]
    fn unsafe_and_malformed_keys_are_rejected() {
        for (key, problem) in [
            (rsa_jwk(2_047, 0xff, "AQAB"), "wrong size"),
            (rsa_jwk(8_193, 0xff, "AQAB"), "wrong size"),
            (rsa_jwk(2_048, 0xfe, "AQAB"), "unsafe RSA key"),
            (rsa_jwk(2_048, 0xff, "AQ"), "unsafe RSA key"), // 1
            (rsa_jwk(2_048, 0xff, "AQAA"), "unsafe RSA key"), // even
            (rsa_jwk(2_048, 0xff, "AQAAAAE"), "unsafe RSA key"), // 5 bytes
            (json!({"kty": "RSA", "n": "", "e": "AQAB"}), "wrong size"),
            (
                json!({"kty": "RSA", "n": "*", "e": "AQAB"}),
                "cannot be read",
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
                "P-256 key",
            ),
            (
                json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
                "Ed25519 key",
            ),
            (json!({"kty": "oct", "k": "AA"}), "secret"),
        ] {
            let error = jwks(&json!([key])).err().unwrap();
            assert!(error.contains(problem), "{key}: {error}");
        }
        for bits in [2_048, 8_192] {
            assert!(jwks(&json!([rsa_jwk(bits, 0xff, "AQAB")])).is_ok());
        }
        // Leading zeros do not count. The largest exponent has four bytes.
        assert!(jwks(&json!([rsa_jwk(2_048, 0xff, "AAEAAQ")])).is_ok());
        assert!(jwks(&json!([rsa_jwk(2_048, 0xff, "AQAAAQ")])).is_ok());
    }

    #[test]
    fn the_keys_of_a_set_need_distinct_ids() {
        let key = |id: Option<&str>| {
            let mut key = rsa_jwk(2_048, 0xff, "AQAB");
            if let Some(id) = id {
                key["kid"] = id.into();
            }
            key
        };
        assert_eq!(
            jwks(&json!([key(Some("a")), key(Some("b"))]))
                .unwrap()
                .len(),
            2
        );
        let same = jwks(&json!([key(Some("a")), key(Some("a"))])).err();
        assert!(same.unwrap().contains("same `kid`"));
        let missing = jwks(&json!([key(Some("a")), key(None)])).err();
        assert!(missing.unwrap().contains("no `kid`"));
        assert!(keys(&[("JWT_JWKS", "{}")]).is_err());
    }
}
