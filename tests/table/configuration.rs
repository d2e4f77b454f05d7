//! What the functions read of their environment.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::{
    Local,
    support::{self, all, tokens},
};

async fn start_with(variables: &[(&str, &str)]) -> Local {
    let mut options = support::options();
    for (name, value) in variables {
        options
            .environment
            .insert((*name).to_owned(), (*value).to_owned());
    }
    Local::start_with(options).await
}

#[tokio::test]
async fn open_requests_are_capped_and_an_answer_frees_a_place() {
    let local = start_with(&[("MAX_OPEN_REQUESTS", "2")]).await;
    let api = &local.api;
    let (me, ben, cat, dan) = (api.user(), api.user(), api.user(), api.user());
    me.ask(&ben).await.is(201);
    me.ask(&cat).await.is(201);
    me.ask(&dan)
        .await
        .is_refusal(429, "too_many_pending_requests");
    assert_eq!(dan.totals().await, [0, 0, 0]);
    // What is there already costs no place.
    me.ask(&ben).await.is(200);
    ben.decline(&me.chat_with(&ben)).await.is(200);
    me.ask(&dan).await.is(201);
    // A swapped request is one more.
    let eve = api.user();
    eve.ask(&me).await.is(201);
    me.decline(&me.chat_with(&eve)).await.is(200);
    me.ask(&eve)
        .await
        .is_refusal(429, "too_many_pending_requests");
    // Accepting by asking is none.
    let fay = api.user();
    fay.ask(&me).await.is(201);
    me.ask(&fay).await.is(200);
    assert_eq!(me.totals().await, [0, 0, 2]);
}

#[tokio::test]
async fn the_cap_is_exact_when_requests_are_sent_at_once() {
    let local = start_with(&[("MAX_OPEN_REQUESTS", "3")]).await;
    let me = local.api.user();
    let calls = (0..12).map(|_| {
        let (me, other) = (me.clone(), local.api.user());
        async move { me.ask(&other).await.status }
    });
    let mut statuses = all(calls).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 3].as_slice(), &[429; 9]].concat());
    assert_eq!(me.totals().await, [0, 0, 3]);
}

#[tokio::test]
async fn zero_is_no_cap_and_the_default_is_100() {
    let uncapped = start_with(&[("MAX_OPEN_REQUESTS", "0")]).await;
    let default = Local::start().await;
    let (free, capped) = (uncapped.api.user(), default.api.user());
    for _ in 0..100 {
        free.ask(&uncapped.api.user()).await.is(201);
        capped.ask(&default.api.user()).await.is(201);
    }
    free.ask(&uncapped.api.user()).await.is(201);
    capped
        .ask(&default.api.user())
        .await
        .is_refusal(429, "too_many_pending_requests");
}

#[tokio::test]
async fn a_configured_issuer_and_audience_are_required() {
    let local = start_with(&[
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "chat"),
    ])
    .await;
    let status = async |issuer: serde_json::Value, audience: serde_json::Value| {
        let mut claims = tokens::claims(42);
        for (name, value) in [("iss", issuer), ("aud", audience)] {
            if !value.is_null() {
                claims[name] = value;
            }
        }
        let call = local.api.request("GET", "/totals");
        let token = format!("Bearer {}", tokens::sign(&claims));
        call.header("authorization", token).send().await.status
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

#[tokio::test]
async fn a_function_with_a_wrong_configuration_refuses_to_start_and_names_the_variable() {
    let wrong = [
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "only 31 bytes, one too few, sir"),
        ("TABLE_NAME", ""),
        ("MAX_OPEN_REQUESTS", "many"),
        ("MAX_OPEN_REQUESTS", "-1"),
    ];
    for (name, value) in wrong {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let binary = env!("CARGO_BIN_EXE_send-chat-request");
        let mut command = tokio::process::Command::new(binary);
        for (name, value) in [
            ("JWT_SECRET", support::secret().as_str()),
            ("TABLE_NAME", "t"),
        ] {
            command.env(name, value);
        }
        let output = command.env(name, value).output().await.unwrap();
        lines
            .lock()
            .unwrap()
            .push(String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{name}={value}");
        let said = lines.lock().unwrap().concat();
        assert!(said.starts_with(name), "{name}={value}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
