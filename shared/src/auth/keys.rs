//! Which keys sign the tokens, as the environment says: everything is read and judged once, at the
//! start, so that a weak or unreadable key is the operator's to see and not each caller's.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, DecodingKey,
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

/// HS256 needs a key at least as long as its hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// RS256 needs 2,048 bits (RFC 7518, 3.3); `ring` takes no more than the upper limit.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// An uncompressed point of P-256, and a point of Ed25519.
const P256_BYTES: usize = 65;
const ED25519_BYTES: usize = 32;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that signs access tokens, and the one algorithm that it is for.
pub(super) struct Key {
    pub id: Option<String>,
    pub algorithm: Algorithm,
    pub decoding: DecodingKey,
}

impl Key {
    /// The configured keys: one at least. `set` looks up a variable that is not empty.
    pub fn from_variables(set: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>, ConfigError> {
        let (secret, public_key) = (set("JWT_SECRET"), set("JWT_PUBLIC_KEY"));
        let previous = set("JWT_SECRET_PREVIOUS");
        if previous.is_some() && secret.is_none() {
            return Err(ConfigError::new(
                "JWT_SECRET_PREVIOUS",
                "is set without JWT_SECRET: it is accepted only beside it, while the secret changes",
            ));
        }
        match (secret, public_key, set("JWT_JWKS")) {
            (Some(secret), None, None) => {
                let secrets = [
                    ("JWT_SECRET", Some(secret)),
                    ("JWT_SECRET_PREVIOUS", previous),
                ];
                let given = secrets
                    .into_iter()
                    .filter_map(|(name, it)| Some((name, it?)));
                given
                    .map(|(name, secret)| Self::secret(name, &secret))
                    .collect()
            }
            (None, Some(pem), None) => from_pem(&pem).map(|key| vec![key]),
            (None, None, Some(document)) => from_jwks(&document),
            (None, None, None) => Err(ConfigError::new(
                "JWT_SECRET",
                "is not set: give it the HS256 key that signs your access tokens, or set \
                 JWT_PUBLIC_KEY or JWT_JWKS instead",
            )),
            (_, None, Some(_)) => Err(ConfigError::new("JWT_JWKS", ONE_OF_THREE)),
            (_, Some(_), _) => Err(ConfigError::new("JWT_PUBLIC_KEY", ONE_OF_THREE)),
        }
    }

    fn secret(variable: &'static str, secret: &str) -> Result<Self, ConfigError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(ConfigError::new(
                variable,
                "is too short: an HS256 key must have at least 32 bytes",
            ));
        }
        Ok(Self {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        })
    }
}

const ONE_OF_THREE: &str = "is set beside another key: set exactly one of JWT_SECRET, \
                            JWT_PUBLIC_KEY and JWT_JWKS, so that nobody has to guess whom to trust";

/// Why a public key is not taken; `Display`-like text that goes on from the variable's name.
type Problem = &'static str;

fn from_pem(pem: &str) -> Result<Key, ConfigError> {
    let problem = |problem| ConfigError::new("JWT_PUBLIC_KEY", problem);
    let der = spki_of(pem).ok_or_else(|| {
        problem(
            "is not a public key as PEM: it must begin with `-----BEGIN PUBLIC KEY-----` and end \
             with `-----END PUBLIC KEY-----`",
        )
    })?;
    let (algorithm, decoding) = from_spki(&der).map_err(problem)?;
    Ok(Key {
        id: None,
        algorithm,
        decoding,
    })
}

/// The DER in a PEM file. Environment variables lose line breaks, or have them as `\n`: neither
/// matters here.
fn spki_of(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\n", "\n");
    let base64 = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = base64.split_whitespace().collect();
    STANDARD.decode(base64).ok()
}

fn from_spki(der: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    const UNREADABLE: Problem = "is not a public key that can be read";

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
        _ => Err("is of a kind that is not supported: use RSA, P-256 or Ed25519"),
    }
}

/// The keys of a set that sign tokens. Sets of real issuers also hold keys for other purposes and
/// algorithms: those are left out.
fn from_jwks(document: &str) -> Result<Vec<Key>, ConfigError> {
    let problem = |problem| ConfigError::new("JWT_JWKS", problem);
    let set: JwkSet = serde_json::from_str(document)
        .map_err(|_| problem("is not a JSON Web Key Set: it must look like `{\"keys\":[…]}`"))?;
    let keys = set.keys.into_iter().map(from_jwk);
    let keys: Result<Vec<_>, _> = keys.filter_map(Result::transpose).collect();
    let keys = keys.map_err(problem)?;
    if keys.is_empty() {
        return Err(problem(
            "holds no key that signs with RS256, ES256 or EdDSA",
        ));
    }
    let mut ids: Vec<_> = keys.iter().map(|key| &key.id).collect();
    if ids.len() > 1 && ids.contains(&&None) {
        return Err(problem("holds several keys, and one of them has no `kid`"));
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < keys.len() {
        return Err(problem("holds two keys with the same `kid`"));
    }
    Ok(keys)
}

/// A key of a set; `None` when it is for something else.
fn from_jwk(jwk: Jwk) -> Result<Option<Key>, Problem> {
    const UNREADABLE: Problem = "holds a key that cannot be read";

    let bytes = |base64: &str| URL_SAFE_NO_PAD.decode(base64).map_err(|_| UNREADABLE);
    if !signs(&jwk.common) {
        return Ok(None);
    }
    let (algorithm, decoding) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => {
            return Err("holds a secret (`oct`), which belongs into JWT_SECRET");
        }
        AlgorithmParameters::RSA(it) => rsa(&bytes(&it.n)?, &bytes(&it.e)?)?,
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            p256(&[vec![4], bytes(&it.x)?, bytes(&it.y)?].concat())?
        }
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            ed25519(&bytes(&it.x)?)?
        }
        _ => return Ok(None),
    };
    let other = |it: KeyAlgorithm| it != KeyAlgorithm::from(algorithm);
    if jwk.common.key_algorithm.is_some_and(other) {
        return Ok(None);
    }
    Ok(Some(Key {
        id: jwk.common.key_id,
        algorithm,
        decoding,
    }))
}

/// Whether a key says that it is for signatures, or does not say what it is for.
fn signs(key: &CommonParameters) -> bool {
    let used = key.public_key_use.as_ref();
    let operations = key.key_operations.as_ref();
    used.is_none_or(|it| *it == PublicKeyUse::Signature)
        && operations.is_none_or(|them| them.contains(&KeyOperations::Verify))
}

fn rsa(n: &[u8], e: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("has an RSA key of the wrong size: RS256 needs 2,048 to 8,192 bits");
    }
    // An even number is no modulus; 1 as exponent lets anybody sign.
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !is_odd(n) || !is_odd(e) || e == [1] || e.len() > 4 {
        return Err("has an RSA key that is not safe: its numbers are not those of a public key");
    }
    let key = DecodingKey::from_rsa_raw_components(n, e);
    Ok((Algorithm::RS256, key))
}

fn p256(point: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    if point.len() != P256_BYTES || point.first() != Some(&4) {
        return Err("has a P-256 key that is not an uncompressed point");
    }
    Ok((Algorithm::ES256, DecodingKey::from_ec_der(point)))
}

fn ed25519(point: &[u8]) -> Result<(Algorithm, DecodingKey), Problem> {
    if point.len() != ED25519_BYTES {
        return Err("has an Ed25519 key that has not 32 bytes");
    }
    Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(point)))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
