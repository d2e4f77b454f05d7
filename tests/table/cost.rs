//! The budget of each call: sequential round trips and capacity units, exactly.
//!
//! Units are those that the embedded DynamoDB reports, which match captures from AWS; a cancelled
//! transaction reports none.

use serde_json::json;

use crate::{
    recorder::{Cost, Recorded},
    support::{Answer, User},
};

/// Runs one call, and asserts that it stays within `[round trips, written units, read units]`.
/// Written units must be met exactly: fewer would mean that something is no longer counted.
async fn costs(
    recorded: &Recorded,
    what: &str,
    [round_trips, written, read]: [f64; 3],
    call: impl Future<Output = Answer>,
) -> Cost {
    recorded.cost();
    let answer = call.await;
    assert!(answer.status < 300, "{what}: {answer:?}");
    let cost = recorded.cost();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let trips = cost.round_trips() as f64;
    assert!(
        trips <= round_trips,
        "{what}: {trips} round trips: {cost:?}"
    );
    assert!(
        (cost.written() - written).abs() < 0.01,
        "{what}: {} WRU: {cost:?}",
        cost.written()
    );
    for operation in &cost.operations {
        let read = operation.name != "TransactWriteItems";
        let consistent = read && operation.index.is_none();
        assert_eq!(operation.consistent, consistent, "{what}: {operation:?}");
    }
    assert!(cost.read() <= read, "{what}: {} RRU: {cost:?}", cost.read());
    cost
}

/// 200 bytes: what "short" means in the budgets.
fn short() -> String {
    "x".repeat(200)
}

async fn friends_with_messages(recorded: &Recorded, count: usize) -> (User, User, String) {
    let (ann, ben, chat) = recorded.local.api.friends().await;
    for _ in 0..count {
        ann.say(&chat, &short()).await.is(201);
    }
    (ann, ben, chat)
}

#[tokio::test]
async fn asking_for_a_chat_costs_one_round_trip_and_8_units() {
    let recorded = Recorded::start().await;
    let (ann, ben) = (recorded.local.api.user(), recorded.local.api.user());
    costs(&recorded, "new", [1.0, 8.0, 0.0], ann.ask(&ben)).await;
    costs(&recorded, "repeated", [1.0, 0.0, 0.0], ann.ask(&ben)).await;
    costs(&recorded, "mutual", [2.0, 10.0, 1.0], ben.ask(&ann)).await;
    let (cat, dan) = (recorded.local.api.user(), recorded.local.api.user());
    cat.ask(&dan).await.is(201);
    dan.decline(&cat.chat_with(&dan)).await.is(200);
    costs(&recorded, "swap", [2.0, 10.0, 1.0], dan.ask(&cat)).await;
}

#[tokio::test]
async fn answering_a_request_costs_two_round_trips_and_10_units() {
    let recorded = Recorded::start().await;
    let api = &recorded.local.api;
    let (ann, ben, cat) = (api.user(), api.user(), api.user());
    ann.ask(&ben).await.is(201);
    let chat = ann.chat_with(&ben);
    costs(&recorded, "accept", [2.0, 10.0, 1.0], ben.accept(&chat)).await;
    costs(
        &recorded,
        "accept again",
        [1.0, 0.0, 1.0],
        ben.accept(&chat),
    )
    .await;
    ann.ask(&cat).await.is(201);
    let chat = ann.chat_with(&cat);
    costs(&recorded, "decline", [2.0, 10.0, 1.0], cat.decline(&chat)).await;
    costs(
        &recorded,
        "decline again",
        [1.0, 0.0, 1.0],
        cat.decline(&chat),
    )
    .await;
}

#[tokio::test]
async fn a_first_page_of_chats_costs_one_round_trip_and_2_units_an_index() {
    let recorded = Recorded::start().await;
    let api = &recorded.local.api;
    let me = api.user();
    // The widest rows: ids of 16 digits and a last message of 120 code points of 4 bytes.
    for n in 0..34_u64 {
        let friend = api.user_with_id(9_007_199_254_740_991 - n);
        let chat = if n % 2 == 0 {
            me.befriend(&friend).await
        } else {
            friend.befriend(&me).await
        };
        me.say(&chat, &"𝕏".repeat(120)).await.is(201);
    }
    let cost = costs(&recorded, "active", [1.0, 0.0, 4.0], me.get("/chats")).await;
    let mut indexes: Vec<_> = cost
        .operations
        .iter()
        .map(|it| it.index.clone().unwrap())
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
    costs(
        &recorded,
        "active by cursor",
        [1.0, 0.0, 4.0],
        me.get(&by_cursor),
    )
    .await;
    for _ in 0..16 {
        me.ask(&api.user()).await.is(201);
    }
    costs(&recorded, "sent", [1.0, 0.0, 2.0], me.get("/chats/pending")).await;
    let received = me.get("/chats/pending?direction=received");
    costs(&recorded, "received", [1.0, 0.0, 2.0], received).await;
    costs(
        &recorded,
        "rejected",
        [1.0, 0.0, 2.0],
        me.get("/chats/rejected"),
    )
    .await;
}

#[tokio::test]
async fn the_newest_messages_cost_one_round_trip_and_any_depth_two() {
    let recorded = Recorded::start().await;
    let (ann, _, chat) = friends_with_messages(&recorded, 40).await;
    costs(
        &recorded,
        "newest",
        [1.0, 0.0, 2.0],
        ann.messages(&chat, ""),
    )
    .await;
    for query in ["?skip=20", "?before=20", "?after=5", "?skip=39"] {
        costs(
            &recorded,
            query,
            [2.0, 0.0, 3.0],
            ann.messages(&chat, query),
        )
        .await;
    }
    let page = ann.messages(&chat, "").await;
    let by_cursor = format!("?cursor={}", page.next_cursor().unwrap());
    costs(
        &recorded,
        "cursor",
        [2.0, 0.0, 3.0],
        ann.messages(&chat, &by_cursor),
    )
    .await;
}

#[tokio::test]
async fn sending_costs_two_round_trips_and_10_units_or_12_with_a_key() {
    let recorded = Recorded::start().await;
    let (ann, _, chat) = friends_with_messages(&recorded, 1).await;
    costs(
        &recorded,
        "send",
        [2.0, 10.0, 1.0],
        ann.say(&chat, &short()),
    )
    .await;
    let keyed = || ann.say_once(&chat, "key", "hi");
    costs(&recorded, "send with a key", [2.0, 12.0, 1.0], keyed()).await;
    costs(&recorded, "replay", [3.0, 0.0, 2.0], keyed()).await;
}

#[tokio::test]
async fn marking_costs_the_same_for_one_message_and_for_many() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends_with_messages(&recorded, 1).await;
    costs(&recorded, "one", [2.0, 6.0, 1.0], ben.mark_read(&chat)).await;
    for _ in 0..30 {
        ann.say(&chat, &short()).await.is(201);
    }
    costs(&recorded, "many", [2.0, 6.0, 1.0], ben.mark_read(&chat)).await;
    costs(&recorded, "none", [1.0, 0.0, 1.0], ben.mark_read(&chat)).await;
}

#[tokio::test]
async fn totals_cost_one_round_trip_and_one_unit_with_all_shards_in_use() {
    let recorded = Recorded::start().await;
    let api = &recorded.local.api;
    let me = api.user();
    for _ in 0..30 {
        let friend = api.user();
        let chat = friend.befriend(&me).await;
        friend.say(&chat, "hi").await.is(201);
        me.ask(&api.user()).await.is(201);
        api.user().ask(&me).await.is(201);
    }
    assert_eq!(recorded.local.table.user(me.id).await.len(), 9);
    costs(&recorded, "totals", [1.0, 0.0, 1.0], me.get("/totals")).await;
    costs(
        &recorded,
        "unread",
        [1.0, 0.0, 1.0],
        me.get("/totals/unread"),
    )
    .await;
}

#[tokio::test]
async fn what_is_refused_before_the_table_is_asked_costs_nothing() {
    let recorded = Recorded::start().await;
    let user = recorded.local.api.user();
    recorded.cost();
    recorded
        .local
        .api
        .request("GET", "/totals")
        .send()
        .await
        .is(401);
    user.post("/chats", &json!({"userId": user.id}))
        .await
        .is(400);
    user.get("/chats?limit=0").await.is(400);
    user.messages("1-2", "").await.is(404);
    user.say("1-2", "hi").await.is(404);
    assert_eq!(recorded.cost().operations.len(), 0);
}
