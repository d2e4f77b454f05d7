//! Authentication: verifies access tokens (JWT, RFC 7519) as RFC 8725 recommends.
//!
//! The configuration determines the keys, and a key determines the algorithm; a token never does. `exp` is
//! required and `nbf` is enforced, both with a leeway of [`LEEWAY_SECONDS`] for clock differences. `exp` must
//! not be more than ten years ahead. The user id is in canonical decimal, as a string or a JSON number. A token
//! with critical extensions (`crit`) is refused, because this service supports none. Only the claims that this
//! service uses have an effect. The log has the reason ([`TokenError`]) for each rejected token.
//!
//! These variables configure the keys. At least one is required. Several kinds can be set together, for the time
//! of a migration.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_SECRET_ARN` | name or ARN of an HS256 secret in Secrets Manager (`secrets.rs`) |
//! | `JWT_SECRET`, `JWT_SECRET_PREVIOUS` | HS256 secrets in the environment, for development and tests |
//! | `JWT_PUBLIC_KEY` | public key in PEM format: RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`) |
//! | `JWT_JWKS` | JSON Web Key Set (RFC 7517) |
//! | `JWT_JWKS_URL` | URL of a key set, `https` only (`key_set_url.rs`) |
//!
//! The secret in Secrets Manager and the key set at the URL are fetched during init, and again while the process
//! runs (`refresh.rs`). An HS256 secret has at least 32 bytes.
//!
//! These variables are optional:
//!
//! | Variable | Meaning |
//! |---|---|
//! | `JWT_ISSUER` | the accepted `iss`, separated by commas; default: any |
//! | `JWT_AUDIENCE` | the accepted `aud`, separated by commas; default: any |
//! | `JWT_TOKEN_USE` | the required `token_use` (Cognito: `access`) |
//! | `JWT_TYP` | the required header `typ`, such as `at+jwt` (RFC 9068) |
//! | `JWT_USER_CLAIM` | the claim with the user id, if it is not `sub` |
//!
//! Access tokens of Amazon Cognito have no `aud`. A token without `aud` is accepted if its `client_id` is in
//! `JWT_AUDIENCE`.
//!
//! These rules select the keys that can verify a token:
//!
//! 1. Only keys for the algorithm of the token. A public key is never used as a secret.
//! 2. If the token has a `kid`: the keys with this id; without such a key, the keys that have no id. A secret and
//!    a PEM file have no id.
//! 3. If the token has no `kid`: the keys that have no id; or the only key, if there is just one.
//!
//! A token can be verified by any of the selected keys. `jku`, `jwk`, `x5c` and `x5u` are ignored.
//!
//! The cryptography comes from `ring` (`crypto.rs`).

mod claims;
mod crypto;
mod curves;
mod key_set_url;
mod keys;
mod log;
mod refresh;
mod secrets;
#[cfg(test)]
mod tests;
mod token;
mod token_error;

use std::{error::Error, iter::successors, time::Duration};

use jsonwebtoken::Algorithm;
use url::Url;

use crate::{
    aws::AwsConfig,
    domain::{Timestamp, UserId},
    error::ConfigError,
};
use claims::ClaimRules;
use key_set_url::KeySetUrl;
use keys::{KeySet, VerificationKey, check_not_development_secret};
use refresh::{MAX_AGE, RefreshedKeys};
use secrets::SecretVersions;
use token::Token;

pub use token_error::TokenError;

/// The tolerated difference between the clocks of the issuer and this service.
pub const LEEWAY_SECONDS: u64 = 30;

/// The secret with which the development server signs tokens. Everybody knows it, so a deployed function refuses
/// it.
pub const DEVELOPMENT_SECRET: &str = "development-secret-that-everybody-knows";

/// What a valid access token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The user whose token it is.
    pub user: UserId,
    /// When it expires (`exp`), in whole seconds. The leeway is not included.
    pub expires_at: Timestamp,
}

/// Verifies access tokens.
pub struct Authenticator {
    rules: ClaimRules,
    /// The keys in the environment.
    keys: Vec<VerificationKey>,
    /// The secret in Secrets Manager.
    secret: Option<RefreshedKeys>,
    /// The key set at the URL.
    key_set: Option<RefreshedKeys>,
}

impl Authenticator {
    /// Reads the configuration, with the keys in the environment only: `JWT_SECRET_ARN` and `JWT_JWKS_URL` are
    /// ignored. `env` looks up an environment variable. An empty variable counts as not set, because a deployment
    /// template cannot omit a variable.
    ///
    /// # Errors
    /// [`ConfigError`] if no key is configured, if a key is weak or unreadable, or if a list is empty.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let KeySet { keys, .. } = keys::from_env(env)?;
        if keys.is_empty() {
            return Err(no_key());
        }
        Ok(Self::new(ClaimRules::from_env(env)?, keys))
    }

    /// Reads the configuration like [`Authenticator::from_env`], and fetches the keys that are not in the
    /// environment. It also refuses the development secret if the table is in AWS.
    ///
    /// # Errors
    /// As [`Authenticator::from_env`]; also if keys cannot be fetched. The error names the variable and the cause.
    pub async fn connect(
        env: impl Fn(&str) -> Option<String>,
        aws: &AwsConfig,
        now: Timestamp,
    ) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let KeySet { keys, ignored } = keys::from_env(env)?;
        let rules = ClaimRules::from_env(env)?;
        let (secret_id, url) = (env("JWT_SECRET_ARN"), env("JWT_JWKS_URL"));
        if keys.is_empty() && secret_id.is_none() && url.is_none() {
            return Err(no_key());
        }
        if secret_id.is_some() && env("JWT_SECRET").is_some() {
            return Err(ConfigError::new(
                "JWT_SECRET_ARN",
                "is set together with JWT_SECRET; set JWT_SECRET_ARN in a deployment, and JWT_SECRET \
                 on your machine",
            ));
        }
        if !is_local(env) {
            refuse_development_secret(env)?;
        }
        for key in &ignored {
            log::ignored_key(now, "JWT_JWKS", key);
        }
        let secret = async {
            match secret_id {
                Some(id) => {
                    let source = SecretVersions::new(aws, id)?;
                    RefreshedKeys::fetch(source, now).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let key_set = async {
            match url {
                Some(url) => {
                    let source = KeySetUrl::new(&url)?;
                    RefreshedKeys::fetch(source, now).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let (secret, key_set) = tokio::try_join!(secret, key_set)?;
        Ok(Self {
            secret,
            key_set,
            ..Self::new(rules, keys)
        })
    }

    fn new(rules: ClaimRules, keys: Vec<VerificationKey>) -> Self {
        crypto::install();
        Self {
            rules,
            keys,
            secret: None,
            key_set: None,
        }
    }

    /// Verifies the token of an `Authorization` header. Fetches keys again if they are old, or if none verifies the
    /// token.
    ///
    /// # Errors
    /// The reason why the token is refused.
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        self.authenticate_token(bearer_token(authorization)?, now)
            .await
    }

    /// Like [`Authenticator::authenticate`], for a token that was not sent in a header.
    ///
    /// # Errors
    /// The reason why the token is refused.
    pub async fn authenticate_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let token = Token::parse(token)?;
        self.refresh(token.algorithm, now, MAX_AGE).await;
        let mut signature = self.check_signature(&token, now);
        if signature.is_err() && self.refresh(token.algorithm, now, Duration::ZERO).await {
            signature = self.check_signature(&token, now);
        }
        signature?;
        self.rules.check(&token, now)
    }

    /// The user in the token of an `Authorization` header, verified with the keys that are in memory.
    ///
    /// # Errors
    /// The reason why the token is refused.
    pub fn verify(
        &self,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<UserId, TokenError> {
        let token = Token::parse(bearer_token(authorization)?)?;
        self.check_signature(&token, now)?;
        self.rules.check(&token, now).map(|verified| verified.user)
    }

    /// Fetches the keys again that can be for an algorithm, if they are at least `min_age` old. Returns whether
    /// there are new keys.
    async fn refresh(&self, algorithm: Algorithm, now: Timestamp, min_age: Duration) -> bool {
        let source = if algorithm == Algorithm::HS256 {
            &self.secret
        } else {
            &self.key_set
        };
        match source {
            Some(keys) => keys.refresh(now, min_age).await,
            None => false,
        }
    }

    fn check_signature(&self, token: &Token<'_>, now: Timestamp) -> Result<(), TokenError> {
        let fetched =
            [&self.secret, &self.key_set].map(|source| source.as_ref().map(RefreshedKeys::keys));
        let fetched = fetched.iter().flatten().flat_map(|keys| keys.iter());
        let fitting = self.keys.iter().chain(fetched);
        let fitting: Vec<_> = fitting
            .filter(|key| key.algorithm == token.algorithm && key.is_valid_at(now))
            .collect();
        if fitting.is_empty() {
            return Err(TokenError::WrongAlgorithm);
        }
        let selected = select(fitting, token.kid.as_deref());
        if selected.is_empty() {
            return Err(TokenError::UnknownKid);
        }
        if selected.iter().any(|key| token.is_signed_by(key)) {
            Ok(())
        } else {
            Err(TokenError::BadSignature)
        }
    }
}

/// The keys that can verify a token with this `kid`, of those for its algorithm. The module documentation has the
/// rules.
fn select<'k>(mut keys: Vec<&'k VerificationKey>, kid: Option<&str>) -> Vec<&'k VerificationKey> {
    let has_id = |key: &&VerificationKey| key.id.as_deref() == kid;
    if kid.is_none() && keys.len() == 1 {
        return keys;
    }
    if keys.iter().any(has_id) {
        keys.retain(has_id);
    } else {
        keys.retain(|key| key.id.is_none());
    }
    keys
}

/// The token in `Bearer <token>`. The scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer_token(authorization: Option<&str>) -> Result<&str, TokenError> {
    let parts = authorization.and_then(|header| header.split_once(' '));
    let (scheme, token) = parts.ok_or(TokenError::MissingToken)?;
    let token = token.trim_start_matches(' ');
    if token.is_empty() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::MissingToken);
    }
    Ok(token)
}

fn no_key() -> ConfigError {
    ConfigError::new(
        "JWT_SECRET",
        "is not set, and no other key is; set JWT_SECRET_ARN, JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS \
         or JWT_JWKS_URL",
    )
}

/// Whether the table is on this machine, or the function runs in a container of `sam local`, which sets
/// `AWS_SAM_LOCAL`.
fn is_local(env: impl Fn(&str) -> Option<String>) -> bool {
    let endpoint = env("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| env("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.and_then(|url| Url::parse(&url).ok());
    endpoint.is_some_and(|url| is_loopback(&url) || env("AWS_SAM_LOCAL").as_deref() == Some("true"))
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn refuse_development_secret(env: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    for variable in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
        if let Some(secret) = env(variable) {
            let result = check_not_development_secret(&secret);
            result.map_err(|problem| ConfigError::new(variable, problem))?;
        }
    }
    Ok(())
}

/// An error and its causes, on one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let errors = successors(Some(error), |error| (*error).source());
    let errors: Vec<_> = errors.map(ToString::to_string).collect();
    errors.join(": ").replace(char::is_control, " ")
}
