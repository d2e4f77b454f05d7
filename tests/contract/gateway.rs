//! What the gateway answers itself, and headers that every answer has.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn an_unknown_route_carries_only_a_message() {
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
        let answer = user.request(method, path).send().await.is(404);
        assert_eq!(
            answer.body,
            json!({"message": "Not Found"}),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn answers_are_json_and_never_cached() {
    let user = Api::shared().user();
    for path in ["/totals", "/chats", "/chats/1-2/messages"] {
        let answer = user.get(path).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn a_browser_of_another_origin_may_call_and_read_the_headers_it_needs() {
    let api = Api::shared();
    let preflight = api
        .request("OPTIONS", "/chats")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,idempotency-key",
        );
    let preflight = preflight.send().await.is(204);
    let allowed = preflight
        .header("access-control-allow-headers")
        .unwrap()
        .to_lowercase();
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(allowed.contains(header), "{allowed}");
    }
    assert!(
        preflight
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let answer = api
        .user()
        .request("GET", "/totals")
        .header("origin", "https://app.example");
    let answer = answer.send().await.is(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let exposed = answer
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
        assert!(exposed.contains(header), "{exposed}");
    }
}

#[tokio::test]
async fn headers_over_10_kb_are_refused_with_only_a_message() {
    let user = Api::shared().user();
    let call = user
        .request("GET", "/totals")
        .header("x-long", "x".repeat(10_241));
    let answer = call.send().await.is(431);
    assert_eq!(
        answer.body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["message"]
    );
}

#[tokio::test]
async fn a_strange_header_or_query_harms_nothing() {
    let user = Api::shared().user();
    for strange in [&b"caf\xc3\xa9"[..], b"caf\xe9", b"a\tb", b"%00%zz"] {
        user.request("GET", "/totals")
            .header("x-strange", strange)
            .send()
            .await
            .is(200);
    }
    user.get("/totals?%zz=%&&=&a").await.is(200);
}
