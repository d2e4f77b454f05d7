//! Part 1.4 of the contract, each sentence. That a key expires is tested with the table.

use serde_json::json;

use crate::support::{Answer, Api, User, all};

async fn send(user: &User, chat: &str, key: impl AsRef<[u8]>, body: &str) -> Answer {
    user.request("POST", &format!("/chats/{chat}/messages"))
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
}

#[tokio::test]
async fn the_same_key_again_is_the_same_message_counted_once() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let first = ann.say_once(&chat, "key", "hi").await.is(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    ann.say(&chat, "another").await.is(201);
    let again = ann.say_once(&chat, "key", "hi").await.is(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.body, first.body);
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
    assert_eq!(ben.totals().await, [0, 2, 0]);
}

#[tokio::test]
async fn a_replayed_message_is_shown_as_it_is_now() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let mut first = ann.say_once(&chat, "key", "hi").await.is(201);
    ben.mark_read(&chat).await.is(200);
    let again = ann.say_once(&chat, "key", "hi").await.is(200);
    first.body["status"] = json!("read");
    assert_eq!(again.body, first.body);
}

#[tokio::test]
async fn another_message_under_the_key_is_refused() {
    let (ann, _, chat) = Api::shared().friends().await;
    let image = r#"{"text":"hi","imageUrl":"https://a.example/1"}"#;
    send(&ann, &chat, "key", image).await.is(201);
    for other in [
        r#"{"text":"Hi","imageUrl":"https://a.example/1"}"#,
        r#"{"text":"hi"}"#,
        r#"{"text":"hi","linkPreviewUrl":"https://a.example/1"}"#,
        r#"{"text":"hi","imageUrl":"https://a.example/1","linkPreviewUrl":"https://a.example/1"}"#,
    ] {
        send(&ann, &chat, "key", other)
            .await
            .is_refusal(422, "idempotency_key_reused");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [1]);
}

#[tokio::test]
async fn messages_are_compared_after_parsing() {
    let (ann, _, chat) = Api::shared().friends().await;
    send(&ann, &chat, "key", r#"{"text":"é"}"#).await.is(201);
    let same = " { \"imageUrl\" : null, \"text\" : \"\\u00e9\" } ";
    send(&ann, &chat, "key", same).await.is(200);
}

#[tokio::test]
async fn a_key_is_scoped_to_caller_and_chat() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let cat = ann.api.user();
    let other_chat = ann.befriend(&cat).await;
    assert_eq!(
        ann.say_once(&chat, "key", "from ann").await.is(201).body["seq"],
        1
    );
    assert_eq!(
        ben.say_once(&chat, "key", "from ben").await.is(201).body["seq"],
        2
    );
    assert_eq!(
        ann.say_once(&other_chat, "key", "to cat")
            .await
            .is(201)
            .body["seq"],
        1
    );
}

#[tokio::test]
async fn a_key_has_1_to_64_visible_ascii_characters() {
    let (ann, _, chat) = Api::shared().friends().await;
    let body = r#"{"text":"hi"}"#;
    let longest = "~".repeat(64);
    for good in ["!", "#KEY#|\"\\{}", &longest] {
        send(&ann, &chat, good, body).await.is(201);
    }
    for bad in [
        &b""[..],
        b"a b",
        "clé".as_bytes(),
        b"a\tb",
        "k".repeat(65).as_bytes(),
    ] {
        send(&ann, &chat, bad, body)
            .await
            .is_invalid("`Idempotency-Key`");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [3, 2, 1]);
}

#[tokio::test]
async fn a_refused_call_does_not_use_up_its_key() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_with(&ben);
    ann.say_once(&chat, "key", "hi")
        .await
        .is_refusal(404, "chat_not_found");
    ann.ask(&ben).await.is(201);
    ann.say_once(&chat, "key", "hi")
        .await
        .is_refusal(409, "chat_not_active");
    send(&ann, &chat, "key", r#"{"text":""}"#)
        .await
        .is_invalid("`text`");
    ben.accept(&chat).await.is(200);
    ann.say_once(&chat, "key", "another message").await.is(201);
}

#[tokio::test]
async fn one_message_comes_of_many_calls_at_once_with_one_key() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let calls = (0..20).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say_once(&chat, "key", "hi").await }
    });
    let answers = all(calls).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(created, 1);
    assert!(
        answers
            .iter()
            .all(|it| it.status == 201 || it.status == 200),
        "{answers:?}"
    );
    assert!(answers.iter().all(|it| it.body["seq"] == 1));
    assert_eq!(ann.messages(&chat, "").await.seqs(), [1]);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}
