//! Stored items: the items in the table after each kind of request.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    Table, TestStack,
    invariants::invariant_violations,
    support::{User, tokens::now_seconds},
};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The sums of a user's counters over all shards: `[pending, unread, open]`.
async fn counters(table: &Table, user: &User) -> [i64; 3] {
    let items = table.user(user.id).await;
    let sum = |prefix: &str, attribute: &str| {
        let items = items.iter().filter(|(sk, _)| sk.starts_with(prefix));
        items
            .map(|(_, item)| item[attribute].as_i64().unwrap_or(0))
            .sum()
    };
    [
        sum("TOTALS#", "pending"),
        sum("TOTALS#", "unread"),
        sum("SENT", "open"),
    ]
}

/// A user id with the fixed width that sort keys need.
fn fixed_width(id: u64) -> String {
    format!("{id:016}")
}

#[tokio::test]
async fn a_chat_request_creates_one_chat_and_two_counters() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    ann.request_chat(&ben).await.expect_status(201);
    let items = stack.table.chat("17-42").await;
    assert_eq!(items.len(), 1);
    let state = &items["STATE"];
    let at = state["createdAt"].as_u64().unwrap();
    assert_eq!(
        *state,
        json!({
            "type": "Chat", "requesterId": 42, "recipientId": 17, "status": "pending", "seq": 0,
            "lowUnread": 0, "lowReadSeq": 0, "highUnread": 0, "highReadSeq": 0,
            "createdAt": at, "updatedAt": at,
            "requesterKey": "42#pending", "recipientKey": "17#pending",
            "activity": format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42)),
        })
    );
    let ann_items = stack.table.user(42).await;
    assert_eq!(
        ann_items["SENT"],
        json!({"type": "OpenRequests", "open": 1, "changes": 1})
    );
    assert_eq!(ann_items.len(), 1);
    let ben_items = stack.table.user(17).await;
    let (shard, totals) = ben_items.first_key_value().unwrap();
    assert!(shard.starts_with("TOTALS#"));
    assert_eq!(
        *totals,
        json!({"type": "Totals", "pending": 1, "changes": 1})
    );
    assert_eq!(ben_items.len(), 1);
}

#[tokio::test]
async fn accepting_or_declining_moves_the_chat_in_both_indexes_and_decrements_the_counters() {
    let stack = TestStack::start().await;
    for (action, status) in [("accept", "active"), ("decline", "declined")] {
        let (ann, ben) = (stack.api.user(), stack.api.user());
        let chat = ann.chat_id_with(&ben);
        ann.request_chat(&ben).await.expect_status(201);
        ben.put(&format!("/chats/{chat}/{action}"))
            .await
            .expect_status(200);
        let state = &stack.table.chat(&chat).await["STATE"];
        assert_eq!(state["status"], status);
        assert_eq!(state["requesterKey"], format!("{}#{status}", ann.id));
        assert_eq!(state["recipientKey"], format!("{}#{status}", ben.id));
        let activity = state["activity"].as_str().unwrap();
        assert!(activity.starts_with(&format!("{:015}#", state["updatedAt"].as_u64().unwrap())));
        assert_eq!(counters(&stack.table, &ann).await, [0, 0, 0]);
        assert_eq!(counters(&stack.table, &ben).await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_request_in_the_other_direction_counts_for_the_other_user() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user(), stack.api.user());
    let chat = ann.chat_id_with(&ben);
    ann.request_chat(&ben).await.expect_status(201);
    ben.decline(&chat).await.expect_status(200);
    ben.request_chat(&ann).await.expect_status(200);
    let state = &stack.table.chat(&chat).await["STATE"];
    assert_eq!(
        [&state["requesterId"], &state["recipientId"]],
        [ben.id, ann.id]
    );
    assert_eq!(counters(&stack.table, &ann).await, [1, 0, 0]);
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 1]);
}

#[tokio::test]
async fn a_message_is_one_item_and_updates_the_chat_and_the_unread_counter() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let chat = ann.start_chat(&ben).await;
    let body = json!({"text": "👍\n", "imageUrl": "https://a.example/i"});
    ann.post(&format!("/chats/{chat}/messages"), &body)
        .await
        .expect_status(201);
    let items = stack.table.chat(&chat).await;
    let keys: Vec<_> = items.keys().map(String::as_str).collect();
    assert_eq!(keys, ["MSG#0000000000000001", "STATE"]);
    let at = items["MSG#0000000000000001"]["createdAt"].clone();
    assert_eq!(
        items["MSG#0000000000000001"],
        json!({"type": "Message", "senderId": 42, "text": "👍\n",
            "imageUrl": "https://a.example/i", "createdAt": at})
    );
    let state = &items["STATE"];
    assert_eq!(
        [&state["seq"], &state["lowUnread"], &state["highUnread"]],
        [1, 1, 0]
    );
    let preview = json!({"seq": 1, "senderId": 42, "text": "👍\n", "createdAt": at});
    assert_eq!(state["lastMessage"], preview);
    assert_eq!(state["updatedAt"], at);
    assert_eq!(counters(&stack.table, &ben).await, [0, 1, 0]);
    assert_eq!(counters(&stack.table, &ann).await, [0, 0, 0]);
}

#[tokio::test]
async fn marking_as_read_moves_one_watermark_and_changes_nothing_else() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let chat = ann.start_chat(&ben).await;
    ann.send(&chat, "one").await.expect_status(201);
    ann.send(&chat, "two").await.expect_status(201);
    let before = stack.table.chat(&chat).await;
    ben.mark_read(&chat).await.expect_status(200);
    let mut expected = before.clone();
    let state = expected.get_mut("STATE").unwrap();
    (state["lowUnread"], state["lowReadSeq"]) = (json!(0), json!(2));
    assert_eq!(stack.table.chat(&chat).await, expected);
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 0]);
}

#[tokio::test]
async fn an_idempotency_key_is_stored_with_a_hash_and_without_the_text() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let chat = ann.start_chat(&ben).await;
    ann.send_with_key(&chat, "a-key", "hi")
        .await
        .expect_status(201);
    let items = stack.table.chat(&chat).await;
    let key = &items["KEY#42#a-key"];
    let (sent, expires) = (
        &items["MSG#0000000000000001"]["createdAt"],
        &key["expiresAt"],
    );
    assert_eq!(
        expires.as_u64().unwrap(),
        sent.as_u64().unwrap() / 1_000 + 24 * 60 * 60
    );
    assert_eq!(key["seq"], 1);
    assert_eq!(key["type"], "IdempotencyKey");
    assert_eq!(key["hash"].as_array().unwrap().len(), 32);
    assert_eq!(key.as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn an_idempotency_key_is_valid_for_24_hours_and_can_be_used_again_afterwards() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
    let (pk, sk) = (format!("CHAT#{chat}"), format!("KEY#{}#key", ann.id));
    let at = |seconds: u64| AttributeValue::N(seconds.to_string());
    let now = now_seconds();
    // First a minute before it expires, then a second after, when the table's TTL has not deleted it yet.
    stack.table.set(&pk, &sk, "expiresAt", at(now + 60)).await;
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_status(200);
    stack.table.set(&pk, &sk, "expiresAt", at(now - 1)).await;
    let new = ann
        .send_with_key(&chat, "key", "another message")
        .await
        .expect_status(201);
    assert_eq!(new.body["seq"], 2);
    assert_eq!(stack.table.chat(&chat).await[&sk]["seq"], 2);
    assert_eq!(counters(&stack.table, &ben).await, [0, 2, 0]);
}

#[tokio::test]
async fn a_rejected_request_changes_nothing_in_the_table() {
    let stack = TestStack::start().await;
    let api = &stack.api;
    let (ann, ben, active) = api.active_chat().await;
    ann.send_with_key(&active, "key", "hi")
        .await
        .expect_status(201);
    let (cat, dan) = (api.user(), api.user());
    let declined = cat.chat_id_with(&dan);
    cat.request_chat(&dan).await.expect_status(201);
    dan.decline(&declined).await.expect_status(200);
    let everything = async || {
        let mut all: Vec<Value> = Vec::new();
        for chat in [&active, &declined] {
            all.push(json!(stack.table.chat(chat).await));
        }
        for user in [&ann, &ben, &cat, &dan] {
            all.push(json!(stack.table.user(user.id).await));
        }
        all
    };
    let before = everything().await;
    ann.send_with_key(&active, "key", "other")
        .await
        .expect_error(422, "idempotency_key_reused");
    ann.accept(&active)
        .await
        .expect_error(403, "not_the_recipient");
    ben.decline(&active).await.expect_error(409, "chat_active");
    cat.request_chat(&dan)
        .await
        .expect_error(409, "chat_declined");
    cat.send(&declined, "hi")
        .await
        .expect_error(409, "chat_not_active");
    cat.decline(&declined)
        .await
        .expect_error(403, "not_the_recipient");
    ann.send(&active, " ").await.expect_invalid("`text`");
    ann.send(&ann.chat_id_with(&dan), "hi")
        .await
        .expect_error(404, "chat_not_found");
    assert_eq!(everything().await, before);
}

/// Ann (42) and Ben (17) with an active chat, in which Ann has sent three messages and Ben one.
async fn chat_with_messages(stack: &TestStack) -> (User, User, String) {
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let chat = ann.start_chat(&ben).await;
    let image = json!({"text": "one", "imageUrl": "https://a.example/i"});
    ann.post(&format!("/chats/{chat}/messages"), &image)
        .await
        .expect_status(201);
    for (sender, text) in [(&ann, "two"), (&ben, "three"), (&ann, "four")] {
        sender.send(&chat, text).await.expect_status(201);
    }
    (ann, ben, chat)
}

async fn state(stack: &TestStack, chat: &str) -> Value {
    stack.table.chat(chat).await["STATE"].clone()
}

/// Asserts that `after` has these attributes instead of those of `before`. Null stands for an attribute that is
/// absent.
#[track_caller]
fn assert_changed(before: &Value, after: &Value, changes: &Value) {
    let mut expected = before.clone();
    let attributes = expected.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    assert_eq!(*after, expected);
}

#[tokio::test]
async fn an_edit_stores_the_change_and_the_replaced_content_and_updates_the_chat_and_the_message() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let before = stack.table.chat(&chat).await;
    let totals = counters(&stack.table, &ben).await;
    ann.edit(&chat, 1, &json!({"text": "ONE", "imageUrl": null}))
        .await
        .expect_status(200);
    let after = stack.table.chat(&chat).await;
    let (message, edited) = (
        &before["MSG#0000000000000001"],
        &after["MSG#0000000000000001"],
    );
    let at = edited["editedAt"].as_u64().unwrap();
    assert_changed(
        message,
        edited,
        &json!({"text": "ONE", "imageUrl": null, "editedAt": at, "rev": 1}),
    );
    // The message is not the last one, so the preview stays.
    assert_changed(&before["STATE"], &after["STATE"], &json!({"rev": 1}));
    assert_eq!(
        after["CHG#0000000000000001"],
        json!({"type": "Change", "seq": 1, "at": at, "expiresAt": at / 1_000 + 90 * DAY})
    );
    assert_eq!(
        after["HIST#0000000000000001#0000000000000001"],
        json!({
            "type": "PreviousContent", "senderId": 42, "text": "one",
            "imageUrl": "https://a.example/i", "createdAt": message["createdAt"],
            "replacedAt": at, "expiresAt": at / 1_000 + 30 * DAY,
        })
    );
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!(counters(&stack.table, &ben).await, totals);

    // An edit of the last message changes the preview, and nothing else of the chat.
    ann.edit_text(&chat, 4, "FOUR").await.expect_status(200);
    let last = state(&stack, &chat).await;
    let mut preview = after["STATE"]["lastMessage"].clone();
    preview["text"] = json!("FOUR");
    // Events of this message no longer come from the preview, because it does not contain the time of the edit.
    let whole = preview.as_object_mut().unwrap().remove("whole");
    assert_eq!(whole, Some(json!(true)));
    assert_changed(
        &after["STATE"],
        &last,
        &json!({"rev": 2, "lastMessage": preview}),
    );
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_deletion_moves_the_content_out_of_the_message_and_lowers_the_counts() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    let before = stack.table.chat(&chat).await;
    assert_eq!(counters(&stack.table, &ben).await, [0, 3, 0]);
    ann.delete_message(&chat, 1).await.expect_status(200);
    let after = stack.table.chat(&chat).await;
    let (message, deleted) = (
        &before["MSG#0000000000000001"],
        &after["MSG#0000000000000001"],
    );
    let at = deleted["deletedAt"].as_u64().unwrap();
    assert_eq!(
        *deleted,
        json!({
            "type": "Message", "senderId": 42, "createdAt": message["createdAt"],
            "editedAt": message["editedAt"], "deletedAt": at, "rev": 2,
        })
    );
    assert_changed(
        &before["STATE"],
        &after["STATE"],
        &json!({"rev": 2, "lowUnread": 2}),
    );
    assert_eq!(
        after["CHG#0000000000000002"],
        json!({"type": "Change", "seq": 1, "at": at, "expiresAt": at / 1_000 + 90 * DAY})
    );
    assert_eq!(
        after["HIST#0000000000000001#0000000000000002"],
        json!({
            "type": "PreviousContent", "senderId": 42, "text": "ONE",
            "imageUrl": "https://a.example/i", "createdAt": message["createdAt"],
            "replacedAt": at, "expiresAt": at / 1_000 + 30 * DAY,
        })
    );
    assert_eq!(counters(&stack.table, &ben).await, [0, 2, 0]);

    // Of a message that was read, no count. Of the last one, the preview.
    ben.mark_read(&chat).await.expect_status(200);
    let before = state(&stack, &chat).await;
    ann.delete_message(&chat, 4).await.expect_status(200);
    let preview = json!({
        "seq": 4, "senderId": 42, "createdAt": before["lastMessage"]["createdAt"], "deleted": true,
    });
    assert_changed(
        &before,
        &state(&stack, &chat).await,
        &json!({"rev": 3, "lastMessage": preview}),
    );
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 0]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn marking_up_to_a_message_moves_the_watermark_there_and_changes_nothing_else() {
    let stack = TestStack::start().await;
    let (_, ben, chat) = chat_with_messages(&stack).await;
    let before = stack.table.chat(&chat).await;
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    let after = stack.table.chat(&chat).await;
    let changes = json!({"lowUnread": 1, "lowReadSeq": 2});
    assert_changed(&before["STATE"], &after["STATE"], &changes);
    assert_eq!(after.len(), before.len());
    assert_eq!(counters(&stack.table, &ben).await, [0, 1, 0]);
}

#[tokio::test]
async fn a_withdrawn_request_is_in_no_index_and_in_no_counter() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    ann.request_chat(&ben).await.expect_status(201);
    let before = state(&stack, "17-42").await;
    ann.withdraw("17-42").await.expect_status(200);
    let after = state(&stack, "17-42").await;
    let at = after["updatedAt"].as_u64().unwrap();
    assert!(at >= before["createdAt"].as_u64().unwrap());
    let activity = format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42));
    assert_changed(
        &before,
        &after,
        &json!({
            "status": "withdrawn", "requesterKey": null, "recipientKey": null, "updatedAt": at,
            "activity": activity,
        }),
    );
    for user in [&ann, &ben] {
        assert_eq!(counters(&stack.table, user).await, [0, 0, 0]);
    }
    // Requested in the other direction.
    ben.request_chat(&ann).await.expect_status(200);
    let requested = state(&stack, "17-42").await;
    let at = requested["updatedAt"].as_u64().unwrap();
    let activity = format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42));
    assert_changed(
        &after,
        &requested,
        &json!({
            "status": "pending", "requesterId": 17, "recipientId": 42,
            "requesterKey": "17#pending", "recipientKey": "42#pending", "updatedAt": at,
            "activity": activity,
        }),
    );
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 1]);
    assert_eq!(counters(&stack.table, &ann).await, [1, 0, 0]);
}

#[tokio::test]
async fn a_block_without_a_chat_is_stored_as_a_state_with_the_status_none() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    ann.block(&ben).await.expect_status(200);
    let blocked = state(&stack, "17-42").await;
    let at = blocked["highBlock"].as_u64().unwrap();
    assert_eq!(
        blocked,
        json!({
            "type": "Chat", "requesterId": 42, "recipientId": 17, "status": "none", "v": 1,
            "seq": 0, "lowUnread": 0, "lowReadSeq": 0, "highUnread": 0, "highReadSeq": 0,
            "highBlock": at, "createdAt": at, "updatedAt": at, "requesterKey": "42#blocked",
            "activity": format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42)),
        })
    );
    for user in [&ann, &ben] {
        assert_eq!(stack.table.user(user.id).await.len(), 0);
    }
    ben.block(&ann).await.expect_status(200);
    let both = state(&stack, "17-42").await;
    let changes = json!({"v": 2, "lowBlock": both["lowBlock"], "recipientKey": "17#blocked"});
    assert_changed(&blocked, &both, &changes);
    ann.unblock(&ben).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    // The number of changes stays. Otherwise a plan from before the block could match again.
    let unblocked = state(&stack, "17-42").await;
    let changes = json!({"v": 4, "highBlock": null, "requesterKey": null});
    assert_changed(&blocked, &unblocked, &changes);
    // A request makes a chat of it.
    ben.request_chat(&ann).await.expect_status(201);
    let requested = state(&stack, "17-42").await;
    let at = requested["createdAt"].as_u64().unwrap();
    assert_changed(
        &unblocked,
        &requested,
        &json!({
            "requesterId": 17, "recipientId": 42, "status": "pending",
            "requesterKey": "17#pending", "recipientKey": "42#pending",
            "createdAt": at, "updatedAt": at,
            "activity": format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42)),
        }),
    );
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_block_moves_the_own_index_key_and_takes_the_unread_messages_out_of_the_total() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let before = state(&stack, &chat).await;
    assert_eq!(counters(&stack.table, &ben).await, [0, 3, 0]);
    ben.block(&ann).await.expect_status(200);
    let blocked = state(&stack, &chat).await;
    assert_changed(
        &before,
        &blocked,
        &json!({
            "v": 1, "lowBlock": blocked["lowBlock"], "lowUnread": 0, "lowHeld": 3,
            "recipientKey": "17#blocked",
        }),
    );
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 0]);
    assert_eq!(counters(&stack.table, &ann).await, [0, 1, 0]);
    ben.unblock(&ann).await.expect_status(200);
    assert_changed(&before, &state(&stack, &chat).await, &json!({"v": 2}));
    assert_eq!(counters(&stack.table, &ben).await, [0, 3, 0]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_request_to_a_user_who_blocks_is_hidden_from_that_user() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    ann.block(&ben).await.expect_status(200);
    let before = state(&stack, "17-42").await;
    ben.request_chat(&ann).await.expect_status(201);
    let hidden = state(&stack, "17-42").await;
    let at = hidden["createdAt"].as_u64().unwrap();
    assert_changed(
        &before,
        &hidden,
        &json!({
            "requesterId": 17, "recipientId": 42, "status": "pending", "hid": true,
            "requesterKey": "17#pending", "recipientKey": "42#blocked",
            "createdAt": at, "updatedAt": at,
            "activity": format!("{at:015}#{}-{}", fixed_width(17), fixed_width(42)),
        }),
    );
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 1]);
    assert_eq!(counters(&stack.table, &ann).await, [0, 0, 0]);
    ann.unblock(&ben).await.expect_status(200);
    assert_changed(
        &hidden,
        &state(&stack, "17-42").await,
        &json!({"v": 2, "highBlock": null, "hid": null, "recipientKey": "42#pending"}),
    );
    assert_eq!(counters(&stack.table, &ann).await, [1, 0, 0]);
    // The same for a request that was there before the block.
    ann.block(&ben).await.expect_status(200);
    let blocked = state(&stack, "17-42").await;
    let changes = json!({"v": 3, "highBlock": blocked["highBlock"]});
    assert_changed(&hidden, &blocked, &changes);
    assert_eq!(counters(&stack.table, &ann).await, [0, 0, 0]);
    assert_eq!(counters(&stack.table, &ben).await, [0, 0, 1]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_report_keeps_a_copy_of_the_message_and_is_in_the_queue_of_the_operators() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let before = stack.table.chat(&chat).await;
    let body = json!({"userId": 42, "seq": 1, "reason": "self_harm", "note": "a note"});
    let response = ben.report(&body).await.expect_status(201);
    assert_eq!(response.body["reportId"], "17-42/17/1");
    let after = stack.table.chat(&chat).await;
    let report = after["FLAG#17#0000000000000001"].clone();
    let at = report["createdAt"].as_u64().unwrap();
    assert_eq!(
        report,
        json!({
            "type": "Report", "reporterId": 17, "userId": 42, "seq": 1, "reason": "self_harm",
            "note": "a note", "createdAt": at, "state": "open", "text": "one",
            "imageUrl": "https://a.example/i",
            "messageCreatedAt": before["MSG#0000000000000001"]["createdAt"],
            "requesterKey": "#reports#open", "activity": format!("{at:015}#17-42/17/1"),
        })
    );
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after["STATE"], before["STATE"]);
    // Neither another report, nor an edit, nor a deletion changes the copy.
    let again = json!({"userId": 42, "seq": 1, "reason": "spam", "block": true});
    ben.report(&again).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    ann.delete_message(&chat, 1).await.expect_status(200);
    let items = stack.table.chat(&chat).await;
    assert_eq!(items["FLAG#17#0000000000000001"], report);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_report_of_a_user_has_no_copy_and_needs_no_chat() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let body = json!({"userId": 17, "reason": "other"});
    let response = ann.report(&body).await.expect_status(201);
    assert_eq!(response.body["reportId"], "17-42/42/0");
    let items = stack.table.chat("17-42").await;
    let report = &items["FLAG#42#0000000000000000"];
    let at = report["createdAt"].as_u64().unwrap();
    assert_eq!(
        *report,
        json!({
            "type": "Report", "reporterId": 42, "userId": 17, "reason": "other",
            "createdAt": at, "state": "open", "requesterKey": "#reports#open",
            "activity": format!("{at:015}#17-42/42/0"),
        })
    );
    assert_eq!(items.len(), 1);
    for user in [&ann, &ben] {
        assert_eq!(stack.table.user(user.id).await.len(), 0);
    }
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// Sending and deleting at once leaves something to report.
#[tokio::test]
async fn a_report_of_a_deleted_message_has_a_copy_of_its_last_content() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    ann.edit(&chat, 1, &json!({"text": "ONE", "imageUrl": null}))
        .await
        .expect_status(200);
    for seq in [1, 2] {
        ann.delete_message(&chat, seq).await.expect_status(200);
    }
    let report = |seq: u64| json!({"userId": 42, "seq": seq, "reason": "spam"});
    ben.report(&report(1)).await.expect_status(201);
    let items = stack.table.chat(&chat).await;
    let (message, copy) = (
        &items["MSG#0000000000000001"],
        &items["FLAG#17#0000000000000001"],
    );
    assert_eq!(copy["text"], "ONE");
    assert_eq!(copy.get("imageUrl"), None);
    assert_eq!(copy["messageCreatedAt"], message["createdAt"]);
    assert_eq!(copy["editedAt"], message["editedAt"]);
    assert_eq!(copy["deletedAt"], message["deletedAt"]);
    // The message was deleted 31 days ago, so the previous content has expired.
    let pk = format!("CHAT#{chat}");
    let sk = "HIST#0000000000000002#0000000000000003";
    assert!(items.contains_key(sk), "{items:?}");
    stack.table.delete(&pk, sk).await;
    let deleted_at = AttributeValue::N(((now_seconds() - 31 * DAY) * 1_000).to_string());
    let message = "MSG#0000000000000002";
    stack.table.set(&pk, message, "deletedAt", deleted_at).await;
    ben.report(&report(2)).await.expect_status(201);
    let items = stack.table.chat(&chat).await;
    let copy = &items["FLAG#17#0000000000000002"];
    assert_eq!(copy.get("text"), None);
    assert!(copy["deletedAt"].is_u64(), "{copy}");
}

#[tokio::test]
async fn requests_that_change_nothing_write_nothing() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let api = &stack.api;
    let (cat, dan) = (api.user(), api.user());
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    ann.delete_message(&chat, 2).await.expect_status(200);
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    cat.request_chat(&dan).await.expect_status(201);
    let withdrawn = cat.chat_id_with(&dan);
    cat.withdraw(&withdrawn).await.expect_status(200);
    cat.block(&dan).await.expect_status(200);
    let report = json!({"userId": 42, "seq": 1, "reason": "spam"});
    ben.report(&report).await.expect_status(201);
    let before = stack.table.everything().await;
    for response in [
        ann.edit_text(&chat, 1, "ONE").await,
        ann.edit(&chat, 4, &json!({"text": "four", "imageUrl": null}))
            .await,
        ann.delete_message(&chat, 2).await,
        ben.mark_up_to(&chat, 1).await,
        ben.mark_up_to(&chat, 2).await,
        ben.mark_up_to(&chat, 3).await,
        cat.withdraw(&withdrawn).await,
        cat.block(&dan).await,
        dan.unblock(&cat).await,
        ben.unblock(&ann).await,
        ann.unblock(&api.user()).await,
        ben.report(&report).await,
        ann.get_chat(&chat).await,
        ann.changes(&chat, "").await,
        ann.blocks("").await,
    ] {
        response.expect_status(200);
    }
    for (response, status) in [
        (ann.edit_text(&chat, 2, "again").await, 409),
        (ann.edit(&chat, 4, &json!({"text": null})).await, 400),
        (ann.edit(&chat, 4, &json!({})).await, 400),
        (ben.edit_text(&chat, 1, "changed").await, 403),
        (ben.delete_message(&chat, 1).await, 403),
        (ann.edit_text(&chat, 5, "none").await, 404),
        (ann.delete_message(&chat, 5).await, 404),
        (ben.mark_up_to(&chat, 5).await, 400),
        (dan.withdraw(&withdrawn).await, 403),
        (ann.withdraw(&chat).await, 409),
        (dan.accept(&withdrawn).await, 409),
        (dan.decline(&withdrawn).await, 409),
        (cat.request_chat(&dan).await, 409),
        (cat.mark_read(&withdrawn).await, 409),
        (ann.block(&ann).await, 400),
        (
            ben.report(&json!({"userId": 42, "seq": 3, "reason": "spam", "block": true}))
                .await,
            404,
        ),
    ] {
        response.expect_status(status);
    }
    assert_eq!(stack.table.everything().await, before);
}

#[tokio::test]
async fn expired_changes_return_410_and_later_ones_are_listed() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    for (seq, text) in [(1, "ONE"), (2, "TWO"), (4, "FOUR"), (2, "2")] {
        ann.edit_text(&chat, seq, text).await.expect_status(200);
    }
    let pk = format!("CHAT#{chat}");
    let expect_gone = async |query: &str| {
        let response = ben.changes(&chat, query).await;
        response.expect_error(410, "changes_expired");
    };
    let expect_seqs = async |query: &str, expected: &[u64]| {
        let page = ben.changes(&chat, query).await.expect_status(200);
        assert_eq!(page.seqs(), expected, "{query}");
        assert_eq!(page.body["rev"], 4);
    };
    expect_seqs("", &[1, 4, 2]).await;
    // The table's TTL has deleted the first change.
    stack.table.delete(&pk, "CHG#0000000000000001").await;
    expect_gone("").await;
    expect_gone("?after=0&limit=1").await;
    expect_seqs("?after=1", &[4, 2]).await;
    // The second one has expired, but TTL has not deleted it yet.
    let expired = AttributeValue::N((now_seconds() - 1).to_string());
    stack
        .table
        .set(&pk, "CHG#0000000000000002", "expiresAt", expired)
        .await;
    expect_gone("?after=1").await;
    expect_seqs("?after=2", &[4, 2]).await;
    // A cursor of an earlier page.
    let page = ben.changes(&chat, "?after=2&limit=1").await;
    let cursor = format!("?cursor={}", page.next_cursor().unwrap());
    expect_seqs(&cursor, &[2]).await;
    for rev in [2, 3, 4] {
        let sk = format!("CHG#{rev:016}");
        stack.table.delete(&pk, &sk).await;
    }
    expect_gone(&cursor).await;
    expect_gone("?after=2").await;
    // A client that knows everything has nothing to ask for.
    expect_seqs("?after=4", &[]).await;
    ann.edit_text(&chat, 1, "1").await.expect_status(200);
    let page = ben.changes(&chat, "?after=4").await.expect_status(200);
    assert_eq!(page.seqs(), [1]);
}

/// Writes messages of a user without the functions, from `first` to `last`, after message 1. The unread count of
/// the other member (17) and the total become `last`.
async fn write_messages(stack: &TestStack, chat: &str, first: u64, last: u64) {
    let pk = format!("CHAT#{chat}");
    let created_at = stack.table.chat(chat).await["MSG#0000000000000001"]["createdAt"].clone();
    let number = |number: u64| AttributeValue::N(number.to_string());
    for seq in first..=last {
        let attributes = [
            ("type", AttributeValue::S("Message".to_owned())),
            ("senderId", number(42)),
            ("text", AttributeValue::S(seq.to_string())),
            ("createdAt", number(created_at.as_u64().unwrap())),
        ];
        let sk = format!("MSG#{seq:016}");
        stack.table.put(&pk, &sk, &attributes).await;
    }
    for attribute in ["seq", "lowUnread"] {
        stack.table.set(&pk, "STATE", attribute, number(last)).await;
    }
    let (shard, _) = stack.table.user(17).await.pop_last().unwrap();
    stack
        .table
        .set("USER#17", &shard, "unread", number(last))
        .await;
}

#[tokio::test]
async fn a_mark_may_leave_at_most_1000_messages_after_it() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user_with_id(42), stack.api.user_with_id(17));
    let chat = ann.start_chat(&ben).await;
    ann.send(&chat, "first").await.expect_status(201);
    write_messages(&stack, &chat, 2, 1_003).await;
    ann.send(&chat, "last").await.expect_status(201);
    let unread = async || {
        let view = ben.get_chat(&chat).await.expect_status(200).body;
        let count = view["unreadCount"].as_u64().unwrap();
        assert_eq!(
            counters(&stack.table, &ben).await[1],
            i64::try_from(count).unwrap()
        );
        (count, view["readSeq"].as_u64().unwrap())
    };
    assert_eq!(unread().await, (1_004, 0));
    for seq in [1, 3] {
        let response = ben.mark_up_to(&chat, seq).await;
        response.expect_invalid("`seq`");
        response.expect_invalid("all");
    }
    assert_eq!(unread().await, (1_004, 0));
    // The same with a block, which comes later.
    ben.block(&ann).await.expect_status(200);
    ben.mark_up_to(&chat, 3).await.expect_invalid("`seq`");
    ben.mark_up_to(&chat, 4)
        .await
        .expect_error(409, "you_blocked");
    ben.unblock(&ann).await.expect_status(200);
    ben.mark_up_to(&chat, 4).await.expect_status(200);
    assert_eq!(unread().await, (1_000, 4));
    // There is nothing to count if nothing is unread up to the message.
    for seq in [1, 4] {
        ben.mark_up_to(&chat, seq).await.expect_status(200);
        ann.mark_up_to(&chat, seq).await.expect_status(200);
    }
    assert_eq!(unread().await, (1_000, 4));
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(unread().await, (0, 1_004));
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// The size of a value in bytes, as DynamoDB counts it.
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // One byte for two digits, and one more.
        AttributeValue::N(number) => number.len().div_ceil(2) + 1,
        AttributeValue::Bool(_) => 1,
        AttributeValue::M(members) => {
            let members = members.iter();
            3 + members
                .map(|(name, value)| name.len() + size(value) + 1)
                .sum::<usize>()
        }
        other => panic!("STATE has no attribute such as {other:?}"),
    }
}

/// Replaces every number by the largest one.
fn with_largest_numbers(value: &AttributeValue) -> AttributeValue {
    match value {
        AttributeValue::N(_) => AttributeValue::N("9007199254740991".to_owned()),
        AttributeValue::M(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| (name.clone(), with_largest_numbers(value)));
            AttributeValue::M(members.collect())
        }
        other => other.clone(),
    }
}

/// An item of 1,024 bytes or more costs another unit in the table and in each index, so that each message would
/// cost 16 units instead of 10.
#[tokio::test]
async fn the_largest_state_of_a_chat_is_smaller_than_1024_bytes() {
    let stack = TestStack::start().await;
    let api = &stack.api;
    let (ann, ben) = (
        api.user_with_id(9_007_199_254_740_991),
        api.user_with_id(9_007_199_254_740_990),
    );
    let chat = ann.start_chat(&ben).await;
    let longest = "𝕏".repeat(120);
    for sender in [&ann, &ben] {
        sender.send(&chat, &longest).await.expect_status(201);
    }
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    ann.block(&ben).await.expect_status(200);
    ben.block(&ann).await.expect_status(200);
    let get = stack.table.client.get_item().table_name(&stack.table.name);
    let get = get.key("pk", AttributeValue::S(format!("CHAT#{chat}")));
    let get = get.key("sk", AttributeValue::S("STATE".to_owned()));
    let item = get
        .consistent_read(true)
        .send()
        .await
        .unwrap()
        .item
        .unwrap();
    // Everything that can be absent is there.
    for attribute in [
        "v",
        "rev",
        "lowBlock",
        "highBlock",
        "lowHeld",
        "highHeld",
        "lastMessage",
        "requesterKey",
        "recipientKey",
    ] {
        assert!(item.contains_key(attribute), "{attribute} is absent");
    }
    let size: usize = item
        .iter()
        .map(|(name, value)| name.len() + size(&with_largest_numbers(value)))
        .sum();
    assert!(size < 1_024, "{size} bytes: {item:?}");
}

#[tokio::test]
async fn timestamps_never_decrease_in_a_chat_even_if_a_clock_goes_back() {
    let stack = TestStack::start().await;
    let (ann, _, chat) = stack.api.active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    // The clock of another machine was an hour ahead.
    let ahead = (now_seconds() + 3_600) * 1_000;
    let value = AttributeValue::N(ahead.to_string());
    stack
        .table
        .set(&format!("CHAT#{chat}"), "STATE", "updatedAt", value)
        .await;
    ann.send(&chat, "two").await.expect_status(201);
    let items = stack.table.chat(&chat).await;
    assert_eq!(items["MSG#0000000000000002"]["createdAt"], ahead);
    assert_eq!(items["STATE"]["updatedAt"], ahead);
}

#[tokio::test]
async fn a_message_is_never_edited_or_deleted_before_it_was_sent_even_if_a_clock_goes_back() {
    let stack = TestStack::start().await;
    let (ann, _, chat) = stack.api.active_chat().await;
    // The clock of another machine was an hour ahead.
    let ahead = (now_seconds() + 3_600) * 1_000;
    let value = AttributeValue::N(ahead.to_string());
    let pk = format!("CHAT#{chat}");
    stack.table.set(&pk, "STATE", "updatedAt", value).await;
    ann.send(&chat, "one").await.expect_status(201);
    ann.edit_text(&chat, 1, "two").await.expect_status(200);
    ann.delete_message(&chat, 1).await.expect_status(200);
    let message = &stack.table.chat(&chat).await["MSG#0000000000000001"];
    for attribute in ["createdAt", "editedAt", "deletedAt"] {
        assert_eq!(message[attribute], ahead, "{attribute}");
    }
}

#[tokio::test]
async fn a_time_after_the_year_9999_in_the_table_is_an_internal_error() {
    let stack = TestStack::start().await;
    let (ann, _, chat) = stack.api.active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    let pk = format!("CHAT#{chat}");
    // An import in microseconds.
    let microseconds = || AttributeValue::N("1767225600000000".to_owned());
    stack
        .table
        .set(&pk, "MSG#0000000000000001", "createdAt", microseconds())
        .await;
    ann.messages(&chat, "").await.expect_error(500, "internal");
    for attribute in ["createdAt", "updatedAt"] {
        stack
            .table
            .set(&pk, "STATE", attribute, microseconds())
            .await;
        ann.get("/chats").await.expect_error(500, "internal");
        ann.send(&chat, "hi").await.expect_error(500, "internal");
    }
}
