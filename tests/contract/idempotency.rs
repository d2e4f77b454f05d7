//! Idempotency keys: a repeated request with the same key sends one message.
//!
//! The integration tests cover the expiry of keys, because they can change the table.

use serde_json::json;

use crate::support::{Api, Response, User, run_concurrently};

async fn send_raw_body(user: &User, chat: &str, key: impl AsRef<[u8]>, body: &str) -> Response {
    user.request("POST", &format!("/chats/{chat}/messages"))
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
}

#[tokio::test]
async fn sending_with_the_same_idempotency_key_twice_returns_the_first_message() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let first = ann
        .send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    ann.send(&chat, "another").await.expect_status(201);
    let replayed = ann
        .send_with_key(&chat, "key", "hi")
        .await
        .expect_status(200);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(replayed.body, first.body);
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
    assert_eq!(ben.totals().await, [0, 2, 0]);
}

#[tokio::test]
async fn a_replayed_message_has_its_current_status() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let mut first = ann
        .send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
    ben.mark_read(&chat).await.expect_status(200);
    let replayed = ann
        .send_with_key(&chat, "key", "hi")
        .await
        .expect_status(200);
    first.body["status"] = json!("read");
    assert_eq!(replayed.body, first.body);
}

#[tokio::test]
async fn a_key_cannot_be_reused_for_a_different_message() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let image = r#"{"text":"hi","imageUrl":"https://a.example/1"}"#;
    send_raw_body(&ann, &chat, "key", image)
        .await
        .expect_status(201);
    for other in [
        r#"{"text":"Hi","imageUrl":"https://a.example/1"}"#,
        r#"{"text":"hi"}"#,
        r#"{"text":"hi","linkPreviewUrl":"https://a.example/1"}"#,
        r#"{"text":"hi","imageUrl":"https://a.example/1","linkPreviewUrl":"https://a.example/1"}"#,
    ] {
        send_raw_body(&ann, &chat, "key", other)
            .await
            .expect_error(422, "idempotency_key_reused");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [1]);
}

#[tokio::test]
async fn messages_are_compared_by_their_parsed_content() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    send_raw_body(&ann, &chat, "key", r#"{"text":"é"}"#)
        .await
        .expect_status(201);
    let same_content = " { \"imageUrl\" : null, \"text\" : \"\\u00e9\" } ";
    send_raw_body(&ann, &chat, "key", same_content)
        .await
        .expect_status(200);
}

#[tokio::test]
async fn a_key_is_scoped_to_the_caller_and_the_chat() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let cat = ann.api.user();
    let other_chat = ann.start_chat(&cat).await;
    for (sender, chat, text, seq) in [
        (&ann, &chat, "from ann", 1),
        (&ben, &chat, "from ben", 2),
        (&ann, &other_chat, "to cat", 1),
    ] {
        let response = sender.send_with_key(chat, "key", text).await;
        assert_eq!(response.expect_status(201).body["seq"], seq, "{text}");
    }
}

#[tokio::test]
async fn a_key_has_1_to_64_visible_ascii_characters() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let body = r#"{"text":"hi"}"#;
    let longest = "~".repeat(64);
    for valid in ["!", "#KEY#|\"\\{}", &longest] {
        send_raw_body(&ann, &chat, valid, body)
            .await
            .expect_status(201);
    }
    for invalid in [
        &b""[..],
        b"a b",
        b"a,b",
        "clé".as_bytes(),
        b"a\tb",
        "k".repeat(65).as_bytes(),
    ] {
        send_raw_body(&ann, &chat, invalid, body)
            .await
            .expect_invalid("`Idempotency-Key`");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [3, 2, 1]);
}

/// API Gateway joins the values of a repeated header with a comma. A client library that adds the header to a
/// retry would otherwise send the message under two keys.
#[tokio::test]
async fn a_key_that_is_sent_twice_is_rejected_and_sends_nothing() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let request = ann
        .request("POST", &format!("/chats/{chat}/messages"))
        .header("idempotency-key", "k1")
        .header("idempotency-key", "k1")
        .json(&json!({"text": "hi"}));
    request.send().await.expect_invalid("`Idempotency-Key`");
    assert_eq!(ann.messages(&chat, "").await.seqs(), [0_u64; 0]);
}

#[tokio::test]
async fn a_rejected_request_does_not_use_up_its_key() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_error(404, "chat_not_found");
    ann.request_chat(&ben).await.expect_status(201);
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_error(409, "chat_not_active");
    send_raw_body(&ann, &chat, "key", r#"{"text":""}"#)
        .await
        .expect_invalid("`text`");
    ben.accept(&chat).await.expect_status(200);
    ann.send_with_key(&chat, "key", "another message")
        .await
        .expect_status(201);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_send_one_message() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let calls = (0..20).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send_with_key(&chat, "key", "hi").await }
    });
    let responses = run_concurrently(calls).await;
    let created = responses.iter().filter(|response| response.status == 201);
    assert_eq!(created.count(), 1);
    assert!(
        responses
            .iter()
            .all(|response| [200, 201].contains(&response.status)),
        "{responses:?}"
    );
    assert!(responses.iter().all(|response| response.body["seq"] == 1));
    assert_eq!(ann.messages(&chat, "").await.seqs(), [1]);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}
