//! Decides whether a handshake is accepted: the origin, the protocol and the access token.
//!
//! A browser cannot set headers of a handshake, so it sends the token as one of the offered protocols:
//! `new WebSocket(url, ["chat.v1", token])`. The server selects `chat.v1`, so the token is in no response. Other
//! clients may send the token in the header `Authorization`. A token in the URL would be written to logs.

use serde::Serialize;
use serde_json::{Value, json};

use super::{event::AuthorizerEvent, protocol::PROTOCOL};
use crate::{
    auth::{Authenticator, TokenError, VerifiedToken},
    domain::Timestamp,
};

/// Names of protocols of this service start with this. Any other offered protocol is the token.
const PROTOCOL_PREFIX: &str = "chat.";

/// The origins whose pages may open connections.
pub(super) struct AllowedOrigins(Vec<String>);

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("pages of this origin are not allowed to connect")]
    Origin,
    #[error("the client does not offer the protocol chat.v1")]
    Protocol,
    #[error("the access token is missing or not valid")]
    Token(TokenError),
}

impl HandshakeError {
    /// Why the access token is refused.
    pub fn token_error(self) -> Option<TokenError> {
        match self {
            Self::Token(error) => Some(error),
            Self::Origin | Self::Protocol => None,
        }
    }
}

impl AllowedOrigins {
    /// Reads `ALLOWED_ORIGINS`: origins separated by commas, or `*`, `http://*` and `https://*` as in the CORS
    /// settings of API Gateway. If it is not set, every origin is allowed.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let origins = env("ALLOWED_ORIGINS").unwrap_or_default();
        let origins = origins.split(',').map(str::trim);
        let mut origins: Vec<_> = origins
            .filter(|origin| !origin.is_empty())
            .map(str::to_owned)
            .collect();
        if origins.is_empty() {
            origins.push("*".to_owned());
        }
        Self(origins)
    }

    /// Apps and servers send no origin.
    fn allow(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.0.iter().any(|allowed| match allowed.as_str() {
            "*" => true,
            "http://*" | "https://*" => origin.starts_with(allowed.trim_end_matches('*')),
            allowed => allowed.eq_ignore_ascii_case(origin),
        })
    }
}

/// Checks a handshake.
pub(super) async fn authorize(
    event: &AuthorizerEvent,
    origins: &AllowedOrigins,
    authenticator: &Authenticator,
    now: Timestamp,
) -> Result<VerifiedToken, HandshakeError> {
    if !origins.allow(event.header("Origin")) {
        return Err(HandshakeError::Origin);
    }
    let offered = event.header("Sec-WebSocket-Protocol").unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) = offered
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
        .partition(|protocol| protocol.starts_with(PROTOCOL_PREFIX));
    if !own.contains(&PROTOCOL) {
        return Err(HandshakeError::Protocol);
    }
    let verified = match others[..] {
        [] => {
            let authorization = event.header("Authorization");
            authenticator.authenticate(authorization, now).await
        }
        [token] => authenticator.authenticate_token(token, now).await,
        _ => Err(TokenError::Malformed),
    };
    verified.map_err(HandshakeError::Token)
}

/// The response of a REQUEST authorizer: a policy, and the context that the events of the connection contain.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorizerResponse {
    principal_id: String,
    policy_document: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Value>,
}

impl AuthorizerResponse {
    /// Without a verified token, API Gateway refuses the handshake with 403. That is better than an error of the
    /// function, which would result in a 401: everybody can cause it, and it would set off an alarm.
    pub fn new(method_arn: &str, token: Option<VerifiedToken>) -> Self {
        let effect = if token.is_some() { "Allow" } else { "Deny" };
        let user = token.map_or("anonymous".to_owned(), |token| token.user.to_string());
        Self {
            policy_document: json!({
                "Version": "2012-10-17",
                "Statement": [
                    {"Action": "execute-api:Invoke", "Effect": effect, "Resource": method_arn},
                ],
            }),
            // API Gateway accepts strings, numbers and booleans, and passes all of them on as strings.
            context: token.map(|token| {
                json!({
                    "userId": user,
                    "tokenExpiresAt": token.expires_at.seconds().to_string(),
                })
            }),
            principal_id: user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_exactly_or_by_its_scheme_and_a_missing_one_always() {
        let allows = |setting: &str, origin: Option<&str>| {
            let origins = AllowedOrigins::from_env(|_| Some(setting.to_owned()));
            origins.allow(origin)
        };
        let app = Some("https://app.example.com");
        for setting in [
            "",
            "*",
            " https://app.example.com ",
            "https://a.example,https://app.example.com",
            "https://*",
        ] {
            assert!(allows(setting, app), "{setting}");
            assert!(allows(setting, None), "{setting}");
        }
        for setting in [
            "http://*",
            "https://app.example.co",
            "https://example.com",
            "https://app*",
            "http://app.example.com",
        ] {
            assert!(!allows(setting, app), "{setting}");
            assert!(allows(setting, None), "{setting}");
        }
        assert!(AllowedOrigins::from_env(|_| None).allow(app));
        assert!(!allows("https://app.example.com", Some("null")));
    }

    #[test]
    fn a_refused_handshake_has_a_policy_that_denies_and_no_context() {
        let response = serde_json::to_value(AuthorizerResponse::new("arn", None)).unwrap();
        assert_eq!(response["policyDocument"]["Statement"][0]["Effect"], "Deny");
        assert_eq!(response.get("context"), None);
    }
}
