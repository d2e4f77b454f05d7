//! Invariants of the table: the guarantees of the contract, verified by reading every item. `chat-admin` verifies them
//! independently of this module, so most tests use both.

use std::{collections::BTreeMap, time::Duration};

use chat_admin::check::{CheckEvent, CheckOptions, check_table};
use chat_shared::{domain::Timestamp, store::TableClient};
use serde_json::Value;

use crate::Table;

/// Nothing else changes the table, so nothing has to settle.
const CHECK: CheckOptions = CheckOptions {
    repair: false,
    settle: Duration::ZERO,
};
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// The items of a partition, by sort key.
type Items = BTreeMap<String, Value>;

/// Totals by user and attribute.
type Totals = BTreeMap<(u64, &'static str), i64>;

/// One line for each violation that `chat-admin` finds.
pub async fn admin_findings(table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    let mut report = |event: CheckEvent<'_>| match event {
        CheckEvent::Violation(violation) => lines.push(violation.to_string()),
        CheckEvent::UnknownTypes(types) => lines.push(format!("unknown types: {types:?}")),
        CheckEvent::Progress(_) => {}
    };
    let store = TableClient::new(table.client.clone(), &table.name).store_at(Timestamp::now());
    let check = Box::pin(check_table(&store, CHECK, &mut report));
    check.await.unwrap();
    lines.sort();
    lines
}

/// One line for each violated invariant, with the key of the item; empty if there is no violation.
pub async fn invariant_violations(table: &Table) -> Vec<String> {
    let mut violations = Vec::new();
    let mut chats: BTreeMap<String, Items> = BTreeMap::new();
    let mut actual_totals = Totals::new();
    let mut expected_totals = Totals::new();
    for (pk, sk, item) in table.everything().await {
        if let Some(user) = pk.strip_prefix("USER#") {
            let user = user.parse().unwrap();
            for counter in ["pending", "unread", "open"] {
                let count = item[counter].as_i64().unwrap_or(0);
                if count < 0 {
                    violations.push(format!(
                        "{pk} {sk}: {counter} is {count}, which is negative"
                    ));
                }
                *actual_totals.entry((user, counter)).or_default() += count;
            }
        } else {
            chats.entry(pk).or_default().insert(sk, item);
        }
    }
    for (pk, items) in &chats {
        let mut found = check_reports(items);
        if let Some(chat) = StoredChat::new(pk, items) {
            found.extend(chat.violations());
            chat.add_totals(&mut expected_totals);
        } else if items.keys().any(|sk| !sk.starts_with("FLAG#")) {
            // A user can report another one without having a chat with them.
            found.push("STATE is missing".to_owned());
        }
        violations.extend(found.into_iter().map(|line| format!("{pk}: {line}")));
    }
    for key in actual_totals.keys().chain(expected_totals.keys()) {
        let (actual, correct) = (
            actual_totals.get(key).unwrap_or(&0),
            expected_totals.get(key).unwrap_or(&0),
        );
        if actual != correct {
            violations.push(format!(
                "USER#{}: {} is {actual}, should be {correct}",
                key.0, key.1
            ));
        }
    }
    violations.dedup();
    violations
}

/// One line for each violated invariant of the reports of a pair.
fn check_reports(items: &Items) -> Vec<String> {
    let mut violations = Vec::new();
    for (sk, report) in items.iter().filter(|(sk, _)| sk.starts_with("FLAG#")) {
        let queue = if report["state"] == "open" {
            Value::from("#reports#open")
        } else {
            Value::Null
        };
        if report["requesterKey"] != queue {
            violations.push(format!(
                "{sk}: requesterKey is {}, should be {queue}",
                report["requesterKey"]
            ));
        }
        let Some(seq) = report["seq"].as_u64() else {
            continue;
        };
        let Some(message) = items.get(&format!("MSG#{seq:016}")) else {
            violations.push(format!("{sk}: the reported message is missing"));
            continue;
        };
        if message["senderId"] != report["userId"] {
            violations.push(format!("{sk}: another user sent the reported message"));
        }
        if !has_content(report) {
            violations.push(format!("{sk}: the copy of the message is missing"));
        }
    }
    violations
}

/// Whether a message, or a copy of one, has a text or a URL.
fn has_content(item: &Value) -> bool {
    let parts = ["text", "imageUrl", "linkPreviewUrl"];
    parts.iter().any(|part| item[*part].is_string())
}

/// A member of a stored chat.
struct Member {
    id: u64,
    /// The names of the member's attributes.
    unread: &'static str,
    held: &'static str,
    read_seq: &'static str,
    block: &'static str,
}

/// The state of a pair, with all items of the pair.
struct StoredChat<'a> {
    items: &'a Items,
    state: &'a Value,
    members: [Member; 2],
}

impl<'a> StoredChat<'a> {
    /// `None` if the pair has no state.
    fn new(pk: &str, items: &'a Items) -> Option<Self> {
        let state = items.get("STATE")?;
        let ids: Vec<u64> = pk[5..].split('-').map(|id| id.parse().unwrap()).collect();
        let members = [
            Member {
                id: ids[0],
                unread: "lowUnread",
                held: "lowHeld",
                read_seq: "lowReadSeq",
                block: "lowBlock",
            },
            Member {
                id: ids[1],
                unread: "highUnread",
                held: "highHeld",
                read_seq: "highReadSeq",
                block: "highBlock",
            },
        ];
        Some(Self {
            items,
            state,
            members,
        })
    }

    fn number(&self, attribute: &str) -> u64 {
        self.state[attribute].as_u64().unwrap()
    }

    /// A count that is absent while it is 0.
    fn count(&self, attribute: &str) -> i64 {
        self.state[attribute].as_i64().unwrap_or(0)
    }

    fn status(&self) -> &str {
        self.state["status"].as_str().unwrap()
    }

    fn member(&self, id: u64) -> &Member {
        let [low, high] = &self.members;
        if id == low.id { low } else { high }
    }

    fn has_blocked(&self, member: &Member) -> bool {
        !self.state[member.block].is_null()
    }

    /// The items whose sort keys have a prefix, with the rest of the sort key.
    fn with_prefix(&self, prefix: &str) -> Vec<(&'a str, &'a Value)> {
        let items = self.items.iter();
        items
            .filter_map(|(sk, item)| Some((sk.strip_prefix(prefix)?, item)))
            .collect()
    }

    fn messages(&self) -> Vec<(u64, &'a Value)> {
        let messages = self.with_prefix("MSG#").into_iter();
        messages
            .map(|(seq, message)| (seq.parse().unwrap(), message))
            .collect()
    }

    fn violations(&self) -> Vec<String> {
        let mut violations = self.check_messages();
        violations.extend(self.check_counts());
        violations.extend(self.check_changes());
        violations.extend(self.check_preview());
        violations.extend(self.check_index_keys());
        let statuses = ["none", "pending", "active", "declined", "withdrawn"];
        if !statuses.contains(&self.status()) {
            violations.push(format!("status is {}", self.status()));
        }
        let recipient = self.member(self.number("recipientId"));
        let hidden = if self.status() == "pending" && self.has_blocked(recipient) {
            Value::from(true)
        } else {
            Value::Null
        };
        if self.state["hid"] != hidden {
            violations.push(format!("hid is {}, should be {hidden}", self.state["hid"]));
        }
        violations
    }

    fn check_messages(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let messages = self.messages();
        let seqs = messages.iter().map(|(seq, _)| *seq);
        if !seqs.eq(1..=self.number("seq")) {
            violations.push(format!(
                "there are {} messages, but seq is {}",
                messages.len(),
                self.state["seq"]
            ));
        }
        if !messages.is_sorted_by_key(|(_, message)| message["createdAt"].as_u64()) {
            violations.push("createdAt decreases".to_owned());
        }
        for (seq, message) in messages {
            let is_deleted = message["deletedAt"].is_u64();
            if has_content(message) == is_deleted {
                violations.push(format!(
                    "message {seq} is deleted: {is_deleted}, but has content: {}",
                    has_content(message)
                ));
            }
        }
        violations
    }

    fn check_counts(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for member in &self.members {
            let (unread, held) = (self.count(member.unread), self.count(member.held));
            let is_unread = |(seq, message): &(u64, &Value)| {
                *seq > self.number(member.read_seq)
                    && message["senderId"] != member.id
                    && message["deletedAt"].is_null()
            };
            let correct = self.messages().into_iter().filter(is_unread).count();
            if unread < 0 || held < 0 || usize::try_from(unread + held) != Ok(correct) {
                violations.push(format!(
                    "{} is {unread} and {} is {held}, should be {correct} together",
                    member.unread, member.held
                ));
            }
            if self.has_blocked(member) && unread != 0 {
                violations.push(format!(
                    "{} is {unread}, but the member has blocked the other",
                    member.unread
                ));
            }
            if !self.has_blocked(member) && held != 0 {
                violations.push(format!(
                    "{} is {held}, but the member has not blocked the other",
                    member.held
                ));
            }
        }
        violations
    }

    /// The changes are numbered without gaps, each message knows its last one, and the content before each change is
    /// kept.
    fn check_changes(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let changes = self.with_prefix("CHG#");
        let rev = u64::try_from(self.count("rev")).unwrap_or(0);
        let revs = changes.iter().map(|(rev, _)| rev.parse::<u64>().unwrap());
        if !revs.eq(1..=rev) {
            let revs: Vec<_> = changes.iter().map(|(rev, _)| rev).collect();
            violations.push(format!("rev is {rev}, but the changes are {revs:?}"));
        }
        let mut last_changes: BTreeMap<u64, u64> = BTreeMap::new();
        for (rev, change) in changes.iter().copied() {
            let seq = change["seq"].as_u64().unwrap();
            last_changes.insert(seq, rev.parse().unwrap());
            let previous = self.items.get(&format!("HIST#{seq:016}#{rev}"));
            let message = self.items.get(&format!("MSG#{seq:016}"));
            let (Some(previous), Some(message)) = (previous, message) else {
                violations.push(format!(
                    "the message {seq} of change {rev}, or what it contained, is missing"
                ));
                continue;
            };
            let is_same = |attribute: &str| previous[attribute] == message[attribute];
            if !has_content(previous) || !is_same("senderId") || !is_same("createdAt") {
                violations.push(format!("the content before change {rev} is {previous}"));
            }
            let expires = [
                (change, "at", 90 * SECONDS_PER_DAY),
                (previous, "replacedAt", 30 * SECONDS_PER_DAY),
            ];
            for (item, from, seconds) in expires {
                let expected = item[from].as_u64().unwrap() / 1_000 + seconds;
                if item["expiresAt"] != expected {
                    violations.push(format!(
                        "change {rev}: expiresAt of {item} should be {expected}"
                    ));
                }
            }
        }
        let contents = self.with_prefix("HIST#").len();
        if contents != changes.len() {
            violations.push(format!(
                "there are {contents} previous contents of {} changes",
                changes.len()
            ));
        }
        for (seq, message) in self.messages() {
            let (actual, last) = (&message["rev"], last_changes.get(&seq));
            if *actual != last.map_or(Value::Null, |rev| Value::from(*rev)) {
                violations.push(format!("message {seq}: rev is {actual}, not {last:?}"));
            }
            let is_changed = message["editedAt"].is_u64() || message["deletedAt"].is_u64();
            if is_changed != last.is_some() {
                violations.push(format!(
                    "message {seq}: is changed: {is_changed}, but its last change is {last:?}"
                ));
            }
        }
        violations
    }

    /// The preview shows the last message as it is now.
    fn check_preview(&self) -> Option<String> {
        let preview = &self.state["lastMessage"];
        let messages = self.messages();
        let Some(&(seq, message)) = messages.last() else {
            return (!preview.is_null()).then(|| format!("lastMessage is {preview}"));
        };
        let is_same = |attribute: &str| preview[attribute] == message[attribute];
        let text = |item: &'a Value| item["text"].as_str();
        let has_same_text = match (text(preview), text(message)) {
            (Some(start), Some(text)) => text.starts_with(start) && !start.is_empty(),
            (start, text) => start == text,
        };
        let is_deleted = preview["deleted"] == true;
        let is_current = preview["seq"] == seq
            && is_same("senderId")
            && is_same("createdAt")
            && has_same_text
            && is_deleted == message["deletedAt"].is_u64();
        (!is_current).then(|| format!("lastMessage is {preview}, but the message is {message}"))
    }

    /// Lists of chats are queries for these attributes.
    fn check_index_keys(&self) -> Vec<String> {
        let key = |role: &str| {
            let member = self.member(self.number(role));
            match self.status() {
                _ if self.has_blocked(member) => format!("{}#blocked", member.id).into(),
                "none" | "withdrawn" => Value::Null,
                status => format!("{}#{status}", member.id).into(),
            }
        };
        let [low, high] = &self.members;
        let activity = format!(
            "{:015}#{:016}-{:016}",
            self.number("updatedAt"),
            low.id,
            high.id
        );
        let keys = [
            ("requesterKey", key("requesterId")),
            ("recipientKey", key("recipientId")),
            ("activity", activity.into()),
        ];
        let wrong = keys
            .into_iter()
            .filter(|(name, key)| self.state[*name] != *key);
        wrong
            .map(|(name, key)| format!("{name} is {}, should be {key}", self.state[name]))
            .collect()
    }

    /// Adds what the totals of the members should count.
    fn add_totals(&self, totals: &mut Totals) {
        for member in &self.members {
            *totals.entry((member.id, "unread")).or_default() += self.count(member.unread);
        }
        if self.status() == "pending" {
            let [requester, recipient] =
                ["requesterId", "recipientId"].map(|role| self.number(role));
            *totals.entry((requester, "open")).or_default() += 1;
            if self.state["hid"].is_null() {
                *totals.entry((recipient, "pending")).or_default() += 1;
            }
        }
    }
}
