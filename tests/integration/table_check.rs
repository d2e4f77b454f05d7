//! Consistency check of `chat-admin`: it finds and repairs violations that a test made by hand, and
//! live traffic causes no false reports.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_admin::check::{CheckEvent, CheckOptions, CheckSummary, check_table};
use chat_shared::{domain::Timestamp, store::TableClient};

use crate::{
    Table, TestStack,
    dynamodb_proxy::ProxiedStack,
    fault_injection::{FaultKind, FaultPlan},
    invariants::invariant_violations,
    support::{User, run_concurrently},
};

/// Nothing else changes the table, so nothing has to settle.
const CHECK: CheckOptions = CheckOptions {
    repair: false,
    settle: Duration::ZERO,
};
const REPAIR: CheckOptions = CheckOptions {
    repair: true,
    ..CHECK
};
/// The wait is longer than the fault plan keeps a message unreadable.
const REPAIR_DURING_TRAFFIC: CheckOptions = CheckOptions {
    repair: true,
    settle: Duration::from_millis(350),
};

/// Checks a table. Returns the printed lines, sorted, and the summary.
async fn check(table: &Table, options: CheckOptions) -> (Vec<String>, CheckSummary) {
    let mut lines = Vec::new();
    let mut report = |event: CheckEvent<'_>| {
        if let CheckEvent::Violation(violation) = event {
            lines.push(violation.to_string());
        }
    };
    let store = TableClient::new(table.client.clone(), &table.name).store_at(Timestamp::now());
    let summary = check_table(&store, options, &mut report).await.unwrap();
    lines.sort();
    (lines, summary)
}

#[track_caller]
fn assert_has_line(lines: &[String], expected: &str) {
    assert!(
        lines.iter().any(|line| line == expected),
        "no line {expected:?}: {lines:#?}"
    );
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Ann (11) and Ben (22) have three messages, one of them Ben's, and two are unread. Cat (33) has
/// sent a request to Ann.
struct Fixture {
    stack: TestStack,
    ann: User,
    ben: User,
    cat: User,
    chat: String,
    pk: String,
}

impl Fixture {
    async fn new() -> Self {
        let stack = TestStack::start().await;
        let [ann, ben, cat] = [11, 22, 33].map(|id| stack.api.user_with_id(id));
        let chat = ann.start_chat(&ben).await;
        ann.send(&chat, "one").await.expect_status(201);
        ann.send_with_key(&chat, "key", "two")
            .await
            .expect_status(201);
        ben.send(&chat, "three").await.expect_status(201);
        cat.request_chat(&ann).await.expect_status(201);
        let pk = format!("CHAT#{chat}");
        Self {
            stack,
            ann,
            ben,
            cat,
            chat,
            pk,
        }
    }

    fn table(&self) -> &Table {
        &self.stack.table
    }

    /// Sets an attribute of an item of Ann and Ben's chat.
    async fn set(&self, sk: &str, attribute: &str, value: AttributeValue) {
        self.table().set(&self.pk, sk, attribute, value).await;
    }
}

/// Sort keys of the items with a user's totals.
async fn totals_shards(table: &Table, user: u64) -> Vec<String> {
    let mut sort_keys: Vec<_> = table.user(user).await.into_keys().collect();
    sort_keys.retain(|sk| sk.starts_with("TOTALS#"));
    sort_keys
}

#[tokio::test]
async fn a_consistent_table_has_no_violations() {
    let fixture = Fixture::new().await;
    let (lines, summary) = check(fixture.table(), CHECK).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!((summary.chats, summary.users), (2, 3));
    let items = fixture.table().everything().await.len();
    assert_eq!(summary.items, items as u64);
    assert_eq!((summary.violations, summary.repaired), (0, 0));
}

#[tokio::test]
async fn wrong_counters_and_index_keys_are_reported_and_repaired() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let consistent = table.everything().await;
    let bens_shard = totals_shards(table, 22).await.remove(0);
    let negative = AttributeValue::N("-1".to_owned());
    fixture.set("STATE", "lowUnread", negative).await;
    fixture
        .set("STATE", "requesterKey", text("11#pending"))
        .await;
    table.set("USER#22", &bens_shard, "unread", number(5)).await;
    table.set("USER#33", "SENT", "open", number(0)).await;
    // Without any counters, a scan of the table does not find Ann.
    for sk in table.user(11).await.keys() {
        table.delete("USER#11", sk).await;
    }

    let (lines, summary) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: lowUnread is -1, should be 1");
    assert_has_line(
        &lines,
        "CHAT#11-22 STATE: requesterKey is 11#pending, should be 11#active",
    );
    assert_has_line(
        &lines,
        &format!("USER#22 {bens_shard}: unread is 5, should be 2"),
    );
    assert_has_line(&lines, "USER#33 SENT: open is 0, should be 1");
    assert!(
        lines.iter().any(|line| line.starts_with("USER#11 TOTALS#")
            && line.ends_with("pending is 0, should be 1")),
        "{lines:#?}"
    );
    assert_eq!(
        (summary.violations, summary.repaired),
        (lines.len() as u64, 0)
    );
    assert_ne!(invariant_violations(table).await, [""; 0]);

    let (lines, summary) = check(table, REPAIR).await;
    assert!(
        lines.iter().all(|line| line.ends_with(" (repaired)")),
        "{lines:#?}"
    );
    assert_eq!(summary.violations, summary.repaired);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
    assert_eq!(invariant_violations(table).await, [""; 0]);
    let chats = |mut items: Vec<(String, String, serde_json::Value)>| {
        items.retain(|(pk, _, _)| pk.starts_with("CHAT#"));
        items
    };
    assert_eq!(chats(table.everything().await), chats(consistent));
    assert_eq!(fixture.ann.totals().await, [1, 1, 0]);
    assert_eq!(fixture.ben.totals().await, [0, 2, 0]);
    assert_eq!(fixture.cat.totals().await, [0, 0, 1]);
}

#[tokio::test]
async fn violations_that_cannot_be_repaired_are_reported_and_left_unchanged() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    fixture.set("KEY#11#key", "seq", number(9)).await;
    fixture
        .set("MSG#0000000000000003", "createdAt", number(1))
        .await;
    fixture.set("STATE", "highReadSeq", number(4)).await;
    table.delete(&fixture.pk, "MSG#0000000000000001").await;
    table.set("SOMETHING", "ELSE", "a", number(1)).await;
    table
        .set("CHAT#11-33", "STATE", "seq", text("secret"))
        .await;
    table.set("USER#44", "SENT", "open", text("secret")).await;
    let (lines, summary) = check(table, REPAIR).await;
    let not_repaired: Vec<_> = lines
        .iter()
        .filter(|line| !line.ends_with("(repaired)"))
        .collect();
    assert_eq!(
        not_repaired,
        [
            "CHAT#11-22 KEY#11#key: refers to message 9, but seq is 3",
            "CHAT#11-22 MSG#0000000000000002: message 1 is missing",
            "CHAT#11-22 MSG#0000000000000003: createdAt is earlier than that of message 2",
            "CHAT#11-22 STATE: highReadSeq is 4, greater than seq 3",
            "CHAT#11-33 STATE: cannot be read",
            "SOMETHING: belongs to no chat or user",
            "USER#11 SENT: inconclusive: one of the user's chats cannot be read; \
             correct that chat first, then check again",
            "USER#33 SENT: inconclusive: one of the user's chats cannot be read; \
             correct that chat first, then check again",
            "USER#44 SENT: cannot be read",
        ]
    );
    assert_eq!(
        (summary.violations, summary.repaired, summary.inconclusive),
        (7, 0, 2)
    );
    let zero = number(0);
    table.set("CHAT#11-33", "STATE", "seq", zero.clone()).await;
    table.set("USER#44", "SENT", "open", zero).await;
    // With a message missing, the number of unread messages is unknown. So it did not change.
    assert_eq!(fixture.ben.totals().await, [0, 2, 0]);

    fixture.set("STATE", "seq", number(2)).await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: seq is 2, but message 3 exists");
    assert_has_line(
        &lines,
        "CHAT#11-22 STATE: lastMessage is not the last message",
    );
    fixture.set("STATE", "seq", number(4)).await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: message 4 is missing");
    table.delete(&fixture.pk, "STATE").await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: is missing");
    assert_eq!(fixture.chat, "11-22");
}

#[tokio::test]
async fn a_long_chat_and_a_user_with_many_chats_are_checked_page_by_page() {
    let stack = TestStack::start().await;
    let (api, table) = (&stack.api, &stack.table);
    let me = api.user();
    let friend = api.user();
    let chat = friend.start_chat(&me).await;
    // More than 1 MB, where DynamoDB ends a page.
    for _ in 0..70 {
        friend
            .send(&chat, &"𝕏".repeat(4_096))
            .await
            .expect_status(201);
    }
    // More than 100 chats, which is the maximum size of a batch.
    for _ in 0..110 {
        api.user().request_chat(&me).await.expect_status(201);
    }
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
    table
        .set(&format!("CHAT#{chat}"), "STATE", "seq", number(71))
        .await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, &format!("CHAT#{chat} STATE: message 71 is missing"));
}

/// Starts users who send, read, request and accept until `stop` is set.
fn generate_traffic(users: &[User], stop: &Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
    let loops = users.iter().cloned().enumerate().map(|(seed, me)| {
        let (others, stop) = (users.to_vec(), stop.clone());
        async move {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            while !stop.load(Ordering::Relaxed) {
                let other = &others[random.usize(..others.len())];
                if other.id == me.id {
                    continue;
                }
                let chat = me.chat_id_with(other);
                match random.u8(..10) {
                    0 => me.request_chat(other).await,
                    1 => me.accept(&chat).await,
                    2 => me.decline(&chat).await,
                    3 | 4 => me.mark_read(&chat).await,
                    _ => me.send(&chat, "hello").await,
                };
            }
        }
    });
    let loops: Vec<_> = loops.collect();
    async move {
        run_concurrently(loops).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_traffic_causes_no_false_reports_and_a_counter_is_repaired_during_traffic() {
    let proxied = ProxiedStack::start().await;
    let TestStack { stack, api, .. } = &proxied.stack;
    // The requests of the check go through the proxy and its faults, too.
    let table = &Table::at(stack.dynamodb_endpoint(), stack.table());
    let users: Vec<_> = (1..=6).map(|id| api.user_with_id(id)).collect();
    let chat = users[0].start_chat(&users[1]).await;
    let faults = [FaultKind::TornRead, FaultKind::Slow];
    proxied.set_fault_plan(FaultPlan::random(1, &faults, 0.2));
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn(generate_traffic(&users, &stop));
    for _ in 0..3 {
        let (lines, _) = check(table, REPAIR_DURING_TRAFFIC).await;
        let violations: Vec<_> = lines
            .iter()
            .filter(|line| !line.contains("inconclusive"))
            .collect();
        assert_eq!(violations, [""; 0]);
    }
    // A wrong unread total, in a shard that the traffic writes to all the time.
    users[0].send(&chat, "hello").await;
    let shard = totals_shards(table, 2).await.remove(0);
    let add = table.client.update_item().table_name(&table.name);
    let add = add.key("pk", text("USER#2")).key("sk", text(&shard));
    let add = add.update_expression("ADD unread :five");
    let add = add.expression_attribute_values(":five", number(5));
    add.send().await.unwrap();
    let mut is_repaired = false;
    for _ in 0..20 {
        let (lines, _) = check(table, REPAIR_DURING_TRAFFIC).await;
        is_repaired = lines.iter().any(|line| line.ends_with("(repaired)"));
        if is_repaired {
            break;
        }
    }
    assert!(
        is_repaired,
        "20 checks did not repair the wrong unread total"
    );
    stop.store(true, Ordering::Relaxed);
    traffic.await.unwrap();
    proxied.set_fault_plan(FaultPlan::none());
    proxied.wait_until_idle().await;
    assert_eq!(invariant_violations(table).await, [""; 0]);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
}
