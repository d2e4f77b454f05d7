//! Index lag tests: lists of chats and of blocked users while an index has not followed the latest changes. It can then have the
//! old row of a chat beside the new one, only the old one, or neither.
//!
//! A list may then show a changed chat late, twice on different pages, or not at all. It must show every
//! other chat once and in order, on pages that end only at the end of the list. The contract tests run
//! with index lag, too (`contract_with_index_lag`): they show that lists are right soon after a change.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    Table,
    dynamodb_proxy::ProxiedStack,
    fault_injection::{FaultPlan, MAX_LATE_QUERIES, UNTIL_SETTLED},
    support::{Response, User, env_number},
};

/// Far more pages than a test creates. A longer list means that paging does not end.
const MAX_PAGES: usize = 100;

/// A stack whose indexes are late until the test settles them.
async fn start_with_late_indexes() -> ProxiedStack {
    let proxied = ProxiedStack::start().await;
    let seed = env_number("FAULT_SEED", 1);
    proxied.set_fault_plan(FaultPlan::index_lag(seed, UNTIL_SETTLED));
    proxied
}

/// The ids of the chats, or of the blocked users, on one page. Asserts that a page has at most `limit` of them, and
/// none twice.
fn page_ids(page: &Response, limit: usize) -> Vec<String> {
    let ids: Vec<_> = if page.body["blocks"].is_array() {
        let users = page.blocked_users().into_iter();
        users.map(|user| user.to_string()).collect()
    } else {
        page.chat_ids().into_iter().map(str::to_owned).collect()
    };
    assert!(ids.len() <= limit, "{page:?}");
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(
        distinct.len(),
        ids.len(),
        "an id is on a page twice: {page:?}"
    );
    ids
}

/// The ids on each page of a list, from the first page to the last one. `path` ends with `?` or `&`.
async fn pages_by_cursor(user: &User, path: &str, limit: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut start = String::new();
    for _ in 0..MAX_PAGES {
        let path = format!("{path}limit={limit}{start}");
        let page = user.get(&path).await.expect_status(200);
        pages.push(page_ids(&page, limit));
        let Some(cursor) = page.next_cursor() else {
            return pages;
        };
        start = format!("&cursor={cursor}");
    }
    panic!("{path} still has a next page after {MAX_PAGES} pages of {limit}");
}

/// Reads a list in pages of several sizes, several times. Each time it must have the unchanged chats once
/// and in order, and otherwise only changed chats.
async fn assert_unchanged_chats_are_listed(
    user: &User,
    path: &str,
    unchanged: &[String],
    changed: &[String],
) {
    for limit in [1, 2, 3, 4, 5, 100] {
        for _ in 0..3 {
            let pages = pages_by_cursor(user, path, limit).await;
            let (listed, others): (Vec<_>, Vec<_>) = pages
                .iter()
                .flatten()
                .partition(|chat| unchanged.contains(chat));
            assert!(
                listed.iter().copied().eq(unchanged),
                "{path} in pages of {limit}: {pages:?}, unchanged: {unchanged:?}"
            );
            for chat in others {
                assert!(changed.contains(chat), "{path}: {chat} in {pages:?}");
            }
        }
    }
}

/// Asserts that a list has the expected chats on full pages, once the indexes have followed.
async fn assert_list(user: &User, path: &str, expected: &[String], limit: usize) {
    let pages = pages_by_cursor(user, path, limit).await;
    let mut expected: Vec<_> = expected.chunks(limit).map(<[String]>::to_vec).collect();
    if expected.is_empty() {
        expected.push(Vec::new());
    }
    assert_eq!(pages, expected, "{path} in pages of {limit}");
}

/// The chats at these positions, and the others.
fn split(chats: &[String], positions: &[usize]) -> (Vec<String>, Vec<String>) {
    let chats = chats.iter().cloned().enumerate();
    let (at, others): (Vec<_>, Vec<_>) = chats.partition(|(n, _)| positions.contains(n));
    let without_position = |chats: Vec<(usize, String)>| {
        let chats = chats.into_iter();
        chats.map(|(_, chat)| chat).collect()
    };
    (without_position(at), without_position(others))
}

/// Reads an index without the functions, to show what the proxy does.
#[tokio::test]
async fn a_late_index_has_both_rows_the_old_row_or_none_and_then_the_new_row() {
    let proxied = start_with_late_indexes().await;
    let api = &proxied.stack.api;
    let (ann, ben, chat) = api.active_chat().await;
    proxied.settle_indexes();
    ann.send(&chat, "hi").await.expect_status(201);
    // This client reaches the table through the proxy, as the functions do.
    let stack = &proxied.stack.stack;
    let table = Table::at(stack.dynamodb_endpoint(), stack.table());
    let rows = async || {
        let key = AttributeValue::S(format!("{}#active", ben.id));
        let query = table.client.query().table_name(&table.name);
        let query = query
            .index_name("byRecipient")
            .key_condition_expression("recipientKey = :key")
            .expression_attribute_values(":key", key)
            .scan_index_forward(false);
        let output = query.limit(10).send().await.unwrap();
        assert_eq!(usize::try_from(output.count()), Ok(output.items().len()));
        let seqs = output.items().iter().map(|row| row["seq"].as_n().unwrap());
        seqs.map(|seq| seq.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        *seen.entry(rows().await).or_insert(0) += 1;
    }
    let views: Vec<_> = seen.keys().cloned().collect();
    // By the sequence number of the last message: none, only old, only new, new and old.
    assert_eq!(views, [vec![], vec![0], vec![1], vec![1, 0]], "{seen:?}");
    assert!(proxied.late_index_queries() > 0);
    proxied.settle_indexes();
    assert_eq!(rows().await, [1]);
}

#[tokio::test]
async fn a_change_is_missed_by_a_bounded_number_of_queries() {
    let proxied = ProxiedStack::start().await;
    let seed = env_number("FAULT_SEED", 1);
    proxied.set_fault_plan(FaultPlan::index_lag(seed, MAX_LATE_QUERIES));
    let api = &proxied.stack.api;
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    let mut late = 0;
    for _ in 0..60 {
        let page = ann.get("/chats/pending").await.expect_status(200);
        late += u32::from(page.chat_ids() != [chat.as_str()]);
    }
    assert_eq!(late, MAX_LATE_QUERIES);
}

#[tokio::test]
async fn paging_through_active_chats_reaches_every_unchanged_chat() {
    let proxied = start_with_late_indexes().await;
    let api = &proxied.stack.api;
    let (me, mut chats) = (api.user(), Vec::new());
    for n in 0..10 {
        let friend = api.user();
        // Half of the chats are in the one index, half in the other one.
        let chat = if n % 2 == 0 {
            me.start_chat(&friend).await
        } else {
            friend.start_chat(&me).await
        };
        chats.insert(0, chat);
    }
    proxied.settle_indexes();
    // These chats move to the top: the first, two that are next to each other, and the last.
    let (moved, unchanged) = split(&chats, &[0, 3, 4, 9]);
    for chat in &moved {
        me.send(chat, "moves to the top").await.expect_status(201);
    }
    let new = api.user().start_chat(&me).await;
    let mut changed = moved;
    changed.push(new);
    assert_unchanged_chats_are_listed(&me, "/chats?", &unchanged, &changed).await;
    assert!(proxied.late_index_queries() > 0);

    proxied.settle_indexes();
    changed.reverse();
    let expected = [changed, unchanged].concat();
    for limit in [1, 3, 11, 100] {
        assert_list(&me, "/chats?", &expected, limit).await;
    }
}

#[tokio::test]
async fn a_page_by_skip_is_the_last_one_only_if_it_reaches_the_end_of_the_list() {
    let proxied = start_with_late_indexes().await;
    let api = &proxied.stack.api;
    let (me, mut chats) = (api.user(), Vec::new());
    for _ in 0..8 {
        chats.insert(0, me.start_chat(&api.user()).await);
    }
    proxied.settle_indexes();
    for chat in &chats[..4] {
        me.send(chat, "moves to the top").await.expect_status(201);
    }
    let last = chats.last().unwrap();
    for skip in 0..4 {
        for limit in 1..5 {
            for _ in 0..3 {
                let path = format!("/chats?skip={skip}&limit={limit}");
                let page = me.get(&path).await.expect_status(200);
                let ids = page_ids(&page, limit);
                // Four chats have not changed, so the end of the list is never skipped.
                let is_last = ids.last() == Some(last);
                assert!(
                    page.next_cursor().is_some() || is_last,
                    "{path} ends before {last}: {page:?}"
                );
            }
        }
    }
    assert!(proxied.late_index_queries() > 0);
}

/// The lists of requests of one user: ids by path, latest first.
struct RequestLists {
    me: User,
    lists: BTreeMap<&'static str, Vec<String>>,
    /// The other member of each chat.
    others: BTreeMap<String, User>,
}

const SENT: &str = "/chats/pending?";
const RECEIVED: &str = "/chats/pending?direction=received&";
const REJECTED: &str = "/chats/rejected?";
const REJECTED_BY_ME: &str = "/chats/rejected?direction=received&";

impl RequestLists {
    /// A user with six chats in each list.
    async fn new(proxied: &ProxiedStack) -> Self {
        let api = &proxied.stack.api;
        let me = api.user();
        let mut lists: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut others = BTreeMap::new();
        for _ in 0..6 {
            for path in [SENT, RECEIVED, REJECTED, REJECTED_BY_ME] {
                let other = api.user();
                let chat = me.chat_id_with(&other);
                let (from, to) = match path {
                    SENT | REJECTED => (&me, &other),
                    _ => (&other, &me),
                };
                from.request_chat(to).await.expect_status(201);
                if path == REJECTED || path == REJECTED_BY_ME {
                    to.decline(&chat).await.expect_status(200);
                }
                lists.entry(path).or_default().insert(0, chat.clone());
                others.insert(chat, other);
            }
        }
        Self { me, lists, others }
    }

    fn other(&self, chat: &str) -> &User {
        &self.others[chat]
    }
}

#[tokio::test]
async fn paging_through_requests_reaches_every_unchanged_request() {
    let proxied = start_with_late_indexes().await;
    let requests = RequestLists::new(&proxied).await;
    proxied.settle_indexes();
    let me = &requests.me;
    // The first and the fourth chat of each list leave it: one pending request is accepted and the other
    // one declined. Rejected requests are sent again, by the user who declined them.
    let mut changed = Vec::new();
    let mut unchanged = BTreeMap::new();
    for (path, chats) in &requests.lists {
        let (leaving, staying) = split(chats, &[0, 3]);
        unchanged.insert(*path, staying);
        for (n, chat) in leaving.into_iter().enumerate() {
            let other = requests.other(&chat);
            let response = match (*path, n) {
                (SENT, 0) => other.accept(&chat).await,
                (SENT, _) => other.decline(&chat).await,
                (RECEIVED, 0) => me.accept(&chat).await,
                (RECEIVED, _) => me.decline(&chat).await,
                (REJECTED, _) => other.request_chat(me).await,
                _ => me.request_chat(other).await,
            };
            response.expect_status(200);
            changed.push(chat);
        }
    }
    for (path, unchanged) in &unchanged {
        assert_unchanged_chats_are_listed(me, path, unchanged, &changed).await;
    }
    assert!(proxied.late_index_queries() > 0);

    proxied.settle_indexes();
    // The lists by path, in the order in which the loop above has changed the chats.
    let paths: Vec<_> = requests.lists.keys().copied().collect();
    let leaving = |path: &str| {
        let position = paths.iter().position(|listed| *listed == path).unwrap();
        [
            changed[position * 2].clone(),
            changed[position * 2 + 1].clone(),
        ]
    };
    let [_, sent_declined] = leaving(SENT);
    let [_, received_declined] = leaving(RECEIVED);
    let [first_from_other, second_from_other] = leaving(REJECTED);
    let [first_from_me, second_from_me] = leaving(REJECTED_BY_ME);
    for (path, joining) in [
        (SENT, vec![second_from_me, first_from_me]),
        (RECEIVED, vec![second_from_other, first_from_other]),
        (REJECTED, vec![sent_declined]),
        (REJECTED_BY_ME, vec![received_declined]),
    ] {
        let expected = [joining, unchanged[path].clone()].concat();
        for limit in [1, 4, 100] {
            assert_list(me, path, &expected, limit).await;
        }
    }
}

/// Blocking moves a chat to another partition of the index and leaves it at its place in the order.
#[tokio::test]
async fn paging_through_blocked_users_reaches_every_unchanged_block() {
    let proxied = start_with_late_indexes().await;
    let api = &proxied.stack.api;
    let me = api.user();
    // Latest first. Every third user has no chat with me.
    let mut others: Vec<User> = Vec::new();
    for n in 0..10 {
        let other = api.user();
        match n % 3 {
            0 => drop(me.start_chat(&other).await),
            1 => drop(other.start_chat(&me).await),
            _ => {}
        }
        me.block(&other).await.expect_status(200);
        others.insert(0, other);
    }
    proxied.settle_indexes();
    let ids: Vec<_> = others.iter().map(|user| user.id.to_string()).collect();
    assert_list(&me, "/blocks?", &ids, 4).await;

    // Two blocks end. Two users without a chat request one, which moves them to the top.
    let (changed, unchanged) = split(&ids, &[0, 3, 4, 7]);
    for position in [0, 3] {
        me.unblock(&others[position]).await.expect_status(200);
    }
    for position in [4, 7] {
        let request = others[position].request_chat(&me).await;
        request.expect_status(201);
    }
    assert_unchanged_chats_are_listed(&me, "/blocks?", &unchanged, &changed).await;
    assert!(proxied.late_index_queries() > 0);

    proxied.settle_indexes();
    let moved = vec![ids[7].clone(), ids[4].clone()];
    let expected = [moved, unchanged].concat();
    for limit in [1, 3, 100] {
        assert_list(&me, "/blocks?", &expected, limit).await;
    }
    let unblocked = [0, 3].map(|position| me.chat_id_with(&others[position]));
    assert_list(&me, "/chats?", &unblocked, 1).await;
    assert_list(&me, RECEIVED, &[], 1).await;
}

#[tokio::test]
async fn a_list_shows_a_chat_only_in_states_that_the_chat_has_had() {
    let proxied = start_with_late_indexes().await;
    let api = &proxied.stack.api;
    let (ann, ben, chat) = api.active_chat().await;
    let state = |view: &Value| {
        json!([
            view["lastMessage"]["seq"],
            view["unreadCount"],
            view["readSeq"]
        ])
    };
    // The number of the last message, the unread count and the watermark of Ben.
    let mut states = vec![json!([null, 0, 0])];
    for seq in 1..=3 {
        ann.send(&chat, "hi").await.expect_status(201);
        states.push(json!([seq, seq, 0]));
    }
    ben.mark_read(&chat).await.expect_status(200);
    states.push(json!([3, 0, 3]));
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let page = ben.get("/chats").await.expect_status(200);
        for view in page.chats() {
            let shown = state(view);
            assert!(states.contains(&shown), "{view} is not one of {states:?}");
            seen.insert(shown.to_string());
        }
        // Messages and totals are consistent all the time.
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
    assert!(seen.len() > 1, "the list was never late: {seen:?}");
    assert_eq!(ben.messages(&chat, "").await.seqs(), [3, 2, 1]);
    proxied.settle_indexes();
    let page = ben.get("/chats").await.expect_status(200);
    assert_eq!(Some(&state(&page.chats()[0])), states.last());
}
