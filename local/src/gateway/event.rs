//! Builds the event (payload format 2.0) that a function receives for an HTTP request.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header, request},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chat_shared::domain::Timestamp;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::routing::decode;
use crate::{lambda::new_trace_id, template::Route};

/// The event for a request to `route`.
pub(super) fn build_event(
    parts: &request::Parts,
    body: &Bytes,
    route: &Route,
    path_parameters: Map<String, Value>,
    request_id: &str,
    source_ip: &str,
) -> Value {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for name in parts.headers.keys().filter(|name| *name != header::COOKIE) {
        let values = parts.headers.get_all(name).iter().map(header_text);
        headers.insert(name.as_str(), values.collect::<Vec<_>>().join(","));
    }
    headers.insert("x-forwarded-for", source_ip.to_owned());
    headers.insert("x-forwarded-port", "443".to_owned());
    headers.insert("x-forwarded-proto", "https".to_owned());
    headers.insert("x-amzn-trace-id", new_trace_id());
    let query = parts.uri.query().unwrap_or_default();
    let path = decode(parts.uri.path());
    let user_agent = headers.get("user-agent").cloned().unwrap_or_default();
    let host = headers.get("host").cloned().unwrap_or_default();
    let route_key = format!("{} {}", route.method, route.path);
    let now = Timestamp::now();
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.split(['.', ':']).next(),
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", parts.version),
                "sourceIp": source_ip,
                "userAgent": user_agent,
            },
            "requestId": request_id,
            "routeKey": route_key,
            "stage": "$default",
            "time": common_log_time(now),
            "timeEpoch": now.millis(),
        },
        "isBase64Encoded": false,
    });
    let cookies = parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(header_text);
    let cookies: Vec<_> = cookies
        .flat_map(|header| header.split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !query.is_empty() {
        event["queryStringParameters"] = json!(query_parameters(query));
    }
    if !path_parameters.is_empty() {
        event["pathParameters"] = path_parameters.into();
    }
    if !body.is_empty() {
        if let (Ok(text), true) = (std::str::from_utf8(body), is_text(&parts.headers)) {
            event["body"] = text.into();
        } else {
            event["body"] = BASE64.encode(body).into();
            event["isBase64Encoded"] = true.into();
        }
    }
    event
}

/// A header's value as text. Bytes that are not UTF-8 are read as Latin-1, because API Gateway does
/// not document their encoding.
pub(crate) fn header_text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect(),
    }
}

/// The decoded query parameters. The values of a repeated parameter are joined with commas.
pub(crate) fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    parameters
}

/// Whether API Gateway passes a body to the function as text, depending on its content type.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let content_type = header_text(content_type).to_ascii_lowercase();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.starts_with("text/")
        || [
            "application/json",
            "application/javascript",
            "application/xml",
        ]
        .contains(&essence)
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}

/// A time in the Common Log Format, as in the request context.
pub(crate) fn common_log_time(time: Timestamp) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    time.format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;

    use super::*;
    use crate::gateway::routing::{match_path, segments};

    fn event_for(request: request::Builder, body: &'static [u8]) -> Value {
        let route = Route {
            method: "GET".to_owned(),
            path: "/a/{b}".to_owned(),
            binary: "a".to_owned(),
        };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let parameters = match_path(&segments(&route.path), parts.uri.path()).unwrap_or_default();
        build_event(
            &parts,
            &Bytes::from_static(body),
            &route,
            parameters,
            "id",
            "127.0.0.1",
        )
    }

    #[test]
    fn an_event_joins_repeated_values_and_decodes_the_path_but_not_the_query_string() {
        let request = Request::get("http://x.example/a/b%20c?q=%20x&q=y&z")
            .header("X-Twice", "1")
            .header("x-twice", "2")
            .header("x-forwarded-for", "6.6.6.6")
            .header("cookie", "a=1; b=2");
        let event = event_for(request, b"");
        assert_eq!(event["rawPath"], "/a/b c");
        assert_eq!(event["pathParameters"], json!({"b": "b c"}));
        assert_eq!(event["rawQueryString"], "q=%20x&q=y&z");
        assert_eq!(
            event["queryStringParameters"],
            json!({"q": " x,y", "z": ""})
        );
        assert_eq!(event["headers"]["x-twice"], "1,2");
        assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"].get("cookie"), None);
        assert_eq!(event["routeKey"], "GET /a/{b}");
        assert_eq!(event.get("body"), None);
        assert_eq!(event["isBase64Encoded"], false);
    }

    #[test]
    fn a_body_that_is_not_text_is_base64_encoded() {
        let post = |content_type: &str| Request::post("/a/b").header("content-type", content_type);
        let json = event_for(post("application/json; charset=utf-8"), b"{}");
        assert_eq!(
            (&json["body"], &json["isBase64Encoded"]),
            (&json!("{}"), &json!(false))
        );
        let invalid_utf8 = event_for(post("application/json"), b"\xff");
        assert_eq!(
            (&invalid_utf8["body"], &invalid_utf8["isBase64Encoded"]),
            (&json!("/w=="), &json!(true))
        );
        let binary = event_for(post("application/octet-stream"), b"{}");
        assert_eq!(
            (&binary["body"], &binary["isBase64Encoded"]),
            (&json!("e30="), &json!(true))
        );
    }

    #[test]
    fn the_time_is_in_the_common_log_format() {
        let time = Timestamp::from_millis(1_767_225_600_000);
        assert_eq!(common_log_time(time), "01/Jan/2026:00:00:00 +0000");
    }
}
