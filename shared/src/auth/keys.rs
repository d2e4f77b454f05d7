//! Keys that verify access tokens. All keys are checked when they are loaded, so that a weak or unreadable key
//! fails the deployment, or is named in the log, instead of failing requests.
//!
//! A key set of an identity provider usually contains keys for other purposes, and sometimes one that is
//! damaged. A key that cannot be used is left out, with its reason. Only a set without any usable key is an
//! error.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode, Reader, SliceReader, asn1::UintRef},
};

use super::{DEVELOPMENT_SECRET, curves, token::algorithm_named};
use crate::{domain::Timestamp, error::ConfigError};

/// HS256 requires a key at least as long as its hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// RS256 requires 2,048 bits (RFC 7518, section 3.3). `ring` supports at most 8,192.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The length of a coordinate of a P-256 point.
const P256_COORDINATE_BYTES: usize = 32;
/// The first byte of an uncompressed point: both coordinates follow.
const UNCOMPRESSED: u8 = 4;
/// The maximum number of keys of a set that are used. It limits the time that one token can take.
const MAX_KEYS: usize = 32;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that verifies access tokens, and its only algorithm.
#[derive(Clone)]
pub(super) struct VerificationKey {
    /// The `kid` of the key in its set.
    pub id: Option<String>,
    pub algorithm: Algorithm,
    decoding: DecodingKey,
    /// When the key ceases to be valid.
    expires_at: Option<Timestamp>,
}

impl VerificationKey {
    /// Creates a key from a secret. The error continues the sentence that starts with the name of the secret.
    pub fn from_secret(secret: &str) -> Result<Self, Problem> {
        check_secret(secret)?;
        Ok(Self {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            expires_at: None,
        })
    }

    /// Creates a key from a public key in PEM format. The error continues the sentence that starts with the
    /// name of the variable.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let der = decode_pem(pem).ok_or(
            "is not a public key in PEM format; it must start with `-----BEGIN PUBLIC KEY-----` and \
             end with `-----END PUBLIC KEY-----`",
        )?;
        let (algorithm, decoding) =
            from_spki(&der).map_err(|problem| format!("contains {problem}"))?;
        Ok(Self {
            id: None,
            algorithm,
            decoding,
            expires_at: None,
        })
    }

    pub fn expiring_at(self, time: Timestamp) -> Self {
        Self {
            expires_at: Some(time),
            ..self
        }
    }

    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Whether this key verifies a signature, which is in base64url.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, self.algorithm)
            .unwrap_or(false)
    }
}

/// What is wrong with a key or a secret.
pub(super) type Problem = &'static str;

/// The keys in the environment, and the keys of the key set that are left out. `env` returns only values that
/// are not empty.
pub(super) fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<KeySet, ConfigError> {
    let secret = env("JWT_SECRET");
    let previous = env("JWT_SECRET_PREVIOUS");
    if previous.is_some() && secret.is_none() {
        return Err(ConfigError::new(
            "JWT_SECRET_PREVIOUS",
            "is set without JWT_SECRET; it is only used together with it, during a rotation",
        ));
    }
    let mut keys = Vec::new();
    for (variable, secret) in [("JWT_SECRET", secret), ("JWT_SECRET_PREVIOUS", previous)] {
        if let Some(secret) = secret {
            let key = VerificationKey::from_secret(&secret);
            keys.push(key.map_err(|problem| ConfigError::new(variable, problem))?);
        }
    }
    if let Some(pem) = env("JWT_PUBLIC_KEY") {
        let key = VerificationKey::from_pem(&pem);
        keys.push(key.map_err(|problem| ConfigError::new("JWT_PUBLIC_KEY", problem))?);
    }
    let mut ignored = Vec::new();
    if let Some(document) = env("JWT_JWKS") {
        let set = KeySet::parse(document.as_bytes());
        let set = set.map_err(|problem| ConfigError::new("JWT_JWKS", problem))?;
        keys.extend(set.keys);
        ignored = set.ignored;
    }
    Ok(KeySet { keys, ignored })
}

/// Checks that a text is a secret for HS256, and not a mistake. An HS256 key can be any bytes, so a line break
/// at its end would not be noticed: the function would start and refuse every token.
fn check_secret(secret: &str) -> Result<(), Problem> {
    let is_repeated = |first: char| secret.chars().all(|character| character == first);
    if secret.contains("{{resolve:") {
        Err(
            "is an unresolved reference of CloudFormation (`{{resolve:…}}`), which everybody can \
             read in the template; set the secret itself, or JWT_SECRET_ARN",
        )
    } else if is_structured_json(secret) {
        Err(
            "is JSON; the secret must be plain text: choose the tab Plaintext in the console of \
             Secrets Manager, and use only the value",
        )
    } else if secret.trim() != secret {
        Err(
            "starts or ends with white space, such as a line break; remove it (`printf %s` prints \
             none, `echo` does)",
        )
    } else if secret.len() < MIN_SECRET_BYTES {
        Err("is too short; an HS256 key must have at least 32 bytes")
    } else if secret.chars().next().is_none_or(is_repeated) {
        Err("repeats one character; use a random secret, such as from `openssl rand -base64 48`")
    } else {
        Ok(())
    }
}

/// Whether a text is an object, a list or a string in JSON.
fn is_structured_json(text: &str) -> bool {
    let is_structured = text.trim_start().starts_with(['{', '[', '"']);
    is_structured && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Refuses the secret of the development server. The error continues the sentence that starts with the name of
/// the secret.
pub(super) fn check_not_development_secret(secret: &str) -> Result<(), Problem> {
    if secret == DEVELOPMENT_SECRET {
        return Err(
            "is the secret of the development server, which everybody knows; use a random secret, \
             such as from `openssl rand -base64 48`",
        );
    }
    Ok(())
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
    const UNREADABLE: Problem = "a public key that cannot be read";

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
            Ok((Algorithm::RS256, rsa(&n, &e)?))
        }
        (ELLIPTIC_CURVE, Some(P256)) => Ok((Algorithm::ES256, p256(key)?)),
        (ED25519, None) => Ok((Algorithm::EdDSA, ed25519(key)?)),
        _ => Err(UNSUPPORTED_KIND),
    }
}

const UNSUPPORTED_KIND: Problem =
    "a key of a kind that is not supported; use RSA, P-256 or Ed25519";

/// The keys of a set (RFC 7517) that can verify tokens, and those that cannot.
#[derive(Default)]
pub(super) struct KeySet {
    pub keys: Vec<VerificationKey>,
    pub ignored: Vec<IgnoredKey>,
}

/// A key of a set that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IgnoredKey {
    pub id: Option<String>,
    pub reason: Problem,
}

#[derive(Deserialize)]
struct KeySetDocument<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// A key of a set. Each is parsed by itself, so that one damaged key does not affect the others.
#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Present in a private key.
    d: Option<IgnoredAny>,
}

/// The id of a key, also if the rest is damaged.
#[derive(Deserialize)]
struct KeyId {
    kid: Option<String>,
}

impl KeySet {
    /// Reads a key set. The error continues the sentence that starts with the name of the variable.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        let document: KeySetDocument<'_> = serde_json::from_slice(document)
            .map_err(|_| "is not a JSON Web Key Set; it must have the form `{\"keys\":[…]}`")?;
        let mut set = Self::default();
        for key in document.keys {
            let id = serde_json::from_str::<KeyId>(key.get()).map(|id| id.kid);
            let result = match JsonWebKey::parse(key.get()) {
                Ok(_) if id.is_err() => Err("a key whose `kid` is not one text"),
                Ok(_) if set.keys.len() >= MAX_KEYS => Err("more than 32 keys in the set"),
                result => result,
            };
            let id = id.unwrap_or_default();
            match result {
                Ok((algorithm, decoding)) => set.keys.push(VerificationKey {
                    id,
                    algorithm,
                    decoding,
                    expires_at: None,
                }),
                Err(reason) if set.ignored.len() < MAX_KEYS => {
                    set.ignored.push(IgnoredKey { id, reason });
                }
                Err(_) => {}
            }
        }
        if set.keys.is_empty() {
            let first = set.ignored.first();
            let first = first.map(|key| format!("; the first key is {}", key.reason));
            return Err(format!(
                "contains no usable key for RS256, ES256 or EdDSA{}",
                first.unwrap_or_default()
            ));
        }
        Ok(set)
    }
}

impl JsonWebKey {
    /// Reads a key. The purpose comes first, because a key for another purpose may have any form.
    fn parse(json: &str) -> Result<(Algorithm, DecodingKey), Problem> {
        let key: Self = serde_json::from_str(json).map_err(
            |_| "not a JSON Web Key: a member is missing, repeated or of the wrong type",
        )?;
        let operations = key.key_ops.as_ref();
        if key.purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err("a key for another purpose: `use` is not `sig`");
        }
        if operations.is_some_and(|operations| !operations.iter().any(|name| name == "verify")) {
            return Err("a key for other operations: `key_ops` has no `verify`");
        }
        let algorithm = match (key.kty.as_str(), key.crv.as_deref()) {
            ("oct", _) => return Err("a secret (`oct`); set JWT_SECRET_ARN instead"),
            ("RSA", _) => Algorithm::RS256,
            ("EC", Some("P-256")) => Algorithm::ES256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
            _ => return Err(UNSUPPORTED_KIND),
        };
        let is_other = |name: &String| algorithm_named(name) != Some(algorithm);
        if key.alg.as_ref().is_some_and(is_other) {
            return Err("a key for another algorithm: `alg` is not RS256, ES256, EdDSA or Ed25519");
        }
        if key.d.is_some() {
            return Err("a private key, which is no longer secret; replace it by a new key");
        }
        let decoding = match algorithm {
            Algorithm::RS256 => rsa(&number(key.n.as_ref())?, &number(key.e.as_ref())?)?,
            Algorithm::ES256 => {
                let (x, y) = (number(key.x.as_ref())?, number(key.y.as_ref())?);
                if [&x, &y]
                    .iter()
                    .any(|number| number.len() != P256_COORDINATE_BYTES)
                {
                    return Err("a P-256 key whose coordinates do not have 32 bytes");
                }
                p256(&[&[UNCOMPRESSED][..], &x, &y].concat())?
            }
            _ => ed25519(&number(key.x.as_ref())?)?,
        };
        Ok((algorithm, decoding))
    }
}

/// Decodes a number of a key.
fn number(text: Option<&String>) -> Result<Vec<u8>, Problem> {
    let text = text.ok_or("a key with a missing number")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "a key with a number that is not base64url without padding")
}

fn rsa(n: &[u8], e: &[u8]) -> Result<DecodingKey, Problem> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("an RSA key of the wrong size; RS256 requires 2,048 to 8,192 bits");
    }
    // A modulus and an exponent are odd. With the exponent 1, anybody could sign.
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !is_odd(n) || !is_odd(e) || e == [1] || e.len() > 4 {
        return Err("an unsafe RSA key; its numbers are not those of a valid public key");
    }
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

fn p256(point: &[u8]) -> Result<DecodingKey, Problem> {
    if point.len() != 1 + 2 * P256_COORDINATE_BYTES || point.first() != Some(&UNCOMPRESSED) {
        return Err("a P-256 key that is not an uncompressed point");
    }
    if !curves::is_on_p256(point) {
        return Err("a P-256 key whose point is not on the curve");
    }
    Ok(DecodingKey::from_ec_der(point))
}

fn ed25519(point: &[u8]) -> Result<DecodingKey, Problem> {
    let point: &[u8; 32] = point
        .try_into()
        .map_err(|_| "an Ed25519 key that does not have 32 bytes")?;
    if !curves::is_ed25519_key(point) {
        return Err("an Ed25519 key whose point is not on the curve, or has a small order");
    }
    Ok(DecodingKey::from_ed_der(point))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "the secret of these unit tests, of 32 bytes or more";
    const RSA_PEM: &str = include_str!("../../../tests/support/keys/rsa-2048.pem");
    const P256_PEM: &str = include_str!("../../../tests/support/keys/p256.pem");
    const ED25519_PEM: &str = include_str!("../../../tests/support/keys/ed25519.pem");
    /// The public key of the first test in RFC 8032.
    const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn keys(variables: &[(&str, &str)]) -> Result<Vec<VerificationKey>, String> {
        let keys = from_env(|name| {
            let variable = variables.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| (*value).to_owned())
        });
        keys.map(|set| set.keys).map_err(|error| error.to_string())
    }

    fn error(variables: &[(&str, &str)]) -> String {
        keys(variables).err().expect("the configuration is invalid")
    }

    fn key_set(keys: &Value) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    /// Why a key is left out; `None` if it is used.
    fn reason(key: &Value) -> Option<Problem> {
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X, "kid": "good"});
        let mut other = key.clone();
        other["kid"] = "other".into();
        let set = key_set(&json!([other, good])).unwrap();
        let ids: Vec<_> = set.keys.iter().map(|key| key.id.as_deref()).collect();
        match set.ignored.as_slice() {
            [] => {
                assert_eq!(ids, [Some("other"), Some("good")]);
                None
            }
            [ignored] => {
                assert_eq!(ids, [Some("good")]);
                assert_eq!(ignored.id.as_deref(), Some("other"));
                Some(ignored.reason)
            }
            other => panic!("one key cannot be ignored twice: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_ignored(key: &Value, because: &str) {
        let reason = reason(key).unwrap_or_default();
        assert!(reason.contains(because), "{key}: {reason}");
    }

    /// An RSA key with this many bits.
    fn rsa_jwk(bits: usize, n_end: u8, e: &str) -> Value {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= n.len() * 8 - bits;
        *n.last_mut().unwrap() = n_end;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": e})
    }

    fn p256_jwk() -> Value {
        let der = decode_pem(P256_PEM).unwrap();
        let (x, y) = der[der.len() - 64..].split_at(32);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    }

    fn with(key: &Value, name: &str, value: Value) -> Value {
        let mut key = key.clone();
        key[name] = value;
        key
    }

    #[test]
    fn several_kinds_of_keys_can_be_configured_together() {
        let set = json!({"keys": [rsa_jwk(2_048, 0xff, "AQAB")]}).to_string();
        let variables = [
            ("JWT_SECRET", SECRET),
            ("JWT_SECRET_PREVIOUS", SECRET),
            ("JWT_PUBLIC_KEY", P256_PEM),
            ("JWT_JWKS", &set),
        ];
        assert_eq!(keys(&variables).unwrap().len(), 4);
        assert_eq!(keys(&[]).unwrap().len(), 0);
        let error = error(&[("JWT_SECRET_PREVIOUS", SECRET)]);
        assert!(error.starts_with("JWT_SECRET_PREVIOUS is set without"));
    }

    #[test]
    fn a_secret_has_at_least_32_bytes() {
        let (short, long) = ("xy".repeat(15), "xy".repeat(16));
        assert!(error(&[("JWT_SECRET", &short)]).starts_with("JWT_SECRET is too short"));
        let previous = [("JWT_SECRET", &*long), ("JWT_SECRET_PREVIOUS", &short)];
        assert!(error(&previous).starts_with("JWT_SECRET_PREVIOUS is too short"));
        assert_eq!(keys(&[("JWT_SECRET", &long)]).unwrap().len(), 1);
        let both = [("JWT_SECRET", &*long), ("JWT_SECRET_PREVIOUS", &long)];
        assert_eq!(keys(&both).unwrap().len(), 2);
    }

    #[test]
    fn a_text_that_is_not_a_secret_is_refused_with_a_message_that_helps() {
        let reference = "{{resolve:secretsmanager:chat/jwt-secret:SecretString}}";
        for (secret, problem) in [
            (reference.to_owned(), "is an unresolved reference"),
            (format!("x{reference}"), "is an unresolved reference"),
            (json!({ "secret": SECRET }).to_string(), "is JSON"),
            (format!("{}\n", json!({ "secret": SECRET })), "is JSON"),
            (json!([SECRET]).to_string(), "is JSON"),
            (json!(SECRET).to_string(), "is JSON"),
            (format!("{SECRET}\n"), "starts or ends with white space"),
            (format!("{SECRET}\r\n"), "starts or ends with white space"),
            (format!("{SECRET} "), "starts or ends with white space"),
            (format!(" {SECRET}"), "starts or ends with white space"),
            ("a".repeat(64), "repeats one character"),
            ("é".repeat(64), "repeats one character"),
            (String::new(), "is too short"),
        ] {
            let found = VerificationKey::from_secret(&secret).err().unwrap();
            assert!(found.starts_with(problem), "{secret:?}: {found}");
            assert!(!found.contains(SECRET), "the message contains the secret");
        }
        // Unusual, but possible.
        for secret in [
            format!("{{{SECRET}}}"),
            format!("[{SECRET}"),
            format!("\"{SECRET}"),
            "1234567890".repeat(4),
            format!("{SECRET}\n{SECRET}"),
        ] {
            assert!(VerificationKey::from_secret(&secret).is_ok(), "{secret:?}");
        }
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
    fn a_pem_file_with_a_point_that_is_not_on_its_curve_is_refused() {
        for (pem, key, lowest_byte) in [
            (P256_PEM, "a P-256 key", 31),
            (ED25519_PEM, "an Ed25519 key", 0),
        ] {
            let mut der = decode_pem(pem).unwrap();
            // The last coordinate becomes 2, which is on neither curve.
            let start = der.len() - 32;
            der[start..].fill(0);
            der[start + lowest_byte] = 2;
            let body = STANDARD.encode(der);
            let pem = format!("-----BEGIN PUBLIC KEY-----{body}-----END PUBLIC KEY-----");
            let error = error(&[("JWT_PUBLIC_KEY", &pem)]);
            let expected = format!("JWT_PUBLIC_KEY contains {key} whose point is not on the curve");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn use_key_ops_and_alg_are_checked_first() {
        let good = rsa_jwk(2_048, 0xff, "AQAB");
        assert_eq!(reason(&good), None);
        for (name, value) in [
            ("use", json!("sig")),
            ("key_ops", json!(["verify"])),
            ("key_ops", json!(["sign", "verify"])),
            ("alg", json!("RS256")),
            ("x5c", json!(["AAAA"])),
            ("ext", json!({"other": [1]})),
        ] {
            assert_eq!(reason(&with(&good, name, value)), None, "{name}");
        }
        // The numbers of such keys do not matter.
        let weak = rsa_jwk(1_024, 0xff, "AQAB");
        for key in [good, weak] {
            for (name, value, because) in [
                ("use", json!("enc"), "`use` is not `sig`"),
                ("key_ops", json!(["encrypt"]), "`key_ops` has no `verify`"),
                ("key_ops", json!([]), "`key_ops` has no `verify`"),
                ("alg", json!("RS512"), "another algorithm"),
                ("alg", json!("RSA-OAEP"), "another algorithm"),
                ("alg", json!("PS256"), "another algorithm"),
                ("alg", json!("ES256"), "another algorithm"),
            ] {
                assert_ignored(&with(&key, name, value), because);
            }
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_left_out_with_its_reason() {
        let rsa = rsa_jwk(2_048, 0xff, "AQAB");
        let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X});
        let p256 = p256_jwk();
        let short = json!(URL_SAFE_NO_PAD.encode([1_u8; 31]));
        let padded = |key: &Value, name: &str| {
            let number = key[name].as_str().unwrap();
            with(key, name, format!("{number}=").into())
        };
        let two = |index: usize| {
            let mut number = [0_u8; 32];
            number[index] = 2;
            json!(URL_SAFE_NO_PAD.encode(number))
        };
        for (key, because) in [
            (rsa_jwk(2_047, 0xff, "AQAB"), "wrong size"),
            (rsa_jwk(8_193, 0xff, "AQAB"), "wrong size"),
            (rsa_jwk(2_048, 0xfe, "AQAB"), "unsafe RSA key"),
            (rsa_jwk(2_048, 0xff, "AQ"), "unsafe RSA key"), // 1
            (rsa_jwk(2_048, 0xff, "AQAA"), "unsafe RSA key"), // even
            (rsa_jwk(2_048, 0xff, "AQAAAAE"), "unsafe RSA key"), // 5 bytes
            (with(&rsa, "n", json!("")), "wrong size"),
            (with(&rsa, "n", json!("*")), "not base64url"),
            (with(&rsa, "n", json!(null)), "missing number"),
            (padded(&rsa, "e"), "not base64url"),
            (with(&rsa, "d", json!("AQAB")), "private key"),
            (with(&p256, "x", short.clone()), "do not have 32 bytes"),
            (with(&p256, "y", json!("")), "do not have 32 bytes"),
            (padded(&p256, "x"), "not base64url"),
            (with(&p256, "y", two(31)), "not on the curve"),
            (with(&p256, "d", json!("AQAB")), "private key"),
            (with(&ed25519, "x", short), "does not have 32 bytes"),
            (padded(&ed25519, "x"), "not base64url"),
            (with(&ed25519, "x", two(0)), "not on the curve"),
            (
                with(&ed25519, "x", json!(URL_SAFE_NO_PAD.encode([0_u8; 32]))),
                "small order",
            ),
            (with(&ed25519, "d", json!("AQAB")), "private key"),
            (json!({"kty": "oct", "k": "AA"}), "a secret"),
            (
                json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
                "not supported",
            ),
            (json!({"kty": "EC", "crv": "secp256k1"}), "not supported"),
            (
                json!({"kty": "OKP", "crv": "P-256", "x": "AA"}),
                "not supported",
            ),
            (
                json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
                "not supported",
            ),
            (json!({"kty": "AKP", "alg": "ML-DSA-44"}), "not supported"),
            (json!({"crv": "P-256"}), "not a JSON Web Key"),
            (json!({"kty": 1}), "not a JSON Web Key"),
            (
                json!({"kty": "RSA", "key_ops": "verify"}),
                "not a JSON Web Key",
            ),
        ] {
            assert_ignored(&key, because);
        }
        for bits in [2_048, 8_192] {
            assert_eq!(reason(&rsa_jwk(bits, 0xff, "AQAB")), None);
        }
        // Leading zeros do not count. The largest exponent has four bytes.
        for e in ["AAEAAQ", "AQAAAQ"] {
            assert_eq!(reason(&rsa_jwk(2_048, 0xff, e)), None);
        }
        for key in [p256, ed25519] {
            assert_eq!(reason(&key), None);
        }
    }

    #[test]
    fn a_member_of_the_set_that_is_not_a_key_does_not_affect_the_others() {
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X});
        let document = format!(r#"{{"other":"\ud83d","keys":[1,null,[],{{"kid":7}},"x",{good}]}}"#);
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert_eq!((set.keys.len(), set.ignored.len()), (1, 5));
    }

    #[test]
    fn a_set_without_a_usable_key_is_refused_and_says_what_is_wrong_with_the_first() {
        for (document, problem) in [
            ("x", "is not a JSON Web Key Set"),
            ("{}", "is not a JSON Web Key Set"),
            (r#"{"keys":{}}"#, "is not a JSON Web Key Set"),
            (
                r#"{"keys":[]}"#,
                "contains no usable key for RS256, ES256 or EdDSA",
            ),
            (
                r#"{"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA"}]}"#,
                "contains no usable key for RS256, ES256 or EdDSA; the first key is a secret (`oct`)",
            ),
        ] {
            let error = KeySet::parse(document.as_bytes()).err().unwrap();
            assert!(error.starts_with(problem), "{document}: {error}");
            let error = self::error(&[("JWT_JWKS", document)]);
            assert!(error.starts_with(&format!("JWT_JWKS {problem}")), "{error}");
        }
    }

    #[test]
    fn at_most_32_keys_of_a_set_are_used() {
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X});
        let secret = json!({"kty": "oct", "k": "AA"});
        let set = key_set(&json!(vec![good.clone(); 32])).unwrap();
        assert_eq!((set.keys.len(), set.ignored.len()), (32, 0));
        let set = key_set(&json!(vec![good.clone(); 100])).unwrap();
        assert_eq!((set.keys.len(), set.ignored.len()), (32, 32));
        let keys = [vec![secret; 100], vec![good; 2]].concat();
        let set = key_set(&json!(keys)).unwrap();
        assert_eq!((set.keys.len(), set.ignored.len()), (2, 32));
    }
}
