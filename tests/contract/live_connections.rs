//! The connections of a user: how many there may be, and that each gets the events whatever happens to the others.
//!
//! The integration tests cover connections whose token expires, and those that end without a closing handshake.

use serde_json::json;

use crate::support::{
    Api, User,
    live::{LiveClient, OnlineUser},
};

/// The maximum number of connections of a user.
const MAX_CONNECTIONS: usize = 10;

/// Opens connections one after the other.
async fn open_connections(user: &User, count: usize) -> Vec<LiveClient> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(LiveClient::connect(user).await);
    }
    connections
}

/// Lets another user request a chat, and asserts that each of the connections gets the event of that next.
async fn expect_event_on_each(user: &User, connections: &mut [LiveClient]) {
    let other = Api::shared().user();
    other.request_chat(user).await.expect_status(201);
    for connection in connections {
        let event = connection.next_event().await;
        assert_eq!(event["type"], "chat.requested");
        assert_eq!(event["chatId"], other.chat_id_with(user));
    }
}

#[tokio::test]
async fn ten_connections_of_a_user_get_each_event() {
    let user = Api::shared().user();
    let mut connections = open_connections(&user, MAX_CONNECTIONS).await;
    expect_event_on_each(&user, &mut connections).await;
    // None was closed.
    for connection in &mut connections {
        connection.sync().await;
    }
}

#[tokio::test]
async fn a_connection_beyond_ten_closes_the_oldest_and_the_others_get_each_event() {
    let user = Api::shared().user();
    let mut connections = open_connections(&user, MAX_CONNECTIONS).await;
    for _ in 0..2 {
        connections.push(LiveClient::connect(&user).await);
        let mut oldest = connections.remove(0);
        oldest.closed().await;
        let bye = oldest.next().await;
        assert_eq!(
            bye,
            Some(json!({"v": 1, "type": "bye", "reason": "too_many_connections"}))
        );
        assert_eq!(oldest.next().await, None);
    }
    expect_event_on_each(&user, &mut connections).await;
}

#[tokio::test]
async fn connections_of_different_users_do_not_close_one_another() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let mut of_ann = open_connections(&ann, MAX_CONNECTIONS - 1).await;
    let mut of_ben = open_connections(&ben, 2).await;
    expect_event_on_each(&ann, &mut of_ann).await;
    expect_event_on_each(&ben, &mut of_ben).await;
}

#[tokio::test]
async fn closing_a_connection_does_not_affect_the_others() {
    let user = Api::shared().user();
    let mut connections = open_connections(&user, 3).await;
    connections.remove(1).close().await;
    expect_event_on_each(&user, &mut connections).await;
    connections.remove(0).close().await;
    expect_event_on_each(&user, &mut connections).await;
}

#[tokio::test]
async fn without_an_open_connection_nothing_is_lost_over_rest() {
    let (mut ann, ben, chat) = OnlineUser::active_chat().await;
    for device in ben.devices {
        device.close().await;
    }
    let ben = ben.user;
    let sent = ann.send(&chat, "hi").await.expect_status(201).body;
    ann.expect_event("message.created", &chat).await;
    assert_eq!(ben.message(&chat, 1).await, sent);
    // Whoever connects again gets what happens from then on.
    let mut connection = LiveClient::connect(&ben).await;
    ann.send(&chat, "are you there?").await.expect_status(201);
    loop {
        // The event of the first message may be late, and then it arrives here, too.
        let event = connection.event("message.created").await;
        if event["message"]["seq"] == 2 {
            assert_eq!(event["message"], ben.message(&chat, 2).await);
            break;
        }
    }
}

#[tokio::test]
async fn all_connections_of_two_users_get_the_messages_of_both() {
    let (mut ann, mut ben, chat) = OnlineUser::active_chat().await;
    let mut more = [
        LiveClient::connect(&ann).await,
        LiveClient::connect(&ben).await,
    ];
    let senders = [ann.user.clone(), ben.user.clone()];
    for (sender, seq) in senders.iter().zip(1..) {
        sender.send(&chat, "hi").await.expect_status(201);
        let event = ann.expect_event("message.created", &chat).await;
        assert_eq!(event["message"]["seq"], seq);
        ben.expect_event("message.created", &chat).await;
        for connection in &mut more {
            let event = connection.event("message.created").await;
            assert_eq!(event["message"]["seq"], seq);
        }
    }
}
