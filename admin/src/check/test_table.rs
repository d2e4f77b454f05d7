//! A valid table in memory for the tests of the evaluation, which they evaluate as the check does.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use chat_shared::{
    domain::{ChatId, Timestamp, UserId},
    store::items::{ChatItem, Item, ItemKey, Partition, TotalsItem},
};

use super::{
    chat::ChatTally,
    connection::check_connection,
    read::index_keys,
    scan::ScannedItem,
    state::ChatState,
    user::{Counter, ExpectedCounts, StoredCounts},
    violation::Violation,
};

/// A table in memory.
pub(super) type Table = BTreeMap<ItemKey, Item>;

/// When the chats of [`valid_table`] were created, in milliseconds since 1970.
pub(super) const CREATED: u64 = 1_700_000_000_000;
/// The attribute that is a map, and the prefix of the paths to its attributes.
pub(super) const LAST_MESSAGE: &str = "lastMessage";

/// Evaluates a table as the check does.
pub(super) fn evaluate(table: &Table) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut chats: BTreeMap<ChatId, Vec<&Item>> = BTreeMap::new();
    let mut users: BTreeMap<UserId, Vec<&Item>> = BTreeMap::new();
    for item in table.values() {
        match ScannedItem::new(item) {
            ScannedItem::Known(Partition::Chat(id), _) => chats.entry(id).or_default().push(item),
            ScannedItem::Known(Partition::User(user), _) => {
                users.entry(user).or_default().push(item);
            }
            ScannedItem::UnknownType(_) => {}
            ScannedItem::Damaged(violation) => violations.push(*violation),
        }
    }
    let mut damaged = BTreeSet::new();
    for (id, items) in &chats {
        let key = ChatItem::key(*id);
        let state = table.get(&key);
        let mut tally = ChatTally::new(*id, state, now());
        // The check reads the items before the state.
        for item in items {
            if item["sk"].as_s().unwrap() < &key.sk {
                tally.add((*item).clone());
            }
        }
        let found = tally.finish(state);
        if found.iter().any(|violation| violation.key == key) {
            damaged.insert(*id);
        }
        violations.extend(found);
        for member in [id.low(), id.high()] {
            users.entry(member).or_default();
        }
    }
    for (user, items) in users {
        let mut expected = ExpectedCounts::default();
        for id in chats.keys().filter(|id| id.has_member(user)) {
            let state = table.get(&ChatItem::key(*id));
            let is_listed = state.is_some_and(|state| is_listed(user, state));
            if is_listed || damaged.contains(id) {
                let state = state.map(|item| ChatState::read(*id, item, now()).0);
                expected.add(&state.unwrap_or_else(ChatState::missing), *id, user);
            }
        }
        let mut stored = StoredCounts::default();
        for item in items {
            violations.extend(check_connection(item.clone()));
            stored.add(item.clone());
        }
        violations.extend(stored.take_violations());
        let counters = expected.counters().chain(stored.counters());
        let counters: BTreeSet<Counter> = counters.cloned().collect();
        for counter in counters {
            violations.extend(stored.compare(&counter, expected.get(&counter)));
        }
    }
    violations
}

/// Whether an index lists a chat for a user.
fn is_listed(user: UserId, state: &Item) -> bool {
    let is_key = |attribute: &str| {
        let key = state.get(attribute).and_then(|key| key.as_s().ok());
        key.is_some_and(|key| index_keys(user).contains(key))
    };
    let has_sort_key = state
        .get("activity")
        .is_some_and(|activity| activity.as_s().is_ok());
    has_sort_key && (is_key("requesterKey") || is_key("recipientKey"))
}

/// When the tables are evaluated.
pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(CREATED + 1_000)
}

pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn attributes<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    let values = values.map(|(name, value)| (name.to_owned(), value));
    Item::from(values)
}

pub(super) fn insert<const N: usize>(
    table: &mut Table,
    key: &ItemKey,
    entity_type: &str,
    values: [(&str, AttributeValue); N],
) {
    let item = table.entry(key.clone()).or_default();
    item.extend(attributes(values));
    item.insert("pk".to_owned(), text(&key.pk));
    item.insert("sk".to_owned(), text(&key.sk));
    item.insert("type".to_owned(), text(entity_type));
}

/// A table with every kind of item:
///
/// - 11 and 22 have an active chat of three messages, two of them unread. 11 has edited one of them twice, and
///   has reported one of 22, which an operator has resolved.
/// - 11 and 44 have an active chat. 44 has blocked 11, and has one unread message. 11 has deleted the last one.
/// - 33 has sent a request to 11, and one to 44, who has blocked 33 and does not see it.
/// - 22 has withdrawn a request to 33, and has blocked and reported 44; they have no chat.
/// - 11 has a connection, and 55 has one and nothing else.
pub(super) fn valid_table() -> Table {
    let mut table = Table::new();
    insert_active_chat(&mut table);
    insert_blocked_chat(&mut table);
    let no_block = [];
    insert_chat(&mut table, [33, 11], "pending", CREATED, &no_block);
    let hidden = [
        ("hid", AttributeValue::Bool(true)),
        ("highBlock", number(CREATED)),
        ("v", number(3)),
    ];
    insert_chat(&mut table, [33, 44], "pending", CREATED, &hidden);
    insert_chat(&mut table, [22, 33], "withdrawn", CREATED + 100, &no_block);
    let blocked = [("lowBlock", number(CREATED + 500)), ("v", number(1))];
    insert_chat(&mut table, [22, 44], "none", CREATED + 500, &blocked);
    insert_reports(&mut table);
    insert_counters(&mut table);
    insert_connections(&mut table);
    table
}

fn insert_active_chat(table: &mut Table) {
    let last = CREATED + 300;
    let preview = attributes([
        ("seq", number(3)),
        ("senderId", number(22)),
        ("text", text("three")),
        ("createdAt", number(last)),
        ("whole", AttributeValue::Bool(true)),
    ]);
    let conversation = [
        ("seq", number(3)),
        ("rev", number(2)),
        ("lowUnread", number(1)),
        ("highUnread", number(1)),
        ("highReadSeq", number(1)),
        (LAST_MESSAGE, AttributeValue::M(preview)),
    ];
    insert_chat(table, [11, 22], "active", last, &conversation);
    let key = |sk: &str| ItemKey::new("CHAT#11-22", sk);
    for (sk, sender, content, time) in [
        ("MSG#0000000000000001", 11, "one", CREATED + 100),
        ("MSG#0000000000000002", 11, "two", CREATED + 200),
        ("MSG#0000000000000003", 22, "three", last),
    ] {
        insert_message(table, &key(sk), sender, content, time);
    }
    let edited = [
        ("imageUrl", text("https://a.example/i")),
        ("linkPreviewUrl", text("https://a.example/l")),
        ("editedAt", number(CREATED + 400)),
        ("rev", number(2)),
        ("idempotencyKey", text("k")),
    ];
    insert(table, &key("MSG#0000000000000002"), "Message", edited);
    for (rev, time) in [(1, CREATED + 350), (2, CREATED + 400)] {
        insert_change(table, "CHAT#11-22", 11, (2, CREATED + 200), (rev, time));
    }
    let idempotency_key = [
        ("seq", number(2)),
        ("hash", AttributeValue::B(Blob::new([7_u8; 32]))),
        ("expiresAt", number(CREATED / 1_000 + 86_400)),
    ];
    insert(table, &key("KEY#11#k"), "IdempotencyKey", idempotency_key);
}

fn insert_blocked_chat(table: &mut Table) {
    let last = CREATED + 200;
    let preview = attributes([
        ("seq", number(2)),
        ("senderId", number(11)),
        ("createdAt", number(last)),
        ("deleted", AttributeValue::Bool(true)),
    ]);
    let conversation = [
        ("seq", number(2)),
        ("rev", number(1)),
        ("highHeld", number(1)),
        ("highBlock", number(CREATED + 500)),
        ("v", number(1)),
        (LAST_MESSAGE, AttributeValue::M(preview)),
    ];
    insert_chat(table, [11, 44], "active", last, &conversation);
    let key = |sk: &str| ItemKey::new("CHAT#11-44", sk);
    insert_message(
        table,
        &key("MSG#0000000000000001"),
        11,
        "one",
        CREATED + 100,
    );
    let deleted = [
        ("senderId", number(11)),
        ("createdAt", number(last)),
        ("deletedAt", number(CREATED + 300)),
        ("rev", number(1)),
    ];
    insert(table, &key("MSG#0000000000000002"), "Message", deleted);
    insert_change(table, "CHAT#11-44", 11, (2, last), (1, CREATED + 300));
}

fn insert_message(table: &mut Table, key: &ItemKey, sender: u64, content: &str, time: u64) {
    let values = [
        ("senderId", number(sender)),
        ("text", text(content)),
        ("createdAt", number(time)),
    ];
    insert(table, key, "Message", values);
}

/// The change of a message, and its previous content.
fn insert_change(
    table: &mut Table,
    pk: &str,
    sender: u64,
    (seq, created_at): (u64, u64),
    (rev, time): (u64, u64),
) {
    let change = [
        ("seq", number(seq)),
        ("at", number(time)),
        ("expiresAt", number(time / 1_000 + 90 * 86_400)),
    ];
    let key = ItemKey::new(pk, format!("CHG#{rev:016}"));
    insert(table, &key, "Change", change);
    let content = [
        ("senderId", number(sender)),
        ("text", text("before")),
        ("createdAt", number(created_at)),
        ("replacedAt", number(time)),
        ("expiresAt", number(time / 1_000 + 30 * 86_400)),
    ];
    let key = ItemKey::new(pk, format!("HIST#{seq:016}#{rev:016}"));
    insert(table, &key, "PreviousContent", content);
}

/// The state of a chat between a requester and a recipient, without messages unless `more` has them.
fn insert_chat(
    table: &mut Table,
    [requester, recipient]: [u64; 2],
    status: &str,
    updated_at: u64,
    more: &[(&str, AttributeValue)],
) {
    let (low, high) = (requester.min(recipient), requester.max(recipient));
    let is_blocker = |user: u64| {
        let attribute = if user == low { "lowBlock" } else { "highBlock" };
        more.iter().any(|(name, _)| *name == attribute)
    };
    let created_at = if status == "none" {
        updated_at
    } else {
        CREATED
    };
    let state = [
        ("requesterId", number(requester)),
        ("recipientId", number(recipient)),
        ("status", text(status)),
        ("seq", number(0)),
        ("lowUnread", number(0)),
        ("lowReadSeq", number(0)),
        ("highUnread", number(0)),
        ("highReadSeq", number(0)),
        ("createdAt", number(created_at)),
        ("updatedAt", number(updated_at)),
        ("activity", text(&activity(updated_at, low, high))),
    ];
    let key = ItemKey::new(format!("CHAT#{low}-{high}"), "STATE");
    insert(table, &key, "Chat", state);
    let item = table.get_mut(&key).unwrap();
    for (attribute, user) in [("requesterKey", requester), ("recipientKey", recipient)] {
        if is_blocker(user) {
            item.insert(attribute.to_owned(), text(&format!("{user}#blocked")));
        } else if !["none", "withdrawn"].contains(&status) {
            item.insert(attribute.to_owned(), text(&format!("{user}#{status}")));
        }
    }
    let more = more.iter().cloned();
    item.extend(more.map(|(name, value)| (name.to_owned(), value)));
}

fn insert_reports(table: &mut Table) {
    let time = CREATED + 600;
    let resolved = [
        ("reporterId", number(11)),
        ("userId", number(22)),
        ("seq", number(3)),
        ("reason", text("spam")),
        ("note", text("again")),
        ("createdAt", number(time)),
        ("state", text("resolved")),
        ("text", text("three")),
        ("messageCreatedAt", number(CREATED + 300)),
        ("activity", text(&format!("{time:015}#11-22/11/3"))),
        ("resolvedAt", number(CREATED + 700)),
        ("resolvedBy", text("ann")),
        ("action", text("none")),
        ("resolution", text("no spam")),
    ];
    let key = ItemKey::new("CHAT#11-22", "FLAG#11#0000000000000003");
    insert(table, &key, "Report", resolved);
    let open = [
        ("reporterId", number(22)),
        ("userId", number(44)),
        ("reason", text("scam")),
        ("createdAt", number(time)),
        ("state", text("open")),
        ("requesterKey", text("#reports#open")),
        ("activity", text(&format!("{time:015}#22-44/22/0"))),
    ];
    let key = ItemKey::new("CHAT#22-44", "FLAG#22#0000000000000000");
    insert(table, &key, "Report", open);
}

fn insert_counters(table: &mut Table) {
    let chat = |id: &str| id.parse::<ChatId>().unwrap();
    let totals = |id: u64, chat| TotalsItem::key(UserId::new(id).unwrap(), chat);
    let unread = |count| [("unread", number(count))];
    let pending = |count| [("pending", number(count))];
    let open = |count| [("open", number(count))];
    insert(table, &totals(11, chat("11-22")), "Totals", unread(1));
    insert(table, &totals(11, chat("11-22")), "Totals", pending(0));
    insert(table, &totals(11, chat("11-33")), "Totals", pending(1));
    let changes = [("changes", number(5))];
    insert(table, &totals(11, chat("11-33")), "Totals", changes);
    insert(table, &totals(22, chat("11-22")), "Totals", unread(1));
    insert(table, &totals(44, chat("11-44")), "Totals", unread(0));
    insert(table, &totals(44, chat("33-44")), "Totals", pending(0));
    let sent = |pk: &str| ItemKey::new(pk, "SENT");
    insert(table, &sent("USER#11"), "OpenRequests", open(0));
    insert(table, &sent("USER#33"), "OpenRequests", open(2));
    let changes = [("changes", number(2))];
    insert(table, &sent("USER#33"), "OpenRequests", changes);
}

fn insert_connections(table: &mut Table) {
    for pk in ["USER#11", "USER#55"] {
        let connection = [
            ("connectedAt", number(CREATED + 700)),
            ("tokenExpiresAt", number(CREATED / 1_000 + 3_600)),
            ("nextAt", number(CREATED + 800)),
            ("expiresAt", number(CREATED / 1_000 + 7_800)),
        ];
        let key = ItemKey::new(pk, "CONN#L0SM9cOFIAMCHQ=");
        insert(table, &key, "Connection", connection);
    }
}

fn activity(time: u64, low: u64, high: u64) -> String {
    format!("{time:015}#{low:016}-{high:016}")
}

/// Sets the value at a path, or removes it.
pub(super) fn set(item: &mut Item, path: &str, value: Option<AttributeValue>) {
    let (map, name) = match path.split_once('.') {
        None => (item, path),
        Some((map, name)) => match item.get_mut(map) {
            Some(AttributeValue::M(map)) => (map, name),
            _ => panic!("there is no map {map}"),
        },
    };
    match value {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
}
