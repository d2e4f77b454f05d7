//! Events that the service pushes over WebSockets: the event of each change, its recipients and its content.
//!
//! Each user has two open connections, which must get the same. An event is compared with what the REST API shows to
//! the user. That nobody gets an event for a change is checked by a later event, which must be the next one. Where
//! possible it is one of the same chat, because the events of a chat arrive in order.

use serde_json::{Value, json};

use crate::{
    chats::assert_is_timestamp,
    support::{Api, live::OnlineUser, run_concurrently},
};

const IMAGE: &str = "https://a.example/i.png";
const LINK: &str = "https://a.example/page";

/// Two new users, of which the first requested a chat, and its id. They have received the event of that.
async fn pending_chat() -> (OnlineUser, OnlineUser, String) {
    let (mut ann, mut ben) = tokio::join!(OnlineUser::new(), OnlineUser::new());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    for user in [&mut ann, &mut ben] {
        user.expect_event("chat.requested", &chat).await;
    }
    (ann, ben, chat)
}

/// Asserts that each of these users gets this event next, with what the REST API shows to the user. Returns the
/// events in the order of the users.
async fn expect_events<const N: usize>(
    users: [&mut OnlineUser; N],
    kind: &str,
    chat: &str,
) -> [Value; N] {
    let mut events = Vec::new();
    for user in users {
        events.push(user.expect_event(kind, chat).await);
    }
    events.try_into().unwrap()
}

/// Asserts that an event of a status shows this status, and the time of the change.
#[track_caller]
fn assert_status(event: &Value, status: &str) {
    assert_eq!(event["chat"]["status"], status, "{event}");
    assert_eq!(event["at"], event["chat"]["updatedAt"], "{event}");
}

/// The totals in an event, without the version: `[totalPendingRequest, totalUnreadMessages, totalSentRequest]`.
fn totals(event: &Value) -> [u64; 3] {
    [
        "totalPendingRequest",
        "totalUnreadMessages",
        "totalSentRequest",
    ]
    .map(|name| event["totals"][name].as_u64().unwrap())
}

/// Asserts that the user's next event is a message with this text, so that nothing else was pushed before.
async fn expect_message_next(user: &mut OnlineUser, chat: &str, text: &str) {
    let event = user.expect_event("message.created", chat).await;
    assert_eq!(event["message"]["text"], text, "{event}");
}

#[tokio::test]
async fn both_members_get_a_request_on_each_connection() {
    let (mut ann, mut ben) = tokio::join!(OnlineUser::new(), OnlineUser::new());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    let [sent, received] = expect_events([&mut ann, &mut ben], "chat.requested", &chat).await;
    for event in [&sent, &received] {
        assert_status(event, "pending");
        assert_eq!(event["chat"]["requesterId"], ann.id);
    }
    assert_eq!(totals(&sent), [0, 0, 1]);
    assert_eq!(totals(&received), [1, 0, 0]);
}

#[tokio::test]
async fn both_members_get_the_answer_to_a_request() {
    for (is_accepted, kind, status) in [
        (true, "chat.accepted", "active"),
        (false, "chat.declined", "declined"),
    ] {
        let (mut ann, mut ben, chat) = pending_chat().await;
        let response = if is_accepted {
            ben.accept(&chat).await
        } else {
            ben.decline(&chat).await
        };
        response.expect_status(200);
        for event in expect_events([&mut ann, &mut ben], kind, &chat).await {
            assert_status(&event, status);
            assert_eq!(totals(&event), [0, 0, 0]);
        }
    }
}

#[tokio::test]
async fn both_members_get_that_a_request_was_withdrawn_and_sent_again() {
    let (mut ann, mut ben, chat) = pending_chat().await;
    ann.withdraw(&chat).await.expect_status(200);
    for event in expect_events([&mut ann, &mut ben], "chat.withdrawn", &chat).await {
        assert_status(&event, "withdrawn");
        assert_eq!(totals(&event), [0, 0, 0]);
    }
    ben.request_chat(&ann).await.expect_status(200);
    let [received, sent] = expect_events([&mut ann, &mut ben], "chat.requested", &chat).await;
    assert_status(&received, "pending");
    assert_eq!(received["chat"]["requesterId"], ben.id);
    assert_eq!(totals(&received), [1, 0, 0]);
    assert_eq!(totals(&sent), [0, 0, 1]);
}

#[tokio::test]
async fn both_members_get_the_request_of_the_member_who_declined_before() {
    let (mut ann, mut ben, chat) = pending_chat().await;
    ben.decline(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.declined", &chat).await;
    ben.request_chat(&ann).await.expect_status(200);
    for event in expect_events([&mut ann, &mut ben], "chat.requested", &chat).await {
        assert_status(&event, "pending");
        assert_eq!(event["chat"]["requesterId"], ben.id);
    }
}

#[tokio::test]
async fn both_members_get_a_message_each_with_the_own_view_of_the_chat() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let sent = ann.send(&chat, "hi").await.expect_status(201).body;
    let events = expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    for (event, unread) in events.iter().zip([0, 1]) {
        assert_eq!(event["message"], sent);
        assert_eq!(event["at"], sent["createdAt"]);
        assert_eq!(event["chat"]["unreadCount"], unread);
        assert_eq!(totals(event), [0, unread, 0]);
        assert!(event["id"].as_str().is_some_and(|id| !id.is_empty()));
    }
}

#[tokio::test]
async fn a_message_arrives_as_it_was_sent_whatever_its_parts_and_its_length() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let family = "👩\u{200d}👩\u{200d}👧";
    for content in [
        json!({"imageUrl": IMAGE}),
        json!({"linkPreviewUrl": LINK}),
        json!({"text": "with an image", "imageUrl": IMAGE, "linkPreviewUrl": LINK}),
        // The preview in the chat has at most 120 code points.
        json!({"text": "x".repeat(120)}),
        json!({"text": "x".repeat(121)}),
        json!({"text": family.repeat(24)}),
        json!({"text": format!("{}{family}", "x".repeat(118))}),
        // The longest text.
        json!({"text": "𝕏".repeat(4_096)}),
        json!({"text": "\u{1}\"\\\r\n\t\u{2028}</script>\u{7f}".repeat(200)}),
        json!({"text": "\u{202e}e\u{301} 🏳\u{fe0f}\u{200d}🌈 \u{feff}null {} שלום"}),
    ] {
        let path = format!("/chats/{chat}/messages");
        let sent = ann.post(&path, &content).await.expect_status(201).body;
        for event in expect_events([&mut ann, &mut ben], "message.created", &chat).await {
            assert_eq!(event["message"], sent);
            for (part, value) in content.as_object().unwrap() {
                assert_eq!(event["message"][part], *value);
            }
        }
    }
}

#[tokio::test]
async fn only_the_connections_of_the_sender_get_the_idempotency_key() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let key = "0123-4567:a/b";
    let with_key = ann.send_with_key(&chat, key, "one").await;
    with_key.expect_status(201);
    let [sent, received] = expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    assert_eq!(sent["idempotencyKey"], key);
    assert_eq!(received.get("idempotencyKey"), None);
    ben.send_with_key(&chat, key, "two")
        .await
        .expect_status(201);
    let [received, sent] = expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    assert_eq!(sent["idempotencyKey"], key);
    assert_eq!(received.get("idempotencyKey"), None);
    // Without a key, nobody gets one.
    ann.send(&chat, "three").await.expect_status(201);
    for event in expect_events([&mut ann, &mut ben], "message.created", &chat).await {
        assert_eq!(event.get("idempotencyKey"), None);
    }
    // A change of the message does not show the key.
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    for event in expect_events([&mut ann, &mut ben], "message.changed", &chat).await {
        assert_eq!(event.get("idempotencyKey"), None);
    }
}

#[tokio::test]
async fn messages_arrive_in_the_order_of_their_numbers_without_a_gap() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    // Each member sends from two devices at once.
    let senders = [&ann, &ben, &ann, &ben].map(|sender| {
        let (sender, chat) = (sender.user.clone(), chat.clone());
        async move {
            for text in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] {
                sender.send(&chat, text).await.expect_status(201);
            }
        }
    });
    run_concurrently(senders).await;
    for user in [&mut ann, &mut ben] {
        let stored = user.messages(&chat, "?after=0&limit=100").await;
        assert_eq!(stored.seqs(), (1..=40).collect::<Vec<_>>());
        let mut last = Value::Null;
        for expected in stored.body["messages"].as_array().unwrap() {
            let event = user.next_event().await;
            assert_eq!(event["type"], "message.created");
            assert_eq!(event["message"], *expected);
            assert_eq!(event["chat"]["lastMessage"]["seq"], expected["seq"]);
            last = event;
        }
        let shown = user.get_chat(&chat).await.expect_status(200);
        assert_eq!(last["chat"], shown.body);
        let totals = user.get("/totals").await.expect_status(200);
        assert_eq!(last["totals"], totals.body);
    }
}

#[tokio::test]
async fn each_change_of_a_total_raises_its_version() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let mut versions = Vec::new();
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
        let [_, event] = expect_events([&mut ann, &mut ben], "message.created", &chat).await;
        versions.push(event["totals"]["version"].as_u64().unwrap());
    }
    ben.mark_read(&chat).await.expect_status(200);
    let [_, event] = expect_events([&mut ann, &mut ben], "chat.read", &chat).await;
    versions.push(event["totals"]["version"].as_u64().unwrap());
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test]
async fn both_members_get_an_edited_message_as_it_is_now() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    for text in ["one", "two"] {
        ann.send(&chat, text).await.expect_status(201);
        expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    }
    // The last message, which the chat previews, one before it, and one that was edited before.
    for (rev, seq, edit) in [
        (1, 2, json!({"text": "TWO"})),
        (2, 1, json!({"text": "𝕏".repeat(4_096)})),
        (3, 1, json!({"text": null, "imageUrl": IMAGE})),
    ] {
        let edited = ann.edit(&chat, seq, &edit).await.expect_status(200).body;
        for event in expect_events([&mut ann, &mut ben], "message.changed", &chat).await {
            assert_eq!(event["message"], edited);
            assert_eq!(event["chat"]["rev"], rev);
        }
    }
    // A message that was read keeps its status.
    ben.mark_read(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.read", &chat).await;
    ann.edit_text(&chat, 2, "two").await.expect_status(200);
    for event in expect_events([&mut ann, &mut ben], "message.changed", &chat).await {
        assert_eq!(event["message"]["status"], "read");
    }
}

#[tokio::test]
async fn both_members_get_a_deleted_message_without_its_content() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    for text in ["one", "two"] {
        ann.send(&chat, text).await.expect_status(201);
        expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    }
    for (seq, unread) in [(2, 1), (1, 0)] {
        let deleted = ann.delete_message(&chat, seq).await.expect_status(200);
        let events = expect_events([&mut ann, &mut ben], "message.changed", &chat).await;
        for (event, unread) in events.iter().zip([0, unread]) {
            assert_eq!(event["message"], deleted.body);
            assert_eq!(event["message"]["text"], Value::Null);
            assert_is_timestamp(&event["message"]["deletedAt"]);
            assert_eq!(event["chat"]["unreadCount"], unread);
            assert_eq!(totals(event), [0, unread, 0]);
        }
    }
}

#[tokio::test]
async fn both_members_get_that_messages_were_read() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
        expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    }
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    let [sender, reader] = expect_events([&mut ann, &mut ben], "chat.read", &chat).await;
    assert_eq!(sender["chat"]["peerReadSeq"], 2);
    assert_eq!(reader["chat"]["readSeq"], 2);
    assert_eq!(totals(&reader), [0, 1, 0]);
    ben.mark_read(&chat).await.expect_status(200);
    let [sender, reader] = expect_events([&mut ann, &mut ben], "chat.read", &chat).await;
    assert_eq!(sender["chat"]["peerReadSeq"], 3);
    assert_eq!(reader["chat"]["readSeq"], 3);
    assert_eq!(totals(&reader), [0, 0, 0]);
}

#[tokio::test]
async fn requests_that_change_nothing_make_no_event() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let first = ann.send_with_key(&chat, "key", "one").await;
    first.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    ben.mark_read(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.read", &chat).await;

    ann.send_with_key(&chat, "key", "one")
        .await
        .expect_status(200);
    ann.edit_text(&chat, 1, "one").await.expect_status(200);
    ann.mark_read(&chat).await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    ben.mark_up_to(&chat, 1).await.expect_status(200);
    ann.request_chat(&ben).await.expect_status(200);
    ben.accept(&chat).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    ann.send(&chat, " ").await.expect_invalid("`text`");
    ben.delete_message(&chat, 1)
        .await
        .expect_error(403, "not_the_sender");
    let report = json!({"userId": ann.id, "seq": 1, "reason": "spam"});
    ben.report(&report).await.expect_status(201);

    ann.send(&chat, "two").await.expect_status(201);
    for user in [&mut ann, &mut ben] {
        expect_message_next(user, &chat, "two").await;
    }
}

#[tokio::test]
async fn a_user_who_is_not_a_member_of_a_chat_gets_none_of_its_events() {
    let mut cat = OnlineUser::new().await;
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    ben.mark_read(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.read", &chat).await;
    ann.delete_message(&chat, 1).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "message.changed", &chat).await;
    ben.block(&ann).await.expect_status(200);
    expect_events([&mut ben], "chat.changed", &chat).await;
    // The members have their events. If the stranger had got any of them, it would come before this one.
    let dan = Api::shared().user();
    dan.request_chat(&cat).await.expect_status(201);
    let own_chat = dan.chat_id_with(&cat);
    cat.expect_event("chat.requested", &own_chat).await;
}

#[tokio::test]
async fn a_member_of_two_chats_gets_the_events_of_both() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let cat = Api::shared().user();
    let other_chat = cat.start_chat(&ann).await;
    for kind in ["chat.requested", "chat.accepted"] {
        assert_eq!(ann.next_event().await["type"], kind);
    }
    cat.send(&other_chat, "from cat").await.expect_status(201);
    let event = ann.expect_event("message.created", &other_chat).await;
    assert_eq!(totals(&event), [0, 1, 0]);
    ben.send(&chat, "from ben").await.expect_status(201);
    let [event, _] = expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    assert_eq!(event["chat"]["unreadCount"], 1);
    assert_eq!(totals(&event), [0, 2, 0]);
}

#[tokio::test]
async fn only_the_connections_of_the_user_who_blocks_get_the_block_and_its_end() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ben.send(&chat, "one").await.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    for _ in 0..2 {
        // Blocking again changes nothing.
        for _ in 0..2 {
            ann.block(&ben).await.expect_status(200);
        }
        let blocked = ann.expect_event("chat.changed", &chat).await;
        assert_eq!(blocked["chat"]["blocked"], true);
        assert_eq!(blocked["chat"]["unreadCount"], 1);
        assert_eq!(totals(&blocked), [0, 0, 0]);
        ann.unblock(&ben).await.expect_status(200);
        let unblocked = ann.expect_event("chat.changed", &chat).await;
        assert_eq!(unblocked["chat"]["blocked"], false);
        assert_eq!(totals(&unblocked), [0, 1, 0]);
    }
    ann.send(&chat, "two").await.expect_status(201);
    for user in [&mut ann, &mut ben] {
        expect_message_next(user, &chat, "two").await;
    }
}

#[tokio::test]
async fn a_user_who_has_blocked_the_other_member_gets_none_of_the_others_events() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.send(&chat, "from ann").await.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    ben.send(&chat, "from ben").await.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    ann.block(&ben).await.expect_status(200);
    ann.expect_event("chat.changed", &chat).await;
    // The one who is blocked can still mark and delete messages. Nothing shows the block.
    ben.mark_read(&chat).await.expect_status(200);
    let read = ben.expect_event("chat.read", &chat).await;
    ben.delete_message(&chat, 2).await.expect_status(200);
    let changed = ben.expect_event("message.changed", &chat).await;
    for event in [&read, &changed] {
        assert_eq!(event["chat"]["blocked"], false);
    }
    // Also the changes of the user who blocks are shown only to the other member.
    ann.delete_message(&chat, 1).await.expect_status(200);
    ben.expect_event("message.changed", &chat).await;
    ann.unblock(&ben).await.expect_status(200);
    let unblocked = ann.expect_event("chat.changed", &chat).await;
    assert_eq!(unblocked["chat"]["peerReadSeq"], 2);
    assert_eq!(unblocked["chat"]["rev"], 2);
}

#[tokio::test]
async fn a_request_to_a_user_who_blocks_is_pushed_only_to_its_sender() {
    let (mut ann, mut ben) = tokio::join!(OnlineUser::new(), OnlineUser::new());
    let chat = ann.chat_id_with(&ben);
    // There is no chat yet, so that nobody gets an event of the block.
    ann.block(&ben).await.expect_status(200);
    for _ in 0..2 {
        let requested = ben.request_chat(&ann).await;
        assert!([200, 201].contains(&requested.status), "{requested:?}");
        let event = ben.expect_event("chat.requested", &chat).await;
        assert_status(&event, "pending");
        assert_eq!(totals(&event), [0, 0, 1]);
        ben.withdraw(&chat).await.expect_status(200);
        let event = ben.expect_event("chat.withdrawn", &chat).await;
        assert_status(&event, "withdrawn");
    }
    ben.request_chat(&ann).await.expect_status(200);
    ben.expect_event("chat.requested", &chat).await;
    // The end of the block is the first that the other one hears.
    ann.unblock(&ben).await.expect_status(200);
    let event = ann.expect_event("chat.changed", &chat).await;
    assert_eq!(event["chat"]["status"], "pending");
    assert_eq!(event["chat"]["blocked"], false);
    assert_eq!(totals(&event), [1, 0, 0]);
    ann.accept(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.accepted", &chat).await;
}

#[tokio::test]
async fn a_block_without_a_chat_makes_no_event() {
    let (mut ann, mut ben) = tokio::join!(OnlineUser::new(), OnlineUser::new());
    ann.block(&ben).await.expect_status(200);
    ben.block(&ann).await.expect_status(200);
    ann.unblock(&ben).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    expect_events([&mut ann, &mut ben], "chat.requested", &chat).await;
}

#[tokio::test]
async fn a_block_hides_a_received_request_from_the_events_of_the_user_who_blocks() {
    let (mut ann, mut ben, chat) = pending_chat().await;
    ben.block(&ann).await.expect_status(200);
    let blocked = ben.expect_event("chat.changed", &chat).await;
    assert_eq!(blocked["chat"]["blocked"], true);
    assert_eq!(blocked["chat"]["status"], "pending");
    assert_eq!(totals(&blocked), [0, 0, 0]);
    ann.withdraw(&chat).await.expect_status(200);
    ann.expect_event("chat.withdrawn", &chat).await;
    ann.request_chat(&ben).await.expect_status(200);
    ann.expect_event("chat.requested", &chat).await;
    ben.unblock(&ann).await.expect_status(200);
    let unblocked = ben.expect_event("chat.changed", &chat).await;
    assert_eq!(unblocked["chat"]["blocked"], false);
    assert_eq!(totals(&unblocked), [1, 0, 0]);
    ben.decline(&chat).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.declined", &chat).await;
}

#[tokio::test]
async fn a_block_that_withdraws_a_request_is_for_the_other_member_only_a_withdrawal() {
    let (mut ann, mut ben, chat) = pending_chat().await;
    ann.block(&ben).await.expect_status(200);
    let withdrawn = ben.expect_event("chat.withdrawn", &chat).await;
    assert_status(&withdrawn, "withdrawn");
    assert_eq!(withdrawn["chat"]["blocked"], false);
    assert_eq!(totals(&withdrawn), [0, 0, 0]);
    let blocked = ann.expect_event("chat.changed", &chat).await;
    assert_eq!(blocked["chat"]["status"], "withdrawn");
    assert_eq!(blocked["chat"]["blocked"], true);
    assert_eq!(totals(&blocked), [0, 0, 0]);
    ann.unblock(&ben).await.expect_status(200);
    ann.expect_event("chat.changed", &chat).await;
    ben.request_chat(&ann).await.expect_status(200);
    expect_events([&mut ann, &mut ben], "chat.requested", &chat).await;
}

#[tokio::test]
async fn of_two_users_who_block_each_other_each_gets_only_the_own_block() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    expect_events([&mut ann, &mut ben], "message.created", &chat).await;
    ann.block(&ben).await.expect_status(200);
    ann.expect_event("chat.changed", &chat).await;
    ben.block(&ann).await.expect_status(200);
    let blocked = ben.expect_event("chat.changed", &chat).await;
    assert_eq!(blocked["chat"]["blocked"], true);
    // Nobody hears of this.
    ann.delete_message(&chat, 1).await.expect_status(200);
    ann.unblock(&ben).await.expect_status(200);
    let unblocked = ann.expect_event("chat.changed", &chat).await;
    assert_eq!(unblocked["chat"]["rev"], 1);
    ben.unblock(&ann).await.expect_status(200);
    let unblocked = ben.expect_event("chat.changed", &chat).await;
    assert_eq!(unblocked["chat"]["rev"], 1);
    ben.send(&chat, "two").await.expect_status(201);
    for user in [&mut ann, &mut ben] {
        expect_message_next(user, &chat, "two").await;
    }
}

#[tokio::test]
async fn every_event_has_a_time_and_an_id_of_its_own() {
    let (mut ann, ben, chat) = OnlineUser::active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    ann.block(&ben).await.expect_status(200);
    ann.unblock(&ben).await.expect_status(200);
    let mut ids = Vec::new();
    for kind in [
        "message.created",
        "message.changed",
        "chat.read",
        "chat.changed",
        "chat.changed",
    ] {
        let event = ann.next_event().await;
        assert_eq!(event["type"], kind);
        assert_is_timestamp(&event["at"]);
        ids.push(event["id"].to_string());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{ids:?}");
}
