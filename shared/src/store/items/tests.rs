use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::{chat::status_name, *};
use crate::domain::{
    Blocks, Chat, ChatId, ChatState, ChatStatus, Conversation, MemberState, Message,
    MessageContent, MessagePreview, Rev, Seq, Timestamp, UserId,
};
use crate::store::Connection;

fn chat_id(id: &str) -> ChatId {
    id.parse().unwrap()
}

#[test]
fn activity_keys_sort_by_time_then_chat_and_have_a_fixed_width() {
    let small = ActivityKey::at(Timestamp::from_millis(9), chat_id("2-3"));
    let large =
        ActivityKey::at(Timestamp::from_millis(10), chat_id("1-9007199254740991")).to_string();
    assert!(small.to_string() < large);
    assert_eq!(small.to_string().len(), large.len());
    assert_eq!(small.to_string().parse(), Ok(small));
    assert_eq!("9#2-3".parse::<ActivityKey>(), Err(()));
}

#[test]
fn a_chat_has_one_shard_and_chats_are_spread_over_all_shards() {
    let me = UserId::new(1).unwrap();
    let shard_of = |other| {
        TotalsItem::key(
            me,
            ChatId::between(me, UserId::new(other).unwrap()).unwrap(),
        )
        .sk
    };
    assert_eq!(shard_of(42), "TOTALS#3");
    let mut counts = HashMap::new();
    for other in 2..802 {
        *counts.entry(shard_of(other)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8);
    assert!(
        counts.values().all(|&count| (50..200).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn a_chat_is_the_same_after_writing_and_reading() {
    let id = chat_id("17-42");
    let mut chat = Chat::new_request(id, id.high(), Timestamp::from_millis(5));
    let read_back = |chat: &Chat| {
        ChatItem::read(ChatItem::write(chat).unwrap())
            .unwrap()
            .into_chat()
            .unwrap()
    };
    assert_eq!(read_back(&chat), chat);
    chat.state = ChatState::Active(Conversation {
        seq: Seq::new(3),
        rev: Rev::new(2),
        low: MemberState {
            unread: 1,
            held: 0,
            read_seq: Seq::new(2),
        },
        high: MemberState {
            unread: 0,
            held: 4,
            read_seq: Seq::new(3),
        },
        last_message: Some(MessagePreview {
            seq: Seq::new(3),
            sender: id.high(),
            text: Some("👍".to_owned()),
            created_at: Timestamp::from_millis(7),
            deleted: false,
            is_whole: true,
        }),
    });
    assert_eq!(read_back(&chat), chat);
    chat.blocks = Blocks {
        version: 3,
        low: Some(Timestamp::from_millis(8)),
        high: Some(Timestamp::from_millis(9)),
    };
    assert_eq!(read_back(&chat), chat);
    for state in [
        ChatState::NotRequested,
        ChatState::Pending { hidden: true },
        ChatState::Declined,
        ChatState::Withdrawn,
    ] {
        chat.state = state;
        assert_eq!(read_back(&chat), chat);
    }
}

fn user_id(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

#[test]
fn each_item_type_has_its_own_keys() {
    let id = chat_id("17-42");
    let key = |pk: &str, sk: &str| ItemKey::new(pk, sk);
    assert_eq!(ChatItem::key(id), key("CHAT#17-42", "STATE"));
    let message = MessageItem::key(id, Seq::new(9));
    assert_eq!(message, key("CHAT#17-42", "MSG#0000000000000009"));
    assert_eq!(OpenRequestsItem::key(user_id(42)), key("USER#42", "SENT"));
    assert_eq!(TotalsItem::key(user_id(42), id).pk, "USER#42");
    assert_eq!(TotalsItem::pk(user_id(42)), "USER#42");

    let keys = [
        ChatItem::key(id),
        message,
        key("CHAT#17-42", "KEY#42#a"),
        OpenRequestsItem::key(user_id(42)),
        TotalsItem::key(user_id(42), id),
    ];
    let item = |key: &ItemKey| Item::from([("sk".to_owned(), AttributeValue::S(key.sk.clone()))]);
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(ChatItem::matches(&item(key)), index == 0, "{key:?}");
        assert_eq!(IdempotencyItem::matches_key(key), index == 2, "{key:?}");
        assert_eq!(OpenRequestsItem::matches(&item(key)), index == 3, "{key:?}");
        assert_eq!(OpenRequestsItem::matches_key(key), index == 3, "{key:?}");
    }
}

#[test]
fn a_key_shows_the_kind_of_its_item_even_if_it_is_damaged() {
    use ItemKind::{
        Change, Chat, Connection, IdempotencyKey, Message, OpenRequests, PreviousContent, Report,
        Totals,
    };

    for (pk, sk, kind) in [
        ("CHAT#17-42", "STATE", Some(Chat)),
        ("CHAT#42-17", "STATE", Some(Chat)),
        ("CHAT#17-42", "MSG#0000000000000009", Some(Message)),
        ("CHAT#17-42", "MSG#9", Some(Message)),
        ("CHAT#17-42", "KEY#42#a", Some(IdempotencyKey)),
        ("CHAT#17-42", "KEY#", Some(IdempotencyKey)),
        ("CHAT#17-42", "CHG#3", Some(Change)),
        ("CHAT#17-42", "HIST#9#3", Some(PreviousContent)),
        ("CHAT#17-42", "FLAG#17#9", Some(Report)),
        ("USER#42", "CONN#L0SM9cOFIAMCHQ=", Some(Connection)),
        ("USER#42", "CONN#", Some(Connection)),
        ("CHAT#17-42", "CONN#L0SM9cOFIAMCHQ=", None),
        ("USER#42", "TOTALS#9", Some(Totals)),
        ("USER#042", "SENT", Some(OpenRequests)),
        ("CHAT#17-42", "SENT", None),
        ("USER#42", "STATE", None),
        ("USER#42", "SENT2", None),
        ("OTHER#42", "STATE", None),
    ] {
        assert_eq!(ItemKind::of(&ItemKey::new(pk, sk)), kind, "{pk} {sk}");
    }
}

#[test]
fn only_the_sort_keys_that_this_service_writes_are_valid() {
    let sk = "MSG#0000000000000009";
    assert_eq!(MessageItem::seq(sk), Some(Seq::new(9)));
    assert_eq!(MessageItem::sk(Seq::new(9)), sk);
    for sk in [
        "MSG#9",
        "MSG#00000000000000009",
        "MSG#",
        "MSG#+000000000000009",
        "9",
    ] {
        assert_eq!(MessageItem::seq(sk), None, "{sk}");
    }
    let sender_and_key = IdempotencyItem::sender_and_key;
    assert_eq!(sender_and_key("KEY#42#a#b"), Some((user_id(42), "a#b")));
    for sk in ["KEY#42", "KEY#042#a", "KEY##a", "42#a"] {
        assert_eq!(sender_and_key(sk), None, "{sk}");
    }
    for shard in 0..TOTALS_SHARDS {
        assert!(TotalsItem::is_shard(&format!("TOTALS#{shard}")));
    }
    for sk in [
        "TOTALS#8",
        "TOTALS#00",
        "TOTALS#+1",
        "TOTALS#x",
        "TOTALS#",
        "1",
    ] {
        assert!(!TotalsItem::is_shard(sk), "{sk}");
    }
    for status in [
        ChatStatus::Pending,
        ChatStatus::Active,
        ChatStatus::Declined,
        ChatStatus::NotRequested,
        ChatStatus::Withdrawn,
    ] {
        assert_eq!(ChatItem::parse_status(status_name(status)), Some(status));
    }
    assert_eq!(ChatItem::parse_status("Active"), None);
}

#[test]
fn a_partition_key_names_a_chat_or_a_user() {
    for (pk, partition) in [
        ("CHAT#17-42", Some(Partition::Chat(chat_id("17-42")))),
        ("USER#42", Some(Partition::User(user_id(42)))),
        ("CHAT#42-17", None),
        ("USER#042", None),
        ("USER#", None),
        ("OTHER#42", None),
    ] {
        assert_eq!(Partition::parse(pk), partition, "{pk}");
        assert!(partition.is_none_or(|partition| partition.pk() == pk));
    }
}

#[test]
fn the_rows_of_an_index_are_selected_by_user_and_status() {
    let (requester, recipient) = (Index::ByRequester, Index::ByRecipient);
    assert_eq!(
        [requester.name(), recipient.name()],
        ["byRequester", "byRecipient"]
    );
    for (index, attribute) in [(requester, "requesterKey"), (recipient, "recipientKey")] {
        assert_eq!(index.condition(false), format!("{attribute} = :key"));
        let below = format!("{attribute} = :key AND activity < :below");
        assert_eq!(index.condition(true), below);
    }
    assert_eq!(Index::key(user_id(42), ChatStatus::Pending), "42#pending");
    assert_eq!(Index::key(user_id(42), ChatStatus::Active), "42#active");
    assert_eq!(Index::key(user_id(42), ChatStatus::Declined), "42#declined");
}

#[test]
fn a_chat_item_has_separate_attributes_for_its_members_and_the_keys_of_its_index_rows() {
    let id = chat_id("17-42");
    let chat = Chat::new_request(id, id.high(), Timestamp::from_millis(5));
    let mut item = ChatItem::read(ChatItem::write(&chat).unwrap()).unwrap();
    (item.low_unread, item.low_read_seq) = (2, 3);
    (item.high_unread, item.high_read_seq) = (4, 5);
    assert_eq!(item.member(id, id.low()), (2, 3));
    assert_eq!(item.member(id, id.high()), (4, 5));
    let attributes = ChatItem::member_attributes;
    assert_eq!(attributes(id, id.low()), ("lowUnread", "lowReadSeq"));
    assert_eq!(attributes(id, id.high()), ("highUnread", "highReadSeq"));
    item.status = "active".to_owned();
    let activity = "000000000000005#0000000000000017-0000000000000042";
    let expected = [
        (
            "requesterKey",
            Some("42#pending"),
            Some("42#active".to_owned()),
        ),
        (
            "recipientKey",
            Some("17#pending"),
            Some("17#active".to_owned()),
        ),
        ("activity", Some(activity), Some(activity.to_owned())),
    ];
    assert_eq!(item.index_keys(id), expected);
    item.high_block = Some(7);
    assert_eq!(item.index_keys(id)[0].2.as_deref(), Some("42#blocked"));
    for status in ["none", "withdrawn"] {
        item.status = status.to_owned();
        assert_eq!(item.index_keys(id)[0].2.as_deref(), Some("42#blocked"));
        assert_eq!(item.index_keys(id)[1].2, None);
    }
    item.status = "unknown".to_owned();
    assert!(item.into_chat().is_err());
    let mut negative = ChatItem::read(ChatItem::write(&chat).unwrap()).unwrap();
    negative.status = "active".to_owned();
    negative.low_unread = -1;
    assert!(negative.has_negative_count());
    let chat = negative.into_chat().unwrap();
    assert_eq!(chat.member_state(id.low()).unread, 0);
}

#[test]
fn messages_keys_and_counters_are_the_same_after_writing_and_reading() {
    let content = MessageContent::new(
        Some("👍".to_owned()),
        Some("https://a.example/i".to_owned()),
        Some("https://a.example/l".to_owned()),
    )
    .unwrap();
    let created_at = Timestamp::from_millis(7);
    let message = Message::new(
        chat_id("17-42"),
        Seq::new(9),
        user_id(42),
        content,
        created_at,
    );
    let edited = Message {
        edited_at: Some(Timestamp::from_millis(8)),
        rev: Rev::new(2),
        ..message.clone()
    };
    let deleted = Message {
        content: None,
        deleted_at: Some(Timestamp::from_millis(9)),
        ..edited.clone()
    };
    let with_key = Message {
        idempotency_key: Some("k".to_owned()),
        ..deleted.clone()
    };
    for message in [&message, &edited, &deleted, &with_key] {
        let written = MessageItem::write(message).unwrap();
        let read = MessageItem::read(written, message.chat_id).unwrap();
        assert_eq!(read, *message);
    }

    let expires_at = Timestamp::from_millis(8_000);
    let written = IdempotencyItem::write(
        message.chat_id,
        user_id(42),
        "k",
        message.seq,
        b"h",
        expires_at,
    )
    .unwrap();
    assert_eq!(written["sk"], AttributeValue::S("KEY#42#k".to_owned()));
    assert_eq!(written["expiresAt"], AttributeValue::N("8".to_owned()));
    let key = IdempotencyItem::read(written).unwrap();
    assert_eq!((key.seq, key.hash), (9, b"h".to_vec()));

    let number = |name: &str| (name.to_owned(), AttributeValue::N("5".to_owned()));
    for (attribute, expected) in [
        ("unread", (5, 0, 0)),
        ("pending", (0, 5, 0)),
        (CHANGES, (0, 0, 5)),
    ] {
        let totals = TotalsItem::read(Item::from([number(attribute)])).unwrap();
        assert_eq!((totals.unread, totals.pending, totals.changes), expected);
    }
    for (attribute, expected) in [("open", (5, 0)), (CHANGES, (0, 5)), ("unknown", (0, 0))] {
        let counter = OpenRequestsItem::read(Item::from([number(attribute)])).unwrap();
        assert_eq!((counter.open, counter.changes), expected);
    }
}

#[test]
fn items_of_earlier_versions_have_no_idempotency_key_and_no_whole_preview() {
    let content = MessageContent::new(Some("hi".to_owned()), None, None).unwrap();
    let at = Timestamp::from_millis(7);
    let id = chat_id("17-42");
    let message = Message::new(id, Seq::new(1), id.high(), content, at);
    let written = MessageItem::write(&message).unwrap();
    assert!(!written.contains_key("idempotencyKey"));
    assert_eq!(MessageItem::read(written, id).unwrap(), message);

    let preview = message.preview();
    assert!(preview.is_whole);
    let conversation = Conversation {
        seq: message.seq,
        last_message: Some(preview.clone()),
        ..Conversation::default()
    };
    let chat = Chat {
        state: ChatState::Active(conversation),
        ..Chat::new_request(id, id.high(), at)
    };
    let mut item = ChatItem::write(&chat).unwrap();
    let Some(AttributeValue::M(written)) = item.get_mut("lastMessage") else {
        panic!("the preview is no map");
    };
    let whole = written.remove("whole");
    assert_eq!(whole, Some(AttributeValue::Bool(true)));
    let read = ChatItem::read(item).unwrap().into_chat().unwrap();
    let expected = MessagePreview {
        is_whole: false,
        ..preview
    };
    assert_eq!(read.last_message(), Some(&expected));
}

#[test]
fn a_connection_is_the_same_after_writing_and_reading() {
    let id = "L0SM9cOFIAMCHQ=";
    let connection = Connection {
        id: id.to_owned(),
        connected_at: Timestamp::from_millis(1_000_999),
        token_expires_at: Timestamp::from_millis(4_600_000),
    };
    let item = ConnectionItem::write(user_id(42), &connection, 996_999).unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: u64| AttributeValue::N(number.to_string());
    let expected = [
        ("pk", text("USER#42")),
        ("sk", text("CONN#L0SM9cOFIAMCHQ=")),
        ("type", text("Connection")),
        ("connectedAt", number(1_000_999)),
        ("tokenExpiresAt", number(4_600)),
        ("nextAt", number(996_999)),
        // Two hours and ten minutes later.
        ("expiresAt", number(1_000 + 7_800)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(item, Item::from(expected));
    let names = [ConnectionItem::TOKEN_EXPIRES_AT, ConnectionItem::NEXT_AT];
    assert!(names.iter().all(|name| item.contains_key(*name)));

    let read = || ConnectionItem::read(item.clone()).unwrap();
    assert_eq!(read().into_connection().unwrap(), connection);
    assert_eq!(read().next_at, 996_999);
    let at = |second: u64| Timestamp::from_millis(second * 1_000);
    assert!(!read().has_expired(at(8_799)));
    assert!(read().has_expired(at(8_800)));

    let damaged = |attribute: &str, value: AttributeValue| {
        let mut item = item.clone();
        item.insert(attribute.to_owned(), value);
        ConnectionItem::read(item).and_then(ConnectionItem::into_connection)
    };
    assert!(damaged("sk", text("CONN#")).is_err());
    assert!(damaged("nextAt", text("1")).is_err());
    assert!(damaged("connectedAt", number(u64::MAX)).is_err());
    assert!(damaged("tokenExpiresAt", number(u64::MAX)).is_err());
}

#[test]
fn connections_sort_before_counters() {
    let key = ConnectionItem::key(user_id(42), "~");
    assert_eq!(key.pk, TotalsItem::pk(user_id(42)));
    assert!(key.sk.as_str() < OpenRequestsItem::SK);
    assert!(OpenRequestsItem::SK < TotalsItem::SK_PREFIX);
}

/// The size of a value as `DynamoDB` counts it.
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // One byte for two digits, and one more.
        AttributeValue::N(number) => number.len().div_ceil(2) + 1,
        AttributeValue::Bool(_) => 1,
        AttributeValue::M(members) => {
            let members = members.iter();
            let sizes = members.map(|(name, value)| name.len() + size(value) + 1);
            3 + sizes.sum::<usize>()
        }
        other => panic!("STATE has no attribute such as {other:?}"),
    }
}

/// An item of 1,024 bytes or more costs another unit in the table and in each index.
#[test]
fn the_largest_state_of_a_chat_is_smaller_than_1024_bytes() {
    const MAX: u64 = 9_007_199_254_740_991;

    let id = chat_id("9007199254740990-9007199254740991");
    let content = MessageContent::new(Some("𝕏".repeat(120)), None, None).unwrap();
    let message = Message::new(id, Seq::new(MAX), id.high(), content, Timestamp::MAX);
    let member = MemberState {
        unread: MAX,
        held: MAX,
        read_seq: Seq::new(MAX),
    };
    let chat = Chat {
        state: ChatState::Active(Conversation {
            seq: Seq::new(MAX),
            rev: Rev::new(MAX),
            low: member,
            high: member,
            last_message: Some(message.preview()),
        }),
        blocks: Blocks {
            version: MAX,
            low: Some(Timestamp::MAX),
            high: Some(Timestamp::MAX),
        },
        ..Chat::new_request(id, id.high(), Timestamp::MAX)
    };
    let item = ChatItem::write(&chat).unwrap();
    let AttributeValue::M(preview) = &item["lastMessage"] else {
        panic!("the preview is no map");
    };
    // A message that is deleted has no text, so its preview is smaller.
    assert!(preview.contains_key("whole") && preview.contains_key("text"));
    // Only a pending request is hidden, and it has no messages.
    assert_eq!(item.len(), 23, "{item:?}");
    let sizes = item.iter().map(|(name, value)| name.len() + size(value));
    let size = sizes.sum::<usize>();
    assert!(size < 1_024, "{size} bytes: {item:?}");
}

/// Existing tables depend on these values: see [`TotalsItem::key`].
#[test]
fn the_shard_of_a_chat_never_changes() {
    for (id, shard) in [
        ("17-42", 3),
        ("1-1000000", 3),
        ("123456789-987654321012", 6),
        ("4294967297-8589934595", 1),
        ("9007199254740990-9007199254740991", 2),
    ] {
        let key = TotalsItem::key(user_id(1), chat_id(id));
        assert_eq!(key.sk, format!("TOTALS#{shard}"), "{id}");
    }
}

#[test]
fn the_keys_of_changes_previous_contents_and_reports_sort_below_messages() {
    let id = chat_id("17-42");
    let change = ChangeItem::key(id, Rev::new(3));
    assert_eq!(change.sk, "CHG#0000000000000003");
    assert_eq!(ChangeItem::rev(&change.sk), Some(Rev::new(3)));
    let previous = PreviousContentItem::key(id, Seq::new(9), Rev::new(3));
    assert_eq!(previous.sk, "HIST#0000000000000009#0000000000000003");
    let seq_and_rev = PreviousContentItem::seq_and_rev(&previous.sk);
    assert_eq!(seq_and_rev, Some((Seq::new(9), Rev::new(3))));
    let report = ReportItem::key(id, user_id(17), Some(Seq::new(9)));
    assert_eq!(report.sk, "FLAG#17#0000000000000009");
    let reporter_and_seq = ReportItem::reporter_and_seq;
    let on_message = Some((user_id(17), Some(Seq::new(9))));
    assert_eq!(reporter_and_seq(&report.sk), on_message);
    let on_user = ReportItem::key(id, user_id(17), None);
    assert_eq!(reporter_and_seq(&on_user.sk), Some((user_id(17), None)));
    for key in [change, previous, report, on_user] {
        assert!(key.sk.as_str() < MessageItem::SK_PREFIX, "{key:?}");
        assert_eq!(key.pk, "CHAT#17-42");
    }
    for sk in ["CHG#3", "CHG#", "CHG#+000000000000003"] {
        assert_eq!(ChangeItem::rev(sk), None, "{sk}");
    }
    for sk in ["HIST#9#3", "HIST#0000000000000009", "HIST##"] {
        assert_eq!(PreviousContentItem::seq_and_rev(sk), None, "{sk}");
    }
    for sk in ["FLAG#17#9", "FLAG#017#0000000000000009", "FLAG#17"] {
        assert_eq!(reporter_and_seq(sk), None, "{sk}");
    }
}
