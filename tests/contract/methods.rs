//! HTTP methods: `HEAD`, `OPTIONS`, and 405 for the methods that a path does not support.

use std::collections::{BTreeMap, BTreeSet};

use chat_shared::http::ENDPOINTS;

use crate::{
    endpoint_path,
    support::{Api, Response},
};

/// Every path with the methods that it supports.
fn methods_by_path() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut paths: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for endpoint in &ENDPOINTS {
        let methods = paths.entry(endpoint_path(endpoint, "17-42")).or_default();
        methods.extend([endpoint.method, "OPTIONS"]);
        methods.extend((endpoint.method == "GET").then_some("HEAD"));
    }
    paths
}

/// The methods in the `Allow` header.
fn allowed_methods(response: &Response) -> BTreeSet<&str> {
    response.header("allow").unwrap().split(", ").collect()
}

#[tokio::test]
async fn an_unsupported_method_gets_a_405_with_the_allowed_methods_before_the_token_is_checked() {
    let api = Api::shared();
    for (path, methods) in methods_by_path() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            if methods.contains(method) {
                continue;
            }
            let response = api.request(method, &path).body("not JSON").send().await;
            assert_eq!(allowed_methods(&response), methods, "{method} {path}");
            if method == "HEAD" {
                assert_eq!((response.status, response.body), (405, "".into()), "{path}");
            } else {
                response.expect_error(405, "method_not_allowed");
            }
        }
    }
}

#[tokio::test]
async fn a_fixed_segment_of_a_path_is_never_taken_as_a_parameter() {
    let user = Api::shared().user();
    // `read` is not a message, `pending` is not a chat.
    for (method, path, methods) in [
        (
            "DELETE",
            "/chats/17-42/messages/read",
            ["OPTIONS", "PUT"].as_slice(),
        ),
        ("PATCH", "/chats/17-42/messages/read", &["OPTIONS", "PUT"]),
        ("DELETE", "/chats/pending", &["GET", "HEAD", "OPTIONS"]),
        ("PUT", "/chats/rejected", &["GET", "HEAD", "OPTIONS"]),
    ] {
        let response = user.request(method, path).send().await;
        response.expect_error(405, "method_not_allowed");
        let methods = methods.iter().copied().collect();
        assert_eq!(allowed_methods(&response), methods, "{method} {path}");
    }
}

#[tokio::test]
async fn head_returns_the_status_and_headers_of_get_without_a_body() {
    let api = Api::shared();
    let (ann, _, chat) = api.active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    for (path, methods) in methods_by_path() {
        if !methods.contains("HEAD") {
            continue;
        }
        let own_path = path.replace("17-42", &chat);
        let invalid_path = format!("{own_path}?limit=0");
        for path in [&own_path, &path, &invalid_path] {
            let get = ann.get(path).await;
            let head = ann.request("HEAD", path).send().await;
            assert_eq!(head.status, get.status, "{path}");
            assert_eq!(head.body, "", "{path}");
            for header in ["content-type", "cache-control"] {
                assert_eq!(head.header(header), get.header(header), "{path}");
            }
        }
        let unauthorized = api
            .request("HEAD", &own_path)
            .send()
            .await
            .expect_status(401);
        assert_eq!(unauthorized.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn options_returns_the_allowed_methods_without_a_token() {
    for (path, methods) in methods_by_path() {
        let request = Api::shared().request("OPTIONS", &path);
        let response = request.send().await.expect_status(204);
        assert_eq!(allowed_methods(&response), methods, "{path}");
        assert_eq!(response.body, "", "{path}");
    }
}
