//! Torn reads: requests while the items of another request's transaction are readable only in part. DynamoDB applies
//! all writes of a transaction, but a reader of several items can see some of them earlier than others, in any order.
//!
//! Each test holds a transaction in a state in which some of its items are readable, and sends a request that reads
//! both kinds. The request may wait for the rest. What it returns and what it counts must be exact.

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    contract_model::{ModelledPair, PairRequest, named},
    dynamodb_proxy::{Fault, FaultEffect, LateItems, ProxiedStack, Until},
    eventually,
    retries::{assert_consistent, pair_after, start_without_delays},
    support::Response,
};

/// The items of a chat that can be readable late, also in combination.
const LATE: [LateItems; 5] = [
    LateItems::Messages,
    LateItems::Changes,
    LateItems::PreviousContents,
    LateItems::AllButState,
    LateItems::State,
];

/// Sends a request in the background.
fn send(pair: &ModelledPair, request: &str) -> JoinHandle<Response> {
    let (caller, request) = named(request);
    let (user, other) = (pair.users[caller].clone(), pair.users[1 - caller].id);
    tokio::spawn(async move { user.perform(other, &request).await })
}

/// Sends a request whose transaction is then readable in part. Meanwhile it sends another one, and makes the rest
/// readable when that has ended or has read something. Returns both responses.
async fn send_during(
    proxied: &ProxiedStack,
    pair: &ModelledPair,
    late: LateItems,
    [first, second]: [&str; 2],
) -> [Response; 2] {
    let until = Until::Released;
    let torn = FaultEffect::TornRead { late, until };
    proxied.inject_next([Fault::new("TransactWriteItems", torn)]);
    let first = send(pair, first);
    proxied.wait_until_blocked().await;
    proxied.drain_cost();
    let second = send(pair, second);
    // A request reads at most three items or ranges before it has to wait.
    eventually("the second request has read", async || {
        second.is_finished() || proxied.operation_count() >= 3
    })
    .await;
    proxied.release_held();
    [first.await.unwrap(), second.await.unwrap()]
}

#[tokio::test]
async fn marking_counts_exactly_while_a_change_or_a_message_is_readable_in_part() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for (before, first, second) in [
            ("active send send send", "delete:2", "mark:1"),
            ("active send send send", "delete:3", "mark:1"),
            ("active send send send", "delete:2", "mark:2"),
            ("active send send send", "delete:1", "mark:2"),
            ("active send send send", "delete:2", "mark"),
            (
                "active send send send delete:3 edit:1",
                "delete:2",
                "mark:1",
            ),
            ("active send send", "edit:2", "mark:1"),
            ("active send send", "send", "mark:1"),
            ("active send send", "send", "mark:2"),
            ("active send send", "send", "mark"),
        ] {
            let name = format!("{before}; {first}; {second}; {late:?} late");
            let mut pair = pair_after(&proxied, before).await;
            let responses = send_during(&proxied, &pair, late, [first, second]).await;
            for response in &responses {
                assert!(response.status < 300, "{name}: {response:?}");
            }
            // The mark waits until it can write the state, so it takes effect after the other change.
            for request in [first, second] {
                let (caller, request) = named(request);
                pair.expected(caller, &request);
            }
            pair.assert_equals_model(&name).await;
        }
    }
    assert_consistent(&proxied).await;
}

/// All items of a transaction except the message are readable, for longer than the other requests wait. What they would
/// count or list without the message would stay wrong.
#[tokio::test]
async fn marks_and_lists_of_changes_are_503_while_a_message_stays_half_readable() {
    let proxied = start_without_delays().await;
    let mark = PairRequest::MarkRead { up_to: Some(1) };
    let list = PairRequest::ListChanges {
        after: 0,
        limit: 100,
    };
    for (first, unavailable) in [
        ("delete:2", vec![&mark, &list]),
        // A new message is no change.
        ("send", vec![&mark]),
    ] {
        let mut pair = pair_after(&proxied, "active send send send").await;
        let (late, until) = (LateItems::Messages, Until::Released);
        let torn = FaultEffect::TornRead { late, until };
        proxied.inject_next([Fault::new("TransactWriteItems", torn)]);
        let torn = send(&pair, first);
        proxied.wait_until_blocked().await;
        let table = proxied.stack.table.everything().await;
        for request in unavailable {
            let response = pair.send(1, request).await;
            response.expect_error(503, "unavailable");
            let retry_after = response.header("retry-after");
            assert!(retry_after.is_some(), "{first}; {request:?}");
        }
        assert_eq!(proxied.stack.table.everything().await, table, "{first}");

        proxied.release_held();
        let response = torn.await.unwrap();
        assert!(response.status < 300, "{first}: {response:?}");
        let (caller, first_request) = named(first);
        pair.expected(caller, &first_request);
        for request in [&mark, &list] {
            pair.perform(1, request).await;
        }
        pair.assert_equals_model(first).await;
    }
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_list_of_changes_misses_no_change_that_is_readable_in_part() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for change in ["delete:2", "edit:2", "edit-again:1"] {
            let name = format!("{change}; {late:?} late");
            let mut pair = pair_after(&proxied, "active send send send edit:1 edit:3").await;
            let until = Until::Released;
            let torn = FaultEffect::TornRead { late, until };
            proxied.inject_next([Fault::new("TransactWriteItems", torn)]);
            let torn = send(&pair, change);
            proxied.wait_until_blocked().await;
            proxied.drain_cost();
            let read = tokio::spawn({
                let (user, other) = (pair.users[1].clone(), pair.users[0].id);
                let changes = PairRequest::ListChanges {
                    after: 0,
                    limit: 100,
                };
                async move { user.perform(other, &changes).await.expect_status(200) }
            });
            eventually("the changes were read", async || {
                read.is_finished() || proxied.operation_count() >= 2
            })
            .await;
            proxied.release_held();
            torn.await.unwrap().expect_status(200);
            let page = read.await.unwrap();
            let seqs: &[u64] = match (page.body["rev"].as_u64(), change) {
                (Some(2), _) => &[1, 3],
                (Some(3), "edit-again:1") => &[3, 1],
                (Some(3), _) => &[1, 3, 2],
                other => panic!("{name}: unexpected rev: {other:?}"),
            };
            if late != LateItems::State {
                assert_eq!(page.body["rev"], 3, "{name}");
            }
            // A message that has been changed after this rev may be missing or new.
            if page.body["rev"] == 3 {
                assert_eq!(page.seqs(), seqs, "{name}");
                let changed = page.body["messages"].as_array().unwrap().last().unwrap();
                let is_new = match change {
                    "delete:2" => changed["deletedAt"].is_string(),
                    "edit:2" => changed["text"] == "new",
                    _ => changed["text"] == "newer",
                };
                assert!(is_new, "{name}: {changed}");
            } else {
                assert!(page.seqs().iter().all(|seq| seqs.contains(seq)), "{name}");
            }
            let (caller, change) = named(change);
            pair.expected(caller, &change);
            pair.assert_equals_model(&name).await;
        }
    }
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_change_takes_effect_after_an_earlier_one_that_is_half_readable() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for (before, first, second, expected) in [
            (
                "active send send",
                "delete:1",
                "edit:1",
                (409, Some("message_deleted")),
            ),
            ("active send send", "delete:1", "delete:1", (200, None)),
            ("active send send", "edit:1", "edit:1", (200, None)),
            ("active send send", "edit:1", "edit-again:1", (200, None)),
            ("active send send", "edit:1", "delete:1", (200, None)),
            ("active send send", "edit:1", "delete:2", (200, None)),
            ("active send", "send", "edit:2", (200, None)),
            ("active send", "send", "delete:2", (200, None)),
            ("active send", "send", "report:2", (201, None)),
        ] {
            // Until the state is readable, the new message is unknown to everybody.
            if late == LateItems::State && first == "send" {
                continue;
            }
            let name = format!("{first}; {second}; {late:?} late");
            let mut pair = pair_after(&proxied, before).await;
            let [one, other] = send_during(&proxied, &pair, late, [first, second]).await;
            assert!(one.status < 300, "{name}: {one:?}");
            assert_eq!((other.status, other.code()), expected, "{name}: {other:?}");
            if first == second {
                assert_eq!(one.body, other.body, "{name}");
            }
            for request in [first, second] {
                let (caller, request) = named(request);
                pair.expected(caller, &request);
            }
            pair.assert_equals_model(&name).await;
        }
    }
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_replay_returns_a_whole_message_while_its_change_is_half_readable() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for change in ["delete:1", "edit:1"] {
            let name = format!("{change}; {late:?} late");
            let mut pair = pair_after(&proxied, "active send-with-key").await;
            let requests = [change, "send-with-key"];
            let [changed, replayed] = send_during(&proxied, &pair, late, requests).await;
            changed.expect_status(200);
            let replayed = replayed.expect_status(200);
            assert_eq!(
                replayed.header("idempotent-replayed"),
                Some("true"),
                "{name}"
            );
            let texts = [json!("hello"), json!("new"), Value::Null];
            assert!(
                texts.contains(&replayed.body["text"]),
                "{name}: {replayed:?}"
            );
            let (caller, change) = named(change);
            pair.expected(caller, &change);
            let (caller, send) = named("send-with-key");
            pair.perform(caller, &send).await;
            pair.assert_equals_model(&name).await;
        }
    }
    assert_consistent(&proxied).await;
}

/// Whether a message, which had the text `hello`, is either as it was before a change or as it is after it. A change
/// of another message has no effect on it.
fn is_before_or_after(message: &Value, change: &str) -> bool {
    let [text, edited_at, deleted_at] =
        ["text", "editedAt", "deletedAt"].map(|name| &message[name]);
    let is_before = text == "hello" && edited_at.is_null() && deleted_at.is_null();
    let (kind, seq) = change.split_once(':').unwrap();
    let is_after = match kind {
        "edit" => text == "new" && edited_at.is_string() && deleted_at.is_null(),
        "delete" => text.is_null() && edited_at.is_null() && deleted_at.is_string(),
        other => panic!("unexpected change: {other}"),
    };
    is_before || (is_after && message["seq"].as_u64() == seq.parse().ok())
}

#[tokio::test]
async fn a_page_of_messages_has_a_message_whose_change_is_readable_in_part() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for change in ["delete:2", "edit:2", "delete:3"] {
            let name = format!("{change}; {late:?} late");
            let pair = pair_after(&proxied, "active send send send").await;
            let until = Until::Released;
            let torn = FaultEffect::TornRead { late, until };
            proxied.inject_next([Fault::new("TransactWriteItems", torn)]);
            let torn = send(&pair, change);
            proxied.wait_until_blocked().await;
            for user in &pair.users {
                for (query, seqs) in [
                    ("", vec![3, 2, 1]),
                    ("?skip=1", vec![2, 1]),
                    ("?before=3", vec![2, 1]),
                    ("?after=1", vec![2, 3]),
                ] {
                    let page = user.messages(&pair.chat_id(), query).await;
                    let page = page.expect_status(200);
                    assert_eq!(page.seqs(), seqs, "{name}: {query}");
                    for message in page.body["messages"].as_array().unwrap() {
                        let is_whole = is_before_or_after(message, change);
                        assert!(is_whole, "{name}: {query}: {message}");
                    }
                }
            }
            proxied.release_held();
            torn.await.unwrap().expect_status(200);
        }
    }
    assert_consistent(&proxied).await;
}

/// Sending and deleting at once leaves something to report.
#[tokio::test]
async fn a_report_keeps_the_content_of_a_message_whose_deletion_is_readable_in_part() {
    let proxied = start_without_delays().await;
    for late in LATE {
        for report in ["report:1", "report-and-block:1"] {
            let mut pair = pair_after(&proxied, "active send send").await;
            let requests = ["delete:1", report];
            let [deleted, reported] = send_during(&proxied, &pair, late, requests).await;
            deleted.expect_status(200);
            reported.expect_status(201);
            let items = proxied.stack.table.chat(&pair.chat_id()).await;
            let sk = format!("FLAG#{}#0000000000000001", pair.users[1].id);
            assert_eq!(items[&sk]["text"], "hello", "{late:?} late");
            for request in requests {
                let (caller, request) = named(request);
                pair.expected(caller, &request);
            }
            pair.assert_equals_model("a report").await;
        }
    }
    assert_consistent(&proxied).await;
}
