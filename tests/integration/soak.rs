//! Soak test: fifty clients at once for `SOAK_SECONDS` (by default 2). No request fails, and the table's
//! invariants hold afterwards.
//!
//! `SOAK_SECONDS=60 cargo test -p chat-functions --test integration soak -- --nocapture` prints figures.

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
    TestStack,
    invariants::invariant_violations,
    support::{User, env_number, run_concurrently},
};

const CLIENTS: usize = 50;
/// Few users, so that clients use the same chats and counters.
const USERS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_at_once_get_no_server_error_and_the_invariants_hold() {
    let duration = Duration::from_secs(env_number("SOAK_SECONDS", 2));
    let stack = TestStack::start().await;
    let users: Vec<_> = (1..=USERS).map(|id| stack.api.user_with_id(id)).collect();
    let users = Arc::new(users);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|_| {
        let (users, stop) = (users.clone(), stop.clone());
        async move {
            let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                *statuses.entry(send_any_request(&users).await).or_default() += 1;
            }
            statuses
        }
    });
    let started = Instant::now();
    let clock = async {
        tokio::time::sleep(duration / 3).await;
        let early = resident_memory(&stack);
        tokio::time::sleep(duration * 2 / 3).await;
        stop.store(true, Ordering::Relaxed);
        (early, resident_memory(&stack))
    };
    let (counts, (early, late)) = tokio::join!(run_concurrently(clients), clock);
    let elapsed = started.elapsed().as_secs_f64();

    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for (status, count) in counts.into_iter().flatten() {
        *statuses.entry(status).or_default() += count;
    }
    let count: u64 = statuses.values().sum();
    println!("{count} requests in {elapsed:.1} s by status: {statuses:?}");
    if let (Some(early), Some(late)) = (early, late) {
        println!(
            "resident KiB of the instances (count, mean, max): early {early:?}, late {late:?}"
        );
    }
    assert!(statuses.keys().all(|status| *status < 500), "{statuses:?}");
    assert!(count > 0, "no request was sent");
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
    stack.stack.stop().await;
}

/// Sends a random request of a random user. Returns the status.
async fn send_any_request(users: &[User]) -> u16 {
    let me = fastrand::usize(..users.len());
    let other = (me + fastrand::usize(1..users.len())) % users.len();
    let (me, other) = (&users[me], &users[other]);
    let chat = me.chat_id_with(other);
    let response = match fastrand::u8(..20) {
        0 | 1 => me.request_chat(other).await,
        2 => me.accept(&chat).await,
        3 => me.decline(&chat).await,
        4..9 => me.send(&chat, "hello").await,
        9..11 => {
            // Few keys, so that some are used again.
            let key = fastrand::u16(..500).to_string();
            me.send_with_key(&chat, &key, &key).await
        }
        11..13 => me.mark_read(&chat).await,
        13 | 14 => me.messages(&chat, "").await,
        15 => me.messages(&chat, "?skip=20").await,
        16 => me.get("/chats").await,
        17 => me.get("/chats/pending?direction=received").await,
        18 => me.get("/totals").await,
        _ => me.post("/chats", &json!({"userId": "wrong"})).await,
    };
    response.status
}

/// The number of instances, and the mean and maximum of their resident memory in KiB. `None` if the system
/// has no `/proc`, which only Linux has in this form.
fn resident_memory(stack: &TestStack) -> Option<(usize, u64, u64)> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let functions = [
        "send-message",
        "mark-messages-read",
        "list-messages",
        "get-totals",
    ];
    let processes = functions
        .iter()
        .flat_map(|function| stack.stack.instance_pids(function));
    let resident = processes.filter_map(|process| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let resident: Vec<_> = resident.collect();
    let mean = resident.iter().sum::<u64>() / (resident.len() as u64).max(1);
    let max = resident.iter().copied().max().unwrap_or_default();
    Some((resident.len(), mean, max))
}
