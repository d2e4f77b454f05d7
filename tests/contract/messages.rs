//! Sending, reading and marking messages.

use serde_json::{Value, json};

use crate::{
    chats::is_time,
    support::{Answer, Api, User},
};

async fn send(user: &User, chat: &str, body: &Value) -> Answer {
    user.post(&format!("/chats/{chat}/messages"), body).await
}

#[tokio::test]
async fn a_sent_message_has_every_field() {
    let (ann, _, chat) = Api::shared().friends().await;
    let answer = send(&ann, &chat, &json!({"text": "hi"})).await.is(201);
    is_time(&answer.body["createdAt"]);
    assert_eq!(
        answer.body,
        json!({
            "messageId": format!("{chat}/1"), "chatId": chat, "seq": 1, "senderId": ann.id,
            "text": "hi", "imageUrl": null, "linkPreviewUrl": null,
            "status": "sent", "createdAt": answer.body["createdAt"],
        })
    );
    assert_eq!(answer.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn a_message_is_read_as_it_was_typed() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let texts = [
        " leading and trailing ",
        "line\nbreak\r\nand\ttab",
        "👩‍👩‍👧‍👦 👍🏽 🇩🇪",
        "שלום עולם — مرحبا — 你好 — Ω≈ç√",
        "e\u{301} is not é",
        "quotes \" and \\ and </script>",
        "\u{0}\u{1}\u{7f}\u{feff}\u{200b}x",
        &"𝕏".repeat(4_096),
    ];
    for text in texts {
        ann.say(&chat, text).await.is(201);
    }
    let page = ben.messages(&chat, "?after=0").await.is(200);
    let read: Vec<_> = page.body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["text"])
        .collect();
    assert_eq!(read, texts);
}

#[tokio::test]
async fn each_of_the_three_parts_is_enough() {
    let (ann, _, chat) = Api::shared().friends().await;
    let image = "https://a.example/i.png?a=%20b#c";
    let link = "HTTPS://例え.jp/記事";
    let longest = format!("https://a.example/{}", "x".repeat(2_048 - 18));
    for body in [
        json!({"text": "t"}),
        json!({"imageUrl": image}),
        json!({"linkPreviewUrl": link}),
        json!({"text": "t", "imageUrl": longest, "linkPreviewUrl": link}),
    ] {
        let answer = send(&ann, &chat, &body).await.is(201);
        for part in ["text", "imageUrl", "linkPreviewUrl"] {
            assert_eq!(
                answer.body.get(part),
                Some(body.get(part).unwrap_or(&Value::Null))
            );
        }
    }
}

#[tokio::test]
async fn messages_are_numbered_from_1_without_gaps_whoever_writes() {
    let (ann, ben, chat) = Api::shared().friends().await;
    for (seq, sender) in [(1, &ann), (2, &ben), (3, &ben), (4, &ann)] {
        assert_eq!(sender.say(&chat, "hi").await.is(201).body["seq"], seq);
    }
    let page = ann.messages(&chat, "").await.is(200);
    assert_eq!(page.seqs(), [4, 3, 2, 1]);
    let times: Vec<_> = page.body["messages"].as_array().unwrap().iter().collect();
    assert!(times.is_sorted_by(|a, b| a["createdAt"].as_str() >= b["createdAt"].as_str()));
}

#[tokio::test]
async fn a_message_is_read_once_its_recipients_watermark_is_past_it() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, "one").await.is(201);
    ben.say(&chat, "two").await.is(201);
    let statuses = async || {
        let page = ann.messages(&chat, "?after=0").await;
        let messages = page.body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|it| it["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, ["sent", "sent"]);
    ben.mark_read(&chat).await.is(200);
    assert_eq!(statuses().await, ["read", "sent"]);
    ann.mark_read(&chat).await.is(200);
    assert_eq!(statuses().await, ["read", "read"]);
    ann.say(&chat, "three").await.is(201);
    assert_eq!(statuses().await, ["read", "read", "sent"]);
}

#[tokio::test]
async fn marking_as_read_says_so_and_may_be_repeated() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, "hi").await.is(201);
    for _ in 0..2 {
        let answer = ben.mark_read(&chat).await.is(200);
        let said = json!({"success": true, "message": "All messages have been marked as read."});
        assert_eq!(answer.body, said);
        assert_eq!(ben.totals().await, [0, 0, 0]);
        assert_eq!(ben.view(&chat).await["readSeq"], 1);
    }
}

#[tokio::test]
async fn marking_as_read_marks_only_the_callers_side() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, "to ben").await.is(201);
    ben.say(&chat, "to ann").await.is(201);
    ann.mark_read(&chat).await.is(200);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 1, 0]);
    assert_eq!(ben.view(&chat).await["unreadCount"], 1);
}
