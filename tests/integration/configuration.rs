//! Configuration tests: the environment variables of the functions.

use serde_json::json;

use crate::{
    TestStack,
    support::{self, run_concurrently, tokens},
};

async fn start_with(variables: &[(&str, &str)]) -> TestStack {
    let mut options = support::stack_options();
    for (name, value) in variables {
        options
            .environment
            .insert((*name).to_owned(), (*value).to_owned());
    }
    TestStack::start_with(options).await
}

#[tokio::test]
async fn open_requests_are_capped_and_an_accepted_or_declined_request_no_longer_counts() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "2")]).await;
    let api = &stack.api;
    let (me, ben, cat, dan) = (api.user(), api.user(), api.user(), api.user());
    me.request_chat(&ben).await.expect_status(201);
    me.request_chat(&cat).await.expect_status(201);
    me.request_chat(&dan)
        .await
        .expect_error(429, "too_many_pending_requests");
    assert_eq!(dan.totals().await, [0, 0, 0]);
    // Repeating an open request does not count.
    me.request_chat(&ben).await.expect_status(200);
    ben.decline(&me.chat_id_with(&ben)).await.expect_status(200);
    me.request_chat(&dan).await.expect_status(201);
    // A request in the other direction, after the chat was declined, counts.
    let eve = api.user();
    eve.request_chat(&me).await.expect_status(201);
    me.decline(&me.chat_id_with(&eve)).await.expect_status(200);
    me.request_chat(&eve)
        .await
        .expect_error(429, "too_many_pending_requests");
    // A request that accepts the other user's request does not count.
    let fay = api.user();
    fay.request_chat(&me).await.expect_status(201);
    me.request_chat(&fay).await.expect_status(200);
    assert_eq!(me.totals().await, [0, 0, 2]);
}

#[tokio::test]
async fn the_cap_is_exact_when_chat_requests_are_sent_at_once() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "3")]).await;
    let me = stack.api.user();
    let requests = (0..12).map(|_| {
        let (me, other) = (me.clone(), stack.api.user());
        async move { me.request_chat(&other).await.status }
    });
    let mut statuses = run_concurrently(requests).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 3].as_slice(), &[429; 9]].concat());
    assert_eq!(me.totals().await, [0, 0, 3]);
}

#[tokio::test]
async fn zero_means_no_cap_and_the_default_cap_is_100() {
    let uncapped = start_with(&[("MAX_OPEN_REQUESTS", "0")]).await;
    let default = TestStack::start().await;
    let (free, capped) = (uncapped.api.user(), default.api.user());
    for _ in 0..100 {
        free.request_chat(&uncapped.api.user())
            .await
            .expect_status(201);
        capped
            .request_chat(&default.api.user())
            .await
            .expect_status(201);
    }
    free.request_chat(&uncapped.api.user())
        .await
        .expect_status(201);
    capped
        .request_chat(&default.api.user())
        .await
        .expect_error(429, "too_many_pending_requests");
}

#[tokio::test]
async fn tokens_must_have_the_configured_issuer_and_audience() {
    let stack = start_with(&[
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "chat"),
    ])
    .await;
    let status = async |issuer: serde_json::Value, audience: serde_json::Value| {
        let mut claims = tokens::valid_claims(42);
        for (name, value) in [("iss", issuer), ("aud", audience)] {
            if !value.is_null() {
                claims[name] = value;
            }
        }
        let request = stack.api.request("GET", "/totals");
        let token = format!("Bearer {}", tokens::sign(&claims));
        request.header("authorization", token).send().await.status
    };
    let (ours, absent) = (json!("https://id.example"), json!(null));
    assert_eq!(status(ours.clone(), json!("chat")).await, 200);
    assert_eq!(status(ours.clone(), json!(["other", "chat"])).await, 200);
    assert_eq!(status(absent.clone(), json!("chat")).await, 401);
    assert_eq!(status(ours.clone(), absent).await, 401);
    assert_eq!(
        status(json!("https://evil.example"), json!("chat")).await,
        401
    );
    assert_eq!(
        status(json!("https://id.example/"), json!("chat")).await,
        401
    );
    assert_eq!(status(ours.clone(), json!("other")).await, 401);
    assert_eq!(status(ours.clone(), json!(["other"])).await, 401);
    assert_eq!(status(ours, json!([])).await, 401);
}

/// Runs a function with a valid environment except for one variable, and returns its standard error.
async fn init_error(changed: &str, value: Option<&str>) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_send-chat-request"));
    command.env_clear();
    for (name, valid) in [
        ("JWT_SECRET", support::secret().as_str()),
        ("TABLE_NAME", "t"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        // Nothing listens there.
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
    ] {
        command.env(name, valid);
    }
    match value {
        Some(value) => command.env(changed, value),
        None => command.env_remove(changed),
    };
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{changed}={value:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_function_with_an_invalid_configuration_exits_and_names_the_variable() {
    for (name, value) in [
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "only 31 bytes, one too few, sir"),
        ("TABLE_NAME", ""),
        ("MAX_OPEN_REQUESTS", "many"),
        ("MAX_OPEN_REQUESTS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("AWS_REGION", ""),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_ENDPOINT_URL_DYNAMODB", ""),
        ("AWS_ENDPOINT_URL_DYNAMODB", "localhost"),
    ] {
        let error = init_error(name, Some(value)).await;
        assert!(error.starts_with(name), "{name}={value}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_function_without_a_required_variable_exits_and_names_it() {
    for name in [
        "JWT_SECRET",
        "TABLE_NAME",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        let error = init_error(name, None).await;
        assert!(error.contains(name), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
