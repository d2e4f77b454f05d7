//! Retry tests: retries of failed operations on DynamoDB, concurrent changes, and the response when time
//! runs out.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::domain::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    contract_model::{ModelledPair, ObservedResponse, PairRequest, all_named, named},
    dynamodb_proxy::{Cost, Fault, FaultEffect, LateItems, ProxiedStack, Until},
    eventually,
    fault_injection::FaultPlan,
    invariants::{admin_findings, invariant_violations},
    options_with_template,
    support::{self, User},
};

/// A stack in which a function has a timeout of two seconds.
pub async fn start_with_short_timeout() -> ProxiedStack {
    let options = options_with_template("Timeout: !Ref FunctionTimeout\n", "Timeout: 3\n");
    ProxiedStack::start_with(options).await
}

async fn active_chat(proxied: &ProxiedStack) -> (User, User, String) {
    proxied.stack.api.active_chat().await
}

/// The tokens of all transactions.
fn transaction_tokens(cost: &Cost) -> Vec<&str> {
    let operations = cost.operations.iter();
    let transactions = operations.filter(|operation| operation.name == "TransactWriteItems");
    transactions
        .map(|operation| operation.token.as_deref().unwrap())
        .collect()
}

fn conflict() -> Fault {
    Fault::cancelled(&["TransactionConflict", "None", "None"])
}

fn distinct<'a>(tokens: &[&'a str]) -> BTreeSet<&'a str> {
    tokens.iter().copied().collect()
}

#[tokio::test]
async fn a_transaction_whose_outcome_is_unknown_is_retried_with_the_same_token() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.drain_cost();
    proxied.inject_next([
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
        Fault::error("TransactWriteItems", 400, "TransactionInProgressException"),
        // These attempts wrote nothing, but the first one may still be applied.
        conflict(),
        Fault::cancelled(&["None", "ThrottlingError", "ProvisionedThroughputExceeded"]),
    ]);
    ann.send(&chat, "hi").await.expect_status(201);
    let cost = proxied.drain_cost();
    let tokens = transaction_tokens(&cost);
    assert_eq!(tokens.len(), 5, "{cost:?}");
    assert_eq!(distinct(&tokens).len(), 1, "{tokens:?}");
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn a_cancelled_or_throttled_transaction_is_planned_again_with_a_new_token() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.drain_cost();
    proxied.inject_next([
        conflict(),
        Fault::cancelled(&["None", "ThrottlingError", "ProvisionedThroughputExceeded"]),
        Fault::error("TransactWriteItems", 400, "ThrottlingException"),
        Fault::error("TransactWriteItems", 400, "RequestLimitExceeded"),
        Fault::error(
            "TransactWriteItems",
            400,
            "ProvisionedThroughputExceededException",
        ),
    ]);
    ann.send(&chat, "hi").await.expect_status(201);
    let cost = proxied.drain_cost();
    let tokens = transaction_tokens(&cost);
    assert_eq!(distinct(&tokens).len(), 6, "{tokens:?}");
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn the_time_of_a_message_is_when_it_was_accepted_and_not_when_the_wait_for_it_began() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    let cat = proxied.stack.api.user();
    ben.request_chat(&cat).await.expect_status(201);
    let started = Timestamp::now().millis();
    proxied.inject_always(Some(conflict()));
    let waiting = [
        tokio::spawn({
            let (ann, chat) = (ann.clone(), chat.clone());
            async move { ann.send(&chat, "hi").await.expect_status(201).body }
        }),
        tokio::spawn({
            let (cat, chat) = (cat.clone(), cat.chat_id_with(&ben));
            async move { cat.accept(&chat).await.expect_status(200).body }
        }),
    ];
    eventually("the requests have waited for a second", async || {
        Timestamp::now().millis() >= started + 1_000
    })
    .await;
    proxied.inject_always(None);
    for (waiting, field) in waiting.into_iter().zip(["createdAt", "updatedAt"]) {
        let body = waiting.await.unwrap();
        let earliest = Timestamp::from_millis(started + 500).to_string();
        assert!(body[field].as_str() >= Some(earliest.as_str()), "{body}");
    }
}

#[tokio::test]
async fn a_read_is_attempted_five_times() {
    let proxied = ProxiedStack::start().await;
    let user = proxied.stack.api.user();
    let failures = |count| {
        let failure = || Fault::error("Query", 500, "InternalServerError");
        std::iter::repeat_with(failure).take(count)
    };
    proxied.drain_cost();
    proxied.inject_next(failures(4));
    user.get("/totals").await.expect_status(200);
    assert_eq!(proxied.drain_cost().operations.len(), 5);
    proxied.inject_next(failures(5));
    user.get("/totals").await.expect_error(503, "unavailable");
    assert_eq!(proxied.drain_cost().operations.len(), 5);
}

/// The retries of the SDK share a bucket of tokens in a process. When failures have emptied it, nothing is
/// retried any more.
#[tokio::test]
async fn a_read_is_retried_also_after_many_failures() {
    let proxied = ProxiedStack::start().await;
    let user = proxied.stack.api.user();
    let throttled = || Fault::error("Query", 400, "ProvisionedThroughputExceededException");
    proxied.inject_always(Some(throttled()));
    for _ in 0..35 {
        user.get("/totals").await.expect_error(503, "unavailable");
    }
    proxied.inject_always(None);
    proxied.inject_next([throttled()]);
    user.get("/totals").await.expect_status(200);
}

#[tokio::test]
async fn a_connection_that_never_responds_does_not_use_up_the_time_of_a_request() {
    let proxied = start_with_short_timeout().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.inject_next([Fault::new("Query", FaultEffect::NeverRespond)]);
    // The time limit of a request is 1.5 s here.
    ann.get("/totals").await.expect_status(200);
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::NeverRespond)]);
    ann.send(&chat, "hi").await.expect_status(201);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

/// The item of a chat, as a response of DynamoDB contains it.
async fn chat_item(proxied: &ProxiedStack, chat: &str) -> Value {
    fn encode(value: &AttributeValue) -> Value {
        match value {
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::Bool(flag) => json!({"BOOL": flag}),
            AttributeValue::M(map) => {
                let map: Map<_, _> = map.iter().map(|(k, v)| (k.clone(), encode(v))).collect();
                json!({"M": map})
            }
            other => panic!("unexpected type of attribute: {other:?}"),
        }
    }
    let table = &proxied.stack.table;
    let get = table.client.get_item().table_name(&table.name);
    let get = get.key("pk", AttributeValue::S(format!("CHAT#{chat}")));
    let get = get.key("sk", AttributeValue::S("STATE".to_owned()));
    let item = get.send().await.unwrap().item.unwrap();
    encode(&AttributeValue::M(item))["M"].clone()
}

#[tokio::test]
async fn a_change_that_is_stale_again_and_again_waits_before_it_is_planned_again() {
    let proxied = start_with_short_timeout().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    ann.send(&chat, "hi").await.expect_status(201);
    let state = chat_item(&proxied, &chat).await;
    let stale = json!([
        {"Code": "ConditionalCheckFailed", "Item": state}, {"Code": "None"}, {"Code": "None"},
    ]);
    proxied.inject_always(Some(Fault::cancelled_with_reasons(stale)));
    for _ in 0..2 {
        proxied.drain_cost();
        ann.send(&chat, "hi").await.expect_error(503, "unavailable");
        ben.mark_read(&chat).await.expect_error(503, "unavailable");
        let operations = proxied.drain_cost().operations.len();
        // In 1.5 s each, with random delays of 25 to 100 ms, then up to 425, 825 and 425 ms: some 40.
        assert!(operations < 80, "{operations} operations");
    }
}

#[tokio::test]
async fn a_transaction_whose_response_is_lost_is_applied_once() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    let lose_response =
        || proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::LoseResponse)]);
    lose_response();
    ann.request_chat(&ben).await.expect_status(201);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    lose_response();
    ben.accept(&chat).await.expect_status(200);
    lose_response();
    assert_eq!(
        ann.send(&chat, "hi").await.expect_status(201).body["seq"],
        1
    );
    lose_response();
    assert_eq!(
        ann.send_with_key(&chat, "key", "hi")
            .await
            .expect_status(201)
            .body["seq"],
        2
    );
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
    assert_eq!(ben.totals().await, [0, 2, 0]);
    lose_response();
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_transaction_that_another_one_overtakes_is_planned_again_with_a_new_token() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.drain_cost();
    // Ann's message is about to become the first one. Before that, Ben's message becomes the first one.
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::Hold)]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "a").await }
    });
    proxied.wait_until_blocked().await;
    assert_eq!(ben.send(&chat, "b").await.expect_status(201).body["seq"], 1);
    proxied.release_held();
    assert_eq!(first.await.unwrap().expect_status(201).body["seq"], 2);
    let cost = proxied.drain_cost();
    let tokens = transaction_tokens(&cost);
    assert_eq!(tokens.len(), 3, "{cost:?}");
    assert_eq!(
        tokens.iter().collect::<BTreeSet<_>>().len(),
        3,
        "{tokens:?}"
    );
    assert_eq!(
        cost.operations
            .iter()
            .filter(|operation| operation.name == "GetItem")
            .count(),
        2,
        "{cost:?}"
    );
}

#[tokio::test]
async fn a_failed_condition_is_ignored_while_the_chat_itself_is_in_conflict() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let (ann, ben) = (api.user(), api.user());
    // Another transaction is in progress: it has updated a counter, and still locks the chat.
    proxied.inject_next([Fault::cancelled(&[
        "TransactionConflict",
        "ConditionalCheckFailed",
        "None",
    ])]);
    ann.request_chat(&ben).await.expect_status(201);
    assert_eq!(ann.totals().await, [0, 0, 1]);
}

/// Makes a message readable half a second after the other items of its transaction.
fn torn_read() -> Fault {
    let late = LateItems::Messages;
    let until = Until::Elapsed(Duration::from_millis(500));
    Fault::new("TransactWriteItems", FaultEffect::TornRead { late, until })
}

async fn wait_for_one_unread(user: &User) {
    eventually("the message counts as unread", async || {
        user.totals().await == [0, 1, 0]
    })
    .await;
}

#[tokio::test]
async fn a_page_waits_for_a_message_that_is_not_readable_yet() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.inject_next([torn_read()]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "one").await.status }
    });
    // The first message counts as unread before it is readable.
    wait_for_one_unread(&ben).await;
    assert_eq!(
        ben.send(&chat, "two").await.expect_status(201).body["seq"],
        2
    );
    let (newest, after, before, skip) = tokio::join!(
        ann.messages(&chat, ""),
        ann.messages(&chat, "?after=0"),
        ann.messages(&chat, "?before=2"),
        ann.messages(&chat, "?skip=1"),
    );
    assert_eq!(newest.seqs(), [2, 1]);
    assert_eq!(after.seqs(), [1, 2]);
    assert_eq!(before.seqs(), [1]);
    assert_eq!(skip.seqs(), [1]);
    assert_eq!(first.await.unwrap(), 201);
}

#[tokio::test]
async fn a_replay_waits_for_its_message_to_become_readable() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    proxied.inject_next([torn_read()]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send_with_key(&chat, "key", "hi").await.status }
    });
    wait_for_one_unread(&ben).await;
    let replay = ann
        .send_with_key(&chat, "key", "hi")
        .await
        .expect_status(200);
    assert_eq!(replay.body["seq"], 1);
    assert_eq!(first.await.unwrap(), 201);
}

#[tokio::test]
async fn a_deleted_message_is_left_out_of_a_page_and_is_no_error() {
    let proxied = ProxiedStack::start().await;
    let (ann, _, chat) = active_chat(&proxied).await;
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    let pk = format!("CHAT#{chat}");
    proxied
        .stack
        .table
        .delete(&pk, "MSG#0000000000000002")
        .await;
    assert_eq!(
        ann.messages(&chat, "").await.expect_status(200).seqs(),
        [3, 1]
    );
    // Long after the last change of the chat, the function does not wait for the missing message.
    proxied
        .stack
        .table
        .set(&pk, "STATE", "updatedAt", AttributeValue::N("1".to_owned()))
        .await;
    proxied.drain_cost();
    assert_eq!(
        ann.messages(&chat, "?after=0")
            .await
            .expect_status(200)
            .seqs(),
        [1, 3]
    );
    assert_eq!(proxied.drain_cost().round_trips(), 1);
}

#[tokio::test]
async fn a_delayed_mark_as_read_does_not_move_the_watermark_back() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    let two_messages = async || {
        ann.send(&chat, "one").await.expect_status(201);
        ann.send(&chat, "two").await.expect_status(201);
    };
    two_messages().await;
    // One device has read that two messages are unread. Before it marks them, another device does, and
    // two more arrive. So the number of unread messages is the same as before.
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::Hold)]);
    let late = tokio::spawn({
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.status }
    });
    proxied.wait_until_blocked().await;
    ben.mark_read(&chat).await.expect_status(200);
    two_messages().await;
    proxied.release_held();
    assert_eq!(late.await.unwrap(), 200);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
    let view = ben.chat_view(&chat).await;
    assert_eq!([&view["readSeq"], &view["unreadCount"]], [4, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn marking_as_read_includes_a_message_that_the_reader_sent_meanwhile() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    ann.send(&chat, "one").await.expect_status(201);
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::Hold)]);
    let mark = tokio::spawn({
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.status }
    });
    proxied.wait_until_blocked().await;
    ben.send(&chat, "two").await.expect_status(201);
    proxied.release_held();
    assert_eq!(mark.await.unwrap(), 200);
    // It takes effect after the second message, so the watermark is at that message.
    assert_eq!(ben.chat_view(&chat).await["readSeq"], 2);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
}

#[tokio::test]
async fn contention_until_the_timeout_is_503_and_changes_nothing() {
    let proxied = start_with_short_timeout().await;
    let (ann, ben, chat) = active_chat(&proxied).await;
    let before = proxied.stack.table.chat(&chat).await;
    for fault in [
        conflict(),
        Fault::error(
            "TransactWriteItems",
            400,
            "ProvisionedThroughputExceededException",
        ),
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
        Fault::error("GetItem", 400, "ThrottlingException"),
    ] {
        proxied.inject_always(Some(fault));
        let response = ann.send_with_key(&chat, "key", "hi").await;
        response.expect_error(503, "unavailable");
        let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 0);
        proxied.inject_always(None);
        assert_eq!(proxied.stack.table.chat(&chat).await, before);
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
}

#[tokio::test]
async fn an_error_that_a_retry_cannot_resolve_is_500_without_a_retry() {
    let proxied = ProxiedStack::start().await;
    let (ann, _, chat) = active_chat(&proxied).await;
    for fault in [
        Fault::error("TransactWriteItems", 400, "AccessDeniedException"),
        Fault::error("TransactWriteItems", 400, "ValidationException"),
        Fault::cancelled(&["ValidationError", "None", "None"]),
        Fault::cancelled(&[
            "ItemCollectionSizeLimitExceeded",
            "TransactionConflict",
            "None",
        ]),
    ] {
        proxied.drain_cost();
        proxied.inject_next([fault]);
        ann.send(&chat, "hi").await.expect_error(500, "internal");
        let cost = proxied.drain_cost();
        assert_eq!(cost.operations.len(), 2, "{cost:?}");
    }
}

/// Sends a request whose write is held back while `meanwhile` runs. Returns its response.
async fn with_held_write(
    proxied: &ProxiedStack,
    pair: &ModelledPair,
    caller: usize,
    request: PairRequest,
    meanwhile: impl Future<Output = ()>,
) -> support::Response {
    proxied.inject_next([Fault::on_writes(FaultEffect::Hold)]);
    let (user, other) = (pair.users[caller].clone(), pair.users[1 - caller].id);
    let held = tokio::spawn(async move { user.perform(other, &request).await });
    proxied.wait_until_blocked().await;
    meanwhile.await;
    proxied.release_held();
    held.await.unwrap()
}

/// The table satisfies its invariants, and `chat-admin` finds nothing wrong.
pub async fn assert_consistent(proxied: &ProxiedStack) {
    let table = &proxied.stack.table;
    assert_eq!(invariant_violations(table).await, [""; 0]);
    assert_eq!(admin_findings(table).await, [""; 0]);
}

/// A stack without delays, so that a held write is not repeated while other requests are sent.
pub async fn start_without_delays() -> ProxiedStack {
    let proxied = ProxiedStack::start().await;
    proxied.set_fault_plan(FaultPlan::none());
    proxied
}

/// Two users after these requests. `active` stands for a request that was accepted.
pub async fn pair_after(proxied: &ProxiedStack, requests: &str) -> ModelledPair {
    ModelledPair::after(&proxied.stack.api, &all_named(requests)).await
}

/// Requests before, a request whose write is held back, a request that overtakes it, and the code with which the
/// first one is then refused.
const OVERTAKEN: &[(&str, &str, &str, Option<&str>)] = &[
    // A block is a single update if no count changes. A message or a request that arrives in between is in no total.
    ("active", "block", "send", None),
    ("", "block", "request", None),
    ("request withdraw", "block", "request", None),
    ("active", "block", "block", None),
    ("active", "block", "block-back", None),
    ("", "block", "block-back", None),
    ("block", "unblock", "request", None),
    ("block", "unblock", "unblock", None),
    ("block", "unblock", "block-back", None),
    // A block that moves a count.
    ("active send send", "block", "send", None),
    ("active send send", "block", "delete:1", None),
    ("active send send", "block", "mark", None),
    ("active send send", "block", "mark:1", None),
    ("active send send", "block", "block", None),
    ("active send send block", "unblock", "delete:1", None),
    ("active send block", "unblock", "delete:1", None),
    ("active send block", "unblock", "unblock", None),
    ("request", "block", "withdraw", None),
    ("request", "block", "accept", None),
    ("request", "block", "decline", None),
    ("request", "block-back", "accept", None),
    ("request", "block-back", "withdraw", None),
    ("request", "block-back", "block", None),
    ("request block", "unblock", "withdraw", None),
    ("active send", "report-and-block:1", "send", None),
    ("active send", "report-and-block:1", "block", None),
    // Changes that were planned before a block.
    ("active", "send", "block", Some("peer_unavailable")),
    ("active", "send", "block-back", Some("you_blocked")),
    ("active send", "edit:1", "block", Some("peer_unavailable")),
    ("active send", "edit:1", "block-back", Some("you_blocked")),
    ("active send", "mark", "block", Some("you_blocked")),
    ("active send send", "mark:1", "block", Some("you_blocked")),
    ("active send send", "delete:1", "block", None),
    ("active send send", "delete:1", "block-back", None),
    ("active send send block", "delete:1", "unblock", None),
    ("", "request", "block", None),
    ("request withdraw", "request", "block", None),
    ("request decline", "counter-request", "block-back", None),
    (
        "request decline",
        "counter-request",
        "block",
        Some("you_blocked"),
    ),
    ("request", "accept", "block", Some("you_blocked")),
    ("request", "accept", "block-back", Some("chat_withdrawn")),
    ("request", "decline", "block", Some("you_blocked")),
    ("request", "withdraw", "block", None),
    ("request", "withdraw", "block-back", None),
    // Withdrawing.
    ("request", "withdraw", "accept", Some("chat_active")),
    (
        "request",
        "withdraw",
        "counter-request",
        Some("chat_active"),
    ),
    ("request", "withdraw", "decline", Some("chat_declined")),
    ("request", "accept", "withdraw", Some("chat_withdrawn")),
    ("request", "decline", "withdraw", Some("chat_withdrawn")),
    ("request withdraw", "request", "counter-request", None),
    // Deleting and marking.
    ("active send send", "delete:1", "mark", None),
    ("active send send send", "delete:2", "mark:2", None),
    ("active send send send", "delete:2", "mark:1", None),
    ("active send send", "mark", "delete:1", None),
    ("active send send send", "mark:1", "delete:2", None),
    ("active send send send", "mark:2", "delete:2", None),
    ("active send", "mark:1", "delete:1", None),
    // Marking up to a message.
    ("active send send", "mark:2", "send", None),
    ("active send send", "mark:1", "reply", None),
    ("active send send send", "mark:1", "mark", None),
    ("active send send send", "mark:1", "mark:2", None),
    ("active send send send", "mark", "mark:1", None),
    // The last message.
    ("active send send", "delete:2", "send", None),
    ("active send send", "edit:2", "reply", None),
    ("active send send", "send", "delete:2", None),
    // Two changes of messages.
    ("active send send", "delete:1", "delete:1", None),
    ("active send send", "delete:1", "delete:2", None),
    (
        "active send send",
        "edit:1",
        "delete:1",
        Some("message_deleted"),
    ),
    ("active send send", "delete:1", "edit:1", None),
    ("active send send", "edit:1", "edit-again:1", None),
    ("active send send", "edit:1", "edit:1", None),
    ("active send send", "edit:1", "edit:2", None),
    // The response to an edit says whether the message is read.
    ("active send", "edit:1", "mark", None),
];

#[tokio::test]
async fn a_change_that_another_one_overtakes_takes_effect_after_it_or_is_refused() {
    let proxied = start_without_delays().await;
    for (before, first, second, refused) in OVERTAKEN {
        let name = format!("{before}; {first}; {second}");
        let mut pair = pair_after(&proxied, before).await;
        let (first, second) = (named(first), named(second));
        let response = with_held_write(&proxied, &pair, first.0, first.1.clone(), async {
            let response = pair.send(second.0, &second.1).await;
            assert!(response.status < 300, "{name}: {response:?}");
        })
        .await;
        pair.expected(second.0, &second.1);
        let expected = pair.expected(first.0, &first.1);
        assert_eq!(response.status, expected.status, "{name}: {response:?}");
        assert_eq!(response.body["code"].as_str(), *refused, "{name}");
        if response.status < 300 {
            let observed = ObservedResponse::new(&response).without_times();
            assert_eq!(observed, expected, "{name}");
        }
        pair.assert_equals_model(&name).await;
        for caller in [0, 1] {
            pair.perform(caller, &PairRequest::Unblock).await;
        }
        pair.assert_equals_model(&name).await;
    }
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_late_mark_up_to_a_message_does_not_move_the_watermark_back() {
    let proxied = start_without_delays().await;
    let mut pair = pair_after(&proxied, "active send send").await;
    // Before the late mark, another device marks both messages, and two more arrive. So the number of unread
    // messages is the same as before.
    let meanwhile = ["mark", "send", "send"].map(named);
    let (caller, mark_first) = named("mark:1");
    let response = with_held_write(&proxied, &pair, caller, mark_first.clone(), async {
        for (caller, request) in &meanwhile {
            let response = pair.send(*caller, request).await;
            assert!(response.status < 300, "{response:?}");
        }
    })
    .await;
    response.expect_status(200);
    for (caller, request) in &meanwhile {
        pair.expected(*caller, request);
    }
    pair.expected(caller, &mark_first);
    pair.assert_equals_model("a late mark").await;
    assert_consistent(&proxied).await;
}

/// A block without counters is a single conditional update, which has no token.
#[tokio::test]
async fn a_block_or_unblock_whose_response_is_lost_takes_effect_once() {
    let proxied = start_without_delays().await;
    let effects = [
        FaultEffect::LoseResponse,
        FaultEffect::DropAfter,
        FaultEffect::Delay(Duration::from_millis(700)),
        FaultEffect::DropBefore,
        FaultEffect::NeverRespond,
    ];
    for before in ["", "active", "request withdraw"] {
        for effect in &effects {
            let name = format!("{before}, {effect:?}");
            let mut pair = pair_after(&proxied, before).await;
            let chat = pair.chat_id();
            let inject = || proxied.inject_next([Fault::new("UpdateItem", effect.clone())]);
            let state = async || proxied.stack.table.chat(&chat).await["STATE"].clone();
            let is_low = pair.users[1].id < pair.users[0].id;
            let block = if is_low { "lowBlock" } else { "highBlock" };

            inject();
            let blocked = pair.perform(1, &PairRequest::Block).await;
            let stored = state().await;
            let blocked_at = Timestamp::from_millis(stored[block].as_u64().unwrap());
            assert_eq!(blocked.body["blockedAt"], blocked_at.to_string(), "{name}");
            assert_eq!(stored["v"], 1, "{name}");
            let again = pair.perform(1, &PairRequest::Block).await;
            assert_eq!(again.body, blocked.body, "{name}");
            let listed = pair.users[1].get("/blocks").await.expect_status(200);
            assert_eq!(listed.body["blocks"], json!([blocked.body]), "{name}");

            inject();
            pair.perform(1, &PairRequest::Unblock).await;
            let stored = state().await;
            assert_eq!(stored["v"], 2, "{name}");
            assert_eq!(stored[block], Value::Null, "{name}");
            assert!(!proxied.has_pending_faults(), "{name}");
        }
    }
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_block_waits_for_a_transaction_that_has_locked_the_chat() {
    let proxied = start_without_delays().await;
    let mut pair = pair_after(&proxied, "active").await;
    let conflict = Fault::error("UpdateItem", 400, "TransactionConflictException");
    proxied.inject_next(std::iter::repeat_n(conflict, 3));
    pair.perform(1, &PairRequest::Block).await;
    assert!(!proxied.has_pending_faults());
    pair.assert_equals_model("a block that waited").await;
    assert_consistent(&proxied).await;
}

/// DynamoDB does not promise to report each condition of a transaction that has failed. A request assumes that the
/// pair has no chat. If only the condition of the cap is reported, the pair can have one all the same.
#[tokio::test]
async fn the_cap_applies_only_to_a_request_that_would_open_one_more() {
    let mut options = support::stack_options();
    let cap = ("MAX_OPEN_REQUESTS".to_owned(), "1".to_owned());
    options.environment.extend([cap]);
    let proxied = ProxiedStack::start_with(options).await;
    proxied.set_fault_plan(FaultPlan::none());
    let request = PairRequest::RequestChat;
    for (before, status) in [
        ("", 429),
        ("active", 200),
        ("counter-request", 200),
        ("request decline", 409),
        ("request withdraw", 429),
        ("block-back", 409),
        ("block", 429),
        ("block unblock", 429),
        ("active block", 200),
        ("active block-back", 409),
        ("request decline block", 409),
        ("counter-request block-back", 409),
        ("request withdraw block", 429),
    ] {
        for effect in [
            FaultEffect::ReportOneFailure,
            // All failed conditions are reported.
            FaultEffect::Delay(Duration::ZERO),
        ] {
            let pair = pair_after(&proxied, before).await;
            // The cap is reached with the request to somebody else.
            let other = proxied.stack.api.user();
            pair.users[0].request_chat(&other).await.expect_status(201);
            let table = proxied.stack.table.everything().await;
            proxied.inject_always([Fault::new("TransactWriteItems", effect)]);
            let response = pair.send(0, &request).await;
            proxied.inject_always(None);
            assert_eq!(response.status, status, "{before}: {response:?}");
            if status >= 400 {
                assert_eq!(proxied.stack.table.everything().await, table, "{before}");
            }
            assert_eq!(pair.users[0].totals().await[2], 1, "{before}");
        }
    }
    // The request that has reached the cap, again.
    let pair = pair_after(&proxied, "request").await;
    proxied.inject_always([Fault::new(
        "TransactWriteItems",
        FaultEffect::ReportOneFailure,
    )]);
    pair.send(0, &request).await.expect_status(200);
    proxied.inject_always(None);
    assert_consistent(&proxied).await;
}

#[tokio::test]
async fn a_page_of_changes_has_all_messages_when_batches_are_read_in_parts() {
    let proxied = start_without_delays().await;
    let mut pair = pair_after(&proxied, &format!("active{}", " send".repeat(12))).await;
    for change in
        "edit:3 delete:1 edit:12 edit-again:3 edit:7 delete:7 edit:2 edit:9 delete:5".split(' ')
    {
        let (caller, request) = named(change);
        pair.perform(caller, &request).await;
    }
    for seed in 0..10 {
        let part = Fault::new("BatchGetItem", FaultEffect::Unprocessed { seed });
        for limit in [4, 100] {
            proxied.inject_next([part.clone()]);
            let changes = PairRequest::ListChanges { after: 0, limit };
            pair.perform(1, &changes).await;
            let is_met = !proxied.has_pending_faults();
            assert!(is_met, "seed {seed}, limit {limit}");
        }
    }
    // A batch with a single key is throttled instead.
    proxied.inject_next([Fault::error(
        "BatchGetItem",
        400,
        "ProvisionedThroughputExceededException",
    )]);
    let (after, limit) = (8, 1);
    pair.perform(1, &PairRequest::ListChanges { after, limit })
        .await;
    assert!(!proxied.has_pending_faults());
}
