//! Property tests of the evaluation: no content of a table stops it, and each damage is named.
//!
//! They evaluate whole tables in memory, with the same code as the check. A change of an attribute must
//! be reported unless [`is_harmless`] says why nothing else in the table contradicts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::discriminant,
    ops::RangeInclusive,
};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use chat_shared::{
    domain::{ChatId, ChatStatus, MAX_SAFE_INTEGER, Timestamp, UserId},
    store::items::{
        ChatItem, Index, Item, ItemKey, ItemKind, OpenRequestsItem, Partition, TotalsItem,
    },
};
use proptest::{collection, option, prelude::*, sample};

use super::{
    chat::{ChatState, ChatTally},
    scan::ScannedItem,
    user::{Counter, ExpectedCounts, StoredCounts},
    violation::{Finding, Violation},
};

/// A table in memory.
type Table = BTreeMap<ItemKey, Item>;

/// When the chats of [`valid_table`] were created, in milliseconds since 1970.
const CREATED: u64 = 1_700_000_000_000;
const LATEST_SECOND: u64 = 253_402_300_799;
/// The attribute that is a map, and the prefix of the paths to its attributes.
const LAST_MESSAGE: &str = "lastMessage";

/// Evaluates a table as the check does.
fn evaluate(table: &Table) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut chats: BTreeMap<ChatId, Vec<&Item>> = BTreeMap::new();
    let mut users: BTreeMap<UserId, Vec<&Item>> = BTreeMap::new();
    for item in table.values() {
        match ScannedItem::new(item) {
            ScannedItem::Known(Partition::Chat(id)) => chats.entry(id).or_default().push(item),
            ScannedItem::Known(Partition::User(user)) => users.entry(user).or_default().push(item),
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
        key.is_some_and(|key| {
            [
                ChatStatus::Pending,
                ChatStatus::Active,
                ChatStatus::Declined,
            ]
            .into_iter()
            .any(|status| *key == Index::key(user, status))
        })
    };
    let has_sort_key = state
        .get("activity")
        .is_some_and(|activity| activity.as_s().is_ok());
    has_sort_key && (is_key("requesterKey") || is_key("recipientKey"))
}

/// When the tables are evaluated.
fn now() -> Timestamp {
    Timestamp::from_millis(CREATED + 1_000)
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn attributes<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    let values = values.map(|(name, value)| (name.to_owned(), value));
    Item::from(values)
}

fn insert<const N: usize>(
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

/// 11 and 22 have an active chat of three messages, two of them unread. 33 has sent a request to 11.
fn valid_table() -> Table {
    let mut table = Table::new();
    insert_active_chat(&mut table);
    insert_request(&mut table);
    insert_counters(&mut table);
    table
}

fn insert_active_chat(table: &mut Table) {
    let key = ItemKey::new("CHAT#11-22", "STATE");
    let last = CREATED + 300;
    let preview = attributes([
        ("seq", number(3)),
        ("senderId", number(22)),
        ("text", text("three")),
        ("createdAt", number(last)),
    ]);
    let state = [
        ("requesterId", number(11)),
        ("recipientId", number(22)),
        ("status", text("active")),
        ("seq", number(3)),
        ("lowUnread", number(1)),
        ("lowReadSeq", number(0)),
        ("highUnread", number(1)),
        ("highReadSeq", number(1)),
        (LAST_MESSAGE, AttributeValue::M(preview)),
        ("createdAt", number(CREATED)),
        ("updatedAt", number(last)),
        ("requesterKey", text("11#active")),
        ("recipientKey", text("22#active")),
        ("activity", text(&activity(last, 11, 22))),
    ];
    insert(table, &key, "Chat", state);
    let key = |sk: &str| ItemKey::new("CHAT#11-22", sk);
    for (sk, sender, content, time) in [
        ("MSG#0000000000000001", 11, "one", CREATED + 100),
        ("MSG#0000000000000002", 11, "two", CREATED + 200),
        ("MSG#0000000000000003", 22, "three", last),
    ] {
        let values = [
            ("senderId", number(sender)),
            ("text", text(content)),
            ("createdAt", number(time)),
        ];
        insert(table, &key(sk), "Message", values);
    }
    let urls = [
        ("imageUrl", text("https://a.example/i")),
        ("linkPreviewUrl", text("https://a.example/l")),
    ];
    insert(table, &key("MSG#0000000000000002"), "Message", urls);
    let idempotency_key = [
        ("seq", number(2)),
        ("hash", AttributeValue::B(Blob::new([7_u8; 32]))),
        ("expiresAt", number(CREATED / 1_000 + 86_400)),
    ];
    insert(table, &key("KEY#11#k"), "IdempotencyKey", idempotency_key);
}

fn insert_request(table: &mut Table) {
    let state = [
        ("requesterId", number(33)),
        ("recipientId", number(11)),
        ("status", text("pending")),
        ("seq", number(0)),
        ("lowUnread", number(0)),
        ("lowReadSeq", number(0)),
        ("highUnread", number(0)),
        ("highReadSeq", number(0)),
        ("createdAt", number(CREATED)),
        ("updatedAt", number(CREATED)),
        ("requesterKey", text("33#pending")),
        ("recipientKey", text("11#pending")),
        ("activity", text(&activity(CREATED, 11, 33))),
    ];
    insert(table, &ItemKey::new("CHAT#11-33", "STATE"), "Chat", state);
}

fn insert_counters(table: &mut Table) {
    let [chat, request] = ["11-22", "11-33"].map(|id| id.parse::<ChatId>().unwrap());
    let totals = |id: u64, chat| TotalsItem::key(UserId::new(id).unwrap(), chat);
    let unread = |count| [("unread", number(count))];
    let pending = |count| [("pending", number(count))];
    let open = |count| [("open", number(count))];
    insert(table, &totals(11, chat), "Totals", unread(1));
    insert(table, &totals(11, chat), "Totals", pending(0));
    insert(table, &totals(11, request), "Totals", pending(1));
    insert(table, &totals(22, chat), "Totals", unread(1));
    let sent = |pk: &str| ItemKey::new(pk, "SENT");
    insert(table, &sent("USER#11"), "OpenRequests", open(0));
    insert(table, &sent("USER#33"), "OpenRequests", open(1));
}

fn activity(time: u64, low: u64, high: u64) -> String {
    format!("{time:015}#{low:016}-{high:016}")
}

/// The paths of all attributes of an item except its key.
fn paths(item: &Item) -> Vec<String> {
    let mut paths: Vec<String> = item.keys().cloned().collect();
    paths.retain(|path| path != "pk" && path != "sk");
    if let Some(AttributeValue::M(map)) = item.get(LAST_MESSAGE) {
        paths.extend(map.keys().map(|name| format!("{LAST_MESSAGE}.{name}")));
    }
    paths.sort();
    paths
}

/// The value at a path.
fn value_at<'a>(item: &'a Item, path: &str) -> Option<&'a AttributeValue> {
    match path.split_once('.') {
        Some((map, name)) => item.get(map)?.as_m().ok()?.get(name),
        None => item.get(path),
    }
}

/// Sets the value at a path, or removes it.
fn set(item: &mut Item, path: &str, value: Option<AttributeValue>) {
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

/// Whether a change of an item of [`valid_table`] makes a table that is still consistent, because no
/// other item says what the value must be.
fn is_harmless(
    key: &ItemKey,
    path: &str,
    old: Option<&AttributeValue>,
    new: Option<&AttributeValue>,
) -> bool {
    if old == new {
        return true;
    }
    let number_in = |range: RangeInclusive<u64>| {
        let value = new.and_then(|value| value.as_n().ok()?.parse::<u64>().ok());
        value.is_some_and(|value| range.contains(&value))
    };
    let is_text = |condition: fn(&str) -> bool| {
        let value = new.and_then(|value| value.as_s().ok());
        value.is_some_and(|value| condition(value))
    };
    let is_removed = new.is_none();
    let is_counter = key.pk.starts_with("USER#");
    match (key.sk.as_str(), path) {
        // A counter without an attribute counts as 0, and its type is written with its next change.
        (_, "type") if is_counter => is_removed,
        (_, _) if is_counter => is_removed && old == Some(&number(0)),
        // The creation of a chat is before its first message, or its last change.
        ("STATE", "createdAt") if key.pk == "CHAT#11-22" => number_in(0..=CREATED + 100),
        ("STATE", "createdAt") => number_in(0..=CREATED),
        // A watermark may also be at one of the member's own messages.
        ("STATE", "lowReadSeq") if key.pk == "CHAT#11-22" => number_in(0..=2),
        // Times of messages do not decrease.
        ("MSG#0000000000000001", "createdAt") => number_in(CREATED..=CREATED + 200),
        ("MSG#0000000000000002", "createdAt") => number_in(CREATED + 100..=CREATED + 300),
        // Nothing repeats the content of a message, except the preview of the last one.
        ("MSG#0000000000000001", "text") => is_text(is_visible),
        ("MSG#0000000000000002", "text") => is_removed || is_text(is_visible),
        ("MSG#0000000000000002", "imageUrl" | "linkPreviewUrl") => is_removed || is_text(is_https),
        // An idempotency key may refer to any message of its sender.
        ("KEY#11#k", "seq") => number_in(1..=2),
        // The hash is of the content as it was sent, which may change later.
        ("KEY#11#k", "hash") => {
            new.is_some_and(|hash| hash.as_b().is_ok_and(|hash| hash.as_ref().len() == 32))
        }
        ("KEY#11#k", "expiresAt") => number_in(0..=LATEST_SECOND),
        _ => false,
    }
}

fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace())
}

fn is_https(url: &str) -> bool {
    url.to_ascii_lowercase().starts_with("https://")
}

/// Whether a value is wrong whatever the rest of the table contains: it is missing, has another type or
/// is out of range. Such damage must be reported for the item itself.
fn is_impossible(path: &str, old: &AttributeValue, new: Option<&AttributeValue>) -> bool {
    let Some(new) = new else { return true };
    if discriminant(old) != discriminant(new) {
        return true;
    }
    let is_time = path.ends_with("createdAt") || path.ends_with("updatedAt");
    let max = if is_time {
        Timestamp::MAX.millis()
    } else {
        MAX_SAFE_INTEGER
    };
    let is_in_range = |text: &String| text.parse::<u64>().is_ok_and(|number| number <= max);
    new.as_n().is_ok_and(|text| !is_in_range(text))
}

const NUMBERS: &[&str] = &[
    "-1",
    "1.5",
    "-0.5",
    "1E-5",
    "253402300799",
    "253402300800",
    "253402300799999",
    "253402300800000",
    "1700000000000",
    "1700000000150",
    "1700000000300",
    "1767225599007000",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "-99999999999999999999999999999999999999",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "\n",
    "a\nb\u{202e}",
    "active",
    "pending",
    "declined",
    "withdrawn",
    "Chat",
    "Message",
    "Totals",
    "Block",
    "11#active",
    "22#active",
    "11#pending",
    "one",
    "three",
    "https://b.example/",
    "http://b.example/",
];

const NAMES: &[&str] = &[
    "type",
    "requesterId",
    "recipientId",
    "status",
    "seq",
    "lowUnread",
    "lowReadSeq",
    "highUnread",
    "highReadSeq",
    LAST_MESSAGE,
    "createdAt",
    "updatedAt",
    "requesterKey",
    "recipientKey",
    "activity",
    "senderId",
    "text",
    "imageUrl",
    "linkPreviewUrl",
    "hash",
    "expiresAt",
    "unread",
    "pending",
    "open",
    "unknown",
];

const PARTITION_KEYS: &[&str] = &[
    "CHAT#11-22",
    "CHAT#11-33",
    "CHAT#22-11",
    "CHAT#011-22",
    "CHAT#",
    "USER#11",
    "USER#22",
    "USER#0",
    "USER#9007199254740992",
    "USER#x",
    "REPORT#1",
    "\n",
];

const SORT_KEYS: &[&str] = &[
    "STATE",
    "MSG#0000000000000000",
    "MSG#0000000000000001",
    "MSG#0000000000000002",
    "MSG#0000000000000003",
    "MSG#9007199254740991",
    "MSG#9007199254740992",
    "MSG#9999999999999999",
    "MSG#18446744073709551615",
    "MSG#18446744073709551616",
    "MSG#7",
    "MSG#x",
    "MSG#",
    "KEY#11#k",
    "KEY#22#k",
    "KEY#99#k",
    "KEY#11#\u{1}",
    "KEY#",
    "SENT",
    "TOTALS#0",
    "TOTALS#3",
    "TOTALS#9",
    "TOTALS#x",
    "CHANGE#1",
];

fn any_of(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    sample::select(values).prop_map(str::to_owned)
}

fn any_number() -> impl Strategy<Value = AttributeValue> {
    let number = prop_oneof![
        (0_u64..=40).prop_map(|number| number.to_string()),
        any_of(NUMBERS),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    number.prop_map(AttributeValue::N)
}

fn any_value() -> impl Strategy<Value = AttributeValue> {
    let single = prop_oneof![
        4 => any_number(),
        3 => any_of(TEXTS).prop_map(AttributeValue::S),
        1 => any::<String>().prop_map(AttributeValue::S),
        1 => collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
        1 => Just(AttributeValue::B(Blob::new([0_u8; 32]))),
        1 => any::<bool>().prop_map(AttributeValue::Bool),
        1 => Just(AttributeValue::Null(true)),
        1 => Just(AttributeValue::Ns(vec!["1".to_owned()])),
    ];
    single.prop_recursive(2, 8, 4, |value| {
        prop_oneof![
            collection::vec(value.clone(), 0..3).prop_map(AttributeValue::L),
            collection::hash_map(any_of(NAMES), value, 0..5).prop_map(AttributeValue::M),
        ]
    })
}

fn any_table() -> impl Strategy<Value = Table> {
    let key = (any_of(PARTITION_KEYS), any_of(SORT_KEYS));
    let item = collection::hash_map(any_of(NAMES), any_value(), 0..12);
    let table = collection::hash_map(key, item, 0..16);
    table.prop_map(|items| {
        let items = items.into_iter().map(|((pk, sk), mut item)| {
            item.insert("pk".to_owned(), text(&pk));
            item.insert("sk".to_owned(), text(&sk));
            (ItemKey::new(pk, sk), item)
        });
        items.collect()
    })
}

/// Whether a repair would compute a value from an attribute that another line reports as damaged.
fn depends_on(table: &Table, repair: &Violation, cause: &Violation) -> bool {
    let Finding::Mismatch {
        attribute,
        based_on,
        ..
    } = &repair.finding
    else {
        return false;
    };
    let Finding::Unrepairable { subject, .. } = &cause.finding else {
        return false;
    };
    if repair.key == cause.key {
        return based_on.iter().any(|(basis, _)| basis == subject);
    }
    let (Some(Partition::User(user)), Some(Partition::Chat(id))) = (
        Partition::parse(&repair.key.pk),
        Partition::parse(&cause.key.pk),
    ) else {
        return false;
    };
    let is_counted = id.has_member(user)
        && (repair.key == TotalsItem::key(user, id) || repair.key == OpenRequestsItem::key(user));
    if !is_counted || cause.key != ChatItem::key(id) {
        return false;
    }
    let state = table.get(&cause.key);
    let has_status = |name: &str| state.and_then(|state| state.get("status")) == Some(&text(name));
    let unread = ChatItem::member_attributes(id, user).0;
    match subject.as_str() {
        "item" | "status" => true,
        "requesterId" => *attribute != TotalsItem::UNREAD && has_status("pending"),
        name => *attribute == TotalsItem::UNREAD && name == unread && has_status("active"),
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn is_one_line(line: &str) -> bool {
    !line.chars().any(char::is_control)
}

#[test]
fn a_consistent_table_has_no_violations() {
    let violations = evaluate(&valid_table());
    assert!(violations.is_empty(), "{violations:#?}");
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn each_damaged_attribute_is_named(
        item in any::<sample::Index>(),
        attribute in any::<sample::Index>(),
        new in option::weighted(0.8, any_value()),
    ) {
        let mut table = valid_table();
        let keys: Vec<ItemKey> = table.keys().cloned().collect();
        let key = item.get(&keys);
        let item = table.get_mut(key).unwrap();
        let paths = paths(item);
        let path = attribute.get(&paths).as_str();
        let old = value_at(item, path).cloned().unwrap();
        set(item, path, new.clone());

        let violations = evaluate(&table);
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        prop_assert!(lines.iter().all(|line| is_one_line(line)), "{lines:#?}");
        if !is_harmless(key, path, Some(&old), new.as_ref()) {
            let is_found = violations.iter().any(|violation| !violation.is_inconclusive());
            prop_assert!(is_found, "{key:?} {path} {new:?}: {lines:#?}");
            let name = format!("{} {}: ", key.pk, key.sk);
            let is_named = lines
                .iter()
                .any(|line| line.starts_with(&name) && line.contains(path));
            prop_assert!(
                is_named || !is_impossible(path, &old, new.as_ref()),
                "{key:?} {path} {new:?}: {lines:#?}"
            );
        }
    }

    #[test]
    fn two_damaged_attributes_do_not_stop_the_evaluation(
        damages in collection::vec(
            (any::<sample::Index>(), any::<sample::Index>(), option::weighted(0.8, any_value())),
            2,
        ),
    ) {
        let mut table = valid_table();
        let keys: Vec<ItemKey> = table.keys().cloned().collect();
        for (item, attribute, new) in damages {
            let item = table.get_mut(item.get(&keys)).unwrap();
            let paths = paths(item);
            if !paths.is_empty() {
                set(item, &paths[attribute.index(paths.len())], new);
            }
        }
        let violations = evaluate(&table);
        for violation in &violations {
            prop_assert!(is_one_line(&violation.to_string()), "{violation}");
            let cause = violations.iter().find(|cause| depends_on(&table, violation, cause));
            prop_assert!(cause.is_none(), "{violation} depends on {cause:?}");
        }
    }

    #[test]
    fn each_attribute_of_another_kind_is_named(
        item in any::<sample::Index>(),
        attribute in sample::select(&["requesterKey", "recipientKey", "activity", "expiresAt"][..]),
        value in any_value(),
    ) {
        let mut table = valid_table();
        let keys: Vec<ItemKey> = table.keys().cloned().collect();
        let key = item.get(&keys);
        let owner = match attribute {
            "expiresAt" => ItemKind::IdempotencyKey,
            _ => ItemKind::Chat,
        };
        if ItemKind::of(key) != Some(owner) {
            set(table.get_mut(key).unwrap(), attribute, Some(value));
            let lines: Vec<String> = evaluate(&table).iter().map(ToString::to_string).collect();
            let start = format!("{} {}: {attribute} must not exist", key.pk, key.sk);
            prop_assert_eq!(lines.len(), 1, "{:#?}", lines);
            prop_assert!(lines[0].starts_with(&start), "{lines:#?}");
        }
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn no_content_of_a_table_stops_the_evaluation(table in any_table()) {
        for violation in evaluate(&table) {
            prop_assert!(is_one_line(&violation.to_string()), "{violation}");
        }
    }
}

/// The lines about a table after a change, without those about counters.
fn lines_after(change: impl Fn(&mut Table)) -> Vec<String> {
    let mut table = valid_table();
    change(&mut table);
    let lines = evaluate(&table)
        .into_iter()
        .map(|violation| violation.to_string());
    lines.filter(|line| !line.starts_with("USER#")).collect()
}

/// The lines after an item of the chat 11-22 has got another sort key.
fn lines_after_move(from: &str, to: &str) -> Vec<String> {
    lines_after(|table| {
        let mut item = table.remove(&ItemKey::new("CHAT#11-22", from)).unwrap();
        item.insert("sk".to_owned(), text(to));
        table.insert(ItemKey::new("CHAT#11-22", to), item);
    })
}

#[test]
fn each_damaged_sort_key_is_named() {
    let gap = "CHAT#11-22 MSG#0000000000000002: message 1 is missing";
    let message = "CHAT#11-22 MSG#";
    let not_a_number = "the sort key is not MSG# and a number of 16 digits";
    for (to, line) in [
        ("MSG#1", format!("{message}1: {not_a_number}")),
        ("MSG#x", format!("{message}x: {not_a_number}")),
        (
            "MSG#00000000000000001",
            format!("{message}00000000000000001: {not_a_number}"),
        ),
        (
            "MSG#0000000000000000",
            format!("{message}0000000000000000: the number of a message is at least 1"),
        ),
        (
            "MSG#9999999999999999",
            format!(
                "{message}9999999999999999: the number of a message is at most 9007199254740991"
            ),
        ),
    ] {
        let lines = lines_after_move("MSG#0000000000000001", to);
        assert!(lines.contains(&line), "{lines:#?}");
        assert!(lines.contains(&gap.to_owned()), "{lines:#?}");
    }
    let too_new = lines_after_move("MSG#0000000000000001", "MSG#0000000000000004");
    let line = "CHAT#11-22 STATE: seq is 3, but message 4 exists".to_owned();
    assert!(too_new.contains(&line), "{too_new:#?}");

    let not_a_key = "the sort key is not KEY#, the id of a member, # and an idempotency key";
    for to in ["KEY#99#k", "KEY#11", "KEY#11#", "KEY#11#a b", "KEY#"] {
        let lines = lines_after_move("KEY#11#k", to);
        assert_eq!(lines, [format!("CHAT#11-22 {to}: {not_a_key}")]);
    }
    assert_eq!(
        lines_after_move("KEY#11#k", "KEY#22#k"),
        ["CHAT#11-22 KEY#22#k: refers to message 2, which another member sent"]
    );
    assert_eq!(
        lines_after_move("KEY#11#k", "OTHER"),
        ["CHAT#11-22 OTHER: is no item of this service"]
    );
}

#[test]
fn items_of_a_newer_version_are_no_violations() {
    let lines = lines_after(|table| {
        for (pk, sk) in [
            ("CHAT#11-22", "CHANGE#1"),
            ("CHAT#11-44", "BLOCK#11"),
            ("USER#11", "BLOCK#44"),
            ("REPORT#1", "STATE"),
        ] {
            insert(table, &ItemKey::new(pk, sk), "NewType", [("a", number(1))]);
        }
        let state = table.get_mut(&ItemKey::new("CHAT#11-22", "STATE")).unwrap();
        state.insert("rev".to_owned(), number(5));
    });
    assert_eq!(lines, [""; 0]);
}

#[test]
fn a_chat_without_a_state_makes_the_counters_of_its_members_inconclusive() {
    let mut table = valid_table();
    table.remove(&ItemKey::new("CHAT#11-22", "STATE"));
    let violations = evaluate(&table);
    let (inconclusive, violations): (Vec<_>, Vec<_>) =
        violations.into_iter().partition(Violation::is_inconclusive);
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["CHAT#11-22 STATE: is missing"]);
    let users: BTreeSet<_> = inconclusive
        .iter()
        .map(|violation| violation.key.pk.as_str())
        .collect();
    assert_eq!(users, BTreeSet::from(["USER#11", "USER#22"]));
}

#[test]
fn chats_that_the_indexes_do_not_list_because_of_damage_are_counted() {
    for attribute in ["requesterKey", "recipientKey", "activity"] {
        let mut table = valid_table();
        let key = ItemKey::new("CHAT#11-22", "STATE");
        set(table.get_mut(&key).unwrap(), attribute, None);
        let lines: Vec<_> = evaluate(&table).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let start = format!("CHAT#11-22 STATE: {attribute} is missing, should be ");
        assert!(lines[0].starts_with(&start), "{lines:#?}");
    }
}

const STATE: &str = "CHAT#11-22 STATE: ";

/// What is printed about the table after attributes of the chat 11-22 were set, and how many of the
/// lines can be repaired.
fn lines_after_setting(values: &[(&str, &str, AttributeValue)]) -> (Vec<String>, usize) {
    let mut table = valid_table();
    for (sk, attribute, value) in values {
        let item = table.get_mut(&ItemKey::new("CHAT#11-22", *sk)).unwrap();
        set(item, attribute, Some(value.clone()));
    }
    let violations = evaluate(&table);
    let repairable = violations
        .iter()
        .filter(|violation| violation.is_repairable());
    let lines = violations.iter().map(ToString::to_string).collect();
    (lines, repairable.count())
}

#[test]
fn nothing_is_computed_from_values_that_contradict_each_other() {
    for (sk, attribute, value) in [
        ("STATE", "status", text("pending")),
        ("STATE", "seq", number(0)),
        ("STATE", "seq", number(2)),
        ("STATE", "recipientId", number(11)),
        ("STATE", "updatedAt", number(9_999_999_999_999)),
        ("STATE", "updatedAt", number(CREATED + 299)),
        ("MSG#0000000000000002", "senderId", number(22)),
        ("MSG#0000000000000003", "senderId", number(11)),
        ("KEY#11#k", "seq", number(9)),
    ] {
        // The unread count is wrong, too, but the right one is unknown.
        let is_time = attribute == "updatedAt";
        let unread = if is_time { 1 } else { 7 };
        let (lines, repairable) = lines_after_setting(&[
            ("STATE", "lowUnread", number(unread)),
            (sk, attribute, value),
        ]);
        let repairs_of_chat = lines
            .iter()
            .filter(|line| line.starts_with("CHAT#") && line.contains(", should be "))
            .count();
        let is_members = attribute == "recipientId";
        // The members have nothing to do with the unread counts.
        assert_eq!(repairs_of_chat, usize::from(is_members), "{lines:#?}");
        assert!(lines.len() > repairable, "{lines:#?}");
    }
}

#[test]
fn the_time_of_the_last_change_is_that_of_the_last_message_and_not_in_the_future() {
    let time = CREATED + 299;
    let (lines, repairable) = lines_after_setting(&[("STATE", "updatedAt", number(time))]);
    let last = CREATED + 300;
    let line = format!("{STATE}updatedAt is {time}, but lastMessage.createdAt is {last}");
    assert_eq!((lines, repairable), (vec![line], 0));

    let future = number(9_999_999_999_999);
    let (lines, repairable) = lines_after_setting(&[("STATE", "updatedAt", future)]);
    let line = format!("{STATE}updatedAt is 9999999999999, more than a day in the future");
    assert_eq!((lines, repairable), (vec![line], 0));

    let time = CREATED + 101;
    let (lines, repairable) = lines_after_setting(&[("STATE", "createdAt", number(time))]);
    let first = CREATED + 100;
    let line = format!("{STATE}createdAt is {time}, later than {first} of message 1");
    assert_eq!((lines, repairable), (vec![line], 0));
}

#[test]
fn a_message_with_content_of_a_newer_version_makes_the_unread_counts_inconclusive() {
    let mut table = valid_table();
    let key = ItemKey::new("CHAT#11-22", "MSG#0000000000000003");
    let message = table.get_mut(&key).unwrap();
    set(message, "text", None);
    set(message, "audioUrl", Some(text("https://a.example/a")));
    let state = table.get_mut(&ItemKey::new("CHAT#11-22", "STATE")).unwrap();
    set(state, "lowUnread", Some(number(0)));
    set(state, "lastMessage.text", Some(text("Audio")));
    let violations = evaluate(&table);
    assert!(violations[0].is_inconclusive(), "{violations:#?}");
    assert_eq!(violations[0].key, key);
    // The totals of the members are the sums of the counts in their chats.
    let mut others = violations.iter().skip(1);
    assert!(
        others.all(|violation| violation.key.pk == "USER#11"),
        "{violations:#?}"
    );
}

#[test]
fn an_inconclusive_counter_names_the_damaged_chat() {
    let mut table = valid_table();
    let key = ItemKey::new("CHAT#11-22", "STATE");
    set(table.get_mut(&key).unwrap(), "status", None);
    table.retain(|key, _| key.pk != "USER#22");
    let lines = evaluate(&table).into_iter();
    let lines: Vec<_> = lines.filter(Violation::is_inconclusive).collect();
    let reason = ": inconclusive: chat 11-22 is damaged; correct it first, then check again";
    // Counters that are not stored are left out.
    assert!(!lines.is_empty());
    for line in lines {
        assert_eq!(line.key.pk, "USER#11");
        assert!(line.to_string().ends_with(reason), "{line}");
    }
}
