//! The chat state machine: every transition and every error, from the side of both members.

use serde_json::{Value, json};

use crate::support::{Api, Response, User};

/// Every list of chats.
pub const LISTS: [&str; 5] = [
    "/chats",
    "/chats/pending",
    "/chats/pending?direction=received",
    "/chats/rejected",
    "/chats/rejected?direction=received",
];

/// Two new users, of which the first requested a chat, and its id.
pub async fn pending_chat() -> (User, User, String) {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    (ann, ben, chat)
}

/// Two new users, of which the first requested a chat that the second declined, and its id.
pub async fn declined_chat() -> (User, User, String) {
    let (ann, ben, chat) = pending_chat().await;
    ben.decline(&chat).await.expect_status(200);
    (ann, ben, chat)
}

/// Two new users, of which the first requested a chat and withdrew the request, and its id.
pub async fn withdrawn_chat() -> (User, User, String) {
    let (ann, ben, chat) = pending_chat().await;
    ann.withdraw(&chat).await.expect_status(200);
    (ann, ben, chat)
}

/// Waits until no list of a user has any chat.
pub async fn wait_for_empty_lists(user: &User) {
    for list in LISTS {
        user.wait_for_list(list, &[]).await;
    }
}

/// Asserts the status, requester and recipient of the chat in a response.
#[track_caller]
pub fn assert_chat(response: &Response, status: &str, requester: &User, recipient: &User) {
    let chat = &response.body;
    assert_eq!(chat["status"], status, "{response:?}");
    assert_eq!(chat["requesterId"], requester.id);
    assert_eq!(chat["recipientId"], recipient.id);
    assert_eq!(chat["chatId"], requester.chat_id_with(recipient));
}

/// Asserts that a value is a timestamp in RFC 3339 format, in UTC, with milliseconds.
#[track_caller]
pub fn assert_is_timestamp(value: &Value) {
    let timestamp = value.as_str().unwrap();
    let shape: String = timestamp
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
}

#[tokio::test]
async fn a_new_chat_is_pending_and_has_every_field() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let response = ann.request_chat(&ben).await.expect_status(201);
    assert_is_timestamp(&response.body["createdAt"]);
    assert_eq!(
        response.body,
        json!({
            "chatId": ann.chat_id_with(&ben), "status": "pending",
            "requesterId": ann.id, "recipientId": ben.id,
            "unreadCount": 0, "readSeq": 0, "peerReadSeq": 0, "rev": 0, "lastMessage": null,
            "blocked": false,
            "createdAt": response.body["createdAt"], "updatedAt": response.body["createdAt"],
        })
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    let chat = ann.chat_id_with(&ben);
    ann.wait_for_list("/chats/pending", &[&chat]).await;
    ben.wait_for_list("/chats/pending?direction=received", &[&chat])
        .await;
    ann.wait_for_list("/chats/pending?direction=received", &[])
        .await;
    ben.wait_for_list("/chats/pending", &[]).await;
    ben.wait_for_list("/chats/pending?direction=sent", &[])
        .await;
}

#[tokio::test]
async fn an_active_chat_has_every_field() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let sent = ann.send(&chat, "hi").await.expect_status(201).body;
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_is_timestamp(&view["createdAt"]);
    assert_eq!(
        view,
        json!({
            "chatId": chat, "status": "active", "requesterId": ann.id, "recipientId": ben.id,
            "unreadCount": 1, "readSeq": 0, "peerReadSeq": 0, "rev": 0,
            "lastMessage": {
                "seq": 1, "senderId": ann.id, "text": "hi", "createdAt": sent["createdAt"],
                "deleted": false,
            },
            "blocked": false,
            "createdAt": view["createdAt"], "updatedAt": sent["createdAt"],
        })
    );
}

#[tokio::test]
async fn a_chat_can_be_read_by_its_id_in_every_status() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    // The members see the same, because there are no messages.
    let assert_shown = async |expected: &Response| {
        for user in [&ann, &ben] {
            let shown = user.get_chat(&chat).await.expect_status(200);
            assert_eq!(shown.body, expected.body);
        }
    };
    for user in [&ann, &ben] {
        let response = user.get_chat(&chat).await;
        response.expect_error(404, "chat_not_found");
    }
    let pending = ann.request_chat(&ben).await.expect_status(201);
    assert_chat(&pending, "pending", &ann, &ben);
    assert_shown(&pending).await;
    let withdrawn = ann.withdraw(&chat).await.expect_status(200);
    assert_chat(&withdrawn, "withdrawn", &ann, &ben);
    assert_shown(&withdrawn).await;
    assert_shown(&ann.request_chat(&ben).await).await;
    let declined = ben.decline(&chat).await.expect_status(200);
    assert_chat(&declined, "declined", &ann, &ben);
    assert_shown(&declined).await;
    assert_shown(&ben.request_chat(&ann).await).await;
    let active = ann.accept(&chat).await.expect_status(200);
    assert_chat(&active, "active", &ben, &ann);
    assert_shown(&active).await;
}

/// The lists follow later. A client opens a chat from a notification, so this must show the message.
#[tokio::test]
async fn a_chat_that_is_read_by_its_id_shows_every_change_at_once() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for seq in 1..=5 {
        let sent = ann.send(&chat, "hi").await.expect_status(201).body;
        let shown = ben.get_chat(&chat).await.expect_status(200).body;
        assert_eq!(
            [&shown["unreadCount"], &shown["lastMessage"]["seq"]],
            [seq; 2]
        );
        assert_eq!(shown["updatedAt"], sent["createdAt"]);
    }
    ben.mark_read(&chat).await.expect_status(200);
    let shown = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&shown["unreadCount"], &shown["readSeq"]], [0, 5]);
    let shown = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(shown["peerReadSeq"], 5);
}

#[tokio::test]
async fn a_user_cannot_request_a_chat_with_themselves() {
    let user = Api::shared().user();
    user.request_chat(&user).await.expect_invalid("`userId`");
}

#[tokio::test]
async fn requesting_a_pending_chat_again_changes_nothing() {
    let (ann, ben, _) = pending_chat().await;
    let again = ann.request_chat(&ben).await.expect_status(200);
    assert_chat(&again, "pending", &ann, &ben);
    assert_eq!(again.body["createdAt"], again.body["updatedAt"]);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn requesting_a_chat_that_the_other_user_requested_makes_it_active() {
    let (ann, ben, chat) = pending_chat().await;
    let mutual = ben.request_chat(&ann).await.expect_status(200);
    assert_chat(&mutual, "active", &ann, &ben);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.wait_for_list("/chats", &[&chat]).await;
    ben.wait_for_list("/chats", &[&chat]).await;
    ann.wait_for_list("/chats/pending", &[]).await;
}

#[tokio::test]
async fn accepting_a_pending_chat_makes_it_active() {
    let (ann, ben, chat) = pending_chat().await;
    let accepted = ben.accept(&chat).await.expect_status(200);
    assert_chat(&accepted, "active", &ann, &ben);
    assert!(accepted.body["updatedAt"].as_str() >= accepted.body["createdAt"].as_str());
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.wait_for_list("/chats", &[&chat]).await;
    ben.wait_for_list("/chats", &[&chat]).await;
    ann.wait_for_list("/chats/pending", &[]).await;
    ben.wait_for_list("/chats/pending?direction=received", &[])
        .await;
}

#[tokio::test]
async fn declining_a_pending_chat_moves_it_to_the_declined_requests() {
    let (ann, ben, chat) = pending_chat().await;
    let declined = ben.decline(&chat).await.expect_status(200);
    assert_chat(&declined, "declined", &ann, &ben);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.wait_for_list("/chats/rejected", &[&chat]).await;
    ann.wait_for_list("/chats/rejected?direction=received", &[])
        .await;
    ben.wait_for_list("/chats/rejected?direction=received", &[&chat])
        .await;
    ben.wait_for_list("/chats/rejected", &[]).await;
    ann.wait_for_list("/chats/pending", &[]).await;
}

#[tokio::test]
async fn the_requester_cannot_accept_or_decline_their_own_request() {
    let (ann, ben, chat) = pending_chat().await;
    ann.accept(&chat)
        .await
        .expect_error(403, "not_the_recipient");
    ann.decline(&chat)
        .await
        .expect_error(403, "not_the_recipient");
    assert_eq!(ben.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn requesting_or_accepting_an_active_chat_changes_nothing() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let before = ann.chat_view(&chat).await;
    for response in [
        ann.request_chat(&ben).await,
        ben.request_chat(&ann).await,
        ben.accept(&chat).await,
    ] {
        assert_chat(&response.expect_status(200), "active", &ann, &ben);
    }
    assert_eq!(ann.chat_view(&chat).await, before);
}

#[tokio::test]
async fn the_requester_cannot_accept_an_active_chat() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    ann.accept(&chat)
        .await
        .expect_error(403, "not_the_recipient");
}

#[tokio::test]
async fn an_active_chat_cannot_be_declined() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.decline(&chat).await.expect_error(409, "chat_active");
    ben.decline(&chat).await.expect_error(409, "chat_active");
    ann.wait_for_list("/chats", &[&chat]).await;
}

#[tokio::test]
async fn declining_a_declined_chat_again_changes_nothing_and_only_the_recipient_may() {
    let (ann, ben, chat) = declined_chat().await;
    let again = ben.decline(&chat).await.expect_status(200);
    assert_chat(&again, "declined", &ann, &ben);
    ann.decline(&chat)
        .await
        .expect_error(403, "not_the_recipient");
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_declined_chat_cannot_be_accepted() {
    let (ann, ben, chat) = declined_chat().await;
    ann.accept(&chat).await.expect_error(409, "chat_declined");
    ben.accept(&chat).await.expect_error(409, "chat_declined");
}

#[tokio::test]
async fn a_declined_requester_cannot_request_the_chat_again() {
    let (ann, ben, _) = declined_chat().await;
    ann.request_chat(&ben)
        .await
        .expect_error(409, "chat_declined");
    assert_eq!(ann.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn the_user_who_declined_can_request_the_chat_which_swaps_the_roles() {
    let (ann, ben, chat) = declined_chat().await;
    let list = ann.wait_for_list("/chats/rejected", &[&chat]).await;
    let created_at = &list.chats()[0]["createdAt"];
    let swapped = ben.request_chat(&ann).await.expect_status(200);
    assert_chat(&swapped, "pending", &ben, &ann);
    assert_eq!(swapped.body["createdAt"], *created_at);
    assert_eq!(ben.totals().await, [0, 0, 1]);
    assert_eq!(ann.totals().await, [1, 0, 0]);
    ben.wait_for_list("/chats/pending", &[&chat]).await;
    ann.wait_for_list("/chats/pending?direction=received", &[&chat])
        .await;
    ann.wait_for_list("/chats/rejected", &[]).await;
    ben.accept(&chat)
        .await
        .expect_error(403, "not_the_recipient");
    let accepted = ann.accept(&chat).await.expect_status(200);
    assert_chat(&accepted, "active", &ben, &ann);
}

#[tokio::test]
async fn messages_cannot_be_sent_to_a_chat_that_is_not_active() {
    for (ann, ben, chat) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
    ] {
        ann.send(&chat, "hi")
            .await
            .expect_error(409, "chat_not_active");
        ben.send(&chat, "hi")
            .await
            .expect_error(409, "chat_not_active");
        ann.send_with_key(&chat, "key", "hi")
            .await
            .expect_error(409, "chat_not_active");
    }
}

#[tokio::test]
async fn listing_and_marking_messages_of_a_chat_that_is_not_active_finds_no_messages() {
    for (ann, ben, chat) in [
        pending_chat().await,
        declined_chat().await,
        withdrawn_chat().await,
    ] {
        for user in [&ann, &ben] {
            for query in ["", "?skip=3", "?before=9", "?after=0"] {
                let page = user.messages(&chat, query).await.expect_status(200);
                assert_eq!(page.body, json!({"messages": [], "nextCursor": null}));
            }
            for query in ["", "?after=0", "?after=9"] {
                let page = user.changes(&chat, query).await.expect_status(200);
                let empty = json!({"messages": [], "rev": 0, "nextCursor": null});
                assert_eq!(page.body, empty);
            }
            user.mark_read(&chat).await.expect_status(200);
        }
    }
}

#[tokio::test]
async fn each_member_sees_the_chat_with_their_own_unread_count_and_watermarks() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ann.send(&chat, "two").await.expect_status(201);
    ben.mark_read(&chat).await.expect_status(200);
    ann.send(&chat, "three").await.expect_status(201);
    let ann_view = ann.chat_view(&chat).await;
    let ben_view = ben.chat_view(&chat).await;
    assert_eq!(
        [
            &ann_view["unreadCount"],
            &ann_view["readSeq"],
            &ann_view["peerReadSeq"]
        ],
        [0, 0, 2]
    );
    assert_eq!(
        [
            &ben_view["unreadCount"],
            &ben_view["readSeq"],
            &ben_view["peerReadSeq"]
        ],
        [1, 2, 0]
    );
    for view in [&ann_view, &ben_view] {
        assert_eq!(view["lastMessage"]["seq"], 3);
        assert_eq!(view["lastMessage"]["senderId"], ann.id);
        assert_eq!(view["lastMessage"]["text"], "three");
        assert_eq!(view["updatedAt"], view["lastMessage"]["createdAt"]);
    }
}

#[tokio::test]
async fn the_preview_of_the_last_message_has_at_most_120_code_points_or_null_without_a_text() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let text = "👩‍🚀é".repeat(100);
    ann.send(&chat, &text).await.expect_status(201);
    let preview: String = text.chars().take(120).collect();
    assert_eq!(ben.chat_view(&chat).await["lastMessage"]["text"], preview);
    let image = json!({"imageUrl": "https://a.example/i.png"});
    ann.post(&format!("/chats/{chat}/messages"), &image)
        .await
        .expect_status(201);
    let view = ben.chat_view(&chat).await;
    assert_eq!(view["lastMessage"]["text"], Value::Null);
}

#[tokio::test]
async fn marking_as_read_does_not_change_when_the_chat_was_updated() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    let before = ben.chat_view(&chat).await["updatedAt"].clone();
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(ben.chat_view(&chat).await["updatedAt"], before);
}

#[tokio::test]
async fn an_unknown_direction_is_rejected() {
    let user = Api::shared().user();
    for list in ["/chats/pending", "/chats/rejected"] {
        for invalid in [
            "direction=",
            "direction=Sent",
            "direction=both",
            "direction=sent&direction=sent",
        ] {
            user.get(&format!("{list}?{invalid}"))
                .await
                .expect_invalid("`direction`");
        }
    }
    // The list of active chats has no such parameter, and ignores it.
    user.get("/chats?direction=both").await.expect_status(200);
}
