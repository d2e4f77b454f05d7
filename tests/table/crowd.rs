//! Two hundred people write to one user at once, while a transaction holds its items as long as in
//! production: no send fails, the totals stay exact; and what the shards of the totals are for.
//!
//! `cargo test -p chat-functions --test table crowd -- --nocapture` shows figures.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use chat_shared::{
    domain::{ChatId, Content, Timestamp, UserId},
    store::{Connection, Sent},
};

use crate::{Table, invariants::broken, recorder::Recorded, support::all, weather::Weather};

const SENDERS: u64 = 200;
/// What the template gives a call. One counter item would need longer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

/// Each sender sends one message, all at once; what those that were accepted took, sorted.
async fn everybody_writes(store: &Connection, star: UserId, limit: Duration) -> Vec<Duration> {
    let sends = (1..=SENDERS).map(|sender| {
        let store = store.clone();
        async move {
            let chat = ChatId::between(user(sender), star).unwrap();
            let content = Content::new(Some("hello".to_owned()), None, None).unwrap();
            let began = Instant::now();
            let store = store.at(Timestamp::now());
            let sent = store.send_message(user(sender), chat, content, None);
            let sent = tokio::time::timeout(limit, sent).await;
            matches!(sent, Ok(Ok(Sent::New(_)))).then(|| began.elapsed())
        }
    });
    let mut times: Vec<_> = all(sends).await.into_iter().flatten().collect();
    times.sort_unstable();
    times
}

/// The functions' own store, two hundred times at once, without their processes: so many would
/// measure this machine.
async fn crowd(one_counter: bool) -> (Recorded, Vec<Duration>, f64) {
    let recorded = Recorded::start().await;
    let (endpoint, name) = {
        let stack = &recorded.local.stack;
        (
            stack.dynamodb_endpoint().to_owned(),
            stack.table().to_owned(),
        )
    };
    let client: Client = Table::at(&endpoint, &name).client;
    let store = Connection::new(client, &name);
    let star = user(1_000);
    let befriend = (1..=SENDERS).map(|sender| {
        let store = store.clone();
        async move {
            let store = store.at(Timestamp::now());
            let chat = ChatId::between(user(sender), star).unwrap();
            assert!(store.request_chat(user(sender), chat).await.is_ok());
            store.accept_chat(star, chat).await.unwrap();
        }
    });
    all(befriend).await;
    recorded.overlaps();
    recorded.weather(Weather::crowded(one_counter));
    let began = Instant::now();
    // How long it takes on a busy machine is no matter for a test, so there is no limit with shards.
    let limit = if one_counter {
        TIME_LIMIT
    } else {
        Duration::MAX
    };
    let times = everybody_writes(&store, star, limit).await;
    let took = began.elapsed();
    recorded.weather(Weather::fair());
    recorded.quiet().await;
    let overlaps = recorded.overlaps();
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let rate = overlaps.conflicts as f64 / overlaps.attempts as f64;
    println!(
        "{SENDERS} senders, totals in {}: {} accepted in {took:.1?} (median {:.1?}, slowest {:.1?}); {} of {} \
         transactions conflicted ({:.0} %)",
        if one_counter { "one item" } else { "shards" },
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
        overlaps.conflicts,
        overlaps.attempts,
        rate * 100.0,
    );
    (recorded, times, rate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_people_write_to_one_user_at_once_and_none_fails() {
    let (recorded, times, rate) = crowd(false).await;
    assert_eq!(times.len() as u64, SENDERS);
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
    assert_eq!(
        recorded.local.api.user_with_id(1_000).totals().await,
        [0, SENDERS, 0]
    );
    assert!(rate > 0.0, "nobody met anybody");

    // What one counter item would do instead; what fails there has not happened.
    let (recorded, times, rate_of_one) = crowd(true).await;
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
    let unread = recorded.local.api.user_with_id(1_000).totals().await[1];
    assert!(unread >= times.len() as u64);
    assert!(
        rate_of_one > rate,
        "{rate_of_one} with one item, {rate} with shards"
    );
}
