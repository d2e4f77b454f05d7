//! The gateway: its own responses, CORS, and the headers of every response.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn an_unknown_path_returns_404_with_only_a_message() {
    let user = Api::shared().user();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/chat"),
        ("GET", "/chats/"),
        ("GET", "/chats/1-2"),
        ("DELETE", "/chats/1-2"),
        ("POST", "/chats/1-2/accepted"),
        ("GET", "/chats//messages"),
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
    for path in ["/totals", "/chats", "/chats/1-2/messages"] {
        let response = user.get(path).await;
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn cors_allows_every_origin_to_send_requests_and_to_read_the_documented_headers() {
    let api = Api::shared();
    let preflight = api
        .request("OPTIONS", "/chats")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,idempotency-key",
        );
    let preflight = preflight.send().await.expect_status(204);
    let allowed_headers = preflight
        .header("access-control-allow-headers")
        .unwrap()
        .to_lowercase();
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(allowed_headers.contains(header), "{allowed_headers}");
    }
    let allowed_methods = preflight.header("access-control-allow-methods").unwrap();
    assert!(allowed_methods.contains("POST"), "{allowed_methods}");
    let request = api
        .user()
        .request("GET", "/totals")
        .header("origin", "https://app.example");
    let response = request.send().await.expect_status(200);
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    let exposed_headers = response
        .header("access-control-expose-headers")
        .unwrap()
        .to_lowercase();
    for header in [
        "allow",
        "date",
        "idempotent-replayed",
        "retry-after",
        "www-authenticate",
    ] {
        assert!(exposed_headers.contains(header), "{exposed_headers}");
    }
}

#[tokio::test]
async fn headers_over_10_kb_return_431_with_only_a_message() {
    let user = Api::shared().user();
    let request = user
        .request("GET", "/totals")
        .header("x-long", "x".repeat(10_241));
    let response = request.send().await.expect_status(431);
    let fields = response.body.as_object().unwrap().keys();
    assert_eq!(fields.collect::<Vec<_>>(), ["message"]);
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
