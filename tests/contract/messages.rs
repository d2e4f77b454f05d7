//! Messages: sending them, listing them and marking them as read. `marks` has more tests of marking, `edits`
//! those of editing and deleting.

use serde_json::{Value, json};

use crate::{
    chats::assert_is_timestamp,
    support::{Api, Response, User},
};

async fn send_body(user: &User, chat: &str, body: &Value) -> Response {
    user.post(&format!("/chats/{chat}/messages"), body).await
}

#[tokio::test]
async fn a_sent_message_has_every_field() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let response = send_body(&ann, &chat, &json!({"text": "hi"}))
        .await
        .expect_status(201);
    assert_is_timestamp(&response.body["createdAt"]);
    assert_eq!(
        response.body,
        json!({
            "messageId": format!("{chat}/1"), "chatId": chat, "seq": 1, "senderId": ann.id,
            "text": "hi", "imageUrl": null, "linkPreviewUrl": null,
            "status": "sent", "createdAt": response.body["createdAt"],
            "editedAt": null, "deletedAt": null,
        })
    );
    assert_eq!(response.header("idempotent-replayed"), None);
    assert_eq!(ann.message(&chat, 1).await, response.body);
}

#[tokio::test]
async fn the_text_of_a_message_is_returned_unchanged() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
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
        ann.send(&chat, text).await.expect_status(201);
    }
    let page = ben.messages(&chat, "?after=0").await.expect_status(200);
    let received: Vec<_> = page.body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["text"])
        .collect();
    assert_eq!(received, texts);
}

#[tokio::test]
async fn a_message_needs_only_one_of_text_image_and_link_preview() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let image = "https://a.example/i.png?a=%20b#c";
    let link = "HTTPS://例え.jp/it's-記事?a=b@c";
    let longest = format!("https://a.example/{}", "x".repeat(2_048 - 18));
    for body in [
        json!({"text": "t"}),
        json!({"imageUrl": image}),
        json!({"linkPreviewUrl": link}),
        json!({"text": "t", "imageUrl": longest, "linkPreviewUrl": link}),
    ] {
        let response = send_body(&ann, &chat, &body).await.expect_status(201);
        for field in ["text", "imageUrl", "linkPreviewUrl"] {
            assert_eq!(
                response.body.get(field),
                Some(body.get(field).unwrap_or(&Value::Null))
            );
        }
    }
}

#[tokio::test]
async fn the_preview_of_a_text_ends_at_a_character_that_a_reader_sees() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let family = "👩\u{200d}👩\u{200d}👧";
    for (text, preview) in [
        ("a".repeat(119) + family, "a".repeat(119)),
        ("a".repeat(115) + family + "b", "a".repeat(115) + family),
        ("🇩🇪".repeat(61), "🇩🇪".repeat(60)),
    ] {
        ann.send(&chat, &text).await.expect_status(201);
        let last = &ben.chat_view(&chat).await["lastMessage"];
        assert_eq!(last["text"], preview);
    }
}

#[tokio::test]
async fn the_messages_of_both_members_are_numbered_from_1_without_gaps() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for (seq, sender) in [(1, &ann), (2, &ben), (3, &ben), (4, &ann)] {
        let response = sender.send(&chat, "hi").await.expect_status(201);
        assert_eq!(response.body["seq"], seq);
    }
    let page = ann.messages(&chat, "").await.expect_status(200);
    assert_eq!(page.seqs(), [4, 3, 2, 1]);
    let messages: Vec<_> = page.body["messages"].as_array().unwrap().iter().collect();
    assert!(messages.is_sorted_by(|a, b| a["createdAt"].as_str() >= b["createdAt"].as_str()));
}

#[tokio::test]
async fn a_message_is_read_once_the_recipient_has_marked_it() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ben.send(&chat, "two").await.expect_status(201);
    let statuses = async || {
        let page = ann.messages(&chat, "?after=0").await;
        let messages = page.body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, ["sent", "sent"]);
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(statuses().await, ["read", "sent"]);
    ann.mark_read(&chat).await.expect_status(200);
    assert_eq!(statuses().await, ["read", "read"]);
    ann.send(&chat, "three").await.expect_status(201);
    assert_eq!(statuses().await, ["read", "read", "sent"]);
}

#[tokio::test]
async fn marking_as_read_confirms_and_may_be_repeated() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    for _ in 0..2 {
        let response = ben.mark_read(&chat).await.expect_status(200);
        let confirmation =
            json!({"success": true, "message": "All messages have been marked as read."});
        assert_eq!(response.body, confirmation);
        assert_eq!(ben.totals().await, [0, 0, 0]);
        assert_eq!(ben.chat_view(&chat).await["readSeq"], 1);
    }
}

#[tokio::test]
async fn marking_as_read_affects_only_the_caller() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "to ben").await.expect_status(201);
    ben.send(&chat, "to ann").await.expect_status(201);
    ann.mark_read(&chat).await.expect_status(200);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 1, 0]);
    assert_eq!(ben.chat_view(&chat).await["unreadCount"], 1);
}
