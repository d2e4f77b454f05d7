//! Consistency check of `chat-admin`: it finds and repairs violations that a test made by hand, and
//! live traffic causes no false reports. Its copy of missing items from a restored table.
//!
//! The unit tests of `chat-admin` evaluate arbitrary items without a table.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_admin::{
    check::{CheckEvent, CheckOptions, CheckSummary, check_table},
    copy::{CopyEvent, CopyOptions, CopySummary, copy_missing_items},
    table::DynamoTable,
};
use chat_local::{dynamodb::create_table, template::Template};
use chat_shared::{
    domain::{Timestamp, UserId},
    store::{
        TableClient,
        items::{Item, TotalsItem},
    },
};
use serde_json::json;

use crate::{
    Table, TestStack,
    dynamodb_proxy::{Fault, ProxiedStack},
    fault_injection::{FaultKind, FaultPlan},
    invariants::invariant_violations,
    support::{self, User, run_concurrently},
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

/// What a check reports.
#[derive(Default)]
struct Report {
    /// The printed lines, sorted.
    lines: Vec<String>,
    repair_errors: Vec<String>,
    unknown_types: BTreeMap<String, u64>,
    summary: CheckSummary,
}

impl Report {
    async fn of(table: &Table, options: CheckOptions) -> Self {
        let mut result = Self::default();
        let mut report = |event: CheckEvent<'_>| match event {
            CheckEvent::Violation(violation) => {
                result.lines.push(violation.to_string());
                result.repair_errors.extend(violation.repair_error.clone());
            }
            CheckEvent::UnknownTypes(counts) => result.unknown_types = counts.clone(),
            CheckEvent::Progress(_) => {}
        };
        let store = TableClient::new(table.client.clone(), &table.name).store_at(Timestamp::now());
        let summary = check_table(&store, options, &mut report).await.unwrap();
        result.summary = summary;
        result.lines.sort();
        result
    }
}

/// Checks a table. Returns the printed lines, sorted, and the summary.
async fn check(table: &Table, options: CheckOptions) -> (Vec<String>, CheckSummary) {
    let report = Report::of(table, options).await;
    (report.lines, report.summary)
}

/// Copies the items that `to` lacks. Returns the printed lines, sorted, and the summary.
async fn copy(from: &Table, to: &Table, dry_run: bool) -> (Vec<String>, CopySummary) {
    let mut lines = Vec::new();
    let mut report = |event: CopyEvent<'_>| {
        if let CopyEvent::NotCopied(item) = event {
            lines.push(item.to_string());
        }
    };
    let options = CopyOptions {
        dry_run,
        now: Timestamp::now(),
    };
    let [from, to] = [from, to].map(|table| DynamoTable::new(table.client.clone(), &table.name));
    let summary = copy_missing_items(&from, &to, options, &mut report).await;
    let summary = summary.unwrap();
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

#[track_caller]
fn assert_line_starts_with(lines: &[String], start: &str) {
    assert!(
        lines.iter().any(|line| line.starts_with(start)),
        "no line starts with {start:?}: {lines:#?}"
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

    /// Changes, blocks, a withdrawn request and reports:
    ///
    /// - Ann edits her second message. Ben deletes his, which Ann has not read, and Ann reports it.
    /// - Ann blocks Cat, so Cat's request is hidden.
    /// - Ann withdraws a request to Dan (44), who then blocks her.
    /// - Ben blocks and reports Eve (55); they have no chat.
    async fn use_safety_features(&self) {
        let (ann, ben, chat) = (&self.ann, &self.ben, &self.chat);
        let [dan, eve] = [44, 55].map(|id| self.stack.api.user_with_id(id));
        ann.edit_text(chat, 2, "two!").await.expect_status(200);
        ben.delete_message(chat, 3).await.expect_status(200);
        let report = json!({"userId": 22, "seq": 3, "reason": "spam"});
        ann.report(&report).await.expect_status(201);
        ann.block(&self.cat).await.expect_status(200);
        ann.request_chat(&dan).await.expect_status(201);
        let request = ann.chat_id_with(&dan);
        ann.withdraw(&request).await.expect_status(200);
        dan.block(ann).await.expect_status(200);
        let report = json!({"userId": 55, "reason": "scam", "block": true});
        ben.report(&report).await.expect_status(201);
        assert_eq!(eve.totals().await, [0, 0, 0]);
    }

    /// A table as a restore creates it: with the items that the table has now.
    async fn restored_table(&self) -> Table {
        let endpoint = self.stack.stack.dynamodb_endpoint();
        let template = Template::read(&support::stack_options().template).unwrap();
        create_table(endpoint, &template.table, "restored")
            .await
            .unwrap();
        let restored = Table::at(endpoint, "restored");
        let (lines, summary) = copy(self.table(), &restored, false).await;
        assert_eq!(lines, [""; 0]);
        assert_eq!(summary.copied, summary.items);
        let items = |mut items: Vec<(String, String, serde_json::Value)>| {
            items.sort_by_key(|(pk, sk, _)| (pk.clone(), sk.clone()));
            items
        };
        let live_items = self.table().everything().await;
        assert_eq!(items(restored.everything().await), items(live_items));
        restored
    }
}

const FIRST_CHANGE: &str = "CHG#0000000000000001";
const FIRST_MESSAGE: &str = "MSG#0000000000000001";
const SECOND_MESSAGE: &str = "MSG#0000000000000002";
const LAST_MESSAGE: &str = "MSG#0000000000000003";

/// All items of a table as DynamoDB stores them.
async fn stored_items(table: &Table) -> Vec<Item> {
    let scan = table.client.scan().table_name(&table.name);
    scan.send().await.unwrap().items.unwrap()
}

async fn put(table: &Table, item: Item) {
    let put = table.client.put_item().table_name(&table.name);
    put.set_item(Some(item)).send().await.unwrap();
}

/// The text of an attribute.
fn text_of<'a>(item: &'a Item, attribute: &str) -> &'a str {
    item[attribute].as_s().unwrap()
}

/// Adds a copy of a message with another sort key.
async fn copy_message(fixture: &Fixture, from: &str, to: &str) {
    let items = stored_items(fixture.table()).await.into_iter();
    let mut items = items.filter(|item| text_of(item, "sk") == from);
    let mut item = items.next().unwrap();
    item.insert("sk".to_owned(), text(to));
    put(fixture.table(), item).await;
}

/// The sort key of the item with Ann's totals for her chat with Ben.
fn anns_shard() -> String {
    let ann = UserId::new(11).unwrap();
    TotalsItem::key(ann, "11-22".parse().unwrap()).sk
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
    // Without a valid unread count, Ann's total is unknown, but none is stored.
    assert_eq!((summary.repaired, summary.inconclusive), (0, 0));
    assert_eq!(summary.violations, lines.len() as u64);
    assert_eq!(summary.repairable, summary.violations);
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
async fn changes_blocks_and_reports_are_checked_and_what_can_be_computed_is_repaired() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    fixture.use_safety_features().await;
    let consistent = table.everything().await;
    let (lines, summary) = check(table, CHECK).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!(summary.items, consistent.len() as u64);
    // With Ben and Eve, who have only a block and a report.
    assert_eq!(summary.chats, 4);

    fixture.set("STATE", "lowHeld", number(3)).await;
    fixture
        .set("STATE", "hid", AttributeValue::Bool(true))
        .await;
    let report = "FLAG#11#0000000000000003";
    table.remove("CHAT#11-22", report, "requesterKey").await;
    let key = text("11#pending");
    table.set("CHAT#11-33", "STATE", "recipientKey", key).await;
    let key = text("11#withdrawn");
    table.set("CHAT#11-44", "STATE", "requesterKey", key).await;
    table.remove("CHAT#22-55", "STATE", "requesterKey").await;
    let lines = [
        "CHAT#11-22 FLAG#11#0000000000000003: requesterKey is missing, should be #reports#open",
        "CHAT#11-22 STATE: hid is true, should be missing",
        "CHAT#11-22 STATE: lowHeld is 3, should be missing",
        "CHAT#11-33 STATE: recipientKey is 11#pending, should be 11#blocked",
        "CHAT#11-44 STATE: requesterKey is 11#withdrawn, should be missing",
        "CHAT#22-55 STATE: requesterKey is missing, should be 22#blocked",
    ];
    assert_eq!(check(table, CHECK).await.0, lines);
    let repaired = lines.map(|line| format!("{line} (repaired)"));
    assert_eq!(check(table, REPAIR).await.0, repaired);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
    assert_eq!(table.everything().await, consistent);
}

#[tokio::test]
async fn what_an_older_version_counts_for_a_blocked_user_is_right_if_the_sum_is() {
    let fixture = Fixture::new().await;
    let (table, shard) = (fixture.table(), anns_shard());
    fixture.ann.block(&fixture.ben).await.expect_status(200);
    assert_eq!(table.chat("11-22").await["STATE"]["lowHeld"], 1);
    let consistent = table.everything().await;
    // It knows no blocks, so it counts in `lowUnread` and in the totals.
    fixture.set("STATE", "lowUnread", number(1)).await;
    table.remove("CHAT#11-22", "STATE", "lowHeld").await;
    table.set("USER#11", &shard, "unread", number(1)).await;
    assert_eq!(check(table, CHECK).await.0, [""; 0]);

    fixture.set("STATE", "lowUnread", number(2)).await;
    let lines = [
        "CHAT#11-22 STATE: lowHeld is missing, should be 1 (repaired)".to_owned(),
        "CHAT#11-22 STATE: lowUnread is 2, should be 0 (repaired)".to_owned(),
        format!("USER#11 {shard}: unread is 1, should be 0 (repaired)"),
    ];
    assert_eq!(check(table, REPAIR).await.0, lines);
    // A repair is one more change of a counter.
    let consistent = consistent.into_iter().map(|(pk, sk, mut item)| {
        if (pk.as_str(), &sk) == ("USER#11", &shard) {
            item["changes"] = (item["changes"].as_u64().unwrap() + 1).into();
        }
        (pk, sk, item)
    });
    assert_eq!(table.everything().await, consistent.collect::<Vec<_>>());
    fixture.ann.unblock(&fixture.ben).await.expect_status(200);
    assert_eq!(fixture.ann.totals().await, [1, 1, 0]);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
}

#[tokio::test]
async fn a_change_that_does_not_fit_its_message_is_a_line_and_nothing_is_computed_from_it() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    fixture.use_safety_features().await;
    fixture.set(FIRST_CHANGE, "seq", number(1)).await;
    fixture.set(LAST_MESSAGE, "text", text("three")).await;
    fixture.set("STATE", "lowUnread", number(5)).await;
    let (lines, summary) = check(table, REPAIR).await;
    assert_eq!(
        lines,
        [
            "CHAT#11-22 HIST#0000000000000002#0000000000000001: is of message 2, but change 1 is of \
             message 1"
                .to_owned(),
            "CHAT#11-22 MSG#0000000000000001: rev is 0, but change 1 is of this message".to_owned(),
            "CHAT#11-22 MSG#0000000000000002: rev is 1, but no change 1 of this message exists"
                .to_owned(),
            "CHAT#11-22 MSG#0000000000000003: text must not exist: the message is deleted"
                .to_owned(),
            // The sum of what the chats contain.
            format!(
                "USER#11 {}: unread is 0, should be 5 (repaired)",
                anns_shard()
            ),
        ]
    );
    assert_eq!((summary.violations, summary.repaired), (5, 1));

    table.delete(&fixture.pk, FIRST_CHANGE).await;
    fixture.set("STATE", "rev", number(3)).await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: change 3 is missing");
    let gap = "CHAT#11-22 CHG#0000000000000002: change 1 is missing";
    assert_has_line(&lines, gap);
    fixture.set("STATE", "rev", number(1)).await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: rev is 1, but change 2 exists");
}

#[tokio::test]
async fn violations_that_cannot_be_repaired_are_reported_and_left_unchanged() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    fixture.set("KEY#11#key", "seq", number(9)).await;
    fixture.set(LAST_MESSAGE, "createdAt", number(1)).await;
    fixture.set("STATE", "highReadSeq", number(4)).await;
    table.delete(&fixture.pk, FIRST_MESSAGE).await;
    table.set("SOMETHING", "ELSE", "a", number(1)).await;
    table
        .set("CHAT#11-33", "STATE", "seq", text("secret"))
        .await;
    table.set("USER#44", "SENT", "type", text("secret")).await;
    let (lines, summary) = check(table, REPAIR).await;
    let created_at = "CHAT#11-22 STATE: lastMessage.createdAt is ";
    assert_line_starts_with(&lines, created_at);
    let others: Vec<_> = lines
        .iter()
        .filter(|line| !line.starts_with(created_at))
        .collect();
    assert_eq!(
        others,
        [
            "CHAT#11-22 KEY#11#key: refers to message 9, but seq is 3",
            "CHAT#11-22 MSG#0000000000000002: message 1 is missing",
            "CHAT#11-22 MSG#0000000000000003: createdAt is earlier than that of message 2",
            "CHAT#11-22 STATE: highReadSeq is 4, greater than seq 3",
            "CHAT#11-33 STATE: seq is a string, not a number",
            "SOMETHING ELSE: belongs to no chat or user",
            "USER#44 SENT: type is secret, not OpenRequests",
        ]
    );
    let counts = (summary.violations, summary.repaired, summary.inconclusive);
    assert_eq!(counts, (8, 0, 0));
    table.set("CHAT#11-33", "STATE", "seq", number(0)).await;
    // With a message missing, the number of unread messages is unknown. So it did not change.
    assert_eq!(fixture.ben.totals().await, [0, 2, 0]);

    fixture.set("STATE", "seq", number(2)).await;
    let (lines, _) = check(table, CHECK).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: seq is 2, but message 3 exists");
    assert_has_line(
        &lines,
        "CHAT#11-22 STATE: lastMessage is not the last message: it is message 3, but seq is 2",
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
async fn a_message_numbered_0_is_one_line_and_the_check_goes_on() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    copy_message(&fixture, FIRST_MESSAGE, "MSG#0000000000000000").await;
    table.set("USER#33", "SENT", "open", number(7)).await;
    let (lines, summary) = check(table, REPAIR).await;
    assert_eq!(
        lines,
        [
            "CHAT#11-22 MSG#0000000000000000: the number of a message is at least 1",
            "USER#33 SENT: open is 7, should be 1 (repaired)",
        ]
    );
    assert_eq!((summary.violations, summary.repaired), (2, 1));
}

#[tokio::test]
async fn each_contradiction_within_a_chat_is_a_line() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let preview = |seq, sender, content: &str| {
        let map = [
            ("seq".to_owned(), number(seq)),
            ("senderId".to_owned(), number(sender)),
            ("text".to_owned(), text(content)),
            ("createdAt".to_owned(), number(1)),
        ];
        AttributeValue::M(map.into())
    };
    let status = text("frozen");
    table.set("CHAT#11-33", "STATE", "status", status).await;
    let last_message = preview(2, 11, "two");
    fixture.set("STATE", "lastMessage", last_message).await;
    fixture.set("STATE", "requesterId", number(99)).await;
    fixture.set(SECOND_MESSAGE, "senderId", number(99)).await;
    copy_message(&fixture, FIRST_MESSAGE, "MSG#7").await;
    let (lines, _) = check(table, CHECK).await;
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|line| line.starts_with("CHAT#"))
        .collect();
    assert_eq!(
        lines,
        [
            "CHAT#11-22 MSG#0000000000000002: senderId is 99, not a member of the chat",
            "CHAT#11-22 MSG#7: the sort key is not MSG# and a number of 16 digits",
            "CHAT#11-22 STATE: lastMessage is not the last message: it is message 2, but seq is 3",
            "CHAT#11-22 STATE: requesterId is 99, not a member of the chat",
            "CHAT#11-33 STATE: status is frozen, not none, pending, active, declined or withdrawn",
        ]
    );
    fixture.set("STATE", "requesterId", number(22)).await;
    fixture
        .set("STATE", "lastMessage", preview(3, 11, "thre"))
        .await;
    let (lines, _) = check(table, CHECK).await;
    for line in [
        "CHAT#11-22 STATE: recipientId is the same as requesterId",
        "CHAT#11-22 STATE: lastMessage.senderId is 11, but message 3 is from 22",
        "CHAT#11-22 STATE: lastMessage.text is not the start of message 3",
    ] {
        assert_has_line(&lines, line);
    }
    let line = "CHAT#11-22 STATE: lastMessage.createdAt is 1, but that of message 3 is ";
    assert_line_starts_with(&lines, line);
}

#[tokio::test]
async fn a_time_beyond_the_year_9999_is_a_line_and_the_api_responds_with_its_own_500() {
    const MICROSECONDS: u64 = 1_767_225_599_007_000;

    let fixture = Fixture::new().await;
    let state = &fixture.table().chat("11-22").await["STATE"];
    let updated_at = state["updatedAt"].as_u64().unwrap();
    fixture
        .set("STATE", "updatedAt", number(MICROSECONDS))
        .await;
    let (lines, _) = check(fixture.table(), CHECK).await;
    let line = "CHAT#11-22 STATE: updatedAt is 1767225599007000, after the year 9999";
    assert_eq!(lines, [line]);
    let list = fixture.ann.get("/chats").await;
    list.expect_error(500, "internal");

    fixture.set("STATE", "updatedAt", number(updated_at)).await;
    fixture
        .set(FIRST_MESSAGE, "createdAt", number(MICROSECONDS))
        .await;
    let (lines, _) = check(fixture.table(), CHECK).await;
    let line =
        "CHAT#11-22 MSG#0000000000000001: createdAt is 1767225599007000, after the year 9999";
    assert_eq!(lines, [line]);
    let messages = fixture.ann.messages(&fixture.chat, "").await;
    messages.expect_error(500, "internal");
}

#[tokio::test]
async fn a_repair_without_permission_is_an_error_and_the_check_goes_on() {
    let proxied = ProxiedStack::start().await;
    let TestStack { stack, api, table } = &proxied.stack;
    let (ann, ben) = (api.user_with_id(11), api.user_with_id(22));
    let chat = ann.start_chat(&ben).await;
    ann.send(&chat, "one").await.expect_status(201);
    table
        .set("CHAT#11-22", "STATE", "highUnread", number(5))
        .await;
    table.set("USER#11", "SENT", "open", number(5)).await;
    let lines = [
        "CHAT#11-22 STATE: highUnread is 5, should be 1",
        "USER#11 SENT: open is 5, should be 0",
    ];
    // The requests of the check go through the proxy.
    let behind_proxy = Table::at(stack.dynamodb_endpoint(), stack.table());
    let denied = Fault::error("UpdateItem", 400, "AccessDeniedException");
    proxied.inject_always(Some(denied));
    let report = Report::of(&behind_proxy, REPAIR).await;
    for line in lines {
        assert_has_line(&report.lines, line);
    }
    let summary = report.summary;
    assert_eq!(summary.repaired, 0);
    assert_eq!(report.repair_errors.len() as u64, summary.violations);
    for error in &report.repair_errors {
        assert!(error.contains("AccessDeniedException"), "{error}");
    }

    proxied.inject_always(None);
    let report = Report::of(&behind_proxy, REPAIR).await;
    for line in lines {
        assert_has_line(&report.lines, &format!("{line} (repaired)"));
    }
    assert_eq!(report.repair_errors, [""; 0]);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
}

#[tokio::test]
async fn counters_that_cannot_be_evaluated_are_named_and_never_repaired() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let bens_shard = totals_shards(table, 22).await.remove(0);
    table.delete(&fixture.pk, "STATE").await;
    let before = table.everything().await;
    let (lines, summary) = check(table, REPAIR).await;
    assert_has_line(&lines, "CHAT#11-22 STATE: is missing");
    let reason = "inconclusive: chat 11-22 is damaged; correct it first, then check again";
    assert_has_line(&lines, &format!("USER#22 {bens_shard}: {reason}"));
    assert_has_line(&lines, &format!("USER#11 SENT: {reason}"));
    assert_eq!((summary.violations, summary.repaired), (1, 0));
    assert_eq!(summary.inconclusive, lines.len() as u64 - 1);
    assert_eq!(table.everything().await, before);
}

#[tokio::test]
async fn a_counter_of_a_wrong_type_is_repaired() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let bens_shard = totals_shards(table, 22).await.remove(0);
    table
        .set("USER#22", &bens_shard, "unread", text("secret"))
        .await;
    let decimals = AttributeValue::N("1.5".to_owned());
    fixture.set("STATE", "lowUnread", decimals).await;
    let (lines, summary) = check(table, REPAIR).await;
    assert_eq!(
        lines,
        [
            "CHAT#11-22 STATE: lowUnread is 1.5, should be 1 (repaired)".to_owned(),
            format!("USER#22 {bens_shard}: unread is a string, should be 2 (repaired)"),
        ]
    );
    assert_eq!((summary.violations, summary.repaired), (2, 2));
    assert_eq!(invariant_violations(table).await, [""; 0]);
}

#[tokio::test]
async fn a_chat_without_an_index_key_is_counted_all_the_same_and_repaired() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let remove = table.client.update_item().table_name(&table.name);
    let remove = remove.key("pk", text(&fixture.pk)).key("sk", text("STATE"));
    let remove = remove.update_expression("REMOVE recipientKey");
    remove.send().await.unwrap();
    let line = "CHAT#11-22 STATE: recipientKey is missing, should be 22#active";
    assert_eq!(check(table, CHECK).await.0, [line]);
    let repaired = check(table, REPAIR).await.0;
    assert_eq!(repaired, [format!("{line} (repaired)")]);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
}

#[tokio::test]
async fn items_of_a_newer_version_are_counted_and_are_no_violations() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    for (pk, sk) in [
        ("CHAT#11-22", "DRAFT#11"),
        ("CHAT#11-44", "DEVICE#11"),
        ("USER#11", "DEVICE#44"),
        ("USER#44", "DEVICE#11"),
        ("GROUP#1", "GROUP"),
    ] {
        let entity_type = sk.split('#').next().unwrap();
        table.set(pk, sk, "type", text(entity_type)).await;
    }
    let report = Report::of(table, CHECK).await;
    assert_eq!(report.lines, [""; 0]);
    let counts = [("DEVICE", 3), ("DRAFT", 1), ("GROUP", 1)];
    let counts = counts.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(report.unknown_types, BTreeMap::from(counts));
    assert_eq!((report.summary.chats, report.summary.users), (2, 3));
}

/// The same rule as in the property tests of `chat-admin`, with a real table and its indexes.
#[tokio::test]
async fn an_attribute_that_is_missing_or_of_another_type_is_named() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let items = stored_items(table).await;
    let mut random = fastrand::Rng::with_seed(25);
    for _ in 0..12 {
        let item = &items[random.usize(..items.len())];
        let (pk, sk) = (text_of(item, "pk"), text_of(item, "sk"));
        let mut names: Vec<_> = item
            .keys()
            .filter(|name| *name != "pk" && *name != "sk")
            .collect();
        names.sort();
        let name = names[random.usize(..names.len())];
        let is_index_key = ["requesterKey", "recipientKey", "activity"].contains(&name.as_str());
        // DynamoDB rejects an index key of another type.
        let is_removed = is_index_key || random.bool();
        let mut damaged = item.clone();
        if is_removed {
            damaged.remove(name);
        } else {
            damaged.insert(name.clone(), AttributeValue::L(Vec::new()));
        }
        put(table, damaged).await;
        let (lines, _) = check(table, CHECK).await;
        // A counter without an attribute counts as 0, and its next change writes its type. Nothing depends on the
        // number of its changes but which totals clients take.
        let is_harmless = is_removed
            && pk.starts_with("USER#")
            && (name == "type" || name == "changes" || item[name] == number(0));
        let start = format!("{pk} {sk}: ");
        let is_named = lines
            .iter()
            .any(|line| line.starts_with(&start) && line.contains(name));
        assert!(
            is_named || is_harmless,
            "{start}{name}, removed: {is_removed}: {lines:#?}"
        );
        put(table, item.clone()).await;
    }
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
}

#[tokio::test]
async fn a_copy_brings_back_what_was_deleted_and_the_check_corrects_the_counters() {
    let fixture = Fixture::new().await;
    let (table, ann) = (fixture.table(), &fixture.ann);
    let restored = fixture.restored_table().await;
    ann.send(&fixture.chat, "four").await.expect_status(201);
    // The mistake.
    let bens_shard = totals_shards(table, 22).await.remove(0);
    for (pk, sk) in [
        ("CHAT#11-22", FIRST_MESSAGE),
        ("CHAT#11-22", SECOND_MESSAGE),
        ("CHAT#11-22", "KEY#11#key"),
        ("CHAT#11-33", "STATE"),
        ("USER#22", bens_shard.as_str()),
        ("USER#33", "SENT"),
    ] {
        table.delete(pk, sk).await;
    }
    let before = table.everything().await;

    let (lines, would_copy) = copy(&restored, table, true).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!((would_copy.copied, would_copy.not_copied), (6, 0));
    assert_eq!(table.everything().await, before);
    let (lines, copied) = copy(&restored, table, false).await;
    assert_eq!((lines.len(), copied), (0, would_copy));
    let (_, again) = copy(&restored, table, false).await;
    assert_eq!(again.copied, 0);

    // Ben's total is as old as the restored table.
    let line = format!("USER#22 {bens_shard}: unread is 2, should be 3 (repaired)");
    assert_eq!(check(table, REPAIR).await.0, [line]);
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
    assert_eq!(invariant_violations(table).await, [""; 0]);
    assert_eq!(fixture.ben.totals().await, [0, 3, 0]);
    assert_eq!(fixture.cat.totals().await, [0, 0, 1]);
    let messages = ann.messages(&fixture.chat, "").await.expect_status(200);
    let messages = messages.body["messages"].as_array().unwrap().clone();
    let texts: Vec<_> = messages.iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["four", "three", "two", "one"]);
}

#[tokio::test]
async fn a_copy_leaves_out_what_contradicts_the_live_chat() {
    let fixture = Fixture::new().await;
    let (table, ann, ben) = (fixture.table(), &fixture.ann, &fixture.ben);
    let restored = fixture.restored_table().await;
    ann.send(&fixture.chat, "four").await.expect_status(201);
    // The restored state does not count the fourth message. The next one would replace it.
    table.delete("CHAT#11-22", "STATE").await;
    table.delete("CHAT#11-22", FIRST_MESSAGE).await;
    let before = table.everything().await;
    let (lines, summary) = copy(&restored, table, false).await;
    let line = "CHAT#11-22 STATE: not copied: the target has message 4, but seq of the chat to copy \
                is 3; restore a later time";
    assert_eq!(lines, [line]);
    assert_eq!((summary.copied, summary.not_copied), (0, 2));
    assert_eq!(table.everything().await, before);

    // The users start the chat again. New messages would replace the restored ones.
    for sk in table.chat("11-22").await.keys() {
        table.delete("CHAT#11-22", sk).await;
    }
    ann.start_chat(ben).await;
    ben.send(&fixture.chat, "new").await.expect_status(201);
    let (lines, summary) = copy(&restored, table, false).await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_line_starts_with(&lines, "CHAT#11-22 STATE: not copied: createdAt is ");
    // The state, three messages and an idempotency key.
    assert_eq!((summary.copied, summary.not_copied), (0, 5));
    let messages = ann.messages(&fixture.chat, "").await.expect_status(200);
    assert_eq!(messages.body["messages"][0]["text"], "new");
}

#[tokio::test]
async fn a_copy_brings_back_changes_and_reports_but_nothing_that_a_user_has_deleted_since() {
    let fixture = Fixture::new().await;
    let (table, ann) = (fixture.table(), &fixture.ann);
    fixture.use_safety_features().await;
    let restored = fixture.restored_table().await;
    let report = "FLAG#11#0000000000000003";
    let content = "HIST#0000000000000003#0000000000000002";
    let lost = [FIRST_CHANGE, content, report];
    for sk in lost {
        table.delete("CHAT#11-22", sk).await;
    }
    table.delete("CHAT#22-55", "STATE").await;
    let (lines, summary) = copy(&restored, table, false).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!((summary.copied, summary.not_copied), (4, 0));
    assert_eq!(check(table, CHECK).await.0, [""; 0]);

    ann.edit_text(&fixture.chat, 2, "two again")
        .await
        .expect_status(200);
    ann.delete_message(&fixture.chat, 1)
        .await
        .expect_status(200);
    table.delete("CHAT#11-22", FIRST_MESSAGE).await;
    let before = table.everything().await;
    for dry_run in [true, false] {
        let (lines, summary) = copy(&restored, table, dry_run).await;
        let line = "CHAT#11-22 MSG#0000000000000001: not copied: the message was edited or deleted \
                    since, by change 4 in the target; restore a later time";
        assert_eq!(lines, [line]);
        assert_eq!((summary.copied, summary.not_copied), (0, 1));
    }
    assert_eq!(table.everything().await, before);

    // The other way round, the target is older.
    let (lines, summary) = copy(table, &restored, false).await;
    let counted = "but rev of the chat in the target is 2";
    assert_eq!(
        lines,
        [
            format!(
                "CHAT#11-22 CHG#0000000000000003: not copied: it belongs to change 3, {counted}"
            ),
            format!(
                "CHAT#11-22 CHG#0000000000000004: not copied: it belongs to change 4, {counted}"
            ),
            format!(
                "CHAT#11-22 HIST#0000000000000001#0000000000000004: not copied: it belongs to \
                 change 4, {counted}"
            ),
            format!(
                "CHAT#11-22 HIST#0000000000000002#0000000000000003: not copied: it belongs to \
                 change 3, {counted}"
            ),
            format!(
                "CHAT#11-22 {SECOND_MESSAGE}: not copied: the target has an older version of this \
                 message"
            ),
        ]
    );
    assert_eq!((summary.copied, summary.not_copied), (0, 5));
}

#[tokio::test]
async fn a_chat_that_began_after_a_block_is_not_a_chat_that_was_started_again() {
    let fixture = Fixture::new().await;
    let (table, ann, ben) = (fixture.table(), &fixture.ann, &fixture.ben);
    let eve = fixture.stack.api.user_with_id(55);
    ben.block(&eve).await.expect_status(200);
    let restored = fixture.restored_table().await;
    ben.unblock(&eve).await.expect_status(200);
    let chat = eve.start_chat(ben).await;
    eve.send(&chat, "hello").await.expect_status(201);
    table.delete(&fixture.pk, FIRST_MESSAGE).await;
    let (lines, summary) = copy(&restored, table, false).await;
    assert_eq!(lines, [""; 0]);
    assert_eq!((summary.copied, summary.not_copied), (1, 0));
    assert_eq!(check(table, CHECK).await.0, [""; 0]);
    assert_eq!(ann.totals().await, [1, 1, 0]);
}

#[tokio::test]
async fn blocks_that_are_newer_than_in_the_target_are_named_and_the_rest_of_the_chat_is_copied() {
    let fixture = Fixture::new().await;
    let (table, ann, ben) = (fixture.table(), &fixture.ann, &fixture.ben);
    let eve = fixture.stack.api.user_with_id(55);
    ben.block(&eve).await.expect_status(200);
    let restored = fixture.restored_table().await;
    ann.block(ben).await.expect_status(200);
    ben.unblock(&eve).await.expect_status(200);
    let before = restored.everything().await;
    restored.delete(&fixture.pk, FIRST_MESSAGE).await;
    let lines = ["CHAT#11-22", "CHAT#22-55"];
    let reason = "its blocks are newer than in the target";
    let lines = lines.map(|chat| format!("{chat} STATE: not copied: {reason}"));
    for dry_run in [true, false] {
        let (found, summary) = copy(table, &restored, dry_run).await;
        assert_eq!(found, lines);
        assert_eq!((summary.copied, summary.not_copied), (1, 2));
    }
    let sorted = |mut items: Vec<(String, String, serde_json::Value)>| {
        items.sort_by_key(|(pk, sk, _)| (pk.clone(), sk.clone()));
        items
    };
    assert_eq!(sorted(restored.everything().await), sorted(before));
    // The other way round, the target knows the blocks.
    let (found, summary) = copy(&restored, table, false).await;
    assert_eq!(found, [""; 0]);
    assert_eq!((summary.copied, summary.not_copied), (0, 0));
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

/// Starts users who send, edit, delete, read, request, accept, withdraw and block until `stop` is set.
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
                let seq = random.u64(1..=40);
                match random.u8(..24) {
                    0 | 1 => me.request_chat(other).await,
                    2 | 3 => me.accept(&chat).await,
                    4 => me.decline(&chat).await,
                    5 => me.withdraw(&chat).await,
                    6 => me.block(other).await,
                    7..=9 => me.unblock(other).await,
                    10 | 11 => me.mark_read(&chat).await,
                    12 => me.mark_up_to(&chat, seq).await,
                    13 => me.edit_text(&chat, seq, "edited").await,
                    14..=16 => me.delete_message(&chat, seq).await,
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

#[tokio::test]
async fn an_item_that_the_indexes_or_the_ttl_must_not_contain_is_a_line() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let state = &table.chat("11-22").await["STATE"];
    let activity = state["activity"].as_str().unwrap();
    fixture
        .set(FIRST_MESSAGE, "requesterKey", text("11#active"))
        .await;
    fixture.set(FIRST_MESSAGE, "activity", text(activity)).await;
    // In the year 2286: DynamoDB must not delete the item before the check.
    let expires_at = number(9_999_999_999);
    table.set("USER#33", "SENT", "expiresAt", expires_at).await;
    let (lines, summary) = check(table, REPAIR).await;
    let index = "must not exist: the indexes contain only chats and open reports";
    assert_eq!(
        lines,
        [
            format!("CHAT#11-22 {FIRST_MESSAGE}: activity {index}"),
            format!("CHAT#11-22 {FIRST_MESSAGE}: requesterKey {index}"),
            "USER#33 SENT: expiresAt must not exist: DynamoDB deletes the item at this time"
                .to_owned(),
        ]
    );
    assert_eq!((summary.violations, summary.repairable), (3, 0));
}

#[tokio::test]
async fn a_copy_names_a_chat_that_was_started_again_even_if_its_messages_hide_all_old_ones() {
    let fixture = Fixture::new().await;
    let (table, ann, ben) = (fixture.table(), &fixture.ann, &fixture.ben);
    let restored = fixture.restored_table().await;
    for sk in table.chat("11-22").await.keys() {
        table.delete("CHAT#11-22", sk).await;
    }
    ann.start_chat(ben).await;
    for content in ["a", "b", "c"] {
        ben.send(&fixture.chat, content).await.expect_status(201);
    }
    let before = table.everything().await;
    for dry_run in [true, false] {
        let (lines, summary) = copy(&restored, table, dry_run).await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_line_starts_with(&lines, "CHAT#11-22 STATE: not copied: createdAt is ");
        let reason = "the users have started this chat again";
        assert!(lines[0].ends_with(reason), "{lines:#?}");
        // The state, three messages and an idempotency key.
        assert_eq!((summary.copied, summary.not_copied), (0, 5));
    }
    assert_eq!(table.everything().await, before);
}

#[tokio::test]
async fn a_copied_idempotency_key_never_refers_to_another_message() {
    let fixture = Fixture::new().await;
    let table = fixture.table();
    let restored = fixture.restored_table().await;
    table.delete("CHAT#11-22", "KEY#11#key").await;
    fixture.set(SECOND_MESSAGE, "text", text("other")).await;
    let before = table.everything().await;
    let key = "CHAT#11-22 KEY#11#key: not copied";
    let message = format!("CHAT#11-22 {SECOND_MESSAGE}: not copied");
    let other_message = "the target has another message with";
    let (lines, summary) = copy(&restored, table, false).await;
    assert_eq!(
        lines,
        [
            format!("{key}: {other_message} the number of its message"),
            format!("{message}: {other_message} this number"),
        ]
    );
    assert_eq!((summary.copied, summary.not_copied), (0, 2));

    restored.delete("CHAT#11-22", SECOND_MESSAGE).await;
    let (lines, _) = copy(&restored, table, false).await;
    let reason = "its message is missing in the table to copy from";
    assert_eq!(lines, [format!("{key}: {reason}")]);
    assert_eq!(table.everything().await, before);
}
