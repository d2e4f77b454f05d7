//! Whose call it is: access tokens (JWT, RFC 7519), checked as RFC 8725 advises.
//!
//! The algorithm and the key are fixed by configuration and never chosen by the token. `exp` is
//! required, `nbf` is honoured, clocks may differ by [`LEEWAY_SECONDS`]. `iss` and `aud` are
//! required when configured and ignored when not. `sub` is the user id in canonical decimal, as a
//! string or as a JSON number. A token with critical extensions (`crit`) is refused: this service
//! knows none.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET` | HS256 key, at least 32 bytes |
//! | `JWT_ISSUER` | optional: the `iss` that every token must carry |
//! | `JWT_AUDIENCE` | optional: the `aud` that every token must carry |
//!
//! The cryptography is `ring`, which TLS to DynamoDB brings anyway: of the two providers that
//! `jsonwebtoken` offers, one would be a second crypto library in each binary and the other brings
//! an `rsa` crate with an open advisory.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
};
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, de};
use signature::{Signer, Verifier};

use crate::{Error, domain::UserId, error::ConfigError};

/// How far the issuer's clock and this one may differ.
pub const LEEWAY_SECONDS: u64 = 30;
/// Longer tokens are refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// HS256 needs a key at least as long as its hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Checks access tokens.
pub struct Authenticator {
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
    /// When `JWT_SECRET` is missing or too short.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let secret = set("JWT_SECRET").ok_or(ConfigError::new(
            "JWT_SECRET",
            "is not set: give it the HS256 key that signs your access tokens",
        ))?;
        if secret.len() < MIN_SECRET_BYTES {
            return Err(ConfigError::new(
                "JWT_SECRET",
                "is too short: an HS256 key must have at least 32 bytes",
            ));
        }
        install_crypto();

        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        if let Some(issuer) = set("JWT_ISSUER") {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = set("JWT_AUDIENCE") {
            validation.set_audience(&[audience]);
            validation.validate_aud = true;
            validation.required_spec_claims.insert("aud".to_owned());
        }
        Ok(Self {
            key: DecodingKey::from_secret(secret.as_bytes()),
            validation,
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
            .and_then(|token| {
                jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()
            })
            .filter(|token| token.header.crit.is_none())
            .map(|token| token.claims.sub.0)
            .ok_or(Error::Unauthorized)
    }
}

/// Signs an access token, for development and tests: in production another system does.
///
/// `expires_at` is in seconds since 1970 UTC.
///
/// # Errors
/// When the claims cannot be signed.
pub fn issue_token(
    secret: &str,
    user: UserId,
    expires_at: u64,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<String, TokenError> {
    #[derive(Serialize)]
    struct Issued<'a> {
        sub: String,
        exp: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        iss: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'a str>,
    }
    install_crypto();
    let claims = Issued {
        sub: user.to_string(),
        exp: expires_at,
        iss: issuer,
        aud: audience,
    };
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &key,
    )?)
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// What is read of a token beside what `jsonwebtoken` checks itself.
#[derive(Deserialize)]
struct Claims {
    sub: Subject,
}

struct Subject(UserId);

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Subject;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a user id, as a number or a canonical decimal string")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Subject, E> {
                UserId::new(id)
                    .map(Subject)
                    .ok_or_else(|| E::custom("out of range"))
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Subject, E> {
                id.parse().map(Subject).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Gives `jsonwebtoken` its cryptography, once a process.
fn install_crypto() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| match algorithm {
            Algorithm::HS256 => {
                let secret = key.as_bytes();
                Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
            }
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        },
        verifier_factory: |algorithm, key| match algorithm {
            Algorithm::HS256 => {
                let secret = key.try_get_as_bytes()?;
                Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
            }
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    // A second call finds it installed, which is what was wanted.
    let _ = RING.install_default();
}

struct Hs256(hmac::Key);

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
