//! What the functions of push do, for [`iam_policies`](crate::iam_policies): each kind of operation on the table and of
//! request to `@connections`.
//!
//! A request to `@connections` does not say which function sends it. So the steps here follow one another, and in each
//! of them only one function can send any.

use std::collections::BTreeSet;

use chat_local::template::{Permission, Target};
use chat_shared::store::MAX_CONNECTIONS;
use serde_json::json;

use super::{LiveStack, PUSH_EVENTS};
use crate::{
    eventually,
    iam_policies::Permissions,
    support::{User, live::LiveClient, tokens},
};

/// The actions with which Lambda reads the stream, with the role of the function.
const STREAM_ACTIONS: [&str; 4] = [
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
];

/// Takes every path through the functions of push. Returns the permissions for the stream and for connections that they
/// required. The proxy records those for the table.
pub async fn use_push(live: &LiveStack) -> Permissions {
    let (ann, ben, chat) = live.api().active_chat().await;
    let mut used = Permissions::new();
    let stream = STREAM_ACTIONS.map(|action| Permission {
        action: action.to_owned(),
        target: Target::Stream,
    });
    used.insert(PUSH_EVENTS.to_owned(), BTreeSet::from(stream));
    let mut add = |function: &str, permissions: BTreeSet<Permission>| {
        let known = used.entry(function.to_owned()).or_default();
        known.extend(permissions);
    };
    live.faults.withhold_records();

    let mut clients = open_too_many(live, &ann).await;
    add("open-connection", connection_permissions(live));

    let mut receiver = LiveClient::connect(&ben).await;
    send_frames(live, &ann, &mut clients, &mut receiver, &chat).await;
    add("receive-frame", connection_permissions(live));

    push_each_kind(live, &ann, &ben, &chat).await;
    add(PUSH_EVENTS, connection_permissions(live));

    for client in clients {
        client.close().await;
    }
    eventually("the connections are deleted", async || {
        live.connections(&ann).await.is_empty()
    })
    .await;
    add("close-connection", connection_permissions(live));
    used
}

/// The permissions for the requests to `@connections` since the last call of this.
fn connection_permissions(live: &LiveStack) -> BTreeSet<Permission> {
    let requests = live.faults.drain_requests().into_iter();
    let permissions = requests.map(|request| Permission {
        action: "execute-api:ManageConnections".to_owned(),
        target: Target::Connections {
            method: request.method,
        },
    });
    permissions.collect()
}

/// One connection more than a user may have. The oldest one is closed.
async fn open_too_many(live: &LiveStack, user: &User) -> Vec<LiveClient> {
    let mut clients = Vec::new();
    for _ in 0..=MAX_CONNECTIONS {
        clients.push(LiveClient::connect(user).await);
    }
    let bye = clients[0].control("bye").await;
    assert_eq!(bye["reason"], "too_many_connections");
    clients[0].closed().await;
    eventually("the oldest connection is deleted", async || {
        live.connections(user).await.len() == MAX_CONNECTIONS
    })
    .await;
    clients.split_off(1)
}

/// Frames of each kind: valid, invalid, too many, after the token has expired, and of a connection that is unknown.
async fn send_frames(
    live: &LiveStack,
    user: &User,
    clients: &mut Vec<LiveClient>,
    receiver: &mut LiveClient,
    chat: &str,
) {
    let client = &mut clients[0];
    let sync = json!({"type": "sync"});
    client.sync().await;
    let renew = json!({"type": "renew", "token": tokens::valid_token(user.id)});
    client.send(&renew).await;
    client.control("renewed").await;
    client
        .send(&json!({"type": "typing", "chatId": chat}))
        .await;
    receiver.event("typing").await;
    client.send(&json!({"type": "unknown"})).await;
    client.expect_error("invalid_frame").await;
    // Other frames of the burst are admitted by a second update.
    for _ in 0..6 {
        client.send(&sync).await;
    }
    client.control("error").await;

    // The connections are closed from the newest to the oldest, so that the order of the items is that of the clients.
    for is_unknown in [false, true] {
        let id = live.connections(user).await.pop().unwrap();
        let mut client = clients.pop().unwrap();
        if is_unknown {
            let (pk, sk) = (format!("USER#{}", user.id), format!("CONN#{id}"));
            live.table().delete(&pk, &sk).await;
        } else {
            let past = tokens::now_seconds() - 60;
            live.set_connection(user, &id, "tokenExpiresAt", past).await;
        }
        client.send(&sync).await;
        let bye = client.control("bye").await;
        let reason = if is_unknown {
            "behind"
        } else {
            "token_expired"
        };
        assert_eq!(bye["reason"], reason);
        client.closed().await;
        eventually("the connection is deleted", async || {
            !live.connections(user).await.contains(&id)
        })
        .await;
    }
}

/// Events with and without a message, for connections that are open, gone and expired.
async fn push_each_kind(live: &LiveStack, ann: &User, ben: &User, chat: &str) {
    live.put_stale_connection(ben, "gone=", 3_600).await;
    let expired = live.connections(ann).await.pop().unwrap();
    let past = tokens::now_seconds() - 60;
    live.set_connection(ann, &expired, "tokenExpiresAt", past)
        .await;
    let mut records = Vec::new();
    ann.send(chat, "hi").await.expect_status(201);
    records.push(live.latest_record(chat).await);
    ann.send_with_key(chat, "push", "hi")
        .await
        .expect_status(201);
    records.push(live.latest_record(chat).await);
    ann.edit_text(chat, 1, "edited").await.expect_status(200);
    records.push(live.latest_record(chat).await);
    ben.mark_read(chat).await.expect_status(200);
    records.push(live.latest_record(chat).await);
    live.push_all(&records).await;
    let connections = live.connections(ben).await;
    assert!(!connections.contains(&"gone=".to_owned()));
    let connections = live.connections(ann).await;
    assert!(!connections.contains(&expired));
}
