//! Access tokens for development: signs JWTs (HS256) that the functions accept.
//!
//! In production another system signs the tokens. The functions' `jsonwebtoken` provider only
//! verifies, so that no signing code is compiled into a function; HS256 needs only an HMAC,
//! which `ring` provides.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chat_shared::domain::UserId;
use ring::hmac;
use serde_json::{Map, Value};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const DEFAULT_USER_CLAIM: &str = "sub";

/// Signs access tokens with the functions' own secret.
pub struct TokenSigner {
    key: hmac::Key,
    user_claim: String,
    issuer: Option<String>,
    audience: Option<String>,
}

impl TokenSigner {
    /// Reads the environment variables of the functions' authenticator: `JWT_SECRET`,
    /// `JWT_USER_CLAIM`, `JWT_ISSUER` and `JWT_AUDIENCE`. An empty variable counts as not set.
    ///
    /// Returns `None` without `JWT_SECRET`: tokens for a public key can only be signed by the owner
    /// of the private key.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let non_empty = |name: &str| variable(name).filter(|value| !value.is_empty());
        let secret = non_empty("JWT_SECRET")?;
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            user_claim: non_empty("JWT_USER_CLAIM")
                .unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
            issuer: non_empty("JWT_ISSUER"),
            audience: non_empty("JWT_AUDIENCE"),
        })
    }

    /// A token for `user` that is valid until `expires_at`, in seconds since 1970 UTC.
    #[must_use]
    pub fn sign(&self, user: UserId, expires_at: u64) -> String {
        let mut claims = Map::new();
        claims.insert(self.user_claim.clone(), user.to_string().into());
        claims.insert("exp".to_owned(), expires_at.into());
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.clone().into());
            }
        }
        let claims = Value::Object(claims).to_string();
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use chat_shared::{auth::Authenticator, domain::Timestamp};

    use super::*;
    use crate::DEVELOPMENT_SECRET;

    fn authenticated_user(token: &str, variables: &[(&str, &str)]) -> Option<u64> {
        let authenticator = Authenticator::from_env(|name| lookup(variables, name)).unwrap();
        let user = authenticator.authenticate(Some(&format!("Bearer {token}")));
        user.ok().map(UserId::get)
    }

    fn lookup(variables: &[(&str, &str)], name: &str) -> Option<String> {
        let variable = variables.iter().find(|(variable, _)| *variable == name)?;
        Some(variable.1.to_owned())
    }

    #[test]
    fn the_functions_accept_a_token_for_their_configuration_until_it_expires() {
        let (user, now) = (UserId::new(42).unwrap(), Timestamp::now().seconds());
        let secret = ("JWT_SECRET", DEVELOPMENT_SECRET);
        for variables in [
            vec![secret],
            vec![secret, ("JWT_ISSUER", "https://id.example")],
            vec![secret, ("JWT_AUDIENCE", "chat")],
            vec![secret, ("JWT_USER_CLAIM", "https://app.example/user")],
            vec![secret, ("JWT_ISSUER", "")],
        ] {
            let signer = TokenSigner::from_env(|name| lookup(&variables, name)).unwrap();
            let token = signer.sign(user, now + 60);
            assert_eq!(authenticated_user(&token, &variables), Some(42));
            let expired = signer.sign(user, now - 60);
            assert_eq!(authenticated_user(&expired, &variables), None);
        }
    }

    #[test]
    fn without_a_secret_there_is_no_signer() {
        assert!(TokenSigner::from_env(|_| None).is_none());
        assert!(TokenSigner::from_env(|_| Some(String::new())).is_none());
    }
}
