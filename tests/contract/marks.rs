//! Marking messages as read up to a `seq`.
//!
//! `messages` tests marking all messages. The integration tests cover the maximum number of messages after the
//! `seq`, because they can write messages into the table.

use serde_json::{Value, json};

use crate::{
    chats::{declined_chat, pending_chat, withdrawn_chat},
    support::{Api, Response, User},
};

/// Two new users with an active chat in which they have sent these messages, and its id. `a` is a message of the
/// first user, `b` one of the second.
async fn chat_with_messages(senders: &str) -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for sender in senders.chars() {
        let user = if sender == 'a' { &ann } else { &ben };
        user.send(&chat, "hi").await.expect_status(201);
    }
    (ann, ben, chat)
}

/// The unread count and the watermark of a user. Asserts that the total of unread messages is the count.
async fn unread_and_watermark(user: &User, chat: &str) -> (u64, u64) {
    let view = user.get_chat(chat).await.expect_status(200).body;
    let number = |name: &str| view[name].as_u64().unwrap();
    let unread = number("unreadCount");
    assert_eq!(user.totals().await, [0, unread, 0]);
    (unread, number("readSeq"))
}

/// The statuses of all messages, oldest first.
async fn statuses(user: &User, chat: &str) -> Vec<Value> {
    let page = user.messages(chat, "?after=0").await.expect_status(200);
    let messages = page.body["messages"].as_array().unwrap().iter();
    messages.map(|message| message["status"].clone()).collect()
}

#[tokio::test]
async fn marking_up_to_a_message_marks_it_and_those_before_it_and_nothing_after_it() {
    let (ann, ben, chat) = chat_with_messages("aaaa").await;
    let response = ben.mark_up_to(&chat, 2).await.expect_status(200);
    assert_eq!(
        response.body,
        json!({"success": true, "message": "Messages up to 2 have been marked as read."})
    );
    assert_eq!(unread_and_watermark(&ben, &chat).await, (2, 2));
    assert_eq!(
        statuses(&ann, &chat).await,
        ["read", "read", "sent", "sent"]
    );
    let view = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(view["peerReadSeq"], 2);
    ben.mark_up_to(&chat, 4).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (0, 4));
    ben.wait_for_chats("/chats", "have no unread message", |page| {
        page.chats().len() == 1 && page.chats()[0]["unreadCount"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_message_that_arrives_while_the_user_reads_stays_unread() {
    let (ann, ben, chat) = chat_with_messages("aa").await;
    let newest = ben.messages(&chat, "").await.seqs()[0];
    ann.send(&chat, "meanwhile").await.expect_status(201);
    ben.mark_up_to(&chat, newest).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (1, 2));
}

#[tokio::test]
async fn own_messages_do_not_count_as_unread_on_either_side_of_the_mark() {
    let (ann, ben, chat) = chat_with_messages("abbaabba").await;
    ben.mark_up_to(&chat, 4).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (2, 4));
    // An own message can be the last one that was read.
    ben.mark_up_to(&chat, 7).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (1, 7));
    assert_eq!(unread_and_watermark(&ann, &chat).await, (4, 0));
    ann.mark_up_to(&chat, 2).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ann, &chat).await, (3, 2));
    assert_eq!(unread_and_watermark(&ben, &chat).await, (1, 7));
}

#[tokio::test]
async fn deleted_messages_do_not_count_as_unread_on_either_side_of_the_mark() {
    let (ann, ben, chat) = chat_with_messages("aaaaaa").await;
    for seq in [2, 5] {
        ann.delete_message(&chat, seq).await.expect_status(200);
    }
    assert_eq!(unread_and_watermark(&ben, &chat).await, (4, 0));
    ben.mark_up_to(&chat, 3).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (2, 3));
    // A deleted message can be the last one that was read.
    ben.mark_up_to(&chat, 5).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (1, 5));
    ann.delete_message(&chat, 6).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &chat).await, (0, 5));
}

#[tokio::test]
async fn a_watermark_never_goes_back() {
    let (ann, ben, chat) = chat_with_messages("aaaa").await;
    ben.mark_up_to(&chat, 3).await.expect_status(200);
    let before = ben.get_chat(&chat).await.expect_status(200);
    for seq in [1, 2, 3] {
        let response = ben.mark_up_to(&chat, seq).await.expect_status(200);
        let expected = format!("Messages up to {seq} have been marked as read.");
        assert_eq!(response.body["message"], expected);
        let after = ben.get_chat(&chat).await.expect_status(200);
        assert_eq!(after.body, before.body);
    }
    assert_eq!(unread_and_watermark(&ben, &chat).await, (1, 3));
    assert_eq!(
        statuses(&ann, &chat).await,
        ["read", "read", "read", "sent"]
    );
}

#[tokio::test]
async fn nothing_changes_if_nothing_is_unread_up_to_the_mark() {
    // Only own messages, only deleted ones, and both before an unread one.
    let (_, ben, own) = chat_with_messages("bb").await;
    ben.mark_up_to(&own, 2).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &own).await, (0, 0));

    let (ann, ben, deleted) = chat_with_messages("aa").await;
    for seq in [1, 2] {
        ann.delete_message(&deleted, seq).await.expect_status(200);
    }
    ben.mark_up_to(&deleted, 2).await.expect_status(200);
    ben.mark_read(&deleted).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &deleted).await, (0, 0));

    let (ann, ben, both) = chat_with_messages("aba").await;
    ann.delete_message(&both, 1).await.expect_status(200);
    ben.mark_up_to(&both, 2).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &both).await, (1, 0));
    ben.mark_up_to(&both, 3).await.expect_status(200);
    assert_eq!(unread_and_watermark(&ben, &both).await, (0, 3));
}

#[tokio::test]
async fn marking_up_to_a_message_changes_neither_the_time_nor_the_rev_of_the_chat() {
    let (_, ben, chat) = chat_with_messages("aaa").await;
    let mut expected = ben.get_chat(&chat).await.expect_status(200).body;
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    (expected["unreadCount"], expected["readSeq"]) = (json!(1), json!(2));
    let after = ben.get_chat(&chat).await.expect_status(200);
    assert_eq!(after.body, expected);
}

#[tokio::test]
async fn a_mark_beyond_the_newest_message_is_rejected_and_changes_nothing() {
    let (_, ben, chat) = chat_with_messages("aab").await;
    for seq in [4, 5, 9_007_199_254_740_991] {
        let response = ben.mark_up_to(&chat, seq).await;
        response.expect_invalid("`seq`");
    }
    assert_eq!(unread_and_watermark(&ben, &chat).await, (2, 0));
    // A chat that was never active has no message.
    for (ann, ben, chat) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
    ] {
        for user in [&ann, &ben] {
            user.mark_up_to(&chat, 1).await.expect_invalid("`seq`");
        }
    }
    // The chat comes first.
    let stranger = ben.api.user();
    stranger
        .mark_up_to(&chat, 99)
        .await
        .expect_error(404, "chat_not_found");
}

#[tokio::test]
async fn without_a_seq_all_messages_are_marked() {
    let (_, ben, chat) = chat_with_messages("a").await;
    let path = format!("/chats/{chat}/messages/read");
    let raw = |body: &'static str| {
        let request = ben.request("PUT", &path);
        request
            .header("content-type", "application/json")
            .body(body)
    };
    let assert_marked_all = async |response: Response| {
        let response = response.expect_status(200);
        let confirmation =
            json!({"success": true, "message": "All messages have been marked as read."});
        assert_eq!(response.body, confirmation);
        let (unread, _) = unread_and_watermark(&ben, &chat).await;
        assert_eq!(unread, 0);
    };
    let ann = ben.api.user();
    let other_chat = ann.start_chat(&ben).await;
    assert_marked_all(ben.mark_read(&chat).await).await;
    for body in ["", "{}", r#"{"seq":null}"#, "null"] {
        assert_marked_all(raw(body).send().await).await;
        // The same with something to mark.
        ann.send(&other_chat, "hi").await.expect_status(201);
        let request = ben.request("PUT", &format!("/chats/{other_chat}/messages/read"));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        assert_marked_all(request.send().await).await;
    }
}

#[tokio::test]
async fn an_invalid_mark_is_rejected_by_field_and_changes_nothing() {
    let (_, ben, chat) = chat_with_messages("aa").await;
    let path = format!("/chats/{chat}/messages/read");
    for (body, named) in [
        (r#"{"seq":0}"#, "`seq`"),
        (r#"{"seq":-1}"#, "`seq`"),
        (r#"{"seq":1.0}"#, "`seq`"),
        (r#"{"seq":1.5}"#, "`seq`"),
        (r#"{"seq":"1"}"#, "`seq`"),
        (r#"{"seq":true}"#, "`seq`"),
        (r#"{"seq":[1]}"#, "`seq`"),
        (r#"{"seq":9007199254740992}"#, "`seq`"),
        (r#"{"seq":99999999999999999999999}"#, "`seq`"),
        (r#"{"seq":1,"seq":1}"#, "`seq`"),
        (r#"{"seq":1,"colour":"red"}"#, "`colour`"),
        (r#"{"Seq":1}"#, "`Seq`"),
        (r"[1]", "JSON"),
        (r"1", "JSON"),
        (r#"{"seq":1"#, "JSON"),
        (r#"{"seq":1}{"#, "JSON"),
    ] {
        let request = ben.request("PUT", &path).body(body);
        let request = request.header("content-type", "application/json");
        request.send().await.expect_invalid(named);
    }
    let as_text = ben.request("PUT", &path).body(r#"{"seq":1}"#);
    let as_text = as_text.header("content-type", "text/plain").send().await;
    as_text.expect_error(415, "unsupported_media_type");
    assert_eq!(unread_and_watermark(&ben, &chat).await, (2, 0));
    // The body comes before the chat.
    let stranger = ben.api.user();
    let response = stranger.mark_with(&chat, &json!({"seq": 0})).await;
    response.expect_invalid("`seq`");
}
