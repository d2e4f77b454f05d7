//! The gateway of a running stack: what it responds before it invokes a function. No function process is
//! started, so these tests need no built functions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chat_local::{
    DEVELOPMENT_SECRET, Database, InvokeError, Stack, StackOptions, realtime::RealtimeOptions,
    template::default_path,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Lambda's limit on the event of a synchronous invocation.
const MAX_EVENT_BYTES: usize = 6_291_456;

fn options() -> StackOptions {
    StackOptions {
        template: default_path(),
        binaries: "no-such-folder".into(),
        port: 0,
        database: Database::Memory,
        environment: BTreeMap::from([("JWT_SECRET".to_owned(), DEVELOPMENT_SECRET.to_owned())]),
        allowed_origins: Vec::new(),
        log: Arc::new(|_| {}),
        realtime: RealtimeOptions::off(),
    }
}

async fn stack_with_origins(allowed_origins: &[&str]) -> Stack {
    let allowed_origins = allowed_origins.iter().copied().map(str::to_owned);
    let options = StackOptions {
        allowed_origins: allowed_origins.collect(),
        ..options()
    };
    Stack::start(options).await.unwrap()
}

struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Sends a request on a connection of its own.
async fn send(
    stack: &Stack,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let address = stack.url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len().to_string();
    let own = [
        ("host", address),
        ("connection", "close"),
        ("content-length", length.as_str()),
    ];
    let lines = own.iter().chain(headers);
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!("{method} {path} HTTP/1.1\r\n{}\r\n", lines.concat());
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();

    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let (status_line, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    });
    Response {
        status: status_line.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// The value of `Access-Control-Allow-Origin` that a page of this origin gets for a path that is no route.
async fn allowed_origin(stack: &Stack, origin: &str) -> Option<String> {
    let headers = [("origin", origin)];
    let mut response = send(stack, "GET", "/no-such-path", &headers, b"").await;
    assert_eq!(response.status, 404);
    response.headers.remove("access-control-allow-origin")
}

#[tokio::test]
async fn by_default_pages_of_this_machine_may_call_the_api_and_no_others() {
    let stack = stack_with_origins(&[]).await;
    for origin in [
        "http://localhost:5173",
        "https://localhost:8443",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ] {
        let allowed = allowed_origin(&stack, origin).await;
        assert_eq!(allowed.as_deref(), Some(origin));
    }
    for origin in ["https://app.example", "http://localhost.example", "null"] {
        assert_eq!(allowed_origin(&stack, origin).await, None, "{origin}");
    }
}

#[tokio::test]
async fn a_deployment_with_several_origins_can_be_emulated() {
    let stack = stack_with_origins(&["https://app.example", "https://admin.example"]).await;
    for origin in ["https://app.example", "https://admin.example"] {
        let allowed = allowed_origin(&stack, origin).await;
        assert_eq!(allowed.as_deref(), Some(origin));
    }
    for origin in ["https://evil.example", "http://localhost:5173"] {
        assert_eq!(allowed_origin(&stack, origin).await, None, "{origin}");
    }
    let stack = stack_with_origins(&["*"]).await;
    let allowed = allowed_origin(&stack, "https://any.example").await;
    assert_eq!(allowed.as_deref(), Some("*"));
}

#[tokio::test]
async fn a_preflight_request_allows_the_headers_of_tracing_libraries() {
    let stack = stack_with_origins(&[]).await;
    let headers = [
        ("origin", "http://localhost:5173"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,baggage,content-type,sentry-trace,traceparent,tracestate",
        ),
    ];
    let response = send(&stack, "OPTIONS", "/chats", &headers, b"").await;
    assert_eq!(response.status, 204);
    let allowed: Vec<_> = response.headers["access-control-allow-headers"]
        .split(',')
        .collect();
    for header in ["baggage", "sentry-trace", "traceparent", "tracestate"] {
        assert!(allowed.contains(&header), "{allowed:?}");
    }
}

#[tokio::test]
async fn a_preflight_request_allows_the_methods_of_all_endpoints() {
    let stack = stack_with_origins(&[]).await;
    for (path, method) in [
        ("/chats/1-2/messages/1", "PATCH"),
        ("/chats/1-2/messages/1", "DELETE"),
        ("/blocks/1", "PUT"),
        ("/reports", "POST"),
    ] {
        let headers = [
            ("origin", "http://localhost:5173"),
            ("access-control-request-method", method),
        ];
        let response = send(&stack, "OPTIONS", path, &headers, b"").await;
        assert_eq!(response.status, 204);
        let mut allowed = response.headers["access-control-allow-methods"].split(',');
        assert!(allowed.any(|allowed| allowed == method), "{method} {path}");
    }
}

#[tokio::test]
async fn each_method_of_a_path_reaches_its_function_and_other_methods_reach_the_one_of_any() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = lines.clone();
    let stack = Stack::start(StackOptions {
        log: Arc::new(move |line: &str| log.lock().unwrap().push(line.to_owned())),
        ..options()
    })
    .await
    .unwrap();
    for (method, path, function) in [
        ("PATCH", "/chats/1-2/messages/1", "edit-message"),
        ("DELETE", "/chats/1-2/messages/1", "delete-message"),
        ("GET", "/chats/1-2/messages/1", "edit-message"),
        ("DELETE", "/chats/1-2/messages/read", "mark-messages-read"),
        ("DELETE", "/chats/1-2", "get-chat"),
        ("PUT", "/blocks/1", "block-user"),
        ("DELETE", "/blocks/1", "unblock-user"),
        ("POST", "/blocks", "list-blocks"),
        ("GET", "/reports", "report-user"),
    ] {
        // There is no executable in these tests, and the log says of which function.
        let response = send(&stack, method, path, &[], b"").await;
        assert_eq!(response.status, 500);
        let line = lines.lock().unwrap().pop().unwrap();
        assert!(line.contains(&format!(" ms {function}: ")), "{line}");
    }
}

#[tokio::test]
async fn a_body_that_makes_the_event_larger_than_lambda_allows_returns_413() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = lines.clone();
    let stack = Stack::start(StackOptions {
        log: Arc::new(move |line: &str| log.lock().unwrap().push(line.to_owned())),
        ..options()
    })
    .await
    .unwrap();
    // Base64 makes a binary body a third larger, and JSON doubles each quote.
    for (content_type, byte, length) in [
        ("application/json", b'x', MAX_EVENT_BYTES),
        ("application/octet-stream", b'x', 4_800_000),
        ("application/json", b'"', 3_200_000),
    ] {
        let headers = [("content-type", content_type)];
        let response = send(&stack, "POST", "/chats", &headers, &vec![byte; length]).await;
        assert_eq!(response.status, 413, "{content_type} {length}");
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(body, json!({"message": "Request Entity Too Large"}));
        let line = lines.lock().unwrap().pop().unwrap();
        assert!(line.contains("Lambda's limit"), "{line}");
    }
}

#[tokio::test]
async fn an_event_of_exactly_the_limit_reaches_the_function() {
    let stack = Stack::start(options()).await.unwrap();
    // A JSON string has two quotes.
    let event_of = |bytes: usize| Value::from("x".repeat(bytes - 2));
    let too_large = stack
        .invoke("get-totals", event_of(MAX_EVENT_BYTES + 1))
        .await;
    let error = too_large.unwrap_err();
    assert!(matches!(error, InvokeError::EventTooLarge(size) if size == MAX_EVENT_BYTES + 1));
    let allowed = stack.invoke("get-totals", event_of(MAX_EVENT_BYTES)).await;
    // There is no executable in these tests.
    assert!(matches!(allowed, Err(InvokeError::SpawnFailed(..))));
}
