//! One fault at a time on the way of an event: functions that are killed, requests to `@connections` that fail, sockets
//! whose end nobody hears of, and records that are odd, repeated, late or lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chat_local::realtime::{DisconnectFault, ManagementFault, RealtimeOptions};
use serde_json::{Value, json};

use super::{
    LiveStack, PUSH_EVENTS, chat_of,
    client::{Device, Timing},
    failed_records, once_per_connection, sequence_number,
};
use crate::{
    dynamodb_proxy::{Fault, FaultEffect, LateItems, Until, error_body},
    eventually, options_with_changed_template,
    support::{Response, User, live::LiveClient, tokens},
};

/// The minimum age, in seconds, of a connection whose item is deleted when it is gone, and a little more.
const OLD: u64 = 12;

/// Two users with an active chat and some connections, which have received its events.
struct Fixture {
    live: LiveStack,
    ann: User,
    ben: User,
    chat: String,
}

impl Fixture {
    async fn new() -> Self {
        Self::on(LiveStack::start().await).await
    }

    async fn on(live: LiveStack) -> Self {
        let (ann, ben, chat) = live.api().active_chat().await;
        Self {
            live,
            ann,
            ben,
            chat,
        }
    }

    /// Opens a connection for each of these users, who are members of the chat. All of them receive a first message,
    /// so nothing of an earlier change is on its way when this returns.
    async fn clients<const N: usize>(&self, users: [&User; N]) -> [LiveClient; N] {
        let mut clients = Vec::new();
        for user in users {
            clients.push(LiveClient::connect(user).await);
        }
        let seq = self.send("first").await;
        for client in &mut clients {
            while client.event("message.created").await["message"]["seq"] != seq {}
        }
        self.live.faults.drain_batches();
        self.live.faults.drain_requests();
        let Ok(clients) = clients.try_into() else {
            unreachable!("there is one client for each user")
        };
        clients
    }

    /// A device that shows a first message, which has arrived as an event.
    async fn device(&self, user: &User) -> Device {
        let device = Device::connect(user).await;
        self.send("first").await;
        device.wait_for_texts(&self.chat, &["first"]).await;
        self.live.faults.drain_batches();
        device
    }

    /// Sends a message from Ann to Ben. Returns its number.
    async fn send(&self, text: &str) -> u64 {
        let sent = self.ann.send(&self.chat, text).await.expect_status(201);
        sent.body["seq"].as_u64().unwrap()
    }
}

/// The next event for a message of a chat, which may have arrived before.
async fn next_created(client: &mut LiveClient, seq: u64) -> Value {
    let event = client.event("message.created").await;
    assert_eq!(event["message"]["seq"], seq, "{event}");
    event
}

/// The ids of the events in frames until one that `is_last`, with repeated ones.
async fn event_ids(client: &mut LiveClient, is_last: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let frame = client.next().await.expect("the socket stays open");
        for event in frame["events"].as_array().into_iter().flatten() {
            ids.push(event["id"].as_str().unwrap().to_owned());
            if is_last(event) {
                return ids;
            }
        }
    }
}

/// When `push-events` is killed while it sends the events of a record to three connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Before,
    Between,
    After,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_gets_an_event_when_push_events_is_killed_while_it_sends_it() {
    for at in [Killed::Before, Killed::Between, Killed::After] {
        let fixture = Fixture::new().await;
        let users = [&fixture.ann, &fixture.ben, &fixture.ben];
        let mut clients = fixture.clients(users).await;
        let kill = fixture.live.killer(PUSH_EVENTS);
        let is_killed = Arc::new(AtomicBool::new(false));
        fixture.live.faults.on_management({
            let is_killed = is_killed.clone();
            let mut delivered = BTreeSet::new();
            move |_, connection| {
                if is_killed.load(Ordering::Relaxed) {
                    return ManagementFault::None;
                }
                let is_repeated = !delivered.insert(connection.to_owned());
                let is_due = match at {
                    Killed::Before => true,
                    Killed::Between => delivered.len() == 2,
                    // All frames are delivered, but the function does not know it and sends one again.
                    Killed::After => delivered.len() == 3 && is_repeated,
                };
                if is_due {
                    is_killed.store(true, Ordering::Relaxed);
                    kill();
                    return ManagementFault::Status(500);
                }
                match at {
                    Killed::After => ManagementFault::LoseResponse,
                    _ => ManagementFault::None,
                }
            }
        });
        let seq = fixture.send("hi").await;
        for client in &mut clients {
            next_created(client, seq).await;
        }
        let what = format!("push-events is killed: {at:?}");
        eventually(&what, async || is_killed.load(Ordering::Relaxed)).await;
        eventually("the batch was delivered again", async || {
            fixture.live.faults.last_attempt() >= 2
        })
        .await;
        // Nothing of it holds up the next event.
        let seq = fixture.send("and again").await;
        for client in &mut clients {
            next_created(client, seq).await;
        }
    }
}

#[tokio::test]
async fn an_event_that_is_delivered_again_has_the_same_id() {
    let fixture = Fixture::new().await;
    let [mut ben] = fixture.clients([&fixture.ben]).await;
    let lost = || ManagementFault::LoseResponse;
    fixture.live.faults.on_management(once_per_connection(lost));
    fixture.send("one").await;
    eventually("the frame is sent again", async || {
        fixture.live.faults.request_count("POST") >= 2
    })
    .await;
    let second = fixture.send("two").await;
    let is_second = |event: &Value| event["message"]["seq"] == second;
    let ids = event_ids(&mut ben, is_second).await;
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 2, "{ids:?}");
    assert!(ids.len() >= 3, "the frame was not sent again: {ids:?}");
}

/// A fault of the first request to each connection. Sending it again succeeds, so no connection is closed.
async fn check_passing_fault(name: &str, fault: impl Fn() -> ManagementFault + Send + 'static) {
    let fixture = Fixture::new().await;
    let mut clients = fixture.clients([&fixture.ann, &fixture.ben]).await;
    fixture
        .live
        .faults
        .on_management(once_per_connection(fault));
    for text in ["one", "two"] {
        let seq = fixture.send(text).await;
        for client in &mut clients {
            next_created(client, seq).await;
        }
    }
    assert_eq!(fixture.live.faults.request_count("DELETE"), 0, "{name}");
    assert_eq!(fixture.live.faults.disconnect_count(), 0, "{name}");
}

#[tokio::test]
async fn an_event_arrives_on_the_same_connection_after_a_fault_that_passes() {
    for status in [429, 500, 502, 503] {
        let name = status.to_string();
        check_passing_fault(&name, move || ManagementFault::Status(status)).await;
    }
    check_passing_fault("lost response", || ManagementFault::LoseResponse).await;
    check_passing_fault("slow", || {
        ManagementFault::Delay(Duration::from_millis(300))
    })
    .await;
    check_passing_fault("no response", || ManagementFault::Hang).await;
}

#[tokio::test]
async fn a_connection_that_cannot_keep_up_is_closed_and_delays_no_other() {
    type Fault = fn() -> ManagementFault;
    let faults: [(&str, Fault); 3] = [
        ("429", || ManagementFault::Status(429)),
        ("500", || ManagementFault::Status(500)),
        ("no response", || ManagementFault::Hang),
    ];
    for (name, fault) in faults {
        let fixture = Fixture::new().await;
        let [mut slow] = fixture.clients([&fixture.ben]).await;
        let slow_id = fixture.live.only_connection(&fixture.ben).await;
        let [mut other] = fixture.clients([&fixture.ben]).await;
        // The message that `other` has received is on its way to both.
        while slow.event("message.created").await["message"]["seq"] != 2 {}
        fixture.live.faults.drain_requests();
        fixture.live.faults.on_management({
            let slow_id = slow_id.clone();
            move |method, connection| {
                if connection == slow_id && method == "POST" {
                    fault()
                } else {
                    ManagementFault::None
                }
            }
        });
        let seq = fixture.send("hi").await;
        next_created(&mut other, seq).await;
        // It knows that it is behind, because it is closed.
        slow.closed().await;
        let requests = fixture.live.faults.drain_requests();
        // The frame is sent to all connections before it is sent to the slow one again.
        let posts = requests.iter().filter(|request| request.method == "POST");
        let first: BTreeSet<_> = posts.take(2).map(|request| &request.connection).collect();
        assert_eq!(first.len(), 2, "{name}");
        let mut deleted = requests
            .iter()
            .filter(|request| request.method == "DELETE")
            .map(|request| request.connection.as_str());
        assert!(deleted.any(|deleted| deleted == slow_id), "{name}");
        eventually("the item of the connection is deleted", async || {
            let connections = fixture.live.connections(&fixture.ben).await;
            connections.len() == 1 && connections[0] != slow_id
        })
        .await;
        // That is no reason to send the record again.
        assert_eq!(fixture.live.faults.last_attempt(), 1, "{name}");
        let seq = fixture.send("again").await;
        next_created(&mut other, seq).await;
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_closed_gets_later_events_and_so_sees_the_gap() {
    let fixture = Fixture::new().await;
    let [mut ben] = fixture.clients([&fixture.ben]).await;
    let id = fixture.live.only_connection(&fixture.ben).await;
    fixture
        .live
        .faults
        .on_management(|_, _| ManagementFault::Status(503));
    fixture.send("lost").await;
    eventually("the connection should be closed", async || {
        fixture.live.faults.request_count("DELETE") == 1
    })
    .await;
    fixture
        .live
        .faults
        .on_management(|_, _| ManagementFault::None);
    let seq = fixture.send("hi").await;
    next_created(&mut ben, seq).await;
    assert_eq!(fixture.live.only_connection(&fixture.ben).await, id);
}

/// A chat whose records the stream withholds, so that a test sends them itself.
async fn fixture_without_delivery() -> Fixture {
    let live = LiveStack::start().await;
    live.faults.withhold_records();
    Fixture::on(live).await
}

#[tokio::test]
async fn a_connection_that_is_gone_is_deleted_unless_it_is_young() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    for (id, age) in [("new=", 0), ("young=", 2), ("old=", OLD), ("older=", 3_600)] {
        live.put_stale_connection(&fixture.ben, id, age).await;
    }
    let mut client = LiveClient::connect(&fixture.ben).await;
    let open = live.connections(&fixture.ben).await;
    assert_eq!(open.len(), 5);
    let seq = fixture.send("hi").await;
    let record = live.latest_record(&fixture.chat).await;
    live.push_all(&[record]).await;
    next_created(&mut client, seq).await;
    let remaining = live.connections(&fixture.ben).await;
    let mut expected = open;
    expected.retain(|id| !["old=", "older="].contains(&id.as_str()));
    assert_eq!(remaining, expected);
}

/// The table's TTL deletes such items late.
#[tokio::test]
async fn nothing_is_sent_to_a_connection_whose_item_has_expired() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    live.put_stale_connection(&fixture.ben, "expired=", 7_801)
        .await;
    fixture.send("hi").await;
    let record = live.latest_record(&fixture.chat).await;
    live.faults.drain_requests();
    live.push_all(&[record]).await;
    let requests = live.faults.drain_requests();
    assert!(requests.is_empty(), "{requests:?}");
}

/// An injected 410, while the socket is open: the item of a young connection must stay.
#[tokio::test]
async fn a_connection_that_is_reported_as_gone_while_it_connects_gets_later_events() {
    let fixture = Fixture::new().await;
    let [mut ben] = fixture.clients([&fixture.ben]).await;
    let gone = || ManagementFault::Status(410);
    fixture.live.faults.on_management(once_per_connection(gone));
    fixture.send("lost").await;
    // Both messages could be in one frame.
    eventually("the first message is lost", async || {
        fixture.live.faults.request_count("POST") == 1
    })
    .await;
    let second = fixture.send("hi").await;
    // The client sees the gap by the number of the message.
    next_created(&mut ben, second).await;
    fixture.live.only_connection(&fixture.ben).await;
}

#[tokio::test]
async fn a_frame_that_the_function_may_not_send_is_delivered_again_with_its_record() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    let mut ann = LiveClient::connect(&fixture.ann).await;
    let mut ben = LiveClient::connect(&fixture.ben).await;
    let ben_id = live.only_connection(&fixture.ben).await;
    live.faults.on_management(move |_, connection| {
        if connection == ben_id {
            ManagementFault::Status(403)
        } else {
            ManagementFault::None
        }
    });
    let seq = fixture.send("hi").await;
    let record = live.latest_record(&fixture.chat).await;
    let response = live.push(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(failed_records(&response), [sequence_number(&record)]);
    next_created(&mut ann, seq).await;
    // Nothing is wrong with the connection.
    live.only_connection(&fixture.ben).await;
    live.faults.on_management(|_, _| ManagementFault::None);
    live.push_all(&[record]).await;
    next_created(&mut ben, seq).await;
}

#[tokio::test]
async fn a_connection_whose_end_nobody_hears_of_is_deleted_with_a_later_event() {
    let fixture = Fixture::new().await;
    let live = &fixture.live;
    let [client] = fixture.clients([&fixture.ben]).await;
    let id = live.only_connection(&fixture.ben).await;
    live.faults.on_disconnect(|_| DisconnectFault::Lose);
    drop(client);
    eventually("the socket is closed", async || {
        live.faults.disconnect_count() == 1
    })
    .await;
    assert_eq!(live.connections(&fixture.ben).await, [id.as_str()]);
    let old = (tokens::now_seconds() - OLD) * 1_000;
    live.set_connection(&fixture.ben, &id, "connectedAt", old)
        .await;
    fixture.send("hi").await;
    eventually("the connection is deleted", async || {
        live.connections(&fixture.ben).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_late_end_of_an_old_socket_does_not_delete_the_new_connection() {
    let fixture = Fixture::new().await;
    let live = &fixture.live;
    let [old] = fixture.clients([&fixture.ben]).await;
    let old_id = live.only_connection(&fixture.ben).await;
    let late = Duration::from_millis(500);
    live.faults
        .on_disconnect(move |_| DisconnectFault::Delay(late));
    drop(old);
    let mut new = LiveClient::connect(&fixture.ben).await;
    eventually("the old connection is deleted", async || {
        let connections = live.connections(&fixture.ben).await;
        !connections.contains(&old_id)
    })
    .await;
    live.only_connection(&fixture.ben).await;
    let seq = fixture.send("hi").await;
    next_created(&mut new, seq).await;
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn a_handshake_whose_function_is_killed_after_its_write_leaves_nothing_that_lasts() {
    let fixture = Fixture::new().await;
    let live = &fixture.live;
    live.proxied
        .inject_next([Fault::new("PutItem", FaultEffect::KillAfter)]);
    let url = fixture.ben.api.live_url();
    let protocols = ["chat.v1", &fixture.ben.token];
    let refused = LiveClient::try_connect(&url, &protocols, &[]).await;
    let status = refused.err().expect("the handshake fails");
    assert!(status >= 500, "{status}");
    let ghost = live.only_connection(&fixture.ben).await;
    // The client connects again, and receives events although the other item still exists.
    let [mut client] = fixture.clients([&fixture.ben]).await;
    let seq = fixture.send("one").await;
    next_created(&mut client, seq).await;
    assert_eq!(live.connections(&fixture.ben).await.len(), 2);
    let old = (tokens::now_seconds() - OLD) * 1_000;
    live.set_connection(&fixture.ben, &ghost, "connectedAt", old)
        .await;
    let seq = fixture.send("two").await;
    next_created(&mut client, seq).await;
    eventually("the item without a socket is deleted", async || {
        let connections = live.connections(&fixture.ben).await;
        connections.len() == 1 && connections[0] != ghost
    })
    .await;
}

/// `$connect` has written its item but not responded. An event at this time finds no socket.
#[tokio::test]
async fn a_message_that_is_sent_while_a_client_connects_is_shown_and_later_ones_arrive() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    fixture.send("before").await;
    let record = live.latest_record(&fixture.chat).await;
    live.proxied
        .inject_next([Fault::new("Query", FaultEffect::Hold)]);
    let device = Device::start(&fixture.ben, Timing::WITHOUT_SYNC, None);
    live.proxied.wait_until_blocked().await;
    live.push_all(&[record]).await;
    live.proxied.release_held();
    device.wait_until_connected(1).await;
    device.wait_for_texts(&fixture.chat, &["before"]).await;
    live.only_connection(&fixture.ben).await;
    live.faults.clear();
    fixture.send("after").await;
    device
        .wait_for_texts(&fixture.chat, &["before", "after"])
        .await;
    assert_eq!(device.times_connected(), 1);
}

/// `$connect` has responded, but the client has not received that yet.
#[tokio::test]
async fn a_message_that_is_sent_at_the_end_of_a_handshake_is_shown() {
    let fixture = Fixture::new().await;
    let live = &fixture.live;
    let held = Arc::new(AtomicUsize::new(0));
    live.faults.on_handshake({
        let held = held.clone();
        move |_| {
            held.fetch_add(1, Ordering::Relaxed);
            Duration::from_millis(500)
        }
    });
    let device = Device::start(&fixture.ben, Timing::WITHOUT_SYNC, None);
    eventually("the handshake is held", async || {
        held.load(Ordering::Relaxed) == 1
    })
    .await;
    fixture.send("hi").await;
    device.wait_until_connected(1).await;
    device.wait_for_texts(&fixture.chat, &["hi"]).await;
    fixture.send("again").await;
    device.wait_for_texts(&fixture.chat, &["hi", "again"]).await;
    assert_eq!(device.times_connected(), 1);
    live.only_connection(&fixture.ben).await;
}

#[tokio::test]
async fn repeated_records_are_shown_once() {
    let fixture = Fixture::new().await;
    let device = Device::connect(&fixture.ben).await;
    let repeated = Arc::new(AtomicUsize::new(0));
    fixture.live.faults.on_batch({
        let repeated = repeated.clone();
        move |records, _| {
            repeated.fetch_add(records.len(), Ordering::Relaxed);
            let all = [records.clone(), records].concat();
            [all.clone(), all].concat()
        }
    });
    for text in ["one", "two", "three"] {
        fixture.send(text).await;
    }
    fixture
        .ann
        .edit_text(&fixture.chat, 2, "TWO")
        .await
        .expect_status(200);
    let expected = ["one", "TWO", "three"];
    device.wait_for_texts(&fixture.chat, &expected).await;
    device.wait_until_consistent().await;
    assert!(repeated.load(Ordering::Relaxed) >= 4);
}

/// The client knows by the number of the next message that one is missing, and does not need `sync`.
#[tokio::test]
async fn a_dropped_record_is_made_up_for_with_the_next_event_of_the_chat() {
    let fixture = Fixture::new().await;
    let device = fixture.device(&fixture.ben).await;
    fixture.live.faults.on_batch({
        let chat = fixture.chat.clone();
        let mut dropped = 0;
        move |mut records, _| {
            records.retain(|record| {
                let is_dropped = dropped < 3 && chat_of(record) == Some(chat.as_str());
                dropped += usize::from(is_dropped);
                !is_dropped
            });
            records
        }
    });
    for text in ["one", "two"] {
        fixture.send(text).await;
    }
    fixture
        .ann
        .edit_text(&fixture.chat, 2, "ONE")
        .await
        .expect_status(200);
    fixture.send("three").await;
    let expected = ["first", "ONE", "two", "three"];
    device.wait_for_texts(&fixture.chat, &expected).await;
    device.wait_until_consistent().await;
}

#[tokio::test]
async fn sync_makes_up_for_a_dropped_record_that_no_event_follows() {
    let fixture = Fixture::new().await;
    let device = fixture.device(&fixture.ben).await;
    fixture.live.faults.on_batch(|_, _| Vec::new());
    fixture.send("one").await;
    eventually("the record is dropped", async || {
        fixture.live.faults.batch_count() > 0
    })
    .await;
    assert_eq!(device.texts(&fixture.chat), ["first"]);
    device.sync().await;
    device
        .wait_for_texts(&fixture.chat, &["first", "one"])
        .await;
    device.wait_until_consistent().await;
}

/// Records of one chat keep their order, but others can overtake them.
#[tokio::test]
async fn the_late_records_of_one_chat_hold_up_no_other_chat_and_stay_in_order() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    let cat = live.api().user();
    let other = cat.start_chat(&fixture.ben).await;
    let device = Device::connect(&fixture.ben).await;
    let mut late = Vec::new();
    for text in ["one", "two"] {
        fixture.send(text).await;
        late.push(live.latest_record(&fixture.chat).await);
    }
    cat.send(&other, "hello").await.expect_status(201);
    let record = live.latest_record(&other).await;
    live.push_all(&[record]).await;
    device.wait_for_texts(&other, &["hello"]).await;
    assert_eq!(device.texts(&fixture.chat), [""; 0]);
    live.push_all(&late).await;
    device.wait_for_texts(&fixture.chat, &["one", "two"]).await;
    device.wait_until_consistent().await;
}

/// Several events of a batch for one connection are in one frame, in the order of the records.
#[tokio::test]
async fn the_events_of_a_batch_for_one_connection_are_in_one_frame() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    let mut ben = LiveClient::connect(&fixture.ben).await;
    let mut records = Vec::new();
    for text in ["one", "two", "three"] {
        fixture.send(text).await;
        records.push(live.latest_record(&fixture.chat).await);
    }
    live.faults.drain_requests();
    live.push_all(&records).await;
    assert_eq!(live.faults.request_count("POST"), 1);
    let frame = ben.next().await.expect("the socket is open");
    let events = frame["events"].as_array().unwrap().iter();
    let texts: Vec<_> = events.map(|event| &event["message"]["text"]).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

/// A record with something that this version cannot read.
fn poisoned(record: &Value) -> Vec<(&'static str, Value)> {
    let set = |pointer: &str, member: &str, value: Value| {
        let mut record = record.clone();
        record.pointer_mut(pointer).unwrap()[member] = value;
        record
    };
    let remove = |pointer: &str, member: &str| {
        let mut record = record.clone();
        let parent = record.pointer_mut(pointer).unwrap();
        let removed = parent.as_object_mut().unwrap().remove(member);
        assert!(removed.is_some(), "{pointer} has no {member}");
        record
    };
    let (image, change) = ("/dynamodb/NewImage", "/dynamodb");
    let counter = json!({"pk": {"S": "USER#1"}, "sk": {"S": "SENT"}, "open": {"N": "1"}});
    let old = json!({"seq": {"S": "x"}});
    vec![
        ("no status", remove(image, "status")),
        ("no seq", remove(image, "seq")),
        ("no requester", remove(image, "requesterId")),
        ("no key", remove(image, "pk")),
        ("key of no chat", set(image, "pk", json!({"S": "CHAT#7"}))),
        ("new status", set(image, "status", json!({"S": "archived"}))),
        ("text as seq", set(image, "seq", json!({"S": "7"}))),
        ("negative seq", set(image, "seq", json!({"N": "-7"}))),
        ("seq without digits", set(image, "seq", json!({"N": "x"}))),
        ("seq of no type", set(image, "seq", json!({"X": 7}))),
        (
            "list as preview",
            set(image, "lastMessage", json!({"L": []})),
        ),
        ("not a chat", set(change, "NewImage", counter)),
        ("empty image", set(change, "NewImage", json!({}))),
        ("text as image", set(change, "NewImage", json!("chat"))),
        ("null as image", set(change, "NewImage", Value::Null)),
        ("no image", remove(change, "NewImage")),
        ("odd old image", set(change, "OldImage", old)),
        ("no change", remove("", "dynamodb")),
        ("no id", remove("", "eventID")),
        ("empty record", json!({})),
        ("text", json!("record")),
        ("number", json!(7)),
        ("null", Value::Null),
        ("list", json!([[]])),
    ]
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_no_other_record_of_its_batch() {
    let fixture = fixture_without_delivery().await;
    let live = &fixture.live;
    let mut ben = LiveClient::connect(&fixture.ben).await;
    fixture.send("first").await;
    let template = live.latest_record(&fixture.chat).await;
    for (name, poison) in poisoned(&template) {
        let mut records = Vec::new();
        let mut seqs = Vec::new();
        for _ in 0..2 {
            seqs.push(fixture.send(name).await);
            records.push(live.latest_record(&fixture.chat).await);
        }
        records.insert(1, poison.clone());
        records.insert(0, poison.clone());
        records.push(poison);
        let response = live.push(&records).await;
        let response = response.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(failed_records(&response), [""; 0], "{name}: {response}");
        for seq in seqs {
            let event = next_created(&mut ben, seq).await;
            assert_eq!(event["message"]["text"], name);
        }
    }
}

/// The table is not available for one user in the middle of a batch. The records before are delivered, and what comes
/// after that in its chat must not overtake it.
#[tokio::test]
async fn a_batch_ends_at_the_first_record_whose_user_cannot_be_read() {
    let options = options_with_changed_template(|template| {
        assert!(template.contains("Timeout: 60\n"));
        template.replace("Timeout: 60\n", "Timeout: 4\n")
    });
    let live = LiveStack::start_with(options, RealtimeOptions::default()).await;
    live.faults.withhold_records();
    let fixture = Fixture::on(live).await;
    let live = &fixture.live;
    let mut ben = LiveClient::connect(&fixture.ben).await;
    for error in ["ValidationException", "ThrottlingException"] {
        let (cat, dan, other) = live.api().active_chat().await;
        let mut watching_cat = LiveClient::connect(&cat).await;
        let mut watching_dan = LiveClient::connect(&dan).await;
        let before = fixture.send("before").await;
        let mut records = vec![live.latest_record(&fixture.chat).await];
        for text in ["one", "two"] {
            cat.send(&other, text).await.expect_status(201);
            records.push(live.latest_record(&other).await);
        }
        let fails = FaultEffect::Respond(400, error_body(error));
        let pk = format!("USER#{}", dan.id);
        live.proxied
            .inject_always([Fault::on_partition(&pk, fails)]);
        let response = live.push(&records).await.unwrap();
        let failed = failed_records(&response);
        assert_eq!(failed, [sequence_number(&records[1])], "{error}");
        next_created(&mut ben, before).await;

        live.proxied.inject_always(None);
        live.push_all(&records[1..]).await;
        for client in [&mut watching_cat, &mut watching_dan] {
            // These are the first ones that arrive.
            for (seq, text) in [(1, "one"), (2, "two")] {
                let event = next_created(client, seq).await;
                assert_eq!(event["message"]["text"], text, "{error}");
            }
        }
    }
}

/// The state of the chat is readable before the message. With an idempotency key, the preview is not the message.
#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn an_event_waits_for_a_message_that_is_not_readable_yet() {
    let fixture = Fixture::new().await;
    let [mut ben] = fixture.clients([&fixture.ben]).await;
    let (ann, chat) = (fixture.ann.clone(), fixture.chat.clone());
    let sent = with_torn_write(&fixture, LateItems::Messages, async move {
        ann.send_with_key(&chat, "key", "hi").await
    });
    let sent = sent.await.expect_status(201);
    let event = next_created(&mut ben, 2).await;
    assert_eq!(event["message"], sent.body);
    assert_eq!(event.get("idempotencyKey"), None);
    assert_eq!(fixture.live.faults.last_attempt(), 1);
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn an_event_of_a_change_shows_the_changed_message_also_when_it_is_readable_late() {
    for late in [
        LateItems::Messages,
        LateItems::Changes,
        LateItems::MessagesAndChanges,
    ] {
        let fixture = Fixture::new().await;
        let [mut ben] = fixture.clients([&fixture.ben]).await;
        let (ann, chat) = (fixture.ann.clone(), fixture.chat.clone());
        let edited = with_torn_write(&fixture, late, async move {
            ann.edit_text(&chat, 1, "new").await
        });
        let edited = edited.await.expect_status(200);
        let event = ben.event("message.changed").await;
        assert_eq!(event["message"], edited.body, "{late:?}");
        assert_eq!(event["chat"]["rev"], 1, "{late:?}");
        assert_eq!(fixture.live.faults.last_attempt(), 1, "{late:?}");
    }
}

/// Sends a request whose transaction is readable in part until `push-events` has tried to read it twice.
async fn with_torn_write(
    fixture: &Fixture,
    late: LateItems,
    request: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let proxied = &fixture.live.proxied;
    let until = Until::Released;
    let torn = FaultEffect::TornRead { late, until };
    proxied.inject_next([Fault::new("TransactWriteItems", torn)]);
    proxied.drain_cost();
    let request = tokio::spawn(request);
    proxied.wait_until_blocked().await;
    let read = AtomicUsize::new(0);
    eventually("push-events has read the items", async || {
        let operations = proxied.drain_cost().operations.into_iter();
        let gets = operations.filter(|operation| {
            operation.name == "GetItem" && operation.function.as_deref() == Some(PUSH_EVENTS)
        });
        read.fetch_add(gets.count(), Ordering::Relaxed);
        read.load(Ordering::Relaxed) >= 2
    })
    .await;
    proxied.release_held();
    request.await.unwrap()
}

/// The device connects again, and shows the messages that were sent in between.
#[tokio::test]
async fn a_client_whose_socket_is_cut_comes_back_and_misses_nothing() {
    let fixture = Fixture::new().await;
    let device = Device::connect(&fixture.ben).await;
    fixture.send("one").await;
    device.wait_for_texts(&fixture.chat, &["one"]).await;
    fixture.live.stack().cut_connections();
    fixture.send("two").await;
    device.wait_for_texts(&fixture.chat, &["one", "two"]).await;
    device.wait_until_connected(2).await;
    fixture.send("three").await;
    device
        .wait_for_texts(&fixture.chat, &["one", "two", "three"])
        .await;
    device.wait_until_consistent().await;
}

/// Nobody has deleted the item of this socket; the service has forgotten it. Without `sync` the client would wait
/// forever.
#[tokio::test]
async fn a_client_that_the_service_has_forgotten_finds_out_with_sync() {
    let fixture = Fixture::new().await;
    let device = Device::connect(&fixture.ben).await;
    let id = fixture.live.only_connection(&fixture.ben).await;
    let (pk, sk) = (format!("USER#{}", fixture.ben.id), format!("CONN#{id}"));
    fixture.live.table().delete(&pk, &sk).await;
    fixture.send("one").await;
    device.sync().await;
    assert_eq!(device.times_connected(), 2);
    device.wait_for_texts(&fixture.chat, &["one"]).await;
    fixture.send("two").await;
    device.wait_for_texts(&fixture.chat, &["one", "two"]).await;
}

/// A message that is being sent is shown once, whichever of the event and the response arrives first.
#[tokio::test]
async fn an_own_message_is_shown_once_on_every_device_of_its_sender() {
    use crate::contract_model::{Content, PairRequest};

    let fixture = Fixture::new().await;
    let devices = [
        Device::connect(&fixture.ann).await,
        Device::connect(&fixture.ann).await,
    ];
    for (n, text) in ["one", "two", "three"].into_iter().enumerate() {
        let content = Content::text(text);
        let key = Some(format!("key-{n}"));
        let send = PairRequest::Send { key, content };
        let sent = devices[n % 2].perform(fixture.ben.id, &send).await;
        sent.expect_status(201);
    }
    for device in &devices {
        let expected = ["one", "two", "three"];
        device.wait_for_texts(&fixture.chat, &expected).await;
        device.wait_until_consistent().await;
        assert!(device.messages_in_flight().is_empty());
    }
}

/// The numbers of the changes that a client knows are gone after 90 days, so it loads everything again.
#[tokio::test]
async fn a_client_that_missed_changes_which_have_expired_loads_the_messages_again() {
    let fixture = Fixture::new().await;
    for text in ["one", "two"] {
        fixture.send(text).await;
    }
    let device = Device::connect(&fixture.ben).await;
    fixture.live.faults.on_batch(|_, _| Vec::new());
    for (seq, text) in [(1, "ONE"), (2, "TWO")] {
        let edited = fixture.ann.edit_text(&fixture.chat, seq, text).await;
        edited.expect_status(200);
    }
    let expired = [1, 2].map(|rev| format!("CHG#{rev:016}"));
    for sk in &expired {
        let pk = format!("CHAT#{}", fixture.chat);
        fixture.live.table().delete(&pk, sk).await;
    }
    fixture
        .ben
        .changes(&fixture.chat, "?after=0")
        .await
        .expect_error(410, "changes_expired");
    device.sync().await;
    device.wait_for_texts(&fixture.chat, &["ONE", "TWO"]).await;
    device.wait_until_consistent().await;
}
