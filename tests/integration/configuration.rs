//! Configuration tests: the environment variables of the functions. `signing_keys` tests those of the keys.

use chat_shared::auth::DEVELOPMENT_SECRET;
use ring::hmac;
use serde_json::json;

use crate::{
    TestStack,
    support::{self, run_concurrently, tokens},
};

/// A secret that a deployment could have.
const SECRET: &str = "a secret of these tests, of 32 bytes or more";

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

#[tokio::test]
async fn several_issuers_and_audiences_are_separated_by_commas() {
    let stack = start_with(&[
        ("JWT_ISSUER", "https://a.example,https://b.example/"),
        ("JWT_AUDIENCE", " web , mobile,"),
    ])
    .await;
    let status = async |issuer: &str, audience: serde_json::Value| {
        let mut claims = tokens::valid_claims(42);
        claims["iss"] = json!(issuer);
        claims["aud"] = audience;
        let request = stack.api.request("GET", "/totals");
        let token = format!("Bearer {}", tokens::sign(&claims));
        request.header("authorization", token).send().await.status
    };
    for issuer in ["https://a.example", "https://b.example/"] {
        for audience in [json!("web"), json!("mobile"), json!(["other", "mobile"])] {
            assert_eq!(status(issuer, audience).await, 200);
        }
        for audience in [json!("other"), json!("web , mobile"), json!("")] {
            assert_eq!(status(issuer, audience).await, 401);
        }
    }
    for issuer in [
        "https://b.example",
        "https://a.example,https://b.example/",
        "",
    ] {
        assert_eq!(status(issuer, json!("web")).await, 401);
    }
}

#[tokio::test]
async fn tokens_must_have_the_configured_token_use_and_typ() {
    let stack = start_with(&[("JWT_TOKEN_USE", "access"), ("JWT_TYP", "at+jwt")]).await;
    let status = async |token_use: &str, typ: &str| {
        let mut claims = tokens::valid_claims(42);
        claims["token_use"] = json!(token_use);
        let header = json!({"alg": "HS256", "typ": typ});
        let secret = support::secret();
        let token = tokens::sign_with(&header, &claims, hmac::HMAC_SHA256, &secret);
        let request = stack.api.request("GET", "/totals");
        let request = request.header("authorization", format!("Bearer {token}"));
        request.send().await.status
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(status("access", typ).await, 200, "{typ}");
    }
    assert_eq!(status("access", "JWT").await, 401);
    assert_eq!(status("id", "at+jwt").await, 401);
}

/// Runs a function with a valid environment except for one variable, and returns its standard error.
async fn init_error(changed: &str, value: Option<&str>) -> String {
    let mut command = function_with_valid_environment();
    match value {
        Some(value) => command.env(changed, value),
        None => command.env_remove(changed),
    };
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{changed}={value:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Like [`init_error`], with several changed variables.
async fn init_error_with(changed: &[(&str, &str)]) -> String {
    let mut command = function_with_valid_environment();
    let output = command
        .envs(changed.iter().copied())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{changed:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn function_with_valid_environment() -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_send-chat-request"));
    command.env_clear();
    for (name, valid) in [
        ("JWT_SECRET", SECRET),
        ("TABLE_NAME", "t"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        // Nothing listens there.
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
    ] {
        command.env(name, valid);
    }
    command
}

#[tokio::test]
async fn a_function_with_an_invalid_configuration_exits_and_names_the_variable() {
    for (name, value) in [
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "only 31 bytes, one too few, sir"),
        ("JWT_PUBLIC_KEY", "a key"),
        ("JWT_JWKS", "a key set"),
        ("JWT_JWKS_URL", "http://id.example/keys"),
        ("JWT_ISSUER", ","),
        ("JWT_AUDIENCE", " , "),
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

#[tokio::test]
async fn the_development_secret_stops_a_function_whose_table_is_not_on_this_machine() {
    for endpoint in [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "https://dynamodb.example",
    ] {
        let variables = [
            ("JWT_SECRET", DEVELOPMENT_SECRET),
            ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
        ];
        let error = init_error_with(&variables).await;
        assert!(
            error.starts_with("JWT_SECRET is the secret of the development server"),
            "{error}"
        );
    }
}
