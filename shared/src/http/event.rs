//! Converts events of an API Gateway HTTP API (payload format 2.0) to `http::Request`, and `http::Response`
//! to the payload that API Gateway expects, with the event types of `lambda_http`.
//!
//! # Why there is a guard
//!
//! Every request must get a response that says what is wrong with it. `lambda_http` 1.3 alone cannot
//! guarantee that. Its conversion panics if the path, query string or `Host` header contains characters
//! that a URI does not allow, or if a body is marked as base64 and is not. Its deserializer rejects the
//! whole event because of one control character in a header, one unexpected `null`, or one unusual value
//! in a member that this API does not use. Lambda would then return a 500.
//!
//! [`to_request`] therefore reads only the members that the API needs, with `null` as absent, and passes
//! them to the conversion of `lambda_http` in a form that cannot fail:
//!
//! | Member | Guard |
//! |---|---|
//! | `rawPath`, `rawQueryString` | characters that a URI does not allow are percent-encoded |
//! | header values | control characters become U+FFFD, which no header of this API allows |
//! | header names that HTTP does not allow | ignored, because this API has no such headers |
//! | `Host`, `X-Forwarded-Proto` | ignored: they would only become a part of the URI, which no handler reads |
//! | `body` | base64 is decoded later, after authentication ([`Base64Body`]) |
//! | `requestContext` | method and route key can be absent: the `routeKey` of the event contains both |
//!
//! An event with a member of the wrong type is a 400.
//!
//! The members are not read as `serde_json::Value`, because that type gives a special meaning to a member
//! called `$serde_json::private::RawValue`, and clients choose the names of headers and parameters.

use std::collections::{BTreeMap, HashMap};

use lambda_http::{
    Body,
    aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response},
    request::LambdaRequest,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

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

/// Marks a request whose body is still encoded as base64. It is decoded after authentication, so that an
/// invalid body is reported only to authenticated callers, like other invalid bodies.
#[derive(Clone, Copy)]
pub(super) struct Base64Body;

/// The members of an event that the API needs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    route_key: Option<String>,
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    headers: Option<BTreeMap<String, Option<String>>>,
    path_parameters: Option<HashMap<String, Option<String>>>,
    request_context: Option<EventContext>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventContext {
    route_key: Option<String>,
    http: Option<EventHttp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventHttp {
    method: Option<String>,
}

/// Converts the JSON text of an event.
///
/// # Errors
/// [`Error::InvalidRequest`] if the event cannot be read. The message does not contain the reason, because
/// that would repeat the input.
pub(super) fn to_request(event: &str) -> Result<Request<Body>, Error> {
    let unreadable = || Error::invalid("the request cannot be read; check its method and headers");
    let event: Event = serde_json::from_str(event).map_err(|_| unreadable())?;
    let context = event.request_context.unwrap_or_default();
    let route_key = event.route_key.or(context.route_key).unwrap_or_default();
    let method = context.http.unwrap_or_default().method;
    let method = method.filter(|method| !method.is_empty());
    // `ANY` is not a method of a request, so the context has a method if the route key starts with `ANY`.
    let method = method.as_deref().or(route_key.split(' ').next());
    let method = Method::from_bytes(method.unwrap_or_default().as_bytes());

    let mut request = ApiGatewayV2httpRequest::default();
    request.raw_path = Some(encode(event.raw_path.as_deref().unwrap_or("/"), "/"));
    request.raw_query_string = event.raw_query_string.map(|query| encode(&query, ""));
    let uri_parts = [&request.raw_path, &request.raw_query_string];
    let uri_length: usize = uri_parts.into_iter().flatten().map(String::len).sum();
    if uri_length > MAX_URI_BYTES {
        return Err(Error::invalid("the path and the query are too long"));
    }
    request.headers = readable_headers(event.headers.unwrap_or_default()).ok_or_else(unreadable)?;
    let parameters = event.path_parameters.unwrap_or_default().into_iter();
    request.path_parameters = parameters
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    request.request_context.route_key = Some(route_key);
    request.request_context.http.method = method.map_err(|_| unreadable())?;
    request.body = event.body;
    let mut request = Request::from(LambdaRequest::ApiGatewayV2(request));
    if event.is_base64_encoded == Some(true) {
        request.extensions_mut().insert(Base64Body);
    }
    Ok(request)
}

/// Converts a response to the payload that API Gateway expects.
pub(super) fn from_response(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let mut payload = ApiGatewayV2httpResponse::default();
    payload.status_code = i64::from(parts.status.as_u16());
    payload.headers = parts.headers;
    payload.body = (!body.is_empty()).then_some(body);
    payload
}

/// Percent-encodes a part of a URI, and adds `prefix` if it is missing.
fn encode(text: &str, prefix: &str) -> String {
    let mut encoded = utf8_percent_encode(text, NOT_ALLOWED_IN_URI).to_string();
    if !encoded.starts_with(prefix) {
        encoded.insert_str(0, prefix);
    }
    encoded
}

/// The headers that a handler can read, or `None` if there are more than a `HeaderMap` supports.
fn readable_headers(headers: BTreeMap<String, Option<String>>) -> Option<HeaderMap> {
    let is_control = |c: char| c.is_ascii_control() && c != '\t';
    let mut readable = HeaderMap::new();
    for (name, value) in headers {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        if ["host", "x-forwarded-proto"].contains(&name.as_str()) {
            continue;
        }
        let value = value.map(|value| value.replace(is_control, "\u{fffd}"));
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            readable.try_insert(name, value).ok()?;
        }
    }
    Some(readable)
}

#[cfg(test)]
mod tests {
    use lambda_http::RequestExt;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::{header, route};

    fn event() -> Value {
        json!({
            "version": "2.0",
            "path": "/",
            "httpMethod": "GET",
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
            "body": "{}",
            "isBase64Encoded": false,
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
        assert_eq!(request.body().as_ref(), b"{}");
        assert!(request.extensions().get::<Base64Body>().is_none());
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
    fn a_base64_body_is_marked_and_not_decoded() {
        let mut event = event();
        event["isBase64Encoded"] = true.into();
        for body in ["aGk=", "*"] {
            event["body"] = body.into();
            let request = convert(&event).unwrap();
            assert!(request.extensions().get::<Base64Body>().is_some());
            assert_eq!(request.body().as_ref(), body.as_bytes());
        }
    }

    #[test]
    fn members_that_the_api_does_not_read_are_ignored() {
        for (name, value) in [
            ("path", json!(":x")),
            ("path", json!("<".repeat(100_000))),
            ("httpMethod", json!("G T")),
            ("cookies", json!("text")),
            (
                "queryStringParameters",
                json!({"$serde_json::private::RawValue": "x"}),
            ),
            ("stageVariables", json!(5)),
            ("multiValueHeaders", json!(true)),
        ] {
            let mut event = event();
            event[name] = value;
            assert_eq!(
                convert(&event).unwrap().uri(),
                "/chats/1-2/messages?limit=5"
            );
        }
        for (name, value) in [
            ("authorizer", json!({"jwt": {"claims": {"sub": 1}}})),
            ("authorizer", json!({"iam": {"cognitoIdentity": {}}})),
            ("timeEpoch", json!("never")),
            ("stage", json!(5)),
            ("authentication", json!({"clientCert": {}})),
        ] {
            let mut event = event();
            event["requestContext"][name] = value;
            assert!(convert(&event).is_ok(), "{name}");
        }
        let mut event = event();
        event["headers"]["$serde_json::private::RawValue"] = "x".into();
        event["pathParameters"]["$serde_json::private::RawValue"] = "x".into();
        assert!(convert(&event).is_ok());
    }

    #[test]
    fn an_unreadable_event_is_an_invalid_request() {
        let mut long_query = event();
        long_query["rawQueryString"] = "\u{20ac}".repeat(10_000).into();
        let mut wrong_headers = event();
        wrong_headers["headers"] = "text".into();
        let mut many_headers = event();
        for n in 0..40_000 {
            many_headers["headers"][format!("x-{n}")] = "x".into();
        }
        let mut wrong_method = event();
        wrong_method["requestContext"]["http"]["method"] = "G T".into();
        let mut wrong_context = event();
        wrong_context["requestContext"] = json!("text");
        for event in [
            json!("text"),
            json!({}),
            long_query,
            wrong_headers,
            many_headers,
            wrong_method,
            wrong_context,
        ] {
            let error = convert(&event).unwrap_err();
            assert!(matches!(error, Error::InvalidRequest(_)));
        }
        // A lone surrogate in the JSON text.
        let error = to_request(r#"{"routeKey":"GET \ud800"}"#).unwrap_err();
        assert!(matches!(error, Error::InvalidRequest(_)));
    }

    #[test]
    fn an_empty_body_is_absent_from_the_payload() {
        let payload = |body: Body| {
            let response = Response::builder().status(204).header("allow", "GET");
            serde_json::to_value(from_response(response.body(body).unwrap())).unwrap()
        };
        let empty = payload(Body::Empty);
        assert_eq!(empty["statusCode"], 204);
        assert_eq!(empty["headers"], json!({"allow": "GET"}));
        assert_eq!(empty.get("body"), None);
        assert_eq!(payload("hi".into())["body"], "hi");
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
