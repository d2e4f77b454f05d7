//! The previous version meets what this version writes once `SAFETY_FEATURES` is on: after a rollback, or while
//! instances of the previous version still run. It must lose nothing. What it counts wrong for a moment, because it
//! knows no blocks, `chat-admin` must be able to repair.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::{MAX_SAFE_INTEGER, UserId},
    store::items::TotalsItem,
};
use serde_json::{Value, json};

use crate::{
    contract_model::{Content, Edit, PageStart, PairRequest, all_named, named},
    invariants::{admin_findings, invariant_violations},
    support::{env_number, run_concurrently},
    versions::{
        Couple,
        Version::{self, Current, Previous},
        Versions, can_be_caused_by_previous_version,
    },
};

const ALL_MESSAGES: PairRequest = PairRequest::ListMessages {
    start: PageStart::Skip(0),
    limit: 100,
};
const LISTS: [&str; 5] = [
    "/chats",
    "/chats/pending",
    "/chats/pending?direction=received",
    "/chats/rejected",
    "/chats/rejected?direction=received",
];

impl Couple<'_> {
    /// Sends a request by its name to the previous version, and asserts only the status.
    async fn send_to_previous(&self, request: &str, status: u16) {
        let (caller, request) = named(request);
        let response = self.send(Previous, caller, &request).await;
        assert_eq!(response.status, status, "{request:?}: {response:?}");
    }

    /// `unreadCount` and `blocked` of a user, in this version.
    async fn unread_and_blocked(&self, caller: usize) -> [Value; 2] {
        let response = self.send(Current, caller, &PairRequest::GetChat).await;
        let body = response.expect_status(200).body;
        [body["unreadCount"].clone(), body["blocked"].clone()]
    }

    /// The attributes of the state that the previous version does not know, and the items that it does not know.
    async fn unknown_to_previous(&self) -> BTreeMap<String, Value> {
        let items = self.versions.table.chat(&self.chat_id()).await;
        let state = items["STATE"].as_object().unwrap().clone();
        let is_unknown = |name: &str| {
            let names = [
                "v",
                "rev",
                "hid",
                "lowBlock",
                "highBlock",
                "lowHeld",
                "highHeld",
                "future",
            ];
            names.contains(&name)
        };
        let attributes = state.into_iter().filter(|(name, _)| is_unknown(name));
        let items = items.into_iter().filter(|(sk, _)| {
            let prefixes = ["CHG#", "HIST#", "FLAG#", "MSG#0000000000000001"];
            prefixes.iter().any(|prefix| sk.starts_with(prefix))
        });
        attributes.chain(items).collect()
    }
}

#[tokio::test]
async fn the_previous_version_shows_and_counts_edited_and_deleted_messages() {
    let versions = Versions::start("on").await;
    let before = "active send-with-key:1 send-with-key:2 send-with-key:3 edit:1 delete:2 delete:3";
    let mut couple = Couple::after(&versions, Current, before).await;
    for caller in [0, 1] {
        couple.perform(Previous, caller, &ALL_MESSAGES).await;
        couple.assert_totals_equal_model(caller).await;
        let page = versions.get(Previous, couple.users[caller], "/chats").await;
        let view = page.expect_status(200).chats()[0].clone();
        assert_eq!(view["lastMessage"]["seq"], 3);
        assert_eq!(view["lastMessage"]["text"], Value::Null);
        assert_eq!(view["unreadCount"], caller);
    }
    // Replays of a changed and of two deleted messages, and another message under their keys.
    couple
        .perform_all(Previous, "send-with-key:1 send-with-key:2 send-with-key:3")
        .await;
    for key in ["key-1", "key-2"] {
        let request = PairRequest::Send {
            key: Some(key.to_owned()),
            content: Content::text("new"),
        };
        couple.perform(Previous, 0, &request).await;
    }
    couple.assert_equals_model().await;
    couple.perform_all(Previous, "mark send send reply").await;
    couple.assert_equals_model().await;
    // This version goes on with what the previous one has written.
    couple
        .perform_all(
            Current,
            "delete:4 edit:5 mark:4 mark send-with-key:2 delete:1",
        )
        .await;
    couple.assert_equals_model().await;
    versions.assert_consistent().await;
}

/// The previous version counts a message to a member who has blocked its sender as any other: in the member's count
/// and total, beside those that are held.
#[tokio::test]
async fn a_message_of_the_previous_version_to_a_member_who_blocks_is_counted_once() {
    let versions = Versions::start("on").await;
    let couple = Couple::after(&versions, Current, "active send send block").await;
    let [ann, ben] = couple.users;
    assert_eq!(versions.totals(ben).await, [0, 0, 0]);
    for version in [Previous, Current] {
        for path in LISTS {
            assert_eq!(versions.list(version, ben, path).await, [""; 0], "{path}");
        }
        let listed = versions.list(version, ann, "/chats").await;
        assert_eq!(listed, [couple.chat_id()]);
    }
    couple.send_to_previous("mark", 200).await;
    versions.assert_consistent().await;

    couple.send_to_previous("send", 201).await;
    assert_eq!(versions.totals(ben).await, [0, 1, 0]);
    assert_eq!(couple.unread_and_blocked(1).await, [json!(3), json!(true)]);
    versions.assert_counts_are_exact().await;
    // Sending by the member who blocks, and deleting an unread message.
    couple.send_to_previous("reply", 201).await;
    assert_eq!(versions.totals(ann).await, [0, 1, 0]);
    let delete = PairRequest::Delete { seq: 1 };
    let deleted = couple.send(Current, 0, &delete).await;
    deleted.expect_status(200);
    assert_eq!(couple.unread_and_blocked(1).await, [json!(2), json!(true)]);
    versions.assert_counts_are_exact().await;

    let unblocked = couple.send(Current, 1, &PairRequest::Unblock).await;
    unblocked.expect_status(200);
    assert_eq!(versions.totals(ben).await, [0, 2, 0]);
    assert_eq!(couple.unread_and_blocked(1).await, [json!(2), json!(false)]);
    versions.assert_consistent().await;
}

#[tokio::test]
async fn a_mark_of_the_previous_version_in_a_blocked_chat_leaves_only_what_can_be_repaired() {
    let versions = Versions::start("on").await;
    let couple = Couple::after(&versions, Current, "active send send block").await;
    let before = versions.table.everything().await;
    // Nothing is unread as far as the previous version knows.
    couple.send_to_previous("mark", 200).await;
    assert_eq!(versions.table.everything().await, before);

    couple.send_to_previous("send", 201).await;
    couple.send_to_previous("mark", 200).await;
    assert_eq!(versions.totals(couple.users[1]).await, [0, 0, 0]);
    let found = admin_findings(&versions.table).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("Held is 2"), "{found:?}");
    versions.repair().await;
    versions.assert_consistent().await;
    assert_eq!(couple.unread_and_blocked(1).await, [json!(0), json!(true)]);
    let unblocked = couple.send(Current, 1, &PairRequest::Unblock).await;
    unblocked.expect_status(200);
    assert_eq!(versions.totals(couple.users[1]).await, [0, 0, 0]);
    versions.assert_consistent().await;
}

#[tokio::test]
async fn the_previous_version_changes_nothing_in_a_chat_whose_status_it_does_not_know() {
    let versions = Versions::start("on").await;
    for before in [
        "block",
        "block unblock",
        "request withdraw",
        "request block-back",
    ] {
        let couple = Couple::after(&versions, Current, before).await;
        let items = versions.table.everything().await;
        for (caller, request) in all_named("request counter-request accept decline send mark") {
            let response = couple.send(Previous, caller, &request).await;
            response.expect_error(500, "internal");
        }
        let messages = couple.send(Previous, 0, &ALL_MESSAGES).await;
        messages.expect_error(500, "internal");
        assert_eq!(versions.table.everything().await, items, "{before}");
        for (caller, user) in couple.users.into_iter().enumerate() {
            for path in LISTS {
                let listed = versions.list(Previous, user, path).await;
                assert_eq!(listed, [""; 0], "{before}: {path}");
            }
            couple.assert_totals_equal_model(caller).await;
        }
    }
    versions.assert_consistent().await;
}

#[tokio::test]
async fn the_previous_version_does_not_show_or_count_a_hidden_request() {
    let versions = Versions::start("on").await;
    let mut couple = Couple::after(&versions, Current, "block request").await;
    let [ann, ben] = couple.users;
    let chat = couple.chat_id();
    let sent = versions.list(Previous, ann, "/chats/pending").await;
    assert_eq!(sent, [chat]);
    for path in LISTS {
        let listed = versions.list(Previous, ben, path).await;
        assert_eq!(listed, [""; 0], "{path}");
    }
    couple.perform_all(Previous, "request").await;
    // The requester cannot accept or decline.
    for answer in [PairRequest::Accept, PairRequest::Decline] {
        couple.perform(Previous, 0, &answer).await;
    }
    couple.assert_equals_model().await;
    versions.assert_consistent().await;
    couple.perform_all(Current, "unblock").await;
    assert_eq!(versions.totals(ben).await, [1, 0, 0]);
    couple.perform_all(Previous, "accept send").await;
    couple.assert_equals_model().await;
    versions.assert_consistent().await;
}

/// The member who blocks does not see the request in any version, but a client can still have it.
#[tokio::test]
async fn an_answer_to_a_hidden_request_in_the_previous_version_leaves_only_what_can_be_repaired() {
    let versions = Versions::start("on").await;
    for (answer, later) in [
        ("accept", "send mark"),
        ("counter-request", "send mark"),
        ("decline", "counter-request block-back unblock"),
    ] {
        let couple = Couple::after(&versions, Current, "block request").await;
        let [ann, ben] = couple.users;
        couple.send_to_previous(answer, 200).await;
        let chat = couple.chat_id();
        let counter = TotalsItem::key(UserId::new(ben).unwrap(), chat.parse().unwrap()).sk;
        let status = if answer == "decline" {
            "declined"
        } else {
            "active"
        };
        assert_eq!(
            invariant_violations(&versions.table).await,
            [
                format!("USER#{ben} {counter}: pending is -1, which is negative"),
                format!(
                    "CHAT#{chat}: recipientKey is \"{ben}#{status}\", should be \"{ben}#blocked\""
                ),
                format!("CHAT#{chat}: hid is true, should be null"),
                format!("USER#{ben}: pending is -1, should be 0"),
            ],
            "{answer}"
        );
        assert_ne!(admin_findings(&versions.table).await, [""; 0], "{answer}");
        versions.repair().await;
        versions.assert_consistent().await;
        assert_eq!(versions.totals(ann).await, [0, 0, 0]);
        assert_eq!(versions.totals(ben).await, [0, 0, 0]);

        let unblocked = couple.send(Current, 1, &PairRequest::Unblock).await;
        unblocked.expect_status(200);
        for (caller, request) in all_named(later) {
            let response = couple.send(Current, caller, &request).await;
            assert!(response.status < 300, "{answer}; {request:?}: {response:?}");
        }
        versions.assert_consistent().await;
    }
}

/// In the previous version a member can request a chat with a user that they have blocked and declined.
#[tokio::test]
async fn a_request_of_the_previous_version_by_a_member_who_blocks_leaves_only_what_can_be_repaired()
{
    let versions = Versions::start("on").await;
    let couple = Couple::after(&versions, Current, "request decline block").await;
    let [ann, ben] = couple.users;
    couple.send_to_previous("counter-request", 200).await;
    assert_eq!(versions.totals(ann).await, [1, 0, 0]);
    assert_eq!(versions.totals(ben).await, [0, 0, 1]);
    assert_ne!(admin_findings(&versions.table).await, [""; 0]);
    versions.repair().await;
    versions.assert_consistent().await;
    // The requester is in the role of user 1 now.
    let accepted = couple.send(Current, 0, &PairRequest::Accept).await;
    accepted.expect_status(200);
    let unblocked = couple.send(Current, 1, &PairRequest::Unblock).await;
    unblocked.expect_status(200);
    for user in [ann, ben] {
        assert_eq!(versions.totals(user).await, [0, 0, 0]);
        let listed = versions.list(Current, user, "/chats").await;
        assert_eq!(listed, [couple.chat_id()]);
    }
    versions.assert_consistent().await;
}

#[tokio::test]
async fn the_previous_version_keeps_what_it_does_not_know() {
    let versions = Versions::start("on").await;
    for (before, requests) in [
        ("block request unblock", "request accept send reply mark"),
        ("block request unblock", "decline counter-request"),
        ("block request", "request"),
        ("block request unblock", "counter-request"),
        (
            "active send send send edit:1 delete:2 block unblock report:1",
            "mark send send-with-key:1 reply",
        ),
        ("active send send edit:1 block report", "send mark reply"),
        ("request decline block unblock", "counter-request accept"),
    ] {
        let couple = Couple::after(&versions, Current, before).await;
        let pk = format!("CHAT#{}", couple.chat_id());
        let future = AttributeValue::S("kept".to_owned());
        versions.table.set(&pk, "STATE", "future", future).await;
        let known = couple.unknown_to_previous().await;
        assert_eq!(known["future"], "kept");
        for (caller, request) in all_named(requests) {
            let response = match request {
                // User 0 answers the request that user 1 has sent.
                PairRequest::Accept if before.contains("decline") => {
                    couple.send(Previous, 0, &request).await
                }
                _ => couple.send(Previous, caller, &request).await,
            };
            assert!(response.status < 300, "{before}; {request:?}: {response:?}");
            let kept = couple.unknown_to_previous().await;
            for (name, value) in &known {
                assert_eq!(
                    kept.get(name),
                    Some(value),
                    "{name} after {before}; {request:?}"
                );
            }
        }
    }
}

/// A request that this version knows, most of them also the previous one.
fn any_request(random: &mut fastrand::Rng) -> (Version, PairRequest) {
    let seq = random.u64(1..12);
    let both = match random.u8(..40) {
        0..3 => PairRequest::RequestChat,
        3..6 => PairRequest::Accept,
        6 => PairRequest::Decline,
        7..20 => PairRequest::Send {
            key: None,
            content: Content::text("hello"),
        },
        20..23 => PairRequest::MarkRead { up_to: None },
        23 => ALL_MESSAGES,
        24 => return (Current, PairRequest::Withdraw),
        25..28 => {
            let edit = Edit::text(&format!("edit {}", random.u8(..)));
            return (Current, PairRequest::Edit { seq, edit });
        }
        28..32 => return (Current, PairRequest::Delete { seq }),
        32..35 => return (Current, PairRequest::MarkRead { up_to: Some(seq) }),
        35 | 36 => return (Current, PairRequest::Block),
        _ => return (Current, PairRequest::Unblock),
    };
    let version = if random.bool() { Previous } else { Current };
    (version, both)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_at_once_lose_nothing_and_what_is_counted_wrong_can_be_repaired() {
    let seed = env_number("MODEL_SEED", 1);
    let mut random = fastrand::Rng::with_seed(seed);
    let versions = Arc::new(Versions::start("on").await);
    let users: Arc<Vec<u64>> = Arc::new((0..5).map(|_| random.u64(1..=MAX_SAFE_INTEGER)).collect());
    let clients = (0..12).map(|_| {
        let (versions, users) = (versions.clone(), users.clone());
        let mut random = random.fork();
        async move {
            let mut sent = 0;
            for _ in 0..50 {
                let caller = random.usize(..users.len());
                let other = (caller + random.usize(1..users.len())) % users.len();
                let (version, request) = any_request(&mut random);
                let is_send = matches!(request, PairRequest::Send { .. });
                let request = request.to_http(users[caller], users[other]);
                let response = versions.send(version, users[caller], request).await;
                // The previous version does not know the statuses `none` and `withdrawn`.
                let is_expected = response.status < 500
                    || (version == Previous && response.body["code"] == "internal");
                assert!(is_expected, "{version:?}: {response:?}");
                sent += u64::from(is_send && response.status == 201);
            }
            sent
        }
    });
    let sent: u64 = run_concurrently(clients).await.into_iter().sum();
    let items = versions.table.everything().await;
    let stored = items.iter().filter(|(_, sk, _)| sk.starts_with("MSG#"));
    assert_eq!(stored.count() as u64, sent);
    for line in invariant_violations(&versions.table).await {
        assert!(can_be_caused_by_previous_version(&line), "{line}");
    }
    versions.repair().await;
    versions.assert_counts_are_exact().await;
}
