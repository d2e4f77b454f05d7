//! What a path answers to methods without a route of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ROUTES, support::Api};

/// Each path with the methods that it has.
fn paths() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut paths: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (method, path, _) in ROUTES {
        let methods = paths.entry(path.replace("{chatId}", "17-42")).or_default();
        methods.extend([method, "OPTIONS"]);
        methods.extend((method == "GET").then_some("HEAD"));
    }
    paths
}

fn allowed(answer: &crate::support::Answer) -> BTreeSet<&str> {
    answer.header("allow").unwrap().split(", ").collect()
}

#[tokio::test]
async fn a_known_path_tells_another_method_which_it_has_before_it_asks_for_a_token() {
    let api = Api::shared();
    for (path, methods) in paths() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            if methods.contains(method) {
                continue;
            }
            let answer = api.request(method, &path).body("not JSON").send().await;
            assert_eq!(allowed(&answer), methods, "{method} {path}");
            if method == "HEAD" {
                assert_eq!((answer.status, answer.body), (405, "".into()), "{path}");
            } else {
                answer.is_refusal(405, "method_not_allowed");
            }
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let api = Api::shared();
    let (ann, _, chat) = api.friends().await;
    ann.say(&chat, "hi").await.is(201);
    for (path, methods) in paths() {
        if !methods.contains("HEAD") {
            continue;
        }
        let mine = path.replace("17-42", &chat);
        let refused = format!("{mine}?limit=0");
        for path in [&mine, &path, &refused] {
            let get = ann.get(path).await;
            let head = ann.request("HEAD", path).send().await;
            assert_eq!(head.status, get.status, "{path}");
            assert_eq!(head.body, "", "{path}");
            for header in ["content-type", "cache-control"] {
                assert_eq!(head.header(header), get.header(header), "{path}");
            }
        }
        let stranger = api.request("HEAD", &mine).send().await.is(401);
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn options_tells_the_methods_without_a_token() {
    for (path, methods) in paths() {
        let answer = Api::shared().request("OPTIONS", &path).send().await.is(204);
        assert_eq!(allowed(&answer), methods, "{path}");
        assert_eq!(answer.body, "", "{path}");
    }
}
