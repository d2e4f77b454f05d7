//! The gateway: its own responses, CORS, and the headers of every response.

use serde_json::json;

use crate::support::{Api, Response};

#[tokio::test]
async fn an_unknown_path_returns_404_with_only_a_message() {
    let user = Api::shared().user();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/chat"),
        ("GET", "/chats/"),
        ("POST", "/chats/1-2/accepted"),
        ("GET", "/chats//messages"),
        ("DELETE", "/chats/1-2/messages/"),
        ("DELETE", "/chats/1-2/messages/1/text"),
        ("PUT", "/blocks/"),
        ("PUT", "/blocks/1/2"),
        ("GET", "/reports/1"),
    ] {
        let response = user.request(method, path).send().await.expect_status(404);
        assert_eq!(
            response.body,
            json!({"message": "Not Found"}),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn responses_are_json_and_must_not_be_cached() {
    let user = Api::shared().user();
    for path in [
        "/totals",
        "/chats",
        "/chats/1-2",
        "/chats/1-2/messages",
        "/chats/1-2/changes",
        "/blocks",
    ] {
        let response = user.get(path).await;
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

/// The origin of a page that may call the API: `ALLOWED_ORIGIN`, or a page of this machine. The
/// development server allows only those by default, and the template every page.
fn allowed_origin() -> String {
    std::env::var("ALLOWED_ORIGIN").unwrap_or_else(|_| "http://localhost:5173".to_owned())
}

/// The names in a header that is a list, in lower case.
fn names(response: &Response, header: &str) -> Vec<String> {
    let list = response.header(header).unwrap_or_default().to_lowercase();
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

#[tokio::test]
async fn cors_allows_a_page_to_send_requests_and_to_read_the_documented_headers() {
    let api = Api::shared();
    let origin = allowed_origin();
    // The last four are added by tools that trace requests in browsers. A page with such a tool cannot
    // send any request if a preflight request refuses them.
    let request_headers = [
        "authorization",
        "content-type",
        "idempotency-key",
        "baggage",
        "sentry-trace",
        "traceparent",
        "tracestate",
    ];
    let preflight = api
        .request("OPTIONS", "/chats")
        .header("origin", &origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", request_headers.join(","));
    let preflight = preflight.send().await.expect_status(204);
    let allowed_headers = names(&preflight, "access-control-allow-headers");
    for header in request_headers {
        assert!(
            allowed_headers.iter().any(|allowed| allowed == header),
            "{header} is not in {allowed_headers:?}"
        );
    }
    let allowed_methods = names(&preflight, "access-control-allow-methods");
    for method in ["delete", "get", "patch", "post", "put"] {
        assert!(
            allowed_methods.iter().any(|allowed| allowed == method),
            "{method} is not in {allowed_methods:?}"
        );
    }
    let request = api
        .user()
        .request("GET", "/totals")
        .header("origin", &origin);
    let response = request.send().await.expect_status(200);
    for response in [&preflight, &response] {
        let allowed = response.header("access-control-allow-origin").unwrap();
        assert!(allowed == "*" || allowed == origin, "{allowed}");
    }
    let exposed_headers = names(&response, "access-control-expose-headers");
    for header in [
        "allow",
        "date",
        "idempotent-replayed",
        "retry-after",
        "www-authenticate",
    ] {
        assert!(
            exposed_headers.iter().any(|exposed| exposed == header),
            "{header} is not in {exposed_headers:?}"
        );
    }
}

/// Asserts that a response has only a message, as the gateway's own responses have.
#[track_caller]
fn assert_only_message(response: &Response) {
    let fields = response.body.as_object().unwrap().keys();
    assert_eq!(fields.collect::<Vec<_>>(), ["message"], "{response:?}");
}

#[tokio::test]
async fn headers_over_10_kb_return_431_with_only_a_message() {
    let user = Api::shared().user();
    let request = user
        .request("GET", "/totals")
        .header("x-long", "x".repeat(10_241));
    assert_only_message(&request.send().await.expect_status(431));
}

#[tokio::test]
async fn a_body_that_makes_the_event_larger_than_lambda_allows_returns_413_with_only_a_message() {
    // The gateway accepts bodies up to 10 MB, but Lambda accepts events only up to 6 MB. Base64 makes a
    // body that is not text a third longer.
    let user = Api::shared().user();
    for (content_type, body) in [
        ("application/json", vec![b' '; 6_500_000]),
        ("application/octet-stream", vec![0xff; 5_000_000]),
    ] {
        let request = user
            .request("POST", "/chats")
            .header("content-type", content_type)
            .body(body);
        assert_only_message(&request.send().await.expect_status(413));
    }
}

#[tokio::test]
async fn unusual_bytes_in_headers_and_queries_are_ignored() {
    let user = Api::shared().user();
    for value in [&b"caf\xc3\xa9"[..], b"caf\xe9", b"a\tb", b"%00%zz"] {
        user.request("GET", "/totals")
            .header("x-unusual", value)
            .send()
            .await
            .expect_status(200);
    }
    user.get("/totals?%zz=%&&=&a").await.expect_status(200);
}
