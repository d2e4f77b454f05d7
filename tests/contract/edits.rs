//! Changes to messages after they were sent: editing and deleting them.
//!
//! The integration tests cover the time limits, because they can change the time of a message in the table.

use serde_json::{Value, json};

use crate::{
    chats::{assert_is_timestamp, declined_chat, pending_chat, withdrawn_chat},
    support::{Api, Response, User},
};

const IMAGE: &str = "https://a.example/i.png";
const LINK: &str = "https://a.example/page";

/// Two new users with an active chat in which the first one has sent a message with this content, and its id.
async fn chat_with(content: &Value) -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.post(&format!("/chats/{chat}/messages"), content)
        .await
        .expect_status(201);
    (ann, ben, chat)
}

/// Like [`chat_with`], with a text.
async fn chat_with_text(text: &str) -> (User, User, String) {
    chat_with(&json!({"text": text})).await
}

/// The text, the URL of the image and the URL of the link preview of a message.
fn parts(message: &Value) -> [&Value; 3] {
    ["text", "imageUrl", "linkPreviewUrl"].map(|part| &message[part])
}

/// The number of changes to the messages of a chat.
async fn rev(user: &User, chat: &str) -> Value {
    user.get_chat(chat).await.expect_status(200).body["rev"].clone()
}

/// Asserts that a request with this result changed nothing: the message and the chat are as before.
async fn assert_unchanged(user: &User, chat: &str, before: &(Value, Value)) {
    assert_eq!(snapshot(user, chat).await, *before);
}

/// The first message and the chat.
async fn snapshot(user: &User, chat: &str) -> (Value, Value) {
    let message = user.message(chat, 1).await;
    (message, user.get_chat(chat).await.body)
}

#[tokio::test]
async fn an_edited_message_has_every_field() {
    let (ann, ben, chat) = chat_with_text("helo").await;
    let sent = ann.message(&chat, 1).await;
    let edited = ann.edit_text(&chat, 1, "hello").await.expect_status(200);
    assert_is_timestamp(&edited.body["editedAt"]);
    assert!(edited.body["editedAt"].as_str() >= sent["createdAt"].as_str());
    assert_eq!(
        edited.body,
        json!({
            "messageId": format!("{chat}/1"), "chatId": chat, "seq": 1, "senderId": ann.id,
            "text": "hello", "imageUrl": null, "linkPreviewUrl": null,
            "status": "sent", "createdAt": sent["createdAt"],
            "editedAt": edited.body["editedAt"], "deletedAt": null,
        })
    );
    for user in [&ann, &ben] {
        assert_eq!(user.message(&chat, 1).await, edited.body);
    }
}

#[tokio::test]
async fn an_edit_replaces_the_given_parts_removes_those_that_are_null_and_keeps_the_others() {
    let (ann, ben, chat) = chat_with(&json!({"text": "one", "imageUrl": IMAGE})).await;
    let two = "https://a.example/2";
    for (edit, expected) in [
        (
            json!({"text": "two"}),
            [json!("two"), json!(IMAGE), json!(null)],
        ),
        (
            json!({"imageUrl": two}),
            [json!("two"), json!(two), json!(null)],
        ),
        (
            json!({"text": null, "linkPreviewUrl": LINK}),
            [json!(null), json!(two), json!(LINK)],
        ),
        (
            json!({"imageUrl": null, "linkPreviewUrl": LINK}),
            [json!(null), json!(null), json!(LINK)],
        ),
        (
            json!({"text": "𝕏".repeat(4_096), "imageUrl": IMAGE, "linkPreviewUrl": null}),
            [json!("𝕏".repeat(4_096)), json!(IMAGE), json!(null)],
        ),
    ] {
        let edited = ann.edit(&chat, 1, &edit).await.expect_status(200);
        assert_eq!(parts(&edited.body), expected.each_ref());
        assert_eq!(ben.message(&chat, 1).await, edited.body);
    }
    assert_eq!(rev(&ben, &chat).await, 5);
}

#[tokio::test]
async fn an_edit_names_at_least_one_part() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let before = snapshot(&ann, &chat).await;
    let response = ann.edit(&chat, 1, &json!({})).await;
    for part in ["`text`", "`imageUrl`", "`linkPreviewUrl`"] {
        response.expect_invalid(part);
    }
    let without_body = ann.request("PATCH", &format!("/chats/{chat}/messages/1"));
    without_body.send().await.expect_invalid("body");
    assert_unchanged(&ann, &chat, &before).await;
}

#[tokio::test]
async fn an_edit_after_which_no_part_remains_is_rejected_and_changes_nothing() {
    for (content, edit) in [
        (json!({"text": "hi"}), json!({"text": null})),
        (
            json!({"text": "hi"}),
            json!({"text": null, "imageUrl": null, "linkPreviewUrl": null}),
        ),
        (
            json!({"imageUrl": IMAGE}),
            json!({"text": null, "imageUrl": null}),
        ),
        (
            json!({"text": "hi", "linkPreviewUrl": LINK}),
            json!({"text": null, "linkPreviewUrl": null}),
        ),
    ] {
        let (ann, _, chat) = chat_with(&content).await;
        let before = snapshot(&ann, &chat).await;
        let response = ann.edit(&chat, 1, &edit).await;
        response.expect_invalid("`text`");
        assert_unchanged(&ann, &chat, &before).await;
    }
}

#[tokio::test]
async fn the_parts_of_an_edit_have_the_limits_of_a_new_message() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let before = snapshot(&ann, &chat).await;
    let long_text = json!({"text": "é".repeat(4_097)}).to_string();
    let path = format!("/chats/{chat}/messages/1");
    for (body, named) in [
        (r#"{"text":""}"#, "`text`"),
        (r#"{"text":"\u200b"}"#, "`text`"),
        (r#"{"text":5}"#, "`text`"),
        (long_text.as_str(), "`text`"),
        (r#"{"text":"a","text":"b"}"#, "`text`"),
        (r#"{"text":null,"text":"b"}"#, "`text`"),
        (r#"{"text":"\ud800"}"#, "`text`"),
        (r#"{"imageUrl":"http://a.example"}"#, "`imageUrl`"),
        (r#"{"text":null,"imageUrl":7}"#, "`imageUrl`"),
        (
            r#"{"text":"a","linkPreviewUrl":"https://bank.example@evil.example/"}"#,
            "`linkPreviewUrl`",
        ),
        (r#"{"text":"a","colour":"red"}"#, "`colour`"),
        (r#"{"seq":1,"text":"a"}"#, "`seq`"),
        (r#"["text"]"#, "JSON"),
        ("null", "JSON"),
        ("{", "JSON"),
        ("", "body"),
    ] {
        let request = ann.request("PATCH", &path).body(body);
        let request = request.header("content-type", "application/json");
        request.send().await.expect_invalid(named);
    }
    let as_text = ann
        .request("PATCH", &path)
        .header("content-type", "text/plain")
        .body(r#"{"text":"a"}"#);
    let as_text = as_text.send().await;
    as_text.expect_error(415, "unsupported_media_type");
    assert_unchanged(&ann, &chat, &before).await;
}

#[tokio::test]
async fn the_same_edit_again_changes_nothing() {
    let (ann, ben, chat) = chat_with(&json!({"text": "one", "imageUrl": IMAGE})).await;
    let edit = json!({"text": "two", "imageUrl": null});
    let first = ann.edit(&chat, 1, &edit).await.expect_status(200);
    let before = snapshot(&ben, &chat).await;
    for same in [
        &edit,
        &json!({"text": "two"}),
        &json!({"linkPreviewUrl": null}),
    ] {
        let again = ann.edit(&chat, 1, same).await.expect_status(200);
        assert_eq!(again.body, first.body);
    }
    assert_unchanged(&ben, &chat, &before).await;
    assert_eq!(rev(&ben, &chat).await, 1);
}

#[tokio::test]
async fn an_edit_to_what_a_message_contains_already_does_not_count_as_an_edit() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let before = snapshot(&ann, &chat).await;
    for edit in [
        json!({"text": "hi"}),
        json!({"imageUrl": null}),
        json!({"text": "hi", "imageUrl": null, "linkPreviewUrl": null}),
    ] {
        let response = ann.edit(&chat, 1, &edit).await.expect_status(200);
        assert_eq!(response.body, before.0);
        assert_eq!(response.body["editedAt"], Value::Null);
    }
    assert_unchanged(&ann, &chat, &before).await;
}

#[tokio::test]
async fn an_edit_changes_the_preview_only_if_the_message_is_the_last_one() {
    let (ann, ben, chat) = chat_with_text("one").await;
    ben.send(&chat, "two").await.expect_status(201);
    let preview = async || {
        let view = ann.get_chat(&chat).await.expect_status(200).body;
        view["lastMessage"].clone()
    };
    let before = preview().await;
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    assert_eq!(preview().await, before);
    let family = "👩\u{200d}👩\u{200d}👧";
    for (text, start) in [
        ("TWO".to_owned(), "TWO".to_owned()),
        ("a".repeat(119) + family, "a".repeat(119)),
    ] {
        ben.edit_text(&chat, 2, &text).await.expect_status(200);
        let mut expected = before.clone();
        expected["text"] = json!(start);
        assert_eq!(preview().await, expected);
    }
    let without_text = json!({"text": null, "imageUrl": IMAGE});
    ben.edit(&chat, 2, &without_text).await.expect_status(200);
    let mut expected = before;
    expected["text"] = Value::Null;
    assert_eq!(preview().await, expected);
}

#[tokio::test]
async fn an_edit_makes_no_message_unread_and_does_not_move_the_chat() {
    let (ann, ben, older) = chat_with_text("one").await;
    ann.send(&older, "two").await.expect_status(201);
    ben.mark_up_to(&older, 1).await.expect_status(200);
    let newer = ben.start_chat(&ann.api.user()).await;
    let before = ben.get_chat(&older).await.expect_status(200).body;
    for seq in [1, 2] {
        ann.edit_text(&older, seq, "edited")
            .await
            .expect_status(200);
    }
    let after = ben.get_chat(&older).await.expect_status(200).body;
    let mut expected = before.clone();
    expected["rev"] = json!(2);
    expected["lastMessage"]["text"] = json!("edited");
    assert_eq!(after, expected);
    assert_eq!(ben.totals().await, [0, 1, 0]);
    assert_eq!(ben.message(&older, 1).await["status"], "read");
    assert_eq!(ben.message(&older, 2).await["status"], "sent");
    let what = "have the edited chat in its place";
    ben.wait_for_chats("/chats", what, |page| {
        page.chat_ids() == [&newer, &older] && page.chats()[1] == after
    })
    .await;
}

#[tokio::test]
async fn a_message_can_be_edited_after_it_was_read() {
    let (ann, ben, chat) = chat_with_text("one").await;
    ben.mark_read(&chat).await.expect_status(200);
    let edited = ann.edit_text(&chat, 1, "two").await.expect_status(200);
    assert_eq!(edited.body["status"], "read");
    assert_eq!(ben.message(&chat, 1).await, edited.body);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn only_the_sender_can_edit_or_delete_a_message() {
    let (ann, ben, chat) = chat_with_text("hi").await;
    let before = snapshot(&ann, &chat).await;
    ben.edit_text(&chat, 1, "changed")
        .await
        .expect_error(403, "not_the_sender");
    ben.edit_text(&chat, 1, "hi")
        .await
        .expect_error(403, "not_the_sender");
    ben.edit(&chat, 1, &json!({"text": null}))
        .await
        .expect_error(403, "not_the_sender");
    ben.delete_message(&chat, 1)
        .await
        .expect_error(403, "not_the_sender");
    assert_unchanged(&ann, &chat, &before).await;
    ann.delete_message(&chat, 1).await.expect_status(200);
    ben.edit_text(&chat, 1, "changed")
        .await
        .expect_error(403, "not_the_sender");
    ben.delete_message(&chat, 1)
        .await
        .expect_error(403, "not_the_sender");
}

#[tokio::test]
async fn a_deleted_message_has_no_content_and_keeps_its_place() {
    let content = json!({"text": "hi", "imageUrl": IMAGE, "linkPreviewUrl": LINK});
    let (ann, ben, chat) = chat_with(&content).await;
    ann.send(&chat, "two").await.expect_status(201);
    let sent = ann.message(&chat, 1).await;
    let deleted = ann.delete_message(&chat, 1).await.expect_status(200);
    assert_is_timestamp(&deleted.body["deletedAt"]);
    assert!(deleted.body["deletedAt"].as_str() >= sent["createdAt"].as_str());
    assert_eq!(
        deleted.body,
        json!({
            "messageId": format!("{chat}/1"), "chatId": chat, "seq": 1, "senderId": ann.id,
            "text": null, "imageUrl": null, "linkPreviewUrl": null,
            "status": "sent", "createdAt": sent["createdAt"],
            "editedAt": null, "deletedAt": deleted.body["deletedAt"],
        })
    );
    for user in [&ann, &ben] {
        assert_eq!(user.message(&chat, 1).await, deleted.body);
        for (query, seqs) in [("", [2, 1]), ("?after=0", [1, 2])] {
            assert_eq!(user.messages(&chat, query).await.seqs(), seqs);
        }
        assert_eq!(user.messages(&chat, "?skip=1").await.seqs(), [1]);
    }
}

#[tokio::test]
async fn a_deleted_message_shows_when_it_was_edited_and_whether_it_was_read() {
    let (ann, ben, chat) = chat_with_text("helo").await;
    let edited = ann.edit_text(&chat, 1, "hello").await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    let deleted = ann.delete_message(&chat, 1).await.expect_status(200).body;
    assert_eq!(deleted["editedAt"], edited.body["editedAt"]);
    assert_eq!(deleted["status"], "read");
    assert_eq!(rev(&ann, &chat).await, 2);
}

#[tokio::test]
async fn deleting_the_same_message_again_changes_nothing() {
    let (ann, ben, chat) = chat_with_text("hi").await;
    let first = ann.delete_message(&chat, 1).await.expect_status(200);
    let before = snapshot(&ben, &chat).await;
    for _ in 0..2 {
        let again = ann.delete_message(&chat, 1).await.expect_status(200);
        assert_eq!(again.body, first.body);
    }
    assert_unchanged(&ben, &chat, &before).await;
    assert_eq!(rev(&ben, &chat).await, 1);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    // The status follows the watermark of the recipient.
    ann.send(&chat, "two").await.expect_status(201);
    ben.mark_read(&chat).await.expect_status(200);
    let again = ann.delete_message(&chat, 1).await.expect_status(200);
    assert_eq!(again.body["status"], "read");
    assert_eq!(again.body["deletedAt"], first.body["deletedAt"]);
}

#[tokio::test]
async fn a_deleted_message_cannot_be_edited() {
    let (ann, _, chat) = chat_with_text("hi").await;
    ann.delete_message(&chat, 1).await.expect_status(200);
    let before = snapshot(&ann, &chat).await;
    for edit in [
        json!({"text": "hi"}),
        json!({"text": "again"}),
        // Nothing would remain, but that comes after the state of the message.
        json!({"text": null}),
    ] {
        ann.edit(&chat, 1, &edit)
            .await
            .expect_error(409, "message_deleted");
    }
    assert_unchanged(&ann, &chat, &before).await;
}

#[tokio::test]
async fn deleting_an_unread_message_lowers_the_unread_count_and_the_total_by_one() {
    let api = Api::shared();
    let (ann, ben, chat) = api.active_chat().await;
    let other_chat = ann.api.user().start_chat(&ben).await;
    for text in ["1", "2", "3", "4"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    ben.mark_up_to(&chat, 1).await.expect_status(200);
    let counts = async || {
        let view = ben.get_chat(&chat).await.expect_status(200).body;
        let count = view["unreadCount"].as_u64().unwrap();
        assert_eq!(ben.totals().await, [0, count, 0]);
        (count, view["readSeq"].as_u64().unwrap())
    };
    assert_eq!(counts().await, (3, 1));
    ann.delete_message(&chat, 3).await.expect_status(200);
    assert_eq!(counts().await, (2, 1));
    // This one was read.
    ann.delete_message(&chat, 1).await.expect_status(200);
    assert_eq!(counts().await, (2, 1));
    ann.delete_message(&chat, 3).await.expect_status(200);
    ann.delete_message(&chat, 4).await.expect_status(200);
    assert_eq!(counts().await, (1, 1));
    ann.send(&chat, "5").await.expect_status(201);
    assert_eq!(counts().await, (2, 1));
    ann.delete_message(&chat, 2).await.expect_status(200);
    ann.delete_message(&chat, 5).await.expect_status(200);
    assert_eq!(counts().await, (0, 1));
    // The own deleted messages of a member never count for that member.
    ben.send(&chat, "6").await.expect_status(201);
    ben.delete_message(&chat, 6).await.expect_status(200);
    assert_eq!(counts().await, (0, 1));
    assert_eq!(ann.totals().await, [0, 0, 0]);
    let other = ben.get_chat(&other_chat).await.expect_status(200);
    assert_eq!(other.body["unreadCount"], 0);
    // A list follows the counts.
    ben.wait_for_chats("/chats", "have no unread message", |page| {
        page.chats().len() == 2 && page.chats().iter().all(|chat| chat["unreadCount"] == 0)
    })
    .await;
}

#[tokio::test]
async fn a_deleted_last_message_leaves_its_place_in_the_preview() {
    let (ann, ben, chat) = chat_with_text("one").await;
    ann.send(&chat, "two").await.expect_status(201);
    let view = async || ben.get_chat(&chat).await.expect_status(200).body;
    let before = view().await;
    ann.delete_message(&chat, 1).await.expect_status(200);
    let mut expected = before.clone();
    (expected["rev"], expected["unreadCount"]) = (json!(1), json!(1));
    assert_eq!(view().await, expected);
    ann.delete_message(&chat, 2).await.expect_status(200);
    (expected["rev"], expected["unreadCount"]) = (json!(2), json!(0));
    expected["lastMessage"]["text"] = Value::Null;
    expected["lastMessage"]["deleted"] = json!(true);
    assert_eq!(view().await, expected);
    // The deletion does not move the chat, and is in the list.
    ben.wait_for_chats("/chats", "show the deletion", |page| {
        page.chats() == [expected.clone()]
    })
    .await;
    // The next message is not deleted.
    let sent = ben.send(&chat, "three").await.expect_status(201).body;
    assert_eq!(
        view().await["lastMessage"],
        json!({
            "seq": 3, "senderId": ben.id, "text": "three", "createdAt": sent["createdAt"],
            "deleted": false,
        })
    );
}

#[tokio::test]
async fn a_last_message_without_a_text_is_deleted_in_the_preview_too() {
    let (ann, ben, chat) = chat_with(&json!({"imageUrl": IMAGE})).await;
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    let last = &view["lastMessage"];
    assert_eq!(
        [&last["text"], &last["deleted"]],
        [&json!(null), &json!(false)]
    );
    ann.delete_message(&chat, 1).await.expect_status(200);
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    let last = &view["lastMessage"];
    assert_eq!(
        [&last["text"], &last["deleted"]],
        [&json!(null), &json!(true)]
    );
}

#[tokio::test]
async fn an_encoded_slash_is_part_of_the_seq() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let path = format!("/chats/{chat}/messages/1%2F1");
    for response in [
        ann.patch(&path, &json!({"text": "a"})).await,
        ann.delete(&path).await,
    ] {
        response.expect_error(404, "message_not_found");
    }
}

#[tokio::test]
async fn a_seq_that_is_not_the_canonical_number_of_a_message_is_not_found() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let before = snapshot(&ann, &chat).await;
    for seq in [
        "2",
        "0",
        "01",
        "00",
        "%2B1",
        "-1",
        "1.0",
        "1e0",
        "%201",
        "1%20",
        "1%00",
        "x",
        "%F0%9F%98%80",
        "9007199254740991",
        "9007199254740992",
        "18446744073709551616",
        "MSG%230000000000000001",
        "Read",
    ] {
        let path = format!("/chats/{chat}/messages/{seq}");
        for response in [
            ann.patch(&path, &json!({"text": "a"})).await,
            ann.delete(&path).await,
        ] {
            response.expect_error(404, "message_not_found");
        }
        // Whether the chat exists is checked first.
        let no_chat = ann.chat_id_with(&ann.api.user());
        let path = format!("/chats/{no_chat}/messages/{seq}");
        for response in [
            ann.patch(&path, &json!({"text": "a"})).await,
            ann.delete(&path).await,
        ] {
            response.expect_error(404, "chat_not_found");
        }
    }
    assert_unchanged(&ann, &chat, &before).await;
    // A path parameter is percent-decoded.
    let path = format!("/chats/{chat}/messages/%31");
    let edited = ann.patch(&path, &json!({"text": "a"})).await;
    assert_eq!(edited.expect_status(200).body["seq"], 1);
}

#[tokio::test]
async fn a_chat_that_was_never_active_has_no_message_to_edit_or_delete() {
    for (ann, ben, chat) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
    ] {
        for user in [&ann, &ben] {
            for response in [
                user.edit_text(&chat, 1, "hi").await,
                user.delete_message(&chat, 1).await,
            ] {
                response.expect_error(404, "message_not_found");
            }
        }
    }
}

#[tokio::test]
async fn an_edit_with_several_errors_gets_the_first_one_in_the_documented_order() {
    let (ann, ben, chat) = chat_with_text("hi").await;
    let stranger = ann.api.user();
    let invalid = json!({"text": ""});
    // The body comes before the chat and the message.
    for (user, seq) in [(&stranger, "1"), (&ann, "2"), (&ann, "x"), (&ben, "1")] {
        let path = format!("/chats/{chat}/messages/{seq}");
        user.patch(&path, &invalid).await.expect_invalid("`text`");
    }
    // The chat comes before the message.
    for seq in ["1", "x"] {
        let path = format!("/chats/{chat}/messages/{seq}");
        for response in [
            stranger.patch(&path, &json!({"text": "a"})).await,
            stranger.delete(&path).await,
        ] {
            response.expect_error(404, "chat_not_found");
        }
    }
}

#[tokio::test]
async fn each_edit_and_deletion_raises_the_rev_of_the_chat_by_one() {
    let (ann, ben, chat) = chat_with_text("one").await;
    ben.send(&chat, "two").await.expect_status(201);
    let mut expected = 0;
    let mut assert_rev = async |response: Response, change: u64| {
        response.expect_status(200);
        expected += change;
        for user in [&ann, &ben] {
            assert_eq!(rev(user, &chat).await, expected);
        }
    };
    assert_rev(ann.edit_text(&chat, 1, "ONE").await, 1).await;
    assert_rev(ben.edit_text(&chat, 2, "TWO").await, 1).await;
    assert_rev(ben.edit_text(&chat, 2, "TWO").await, 0).await;
    assert_rev(ann.edit_text(&chat, 1, "one").await, 1).await;
    assert_rev(ben.delete_message(&chat, 2).await, 1).await;
    assert_rev(ben.delete_message(&chat, 2).await, 0).await;
    assert_rev(ann.mark_read(&chat).await, 0).await;
    assert_rev(ann.delete_message(&chat, 1).await, 1).await;
}

#[tokio::test]
async fn deleting_a_message_ignores_a_body() {
    let (ann, _, chat) = chat_with_text("hi").await;
    let request = ann.request("DELETE", &format!("/chats/{chat}/messages/1"));
    let request = request.header("content-type", "text/plain").body("hi");
    request.send().await.expect_status(200);
}

#[tokio::test]
async fn a_repeated_send_with_its_key_returns_the_message_as_it_is_now() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let send = async |text: &str| ann.send_with_key(&chat, "key", text).await;
    send("one").await.expect_status(201);
    let edited = ann.edit_text(&chat, 1, "two").await.expect_status(200);
    let replayed = send("one").await.expect_status(200);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(replayed.body, edited.body);
    // The key belongs to the message as it was sent.
    send("two")
        .await
        .expect_error(422, "idempotency_key_reused");

    let deleted = ann.delete_message(&chat, 1).await.expect_status(200);
    let replayed = send("one").await.expect_status(200);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(replayed.body, deleted.body);
    send("two")
        .await
        .expect_error(422, "idempotency_key_reused");
    assert_eq!(ann.messages(&chat, "").await.seqs(), [1]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}
