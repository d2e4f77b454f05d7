//! The totals of a user: open requests and unread messages. `blocks` tests what they leave out.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn the_totals_of_a_new_user_are_zero() {
    let user = Api::shared().user();
    assert_eq!(
        user.get("/totals").await.expect_status(200).body,
        json!({
            "totalPendingRequest": 0, "totalUnreadMessages": 0, "totalSentRequest": 0, "version": 0,
        })
    );
    assert_eq!(
        user.get("/totals/unread").await.expect_status(200).body,
        json!({"totalUnreadMessages": 0})
    );
}

#[tokio::test]
async fn totals_are_the_sums_over_all_chats() {
    let api = Api::shared();
    let me = api.user();
    // There are more chats than shards, so that at least two chats share a shard.
    for unread in 1..=10 {
        let friend = api.user();
        let chat = friend.start_chat(&me).await;
        for _ in 0..unread {
            friend.send(&chat, "hi").await.expect_status(201);
        }
        me.send(&chat, "my own messages do not count for me")
            .await
            .expect_status(201);
        if unread == 10 {
            me.mark_read(&chat).await.expect_status(200);
        }
    }
    for _ in 0..3 {
        api.user().request_chat(&me).await.expect_status(201);
    }
    for _ in 0..2 {
        me.request_chat(&api.user()).await.expect_status(201);
    }
    assert_eq!(me.totals().await, [3, 45, 2]);
    let unread = me.get("/totals/unread").await.expect_status(200);
    assert_eq!(unread.body, json!({"totalUnreadMessages": 45}));
    // A list may show a chat's old count for some time.
    me.wait_for_chats("/chats?limit=100", "have 45 unread messages", |page| {
        let counts = page.chats().iter();
        let counts = counts.map(|chat| chat["unreadCount"].as_u64().unwrap());
        counts.sum::<u64>() == 45
    })
    .await;
}

#[tokio::test]
async fn the_version_of_the_totals_grows_with_each_change_and_only_then() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let versions = async || {
        let mut versions = Vec::new();
        for user in [&ann, &ben] {
            let totals = user.get("/totals").await.expect_status(200).body;
            versions.push(totals["version"].as_u64().unwrap());
        }
        versions
    };
    assert_eq!(versions().await, [0, 0]);
    let chat = ann.chat_id_with(&ben);
    ann.request_chat(&ben).await.expect_status(201);
    let requested = versions().await;
    assert!(
        requested.iter().all(|version| *version > 0),
        "{requested:?}"
    );
    ben.accept(&chat).await.expect_status(200);
    let accepted = versions().await;
    assert!(accepted[0] > requested[0] && accepted[1] > requested[1]);
    ann.send(&chat, "hi").await.expect_status(201);
    let sent = versions().await;
    assert!(sent[0] == accepted[0] && sent[1] > accepted[1]);
    // Nothing changes.
    ann.mark_read(&chat).await.expect_status(200);
    ben.accept(&chat).await.expect_status(200);
    assert_eq!(versions().await, sent);
    ben.mark_read(&chat).await.expect_status(200);
    let read = versions().await;
    assert!(read[0] == sent[0] && read[1] > sent[1]);
}
