//! Converts events of an API Gateway HTTP API (payload format 2.0) to `http::Request`, and `http::Response`
//! to the payload that API Gateway expects, with the event types of `lambda_http`.
//!
//! # Why there is a guard
//!
//! Every request must get a response that says what is wrong with it. `lambda_http` 1.3 alone cannot
//! guarantee that:
//!
//! - its conversion panics if the path, query string or `Host` header contains characters that a URI does
//!   not allow, or if a body is marked as base64 and is not;
//! - its deserializer rejects the whole event if a header value contains a control character, or if a
//!   member is `null` that it expects to be absent. Lambda would then return a 500.
//!
//! [`to_request`] therefore reads the event as JSON, repairs what does not change the meaning of the
//! request, and only then converts it:
//!
//! | Part of the event | Repair |
//! |---|---|
//! | `null` at any depth | removed |
//! | `rawPath`, `rawQueryString` | characters that a URI does not allow are percent-encoded |
//! | header values | control characters become U+FFFD, which no header of this API allows |
//! | header names that HTTP does not allow | removed, because this API cannot read them |
//! | `Host`, `X-Forwarded-Proto`, `domainName`, `stage` | removed: they would only become a part of the URI, which no handler reads |
//! | `queryStringParameters` | removed: handlers parse the query string |
//! | `requestContext` | completed with the method and route key of the event, for callers that send a short event |
//!
//! An event that cannot be read after that is a 400. `aws_lambda_events` parses more members than this
//! API needs; that costs 0.03 ms per request (`docs/performance.md`).

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_http::{
    Body,
    aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    http::{HeaderName, Request, Response},
    request::LambdaRequest,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::Error;

/// Characters to encode in a path or query: all but those that RFC 3986 allows there. `%` is kept,
/// because the text may be encoded already.
const NOT_ALLOWED_IN_URI: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'%')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b'?');

/// The maximum length of an encoded path and query. `http::Uri` supports 65,534 bytes; API Gateway limits
/// the request line and all headers together to 10,240.
const MAX_URI_BYTES: usize = 60_000;

/// Converts the JSON text of an event.
///
/// # Errors
/// [`Error::InvalidRequest`] if the event cannot be read.
pub(super) fn to_request(event: &str) -> Result<Request<Body>, Error> {
    let unreadable =
        |error: serde_json::Error| Error::invalid(format!("the request cannot be read: {error}"));
    let mut event: Value = serde_json::from_str(event).map_err(unreadable)?;
    remove_nulls(&mut event);
    let Value::Object(members) = &mut event else {
        return Err(Error::invalid("the event must be a JSON object"));
    };
    repair(members)?;
    let event: ApiGatewayV2httpRequest = serde_json::from_value(event).map_err(unreadable)?;
    Ok(LambdaRequest::ApiGatewayV2(event).into())
}

/// Converts a response to the payload that API Gateway expects.
pub(super) fn from_response(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let mut payload = ApiGatewayV2httpResponse::default();
    payload.status_code = i64::from(parts.status.as_u16());
    payload.headers = parts.headers;
    payload.is_base64_encoded = matches!(body, Body::Binary(_));
    payload.body = Some(body);
    payload
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(remove_nulls);
        }
        _ => {}
    }
}

fn repair(event: &mut Map<String, Value>) -> Result<(), Error> {
    event.remove("queryStringParameters");
    let mut uri_length = 0;
    for name in ["rawPath", "rawQueryString"] {
        if let Some(Value::String(text)) = event.get_mut(name) {
            if let Cow::Owned(encoded) = utf8_percent_encode(text, NOT_ALLOWED_IN_URI).into() {
                *text = encoded;
            }
            uri_length += text.len();
        }
    }
    if uri_length > MAX_URI_BYTES {
        return Err(Error::invalid("the path and query are too long"));
    }
    if let Some(Value::String(path)) = event.get_mut("rawPath")
        && !path.starts_with('/')
    {
        path.insert(0, '/');
    }
    if let Some(Value::Object(headers)) = event.get_mut("headers") {
        headers.retain(|name, _| is_readable_header(name));
        headers.values_mut().for_each(replace_control_characters);
    }
    if event.get("isBase64Encoded") == Some(&Value::Bool(true))
        && let Some(Value::String(body)) = event.get("body")
        && STANDARD.decode(body).is_err()
    {
        return Err(Error::invalid("the body is not valid base64"));
    }
    complete_request_context(event)
}

fn is_readable_header(name: &str) -> bool {
    let is_part_of_uri = ["host", "x-forwarded-proto"]
        .iter()
        .any(|header| header.eq_ignore_ascii_case(name));
    !is_part_of_uri && HeaderName::from_bytes(name.as_bytes()).is_ok()
}

fn replace_control_characters(value: &mut Value) {
    let is_control = |c: char| c.is_ascii_control() && c != '\t';
    if let Value::String(text) = value
        && text.contains(is_control)
    {
        *text = text.replace(is_control, "\u{fffd}");
    }
}

/// `lambda_http` requires `requestContext.http.method` and reads the route key from `requestContext`.
fn complete_request_context(event: &mut Map<String, Value>) -> Result<(), Error> {
    let route_key = event.get("routeKey").cloned().unwrap_or_default();
    let route_key = route_key.as_str().unwrap_or_default().to_owned();
    let context = object_member(event, "requestContext")?;
    context.remove("domainName");
    context.remove("stage");
    if !context.contains_key("routeKey") {
        if route_key.is_empty() {
            return Err(Error::invalid("the event has no `routeKey`"));
        }
        context.insert("routeKey".to_owned(), route_key.clone().into());
    }
    let http = object_member(context, "http")?;
    if http.get("method").is_none_or(|method| method == "") {
        let method = route_key.split(' ').next().unwrap_or_default();
        http.insert("method".to_owned(), method.into());
    }
    Ok(())
}

/// The object under a name, which is created if it is absent.
fn object_member<'a>(
    parent: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>, Error> {
    let member = parent.entry(name).or_insert_with(|| Map::new().into());
    let object = member.as_object_mut();
    object.ok_or_else(|| Error::invalid(format!("`{name}` of the event must be an object")))
}

#[cfg(test)]
mod tests {
    use lambda_http::RequestExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::http::request::{header, route};

    fn event() -> Value {
        json!({
            "version": "2.0",
            "routeKey": "GET /chats/{chatId}/messages",
            "rawPath": "/chats/1-2/messages",
            "rawQueryString": "limit=5",
            "headers": {"authorization": "Bearer x", "Host": "localhost:3000", "x-a": "b"},
            "queryStringParameters": {"limit": "5"},
            "pathParameters": {"chatId": "1-2"},
            "cookies": ["a=b"],
            "stageVariables": {"a": "b"},
            "requestContext": {
                "accountId": "0", "apiId": "local", "domainName": "localhost",
                "authorizer": {"jwt": {"claims": {"sub": "1"}, "scopes": ["a"]}},
                "http": {"method": "GET", "path": "/chats/1-2/messages", "protocol": "HTTP/1.1",
                         "sourceIp": "127.0.0.1", "userAgent": "test"},
                "requestId": "id", "routeKey": "GET /chats/{chatId}/messages",
                "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1,
            },
            "body": "aGk=",
            "isBase64Encoded": true,
        })
    }

    fn convert(event: &Value) -> Result<Request<Body>, Error> {
        to_request(&event.to_string())
    }

    /// The JSON pointers of all members at any depth.
    fn pointers(value: &Value, prefix: &str) -> Vec<String> {
        let Value::Object(members) = value else {
            return Vec::new();
        };
        let nested = members.iter().flat_map(|(name, member)| {
            let pointer = format!("{prefix}/{name}");
            [vec![pointer.clone()], pointers(member, &pointer)].concat()
        });
        nested.collect()
    }

    #[test]
    fn an_event_becomes_a_request() {
        let request = convert(&event()).unwrap();
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri().path(), "/chats/1-2/messages");
        assert_eq!(request.uri().query(), Some("limit=5"));
        assert_eq!(route(&request), "GET /chats/{chatId}/messages");
        assert_eq!(header(&request, "authorization"), Some("Bearer x"));
        assert_eq!(request.path_parameters().first("chatId"), Some("1-2"));
        assert_eq!(request.body().as_ref(), b"hi");
    }

    #[test]
    fn null_is_the_same_as_absent_for_every_member() {
        for pointer in pointers(&event(), "") {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let (mut with_null, mut without) = (event(), event());
            *with_null.pointer_mut(&pointer).unwrap() = Value::Null;
            let parent = without.pointer_mut(parent).unwrap();
            parent.as_object_mut().unwrap().remove(name);
            let (with_null, without) = (convert(&with_null).unwrap(), convert(&without).unwrap());
            assert_eq!(with_null.uri(), without.uri(), "{pointer}");
            assert_eq!(with_null.method(), without.method(), "{pointer}");
            assert_eq!(with_null.headers(), without.headers(), "{pointer}");
            assert_eq!(with_null.body(), without.body(), "{pointer}");
            assert_eq!(route(&with_null), route(&without), "{pointer}");
            assert_eq!(
                with_null.path_parameters(),
                without.path_parameters(),
                "{pointer}"
            );
        }
    }

    #[test]
    fn every_character_is_possible_in_path_query_path_parameter_and_header() {
        let characters = (0..=255).map(|byte: u8| char::from(byte));
        for character in characters.chain(['\u{fffd}', '\u{1f600}', '\u{10ffff}']) {
            let mut event = event();
            event["rawPath"] = format!("/a{character}b").into();
            event["rawQueryString"] = format!("name=a{character}b&x=1").into();
            event["headers"]["x-a"] = format!("a{character}b").into();
            event["headers"][format!("x{character}y")] = "z".into();
            event["headers"]["host"] = format!("a{character}b").into();
            event["requestContext"]["stage"] = format!("a{character}b").into();
            event["pathParameters"]["chatId"] = format!("a{character}b").into();
            let request = convert(&event).unwrap();
            let text = format!("a{character}b");
            assert_eq!(request.path_parameters().first("chatId"), Some(&*text));
            let query = request.uri().query().unwrap();
            let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
            match character {
                // These have a meaning in a query.
                '&' | '%' | '+' => {}
                _ => assert_eq!(pairs[0].1, text, "{character:?}"),
            }
            assert_eq!(pairs.last().unwrap(), &("x".into(), "1".into()));
            let value = header(&request, "x-a").unwrap();
            if character.is_ascii_control() && character != '\t' {
                assert_eq!(value, "a\u{fffd}b", "{character:?}");
            } else {
                assert_eq!(value, text, "{character:?}");
            }
        }
    }

    #[test]
    fn an_event_without_request_context_takes_method_and_route_from_its_route_key() {
        let request = convert(&json!({"routeKey": "PUT /chats/{chatId}/accept"})).unwrap();
        assert_eq!(request.method(), "PUT");
        assert_eq!(route(&request), "PUT /chats/{chatId}/accept");
    }

    #[test]
    fn an_unreadable_event_is_an_invalid_request() {
        let mut wrong_base64 = event();
        wrong_base64["body"] = "*".into();
        let mut long_query = event();
        long_query["rawQueryString"] = "\u{20ac}".repeat(10_000).into();
        let mut wrong_headers = event();
        wrong_headers["headers"] = "text".into();
        let mut wrong_method = event();
        wrong_method["requestContext"]["http"]["method"] = "G T".into();
        let mut wrong_context = event();
        wrong_context["requestContext"] = json!([]);
        for event in [
            json!([]),
            json!("text"),
            json!({}),
            wrong_base64,
            long_query,
            wrong_headers,
            wrong_method,
            wrong_context,
        ] {
            let error = convert(&event).unwrap_err();
            assert!(matches!(error, Error::InvalidRequest(_)), "{event}");
        }
        // A lone surrogate in the JSON text.
        let error = to_request(r#"{"routeKey":"GET /chats","x":"\ud800"}"#).unwrap_err();
        assert!(matches!(error, Error::InvalidRequest(_)));
    }

    /// Any JSON value of limited depth.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_value_of_any_member_causes_a_panic(index in any::<prop::sample::Index>(), value in any_json()) {
            let mut event = event();
            let pointers = pointers(&event, "");
            *event.pointer_mut(&pointers[index.index(pointers.len())]).unwrap() = value;
            let result = convert(&event);
            let is_handled = matches!(result, Ok(_) | Err(Error::InvalidRequest(_)));
            prop_assert!(is_handled);
        }

        #[test]
        fn no_text_causes_a_panic(text in any::<String>()) {
            let _ = to_request(&text);
        }
    }
}
