//! Frames that clients send: their answers, and what happens to frames that are not valid.
//!
//! A connection may send five frames at once and then one a second. The tests stay below that by new connections.

use chat_shared::domain::Timestamp;
use serde_json::json;

use crate::{
    chats::assert_is_timestamp,
    support::{
        Api, User,
        live::LiveClient,
        tokens::{now_seconds, sign, valid_claims, valid_token},
    },
};

/// The maximum length of a client's frame, in bytes.
const MAX_FRAME_BYTES: usize = 2_048;

/// A new user with an open connection.
async fn online_user() -> (User, LiveClient) {
    let user = Api::shared().user();
    let connection = LiveClient::connect(&user).await;
    (user, connection)
}

/// Asserts that a connection is open in both directions: the user gets an answer and an event.
async fn expect_open(user: &User, connection: &mut LiveClient) {
    connection.sync().await;
    let other = Api::shared().user();
    other.request_chat(user).await.expect_status(201);
    let event = connection.next_event().await;
    assert_eq!(event["chatId"], other.chat_id_with(user));
}

/// Asserts that a text frame is answered by this error, and that the connection stays open.
async fn expect_error(text: &str, code: &str) {
    let (user, mut connection) = online_user().await;
    connection.send_text(text).await;
    connection.expect_error(code).await;
    expect_open(&user, &mut connection).await;
}

/// A valid frame of this length, in bytes.
fn frame_with_length(length: usize) -> String {
    let frame = |padding: &str| json!({"type": "sync", "padding": padding}).to_string();
    let text = frame(&"x".repeat(length - frame("").len()));
    assert_eq!(text.len(), length);
    text
}

#[tokio::test]
async fn sync_returns_the_totals_and_the_time_of_the_server() {
    let (user, mut connection) = online_user().await;
    for requests in 0..2 {
        let totals = user.get("/totals").await.expect_status(200).body;
        assert_eq!(totals["totalPendingRequest"], requests);
        let synced = connection.sync().await;
        assert_is_timestamp(&synced["serverTime"]);
        assert_eq!(
            synced,
            json!({
                "v": 1, "type": "synced", "totals": totals, "serverTime": synced["serverTime"],
            })
        );
        let other = Api::shared().user();
        other.request_chat(&user).await.expect_status(201);
    }
}

#[tokio::test]
async fn the_totals_of_sync_are_never_older_than_those_of_an_earlier_event() {
    let (user, mut connection) = online_user().await;
    Api::shared()
        .user()
        .request_chat(&user)
        .await
        .expect_status(201);
    let event = connection.event("chat.requested").await;
    let synced = connection.sync().await;
    assert_eq!(synced["totals"], event["totals"]);
}

#[tokio::test]
async fn five_frames_may_be_sent_one_after_the_other() {
    let (_, mut connection) = online_user().await;
    for _ in 0..5 {
        connection.send(&json!({"type": "sync"})).await;
        let answer = connection.next_control().await;
        assert_eq!(answer["type"], "synced", "{answer}");
    }
}

#[tokio::test]
async fn more_frames_at_once_are_refused_and_the_connection_stays_open() {
    // Far more than five, so that a slow machine does not serve all of them at one a second.
    const FRAMES: usize = 20;
    let (user, mut connection) = online_user().await;
    for _ in 0..FRAMES {
        connection.send(&json!({"type": "sync"})).await;
    }
    let (mut served, mut refused) = (0, 0);
    for _ in 0..FRAMES {
        let answer = connection.next_control().await;
        match (answer["type"].as_str(), answer["code"].as_str()) {
            (Some("synced"), None) => served += 1,
            (Some("error"), Some("rate_limited")) => refused += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
    // Events still arrive, and another connection is not limited.
    let other = Api::shared().user();
    other.request_chat(&user).await.expect_status(201);
    assert_eq!(connection.next_event().await["type"], "chat.requested");
    LiveClient::connect(&user).await.sync().await;
}

#[tokio::test]
async fn renew_returns_when_the_new_token_expires() {
    let (user, mut connection) = online_user().await;
    let expires_at = now_seconds() + 7_200;
    let mut claims = valid_claims(user.id);
    claims["exp"] = json!(expires_at);
    let token = sign(&claims);
    connection
        .send(&json!({"type": "renew", "token": token}))
        .await;
    let expires_at = Timestamp::from_millis(expires_at * 1_000).to_string();
    assert_eq!(
        connection.next_control().await,
        json!({"v": 1, "type": "renewed", "expiresAt": expires_at})
    );
    expect_open(&user, &mut connection).await;
}

#[tokio::test]
async fn renew_with_a_token_of_another_user_or_a_bad_one_is_refused_and_the_connection_stays_open()
{
    let (user, mut connection) = online_user().await;
    let mut expired = valid_claims(user.id);
    expired["exp"] = json!(now_seconds() - 60);
    for token in [
        valid_token(Api::shared().user().id),
        sign(&expired),
        format!("{}x", user.token),
    ] {
        connection
            .send(&json!({"type": "renew", "token": token}))
            .await;
        connection.expect_error("unauthorized").await;
    }
    expect_open(&user, &mut connection).await;
}

#[tokio::test]
async fn a_refused_renewal_does_not_change_the_user_of_a_connection() {
    let (user, mut connection) = online_user().await;
    let (stranger, mut other_connection) = online_user().await;
    connection
        .send(&json!({"type": "renew", "token": stranger.token}))
        .await;
    connection.expect_error("unauthorized").await;
    expect_open(&stranger, &mut other_connection).await;
    // The next event is the own one, and not that of the stranger.
    expect_open(&user, &mut connection).await;
}

#[tokio::test]
async fn a_frame_that_is_not_a_json_object_is_an_error() {
    for text in [
        " ",
        "sync",
        "{",
        "{\"type\":\"sync\"",
        "{'type': 'sync'}",
        "{\"type\":\"sync\"} {\"type\":\"sync\"}",
        "\u{feff}{\"type\":\"sync\"}",
        "null",
        "true",
        "7",
        "\"sync\"",
        "[]",
        "[\"sync\"]",
        "[{\"type\":\"sync\"}]",
    ] {
        expect_error(text, "invalid_frame").await;
    }
}

#[tokio::test]
async fn a_frame_of_an_unknown_type_is_an_error() {
    for frame in [
        json!({}),
        json!({"Type": "sync"}),
        json!({"type": null}),
        json!({"type": 1}),
        json!({"type": ["sync"]}),
        json!({"type": ""}),
        json!({"type": "Sync"}),
        json!({"type": "ping"}),
        json!({"type": "synced"}),
        json!({"type": "message.created"}),
        json!({"action": "sync"}),
    ] {
        expect_error(&frame.to_string(), "invalid_frame").await;
    }
}

#[tokio::test]
async fn a_frame_without_a_required_member_is_an_error() {
    for frame in [
        json!({"type": "renew"}),
        json!({"type": "renew", "token": null}),
        json!({"type": "renew", "token": 1}),
        json!({"type": "renew", "token": ["x.y.z"]}),
        json!({"type": "renew", "Token": "x.y.z"}),
        json!({"type": "typing"}),
        json!({"type": "typing", "chatId": null}),
        json!({"type": "typing", "chatid": "1-2"}),
    ] {
        expect_error(&frame.to_string(), "invalid_frame").await;
    }
    // An array is not an object, also if it has the same values.
    let (user, mut connection) = online_user().await;
    connection.send(&json!(["renew", user.token])).await;
    connection.expect_error("invalid_frame").await;
}

#[tokio::test]
async fn unknown_members_of_a_frame_are_ignored() {
    let (user, mut connection) = online_user().await;
    let token = valid_token(user.id);
    for (frame, kind) in [
        (json!({"type": "sync", "v": 2, "id": {"a": [1]}}), "synced"),
        (
            json!({"type": "sync", "token": "x", "chatId": 1, "events": []}),
            "synced",
        ),
        (
            json!({"type": "renew", "token": token, "chatId": null}),
            "renewed",
        ),
    ] {
        connection.send(&frame).await;
        let answer = connection.next_control().await;
        assert_eq!(answer["type"], kind, "{answer}");
    }
}

#[tokio::test]
async fn whitespace_and_escapes_of_json_do_not_matter() {
    let (_, mut connection) = online_user().await;
    for text in [
        "\n {\t\"type\" : \"sync\" }\r\n",
        "{\"\\u0074ype\":\"s\\u0079nc\"}",
    ] {
        connection.send_text(text).await;
        let answer = connection.next_control().await;
        assert_eq!(answer["type"], "synced", "{answer}");
    }
}

#[tokio::test]
async fn a_frame_of_2048_bytes_is_accepted_and_a_longer_one_is_an_error() {
    let (_, mut connection) = online_user().await;
    connection
        .send_text(&frame_with_length(MAX_FRAME_BYTES))
        .await;
    let answer = connection.next_control().await;
    assert_eq!(answer["type"], "synced", "{answer}");
    for text in [
        frame_with_length(MAX_FRAME_BYTES + 1),
        frame_with_length(30_000),
        // Bytes count, and not characters.
        json!({"type": "sync", "padding": "é".repeat(1_020)}).to_string(),
        // Also if it is not JSON.
        "x".repeat(MAX_FRAME_BYTES + 1),
    ] {
        expect_error(&text, "invalid_frame").await;
    }
}

#[tokio::test]
async fn the_server_closes_the_connection_on_a_binary_frame() {
    for bytes in [b"{\"type\":\"sync\"}".to_vec(), vec![0xff, 0]] {
        let (_, mut connection) = online_user().await;
        connection.send_binary(bytes).await;
        assert_eq!(connection.closed().await, Some(1003));
    }
}

#[tokio::test]
async fn the_server_closes_the_connection_on_a_frame_of_more_than_32_kb() {
    for length in [32 * 1_024 + 1, 200_000] {
        let (_, mut connection) = online_user().await;
        connection.send_text(&frame_with_length(length)).await;
        assert_eq!(connection.closed().await, Some(1009), "{length}");
    }
}

#[tokio::test]
async fn an_error_does_not_repeat_the_token_of_the_frame() {
    let (user, mut connection) = online_user().await;
    let token = format!("{}x", user.token);
    for frame in [
        json!({"type": "renew", "token": token}),
        json!({"type": "renew", "token": [token]}),
        json!({"type": token}),
    ] {
        connection.send(&frame).await;
        let answer = connection.next_control().await;
        assert_eq!(answer["type"], "error");
        assert!(!answer.to_string().contains(&token), "{answer}");
    }
}
