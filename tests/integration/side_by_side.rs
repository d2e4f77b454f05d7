//! Items of another version in the table. During a gradual deployment and after a rollback, two versions of
//! the functions work on the same items. The rules are in `docs/architecture.md`, section "Changing stored
//! items".
//!
//! The tests write items as a newer version could write them: with attributes and in partitions with items
//! that this version does not know. This version must ignore both, and must not change them. Items of an
//! older version lack attributes that are optional today.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use serde_json::{Value, json};

use crate::{Table, TestStack, invariants::invariant_violations, support::User};

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Attributes of every type that a newer version could add.
fn unknown_attributes() -> Vec<(&'static str, AttributeValue)> {
    let map = [("inner".to_owned(), number(1))];
    vec![
        ("futureNumber", number(7)),
        ("futureText", text("kept")),
        ("futureFlag", AttributeValue::Bool(true)),
        ("futureNull", AttributeValue::Null(true)),
        ("futureBytes", AttributeValue::B(Blob::new(vec![1_u8, 2]))),
        ("futureMap", AttributeValue::M(map.into())),
        (
            "futureList",
            AttributeValue::L(vec![number(1), text("two")]),
        ),
        ("futureTexts", AttributeValue::Ss(vec!["one".to_owned()])),
        ("futureNumbers", AttributeValue::Ns(vec!["1".to_owned()])),
    ]
}

/// Items to which a newer version has added attributes, by partition key and sort key.
struct NewerItems<'a> {
    table: &'a Table,
    keys: BTreeSet<(String, String)>,
}

impl<'a> NewerItems<'a> {
    fn new(table: &'a Table) -> Self {
        let keys = BTreeSet::new();
        Self { table, keys }
    }

    /// Adds unknown attributes to all items of a chat and of its members.
    async fn add_attributes(&mut self, chat: &str) {
        let members = chat.split('-').map(|user| format!("USER#{user}"));
        let mut partitions: Vec<_> = members.collect();
        partitions.push(format!("CHAT#{chat}"));
        for pk in partitions {
            for sk in self.table.partition(&pk).await.into_keys() {
                for (name, value) in unknown_attributes() {
                    self.table.set(&pk, &sk, name, value).await;
                }
                self.keys.insert((pk.clone(), sk));
            }
        }
    }

    /// Asserts that each of the items still has its unknown attributes.
    async fn assert_unchanged(&self, after: &str) {
        for (pk, sk) in &self.keys {
            let partition = self.table.partition(pk).await;
            let item = partition
                .get(sk)
                .unwrap_or_else(|| panic!("{pk} {sk} is missing after {after}"));
            for (name, value) in unknown_attributes() {
                assert_eq!(
                    item.get(name),
                    Some(&crate::json(value)),
                    "{name} of {pk} {sk} after {after}"
                );
            }
        }
    }
}

/// The ids in a list of chats.
async fn list(user: &User, path: &str) -> Vec<String> {
    let page = user.get(path).await.expect_status(200);
    page.chat_ids().into_iter().map(str::to_owned).collect()
}

/// The texts in a list of messages, newest first.
async fn texts(user: &User, chat: &str) -> Vec<Value> {
    let page = user.messages(chat, "").await.expect_status(200);
    let messages = page.body["messages"].as_array().unwrap().iter();
    messages.map(|message| message["text"].clone()).collect()
}

#[tokio::test]
async fn requests_ignore_and_keep_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user(), stack.api.user());
    let chat = ann.chat_id_with(&ben);
    let mut items = NewerItems::new(&stack.table);

    ann.request_chat(&ben).await.expect_status(201);
    items.add_attributes(&chat).await;
    ann.request_chat(&ben).await.expect_status(200);
    items.assert_unchanged("requesting again").await;
    assert_eq!(list(&ann, "/chats/pending").await, [chat.as_str()]);
    assert_eq!(ben.totals().await, [1, 0, 0]);

    ben.decline(&chat).await.expect_status(200);
    items.assert_unchanged("declining").await;
    assert_eq!(list(&ann, "/chats/rejected").await, [chat.as_str()]);
    ben.request_chat(&ann).await.expect_status(200);
    items
        .assert_unchanged("requesting with swapped roles")
        .await;
    assert_eq!(list(&ben, "/chats/pending").await, [chat.as_str()]);

    // The swapped request has created the other counters of both members.
    items.add_attributes(&chat).await;
    ann.accept(&chat).await.expect_status(200);
    items.assert_unchanged("accepting").await;
    assert_eq!(list(&ann, "/chats").await, [chat.as_str()]);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_request_that_accepts_keeps_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user(), stack.api.user());
    let mut items = NewerItems::new(&stack.table);
    ann.request_chat(&ben).await.expect_status(201);
    items.add_attributes(&ann.chat_id_with(&ben)).await;
    let accepted = ben.request_chat(&ann).await.expect_status(200);
    assert_eq!(accepted.body["status"], "active");
    items.assert_unchanged("requesting each other").await;
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn sending_and_marking_ignore_and_keep_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    let mut items = NewerItems::new(&stack.table);
    items.add_attributes(&chat).await;
    ann.send(&chat, "one").await.expect_status(201);
    items.assert_unchanged("sending").await;
    ann.send_with_key(&chat, "key", "two")
        .await
        .expect_status(201);
    items.assert_unchanged("sending with a key").await;

    // Now the messages, the key and the unread count have unknown attributes, too.
    items.add_attributes(&chat).await;
    let replayed = ann.send_with_key(&chat, "key", "two").await;
    assert_eq!(replayed.expect_status(200).body["seq"], 2);
    assert_eq!(texts(&ben, &chat).await, ["two", "one"]);
    assert_eq!(ben.chat_view(&chat).await["unreadCount"], 2);
    assert_eq!(ben.totals().await, [0, 2, 0]);
    ben.mark_read(&chat).await.expect_status(200);
    items.assert_unchanged("marking as read").await;
    ben.send(&chat, "three").await.expect_status(201);
    items.assert_unchanged("sending by the other member").await;
    assert_eq!(ann.chat_view(&chat).await["peerReadSeq"], 2);
    assert_eq!(ann.totals().await, [0, 1, 0]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn changes_of_messages_ignore_and_keep_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    let mut items = NewerItems::new(&stack.table);
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    items.add_attributes(&chat).await;
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    items.assert_unchanged("editing").await;
    // Now the change and the replaced content have unknown attributes, too.
    items.add_attributes(&chat).await;
    ann.delete_message(&chat, 3).await.expect_status(200);
    items.assert_unchanged("deleting the last message").await;
    ann.delete_message(&chat, 1).await.expect_status(200);
    items.assert_unchanged("deleting an edited message").await;
    items.add_attributes(&chat).await;
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    items.assert_unchanged("marking up to a message").await;
    assert_eq!(ben.changes(&chat, "").await.seqs(), [3, 1]);
    assert_eq!(
        texts(&ben, &chat).await,
        [Value::Null, json!("two"), Value::Null]
    );
    assert_eq!(ben.totals().await, [0, 0, 0]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn blocks_ignore_and_keep_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    let mut items = NewerItems::new(&stack.table);
    ann.send(&chat, "one").await.expect_status(201);
    items.add_attributes(&chat).await;
    // With and without a change of the total.
    for (blocker, other) in [(&ben, &ann), (&ann, &ben)] {
        blocker.block(other).await.expect_status(200);
        items.assert_unchanged("blocking").await;
    }
    ann.delete_message(&chat, 1).await.expect_status(200);
    items
        .assert_unchanged("deleting a message of a blocked user")
        .await;
    for (blocker, other) in [(&ben, &ann), (&ann, &ben)] {
        blocker.unblock(other).await.expect_status(200);
        items.assert_unchanged("unblocking").await;
    }

    // A pair that has only a block, and a request that is hidden, shown and withdrawn.
    let (cat, dan) = (stack.api.user(), stack.api.user());
    let chat = cat.chat_id_with(&dan);
    cat.block(&dan).await.expect_status(200);
    items.add_attributes(&chat).await;
    dan.request_chat(&cat).await.expect_status(201);
    items.assert_unchanged("requesting a hidden chat").await;
    items.add_attributes(&chat).await;
    cat.unblock(&dan).await.expect_status(200);
    items.assert_unchanged("unblocking a hidden request").await;
    items.add_attributes(&chat).await;
    dan.withdraw(&chat).await.expect_status(200);
    items.assert_unchanged("withdrawing").await;
    cat.request_chat(&dan).await.expect_status(200);
    items.assert_unchanged("requesting a withdrawn chat").await;
    cat.block(&dan).await.expect_status(200);
    items.assert_unchanged("withdrawing by a block").await;
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn reports_ignore_and_keep_the_attributes_of_a_newer_version() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    let mut items = NewerItems::new(&stack.table);
    ann.send(&chat, "one").await.expect_status(201);
    let report = json!({"userId": ann.id, "seq": 1, "reason": "spam"});
    let first = ben.report(&report).await.expect_status(201);
    items.add_attributes(&chat).await;
    let again = ben.report(&report).await.expect_status(200);
    assert_eq!(again.body, first.body);
    let with_block = json!({"userId": ann.id, "reason": "spam", "block": true});
    ben.report(&with_block).await.expect_status(201);
    items.assert_unchanged("reporting").await;
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// A newer version may keep a message in place and remove its content in a way that this version does not know.
#[tokio::test]
async fn a_message_without_content_has_its_place_in_every_page() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    for text in ["one", "two", "three"] {
        ann.send_with_key(&chat, text, text)
            .await
            .expect_status(201);
    }
    let (pk, sk) = (format!("CHAT#{chat}"), "MSG#0000000000000002");
    stack.table.remove(&pk, sk, "text").await;
    stack.table.set(&pk, sk, "futureTime", number(1)).await;
    assert_eq!(
        texts(&ben, &chat).await,
        [json!("three"), Value::Null, json!("one")]
    );
    assert_eq!(ben.messages(&chat, "?after=0&limit=2").await.seqs(), [1, 2]);
    let replayed = ann.send_with_key(&chat, "two", "two").await;
    assert_eq!(replayed.expect_status(200).body["text"], Value::Null);
}

/// Sort keys of new kinds of items in the partition of a chat are less than those of messages.
#[tokio::test]
async fn unknown_kinds_of_items_in_the_partition_of_a_chat_change_nothing() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    let pk = format!("CHAT#{chat}");
    // Also directly before and after the kinds that this version knows.
    let unknown = [
        "A",
        "CHF#0000000000000001",
        "CHH#0000000000000001",
        "FLAF#1",
        "FLAH#1",
        "HISS#1",
        "HISU#1",
        "MSF#0000000000000001",
    ];
    for sk in unknown {
        // It has the attributes of a state, a message and a row of an index.
        let attributes = [
            ("type", text("Future")),
            ("seq", number(99)),
            ("text", text("hidden")),
            ("requesterKey", text("#future#open")),
            ("recipientKey", text("#future#open")),
            ("activity", text("000000000000001")),
        ];
        stack.table.put(&pk, sk, &attributes).await;
    }
    ann.send(&chat, "one").await.expect_status(201);
    ann.send_with_key(&chat, "key", "two")
        .await
        .expect_status(201);
    ann.send_with_key(&chat, "key", "two")
        .await
        .expect_status(200);
    assert_eq!(ben.changes(&chat, "").await.seqs(), [0_u64; 0]);
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    assert_eq!(ben.changes(&chat, "").await.seqs(), [1]);
    let report = json!({"userId": ann.id, "seq": 1, "reason": "spam"});
    ben.report(&report).await.expect_status(201);
    ben.block(&ann).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    ben.mark_up_to(&chat, 1).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 1, 0]);
    for (query, seqs) in [
        ("", vec![2, 1]),
        ("?limit=1", vec![2]),
        ("?limit=100", vec![2, 1]),
        ("?skip=1", vec![1]),
        ("?before=2", vec![1]),
        ("?after=0", vec![1, 2]),
    ] {
        let page = ben.messages(&chat, query).await.expect_status(200);
        assert_eq!(page.seqs(), seqs, "{query}");
        assert_eq!(page.next_cursor().is_some(), query == "?limit=1", "{query}");
    }
    ben.mark_read(&chat).await.expect_status(200);
    for user in [&ann, &ben] {
        assert_eq!(list(user, "/chats").await, [chat.as_str()]);
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
    let items = stack.table.chat(&chat).await;
    for sk in unknown {
        assert_eq!(items[sk]["text"], "hidden", "{sk}");
    }
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_pair_with_only_an_unknown_kind_of_item_has_no_chat_and_can_request_one() {
    let stack = TestStack::start().await;
    let (ann, ben) = (stack.api.user(), stack.api.user());
    let chat = ann.chat_id_with(&ben);
    let attributes = [("type", text("Future"))];
    let pk = format!("CHAT#{chat}");
    stack.table.put(&pk, "FUTURE#1", &attributes).await;
    for response in [
        ann.get_chat(&chat).await,
        ann.messages(&chat, "").await,
        ann.messages(&chat, "?after=0").await,
        ann.changes(&chat, "").await,
        ann.accept(&chat).await,
        ann.withdraw(&chat).await,
        ann.mark_read(&chat).await,
        ann.mark_up_to(&chat, 1).await,
        ann.send(&chat, "hi").await,
        ann.edit_text(&chat, 1, "hi").await,
        ann.delete_message(&chat, 1).await,
    ] {
        response.expect_error(404, "chat_not_found");
    }
    ann.request_chat(&ben).await.expect_status(201);
    ben.accept(&chat).await.expect_status(200);
    assert_eq!(
        stack.table.chat(&chat).await["FUTURE#1"],
        json!({"type": "Future"})
    );
}

/// Sort keys of new kinds of items in the partition of a user are less than `SENT` or greater than
/// `TOTALS#7`.
#[tokio::test]
async fn unknown_kinds_of_items_in_the_partition_of_a_user_change_no_total() {
    let stack = TestStack::start().await;
    let (me, friend, chat) = stack.api.active_chat().await;
    friend.send(&chat, "hi").await.expect_status(201);
    me.request_chat(&stack.api.user()).await.expect_status(201);
    stack.api.user().request_chat(&me).await.expect_status(201);
    assert_eq!(me.totals().await, [1, 1, 1]);
    let pk = format!("USER#{}", me.id);
    // More than a user has counters, before and after them.
    let unknown = (0..12).flat_map(|n| [format!("CONN#{n}"), format!("ZONE#{n}")]);
    for sk in unknown {
        let attributes = [
            ("type", text("Future")),
            ("unread", number(5)),
            ("pending", number(5)),
            ("open", number(5)),
        ];
        stack.table.put(&pk, &sk, &attributes).await;
    }
    assert_eq!(me.totals().await, [1, 1, 1]);
    let unread = me.get("/totals/unread").await.expect_status(200);
    assert_eq!(unread.body, json!({"totalUnreadMessages": 1}));
    friend.send(&chat, "hi again").await.expect_status(201);
    assert_eq!(me.totals().await, [1, 2, 1]);
    me.mark_read(&chat).await.expect_status(200);
    assert_eq!(me.totals().await, [1, 0, 1]);
    let items = stack.table.user(me.id).await;
    let kept = items.keys().filter(|sk| !is_counter(sk)).count();
    assert_eq!(kept, 24);
}

fn is_counter(sk: &str) -> bool {
    sk == "SENT" || sk.starts_with("TOTALS#")
}

/// A version never guesses what an unknown status means. So a newer version may write a new status only
/// after every version that knows it is deployed everywhere.
#[tokio::test]
async fn a_chat_with_an_unknown_status_is_in_no_list_and_is_not_changed() {
    let stack = TestStack::start().await;
    let (me, other) = (stack.api.user(), stack.api.user());
    let known = me.start_chat(&stack.api.user()).await;
    let chat = me.start_chat(&other).await;
    let pk = format!("CHAT#{chat}");
    let key = |user: &User| text(&format!("{}#future", user.id));
    for (attribute, value) in [
        ("status", text("future")),
        ("requesterKey", key(&me)),
        ("recipientKey", key(&other)),
    ] {
        stack.table.set(&pk, "STATE", attribute, value).await;
    }
    let before = stack.table.everything().await;
    assert_eq!(list(&me, "/chats").await, [known.as_str()]);
    for path in [
        "/chats/pending",
        "/chats/pending?direction=received",
        "/chats/rejected",
        "/chats/rejected?direction=received",
    ] {
        assert_eq!(list(&me, path).await, [""; 0], "{path}");
    }
    assert_eq!(me.totals().await, [0, 0, 0]);
    let responses = [
        me.request_chat(&other).await,
        other.accept(&chat).await,
        other.decline(&chat).await,
        me.send(&chat, "hi").await,
        me.mark_read(&chat).await,
        me.mark_up_to(&chat, 1).await,
        me.messages(&chat, "").await,
        me.get_chat(&chat).await,
        me.changes(&chat, "").await,
        me.edit_text(&chat, 1, "hi").await,
        me.delete_message(&chat, 1).await,
        me.withdraw(&chat).await,
        me.block(&other).await,
        me.unblock(&other).await,
        other.block(&me).await,
        me.report(&json!({"userId": other.id, "reason": "spam", "block": true}))
            .await,
    ];
    for response in responses {
        response.expect_error(500, "internal");
    }
    assert_eq!(stack.table.everything().await, before);
}

/// An attribute that a later version has added is missing in items of an older version. Today's optional
/// attributes stand for it.
#[tokio::test]
async fn a_missing_optional_attribute_is_read_as_its_default_and_written_by_the_next_change() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ben.mark_read(&chat).await.expect_status(200);
    let pk = format!("CHAT#{chat}");
    stack.table.remove(&pk, "STATE", "lastMessage").await;
    // All counters are 0 now, which is what a missing one means.
    for user in [&ann, &ben] {
        let pk = format!("USER#{}", user.id);
        for sk in stack.table.user(user.id).await.into_keys() {
            for attribute in ["unread", "pending", "open"] {
                stack.table.remove(&pk, &sk, attribute).await;
            }
        }
    }
    for user in [&ann, &ben] {
        assert_eq!(user.chat_view(&chat).await["lastMessage"], Value::Null);
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
    assert_eq!(texts(&ben, &chat).await, ["one"]);

    ann.send(&chat, "two").await.expect_status(201);
    let view = ben.chat_view(&chat).await;
    assert_eq!(view["lastMessage"]["text"], "two");
    assert_eq!(ben.totals().await, [0, 1, 0]);
    let other = stack.api.user();
    ann.request_chat(&other).await.expect_status(201);
    other
        .decline(&ann.chat_id_with(&other))
        .await
        .expect_status(200);
    ann.request_chat(&stack.api.user()).await.expect_status(201);
    stack.api.user().request_chat(&ben).await.expect_status(201);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 1, 0]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// Items that an older version has written have none of the attributes of changes and blocks.
#[tokio::test]
async fn changes_and_blocks_work_on_items_of_an_older_version_and_add_their_attributes() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    let (pending_other, declined_other) = (stack.api.user(), stack.api.user());
    ann.request_chat(&pending_other).await.expect_status(201);
    ann.request_chat(&declined_other).await.expect_status(201);
    declined_other
        .decline(&ann.chat_id_with(&declined_other))
        .await
        .expect_status(200);
    let new_attributes = [
        "v",
        "rev",
        "lowBlock",
        "highBlock",
        "lowHeld",
        "highHeld",
        "hid",
        "editedAt",
        "deletedAt",
    ];
    for (pk, sk, item) in stack.table.everything().await {
        for attribute in new_attributes {
            assert_eq!(item.get(attribute), None, "{attribute} of {pk} {sk}");
        }
    }
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&view["rev"], &view["blocked"]], [&json!(0), &json!(false)]);
    assert_eq!(view["lastMessage"]["deleted"], false);

    ann.edit_text(&chat, 3, "THREE").await.expect_status(200);
    ben.block(&ann).await.expect_status(200);
    ann.delete_message(&chat, 1).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&view["rev"], &view["unreadCount"]], [2, 1]);
    for other in [&pending_other, &declined_other] {
        other.block(&ann).await.expect_status(200);
        other.unblock(&ann).await.expect_status(200);
    }
    ann.withdraw(&ann.chat_id_with(&pending_other))
        .await
        .expect_status(200);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}
