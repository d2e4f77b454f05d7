//! Part 1.3 of the contract: the life of a chat, each row of its table.

use serde_json::{Value, json};

use crate::support::{Answer, Api, User};

/// Ann asked Ben, and this is what it became.
async fn pending() -> (User, User, String) {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.ask(&ben).await.is(201);
    let chat = ann.chat_with(&ben);
    (ann, ben, chat)
}

async fn declined() -> (User, User, String) {
    let (ann, ben, chat) = pending().await;
    ben.decline(&chat).await.is(200);
    (ann, ben, chat)
}

/// Asserts what the chat is now: its answer's status, requester and recipient.
#[track_caller]
fn shows(answer: &Answer, status: &str, requester: &User, recipient: &User) {
    let chat = &answer.body;
    assert_eq!(chat["status"], status, "{answer:?}");
    assert_eq!(chat["requesterId"], requester.id);
    assert_eq!(chat["recipientId"], recipient.id);
    assert_eq!(chat["chatId"], requester.chat_with(recipient));
}

/// A time in RFC 3339, UTC, with milliseconds.
#[track_caller]
pub fn is_time(value: &Value) {
    let time = value.as_str().unwrap();
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
}

#[tokio::test]
async fn a_new_chat_is_pending_and_has_every_field() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let answer = ann.ask(&ben).await.is(201);
    is_time(&answer.body["createdAt"]);
    assert_eq!(
        answer.body,
        json!({
            "chatId": ann.chat_with(&ben), "status": "pending",
            "requesterId": ann.id, "recipientId": ben.id,
            "unreadCount": 0, "readSeq": 0, "peerReadSeq": 0, "lastMessage": null,
            "createdAt": answer.body["createdAt"], "updatedAt": answer.body["createdAt"],
        })
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    let chat = ann.chat_with(&ben);
    ann.list_becomes("/chats/pending", &[&chat]).await;
    ben.list_becomes("/chats/pending?direction=received", &[&chat])
        .await;
    ann.list_becomes("/chats/pending?direction=received", &[])
        .await;
    ben.list_becomes("/chats/pending", &[]).await;
    ben.list_becomes("/chats/pending?direction=sent", &[]).await;
}

#[tokio::test]
async fn nobody_chats_with_oneself() {
    let user = Api::shared().user();
    user.ask(&user).await.is_invalid("`userId`");
}

#[tokio::test]
async fn asking_again_while_pending_changes_nothing() {
    let (ann, ben, _) = pending().await;
    let again = ann.ask(&ben).await.is(200);
    shows(&again, "pending", &ann, &ben);
    assert_eq!(again.body["createdAt"], again.body["updatedAt"]);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn when_both_ask_both_agree() {
    let (ann, ben, chat) = pending().await;
    let mutual = ben.ask(&ann).await.is(200);
    shows(&mutual, "active", &ann, &ben);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.list_becomes("/chats", &[&chat]).await;
    ben.list_becomes("/chats", &[&chat]).await;
    ann.list_becomes("/chats/pending", &[]).await;
}

#[tokio::test]
async fn the_recipient_accepts() {
    let (ann, ben, chat) = pending().await;
    let accepted = ben.accept(&chat).await.is(200);
    shows(&accepted, "active", &ann, &ben);
    assert!(accepted.body["updatedAt"].as_str() >= accepted.body["createdAt"].as_str());
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.list_becomes("/chats", &[&chat]).await;
    ben.list_becomes("/chats", &[&chat]).await;
    ann.list_becomes("/chats/pending", &[]).await;
    ben.list_becomes("/chats/pending?direction=received", &[])
        .await;
}

#[tokio::test]
async fn the_recipient_declines() {
    let (ann, ben, chat) = pending().await;
    let answer = ben.decline(&chat).await.is(200);
    shows(&answer, "declined", &ann, &ben);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ann.list_becomes("/chats/rejected", &[&chat]).await;
    ann.list_becomes("/chats/rejected?direction=received", &[])
        .await;
    ben.list_becomes("/chats/rejected?direction=received", &[&chat])
        .await;
    ben.list_becomes("/chats/rejected", &[]).await;
    ann.list_becomes("/chats/pending", &[]).await;
}

#[tokio::test]
async fn the_requester_does_not_answer_the_own_request() {
    let (ann, ben, chat) = pending().await;
    ann.accept(&chat).await.is_refusal(403, "not_the_recipient");
    ann.decline(&chat)
        .await
        .is_refusal(403, "not_the_recipient");
    assert_eq!(ben.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn an_active_chat_stays_so_when_it_is_asked_for_or_accepted_again() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let before = ann.view(&chat).await;
    shows(&ann.ask(&ben).await.is(200), "active", &ann, &ben);
    shows(&ben.ask(&ann).await.is(200), "active", &ann, &ben);
    shows(&ben.accept(&chat).await.is(200), "active", &ann, &ben);
    assert_eq!(ann.view(&chat).await, before);
}

#[tokio::test]
async fn the_requester_does_not_accept_an_active_chat_either() {
    let (ann, _, chat) = Api::shared().friends().await;
    ann.accept(&chat).await.is_refusal(403, "not_the_recipient");
}

#[tokio::test]
async fn an_active_chat_cannot_be_declined() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.decline(&chat).await.is_refusal(409, "chat_active");
    ben.decline(&chat).await.is_refusal(409, "chat_active");
    ann.list_becomes("/chats", &[&chat]).await;
}

#[tokio::test]
async fn declining_again_changes_nothing_and_only_who_declined_may() {
    let (ann, ben, chat) = declined().await;
    shows(&ben.decline(&chat).await.is(200), "declined", &ann, &ben);
    ann.decline(&chat)
        .await
        .is_refusal(403, "not_the_recipient");
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_declined_chat_cannot_be_accepted() {
    let (ann, ben, chat) = declined().await;
    ann.accept(&chat).await.is_refusal(409, "chat_declined");
    ben.accept(&chat).await.is_refusal(409, "chat_declined");
}

#[tokio::test]
async fn who_was_declined_cannot_ask_again() {
    let (ann, ben, _) = declined().await;
    ann.ask(&ben).await.is_refusal(409, "chat_declined");
    assert_eq!(ann.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn who_declined_can_ask_and_the_roles_are_swapped() {
    let (ann, ben, chat) = declined().await;
    let created = ann.get("/chats/rejected").await.body["chats"][0]["createdAt"].clone();
    let swapped = ben.ask(&ann).await.is(200);
    shows(&swapped, "pending", &ben, &ann);
    assert_eq!(swapped.body["createdAt"], created);
    assert_eq!(ben.totals().await, [0, 0, 1]);
    assert_eq!(ann.totals().await, [1, 0, 0]);
    ben.list_becomes("/chats/pending", &[&chat]).await;
    ann.list_becomes("/chats/pending?direction=received", &[&chat])
        .await;
    ann.list_becomes("/chats/rejected", &[]).await;
    ben.accept(&chat).await.is_refusal(403, "not_the_recipient");
    shows(&ann.accept(&chat).await.is(200), "active", &ben, &ann);
}

#[tokio::test]
async fn a_chat_that_is_not_active_takes_no_message() {
    for (ann, ben, chat) in [pending().await, declined().await] {
        ann.say(&chat, "hi")
            .await
            .is_refusal(409, "chat_not_active");
        ben.say(&chat, "hi")
            .await
            .is_refusal(409, "chat_not_active");
        ann.say_once(&chat, "key", "hi")
            .await
            .is_refusal(409, "chat_not_active");
    }
}

#[tokio::test]
async fn reading_a_chat_that_is_not_active_works_and_finds_nothing() {
    for (ann, ben, chat) in [pending().await, declined().await] {
        for user in [&ann, &ben] {
            for query in ["", "?skip=3", "?before=9", "?after=0"] {
                let page = user.messages(&chat, query).await.is(200);
                assert_eq!(page.body, json!({"messages": [], "nextCursor": null}));
            }
            user.mark_read(&chat).await.is(200);
        }
    }
}

#[tokio::test]
async fn both_members_see_the_same_chat_from_their_side() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, "one").await.is(201);
    ann.say(&chat, "two").await.is(201);
    ben.mark_read(&chat).await.is(200);
    ann.say(&chat, "three").await.is(201);
    ann.list_becomes("/chats", &[&chat]).await;
    let (anns, bens) = (ann.view(&chat).await, ben.view(&chat).await);
    assert_eq!(
        [&anns["unreadCount"], &anns["readSeq"], &anns["peerReadSeq"]],
        [0, 0, 2]
    );
    assert_eq!(
        [&bens["unreadCount"], &bens["readSeq"], &bens["peerReadSeq"]],
        [1, 2, 0]
    );
    for view in [&anns, &bens] {
        assert_eq!(view["lastMessage"]["seq"], 3);
        assert_eq!(view["lastMessage"]["senderId"], ann.id);
        assert_eq!(view["lastMessage"]["text"], "three");
        assert_eq!(view["updatedAt"], view["lastMessage"]["createdAt"]);
    }
}

#[tokio::test]
async fn the_last_message_shows_120_code_points_and_null_without_text() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, &"👩‍🚀é".repeat(100)).await.is(201);
    let expected: String = "👩‍🚀é".repeat(100).chars().take(120).collect();
    assert_eq!(ben.view(&chat).await["lastMessage"]["text"], expected);
    let image = json!({"imageUrl": "https://a.example/i.png"});
    ann.post(&format!("/chats/{chat}/messages"), &image)
        .await
        .is(201);
    assert_eq!(ben.view(&chat).await["lastMessage"]["text"], Value::Null);
}

#[tokio::test]
async fn marking_as_read_does_not_move_a_chat_up() {
    let (ann, ben, chat) = Api::shared().friends().await;
    ann.say(&chat, "hi").await.is(201);
    let before = ben.view(&chat).await["updatedAt"].clone();
    ben.mark_read(&chat).await.is(200);
    assert_eq!(ben.view(&chat).await["updatedAt"], before);
}

#[tokio::test]
async fn an_unknown_direction_is_refused() {
    let user = Api::shared().user();
    for list in ["/chats/pending", "/chats/rejected"] {
        for bad in ["?direction=", "?direction=Sent", "?direction=both"] {
            user.get(&format!("{list}{bad}"))
                .await
                .is_invalid("`direction`");
        }
        let twice = format!("{list}?direction=sent&direction=sent");
        user.get(&twice).await.is_invalid("`direction`");
    }
    user.get("/chats?direction=both").await.is(200);
}
