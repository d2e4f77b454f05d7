//! Cost tests: sequential round trips and capacity units of each endpoint, against a budget.
//!
//! The capacity units are those that the embedded DynamoDB reports. They match captures from AWS. A
//! cancelled transaction reports none.
//!
//! The tests of growth compare the cost of the same request with little and with much data. It must be exactly the
//! same, because a cost that grows with the data is a defect. The benchmark (`scaling`) shows more sizes.

use std::time::Duration;

use chat_shared::{
    domain::{
        ChatId, ContentChange, MessageContent, NewReport, ReportReason, Seq, Timestamp, UserId,
    },
    store::{Connection, FrameAdmission, Store, TableClient, Usage},
};
use serde_json::json;

use crate::{
    Table, TestStack,
    dynamodb_proxy::{Cost, ProxiedStack},
    support::{Response, User},
};

/// Sends one request, and asserts that it stays within `[round trips, write units, read units]`. The
/// write units must be exact: fewer would mean that the request no longer updates a counter.
async fn assert_cost(
    proxied: &ProxiedStack,
    name: &str,
    [round_trips, write_units, read_units]: [f64; 3],
    request: impl Future<Output = Response>,
) -> Cost {
    proxied.drain_cost();
    let response = request.await;
    assert!(response.status < 300, "{name}: {response:?}");
    let cost = proxied.drain_cost();
    #[expect(clippy::cast_precision_loss, reason = "there are few round trips")]
    let trips = cost.round_trips() as f64;
    assert!(
        trips <= round_trips,
        "{name}: {trips} round trips: {cost:?}"
    );
    assert!(
        (cost.write_units() - write_units).abs() < 0.01,
        "{name}: {} WRU: {cost:?}",
        cost.write_units()
    );
    for operation in &cost.operations {
        let consistent = !operation.is_write() && operation.index.is_none();
        assert_eq!(operation.consistent, consistent, "{name}: {operation:?}");
    }
    assert!(
        cost.read_units() <= read_units,
        "{name}: {} RRU: {cost:?}",
        cost.read_units()
    );
    cost
}

/// A text of 200 bytes: a short message in the budgets.
fn short_text() -> String {
    "x".repeat(200)
}

async fn active_chat_with_messages(proxied: &ProxiedStack, count: usize) -> (User, User, String) {
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    for _ in 0..count {
        ann.send(&chat, &short_text()).await.expect_status(201);
    }
    (ann, ben, chat)
}

#[tokio::test]
async fn requesting_a_chat_costs_one_round_trip_and_8_units() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben) = (proxied.stack.api.user(), proxied.stack.api.user());
    assert_cost(&proxied, "new", [1.0, 8.0, 0.0], ann.request_chat(&ben)).await;
    assert_cost(
        &proxied,
        "repeated",
        [1.0, 0.0, 0.0],
        ann.request_chat(&ben),
    )
    .await;
    assert_cost(&proxied, "mutual", [2.0, 10.0, 1.0], ben.request_chat(&ann)).await;
    let (cat, dan) = (proxied.stack.api.user(), proxied.stack.api.user());
    cat.request_chat(&dan).await.expect_status(201);
    dan.decline(&cat.chat_id_with(&dan))
        .await
        .expect_status(200);
    assert_cost(&proxied, "swap", [2.0, 10.0, 1.0], dan.request_chat(&cat)).await;
}

#[tokio::test]
async fn accepting_or_declining_costs_two_round_trips_and_10_units() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let (ann, ben, cat) = (api.user(), api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    assert_cost(&proxied, "accept", [2.0, 10.0, 1.0], ben.accept(&chat)).await;
    assert_cost(&proxied, "accept again", [1.0, 0.0, 1.0], ben.accept(&chat)).await;
    ann.request_chat(&cat).await.expect_status(201);
    let chat = ann.chat_id_with(&cat);
    assert_cost(&proxied, "decline", [2.0, 10.0, 1.0], cat.decline(&chat)).await;
    assert_cost(
        &proxied,
        "decline again",
        [1.0, 0.0, 1.0],
        cat.decline(&chat),
    )
    .await;
}

#[tokio::test]
async fn the_first_page_of_chats_costs_one_round_trip_and_2_units_per_index() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let me = api.user();
    // The largest items: ids of 16 digits and a last message of 120 code points of 4 bytes.
    for n in 0..34_u64 {
        let friend = api.user_with_id(9_007_199_254_740_991 - n);
        let chat = if n % 2 == 0 {
            me.start_chat(&friend).await
        } else {
            friend.start_chat(&me).await
        };
        me.send(&chat, &"𝕏".repeat(120)).await.expect_status(201);
    }
    let cost = assert_cost(&proxied, "active", [1.0, 0.0, 4.0], me.get("/chats")).await;
    let mut indexes: Vec<_> = cost
        .operations
        .iter()
        .map(|operation| operation.index.clone().unwrap())
        .collect();
    indexes.sort();
    assert_eq!(indexes, ["byRecipient", "byRequester"]);
    assert!(
        cost.operations
            .iter()
            .all(|operation| operation.units <= 2.0),
        "{cost:?}"
    );
    let first = me.get("/chats").await;
    let by_cursor = format!("/chats?cursor={}", first.next_cursor().unwrap());
    assert_cost(
        &proxied,
        "active by cursor",
        [1.0, 0.0, 4.0],
        me.get(&by_cursor),
    )
    .await;
    for _ in 0..16 {
        me.request_chat(&api.user()).await.expect_status(201);
    }
    assert_cost(&proxied, "sent", [1.0, 0.0, 2.0], me.get("/chats/pending")).await;
    let received = me.get("/chats/pending?direction=received");
    assert_cost(&proxied, "received", [1.0, 0.0, 2.0], received).await;
    assert_cost(
        &proxied,
        "rejected",
        [1.0, 0.0, 2.0],
        me.get("/chats/rejected"),
    )
    .await;
}

#[tokio::test]
async fn the_newest_messages_cost_one_round_trip_and_older_ones_two() {
    let proxied = ProxiedStack::start().await;
    let (ann, _, chat) = active_chat_with_messages(&proxied, 40).await;
    assert_cost(&proxied, "newest", [1.0, 0.0, 2.0], ann.messages(&chat, "")).await;
    for query in ["?skip=20", "?before=20", "?after=5", "?skip=39"] {
        assert_cost(&proxied, query, [2.0, 0.0, 3.0], ann.messages(&chat, query)).await;
    }
    let page = ann.messages(&chat, "").await;
    let by_cursor = format!("?cursor={}", page.next_cursor().unwrap());
    assert_cost(
        &proxied,
        "cursor",
        [2.0, 0.0, 3.0],
        ann.messages(&chat, &by_cursor),
    )
    .await;
}

#[tokio::test]
async fn sending_costs_two_round_trips_and_10_units_or_12_with_a_key() {
    let proxied = ProxiedStack::start().await;
    let (ann, _, chat) = active_chat_with_messages(&proxied, 1).await;
    assert_cost(
        &proxied,
        "send",
        [2.0, 10.0, 1.0],
        ann.send(&chat, &short_text()),
    )
    .await;
    let send_with_key = || ann.send_with_key(&chat, "key", "hi");
    assert_cost(
        &proxied,
        "send with a key",
        [2.0, 12.0, 1.0],
        send_with_key(),
    )
    .await;
    assert_cost(&proxied, "replay", [3.0, 0.0, 2.0], send_with_key()).await;
}

/// The chat has everything that later features have added to it: changes and blocks that have ended.
#[tokio::test]
async fn sending_costs_the_same_in_a_chat_with_changes_and_blocks() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 2).await;
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    ann.delete_message(&chat, 2).await.expect_status(200);
    for (blocker, other) in [(&ann, &ben), (&ben, &ann)] {
        blocker.block(other).await.expect_status(200);
        blocker.unblock(other).await.expect_status(200);
    }
    for (sender, key) in [(&ann, "a"), (&ben, "b")] {
        let text = short_text();
        let send = sender.send(&chat, &text);
        assert_cost(&proxied, "send", [2.0, 10.0, 1.0], send).await;
        let send = sender.send_with_key(&chat, key, &text);
        assert_cost(&proxied, "send with a key", [2.0, 12.0, 1.0], send).await;
        let replay = sender.send_with_key(&chat, key, &text);
        assert_cost(&proxied, "replay", [3.0, 0.0, 2.0], replay).await;
    }
    assert_cost(&proxied, "mark", [2.0, 6.0, 1.0], ben.mark_read(&chat)).await;
    let messages = ben.messages(&chat, "");
    assert_cost(&proxied, "messages", [1.0, 0.0, 2.0], messages).await;
    let totals = ben.get("/totals");
    assert_cost(&proxied, "totals", [1.0, 0.0, 1.0], totals).await;
    let chats = ben.get("/chats");
    assert_cost(&proxied, "chats", [1.0, 0.0, 4.0], chats).await;
}

/// The largest state of a chat must stay below 1 KB, or this would cost 16 units.
#[tokio::test]
async fn sending_the_longest_preview_in_the_chat_with_the_largest_ids_costs_10_units() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let (ann, ben) = (
        api.user_with_id(9_007_199_254_740_991),
        api.user_with_id(9_007_199_254_740_990),
    );
    let chat = ann.start_chat(&ben).await;
    let longest = "𝕏".repeat(120);
    ann.send(&chat, &longest).await.expect_status(201);
    ben.send(&chat, &longest).await.expect_status(201);
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    for (blocker, other) in [(&ann, &ben), (&ben, &ann)] {
        blocker.block(other).await.expect_status(200);
        blocker.unblock(other).await.expect_status(200);
    }
    let send = ann.send(&chat, &longest);
    assert_cost(&proxied, "send", [2.0, 10.0, 1.0], send).await;
}

#[tokio::test]
async fn one_chat_costs_one_round_trip_and_one_unit() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 3).await;
    for user in [&ann, &ben] {
        let request = user.get_chat(&chat);
        assert_cost(&proxied, "one chat", [1.0, 0.0, 1.0], request).await;
    }
}

#[tokio::test]
async fn withdrawing_costs_two_round_trips_and_8_units() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    ann.request_chat(&ben).await.expect_status(201);
    // The chat, its two rows in the indexes, and the two counters.
    let withdraw = ann.withdraw(&chat);
    assert_cost(&proxied, "withdraw", [2.0, 8.0, 1.0], withdraw).await;
    let again = ann.withdraw(&chat);
    assert_cost(&proxied, "withdraw again", [1.0, 0.0, 1.0], again).await;
    let request = ben.request_chat(&ann);
    assert_cost(&proxied, "request again", [2.0, 8.0, 1.0], request).await;
}

#[tokio::test]
async fn editing_costs_two_round_trips_and_10_units() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 2).await;
    let text = "y".repeat(200);
    for seq in [1, 2] {
        let edit = ann.edit_text(&chat, seq, &text);
        assert_cost(&proxied, "edit", [2.0, 10.0, 2.0], edit).await;
        let again = ann.edit_text(&chat, seq, &text);
        assert_cost(&proxied, "edit again", [1.0, 0.0, 2.0], again).await;
    }
    ben.mark_read(&chat).await.expect_status(200);
    let text = short_text();
    let edit = ann.edit_text(&chat, 1, &text);
    assert_cost(&proxied, "edit a read message", [2.0, 10.0, 2.0], edit).await;
}

#[tokio::test]
async fn deleting_costs_two_round_trips_and_10_units_or_12_for_an_unread_message() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 4).await;
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    for (name, seq, units) in [
        ("read", 1, 10.0),
        ("unread", 3, 12.0),
        ("the last one", 4, 12.0),
    ] {
        let delete = ann.delete_message(&chat, seq);
        assert_cost(&proxied, name, [2.0, units, 2.0], delete).await;
        let again = ann.delete_message(&chat, seq);
        assert_cost(&proxied, "again", [1.0, 0.0, 2.0], again).await;
    }
    // The unread messages of a user who blocks are in no total.
    ann.send(&chat, &short_text()).await.expect_status(201);
    ben.block(&ann).await.expect_status(200);
    let delete = ann.delete_message(&chat, 5);
    assert_cost(&proxied, "blocked", [2.0, 10.0, 2.0], delete).await;
}

#[tokio::test]
async fn the_first_page_of_changes_costs_three_round_trips_and_one_unit_a_message() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 20).await;
    let changes = ben.changes(&chat, "");
    assert_cost(&proxied, "none", [1.0, 0.0, 1.0], changes).await;
    for seq in 1..=20 {
        ann.edit_text(&chat, seq, &"y".repeat(200))
            .await
            .expect_status(200);
    }
    for (query, messages) in [("", 15.0), ("?after=15", 5.0), ("?after=20", 0.0)] {
        let changes = ben.changes(&chat, query);
        let budget = [3.0, 0.0, 2.0 + messages];
        assert_cost(&proxied, query, budget, changes).await;
    }
    // A message of 4 KB to 8 KB costs two units.
    let longest = "𝕏".repeat(1_900);
    ann.edit_text(&chat, 1, &longest).await.expect_status(200);
    let changes = ben.changes(&chat, "?after=20");
    assert_cost(&proxied, "a long message", [3.0, 0.0, 4.0], changes).await;
}

#[tokio::test]
async fn a_page_skips_many_messages_that_were_changed_again_in_few_round_trips() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 30).await;
    for text in ["first", "second"] {
        for seq in 1..=30 {
            ann.edit_text(&chat, seq, text).await.expect_status(200);
        }
    }
    // The state, one change and its message, then all other changes and their messages.
    let changes = ben.changes(&chat, "?limit=1");
    let cost = assert_cost(&proxied, "one", [5.0, 0.0, 35.0], changes).await;
    assert_eq!(cost.operations.len(), 5, "{cost:?}");
    let changes = ben.changes(&chat, "?after=30");
    assert_cost(&proxied, "the rest", [3.0, 0.0, 17.0], changes).await;
}

#[tokio::test]
async fn marking_up_to_a_message_costs_2_units_more_after_the_newest_change_has_expired() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 5).await;
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    let table = &proxied.stack.table;
    let sk = "CHG#0000000000000001";
    table.delete(&format!("CHAT#{chat}"), sk).await;
    let mark = ben.mark_up_to(&chat, 3);
    assert_cost(&proxied, "some", [3.0, 8.0, 3.0], mark).await;
    ben.mark_up_to(&chat, 3).await.expect_status(200);
}

#[tokio::test]
async fn marking_up_to_a_message_costs_three_round_trips_and_6_units() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 12).await;
    let mark = ben.mark_up_to(&chat, 3);
    assert_cost(&proxied, "some", [3.0, 6.0, 3.0], mark).await;
    ann.delete_message(&chat, 11).await.expect_status(200);
    let mark = ben.mark_up_to(&chat, 4);
    assert_cost(&proxied, "after a deletion", [3.0, 6.0, 3.0], mark).await;
    for seq in [2, 4] {
        let again = ben.mark_up_to(&chat, seq);
        assert_cost(&proxied, "nothing unread", [1.0, 0.0, 1.0], again).await;
    }
    // Nothing remains, so nothing is counted.
    let mark = ben.mark_up_to(&chat, 12);
    assert_cost(&proxied, "all", [2.0, 6.0, 1.0], mark).await;
}

#[tokio::test]
async fn a_block_costs_2_units_without_a_chat_4_with_one_7_with_a_total_and_9_with_a_withdrawal() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let assert_block = async |name: &str, blocker: &User, other: &User, units: f64| {
        let block = blocker.block(other);
        assert_cost(&proxied, name, [2.0, units, 1.0], block).await;
        let again = blocker.block(other);
        assert_cost(&proxied, name, [1.0, 0.0, 1.0], again).await;
    };
    let assert_unblock = async |name: &str, blocker: &User, other: &User, units: f64| {
        let unblock = blocker.unblock(other);
        assert_cost(&proxied, name, [2.0, units, 1.0], unblock).await;
        let again = blocker.unblock(other);
        assert_cost(&proxied, name, [1.0, 0.0, 1.0], again).await;
    };

    // The item of the pair and its row in one index.
    let (ann, ben) = (api.user(), api.user());
    assert_block("no chat", &ann, &ben, 2.0).await;
    assert_unblock("no chat", &ann, &ben, 2.0).await;

    // The own row moves, and the other one is replaced in place.
    let (ann, ben, chat) = api.active_chat().await;
    for (blocker, other) in [(&ann, &ben), (&ben, &ann)] {
        assert_block("nothing unread", blocker, other, 4.0).await;
        assert_unblock("nothing unread", blocker, other, 4.0).await;
    }

    // A transaction with the total costs twice as much for the items themselves.
    for _ in 0..3 {
        ann.send(&chat, &short_text()).await.expect_status(201);
    }
    assert_block("unread", &ben, &ann, 7.0).await;
    assert_unblock("unread", &ben, &ann, 7.0).await;

    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    assert_block("received request", &ben, &ann, 7.0).await;
    assert_unblock("received request", &ben, &ann, 7.0).await;
    // The request is withdrawn, which changes the counters of both.
    assert_block("sent request", &ann, &ben, 9.0).await;
    // The row of the other member is gone already.
    assert_unblock("sent request", &ann, &ben, 2.0).await;
}

#[tokio::test]
async fn the_list_of_blocks_costs_one_round_trip_and_2_units_per_index() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let me = api.user();
    for n in 0..34_u64 {
        let friend = api.user_with_id(9_007_199_254_740_991 - n);
        if n % 2 == 0 {
            me.start_chat(&friend).await;
        } else {
            friend.start_chat(&me).await;
        }
        let chat = me.chat_id_with(&friend);
        me.send(&chat, &"𝕏".repeat(120)).await.expect_status(201);
        me.block(&friend).await.expect_status(200);
    }
    let first = me.blocks("").await.expect_status(200);
    assert_cost(&proxied, "first", [1.0, 0.0, 4.0], me.blocks("")).await;
    let by_cursor = format!("?cursor={}", first.next_cursor().unwrap());
    let next = me.blocks(&by_cursor);
    assert_cost(&proxied, "by cursor", [1.0, 0.0, 4.0], next).await;
}

#[tokio::test]
async fn reporting_costs_two_round_trips_and_3_units() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 2).await;
    let user = json!({"userId": ann.id, "reason": "spam"});
    assert_cost(&proxied, "user", [2.0, 3.0, 2.0], ben.report(&user)).await;
    assert_cost(&proxied, "user again", [2.0, 0.0, 2.0], ben.report(&user)).await;
    let message = |seq: u64| json!({"userId": ann.id, "seq": seq, "reason": "spam"});
    let first = message(1);
    let report = ben.report(&first);
    assert_cost(&proxied, "message", [2.0, 3.0, 2.0], report).await;
    let again = ben.report(&first);
    assert_cost(&proxied, "message again", [2.0, 0.0, 2.0], again).await;
    // What was deleted is read, too.
    ann.delete_message(&chat, 2).await.expect_status(200);
    let second = message(2);
    let report = ben.report(&second);
    assert_cost(&proxied, "deleted message", [3.0, 3.0, 3.0], report).await;
}

#[tokio::test]
async fn a_report_that_blocks_costs_the_sum_of_both() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let with_block = |user: &User| json!({"userId": user.id, "reason": "spam", "block": true});
    let (ann, ben, _) = active_chat_with_messages(&proxied, 2).await;
    let unread = with_block(&ann);
    let report = ben.report(&unread);
    assert_cost(&proxied, "unread", [2.0, 3.0 + 7.0, 2.0], report).await;
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let received = with_block(&ann);
    let report = ben.report(&received);
    assert_cost(&proxied, "received request", [2.0, 3.0 + 7.0, 2.0], report).await;
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let sent = with_block(&ben);
    let report = ann.report(&sent);
    assert_cost(&proxied, "sent request", [2.0, 3.0 + 9.0, 2.0], report).await;
    // Alone, these blocks are no transactions. In one, the item of the pair costs one unit more.
    let (ann, ben, _) = active_chat_with_messages(&proxied, 0).await;
    let nothing_unread = with_block(&ann);
    let report = ben.report(&nothing_unread);
    assert_cost(&proxied, "nothing unread", [2.0, 3.0 + 5.0, 2.0], report).await;
    let (ann, ben) = (api.user(), api.user());
    let no_chat = with_block(&ann);
    let report = ben.report(&no_chat);
    assert_cost(&proxied, "no chat", [2.0, 3.0 + 3.0, 2.0], report).await;
    // The user is blocked already.
    let report = ben.report(&no_chat);
    assert_cost(&proxied, "again", [3.0, 0.0, 2.0], report).await;
}

#[tokio::test]
async fn a_request_that_a_block_refuses_costs_one_round_trip() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 1).await;
    ben.block(&ann).await.expect_status(200);
    let assert_refused = async |name: &str, units: f64, request: Response| {
        assert_eq!(request.status, 409, "{name}: {request:?}");
        let cost = proxied.drain_cost();
        assert_eq!(cost.round_trips(), 1, "{name}: {cost:?}");
        assert!(cost.write_units() < 0.01, "{name}: {cost:?}");
        assert!(cost.read_units() <= units, "{name}: {cost:?}");
    };
    proxied.drain_cost();
    let send = ann.send(&chat, "hi").await;
    assert_refused("send", 1.0, send).await;
    let edit = ann.edit_text(&chat, 1, "hi").await;
    assert_refused("edit", 2.0, edit).await;
    let accept = ben.accept(&chat).await;
    assert_refused("accept by who blocks", 1.0, accept).await;
    let send = ben.send(&chat, "hi").await;
    assert_refused("send by who blocks", 1.0, send).await;
    let mark = ben.mark_read(&chat).await;
    assert_refused("mark by who blocks", 1.0, mark).await;
}

#[tokio::test]
async fn marking_as_read_costs_the_same_for_one_message_and_for_many() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 1).await;
    assert_cost(&proxied, "one", [2.0, 6.0, 1.0], ben.mark_read(&chat)).await;
    for _ in 0..30 {
        ann.send(&chat, &short_text()).await.expect_status(201);
    }
    assert_cost(&proxied, "many", [2.0, 6.0, 1.0], ben.mark_read(&chat)).await;
    assert_cost(&proxied, "none", [1.0, 0.0, 1.0], ben.mark_read(&chat)).await;
}

#[tokio::test]
async fn totals_cost_one_round_trip_and_one_unit_with_all_shards_in_use() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let me = api.user();
    for _ in 0..30 {
        let friend = api.user();
        let chat = friend.start_chat(&me).await;
        friend.send(&chat, "hi").await.expect_status(201);
        me.request_chat(&api.user()).await.expect_status(201);
        api.user().request_chat(&me).await.expect_status(201);
    }
    assert_eq!(proxied.stack.table.user(me.id).await.len(), 9);
    assert_cost(&proxied, "totals", [1.0, 0.0, 1.0], me.get("/totals")).await;
    assert_cost(
        &proxied,
        "unread",
        [1.0, 0.0, 1.0],
        me.get("/totals/unread"),
    )
    .await;
}

#[tokio::test]
async fn a_request_that_is_rejected_without_the_table_costs_nothing() {
    let proxied = ProxiedStack::start().await;
    let user = proxied.stack.api.user();
    proxied.drain_cost();
    proxied
        .stack
        .api
        .request("GET", "/totals")
        .send()
        .await
        .expect_status(401);
    user.post("/chats", &json!({"userId": user.id}))
        .await
        .expect_status(400);
    user.get("/chats?limit=0").await.expect_status(400);
    user.messages("1-2", "").await.expect_status(404);
    user.send("1-2", "hi").await.expect_status(404);
    assert_eq!(proxied.drain_cost().operations.len(), 0);
}

/// The functions' store without the proxy and for one request, to fill a table fast.
fn direct_store(table: &Table) -> Store {
    let table = TableClient::new(table.client.clone(), &table.name);
    table.store_at(Timestamp::now())
}

fn user_id(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn pair(one: UserId, other: UserId) -> ChatId {
    ChatId::between(one, other).unwrap()
}

/// Other users with the largest ids, from the first to the last number.
fn others(numbers: std::ops::Range<u64>) -> impl Iterator<Item = UserId> {
    numbers.map(|number| user_id(9_007_199_254_740_991 - number))
}

/// Write units and read units of a successful request.
async fn units_of(proxied: &ProxiedStack, request: impl Future<Output = Response>) -> (f64, f64) {
    proxied.drain_cost();
    let response = request.await;
    assert!(response.status < 300, "{response:?}");
    let cost = proxied.drain_cost();
    (cost.write_units(), cost.read_units())
}

#[tokio::test]
async fn calls_on_a_chat_cost_the_same_with_8_and_with_200_messages() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = active_chat_with_messages(&proxied, 8).await;
    // The message `deleted` is unread, and five messages remain unread.
    let costs = async |messages: u64, text: &str, deleted: u64| {
        [
            units_of(&proxied, ben.get_chat(&chat)).await,
            units_of(&proxied, ann.edit_text(&chat, 1, text)).await,
            units_of(&proxied, ann.delete_message(&chat, deleted)).await,
            units_of(&proxied, ben.mark_up_to(&chat, messages - 5)).await,
        ]
    };
    let few = costs(8, &"y".repeat(200), 2).await;
    for _ in 8..200 {
        let content = MessageContent::new(Some(short_text()), None, None).unwrap();
        direct_store(&proxied.stack.table)
            .send_message(user_id(ann.id), chat.parse().unwrap(), content, None)
            .await
            .unwrap();
    }
    let many = costs(200, &"z".repeat(200), 100).await;
    assert_eq!(many, few);
}

#[tokio::test]
async fn a_page_of_changes_costs_the_same_with_20_and_with_200_changes() {
    const MESSAGES: u64 = 200;

    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    let (sender, id): (_, ChatId) = (user_id(ann.id), chat.parse().unwrap());
    let store = || direct_store(&proxied.stack.table);
    for _ in 0..MESSAGES {
        let content = MessageContent::new(Some(short_text()), None, None).unwrap();
        store()
            .send_message(sender, id, content, None)
            .await
            .unwrap();
    }
    let edit = async |seqs: std::ops::RangeInclusive<u64>| {
        let change = ContentChange {
            text: Some(Some("y".repeat(200))),
            ..ContentChange::default()
        };
        for seq in seqs {
            let seq = Some(Seq::new(seq));
            store()
                .edit_message(sender, id, seq, &change)
                .await
                .unwrap();
        }
    };
    let costs = async |after: u64| {
        [
            units_of(&proxied, ben.changes(&chat, "")).await,
            units_of(&proxied, ben.changes(&chat, &format!("?after={after}"))).await,
        ]
    };
    edit(1..=20).await;
    let few = costs(5).await;
    edit(21..=MESSAGES).await;
    assert_eq!(costs(100).await, few);
}

#[tokio::test]
async fn blocks_and_reports_cost_the_same_with_40_and_with_200_of_them() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let me = api.user_with_id(9_007_199_254_000_000);
    let fill = async |numbers: std::ops::Range<u64>| {
        for other in others(numbers) {
            let report = NewReport {
                reporter: user_id(me.id),
                chat: pair(user_id(me.id), other),
                seq: None,
                reason: ReportReason::Spam,
                note: None,
                block: true,
            };
            let store = direct_store(&proxied.stack.table);
            assert!(store.report_user(&report).await.is_ok());
        }
    };
    let costs = async |new_user: u64| {
        let other = api.user_with_id(new_user);
        let first = me.blocks("").await;
        let by_cursor = format!("?cursor={}", first.next_cursor().unwrap());
        let report = json!({"userId": other.id, "reason": "spam"});
        [
            units_of(&proxied, me.blocks("")).await,
            units_of(&proxied, me.blocks(&by_cursor)).await,
            units_of(&proxied, me.block(&other)).await,
            units_of(&proxied, me.unblock(&other)).await,
            units_of(&proxied, me.report(&report)).await,
        ]
    };
    fill(0..40).await;
    let few = costs(9_007_199_254_100_000).await;
    fill(40..200).await;
    assert_eq!(costs(9_007_199_254_100_001).await, few);
}

/// To read 202 rows of each of two indexes would cost twice as much.
#[tokio::test]
async fn a_deep_skip_costs_the_same_with_chats_in_one_and_in_two_indexes() {
    let proxied = ProxiedStack::start().await;
    let api = &proxied.stack.api;
    let table = TableClient::new(
        proxied.stack.table.client.clone(),
        &proxied.stack.table.name,
    );
    let (ann, ben) = (api.user(), api.user());
    let now = Timestamp::now();
    let block = async |by: UserId, other: UserId, number: u64| {
        let store = table.store_at(now + Duration::from_secs(number));
        store.block_user(by, pair(by, other)).await.unwrap();
    };
    // The user who blocks first is the requester.
    for (number, other) in (0..).zip(others(0..210)) {
        block(user_id(ann.id), other, number).await;
    }
    for (number, other) in (0..).zip(others(0..420)) {
        if number % 2 == 0 {
            block(other, user_id(ben.id), number).await;
        }
        block(user_id(ben.id), other, number).await;
    }
    let cost = async |user: &User| {
        proxied.drain_cost();
        let page = user.blocks("?skip=200&limit=1").await;
        assert_eq!(page.blocked_users().len(), 1, "{page:?}");
        let cost = proxied.drain_cost();
        // Both indexes at once, and then one of them.
        assert!(cost.operations.len() <= 3, "{cost:?}");
        cost.read_units()
    };
    let (in_one, in_two) = (cost(&ann).await, cost(&ben).await);
    assert!(in_two < 1.3 * in_one, "{in_two} and {in_one} read units");
}

#[tokio::test]
async fn a_connection_costs_the_same_with_0_and_with_200_other_connected_users() {
    let stack = TestStack::start().await;
    let user = user_id(1);
    let table = TableClient::new(stack.table.client.clone(), &stack.table.name);
    let now = Timestamp::now();
    let store = || table.store_at(now);
    let connection = Connection {
        id: "a=".to_owned(),
        connected_at: now,
        token_expires_at: now + Duration::from_hours(1),
    };
    let costs = async || {
        let _ = table.drain_usage();
        let surplus = store().open_connection(user, &connection).await.unwrap();
        assert!(surplus.is_empty());
        let open = table.drain_usage();
        let admission = store().admit_frame(user, &connection.id, true).await;
        assert_eq!(admission.unwrap(), FrameAdmission::Admitted);
        store().totals(user).await.unwrap();
        let sync = table.drain_usage();
        let (connections, _) = store().connections_and_totals(user).await.unwrap();
        assert_eq!(connections.len(), 1);
        let event = table.drain_usage();
        store()
            .delete_connection(user, &connection.id)
            .await
            .unwrap();
        [open, sync, event, table.drain_usage()]
    };
    let alone: [Usage; 4] = costs().await;
    for other in others(0..200) {
        store().open_connection(other, &connection).await.unwrap();
    }
    assert_eq!(costs().await, alone);
}
