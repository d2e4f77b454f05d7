//! Contention tests: 200 senders to one user at once, conflicts between transactions on the totals of one user, and
//! changes of the messages of one chat at once. Transactions lock their items as long as in production.
//!
//! `cargo test -p chat-functions --test integration contention -- --nocapture` prints figures.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use chat_shared::{
    domain::{ChatId, ContentChange, MessageContent, Seq, Timestamp, UserId},
    store::{SendOutcome, TableClient, items::TotalsItem},
};
use tokio::task::JoinHandle;

use crate::{
    Table,
    dynamodb_proxy::{ConflictStats, Fault, FaultEffect, ProxiedStack},
    eventually,
    fault_injection::FaultPlan,
    invariants::{admin_findings, invariant_violations},
    support::run_concurrently,
    within_limit,
};

const SENDERS: u64 = 200;
/// The recipient of all messages.
const RECIPIENT: u64 = 1_000;
/// The time limit of a request in the template. With a single counter, many sends exceed it.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A limit for the test alone. With shards the time is not asserted, because it depends on the machine.
const TEST_LIMIT: Duration = Duration::from_mins(3);

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn chat_with_recipient(sender: u64) -> ChatId {
    ChatId::between(user(sender), user(RECIPIENT)).unwrap()
}

/// The functions' store, connected through the proxy. The tests use it without the functions, because
/// 200 processes at once would test the machine instead.
fn table_client(proxied: &ProxiedStack) -> TableClient {
    let stack = &proxied.stack.stack;
    let client = Table::at(stack.dynamodb_endpoint(), stack.table()).client;
    TableClient::new(client, stack.table())
}

/// Makes the chat of a sender and the recipient active.
async fn start_chat(table: TableClient, sender: u64) {
    let store = table.store_at(Timestamp::now());
    let chat = chat_with_recipient(sender);
    assert!(store.request_chat(user(sender), chat).await.is_ok());
    store.accept_chat(user(RECIPIENT), chat).await.unwrap();
}

/// Sends one message to the recipient. Returns whether it was accepted.
async fn send(table: TableClient, sender: u64) -> bool {
    let content = MessageContent::new(Some("hello".to_owned()), None, None).unwrap();
    let store = table.store_at(Timestamp::now());
    let sent = store.send_message(user(sender), chat_with_recipient(sender), content, None);
    matches!(sent.await, Ok(SendOutcome::Sent(_)))
}

struct Figures {
    /// How long each accepted message took, sorted.
    times: Vec<Duration>,
    conflicts: ConflictStats,
}

/// Each sender sends one message to the recipient, all at once. A message is accepted if that takes at
/// most `limit`.
async fn send_from_all(single_counter: bool, limit: Duration) -> (ProxiedStack, Figures) {
    let proxied = ProxiedStack::start().await;
    let table = table_client(&proxied);
    run_concurrently((1..=SENDERS).map(|sender| start_chat(table.clone(), sender))).await;
    proxied.drain_conflict_stats();
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(single_counter));
    let started = Instant::now();
    let sends = (1..=SENDERS).map(|sender| {
        let table = table.clone();
        async move {
            let started = Instant::now();
            let sent = tokio::time::timeout(limit, send(table, sender)).await;
            sent.unwrap_or(false).then(|| started.elapsed())
        }
    });
    let times = run_concurrently(sends).await;
    let elapsed = started.elapsed();
    proxied.set_fault_plan(FaultPlan::none());
    proxied.wait_until_idle().await;
    let mut times: Vec<_> = times.into_iter().flatten().collect();
    times.sort_unstable();
    let conflicts = proxied.drain_conflict_stats();
    println!(
        "{SENDERS} senders, totals in {}: {} accepted in {elapsed:.1?} (median {:.1?}, slowest {:.1?}); {} \
         of {} transactions conflicted ({} %)",
        if single_counter { "one item" } else { "shards" },
        times.len(),
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
        conflicts.conflicts,
        conflicts.attempts,
        conflicts.conflicts * 100 / conflicts.attempts.max(1),
    );
    (proxied, Figures { times, conflicts })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_from_two_hundred_senders_to_one_user_at_once_are_all_accepted() {
    let (proxied, figures) = send_from_all(false, TEST_LIMIT).await;
    assert_eq!(figures.times.len() as u64, SENDERS);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
    let recipient = proxied.stack.api.user_with_id(RECIPIENT);
    assert_eq!(recipient.totals().await, [0, SENDERS, 0]);
    assert!(
        figures.conflicts.conflicts > 0,
        "no transactions overlapped, so the test shows nothing about conflicts"
    );

    // For comparison: the same with the totals in one item. Messages may exceed the time limit then.
    // The totals must still be exact.
    let (proxied, figures) = send_from_all(true, REQUEST_LIMIT).await;
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
    let recipient = proxied.stack.api.user_with_id(RECIPIENT);
    let [_, unread, _] = recipient.totals().await;
    assert!(
        unread >= figures.times.len() as u64,
        "{} messages were accepted, but {unread} are unread",
        figures.times.len()
    );
}

/// Changes message `seq` of the chat of user 1 and the recipient, marks messages up to it, or sends one more.
async fn change_message(table: TableClient, seq: u64) {
    let (sender, recipient, chat) = (user(1), user(RECIPIENT), chat_with_recipient(1));
    let store = table.store_at(Timestamp::now());
    let number = Seq::new(seq);
    match seq % 4 {
        0 => drop(
            store
                .delete_message(sender, chat, Some(number))
                .await
                .unwrap(),
        ),
        1 => {
            let change = ContentChange {
                text: Some(Some(format!("edit of {seq}"))),
                ..ContentChange::default()
            };
            let edited = store
                .edit_message(sender, chat, Some(number), &change)
                .await;
            drop(edited.unwrap());
        }
        2 => {
            let marked = store.mark_messages_read(recipient, chat, Some(number));
            marked.await.unwrap();
        }
        _ => assert!(send(table, 1).await),
    }
}

/// All of them change the state of the chat, so all of them conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_messages_of_one_chat_at_once_are_all_applied() {
    const MESSAGES: u64 = 24;

    let proxied = ProxiedStack::start().await;
    let table = table_client(&proxied);
    start_chat(table.clone(), 1).await;
    for _ in 0..MESSAGES {
        assert!(send(table.clone(), 1).await);
    }
    proxied.drain_conflict_stats();
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(false));
    let changes = (1..=MESSAGES).map(|seq| change_message(table.clone(), seq));
    let applied = tokio::time::timeout(TEST_LIMIT, run_concurrently(changes)).await;
    assert!(
        applied.is_ok(),
        "the changes took longer than {TEST_LIMIT:?}"
    );
    proxied.set_fault_plan(FaultPlan::none());
    proxied.wait_until_idle().await;
    let conflicts = proxied.drain_conflict_stats();
    println!(
        "{MESSAGES} changes of one chat at once: {} of {} transactions conflicted",
        conflicts.conflicts, conflicts.attempts
    );
    assert!(
        conflicts.conflicts > 0,
        "no transactions overlapped, so the test shows nothing about conflicts"
    );
    let recipient = proxied.stack.api.user_with_id(RECIPIENT);
    let chat = recipient
        .get_chat(&chat_with_recipient(1).to_string())
        .await;
    let chat = chat.expect_status(200).body;
    // A quarter each: deletions, edits, marks, and new messages.
    assert_eq!(chat["rev"], MESSAGES / 2);
    assert_eq!(chat["lastMessage"]["seq"], MESSAGES + MESSAGES / 4);
    assert_eq!(chat["readSeq"], MESSAGES - 2);
    assert_eq!(chat["unreadCount"], recipient.totals().await[1]);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
    assert_eq!(admin_findings(&proxied.stack.table).await, [""; 0]);
}

/// Ten devices that send to the same chat at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_ten_senders_to_one_chat_at_once_are_all_accepted() {
    const DEVICES: u64 = 10;

    let proxied = ProxiedStack::start().await;
    let table = table_client(&proxied);
    start_chat(table.clone(), 1).await;
    proxied.drain_conflict_stats();
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(false));
    let started = Instant::now();
    let sends = (0..DEVICES).map(|_| tokio::time::timeout(TEST_LIMIT, send(table.clone(), 1)));
    let sent = run_concurrently(sends).await;
    let elapsed = started.elapsed();
    proxied.set_fault_plan(FaultPlan::none());
    proxied.wait_until_idle().await;
    let conflicts = proxied.drain_conflict_stats();
    println!(
        "{DEVICES} senders to one chat: {elapsed:.1?}, {} of {} transactions conflicted",
        conflicts.conflicts, conflicts.attempts
    );
    assert!(sent.iter().all(|sent| matches!(sent, Ok(true))), "{sent:?}");
    assert!(
        conflicts.conflicts > 0,
        "no transactions overlapped, so the test shows nothing about conflicts"
    );
    let recipient = proxied.stack.api.user_with_id(RECIPIENT);
    assert_eq!(recipient.totals().await, [0, DEVICES, 0]);
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
}

/// A cancelled transaction costs as much as one that is applied, and a read less than a tenth of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waited_for_another_one_reads_the_chat_again() {
    let proxied = ProxiedStack::start().await;
    start_chat(table_client(&proxied), 1).await;
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(false));
    let held = send_and_hold(&proxied, 1).await;
    proxied.drain_cost();
    let waiting = tokio::spawn(send(table_client(&proxied), 1));
    let conflicts = AtomicU64::new(0);
    let count_conflicts = || {
        let new = proxied.drain_conflict_stats().conflicts;
        conflicts.fetch_add(new, Ordering::Relaxed) + new
    };
    eventually("the second message conflicts", async || {
        count_conflicts() > 0
    })
    .await;
    proxied.release_held();
    for send in [held, waiting] {
        let sent = within_limit("a message is accepted", send).await;
        assert!(sent.unwrap());
    }
    let cost = proxied.drain_cost();
    let operations = cost.operations.iter();
    let reads = operations.filter(|operation| operation.name == "GetItem");
    // One before the first attempt, and one after each conflict.
    assert_eq!(reads.count() as u64, count_conflicts() + 1, "{cost:?}");
}

/// Three senders. In the recipient's totals, the chats of the first two count in the same shard, and the
/// chat of the third one in another shard.
fn senders_by_shard() -> [u64; 3] {
    let shard = |sender| TotalsItem::key(user(RECIPIENT), chat_with_recipient(sender)).sk;
    let first = shard(1);
    let mut others = 2..RECIPIENT;
    let same = others.clone().find(|sender| shard(*sender) == first);
    let another = others.find(|sender| shard(*sender) != first);
    [1, same.unwrap(), another.unwrap()]
}

/// Sends from `first`, and holds that transaction in the proxy while it has locked its items.
async fn send_and_hold(proxied: &ProxiedStack, first: u64) -> JoinHandle<bool> {
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::Hold)]);
    let send = tokio::spawn(send(table_client(proxied), first));
    proxied.wait_until_blocked().await;
    proxied.drain_conflict_stats();
    send
}

/// While a transaction of `first` is held, a message of `second` to the same user conflicts with it, and
/// is accepted after the transaction has ended.
async fn assert_conflict(proxied: &ProxiedStack, first: u64, second: u64) {
    let held = send_and_hold(proxied, first).await;
    let waiting = tokio::spawn(send(table_client(proxied), second));
    eventually("the second transaction conflicts", async || {
        proxied.drain_conflict_stats().conflicts > 0
    })
    .await;
    assert!(!waiting.is_finished(), "the message waits for the conflict");
    proxied.release_held();
    for send in [held, waiting] {
        let sent = within_limit("a message is accepted", send).await;
        assert!(sent.unwrap());
    }
}

/// While a transaction of `first` is held, a message of `second` to the same user is accepted.
async fn assert_no_conflict(proxied: &ProxiedStack, first: u64, second: u64) {
    let held = send_and_hold(proxied, first).await;
    let send = send(table_client(proxied), second);
    let sent = within_limit("a message is accepted while another one is held", send).await;
    assert!(sent);
    assert!(!held.is_finished(), "the first transaction is still held");
    let stats = proxied.drain_conflict_stats();
    assert_eq!((stats.attempts, stats.conflicts), (1, 0));
    proxied.release_held();
    assert!(within_limit("a message is accepted", held).await.unwrap());
}

#[tokio::test]
async fn messages_to_one_user_conflict_only_if_their_chats_count_in_the_same_shard() {
    let proxied = ProxiedStack::start().await;
    let senders = senders_by_shard();
    let [first, same_shard, another_shard] = senders;
    for sender in senders {
        start_chat(table_client(&proxied), sender).await;
    }
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(false));
    assert_no_conflict(&proxied, first, another_shard).await;
    assert_conflict(&proxied, first, same_shard).await;
    // With a single counter for a user's totals, all messages to the user would conflict.
    proxied.set_fault_plan(FaultPlan::overlap_conflicts(true));
    assert_conflict(&proxied, first, another_shard).await;

    proxied.wait_until_idle().await;
    assert_eq!(invariant_violations(&proxied.stack.table).await, [""; 0]);
    let recipient = proxied.stack.api.user_with_id(RECIPIENT);
    assert_eq!(recipient.totals().await, [0, 6, 0]);
}
