//! Handshakes of WebSockets: which tokens, protocols and origins may connect.
//!
//! The integration tests cover issuer and audience of tokens, because they are settings of a deployment.

use ring::hmac;
use serde_json::{Value, json};

use crate::support::{
    Api, User,
    live::{LiveClient, PROTOCOL},
    secret,
    tokens::{now_seconds, sign, sign_with, valid_claims},
};

/// An origin whose pages no deployment allows by its name.
const OTHER_ORIGIN: &str = "https://other.example";

/// Tries to connect to the shared API.
async fn try_connect(protocols: &[&str], headers: &[(&str, &str)]) -> Result<LiveClient, u16> {
    LiveClient::try_connect(&Api::shared().live_url(), protocols, headers).await
}

/// Asserts that the server refuses a handshake.
async fn expect_refused(protocols: &[&str], headers: &[(&str, &str)]) {
    let Err(status) = try_connect(protocols, headers).await else {
        panic!("{protocols:?} and {headers:?} should be refused")
    };
    assert!(
        [401, 403].contains(&status),
        "{protocols:?} and {headers:?} return {status}"
    );
}

/// Asserts that the server accepts a handshake with `chat.v1`, as this user.
async fn expect_accepted(user: &User, protocols: &[&str], headers: &[(&str, &str)]) {
    let mut client = try_connect(protocols, headers)
        .await
        .unwrap_or_else(|status| panic!("{protocols:?} and {headers:?} return {status}"));
    assert_eq!(client.protocol(), Some(PROTOCOL));
    // Only this user gets this event.
    let other = Api::shared().user();
    other.request_chat(user).await.expect_status(201);
    let event = client.next_event().await;
    assert_eq!(event["chatId"], other.chat_id_with(user));
    client.close().await;
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_client_connects_with_the_protocol_and_the_token() {
    let user = Api::shared().user();
    expect_accepted(&user, &[PROTOCOL, &user.token], &[]).await;
}

#[tokio::test]
async fn a_client_that_can_set_headers_may_send_the_token_in_one() {
    let user = Api::shared().user();
    for scheme in ["Bearer", "bearer"] {
        let authorization = format!("{scheme} {}", user.token);
        let headers = [("authorization", authorization.as_str())];
        expect_accepted(&user, &[PROTOCOL], &headers).await;
    }
}

#[tokio::test]
async fn the_server_selects_its_protocol_among_others() {
    let user = Api::shared().user();
    for protocols in [
        [PROTOCOL, "chat.v2", &user.token],
        ["chat.v2", PROTOCOL, &user.token],
    ] {
        expect_accepted(&user, &protocols, &[]).await;
    }
    let authorization = bearer(&user.token);
    let headers = [("authorization", authorization.as_str())];
    expect_accepted(&user, &["chat.v2", PROTOCOL], &headers).await;
}

#[tokio::test]
async fn a_handshake_without_a_known_protocol_is_refused() {
    let user = Api::shared().user();
    let authorization = bearer(&user.token);
    let headers = [("authorization", authorization.as_str())];
    expect_refused(&[], &headers).await;
    expect_refused(&["chat.v2"], &headers).await;
    expect_refused(&["chat"], &headers).await;
    expect_refused(&["CHAT.V1"], &headers).await;
    expect_refused(&[&user.token], &[]).await;
    expect_refused(&["chat.v2", &user.token], &[]).await;
    expect_refused(&["chat.v10", &user.token], &[]).await;
}

#[tokio::test]
async fn a_handshake_without_a_token_is_refused() {
    let user = Api::shared().user();
    expect_refused(&[PROTOCOL], &[]).await;
    expect_refused(&[PROTOCOL, "chat.v2"], &[]).await;
    for header in [
        String::new(),
        "Bearer".to_owned(),
        user.token.clone(),
        format!("Basic {}", user.token),
    ] {
        expect_refused(&[PROTOCOL], &[("authorization", header.as_str())]).await;
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_not_used() {
    let user = Api::shared().user();
    for name in ["token", "access_token", "authorization"] {
        let url = format!("{}?{name}={}", Api::shared().live_url(), user.token);
        let result = LiveClient::try_connect(&url, &[PROTOCOL], &[]).await;
        let status = result.err();
        assert!(status == Some(401) || status == Some(403), "{status:?}");
    }
}

/// The valid claims of a user with one claim changed.
fn claims_with(user: &User, claim: &str, value: impl Into<Value>) -> Value {
    let mut claims = valid_claims(user.id);
    claims[claim] = value.into();
    claims
}

#[tokio::test]
async fn a_handshake_with_a_token_that_the_api_does_not_accept_is_refused() {
    let user = Api::shared().user();
    let claims = valid_claims(user.id);
    let header = json!({"alg": "HS256"});
    let with_other_secret = sign_with(&header, &claims, hmac::HMAC_SHA256, &"x".repeat(32));
    let with_other_algorithm = sign_with(
        &json!({"alg": "HS384"}),
        &claims,
        hmac::HMAC_SHA384,
        &secret(),
    );
    let (signed, _) = user.token.rsplit_once('.').unwrap();
    for token in [
        "x".to_owned(),
        "x.y.z".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        with_other_secret,
        with_other_algorithm,
        // More than the leeway of 30 seconds ago.
        sign(&claims_with(&user, "exp", now_seconds() - 60)),
        sign(&claims_with(&user, "nbf", now_seconds() + 3_600)),
        sign(&claims_with(&user, "sub", "0")),
        sign(&claims_with(&user, "sub", "someone")),
    ] {
        expect_refused(&[PROTOCOL, &token], &[]).await;
        let authorization = bearer(&token);
        expect_refused(&[PROTOCOL], &[("authorization", authorization.as_str())]).await;
    }
}

#[tokio::test]
async fn a_handshake_without_an_origin_or_of_an_allowed_one_is_accepted() {
    let user = Api::shared().user();
    let origin =
        std::env::var("ALLOWED_ORIGIN").unwrap_or_else(|_| "http://localhost:5173".to_owned());
    let protocols = [PROTOCOL, &user.token];
    expect_accepted(&user, &protocols, &[]).await;
    expect_accepted(&user, &protocols, &[("origin", origin.as_str())]).await;
}

#[tokio::test]
async fn a_page_may_connect_exactly_if_it_may_call_the_api() {
    let user = Api::shared().user();
    let protocols = [PROTOCOL, &user.token];
    for origin in [OTHER_ORIGIN, "null"] {
        let request = user.request("GET", "/totals").header("origin", origin);
        let response = request.send().await.expect_status(200);
        // The template allows every page, and the development server only those of this machine.
        let allowed = response.header("access-control-allow-origin");
        if allowed.is_some_and(|allowed| ["*", origin].contains(&allowed)) {
            expect_accepted(&user, &protocols, &[("origin", origin)]).await;
        } else {
            expect_refused(&protocols, &[("origin", origin)]).await;
        }
    }
}
