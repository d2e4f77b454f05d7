//! Builds HTTP responses: from a function's response payload, and the gateway's own error responses.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::json;

/// A function's response payload (payload format 2.0).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionResponse {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The HTTP response for a function's response payload, or `None` if API Gateway would reject the
/// payload.
pub(super) fn from_function(payload: &[u8]) -> Option<Response<Body>> {
    let function: FunctionResponse = serde_json::from_slice(payload).ok()?;
    let body = function.body.unwrap_or_default();
    let body = if function.is_base64_encoded {
        BASE64.decode(body).ok()?
    } else {
        body.into_bytes()
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(function.status_code).ok()?;
    let cookies = function
        .cookies
        .into_iter()
        .map(|cookie| ("set-cookie".to_owned(), cookie));
    for (name, value) in function.headers.into_iter().chain(cookies) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response
            .headers_mut()
            .append(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}

/// An error response of the gateway itself. Its body has only the field `message`.
pub(crate) fn gateway_error(status: StatusCode) -> Response<Body> {
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or_default(),
    };
    let mut response = Response::new(Body::from(json!({"message": message}).to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_function_response_is_converted_and_an_invalid_one_is_rejected() {
        let payload = br#"{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=d"],"body":"aGk=","isBase64Encoded":true}"#;
        let response = from_function(payload).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["x-a"], "b");
        assert_eq!(response.headers()["set-cookie"], "c=d");
        for invalid in [
            &b"{}"[..],
            b"null",
            br#"{"statusCode":9}"#,
            br#"{"statusCode":200,"headers":{"a b":"c"}}"#,
        ] {
            assert!(from_function(invalid).is_none());
        }
    }
}
