//! Stored items: the items in the table after each kind of request.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    Table, TestStack,
    support::{User, tokens::now_seconds},
};

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
        json!({"type": "OpenRequests", "open": 1})
    );
    assert_eq!(ann_items.len(), 1);
    let ben_items = stack.table.user(17).await;
    let (shard, totals) = ben_items.first_key_value().unwrap();
    assert!(shard.starts_with("TOTALS#"));
    assert_eq!(*totals, json!({"type": "Totals", "pending": 1}));
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
