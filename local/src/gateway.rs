//! Serves the template's routes as an API Gateway HTTP API does (payload format 2.0).
//!
//! Taken over from the real one: path parameters and `rawPath` are decoded, the query string is not;
//! header names are lower-case and repeated headers and query parameters joined with commas; bodies
//! that are not text are base64; limits on headers and bodies; CORS; its own answers, which carry only
//! `message`; and that a client hears nothing of why a function failed.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chat_shared::domain::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    Log,
    docs::Docs,
    lambda::{InvokeError, Invoked, Lambda, new_id, trace_id},
    template::{Cors, Route, Template},
};

/// API Gateway's limit on the request line and all headers.
const MAX_HEADER_BYTES: usize = 10_240;
/// API Gateway's limit on a body.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

struct Gateway {
    routes: Vec<(Route, Vec<Segment>)>,
    cors: Option<Cors>,
    lambda: Arc<Lambda>,
    docs: Docs,
    log: Log,
}

/// Serves until `stop` says otherwise, then lets the calls under way finish.
pub(crate) fn serve(
    listener: TcpListener,
    template: &Template,
    lambda: Arc<Lambda>,
    docs: Docs,
    log: Log,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let routes = template
        .routes
        .iter()
        .map(|route| (route.clone(), segments(&route.path)));
    let gateway = Gateway {
        routes: routes.collect(),
        cors: template.cors.clone(),
        lambda,
        docs,
        log,
    };
    let router = Router::new().fallback(handle).with_state(Arc::new(gateway));
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    async move {
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        let _ = axum::serve(listener, service)
            .with_graceful_shutdown(stopped)
            .await;
    }
}

async fn handle(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(client): ConnectInfo<std::net::SocketAddr>,
    request: Request,
) -> Result<Response<Body>, Infallible> {
    // A client that hangs up stops neither the call, as Lambda would finish it, too, nor its line in
    // the log.
    let answer = tokio::spawn(answer_and_log(gateway, client, request));
    let answer = answer.await;
    Ok(answer.unwrap_or_else(|_| message(StatusCode::INTERNAL_SERVER_ERROR)))
}

async fn answer_and_log(
    gateway: Arc<Gateway>,
    client: std::net::SocketAddr,
    request: Request,
) -> Response<Body> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    // Before all that a real gateway does: what is only here is for no other origin to read.
    if let Some(response) = gateway.docs.answer(&parts) {
        return response;
    }
    let origin = parts.headers.get(header::ORIGIN).cloned();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let request_id = new_id();
    let source = client.ip().to_string();
    let (mut response, note) = gateway
        .answer(parts, body, &request_id, &source, began)
        .await;
    if let Some(cors) = &gateway.cors {
        cors.allow(origin.as_ref(), response.headers_mut());
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("apigw-requestid", id);
    }
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    let status = response.status().as_u16();
    let now = Timestamp::now();
    (gateway.log)(&format!(
        "{now} {method} {path} {status} {took:.1} ms {note}"
    ));
    response
}

impl Gateway {
    /// The answer, and a note for the log.
    async fn answer(
        &self,
        parts: request::Parts,
        body: Body,
        request_id: &str,
        source: &str,
        began: Instant,
    ) -> (Response<Body>, String) {
        if header_bytes(&parts) > MAX_HEADER_BYTES {
            return own(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if let Some(preflight) = self.cors.as_ref().and_then(|cors| cors.preflight(&parts)) {
            return (preflight, "gateway: preflight".to_owned());
        }
        let Some((route, parameters)) = self.find(&parts.method, parts.uri.path()) else {
            return own(StatusCode::NOT_FOUND);
        };
        let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
            return own(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let event = event(&parts, &body, route, parameters, request_id, source);
        match self
            .lambda
            .invoke(&route.binary, event.to_string().into())
            .await
        {
            Ok(Invoked { reply, cold_start }) => {
                let note = match cold_start {
                    Some(start) => format!("{}, cold start {} ms", route.binary, start.as_millis()),
                    None => format!("{}, warm", route.binary),
                };
                response(&reply).map_or_else(
                    || {
                        failed(
                            &route.binary,
                            "its reply is not one that API Gateway understands",
                        )
                    },
                    |response| (response, note),
                )
            }
            Err(error @ InvokeError::TimedOut(_)) => {
                let waited = began.elapsed().as_secs();
                failed(&route.binary, format_args!("{error} (waited {waited} s)"))
            }
            Err(error) => failed(&route.binary, error),
        }
    }

    /// The route of a request and its path parameters, decoded. Plain segments go before
    /// parameters, parameters before greedy ones, and a method before `ANY`.
    fn find(&self, method: &Method, path: &str) -> Option<(&Route, Map<String, Value>)> {
        let matching = self.routes.iter().filter_map(|(route, segments)| {
            let any = route.method == "ANY";
            let parameters = match_path(segments, path)?;
            (any || route.method == method.as_str()).then_some((route, segments, any, parameters))
        });
        let best = matching.min_by_key(|(_, segments, any, _)| {
            (segments.iter().map(Segment::rank).collect::<Vec<_>>(), *any)
        });
        best.map(|(route, _, _, parameters)| (route, parameters))
    }
}

/// One part of a route's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Plain(String),
    Parameter(String),
    /// `{name+}`: all that is left.
    Greedy(String),
}

impl Segment {
    fn rank(&self) -> u8 {
        match self {
            Self::Plain(_) => 0,
            Self::Parameter(_) => 1,
            Self::Greedy(_) => 2,
        }
    }
}

fn segments(path: &str) -> Vec<Segment> {
    let segment = |text: &str| {
        let name = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        match name.map(|name| (name, name.strip_suffix('+'))) {
            Some((_, Some(greedy))) => Segment::Greedy(greedy.to_owned()),
            Some((name, None)) => Segment::Parameter(name.to_owned()),
            None => Segment::Plain(text.to_owned()),
        }
    };
    path.trim_start_matches('/')
        .split('/')
        .map(segment)
        .collect()
}

/// Segments are split before they are decoded, so an encoded slash does not split one.
fn match_path(segments: &[Segment], path: &str) -> Option<Map<String, Value>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let mut parameters = Map::new();
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Segment::Plain(text) if decode(part) == *text => {}
            Segment::Plain(_) => return None,
            Segment::Parameter(_) | Segment::Greedy(_) if part.is_empty() => return None,
            Segment::Parameter(name) => {
                parameters.insert(name.clone(), decode(part).into());
            }
            Segment::Greedy(name) => {
                let rest: Vec<_> = [part].into_iter().chain(parts.by_ref()).collect();
                parameters.insert(name.clone(), decode(&rest.join("/")).into());
            }
        }
    }
    parts.next().is_none().then_some(parameters)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The event that a function gets.
fn event(
    parts: &request::Parts,
    body: &Bytes,
    route: &Route,
    parameters: Map<String, Value>,
    request_id: &str,
    source: &str,
) -> Value {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for name in parts.headers.keys().filter(|name| *name != header::COOKIE) {
        let values = parts.headers.get_all(name).iter().map(text_of);
        headers.insert(name.as_str(), values.collect::<Vec<_>>().join(","));
    }
    headers.insert("x-forwarded-for", source.to_owned());
    headers.insert("x-forwarded-port", "443".to_owned());
    headers.insert("x-forwarded-proto", "https".to_owned());
    headers.insert("x-amzn-trace-id", trace_id());
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
                "sourceIp": source,
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
    let cookies = parts.headers.get_all(header::COOKIE).iter().map(text_of);
    let cookies: Vec<_> = cookies
        .flat_map(|it| it.split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !query.is_empty() {
        event["queryStringParameters"] = joined_query(query);
    }
    if !parameters.is_empty() {
        event["pathParameters"] = parameters.into();
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

/// Headers are bytes; what is not UTF-8 is read as Latin-1, as it is nowhere defined.
fn text_of(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect(),
    }
}

fn joined_query(query: &str) -> Value {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        joined
            .entry(name.into_owned())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    json!(joined)
}

/// Whether API Gateway hands a body over as text.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let content_type = text_of(content_type).to_ascii_lowercase();
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

fn common_log_time(now: Timestamp) -> String {
    let seconds = i64::try_from(now.seconds()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    time.format(&format).unwrap_or_default()
}

fn header_bytes(parts: &request::Parts) -> usize {
    let line = parts.method.as_str().len() + parts.uri.to_string().len() + " HTTP/1.1\r\n ".len();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + headers.sum::<usize>()
}

/// A function's reply.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
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

fn response(reply: &[u8]) -> Option<Response<Body>> {
    let reply: Reply = serde_json::from_slice(reply).ok()?;
    let body = reply.body.unwrap_or_default();
    let body = if reply.is_base64_encoded {
        BASE64.decode(body).ok()?
    } else {
        body.into_bytes()
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(reply.status_code).ok()?;
    let cookies = reply
        .cookies
        .into_iter()
        .map(|cookie| ("set-cookie".to_owned(), cookie));
    for (name, value) in reply.headers.into_iter().chain(cookies) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response
            .headers_mut()
            .append(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}

fn own(status: StatusCode) -> (Response<Body>, String) {
    (message(status), "gateway".to_owned())
}

fn failed(binary: &str, cause: impl std::fmt::Display) -> (Response<Body>, String) {
    (
        message(StatusCode::INTERNAL_SERVER_ERROR),
        format!("{binary}: {cause}"),
    )
}

/// What the gateway answers itself carries only `message`.
fn message(status: StatusCode) -> Response<Body> {
    let text = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or_default(),
    };
    let mut response = Response::new(Body::from(json!({"message": text}).to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl Cors {
    /// The answer to a preflight request; `None` if it is not one. On AWS the function of the path's
    /// `ANY` may see it and answer 204, to which the gateway adds these headers.
    fn preflight(&self, parts: &request::Parts) -> Option<Response<Body>> {
        let asked = parts
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if parts.method != Method::OPTIONS || !asked || !parts.headers.contains_key(header::ORIGIN)
        {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if !parts
            .headers
            .get(header::ORIGIN)
            .is_some_and(|origin| self.allows(origin))
        {
            return Some(response);
        }
        let max_age = self
            .max_age
            .map(|seconds| seconds.to_string())
            .unwrap_or_default();
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                self.allow_methods.join(","),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                self.allow_headers.join(","),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, max_age),
        ] {
            if let Some(value) = HeaderValue::from_str(&value)
                .ok()
                .filter(|it| !it.is_empty())
            {
                response.headers_mut().insert(name, value);
            }
        }
        Some(response)
    }

    fn allows_any(&self) -> bool {
        self.allow_origins.iter().any(|allowed| allowed == "*")
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let mut listed = self.allow_origins.iter();
        self.allows_any() || listed.any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// Says that a page of the origin may read the answer, if it may.
    fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let Some(origin) = origin else { return };
        if !self.allows(origin) {
            return;
        }
        let any = self.allows_any();
        let allowed = if any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !any {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if self.allow_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        let exposed = HeaderValue::from_str(&self.expose_headers.join(","));
        if let Some(exposed) = exposed.ok().filter(|exposed| !exposed.is_empty()) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Route {
        let (method, path) = (method.to_owned(), path.to_owned());
        Route {
            binary: format!("{method} {path}"),
            method,
            path,
        }
    }

    fn parts(request: request::Builder) -> request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn event_of(request: request::Builder, body: &'static [u8]) -> Value {
        let route = route("GET", "/a/{b}");
        let parts = parts(request);
        let parameters = match_path(&segments(&route.path), parts.uri.path()).unwrap_or_default();
        event(
            &parts,
            &Bytes::from_static(body),
            &route,
            parameters,
            "id",
            "127.0.0.1",
        )
    }

    #[test]
    fn a_path_matches_segment_by_segment_and_is_decoded_after() {
        let matches = |path: &str| match_path(&segments("/chats/{id}/messages"), path);
        assert_eq!(matches("/chats/1%2F2%20/messages").unwrap()["id"], "1/2 ");
        assert_eq!(matches("/ch%61ts/1/messages").unwrap()["id"], "1");
        for other in [
            "/chats//messages",
            "/chats/1/messages/",
            "/chats/1",
            "chats/1/messages",
            "/",
        ] {
            assert!(matches(other).is_none(), "{other}");
        }
        let greedy = match_path(&segments("/{all+}"), "/a/b%20c").unwrap();
        assert_eq!(greedy["all"], "a/b c");
    }

    #[tokio::test]
    async fn plain_segments_go_before_parameters_and_a_method_before_any() {
        let routes = [
            ("ANY", "/chats/{id}"),
            ("GET", "/{all+}"),
            ("GET", "/chats/{id}"),
            ("GET", "/chats/pending"),
        ];
        let template = Template {
            functions: Vec::new(),
            routes: routes.map(|(method, path)| route(method, path)).into(),
            table: crate::template::Template::read(&crate::template::default_path())
                .unwrap()
                .table,
            cors: None,
        };
        let (_stopping, stop) = watch::channel(false);
        let options = crate::Options {
            template: "".into(),
            binaries: "".into(),
            port: 0,
            database: crate::Database::Memory,
            environment: BTreeMap::new(),
            log: Arc::new(|_| {}),
        };
        let lambda = Lambda::start(&template, &options, "", "", stop)
            .await
            .unwrap();
        let routes = template
            .routes
            .iter()
            .map(|route| (route.clone(), segments(&route.path)));
        let gateway = Gateway {
            routes: routes.collect(),
            cors: None,
            lambda,
            docs: Docs::new(&BTreeMap::new()),
            log: options.log,
        };
        let found = |method: Method, path: &str| {
            gateway
                .find(&method, path)
                .map(|(route, _)| route.binary.clone())
        };
        assert_eq!(
            found(Method::GET, "/chats/pending").as_deref(),
            Some("GET /chats/pending")
        );
        assert_eq!(
            found(Method::GET, "/chats/1").as_deref(),
            Some("GET /chats/{id}")
        );
        assert_eq!(
            found(Method::PUT, "/chats/1").as_deref(),
            Some("ANY /chats/{id}")
        );
        assert_eq!(found(Method::GET, "/x/y/z").as_deref(), Some("GET /{all+}"));
        assert_eq!(found(Method::PUT, "/x"), None);
    }

    #[test]
    fn an_event_joins_what_is_repeated_and_decodes_what_the_gateway_decodes() {
        let request = Request::get("http://x.example/a/b%20c?q=%20x&q=y&z")
            .header("X-Twice", "1")
            .header("x-twice", "2")
            .header("x-forwarded-for", "6.6.6.6")
            .header("cookie", "a=1; b=2");
        let event = event_of(request, b"");
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
    fn a_body_that_is_not_text_is_base64() {
        let post = |content_type: &str| Request::post("/a/b").header("content-type", content_type);
        let json = event_of(post("application/json; charset=utf-8"), b"{}");
        assert_eq!(
            (&json["body"], &json["isBase64Encoded"]),
            (&json!("{}"), &json!(false))
        );
        let broken = event_of(post("application/json"), b"\xff");
        assert_eq!(
            (&broken["body"], &broken["isBase64Encoded"]),
            (&json!("/w=="), &json!(true))
        );
        let binary = event_of(post("application/octet-stream"), b"{}");
        assert_eq!(
            (&binary["body"], &binary["isBase64Encoded"]),
            (&json!("e30="), &json!(true))
        );
    }

    #[test]
    fn a_reply_becomes_a_response_or_is_refused_whole() {
        let reply = br#"{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=d"],"body":"aGk=","isBase64Encoded":true}"#;
        let response = response(reply).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["x-a"], "b");
        assert_eq!(response.headers()["set-cookie"], "c=d");
        for bad in [
            &b"{}"[..],
            b"null",
            br#"{"statusCode":9}"#,
            br#"{"statusCode":200,"headers":{"a b":"c"}}"#,
        ] {
            assert!(super::response(bad).is_none());
        }
    }

    #[test]
    fn cors_answers_only_origins_that_are_listed() {
        let cors = Cors {
            allow_origins: vec!["https://app.example".to_owned()],
            allow_methods: vec!["GET".to_owned()],
            allow_headers: vec!["authorization".to_owned()],
            expose_headers: vec!["retry-after".to_owned()],
            allow_credentials: false,
            max_age: Some(5),
        };
        let headers_for = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            cors.allow(Some(&HeaderValue::from_static(origin)), &mut headers);
            headers
        };
        let listed = headers_for("https://app.example");
        assert_eq!(listed["access-control-allow-origin"], "https://app.example");
        assert_eq!(listed["vary"], "origin");
        assert!(headers_for("https://evil.example").is_empty());
        let preflight = Request::options("/x").header("origin", "https://app.example");
        let plain = parts(Request::options("/x").header("origin", "https://app.example"));
        assert!(cors.preflight(&plain).is_none());
        let preflight = preflight.header("access-control-request-method", "GET");
        let answer = cors.preflight(&parts(preflight)).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-max-age"], "5");
        let evil = Request::options("/x").header("origin", "https://evil.example");
        let evil = parts(evil.header("access-control-request-method", "GET"));
        assert!(cors.preflight(&evil).unwrap().headers().is_empty());
    }
}
