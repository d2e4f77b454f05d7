//! What the table holds after each call.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{Local, Table, support::User};

/// A user's counters, summed over the shards: `[pending, unread, open]`.
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

fn fixed(id: u64) -> String {
    format!("{id:016}")
}

#[tokio::test]
async fn a_request_is_one_chat_and_two_counters() {
    let local = Local::start().await;
    let (ann, ben) = (local.api.user_with_id(42), local.api.user_with_id(17));
    ann.ask(&ben).await.is(201);
    let items = local.table.chat("17-42").await;
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
            "activity": format!("{at:015}#{}-{}", fixed(17), fixed(42)),
        })
    );
    let anns = local.table.user(42).await;
    assert_eq!(anns["SENT"], json!({"type": "OpenRequests", "open": 1}));
    assert_eq!(anns.len(), 1);
    let bens = local.table.user(17).await;
    let (shard, totals) = bens.first_key_value().unwrap();
    assert!(shard.starts_with("TOTALS#"));
    assert_eq!(*totals, json!({"type": "Totals", "pending": 1}));
    assert_eq!(bens.len(), 1);
}

#[tokio::test]
async fn an_answer_moves_the_chat_in_both_indexes_and_counts_down() {
    let local = Local::start().await;
    for (answer, status) in [("accept", "active"), ("decline", "declined")] {
        let (ann, ben) = (local.api.user(), local.api.user());
        let chat = ann.chat_with(&ben);
        ann.ask(&ben).await.is(201);
        ben.put(&format!("/chats/{chat}/{answer}")).await.is(200);
        let state = &local.table.chat(&chat).await["STATE"];
        assert_eq!(state["status"], status);
        assert_eq!(state["requesterKey"], format!("{}#{status}", ann.id));
        assert_eq!(state["recipientKey"], format!("{}#{status}", ben.id));
        let activity = state["activity"].as_str().unwrap();
        assert!(activity.starts_with(&format!("{:015}#", state["updatedAt"].as_u64().unwrap())));
        assert_eq!(counters(&local.table, &ann).await, [0, 0, 0]);
        assert_eq!(counters(&local.table, &ben).await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_swapped_request_counts_for_the_other_side() {
    let local = Local::start().await;
    let (ann, ben) = (local.api.user(), local.api.user());
    let chat = ann.chat_with(&ben);
    ann.ask(&ben).await.is(201);
    ben.decline(&chat).await.is(200);
    ben.ask(&ann).await.is(200);
    let state = &local.table.chat(&chat).await["STATE"];
    assert_eq!(
        [&state["requesterId"], &state["recipientId"]],
        [ben.id, ann.id]
    );
    assert_eq!(counters(&local.table, &ann).await, [1, 0, 0]);
    assert_eq!(counters(&local.table, &ben).await, [0, 0, 1]);
}

#[tokio::test]
async fn a_message_is_one_item_and_moves_state_and_unread() {
    let local = Local::start().await;
    let (ann, ben) = (local.api.user_with_id(42), local.api.user_with_id(17));
    let chat = ann.befriend(&ben).await;
    let body = json!({"text": "👍\n", "imageUrl": "https://a.example/i"});
    ann.post(&format!("/chats/{chat}/messages"), &body)
        .await
        .is(201);
    let items = local.table.chat(&chat).await;
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
    let summary = json!({"seq": 1, "senderId": 42, "text": "👍\n", "createdAt": at});
    assert_eq!(state["lastMessage"], summary);
    assert_eq!(state["updatedAt"], at);
    assert_eq!(counters(&local.table, &ben).await, [0, 1, 0]);
    assert_eq!(counters(&local.table, &ann).await, [0, 0, 0]);
}

#[tokio::test]
async fn marking_moves_one_watermark_and_nothing_else() {
    let local = Local::start().await;
    let (ann, ben) = (local.api.user_with_id(42), local.api.user_with_id(17));
    let chat = ann.befriend(&ben).await;
    ann.say(&chat, "one").await.is(201);
    ann.say(&chat, "two").await.is(201);
    let before = local.table.chat(&chat).await;
    ben.mark_read(&chat).await.is(200);
    let mut expected = before.clone();
    let state = expected.get_mut("STATE").unwrap();
    (state["lowUnread"], state["lowReadSeq"]) = (json!(0), json!(2));
    assert_eq!(local.table.chat(&chat).await, expected);
    assert_eq!(counters(&local.table, &ben).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_key_is_kept_with_a_hash_and_never_the_text() {
    let local = Local::start().await;
    let (ann, ben) = (local.api.user_with_id(42), local.api.user_with_id(17));
    let chat = ann.befriend(&ben).await;
    ann.say_once(&chat, "a-key", "hi").await.is(201);
    let items = local.table.chat(&chat).await;
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
async fn a_key_is_good_for_24_hours_by_the_clock_and_then_free() {
    let local = Local::start().await;
    let (ann, ben, chat) = local.api.friends().await;
    ann.say_once(&chat, "key", "hi").await.is(201);
    let (pk, sk) = (format!("CHAT#{chat}"), format!("KEY#{}#key", ann.id));
    let at = |seconds: u64| AttributeValue::N(seconds.to_string());
    let now = crate::support::tokens::now();
    // A minute before the end; then a second past it, the table's TTL not having deleted it.
    local.table.set(&pk, &sk, "expiresAt", at(now + 60)).await;
    ann.say_once(&chat, "key", "hi").await.is(200);
    local.table.set(&pk, &sk, "expiresAt", at(now - 1)).await;
    let new = ann.say_once(&chat, "key", "another message").await.is(201);
    assert_eq!(new.body["seq"], 2);
    assert_eq!(local.table.chat(&chat).await[&sk]["seq"], 2);
    assert_eq!(counters(&local.table, &ben).await, [0, 2, 0]);
}

#[tokio::test]
async fn a_refused_call_changes_nothing_in_the_table() {
    let local = Local::start().await;
    let api = &local.api;
    let (ann, ben, active) = api.friends().await;
    ann.say_once(&active, "key", "hi").await.is(201);
    let (cat, dan) = (api.user(), api.user());
    let declined = cat.chat_with(&dan);
    cat.ask(&dan).await.is(201);
    dan.decline(&declined).await.is(200);
    let everything = async || {
        let mut all: Vec<Value> = Vec::new();
        for chat in [&active, &declined] {
            all.push(json!(local.table.chat(chat).await));
        }
        for user in [&ann, &ben, &cat, &dan] {
            all.push(json!(local.table.user(user.id).await));
        }
        all
    };
    let before = everything().await;
    ann.say_once(&active, "key", "other")
        .await
        .is_refusal(422, "idempotency_key_reused");
    ann.accept(&active)
        .await
        .is_refusal(403, "not_the_recipient");
    ben.decline(&active).await.is_refusal(409, "chat_active");
    cat.ask(&dan).await.is_refusal(409, "chat_declined");
    cat.say(&declined, "hi")
        .await
        .is_refusal(409, "chat_not_active");
    cat.decline(&declined)
        .await
        .is_refusal(403, "not_the_recipient");
    ann.say(&active, " ").await.is_invalid("`text`");
    ann.say(&ann.chat_with(&dan), "hi")
        .await
        .is_refusal(404, "chat_not_found");
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn time_never_goes_back_in_a_chat_even_when_a_clock_does() {
    let local = Local::start().await;
    let (ann, _, chat) = local.api.friends().await;
    ann.say(&chat, "one").await.is(201);
    // Another machine's clock was an hour ahead.
    let ahead = (crate::support::tokens::now() + 3_600) * 1_000;
    let value = AttributeValue::N(ahead.to_string());
    local
        .table
        .set(&format!("CHAT#{chat}"), "STATE", "updatedAt", value)
        .await;
    ann.say(&chat, "two").await.is(201);
    let items = local.table.chat(&chat).await;
    assert_eq!(items["MSG#0000000000000002"]["createdAt"], ahead);
    assert_eq!(items["STATE"]["updatedAt"], ahead);
}
