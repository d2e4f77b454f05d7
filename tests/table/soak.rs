//! Fifty callers at once, for `SOAK_SECONDS` (default 2): no error, and the invariants hold after.
//!
//! `SOAK_SECONDS=60 cargo test -p chat-functions --test table soak -- --nocapture` shows figures.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Local,
    invariants::broken,
    support::{User, all},
};

const CALLERS: usize = 50;
/// Few users, so that callers meet in chats and at counters.
const USERS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_at_once_meet_no_error_and_the_invariants_hold() {
    let seconds = std::env::var("SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(2));
    let local = Local::start().await;
    let users: Vec<_> = (1..=USERS).map(|id| local.api.user_with_id(id)).collect();
    let users = Arc::new(users);
    let over = Arc::new(AtomicBool::new(false));
    let callers = (0..CALLERS).map(|_| {
        let (users, over) = (users.clone(), over.clone());
        async move {
            let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                *statuses.entry(one_call(&users).await).or_default() += 1;
            }
            statuses
        }
    });
    let began = Instant::now();
    let clock = async {
        tokio::time::sleep(duration / 3).await;
        let early = memory(&local);
        tokio::time::sleep(duration * 2 / 3).await;
        over.store(true, Ordering::Relaxed);
        (early, memory(&local))
    };
    let (calls, (early, late)) = tokio::join!(all(callers), clock);
    let took = began.elapsed().as_secs_f64();

    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for (status, count) in calls.into_iter().flatten() {
        *statuses.entry(status).or_default() += count;
    }
    let count: u64 = statuses.values().sum();
    println!("{count} calls in {took:.1} s by status: {statuses:?}");
    println!("resident KiB of all instances (count, mean, max): early {early:?}, late {late:?}");
    assert!(statuses.keys().all(|status| *status < 500), "{statuses:?}");
    assert!(count > 0);
    assert_eq!(broken(&local.table).await, [""; 0]);
    local.stack.stop().await;
}

/// A call of a random kind by a random user; its status.
async fn one_call(users: &[User]) -> u16 {
    let me = fastrand::usize(..users.len());
    let other = (me + fastrand::usize(1..users.len())) % users.len();
    let (me, other) = (&users[me], &users[other]);
    let chat = me.chat_with(other);
    let answer = match fastrand::u8(..20) {
        0 | 1 => me.ask(other).await,
        2 => me.accept(&chat).await,
        3 => me.decline(&chat).await,
        4..9 => me.say(&chat, "hello").await,
        9..11 => {
            // A few keys, so that some are repeated.
            let key = fastrand::u16(..500).to_string();
            me.say_once(&chat, &key, &key).await
        }
        11..13 => me.mark_read(&chat).await,
        13 | 14 => me.messages(&chat, "").await,
        15 => me.messages(&chat, "?skip=20").await,
        16 => me.get("/chats").await,
        17 => me.get("/chats/pending?direction=received").await,
        18 => me.get("/totals").await,
        _ => me.post("/chats", &json!({"userId": "wrong"})).await,
    };
    answer.status
}

/// Of all instances: how many, their mean and their largest resident memory in KiB.
fn memory(local: &Local) -> (usize, u64, u64) {
    let functions = [
        "send-message",
        "mark-messages-read",
        "list-messages",
        "get-totals",
    ];
    let processes = functions
        .iter()
        .flat_map(|function| local.stack.instances(function));
    let resident = processes.filter_map(|process| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let resident: Vec<_> = resident.collect();
    let mean = resident.iter().sum::<u64>() / (resident.len() as u64).max(1);
    (
        resident.len(),
        mean,
        resident.into_iter().max().unwrap_or_default(),
    )
}
