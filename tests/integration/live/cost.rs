//! Cost of push, exactly: round trips and capacity units of each event and of each frame of a client, the frames that
//! are sent, and the invocations of `push-events`. What a request to the REST API costs is in `cost`, and push adds
//! nothing to that.
//!
//! A test sends the record of a change to `push-events` itself, and measures when the function has responded. So
//! nothing else happens at the same time.

use serde_json::{Value, json};

use super::{LiveStack, PUSH_EVENTS};
use crate::{
    dynamodb_proxy::{Cost, Operation},
    eventually,
    fault_injection::FaultPlan,
    support::{User, live::LiveClient, tokens},
};

/// What one event or one frame costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Expected {
    round_trips: usize,
    write_units: f64,
    read_units: f64,
    posts: usize,
    deletes: usize,
}

/// Asserts that a cost is exactly this.
fn assert_exact(live: &LiveStack, name: &str, cost: &Cost, expected: Expected) {
    let requests = live.faults.drain_requests();
    let count = |method: &str| {
        let requests = requests.iter();
        requests.filter(|request| request.method == method).count()
    };
    let actual = Expected {
        round_trips: cost.round_trips(),
        write_units: cost.write_units(),
        read_units: cost.read_units(),
        posts: count("POST"),
        deletes: count("DELETE"),
    };
    assert_eq!(actual, expected, "{name}: {cost:#?}, {requests:?}");
}

/// A stack with the delays with which the proxy recognizes parallel operations. The records of the stream are withheld.
async fn start() -> LiveStack {
    let live = LiveStack::start().await;
    live.proxied.set_fault_plan(FaultPlan::default());
    live.faults.withhold_records();
    live
}

/// Forgets what has happened so far.
fn forget(live: &LiveStack) {
    live.proxied.drain_cost();
    live.faults.drain_requests();
}

/// Sends records to `push-events`, and returns what it has done until its response.
async fn push_cost(live: &LiveStack, records: &[Value]) -> Cost {
    forget(live);
    live.push_all(records).await;
    let mut cost = live.proxied.drain_cost();
    // The end of an earlier socket may be handled at the same time. Without `/proc` no function is known.
    cost.operations.retain(|operation| {
        let function = operation.function.as_deref();
        function.is_none_or(|function| function == PUSH_EVENTS)
    });
    cost
}

/// The cost of the event of a chat's latest change.
async fn assert_event_cost(live: &LiveStack, name: &str, chat: &str, expected: Expected) {
    let record = live.latest_record(chat).await;
    let cost = push_cost(live, &[record]).await;
    assert_exact(live, name, &cost, expected);
    for operation in &cost.operations {
        assert!(operation.consistent, "{name}: {operation:?}");
    }
}

/// A text of 200 bytes. It does not fit into the preview.
fn long_text() -> String {
    "x".repeat(200)
}

/// The cost of events for two members with this many connections each.
async fn check_events(devices: usize) {
    let live = start().await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let mut clients = Vec::new();
    for user in [&ann, &ben] {
        for _ in 0..devices {
            clients.push(LiveClient::connect(user).await);
        }
    }
    let posts = 2 * devices;
    // Both members are read at once, in one unit each.
    let both = Expected {
        round_trips: 1,
        read_units: 2.0,
        posts,
        ..Expected::default()
    };
    // Nothing is read for nobody.
    let reads = |count: usize| if devices == 0 { 0 } else { count };
    #[expect(clippy::cast_precision_loss, reason = "there are few reads")]
    let with_reads = |count: usize| Expected {
        round_trips: 1 + reads(count),
        read_units: 2.0 + reads(count) as f64,
        ..both
    };
    let name = |event: &str| format!("{event}, {devices} devices");

    ann.send(&chat, "hi").await.expect_status(201);
    assert_event_cost(&live, &name("a short text"), &chat, both).await;
    ann.send(&chat, &"𝕏".repeat(120)).await.expect_status(201);
    assert_event_cost(&live, &name("the longest preview"), &chat, both).await;
    ann.send(&chat, &long_text()).await.expect_status(201);
    let message = with_reads(1);
    assert_event_cost(&live, &name("a long text"), &chat, message).await;
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
    assert_event_cost(&live, &name("with a key"), &chat, message).await;
    let path = format!("/chats/{chat}/messages");
    let image = json!({"text": "hi", "imageUrl": "https://a.example/1.png"});
    ann.post(&path, &image).await.expect_status(201);
    assert_event_cost(&live, &name("with an image"), &chat, message).await;

    // The number of the change leads to the message.
    let change = with_reads(2);
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    assert_event_cost(&live, &name("edit"), &chat, change).await;
    ann.delete_message(&chat, 2).await.expect_status(200);
    assert_event_cost(&live, &name("delete"), &chat, change).await;
    ben.mark_read(&chat).await.expect_status(200);
    assert_event_cost(&live, &name("read"), &chat, both).await;

    // Only the member who blocks hears of it.
    let own = Expected {
        read_units: 1.0,
        posts: devices,
        ..both
    };
    ben.block(&ann).await.expect_status(200);
    assert_event_cost(&live, &name("block"), &chat, own).await;
    // The other one hears of the chat, and the blocker does not.
    ann.delete_message(&chat, 3).await.expect_status(200);
    let change_of_one = Expected {
        read_units: change.read_units - 1.0,
        posts: devices,
        ..change
    };
    assert_event_cost(&live, &name("delete, blocked"), &chat, change_of_one).await;
    ben.unblock(&ann).await.expect_status(200);
    assert_event_cost(&live, &name("unblock"), &chat, own).await;
}

#[tokio::test]
async fn an_event_that_nobody_receives_costs_one_round_trip_and_2_units() {
    check_events(0).await;
}

#[tokio::test]
async fn an_event_costs_2_units_and_a_message_that_the_preview_does_not_contain_one_more() {
    check_events(1).await;
}

/// The items of ten connections and all counters of a user are one read of at most 4 KB.
#[tokio::test]
async fn an_event_for_ten_devices_of_each_member_costs_the_same_and_ten_times_the_frames() {
    check_events(10).await;
}

#[tokio::test]
async fn the_events_of_a_request_cost_2_units() {
    let live = start().await;
    let (ann, ben) = (live.api().user(), live.api().user());
    let _clients = [
        LiveClient::connect(&ann).await,
        LiveClient::connect(&ben).await,
    ];
    let chat = ann.chat_id_with(&ben);
    let both = Expected {
        round_trips: 1,
        read_units: 2.0,
        posts: 2,
        ..Expected::default()
    };
    ann.request_chat(&ben).await.expect_status(201);
    assert_event_cost(&live, "request", &chat, both).await;
    ann.withdraw(&chat).await.expect_status(200);
    assert_event_cost(&live, "withdraw", &chat, both).await;
    ben.request_chat(&ann).await.expect_status(200);
    assert_event_cost(&live, "request again", &chat, both).await;
    ann.decline(&chat).await.expect_status(200);
    assert_event_cost(&live, "decline", &chat, both).await;
    ann.request_chat(&ben).await.expect_status(200);
    assert_event_cost(&live, "request back", &chat, both).await;
    // The own request is withdrawn: one event for each member.
    ann.block(&ben).await.expect_status(200);
    assert_event_cost(&live, "block with a withdrawal", &chat, both).await;
}

/// A block between two users without a chat makes no event.
#[tokio::test]
async fn a_change_without_an_event_costs_nothing() {
    let live = start().await;
    let (ann, ben) = (live.api().user(), live.api().user());
    let _client = LiveClient::connect(&ann).await;
    ann.block(&ben).await.expect_status(200);
    let chat = ann.chat_id_with(&ben);
    assert_event_cost(&live, "block without a chat", &chat, Expected::default()).await;
}

/// Users are read once for a batch, and a connection gets one frame.
#[tokio::test]
async fn a_batch_of_one_chat_costs_as_much_as_one_event() {
    let live = start().await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let _clients = [
        LiveClient::connect(&ann).await,
        LiveClient::connect(&ben).await,
    ];
    let mut records = Vec::new();
    for _ in 0..20 {
        ann.send(&chat, "hi").await.expect_status(201);
        records.push(live.latest_record(&chat).await);
    }
    let cost = push_cost(&live, &records).await;
    let expected = Expected {
        round_trips: 1,
        read_units: 2.0,
        posts: 2,
        ..Expected::default()
    };
    assert_exact(&live, "20 messages", &cost, expected);
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn a_connection_that_is_closed_or_gone_costs_one_unit_once() {
    let live = start().await;
    let (ann, ben, chat) = live.api().active_chat().await;
    live.put_stale_connection(&ben, "gone=", 3_600).await;
    let expired = LiveClient::connect(&ann).await;
    let id = live.only_connection(&ann).await;
    let past = tokens::now_seconds() - 60;
    live.set_connection(&ann, &id, "tokenExpiresAt", past).await;
    ann.send(&chat, "hi").await.expect_status(201);
    let record = live.latest_record(&chat).await;
    let records = [record];
    let cost = push_cost(&live, &records).await;
    // One frame finds no connection, and one is `bye`. Both items are deleted, one perhaps later than the other.
    let expected = Expected {
        round_trips: cost.round_trips().min(3),
        write_units: 2.0,
        read_units: 2.0,
        posts: 2,
        deletes: 1,
    };
    assert_exact(&live, "closed and gone", &cost, expected);
    drop(expired);
    eventually("both connections are deleted", async || {
        live.connections(&ann).await.is_empty() && live.connections(&ben).await.is_empty()
    })
    .await;
    let cost = push_cost(&live, &records).await;
    let expected = Expected {
        round_trips: 1,
        read_units: 2.0,
        ..Expected::default()
    };
    assert_exact(&live, "nobody left", &cost, expected);
}

/// A change of a chat invokes the function once, and other items never do.
#[tokio::test]
async fn each_change_of_a_chat_is_one_invocation_and_nothing_else_is_one() {
    let live = LiveStack::start().await;
    let (ann, ben) = (live.api().user(), live.api().user());
    let mut client = LiveClient::connect(&ben).await;
    let chat = ann.start_chat(&ben).await;
    client.event("chat.accepted").await;
    live.faults.drain_batches();
    let changes = [
        ("message.created", ann.send(&chat, "one").await),
        (
            "message.created",
            ann.send_with_key(&chat, "key", "two").await,
        ),
        ("message.changed", ann.edit_text(&chat, 1, "ONE").await),
        ("message.changed", ann.delete_message(&chat, 2).await),
        ("chat.read", ben.mark_read(&chat).await),
    ];
    // None of these changes a chat.
    let again = ann.send_with_key(&chat, "key", "two").await;
    again.expect_status(200);
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    let report = json!({"userId": ann.id, "reason": "spam"});
    ben.report(&report).await.expect_status(201);
    client.sync().await;
    for (kind, response) in &changes {
        assert!(response.status < 300, "{kind}: {response:?}");
        client.event(kind).await;
    }
    // The records of the items of the last change precede this one.
    ben.block(&ann).await.expect_status(200);
    client.event("chat.changed").await;
    let batches = live.faults.drain_batches();
    let records: Vec<&Value> = batches.iter().flat_map(|batch| &batch.records).collect();
    assert_eq!(records.len(), changes.len() + 1, "{records:#?}");
    for record in records {
        let item = &record["dynamodb"]["NewImage"];
        assert_eq!(item["type"]["S"], "Chat", "{item}");
    }
    assert!(batches.len() <= changes.len() + 1);
    assert!(batches.iter().all(|batch| batch.attempt == 1));
}

/// The cost of what a function of the WebSocket API does, until it is idle.
async fn cost_of(live: &LiveStack, function: &str, operations: usize) -> Cost {
    let is_of_function = |operation: &Operation| operation.function.as_deref() == Some(function);
    let what = format!("{function} has sent {operations} operations");
    eventually(&what, async || live.proxied.operation_count() >= operations).await;
    live.proxied.wait_until_idle().await;
    let cost = live.proxied.drain_cost();
    assert!(cost.operations.iter().all(is_of_function), "{cost:#?}");
    cost
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn opening_costs_2_units_and_closing_one() {
    let live = start().await;
    let user = live.api().user();
    let mut clients = Vec::new();
    let open = Expected {
        round_trips: 2,
        write_units: 1.0,
        read_units: 1.0,
        ..Expected::default()
    };
    for n in 1..=10 {
        forget(&live);
        clients.push(LiveClient::connect(&user).await);
        let cost = cost_of(&live, "open-connection", 2).await;
        assert_exact(&live, &format!("connection {n}"), &cost, open);
    }
    forget(&live);
    clients.pop().unwrap().close().await;
    let cost = cost_of(&live, "close-connection", 1).await;
    let close = Expected {
        round_trips: 1,
        write_units: 1.0,
        ..Expected::default()
    };
    assert_exact(&live, "close", &cost, close);
    // A handshake that is refused costs nothing.
    forget(&live);
    let refused = LiveClient::try_connect(&user.api.live_url(), &["chat.v1"], &[]).await;
    assert_eq!(refused.err(), Some(403));
    assert_exact(
        &live,
        "refused",
        &live.proxied.drain_cost(),
        Expected::default(),
    );
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn the_11th_connection_costs_one_unit_more_and_closes_the_oldest() {
    let live = start().await;
    let user = live.api().user();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(LiveClient::connect(&user).await);
    }
    forget(&live);
    clients.push(LiveClient::connect(&user).await);
    let bye = clients[0].control("bye").await;
    assert_eq!(bye["reason"], "too_many_connections");
    clients[0].closed().await;
    // `close-connection` may delete the item of the closed socket again.
    eventually("the handshake is complete", async || {
        live.connections(&user).await.len() == 10
    })
    .await;
    live.proxied.wait_until_idle().await;
    let mut cost = live.proxied.drain_cost();
    cost.operations
        .retain(|operation| operation.function.as_deref() == Some("open-connection"));
    let expected = Expected {
        round_trips: 3,
        write_units: 2.0,
        read_units: 1.0,
        posts: 1,
        deletes: 1,
    };
    assert_exact(&live, "connection 11", &cost, expected);
}

/// Sends a frame as the first one after a pause, and returns its cost.
async fn frame_cost(
    live: &LiveStack,
    user: &User,
    client: &mut LiveClient,
    frame: &Value,
    operations: usize,
) -> Cost {
    let id = live.only_connection(user).await;
    live.set_connection(user, &id, "nextAt", 0).await;
    forget(live);
    client.send(frame).await;
    cost_of(live, "receive-frame", operations).await
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn sync_costs_2_units_and_renewal_2_and_an_invalid_frame_nothing() {
    let live = start().await;
    let user = live.api().user();
    let client = &mut LiveClient::connect(&user).await;

    let sync = json!({"type": "sync"});
    let cost = frame_cost(&live, &user, client, &sync, 2).await;
    client.control("synced").await;
    let expected = Expected {
        round_trips: 2,
        write_units: 1.0,
        read_units: 1.0,
        ..Expected::default()
    };
    assert_exact(&live, "sync", &cost, expected);

    let renew = json!({"type": "renew", "token": tokens::valid_token(user.id)});
    let cost = frame_cost(&live, &user, client, &renew, 2).await;
    client.control("renewed").await;
    let expected = Expected {
        round_trips: 2,
        write_units: 2.0,
        ..Expected::default()
    };
    assert_exact(&live, "renew", &cost, expected);

    // Another user's token.
    let other = tokens::valid_token(live.api().user().id);
    let renew = json!({"type": "renew", "token": other});
    let cost = frame_cost(&live, &user, client, &renew, 1).await;
    client.expect_error("unauthorized").await;
    let expected = Expected {
        round_trips: 1,
        write_units: 1.0,
        ..Expected::default()
    };
    assert_exact(&live, "refused renewal", &cost, expected);

    for frame in [json!({"type": "unknown"}), json!(7), json!({})] {
        let cost = frame_cost(&live, &user, client, &frame, 0).await;
        client.expect_error("invalid_frame").await;
        assert_exact(&live, "invalid", &cost, Expected::default());
        let later = live.proxied.drain_cost();
        assert_exact(&live, "invalid", &later, Expected::default());
    }

    // A frame above the rate is refused by the condition, whose failure changes nothing.
    let id = live.only_connection(&user).await;
    let future = (tokens::now_seconds() + 60) * 1_000;
    live.set_connection(&user, &id, "nextAt", future).await;
    forget(&live);
    client.send(&sync).await;
    client.expect_error("rate_limited").await;
    let cost = live.proxied.drain_cost();
    assert_eq!(cost.operations.len(), 1, "{cost:#?}");
    assert_eq!(cost.operations[0].name, "UpdateItem");
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn typing_costs_2_units_and_a_frame_for_each_connection_of_the_other_member() {
    let live = start().await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let client = &mut LiveClient::connect(&ann).await;
    let typing = json!({"type": "typing", "chatId": chat});
    let mut receivers: Vec<LiveClient> = Vec::new();
    for posts in 0..=2 {
        let cost = frame_cost(&live, &ann, client, &typing, 3).await;
        for receiver in &mut receivers {
            receiver.event("typing").await;
        }
        let expected = Expected {
            round_trips: 3,
            write_units: 1.0,
            read_units: 1.0,
            posts,
            deletes: 0,
        };
        assert_exact(&live, "typing", &cost, expected);
        receivers.push(LiveClient::connect(&ben).await);
    }
    // Where no message can be sent, the connections are not read.
    ben.block(&ann).await.expect_status(200);
    let cost = frame_cost(&live, &ann, client, &typing, 2).await;
    let expected = Expected {
        round_trips: 2,
        write_units: 1.0,
        read_units: 0.5,
        ..Expected::default()
    };
    assert_exact(&live, "typing, blocked", &cost, expected);
    // Nothing is read for a chat of others.
    let others = json!({"type": "typing", "chatId": "1-2"});
    let cost = frame_cost(&live, &ann, client, &others, 1).await;
    client.expect_error("invalid_frame").await;
    let expected = Expected {
        round_trips: 1,
        write_units: 1.0,
        ..Expected::default()
    };
    assert_exact(&live, "typing, no member", &cost, expected);
}
