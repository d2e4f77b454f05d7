//! Whose call it is: access tokens (JWT, RFC 7519), checked as RFC 8725 advises.
//!
//! The algorithm and the key are fixed by configuration and never chosen by the token. `exp` is
//! required, `nbf` is honoured, clocks may differ by [`LEEWAY_SECONDS`]. `iss` and `aud` are
//! required when configured and ignored when not. `sub`, or the claim that is configured in its
//! place, is the user id in canonical decimal, as a string or as a JSON number. A token with critical extensions (`crit`) is refused: this service
//! knows none.
//!
//! One of three variables says whom to trust (`keys.rs`):
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET` | HS256 key, at least 32 bytes |
//! | `JWT_PUBLIC_KEY` | public key as PEM: RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`) |
//! | `JWT_JWKS` | the same as a JSON Web Key Set (RFC 7517); a token's `kid` picks the key |
//!
//! and four more are optional:
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET_PREVIOUS` | HS256 key that is accepted, too, while `JWT_SECRET` is being changed |
//! | `JWT_ISSUER` | the `iss` that every token must carry |
//! | `JWT_AUDIENCE` | the `aud` that every token must carry |
//! | `JWT_USER_CLAIM` | the claim that is the user id, where an issuer has a `sub` of its own; default `sub` |
//!
//! A `kid` picks among configured keys and nothing else of a header (`jku`, `jwk`, `x5u`) is looked
//! at. Where no configured key has an id it is ignored, as a secret or a PEM file has none; where
//! there are several, a token without one is refused.
//!
//! The cryptography is `ring`, which TLS to DynamoDB brings anyway: of the two providers that
//! `jsonwebtoken` offers, one would be a second crypto library in each binary and the other brings
//! an `rsa` crate with an open advisory.

mod crypto;
mod keys;

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::{Error, domain::UserId, error::ConfigError};
use keys::Key;

/// How far the issuer's clock and this one may differ.
pub const LEEWAY_SECONDS: u64 = 30;
/// The claim that names the user, unless `JWT_USER_CLAIM` says otherwise.
const DEFAULT_USER_CLAIM: &str = "sub";
/// Longer tokens are refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Checks access tokens.
pub struct Authenticator {
    keys: Vec<Trusted>,
    /// Whether a token's `kid` decides which key is tried.
    by_id: bool,
    /// The claim that names the user.
    user_claim: String,
}

/// A key, and what it must have signed.
struct Trusted {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token: {0}")]
pub struct TokenError(#[from] jsonwebtoken::errors::Error);

impl Authenticator {
    /// Reads the configuration; `variable` looks up an environment variable. An empty one counts as
    /// not set, because a deployment template cannot leave one out.
    ///
    /// # Errors
    /// When no key is configured, or more than one way to one, or a key is weak or cannot be read.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let keys = Key::from_variables(set)?;
        crypto::install();

        let (issuer, audience) = (set("JWT_ISSUER"), set("JWT_AUDIENCE"));
        let trust = |key: Key| {
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
            Trusted {
                id: key.id,
                key: key.decoding,
                validation,
            }
        };
        Ok(Self {
            by_id: keys.iter().any(|key| key.id.is_some()),
            keys: keys.into_iter().map(trust).collect(),
            user_claim: set("JWT_USER_CLAIM").unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
        })
    }

    /// The user whose token an `Authorization` header carries.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], which does not say why: that would help who guesses.
    pub fn user(&self, authorization: Option<&str>) -> Result<UserId, Error> {
        authorization
            .and_then(bearer_token)
            .filter(|token| token.len() <= MAX_TOKEN_BYTES)
            .and_then(|token| self.check(token))
            .ok_or(Error::Unauthorized)
    }

    fn check(&self, token: &str) -> Option<UserId> {
        let id = if self.by_id {
            jsonwebtoken::decode_header(token).ok()?.kid
        } else {
            None
        };
        let picked = |key: &&Trusted| match (&id, &key.id) {
            (Some(id), Some(of_key)) => id == of_key,
            // Without ids each key is tried; with several keys, one without an id is not guessed at.
            (None, _) => !self.by_id || self.keys.len() == 1,
            (Some(_), None) => false,
        };
        let mut decoded = self.keys.iter().filter(picked).filter_map(|key| {
            jsonwebtoken::decode::<Claims>(token, &key.key, &key.validation).ok()
        });
        decoded
            .next()
            .filter(|token| token.header.crit.is_none())
            .and_then(|token| token.claims.user(&self.user_claim))
    }
}

/// Signs access tokens that the functions take, for development and tests: in production another
/// system does.
pub struct TokenIssuer {
    key: EncodingKey,
    user_claim: String,
    issuer: Option<String>,
    audience: Option<String>,
}

impl TokenIssuer {
    /// Reads the variables of [`Authenticator::from_variables`]; `None` without `JWT_SECRET`: with
    /// another kind of key only its owner can sign.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Some(Self {
            key: EncodingKey::from_secret(set("JWT_SECRET")?.as_bytes()),
            user_claim: set("JWT_USER_CLAIM").unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
            issuer: set("JWT_ISSUER"),
            audience: set("JWT_AUDIENCE"),
        })
    }

    /// A token of `user`, good until `expires_at`, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When the claims cannot be signed.
    pub fn token(&self, user: UserId, expires_at: u64) -> Result<String, TokenError> {
        crypto::install();
        let mut claims = BTreeMap::from([
            (self.user_claim.as_str(), Value::from(user.to_string())),
            ("exp", Value::from(expires_at)),
        ]);
        let whom = [("iss", &self.issuer), ("aud", &self.audience)];
        claims.extend(whom.into_iter().filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some((name, Value::from(value)))
        }));
        Ok(jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims,
            &self.key,
        )?)
    }
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// What a token says, beside what `jsonwebtoken` checks itself; nothing twice.
struct Claims(BTreeMap<String, Value>);

impl Claims {
    /// The user that a claim names: a number, or text in canonical decimal.
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
                        return Err(de::Error::custom("a claim is given twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}
