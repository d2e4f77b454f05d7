//! Cost tests: sequential round trips and capacity units of each endpoint, against a budget.
//!
//! The capacity units are those that the embedded DynamoDB reports. They match captures from AWS. A
//! cancelled transaction reports none.

use serde_json::json;

use crate::{
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
        let is_read = operation.name != "TransactWriteItems";
        let consistent = is_read && operation.index.is_none();
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
