//! Tests of the evaluation: what the check says about a valid table after a change of some items.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::UserId,
    store::items::{Item, ItemKey, TotalsItem},
};

use super::{
    chat::ChatTally,
    test_table::{CREATED, Table, evaluate, insert, now, number, set, text, valid_table},
    violation::Violation,
};

#[test]
fn a_consistent_table_has_no_violations() {
    let violations = evaluate(&valid_table());
    assert!(violations.is_empty(), "{violations:#?}");
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
fn each_damaged_sort_key_of_a_change_or_a_report_is_named() {
    let second_change = "CHG#0000000000000002";
    for to in ["CHG#1", "CHG#x", "CHG#0000000000000000"] {
        let mut lines = lines_after_move("CHG#0000000000000001", to);
        lines.sort();
        let key = "the sort key is not CHG# and a number of 16 digits, at least 1";
        let gap = format!("CHAT#11-22 {second_change}: change 1 is missing");
        let mut expected = [format!("CHAT#11-22 {to}: {key}"), gap];
        expected.sort();
        assert_eq!(lines, expected);
    }
    let too_new = lines_after_move(second_change, "CHG#0000000000000009");
    for line in [
        "CHAT#11-22 CHG#0000000000000009: changes 2 to 8 are missing",
        "CHAT#11-22 MSG#0000000000000002: rev is 2, but change 9 is of this message",
        "CHAT#11-22 STATE: rev is 2, but change 9 exists",
    ] {
        assert!(too_new.contains(&line.to_owned()), "{too_new:#?}");
    }

    let content = "HIST#0000000000000002#0000000000000001";
    for to in ["HIST#2", "HIST#0000000000000002", "HIST#2#1", "HIST#"] {
        let problem = "the sort key is not HIST# and two numbers of 16 digits, at least 1";
        let line = format!("CHAT#11-22 {to}: {problem}");
        assert_eq!(lines_after_move(content, to), [line]);
    }
    let no_change = "HIST#0000000000000002#0000000000000003";
    let line = "CHAT#11-22 STATE: rev is 2, but change 3 exists";
    assert_eq!(lines_after_move(content, no_change), [line]);
    for (seq, reference) in [
        (9, "refers to message 9, but seq is 3"),
        (3, "refers to message 3, which another member sent"),
    ] {
        let other_message = format!("HIST#{seq:016}#0000000000000001");
        let start = format!("CHAT#11-22 {other_message}: ");
        let problem = format!("is of message {seq}, but change 1 is of message 2");
        let lines = lines_after_move(content, &other_message);
        assert_eq!(lines, [format!("{start}{problem}")]);
        // A change may be lost, or have expired.
        let lines = lines_after(|table| {
            table.remove(&ItemKey::new("CHAT#11-22", "CHG#0000000000000001"));
            let item = table.remove(&ItemKey::new("CHAT#11-22", content));
            let mut item = item.unwrap();
            item.insert("sk".to_owned(), text(&other_message));
            table.insert(ItemKey::new("CHAT#11-22", &other_message), item);
        });
        assert!(lines.contains(&format!("{start}{reference}")), "{lines:#?}");
    }

    let report = "FLAG#11#0000000000000003";
    for to in ["FLAG#11#3", "FLAG#99#0000000000000003", "FLAG#11", "FLAG#"] {
        let problem = "the sort key is not FLAG#, the id of a member, # and a number of 16 digits";
        let line = format!("CHAT#11-22 {to}: {problem}");
        assert_eq!(lines_after_move(report, to), [line]);
    }
    let lines = lines_after_move(report, "FLAG#11#0000000000000002");
    let start = "CHAT#11-22 FLAG#11#0000000000000002: ";
    let line = format!("{start}seq is 3, but the sort key names message 2");
    assert_eq!(lines[0], line);
    assert!(
        lines[1].starts_with(&format!("{start}activity is ")),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn a_report_may_exist_without_a_chat() {
    let lines = lines_after(|table| {
        table.remove(&ItemKey::new("CHAT#22-44", "STATE"));
    });
    assert_eq!(lines, [""; 0]);
}

#[test]
fn items_of_a_newer_version_are_no_violations() {
    let lines = lines_after(|table| {
        for (pk, sk) in [
            ("CHAT#11-22", "DRAFT#11"),
            ("CHAT#11-55", "DRAFT#11"),
            ("USER#11", "DEVICE#1"),
            ("GROUP#1", "STATE"),
        ] {
            insert(table, &ItemKey::new(pk, sk), "NewType", [("a", number(1))]);
        }
        let state = table.get_mut(&ItemKey::new("CHAT#11-22", "STATE")).unwrap();
        state.insert("pinned".to_owned(), number(5));
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
        ("STATE", "rev", number(1)),
        ("CHG#0000000000000001", "seq", number(3)),
        ("MSG#0000000000000002", "rev", number(1)),
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

/// The lines about a chat after attributes of its state were set or removed.
fn lines_after_changing(chat: &str, changes: &[(&str, Option<AttributeValue>)]) -> Vec<String> {
    let start = format!("CHAT#{chat} ");
    let lines = lines_after(|table| {
        let key = ItemKey::new(format!("CHAT#{chat}"), "STATE");
        let state = table.get_mut(&key).unwrap();
        for (attribute, value) in changes {
            set(state, attribute, value.clone());
        }
    });
    let lines = lines.into_iter();
    lines
        .map(|line| line.strip_prefix(&start).unwrap().to_owned())
        .collect()
}

#[test]
fn unread_messages_of_a_member_who_has_blocked_the_other_are_held() {
    let lines = |changes: &[(&str, Option<AttributeValue>)]| lines_after_changing("11-44", changes);
    let line = |line: &str| vec![format!("STATE: {line}")];
    // A version that knows no blocks counts in `unread`.
    let elsewhere = [("highUnread", Some(number(1))), ("highHeld", None)];
    assert_eq!(lines(&elsewhere), [""; 0]);

    let twice = [("highUnread", Some(number(1)))];
    assert_eq!(lines(&twice), line("highUnread is 1, should be 0"));
    let none = [("highHeld", None)];
    assert_eq!(lines(&none), line("highHeld is missing, should be 1"));
    let zero = [("highHeld", Some(number(0)))];
    assert_eq!(lines(&zero), line("highHeld is 0, should be 1"));
    let damaged = [("highHeld", Some(text("1")))];
    assert_eq!(lines(&damaged), line("highHeld is a string, should be 1"));

    let key = Some(text("44#active"));
    let unblocked = [("highBlock", None), ("recipientKey", key)];
    let expected = [
        "STATE: highUnread is 0, should be 1",
        "STATE: highHeld is 1, should be missing",
    ];
    assert_eq!(lines(&unblocked), expected);
    // Without the block, the right counts are unknown.
    let unknown = [("highBlock", Some(text("x"))), ("highHeld", None)];
    assert_eq!(lines(&unknown), line("highBlock is a string, not a number"));
}

#[test]
fn only_a_pending_request_of_a_blocked_user_is_hidden() {
    let hidden = [("hid", Some(AttributeValue::Bool(true)))];
    let expected = ["STATE: hid is true, should be missing"];
    for chat in ["11-22", "11-33", "22-33", "22-44"] {
        assert_eq!(lines_after_changing(chat, &hidden), expected, "{chat}");
    }
    // A version that knows no blocks does not hide a request, and counts it.
    let mut table = valid_table();
    let state = table.get_mut(&ItemKey::new("CHAT#33-44", "STATE")).unwrap();
    set(state, "hid", None);
    let key = TotalsItem::key(UserId::new(44).unwrap(), "33-44".parse().unwrap());
    insert(&mut table, &key, "Totals", [("pending", number(1))]);
    let violations = evaluate(&table);
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn index_keys_depend_on_the_status_and_on_blocks() {
    let key = |key: &str| Some(text(key));
    for (chat, attribute, value, line) in [
        (
            "11-44",
            "recipientKey",
            key("44#active"),
            "44#active, should be 44#blocked",
        ),
        (
            "22-33",
            "recipientKey",
            key("33#withdrawn"),
            "33#withdrawn, should be missing",
        ),
        (
            "22-44",
            "recipientKey",
            key("44#none"),
            "44#none, should be missing",
        ),
        (
            "22-44",
            "requesterKey",
            None,
            "missing, should be 22#blocked",
        ),
    ] {
        let lines = lines_after_changing(chat, &[(attribute, value)]);
        assert_eq!(lines, [format!("STATE: {attribute} is {line}")]);
    }
}

#[test]
fn a_change_that_is_missing_is_named_at_the_message_and_at_the_chat() {
    let lines = lines_after(|table| {
        table.remove(&ItemKey::new("CHAT#11-22", "CHG#0000000000000002"));
    });
    assert_eq!(
        lines,
        [
            "CHAT#11-22 MSG#0000000000000002: rev is 2, but no change 2 of this message exists",
            "CHAT#11-22 STATE: change 2 is missing",
        ]
    );
    let (lines, repairable) = lines_after_setting(&[("CHG#0000000000000002", "seq", number(9))]);
    let expected = [
        "CHAT#11-22 HIST#0000000000000002#0000000000000002: is of message 2, but change 2 is of \
         message 9",
        "CHAT#11-22 MSG#0000000000000002: rev is 2, but no change 2 of this message exists",
        "CHAT#11-22 CHG#0000000000000002: refers to message 9, but seq is 3",
    ];
    assert_eq!((lines, repairable), (expected.map(str::to_owned).into(), 0));
}

#[test]
fn changes_and_previous_contents_expire_at_a_fixed_time() {
    for (sk, attribute, days) in [
        ("CHG#0000000000000001", "at", 90),
        ("HIST#0000000000000002#0000000000000001", "replacedAt", 30),
    ] {
        let expected = CREATED / 1_000 + days * 86_400;
        for wrong in [expected - 1, expected + 1] {
            let (lines, repairable) = lines_after_setting(&[(sk, "expiresAt", number(wrong))]);
            let problem = format!("is {wrong}, but {days} days after {attribute} is {expected}");
            let line = format!("CHAT#11-22 {sk}: expiresAt {problem}");
            assert_eq!((lines, repairable), (vec![line], 0));
        }
    }
}

#[test]
fn nothing_remains_of_a_deleted_message() {
    let lines = lines_after(|table| {
        let key = ItemKey::new("CHAT#11-44", "MSG#0000000000000002");
        set(table.get_mut(&key).unwrap(), "text", Some(text("two")));
    });
    let line = "CHAT#11-44 MSG#0000000000000002: text must not exist: the message is deleted";
    assert_eq!(lines, [line]);
    let preview = [("lastMessage.text", Some(text("two")))];
    let line = "STATE: lastMessage.text is not the start of message 2";
    assert_eq!(lines_after_changing("11-44", &preview), [line]);
    let preview = [("lastMessage.deleted", None)];
    let line = "STATE: lastMessage.deleted is false, but message 2 is deleted";
    assert_eq!(lines_after_changing("11-44", &preview), [line]);
    let preview = [("lastMessage.deleted", Some(AttributeValue::Bool(true)))];
    let line = "STATE: lastMessage.deleted is true, but message 3 is not deleted";
    assert_eq!(lines_after_changing("11-22", &preview), [line]);
}

#[test]
fn a_preview_is_whole_only_if_it_contains_the_whole_message() {
    let line = "STATE: lastMessage.whole is true, but message 3 has more than the preview";
    for (attribute, value) in [
        ("imageUrl", "https://a.example/i"),
        ("linkPreviewUrl", "https://a.example/l"),
        ("idempotencyKey", "k"),
    ] {
        let (lines, repairable) =
            lines_after_setting(&[("MSG#0000000000000003", attribute, text(value))]);
        let expected = format!("CHAT#11-22 {line}");
        assert_eq!((lines, repairable), (vec![expected], 0), "{attribute}");
    }
    // An earlier version does not say so.
    let not_whole = [("lastMessage.whole", None)];
    assert_eq!(lines_after_changing("11-22", &not_whole), [""; 0]);
    let damaged = [("lastMessage.whole", Some(text("true")))];
    let line = "STATE: lastMessage.whole is a string, not a boolean";
    assert_eq!(lines_after_changing("11-22", &damaged), [line]);
}

#[test]
fn a_message_without_content_is_damaged_even_if_it_has_an_idempotency_key() {
    let lines = lines_after(|table| {
        let key = ItemKey::new("CHAT#11-22", "MSG#0000000000000002");
        let message = table.get_mut(&key).unwrap();
        for part in ["text", "imageUrl", "linkPreviewUrl"] {
            set(message, part, None);
        }
    });
    let line = "CHAT#11-22 MSG#0000000000000002: has neither text nor imageUrl nor linkPreviewUrl";
    assert_eq!(lines, [line]);
}

/// The lines about a user after an attribute of an item was set or removed.
fn lines_of_user(key: &ItemKey, attribute: &str, value: Option<AttributeValue>) -> Vec<String> {
    let mut table = valid_table();
    set(table.get_mut(key).unwrap(), attribute, value);
    let violations = evaluate(&table);
    violations.iter().map(ToString::to_string).collect()
}

#[test]
fn the_only_rule_for_a_connection_is_that_it_can_be_read() {
    // 55 has a connection and no counters.
    for pk in ["USER#11", "USER#55"] {
        let key = ItemKey::new(pk, "CONN#L0SM9cOFIAMCHQ=");
        let lines = |attribute, value| lines_of_user(&key, attribute, value);
        let line = |line: &str| vec![format!("{pk} {}: {line}", key.sk)];
        for attribute in ["connectedAt", "tokenExpiresAt", "nextAt", "expiresAt"] {
            assert_eq!(lines(attribute, Some(number(0))), [""; 0]);
            let missing = line(&format!("{attribute} is missing"));
            assert_eq!(lines(attribute, None), missing);
            let no_number = line(&format!("{attribute} is a string, not a number"));
            assert_eq!(lines(attribute, Some(text("1"))), no_number);
        }
        let future = CREATED + 90_000_000;
        assert_eq!(lines("connectedAt", Some(number(future))), [""; 0]);
        assert_eq!(lines("another", Some(text("x"))), [""; 0]);
        let other = line("type is Totals, not Connection");
        assert_eq!(lines("type", Some(text("Totals"))), other);
    }
    let mut table = valid_table();
    let values = [
        ("connectedAt", number(1)),
        ("tokenExpiresAt", number(1)),
        ("nextAt", number(1)),
        ("expiresAt", number(1)),
    ];
    let key = ItemKey::new("USER#11", "CONN#");
    insert(&mut table, &key, "Connection", values);
    let violations = evaluate(&table);
    assert_eq!(violations.len(), 1, "{violations:#?}");
    let line = "USER#11 CONN#: the sort key contains no connection id";
    assert_eq!(violations[0].to_string(), line);
}

#[test]
fn the_number_of_changes_of_a_counter_must_be_readable() {
    let key = ItemKey::new("USER#33", "SENT");
    let lines = |value| lines_of_user(&key, "changes", value);
    for value in [None, Some(number(0)), Some(number(9))] {
        assert_eq!(lines(value), [""; 0]);
    }
    let line = |problem: &str| vec![format!("USER#33 SENT: changes is {problem}")];
    assert_eq!(lines(Some(text("1"))), line("a string, not a number"));
    let negative = Some(AttributeValue::N("-1".to_owned()));
    assert_eq!(lines(negative), line("-1, less than 0"));
}

#[test]
fn a_message_that_was_deleted_after_the_state_was_read_counts_as_before() {
    let table = valid_table();
    let key = ItemKey::new("CHAT#11-44", "STATE");
    let after = &table[&key];
    let mut before = after.clone();
    for (path, value) in [
        ("rev", None),
        ("highHeld", Some(number(2))),
        ("lastMessage.deleted", None),
        ("lastMessage.text", Some(text("two"))),
    ] {
        set(&mut before, path, value);
    }
    let evaluate = |before: &Item, after: &Item| {
        let id = "11-44".parse().unwrap();
        let mut tally = ChatTally::new(id, Some(before), now());
        let items = table.iter();
        for (_, item) in items.filter(|(item, _)| item.pk == key.pk && **item != key) {
            tally.add(item.clone());
        }
        let violations = tally.finish(Some(after));
        let lines = violations.iter().map(ToString::to_string);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(evaluate(&before, after), [""; 0]);
    let line = "CHAT#11-44 STATE: rev is 0, but change 1 exists";
    assert_eq!(evaluate(&before, &before), [line]);
}

#[test]
fn an_open_report_that_is_not_in_the_queue_can_be_put_back() {
    let change = |attribute: &str, value: Option<AttributeValue>| {
        let lines = lines_after(|table| {
            let key = ItemKey::new("CHAT#22-44", "FLAG#22#0000000000000000");
            set(table.get_mut(&key).unwrap(), attribute, value.clone());
        });
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(
        change("requesterKey", None),
        "requesterKey is missing, should be #reports#open"
    );
    let position = change("activity", Some(text("x")));
    assert!(
        position.starts_with("activity is x, should be 00"),
        "{position}"
    );
    assert_eq!(
        change("seq", Some(number(1))),
        "seq must not exist: the sort key names no message"
    );
}

#[test]
fn the_report_of_a_message_says_when_the_message_was_sent() {
    let lines = lines_after(|table| {
        let key = ItemKey::new("CHAT#11-22", "FLAG#11#0000000000000003");
        set(table.get_mut(&key).unwrap(), "messageCreatedAt", None);
    });
    let line = "CHAT#11-22 FLAG#11#0000000000000003: messageCreatedAt is missing";
    assert_eq!(lines, [line]);
}

#[test]
fn a_report_with_a_value_of_a_newer_version_is_inconclusive() {
    for (chat, sk) in [
        ("CHAT#11-22", "FLAG#11#0000000000000003"),
        ("CHAT#22-44", "FLAG#22#0000000000000000"),
    ] {
        for attribute in ["reason", "state"] {
            let mut table = valid_table();
            let report = table.get_mut(&ItemKey::new(chat, sk)).unwrap();
            set(report, attribute, Some(text("new\n")));
            let violations = evaluate(&table);
            assert_eq!(violations.len(), 1, "{violations:#?}");
            assert!(violations[0].is_inconclusive());
            let problem = "has a value that this version does not know";
            assert_eq!(
                violations[0].to_string(),
                format!("{chat} {sk}: inconclusive: {attribute} {problem}")
            );
        }
    }
}
