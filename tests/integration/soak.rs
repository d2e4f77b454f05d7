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
    invariants::{admin_findings, invariant_violations},
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
    assert_eq!(admin_findings(&stack.table).await, [""; 0]);
    stack.stack.stop().await;
}

/// Sends a random request of a random user. Returns the status.
async fn send_any_request(users: &[User]) -> u16 {
    let me = fastrand::usize(..users.len());
    let other = (me + fastrand::usize(1..users.len())) % users.len();
    let (me, other) = (&users[me], &users[other]);
    let chat = me.chat_id_with(other);
    // The numbers of messages that the chat probably has.
    let seq = fastrand::u64(1..40);
    let response = match fastrand::u8(..36) {
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
        19 => me.post("/chats", &json!({"userId": "wrong"})).await,
        20..23 => {
            me.edit_text(&chat, seq, &format!("edit {}", fastrand::u8(..)))
                .await
        }
        23..25 => me.delete_message(&chat, seq).await,
        25..27 => me.mark_up_to(&chat, seq).await,
        27 => me.changes(&chat, "").await,
        28 => me.get_chat(&chat).await,
        29 => me.blocks("").await,
        30 => me.block(other).await,
        31..34 => me.unblock(other).await,
        34 => me.withdraw(&chat).await,
        _ => {
            let report = json!({"userId": other.id, "reason": "spam", "block": seq < 5});
            me.report(&report).await
        }
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
        "edit-message",
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
