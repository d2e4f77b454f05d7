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
