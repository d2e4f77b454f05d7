//! Access tokens for development: signs JWTs (HS256) that the functions accept.
//!
//! In production another system signs the tokens. The functions' `jsonwebtoken` provider only
//! verifies, so that no signing code is compiled into a function; HS256 needs only an HMAC,
//! which `ring` provides.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chat_shared::domain::UserId;
use ring::hmac;
use serde_json::{Map, Value, json};

const DEFAULT_TYP: &str = "JWT";
const DEFAULT_USER_CLAIM: &str = "sub";

/// Signs access tokens with the functions' own secret.
pub struct TokenSigner {
    key: hmac::Key,
    typ: String,
    user_claim: String,
    /// The claims of each token besides the user and the expiry: `iss`, `aud` and `token_use`.
    claims: Map<String, Value>,
}

impl TokenSigner {
    /// Reads the environment variables of the functions' authenticator: `JWT_SECRET`,
    /// `JWT_USER_CLAIM`, `JWT_ISSUER`, `JWT_AUDIENCE`, `JWT_TOKEN_USE` and `JWT_TYP`. An empty variable
    /// counts as not set. Of several issuers or audiences, the tokens have the first.
    ///
    /// Returns `None` without `JWT_SECRET`: tokens for a public key can only be signed by the owner
    /// of the private key.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let non_empty = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first_item = |name: &str| {
            let list = variable(name)?;
            let mut items = list.split(',').map(str::trim);
            items.find(|item| !item.is_empty()).map(str::to_owned)
        };
        let secret = non_empty("JWT_SECRET")?;
        let claims = [
            ("iss", first_item("JWT_ISSUER")),
            ("aud", first_item("JWT_AUDIENCE")),
            ("token_use", non_empty("JWT_TOKEN_USE")),
        ];
        let claims = claims
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            typ: non_empty("JWT_TYP").unwrap_or_else(|| DEFAULT_TYP.to_owned()),
            user_claim: non_empty("JWT_USER_CLAIM")
                .unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
            claims: claims.collect(),
        })
    }

    /// A token for `user` that is valid until `expires_at`, in seconds since 1970 UTC.
    #[must_use]
    pub fn sign(&self, user: UserId, expires_at: u64) -> String {
        let header = json!({"alg": "HS256", "typ": self.typ}).to_string();
        let mut claims = self.claims.clone();
        claims.insert(self.user_claim.clone(), user.to_string().into());
        claims.insert("exp".to_owned(), expires_at.into());
        let claims = Value::Object(claims).to_string();
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
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
        let user = authenticator.verify(Some(&format!("Bearer {token}")), Timestamp::now());
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
            vec![
                secret,
                (
                    "JWT_ISSUER",
                    " , https://id.example , https://new-id.example",
                ),
                ("JWT_AUDIENCE", "chat,other"),
            ],
            vec![secret, ("JWT_TOKEN_USE", "access")],
            vec![secret, ("JWT_TYP", "at+jwt")],
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
