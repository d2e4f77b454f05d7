//! Property tests of the evaluation: no content of a table stops it, and each damage is named.
//!
//! They evaluate whole tables in memory, with the same code as the check. A change of an attribute must
//! be reported unless [`is_harmless`] says why nothing else in the table contradicts it.

use std::{mem::discriminant, ops::RangeInclusive};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use chat_shared::{
    domain::{MAX_SAFE_INTEGER, Timestamp},
    store::items::{ChatItem, Item, ItemKey, ItemKind, OpenRequestsItem, Partition, TotalsItem},
};
use proptest::{collection, option, prelude::*, sample};

use super::{
    test_table::{CREATED, LAST_MESSAGE, Table, evaluate, number, set, text, valid_table},
    violation::{Finding, Violation},
};
use crate::table::has_lifetime;

const LATEST_SECOND: u64 = 253_402_300_799;
/// The latest time that is not in the future: a day after the tables are evaluated.
const LATEST_TIME: u64 = CREATED + 1_000 + 86_400_000;
/// Attributes that are missing while they are 0 or false, or while nothing has happened.
const OPTIONAL: [&str; 13] = [
    "v",
    "rev",
    "lowBlock",
    "highBlock",
    "lowHeld",
    "highHeld",
    "hid",
    "lastMessage.deleted",
    "lastMessage.whole",
    "editedAt",
    "deletedAt",
    "idempotencyKey",
    "changes",
];

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
    let is_removed = new.is_none();
    let number_in = |range: RangeInclusive<u64>| {
        let value = new.and_then(|value| value.as_n().ok()?.parse::<u64>().ok());
        value.is_some_and(|value| range.contains(&value))
    };
    let is_text = |condition: fn(&str) -> bool| {
        let value = new.and_then(|value| value.as_s().ok());
        value.is_some_and(|value| condition(value))
    };
    let is_time = || number_in(0..=LATEST_TIME);
    let chat = key.pk.as_str();
    match (key.sk.as_str(), path) {
        // A connection only has to be readable.
        (sk, _) if sk.starts_with("CONN#") => match path {
            "connectedAt" | "nextAt" => number_in(0..=Timestamp::MAX.millis()),
            "tokenExpiresAt" | "expiresAt" => number_in(0..=LATEST_SECOND),
            _ => false,
        },
        // Nothing says how often a counter was changed.
        (_, "changes") => is_removed || number_in(0..=MAX_SAFE_INTEGER),
        // A counter without an attribute counts as 0, and its type is written with its next change.
        (_, "type") if chat.starts_with("USER#") => is_removed,
        (_, _) if chat.starts_with("USER#") => is_removed && old == Some(&number(0)),
        (_, "type") => false,
        ("STATE", _) => match (chat, path) {
            // The creation of a chat is before its first message, or its last change.
            ("CHAT#11-22" | "CHAT#11-44" | "CHAT#22-33", "createdAt") => {
                number_in(0..=CREATED + 100)
            }
            ("CHAT#22-44", "createdAt") => number_in(0..=CREATED + 500),
            (_, "createdAt") => number_in(0..=CREATED),
            // A watermark may also be at one of the member's own messages.
            ("CHAT#11-22" | "CHAT#11-44", "lowReadSeq") => number_in(0..=2),
            // Nothing says how often or when a member has blocked the other.
            (_, "v") => number_in(1..=MAX_SAFE_INTEGER),
            (_, "lowBlock" | "highBlock") => is_time(),
            // A preview of the whole message may be read as one of its start.
            (_, "lastMessage.whole") => {
                is_removed || new.is_some_and(|flag| flag.as_bool().is_ok())
            }
            // No list has such a chat, and nobody remembers a request.
            ("CHAT#22-44", "status") => is_text(|status| status == "withdrawn"),
            _ => false,
        },
        // Times of messages do not decrease.
        ("MSG#0000000000000001", "createdAt") => number_in(CREATED..=CREATED + 200),
        ("MSG#0000000000000002", "createdAt") if chat == "CHAT#11-22" => {
            number_in(CREATED + 100..=CREATED + 300)
        }
        // Changes are after the message.
        (_, "editedAt" | "deletedAt") => number_in(CREATED + 200..=LATEST_TIME),
        // Nothing repeats the content of a message, except the preview of the last one.
        ("MSG#0000000000000001", "text") => is_text(is_visible),
        ("MSG#0000000000000002", "text") => is_removed || is_text(is_visible),
        ("MSG#0000000000000002", "imageUrl" | "linkPreviewUrl") => is_removed || is_text(is_https),
        // The message may have been sent without a key, and keys expire.
        (_, "idempotencyKey") => is_removed || is_text(|_| true),
        // An idempotency key may refer to any message of its sender.
        ("KEY#11#k", "seq") => number_in(1..=2),
        // The hash is of the content as it was sent, which may change later.
        ("KEY#11#k", "hash") => {
            new.is_some_and(|hash| hash.as_b().is_ok_and(|hash| hash.as_ref().len() == 32))
        }
        ("KEY#11#k", "expiresAt") => number_in(0..=LATEST_SECOND),
        // The item expires in the same second.
        (sk, "at") if sk.starts_with("CHG#") => number_in(CREATED..=CREATED + 999),
        (sk, _) if sk.starts_with("HIST#") => match path {
            "text" => is_text(is_visible),
            "createdAt" => is_time(),
            "replacedAt" => number_in(CREATED..=CREATED + 999),
            _ => false,
        },
        (sk, _) if sk.starts_with("FLAG#") => match path {
            // A newer version may have other reasons and states.
            "reason" => is_text(|_| true),
            "state" => is_text(|state| !["open", "resolved"].contains(&state)),
            "note" | "text" => is_removed || is_text(|_| true),
            "messageCreatedAt" | "resolvedAt" => is_time(),
            "resolvedBy" | "action" | "resolution" => is_text(|_| true),
            _ => false,
        },
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
    let Some(new) = new else {
        return !OPTIONAL.contains(&path);
    };
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
    "none",
    "open",
    "resolved",
    "spam",
    "Chat",
    "Message",
    "Change",
    "Report",
    "Connection",
    "Totals",
    "Draft",
    "11#active",
    "22#active",
    "11#pending",
    "11#blocked",
    "44#blocked",
    "#reports#open",
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
    "v",
    "rev",
    "lowBlock",
    "highBlock",
    "lowHeld",
    "highHeld",
    "hid",
    LAST_MESSAGE,
    "deleted",
    "createdAt",
    "updatedAt",
    "requesterKey",
    "recipientKey",
    "activity",
    "senderId",
    "text",
    "imageUrl",
    "linkPreviewUrl",
    "editedAt",
    "deletedAt",
    "at",
    "replacedAt",
    "reporterId",
    "userId",
    "reason",
    "note",
    "state",
    "messageCreatedAt",
    "resolvedAt",
    "hash",
    "expiresAt",
    "unread",
    "pending",
    "open",
    "changes",
    "whole",
    "idempotencyKey",
    "connectedAt",
    "tokenExpiresAt",
    "nextAt",
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
    "GROUP#1",
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
    "CHG#0000000000000000",
    "CHG#0000000000000001",
    "CHG#0000000000000002",
    "CHG#9007199254740991",
    "CHG#18446744073709551615",
    "CHG#1",
    "CHG#",
    "HIST#0000000000000001#0000000000000001",
    "HIST#9007199254740991#18446744073709551615",
    "HIST#1",
    "FLAG#11#0000000000000000",
    "FLAG#11#0000000000000001",
    "FLAG#99#0000000000000001",
    "FLAG#",
    "CONN#",
    "CONN#a=",
    "SENT",
    "TOTALS#0",
    "TOTALS#3",
    "TOTALS#9",
    "TOTALS#x",
    "DRAFT#1",
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
    let requester = state.and_then(|state| state.get("requesterId"));
    let is_requester = requester == Some(&number(user.get()));
    match subject.as_str() {
        "item" | "status" => true,
        "hid" => *attribute == TotalsItem::PENDING && has_status("pending") && !is_requester,
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
        let kind = ItemKind::of(key).unwrap();
        let may_have = match attribute {
            "expiresAt" => has_lifetime(kind),
            "recipientKey" => kind == ItemKind::Chat,
            _ => matches!(kind, ItemKind::Chat | ItemKind::Report),
        };
        if !may_have {
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
