//! Access tokens, right and wrong in every way, made without the code under test.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chat_shared::domain::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

/// Seconds since 1970 UTC.
pub fn now() -> u64 {
    Timestamp::now().seconds()
}

/// A token that the API takes.
pub fn valid(user: u64) -> String {
    sign(&claims(user))
}

/// The claims of [`valid`], to be changed.
pub fn claims(user: u64) -> Value {
    json!({"sub": user.to_string(), "exp": now() + 3_600})
}

/// A token with these claims, signed as the API wants it.
pub fn sign(claims: &Value) -> String {
    sign_as(
        &json!({"alg": "HS256", "typ": "JWT"}),
        claims,
        hmac::HMAC_SHA256,
        &super::secret(),
    )
}

/// A token with this header and these claims, signed with any algorithm and secret.
pub fn sign_as(header: &Value, claims: &Value, by: hmac::Algorithm, secret: &str) -> String {
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(by, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(tag))
}
