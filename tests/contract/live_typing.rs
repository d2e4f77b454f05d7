//! Typing: who learns that a user is writing.
//!
//! A frame that has no effect is followed by one that has, or by another event of the chat: that must be the next that
//! arrives.

use serde_json::{Value, json};

use crate::{
    chats::assert_is_timestamp,
    support::{
        Api,
        live::{LiveClient, OnlineUser},
    },
};

fn typing(chat: &str) -> Value {
    json!({"type": "typing", "chatId": chat})
}

/// Sends a typing frame that is ignored, and waits until the server has answered a later frame.
async fn send_ignored(connection: &mut LiveClient, chat: &str) {
    connection.send(&typing(chat)).await;
    connection.send(&json!({"type": "sync"})).await;
    let answer = connection.next_control().await;
    assert_eq!(answer["type"], "synced", "{answer}");
}

/// Asserts that the next event on both connections of `receiver` says that `user` is writing.
async fn expect_typing(receiver: &mut OnlineUser, chat: &str, user: u64) {
    let event = receiver.next_event().await;
    assert_is_timestamp(&event["at"]);
    assert_eq!(
        event,
        json!({
            "id": event["id"], "type": "typing", "chatId": chat, "at": event["at"], "userId": user,
        })
    );
}

/// Asserts that the next event of both users is one of this type, so that no typing arrived before.
async fn expect_next(users: [&mut OnlineUser; 2], kind: &str, chat: &str) {
    for user in users {
        user.expect_event(kind, chat).await;
    }
}

#[tokio::test]
async fn typing_arrives_on_all_connections_of_the_other_member_and_on_none_of_the_own() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.devices[0].send(&typing(&chat)).await;
    expect_typing(&mut ben, &chat, ann.id).await;
    ben.devices[1].send(&typing(&chat)).await;
    expect_typing(&mut ann, &chat, ben.id).await;
    ann.send(&chat, "hi").await.expect_status(201);
    expect_next([&mut ann, &mut ben], "message.created", &chat).await;
}

#[tokio::test]
async fn typing_may_be_sent_again() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    for _ in 0..3 {
        ann.devices[0].send(&typing(&chat)).await;
        expect_typing(&mut ben, &chat, ann.id).await;
    }
    // Another device of the same user has a limit of its own.
    ann.devices[1].send(&typing(&chat)).await;
    expect_typing(&mut ben, &chat, ann.id).await;
}

#[tokio::test]
async fn typing_has_no_answer() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.devices[0].send(&typing(&chat)).await;
    expect_typing(&mut ben, &chat, ann.id).await;
    ann.devices[0].send(&json!({"type": "sync"})).await;
    let answer = ann.devices[0].next_control().await;
    assert_eq!(answer["type"], "synced", "{answer}");
}

#[tokio::test]
async fn typing_is_ignored_unless_the_chat_is_active() {
    let (mut ann, mut ben) = tokio::join!(OnlineUser::new(), OnlineUser::new());
    let chat = ann.chat_id_with(&ben);
    // There is no chat yet.
    send_ignored(&mut ann.devices[0], &chat).await;
    ann.request_chat(&ben).await.expect_status(201);
    expect_next([&mut ann, &mut ben], "chat.requested", &chat).await;
    // The chat is pending.
    send_ignored(&mut ann.devices[1], &chat).await;
    send_ignored(&mut ben.devices[0], &chat).await;
    ann.withdraw(&chat).await.expect_status(200);
    expect_next([&mut ann, &mut ben], "chat.withdrawn", &chat).await;
    // The request was withdrawn.
    send_ignored(&mut ben.devices[0], &chat).await;
    ben.request_chat(&ann).await.expect_status(200);
    expect_next([&mut ann, &mut ben], "chat.requested", &chat).await;
    ann.decline(&chat).await.expect_status(200);
    expect_next([&mut ann, &mut ben], "chat.declined", &chat).await;
    // The request was declined.
    send_ignored(&mut ann.devices[0], &chat).await;
    ann.request_chat(&ben).await.expect_status(200);
    expect_next([&mut ann, &mut ben], "chat.requested", &chat).await;
    ben.accept(&chat).await.expect_status(200);
    expect_next([&mut ann, &mut ben], "chat.accepted", &chat).await;
    ann.devices[1].send(&typing(&chat)).await;
    expect_typing(&mut ben, &chat, ann.id).await;
}

#[tokio::test]
async fn typing_is_ignored_while_either_member_has_blocked_the_other() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    ann.block(&ben).await.expect_status(200);
    ann.expect_event("chat.changed", &chat).await;
    send_ignored(&mut ann.devices[0], &chat).await;
    send_ignored(&mut ben.devices[0], &chat).await;
    ben.block(&ann).await.expect_status(200);
    ben.expect_event("chat.changed", &chat).await;
    send_ignored(&mut ann.devices[0], &chat).await;
    ann.unblock(&ben).await.expect_status(200);
    ann.expect_event("chat.changed", &chat).await;
    send_ignored(&mut ann.devices[1], &chat).await;
    send_ignored(&mut ben.devices[1], &chat).await;
    ben.unblock(&ann).await.expect_status(200);
    ben.expect_event("chat.changed", &chat).await;
    ann.send(&chat, "hi").await.expect_status(201);
    expect_next([&mut ann, &mut ben], "message.created", &chat).await;
    ben.devices[1].send(&typing(&chat)).await;
    expect_typing(&mut ann, &chat, ben.id).await;
}

#[tokio::test]
async fn typing_in_the_chat_of_others_is_an_error_and_reaches_nobody() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let stranger = Api::shared().user();
    let mut connection = LiveClient::connect(&stranger).await;
    connection.send(&typing(&chat)).await;
    connection.expect_error("invalid_frame").await;
    // The connection stays open.
    connection.sync().await;
    ann.devices[0].send(&typing(&chat)).await;
    expect_typing(&mut ben, &chat, ann.id).await;
    ben.send(&chat, "hi").await.expect_status(201);
    expect_next([&mut ann, &mut ben], "message.created", &chat).await;
}

#[tokio::test]
async fn typing_needs_the_canonical_id_of_a_chat() {
    let (ann, mut ben, chat) = OnlineUser::active_chat().await;
    let (low, high) = chat.split_once('-').unwrap();
    for id in [
        format!("{high}-{low}"),
        format!("0{chat}"),
        format!("{low}-0{high}"),
        format!("+{chat}"),
        format!(" {chat}"),
        format!("{chat} "),
        format!("{chat}-1"),
        format!("{chat}/1"),
        format!("{low}-{low}"),
        format!("0-{low}"),
        low.to_owned(),
        String::new(),
    ] {
        // Each on a connection of its own, because the number of frames is limited.
        let mut connection = LiveClient::connect(&ann).await;
        connection.send(&typing(&id)).await;
        connection.expect_error("invalid_frame").await;
        connection.close().await;
    }
    for id in [json!(null), json!(17), json!([chat]), json!({"id": chat})] {
        let mut connection = LiveClient::connect(&ann).await;
        connection
            .send(&json!({"type": "typing", "chatId": id}))
            .await;
        connection.expect_error("invalid_frame").await;
        connection.close().await;
    }
    ann.send(&chat, "hi").await.expect_status(201);
    ben.expect_event("message.created", &chat).await;
}
