//! Authentication: verifies access tokens (JWT, RFC 7519) as RFC 8725 recommends.
//!
//! The configuration determines the algorithm and the keys; a token never does. `exp` is required and
//! `nbf` is enforced, both with a leeway of [`LEEWAY_SECONDS`] for clock differences. `iss` and `aud` are
//! required if they are configured and ignored otherwise. The user id is in `sub`, or in the claim that
//! `JWT_USER_CLAIM` names, in canonical decimal, as a string or a JSON number. A token with critical
//! extensions (`crit`) is rejected, because this service supports none.
//!
//! Exactly one of three variables configures the keys (`keys.rs`):
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET` | HS256 key, at least 32 bytes |
//! | `JWT_PUBLIC_KEY` | public key in PEM format: RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`) |
//! | `JWT_JWKS` | JSON Web Key Set (RFC 7517); the `kid` of a token selects the key |
//!
//! Four variables are optional:
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET_PREVIOUS` | a second HS256 key that is accepted during a rotation of `JWT_SECRET` |
//! | `JWT_ISSUER` | the required `iss` |
//! | `JWT_AUDIENCE` | the required `aud` |
//! | `JWT_USER_CLAIM` | the claim with the user id, if it is not `sub` |
//!
//! `kid` only selects among configured keys; `jku`, `jwk` and `x5u` are ignored. If no configured key has
//! an id (a secret or a PEM file has none), `kid` is ignored. If there are several keys with ids, a token
//! without `kid` is rejected.
//!
//! The cryptography comes from `ring` (`crypto.rs`).

mod crypto;
mod keys;

use std::collections::BTreeMap;

use jsonwebtoken::{DecodingKey, Validation};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::{Error, domain::UserId, error::ConfigError};
use keys::VerificationKey;

/// The tolerated difference between the clocks of the issuer and this service.
pub const LEEWAY_SECONDS: u64 = 30;
/// The default of `JWT_USER_CLAIM`.
const DEFAULT_USER_CLAIM: &str = "sub";
/// The maximum length of a token.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Verifies access tokens.
pub struct Authenticator {
    keys: Vec<TrustedKey>,
    /// Whether the `kid` of a token selects the key.
    selects_by_id: bool,
    /// The claim with the user id.
    user_claim: String,
}

/// A key and the validation of the tokens that it signs.
struct TrustedKey {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl Authenticator {
    /// Reads the configuration. `env` looks up an environment variable. An empty variable counts as not
    /// set, because a deployment template cannot omit a variable.
    ///
    /// # Errors
    /// [`ConfigError`] if no key or more than one kind of key is configured, or if a key is weak or
    /// unreadable.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let keys = VerificationKey::from_env(env)?;
        crypto::install();

        let (issuer, audience) = (env("JWT_ISSUER"), env("JWT_AUDIENCE"));
        let trust = |key: VerificationKey| {
            let mut validation = Validation::new(key.algorithm);
            validation.leeway = LEEWAY_SECONDS;
            validation.validate_nbf = true;
            validation.validate_aud = false;
            if let Some(issuer) = &issuer {
                validation.set_issuer(&[issuer]);
                validation.required_spec_claims.insert("iss".to_owned());
            }
            if let Some(audience) = &audience {
                validation.set_audience(&[audience]);
                validation.validate_aud = true;
                validation.required_spec_claims.insert("aud".to_owned());
            }
            TrustedKey {
                id: key.id,
                key: key.decoding,
                validation,
            }
        };
        Ok(Self {
            selects_by_id: keys.iter().any(|key| key.id.is_some()),
            keys: keys.into_iter().map(trust).collect(),
            user_claim: env("JWT_USER_CLAIM").unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
        })
    }

    /// The user id in the token of an `Authorization` header.
    ///
    /// # Errors
    /// [`Error::Unauthorized`]. It does not contain the reason, because that would help an attacker.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<UserId, Error> {
        authorization
            .and_then(bearer_token)
            .filter(|token| token.len() <= MAX_TOKEN_BYTES)
            .and_then(|token| self.verify(token))
            .ok_or(Error::Unauthorized)
    }

    fn verify(&self, token: &str) -> Option<UserId> {
        let id = if self.selects_by_id {
            jsonwebtoken::decode_header(token).ok()?.kid
        } else {
            None
        };
        let is_selected = |key: &&TrustedKey| match (&id, &key.id) {
            (Some(id), Some(key_id)) => id == key_id,
            // Without ids, every key is tried. A token without `kid` is rejected if there are several keys
            // with ids.
            (None, _) => !self.selects_by_id || self.keys.len() == 1,
            (Some(_), None) => false,
        };
        let mut decoded = self.keys.iter().filter(is_selected).filter_map(|key| {
            jsonwebtoken::decode::<Claims>(token, &key.key, &key.validation).ok()
        });
        decoded
            .next()
            .filter(|token| token.header.crit.is_none())
            .and_then(|token| token.claims.user(&self.user_claim))
    }
}

/// The token in `Bearer <token>`. The scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// The claims of a token. A duplicate claim is an error.
struct Claims(BTreeMap<String, Value>);

impl Claims {
    /// The user id in a claim: a number, or a string in canonical decimal.
    fn user(&self, claim: &str) -> Option<UserId> {
        match self.0.get(claim)? {
            Value::Number(id) => UserId::new(id.as_u64()?),
            Value::String(id) => id.parse().ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Claims;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("claims")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if claims.insert(name, value).is_some() {
                        return Err(de::Error::custom("duplicate claim"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    use ring::{hmac, rand::SystemRandom, signature};
    use serde_json::json;

    use super::*;
    use crate::domain::Timestamp;

    const SECRET: &str = "the secret of these unit tests, of 32 bytes or more";
    const OTHER: &str = "another secret of these unit tests, 32 bytes or more";

    fn authenticator(variables: &[(&str, &str)]) -> Authenticator {
        Authenticator::from_env(|name| {
            let variable = variables.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    fn now() -> u64 {
        Timestamp::now().seconds()
    }

    fn claims() -> Value {
        json!({"sub": "42", "exp": now() + 60})
    }

    fn token(header: &Value, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let (header, claims) = (BASE64.encode(header.to_string()), BASE64.encode(claims));
        let signed = format!("{header}.{claims}");
        let signature = BASE64.encode(sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn hs256(secret: &str, header: &Value, claims: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        token(header, claims, |message| {
            hmac::sign(&key, message).as_ref().to_vec()
        })
    }

    fn user(authenticator: &Authenticator, token: &str) -> Option<u64> {
        let user = authenticator.authenticate(Some(&format!("Bearer {token}")));
        user.ok().map(UserId::get)
    }

    fn user_with_claims(authenticator: &Authenticator, claims: &Value) -> Option<u64> {
        let header = json!({"alg": "HS256"});
        user(authenticator, &hs256(SECRET, &header, &claims.to_string()))
    }

    #[test]
    fn a_bearer_token_authenticates_its_user() {
        let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
        let token = hs256(SECRET, &json!({"alg": "HS256"}), &claims().to_string());
        for scheme in ["Bearer ", "bearer ", "BEARER  "] {
            let user = authenticator.authenticate(Some(&format!("{scheme}{token}")));
            assert_eq!(user.unwrap().get(), 42, "{scheme}");
        }
        for header in [format!("Basic {token}"), token.clone(), format!("{token} ")] {
            assert!(authenticator.authenticate(Some(&header)).is_err());
        }
        assert!(authenticator.authenticate(None).is_err());
    }

    #[test]
    fn the_user_id_is_a_number_or_a_canonical_string_in_the_configured_claim() {
        let default = authenticator(&[("JWT_SECRET", SECRET)]);
        let custom = authenticator(&[("JWT_SECRET", SECRET), ("JWT_USER_CLAIM", "uid")]);
        for (claim, expected) in [
            (json!("42"), Some(42)),
            (json!(42), Some(42)),
            (json!("042"), None),
            (json!(42.0), None),
            (json!(-42), None),
            (json!(0), None),
            (json!(["42"]), None),
            (json!(null), None),
        ] {
            let mut claims = claims();
            claims["sub"] = claim.clone();
            assert_eq!(user_with_claims(&default, &claims), expected, "{claim}");
            claims["sub"] = json!("user|1");
            claims["uid"] = claim.clone();
            assert_eq!(user_with_claims(&custom, &claims), expected, "{claim}");
        }
    }

    #[test]
    fn exp_is_required_and_exp_and_nbf_have_a_leeway_of_30_seconds() {
        let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
        let changed = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            user_with_claims(&authenticator, &claims).is_some()
        };
        assert!(changed("exp", json!(now() - 20)));
        assert!(!changed("exp", json!(now() - 40)));
        assert!(!changed("exp", json!(null)));
        assert!(changed("nbf", json!(now() + 20)));
        assert!(!changed("nbf", json!(now() + 60)));
    }

    #[test]
    fn issuer_and_audience_are_required_only_if_they_are_configured() {
        let any = authenticator(&[("JWT_SECRET", SECRET), ("JWT_ISSUER", "")]);
        let strict = authenticator(&[
            ("JWT_SECRET", SECRET),
            ("JWT_ISSUER", "us"),
            ("JWT_AUDIENCE", "chat"),
        ]);
        for (iss, aud, is_valid) in [
            (json!("us"), json!("chat"), true),
            (json!("us"), json!(["other", "chat"]), true),
            (json!("them"), json!("chat"), false),
            (json!("us"), json!("other"), false),
            (json!(null), json!("chat"), false),
            (json!("us"), json!(null), false),
        ] {
            let mut claims = claims();
            claims["iss"] = iss.clone();
            claims["aud"] = aud.clone();
            let object = claims.as_object_mut().unwrap();
            object.retain(|_, claim| !claim.is_null());
            assert_eq!(user_with_claims(&any, &claims), Some(42), "{iss} {aud}");
            let user = user_with_claims(&strict, &claims);
            assert_eq!(user.is_some(), is_valid, "{iss} {aud}");
        }
    }

    #[test]
    fn a_long_token_a_critical_extension_and_a_duplicate_claim_are_rejected() {
        let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
        let header = json!({"alg": "HS256"});
        let mut padded = claims();
        padded["padding"] = "x".repeat(5_900).into();
        let token = hs256(SECRET, &header, &padded.to_string());
        assert!(token.len() <= MAX_TOKEN_BYTES);
        assert_eq!(user(&authenticator, &token), Some(42));
        padded["padding"] = "x".repeat(6_200).into();
        let token = hs256(SECRET, &header, &padded.to_string());
        assert!(token.len() > MAX_TOKEN_BYTES);
        assert_eq!(user(&authenticator, &token), None);

        let critical = json!({"alg": "HS256", "crit": ["exp"]});
        let token = hs256(SECRET, &critical, &claims().to_string());
        assert_eq!(user(&authenticator, &token), None);
        let twice = format!(r#"{{"sub":"42","sub":"43","exp":{}}}"#, now() + 60);
        assert_eq!(user(&authenticator, &hs256(SECRET, &header, &twice)), None);
    }

    #[test]
    fn the_previous_secret_is_accepted_and_no_other_secret_or_algorithm() {
        let authenticator =
            authenticator(&[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", OTHER)]);
        let claims = claims().to_string();
        let header = json!({"alg": "HS256", "kid": "ignored"});
        for secret in [SECRET, OTHER] {
            let token = hs256(secret, &header, &claims);
            assert_eq!(user(&authenticator, &token), Some(42));
        }
        let token = hs256(&OTHER.to_uppercase(), &header, &claims);
        assert_eq!(user(&authenticator, &token), None);
        for algorithm in ["none", "HS384", "RS256"] {
            let token = hs256(SECRET, &json!({ "alg": algorithm }), &claims);
            assert_eq!(user(&authenticator, &token), None, "{algorithm}");
        }
    }

    /// Signs with the test keys of the three asymmetric algorithms.
    fn signature(algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let pkcs8 = include_bytes!("../../../tests/support/keys/rsa-2048.pk8");
                let key = signature::RsaKeyPair::from_pkcs8(pkcs8).unwrap();
                let mut signature = vec![0; key.public().modulus_len()];
                let padding = &signature::RSA_PKCS1_SHA256;
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            "ES256" => {
                let pkcs8 = include_bytes!("../../../tests/support/keys/p256.pk8");
                let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            _ => {
                let pkcs8 = include_bytes!("../../../tests/support/keys/ed25519.pk8");
                let key = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap();
                key.sign(message).as_ref().to_vec()
            }
        }
    }

    #[test]
    fn a_public_key_verifies_only_its_own_algorithm() {
        let algorithms = ["RS256", "ES256", "EdDSA"];
        let pems = [
            include_str!("../../../tests/support/keys/rsa-2048.pem"),
            include_str!("../../../tests/support/keys/p256.pem"),
            include_str!("../../../tests/support/keys/ed25519.pem"),
        ];
        for (configured, pem) in algorithms.iter().zip(pems) {
            let authenticator = authenticator(&[("JWT_PUBLIC_KEY", pem)]);
            for signed in algorithms {
                for named in ["HS256", "RS256", "ES256", "EdDSA"] {
                    let header = json!({"alg": named, "kid": "ignored"});
                    let token = token(&header, &claims().to_string(), |message| {
                        signature(signed, message)
                    });
                    let is_valid = *configured == signed && *configured == named;
                    let user = user(&authenticator, &token);
                    assert_eq!(user.is_some(), is_valid, "{configured} {signed} {named}");
                }
            }
            let forged = hs256(pem, &json!({"alg": "HS256"}), &claims().to_string());
            assert_eq!(user(&authenticator, &forged), None);
        }
    }

    #[test]
    fn the_kid_selects_among_several_keys_and_is_optional_with_one_key() {
        let jwk = |id: &str, pem: &str| {
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let der = base64::engine::general_purpose::STANDARD.decode(body);
            // The last 32 bytes of the SPKI of an Ed25519 key are the key.
            let x = BASE64.encode(&der.unwrap()[12..]);
            json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
        };
        let own = jwk(
            "own",
            include_str!("../../../tests/support/keys/ed25519.pem"),
        );
        let other = jwk(
            "other",
            include_str!("../../../tests/support/keys/ed25519-other.pem"),
        );
        let one = json!({ "keys": [own] }).to_string();
        let both = json!({ "keys": [other, own] }).to_string();
        for (keys, kid, is_valid) in [
            (&both, Some("own"), true),
            (&both, Some("other"), false),
            (&both, Some("unknown"), false),
            (&both, None, false),
            (&one, Some("own"), true),
            (&one, Some("unknown"), false),
            (&one, None, true),
        ] {
            let authenticator = authenticator(&[("JWT_JWKS", keys)]);
            let mut header = json!({"alg": "EdDSA"});
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let token = token(&header, &claims().to_string(), |message| {
                signature("EdDSA", message)
            });
            let user = user(&authenticator, &token);
            assert_eq!(user.is_some(), is_valid, "{kid:?} of {keys}");
        }
    }
}
