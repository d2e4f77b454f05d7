//! What waits for a user.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn a_user_nobody_knows_has_zeros() {
    let user = Api::shared().user();
    assert_eq!(
        user.get("/totals").await.is(200).body,
        json!({"totalPendingRequest": 0, "totalUnreadMessages": 0, "totalSentRequest": 0})
    );
    assert_eq!(
        user.get("/totals/unread").await.is(200).body,
        json!({"totalUnreadMessages": 0})
    );
}

#[tokio::test]
async fn totals_are_the_sums_over_all_chats() {
    let api = Api::shared();
    let me = api.user();
    // More than the shards, so that some share one.
    for unread in 1..=10 {
        let friend = api.user();
        let chat = friend.befriend(&me).await;
        for _ in 0..unread {
            friend.say(&chat, "hi").await.is(201);
        }
        me.say(&chat, "mine do not count for me").await.is(201);
        if unread == 10 {
            me.mark_read(&chat).await.is(200);
        }
    }
    for _ in 0..3 {
        api.user().ask(&me).await.is(201);
    }
    for _ in 0..2 {
        me.ask(&api.user()).await.is(201);
    }
    assert_eq!(me.totals().await, [3, 45, 2]);
    let unread = me.get("/totals/unread").await.is(200);
    assert_eq!(unread.body, json!({"totalUnreadMessages": 45}));
    let listed: u64 = me.get("/chats?limit=100").await.body["chats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chat| chat["unreadCount"].as_u64().unwrap())
        .sum();
    assert_eq!(listed, 45);
}
