//! Reports of users and messages.
//!
//! The integration tests cover what a report keeps, because only operators can read it.

use serde_json::{Value, json};

use crate::{
    chats::{assert_is_timestamp, declined_chat, pending_chat, withdrawn_chat},
    support::{Api, Response, User},
};

/// Two new users with an active chat, in which each has sent a message: first the first user. And its id.
async fn chat_with_messages() -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "from ann").await.expect_status(201);
    ben.send(&chat, "from ben").await.expect_status(201);
    (ann, ben, chat)
}

/// A report of a user as spam.
fn spam(user: &User) -> Value {
    json!({"userId": user.id, "reason": "spam"})
}

/// A report of a message as spam.
fn spam_message(user: &User, seq: u64) -> Value {
    json!({"userId": user.id, "seq": seq, "reason": "spam"})
}

/// Asserts that a report is new and has these values.
#[track_caller]
fn assert_new(response: &Response, user: &User, seq: Option<u64>, reason: &str) {
    assert_eq!(response.status, 201, "{response:?}");
    assert_is_timestamp(&response.body["createdAt"]);
    assert_eq!(
        response.body,
        json!({
            "reportId": response.body["reportId"], "userId": user.id, "seq": seq, "reason": reason,
            "createdAt": response.body["createdAt"],
        })
    );
    assert!(!response.body["reportId"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_message_of_the_other_member_can_be_reported() {
    let (ann, ben, chat) = chat_with_messages().await;
    let response = ann.report(&spam_message(&ben, 2)).await;
    assert_new(&response, &ben, Some(2), "spam");
    let id = format!("{chat}/{}/2", ann.id);
    assert_eq!(response.body["reportId"], id);
    let response = ben.report(&spam_message(&ann, 1)).await;
    assert_new(&response, &ann, Some(1), "spam");
}

#[tokio::test]
async fn a_user_can_be_reported_with_a_chat_in_any_status_and_without_one() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let response = ann.report(&spam(&ben)).await;
    assert_new(&response, &ben, None, "spam");
    let id = format!("{}/{}/0", ann.chat_id_with(&ben), ann.id);
    assert_eq!(response.body["reportId"], id);
    // The report does not create a chat.
    for user in [&ann, &ben] {
        let chat = user.get_chat(&ann.chat_id_with(&ben)).await;
        chat.expect_error(404, "chat_not_found");
    }
    ann.request_chat(&ben).await.expect_status(201);
    for (ann, ben, _) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
        api.active_chat().await,
    ] {
        assert_new(&ann.report(&spam(&ben)).await, &ben, None, "spam");
        assert_new(&ben.report(&spam(&ann)).await, &ann, None, "spam");
    }
}

#[tokio::test]
async fn a_report_has_one_of_seven_reasons() {
    let api = Api::shared();
    let me = api.user();
    for reason in [
        "spam",
        "harassment",
        "sexual",
        "violence",
        "self_harm",
        "scam",
        "other",
    ] {
        let user = api.user();
        let body = json!({"userId": user.id, "reason": reason});
        assert_new(&me.report(&body).await, &user, None, reason);
    }
}

#[tokio::test]
async fn a_note_has_at_most_1000_code_points() {
    let api = Api::shared();
    let (me, user) = (api.user(), api.user());
    let with_note = |note: Value| json!({"userId": user.id, "reason": "other", "note": note});
    for invalid in [json!("𝕏".repeat(1_001)), json!(5), json!(["note"])] {
        me.report(&with_note(invalid))
            .await
            .expect_invalid("`note`");
    }
    let longest = me.report(&with_note(json!("𝕏".repeat(1_000)))).await;
    assert_new(&longest, &user, None, "other");
    let other_user = api.user();
    let body = json!({"userId": other_user.id, "reason": "spam", "note": null, "seq": null, "block": null});
    assert_new(&me.report(&body).await, &other_user, None, "spam");
}

#[tokio::test]
async fn the_same_report_again_returns_the_first_one() {
    let (ann, ben, _) = chat_with_messages().await;
    let user = ann.report(&spam(&ben)).await.expect_status(201);
    let message = ann.report(&spam_message(&ben, 2)).await.expect_status(201);
    assert_ne!(user.body["reportId"], message.body["reportId"]);
    for _ in 0..2 {
        let again = ann.report(&spam(&ben)).await.expect_status(200);
        assert_eq!(again.body, user.body);
        // Another reason or note does not change it.
        let other_reason =
            json!({"userId": ben.id, "seq": 2, "reason": "violence", "note": "again"});
        let again = ann.report(&other_reason).await.expect_status(200);
        assert_eq!(again.body, message.body);
    }
    // A report of the other member, and a report of another message, are other reports.
    assert_new(&ben.report(&spam(&ann)).await, &ann, None, "spam");
    ben.send(&ann.chat_id_with(&ben), "more")
        .await
        .expect_status(201);
    let another = ann.report(&spam_message(&ben, 3)).await;
    assert_new(&another, &ben, Some(3), "spam");
}

#[tokio::test]
async fn an_invalid_report_is_rejected_by_field_and_changes_nothing() {
    let (ann, ben, chat) = chat_with_messages().await;
    let user = ben.id;
    for (body, named) in [
        (json!({}), "`userId`"),
        (json!({"reason": "spam"}), "`userId`"),
        (json!({"userId": null, "reason": "spam"}), "`userId`"),
        (json!({"userId": "42", "reason": "spam"}), "`userId`"),
        (json!({"userId": 0, "reason": "spam"}), "`userId`"),
        (json!({"userId": 42.5, "reason": "spam"}), "`userId`"),
        (
            json!({"userId": 9_007_199_254_740_992_u64, "reason": "spam"}),
            "`userId`",
        ),
        (json!({"userId": ann.id, "reason": "spam"}), "`userId`"),
        (
            json!({"userId": ann.id, "reason": "spam", "seq": 1}),
            "`userId`",
        ),
        (json!({"userId": user}), "`reason`"),
        (json!({"userId": user, "reason": null}), "`reason`"),
        (json!({"userId": user, "reason": ""}), "`reason`"),
        (json!({"userId": user, "reason": "Spam"}), "`reason`"),
        (json!({"userId": user, "reason": "self-harm"}), "`reason`"),
        (json!({"userId": user, "reason": 1}), "`reason`"),
        (json!({"userId": user, "reason": "spam", "seq": 0}), "`seq`"),
        (
            json!({"userId": user, "reason": "spam", "seq": -1}),
            "`seq`",
        ),
        (
            json!({"userId": user, "reason": "spam", "seq": 1.5}),
            "`seq`",
        ),
        (
            json!({"userId": user, "reason": "spam", "seq": "2"}),
            "`seq`",
        ),
        (
            json!({"userId": user, "reason": "spam", "seq": 9_007_199_254_740_992_u64}),
            "`seq`",
        ),
        (
            json!({"userId": user, "reason": "spam", "block": 1}),
            "`block`",
        ),
        (
            json!({"userId": user, "reason": "spam", "block": "true"}),
            "`block`",
        ),
        (
            json!({"userId": user, "reason": "spam", "text": "a"}),
            "`text`",
        ),
        (json!(["spam"]), "JSON"),
    ] {
        ann.report(&body).await.expect_invalid(named);
    }
    let repeated = format!(r#"{{"userId":{user},"reason":"spam","reason":"spam"}}"#);
    let request = ann.request("POST", "/reports").body(repeated);
    request.send().await.expect_invalid("`reason`");
    let as_text = ann.request("POST", "/reports").body(spam(&ben).to_string());
    let as_text = as_text.header("content-type", "text/plain").send().await;
    as_text.expect_error(415, "unsupported_media_type");
    ann.request("POST", "/reports")
        .send()
        .await
        .expect_invalid("body");
    assert_eq!(ann.get_chat(&chat).await.body["blocked"], false);
    // The first valid report is new.
    ann.report(&spam(&ben)).await.expect_status(201);
}

#[tokio::test]
async fn only_a_message_of_the_other_member_in_the_own_chat_with_them_can_be_reported() {
    let (ann, ben, chat) = chat_with_messages().await;
    // Cat has a chat with Ben, but none with Ann.
    let cat = ann.api.user();
    let other_chat = cat.start_chat(&ben).await;
    cat.send(&other_chat, "hi").await.expect_status(201);
    for (user, body) in [
        // The own message, and messages that do not exist.
        (&ann, spam_message(&ben, 1)),
        (&ann, spam_message(&ben, 3)),
        (&ann, spam_message(&ben, 9_007_199_254_740_991)),
        // No chat.
        (&ann, spam_message(&cat, 1)),
        (&cat, spam_message(&ann, 1)),
    ] {
        user.report(&body)
            .await
            .expect_error(404, "message_not_found");
    }
    for (ann, ben, _) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
    ] {
        ann.report(&spam_message(&ben, 1))
            .await
            .expect_error(404, "message_not_found");
    }
    let blocked = ann.api.user();
    ann.block(&blocked).await.expect_status(200);
    ann.report(&spam_message(&blocked, 1))
        .await
        .expect_error(404, "message_not_found");
    // Every 400 comes first.
    let body = json!({"userId": ben.id, "seq": 99, "reason": "bad"});
    ann.report(&body).await.expect_invalid("`reason`");
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
}

#[tokio::test]
async fn an_edited_or_deleted_message_can_be_reported() {
    let (ann, ben, chat) = chat_with_messages().await;
    ben.edit_text(&chat, 2, "edited").await.expect_status(200);
    assert_new(
        &ann.report(&spam_message(&ben, 2)).await,
        &ben,
        Some(2),
        "spam",
    );
    ann.delete_message(&chat, 1).await.expect_status(200);
    assert_new(
        &ben.report(&spam_message(&ann, 1)).await,
        &ann,
        Some(1),
        "spam",
    );
    // A deletion after the report changes nothing about it.
    let first = ann.report(&spam_message(&ben, 2)).await.expect_status(200);
    ben.delete_message(&chat, 2).await.expect_status(200);
    let again = ann.report(&spam_message(&ben, 2)).await.expect_status(200);
    assert_eq!(again.body, first.body);
}

#[tokio::test]
async fn users_can_report_each_other_whatever_is_blocked() {
    let (ann, ben, _) = chat_with_messages().await;
    ann.block(&ben).await.expect_status(200);
    assert_new(
        &ann.report(&spam_message(&ben, 2)).await,
        &ben,
        Some(2),
        "spam",
    );
    assert_new(
        &ben.report(&spam_message(&ann, 1)).await,
        &ann,
        Some(1),
        "spam",
    );
    assert_new(&ben.report(&spam(&ann)).await, &ann, None, "spam");
}

#[tokio::test]
async fn a_report_is_not_visible_to_the_reported_user() {
    let (ann, ben, chat) = chat_with_messages().await;
    let visible = async || {
        json!([
            ben.get_chat(&chat).await.expect_status(200).body,
            ben.messages(&chat, "").await.expect_status(200).body,
            ben.changes(&chat, "").await.expect_status(200).body,
            ben.get("/totals").await.expect_status(200).body,
        ])
    };
    let before = visible().await;
    ann.report(&spam(&ben)).await.expect_status(201);
    ann.report(&spam_message(&ben, 2)).await.expect_status(201);
    let with_block = json!({"userId": ben.id, "reason": "spam", "block": true});
    ann.report(&with_block).await.expect_status(200);
    assert_eq!(visible().await, before);
    ben.wait_for_list("/chats", &[&chat]).await;
}

#[tokio::test]
async fn a_report_can_block_the_user() {
    let (ann, ben, chat) = chat_with_messages().await;
    let body = json!({"userId": ben.id, "seq": 2, "reason": "harassment", "block": true});
    assert_new(&ann.report(&body).await, &ben, Some(2), "harassment");
    let view = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(
        [&view["blocked"], &view["unreadCount"]],
        [&json!(true), &json!(1)]
    );
    assert_eq!(ann.totals().await, [0, 0, 0]);
    ben.send(&chat, "hi")
        .await
        .expect_error(409, "peer_unavailable");
    let list = ann.wait_for_blocks("/blocks", &[&ben], false).await;
    let blocked_at = list.body["blocks"][0]["blockedAt"].clone();
    assert_is_timestamp(&blocked_at);
    // The user is blocked already.
    let another = json!({"userId": ben.id, "reason": "harassment", "block": true});
    assert_new(&ann.report(&another).await, &ben, None, "harassment");
    let again = ann.block(&ben).await.expect_status(200);
    assert_eq!(again.body["blockedAt"], blocked_at);
    // A repeated report blocks as well.
    ann.unblock(&ben).await.expect_status(200);
    ann.report(&body).await.expect_status(200);
    assert_eq!(ann.get_chat(&chat).await.body["blocked"], true);
    assert_eq!(ann.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_report_that_blocks_does_what_a_block_does() {
    let api = Api::shared();
    let with_block = |user: &User| json!({"userId": user.id, "reason": "scam", "block": true});
    // Without a chat.
    let (ann, ben) = (api.user(), api.user());
    assert_new(&ann.report(&with_block(&ben)).await, &ben, None, "scam");
    ann.wait_for_blocks("/blocks", &[&ben], false).await;
    ben.request_chat(&ann).await.expect_status(201);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    // A received request is hidden, and an own one is withdrawn.
    let (ann, ben, chat) = pending_chat().await;
    assert_new(&ben.report(&with_block(&ann)).await, &ann, None, "scam");
    assert_eq!(ben.totals().await, [0, 0, 0]);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_new(&ann.report(&with_block(&ben)).await, &ben, None, "scam");
    assert_eq!(ann.totals().await, [0, 0, 0]);
    let view = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(view["status"], "withdrawn");
}

#[tokio::test]
async fn a_report_that_is_rejected_does_not_block() {
    let (ann, ben, chat) = chat_with_messages().await;
    let invalid = json!({"userId": ben.id, "reason": "bad", "block": true});
    ann.report(&invalid).await.expect_invalid("`reason`");
    for seq in [1, 3] {
        let body = json!({"userId": ben.id, "seq": seq, "reason": "spam", "block": true});
        ann.report(&body)
            .await
            .expect_error(404, "message_not_found");
    }
    let without_block = json!({"userId": ben.id, "seq": 2, "reason": "spam", "block": false});
    ann.report(&without_block).await.expect_status(201);
    assert_eq!(ann.get_chat(&chat).await.body["blocked"], false);
    ann.wait_for_blocks("/blocks", &[], false).await;
}
