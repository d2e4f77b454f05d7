//! Paging: `limit`, `skip`, `before`, `after` and `cursor` of every list, including their limits. `changes` and
//! `blocks` have more tests of their lists.

use serde_json::json;

use crate::support::{Api, User};

/// Far more pages than a test creates. A longer list means that paging does not end.
const MAX_PAGES: usize = 100;

/// Two new users with an active chat in which the first one sent `count` messages, and its id.
async fn chat_with_messages(count: usize) -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..count {
        ann.send(&chat, "hi").await.expect_status(201);
    }
    (ann, ben, chat)
}

/// Follows `nextCursor` to the last page, and returns the sequence numbers of each page.
async fn seqs_by_page(user: &User, chat: &str, query: &str, limit: usize) -> Vec<Vec<u64>> {
    let mut pages = Vec::new();
    let mut page = user
        .messages(chat, &format!("?limit={limit}{query}"))
        .await
        .expect_status(200);
    for _ in 0..MAX_PAGES {
        pages.push(page.seqs());
        let Some(cursor) = page.next_cursor() else {
            return pages;
        };
        page = user
            .messages(chat, &format!("?limit={limit}&cursor={cursor}"))
            .await
            .expect_status(200);
    }
    panic!("{chat} still has a next page after {MAX_PAGES} pages");
}

/// The ids of chats for a comparison with a list.
fn ids(chats: &[String]) -> Vec<&str> {
    chats.iter().map(String::as_str).collect()
}

/// A new user with `count` active chats, every second of which the other member requested. The ids of
/// the chats start with the latest.
async fn user_with_chats(count: usize) -> (User, Vec<String>) {
    let api = Api::shared();
    let me = api.user();
    let mut chats = Vec::new();
    for n in 0..count {
        let friend = api.user();
        let chat = if n % 2 == 0 {
            me.start_chat(&friend).await
        } else {
            friend.start_chat(&me).await
        };
        chats.insert(0, chat);
    }
    (me, chats)
}

#[tokio::test]
async fn a_page_of_messages_has_15_messages_by_default_and_otherwise_limit() {
    let (ann, _, chat) = chat_with_messages(16).await;
    let page = ann.messages(&chat, "").await.expect_status(200);
    assert_eq!(page.seqs(), (2..=16).rev().collect::<Vec<_>>());
    assert!(page.next_cursor().is_some());
    let all = ann.messages(&chat, "?limit=16").await.expect_status(200);
    assert_eq!(all.seqs().len(), 16);
    assert_eq!(all.next_cursor(), None);
    let all = ann.messages(&chat, "?limit=100").await.expect_status(200);
    assert_eq!(all.next_cursor(), None);
    let latest = ann.messages(&chat, "?limit=1").await.expect_status(200);
    assert_eq!(latest.seqs(), [16]);
}

#[tokio::test]
async fn a_cursor_continues_in_the_direction_of_its_page_and_is_null_on_the_last_page() {
    let (ann, _, chat) = chat_with_messages(7).await;
    assert_eq!(
        seqs_by_page(&ann, &chat, "", 3).await,
        [vec![7, 6, 5], vec![4, 3, 2], vec![1]]
    );
    assert_eq!(
        seqs_by_page(&ann, &chat, "&after=0", 3).await,
        [vec![1, 2, 3], vec![4, 5, 6], vec![7]]
    );
    assert_eq!(
        seqs_by_page(&ann, &chat, "&before=6", 2).await,
        [vec![5, 4], vec![3, 2], vec![1]]
    );
    assert_eq!(
        seqs_by_page(&ann, &chat, "&skip=2", 3).await,
        [vec![5, 4, 3], vec![2, 1]]
    );
    // A full last page is not followed by an empty one.
    assert_eq!(
        seqs_by_page(&ann, &chat, "", 7).await,
        [vec![7, 6, 5, 4, 3, 2, 1]]
    );
    assert_eq!(
        seqs_by_page(&ann, &chat, "&after=0", 7).await,
        [vec![1, 2, 3, 4, 5, 6, 7]]
    );
    assert_eq!(
        seqs_by_page(&ann, &chat, "&after=4", 3).await,
        [vec![5, 6, 7]]
    );
}

#[tokio::test]
async fn skip_before_and_after_work_at_and_beyond_both_ends() {
    let (ann, _, chat) = chat_with_messages(4).await;
    for (query, seqs) in [
        ("?skip=0", vec![4, 3, 2, 1]),
        ("?skip=3", vec![1]),
        ("?skip=4", vec![]),
        ("?skip=9007199254740991", vec![]),
        ("?before=1", vec![]),
        ("?before=2", vec![1]),
        ("?before=5", vec![4, 3, 2, 1]),
        ("?before=9007199254740991&limit=2", vec![4, 3]),
        ("?after=0&limit=2", vec![1, 2]),
        ("?after=3", vec![4]),
        ("?after=4", vec![]),
        ("?after=9007199254740991", vec![]),
    ] {
        let page = ann.messages(&chat, query).await.expect_status(200);
        assert_eq!(page.seqs(), seqs, "{query}");
    }
}

#[tokio::test]
async fn a_client_gets_new_messages_with_after_and_its_last_seq() {
    let (ann, ben, chat) = chat_with_messages(2).await;
    let page = ben.messages(&chat, "?after=0").await.expect_status(200);
    assert_eq!((page.seqs(), page.next_cursor()), (vec![1, 2], None));
    ann.send(&chat, "more").await.expect_status(201);
    let page = ben.messages(&chat, "?after=2").await.expect_status(200);
    assert_eq!(page.seqs(), [3]);
}

#[tokio::test]
async fn new_messages_do_not_change_older_pages() {
    let (ann, ben, chat) = chat_with_messages(4).await;
    let first = ben.messages(&chat, "?limit=2").await.expect_status(200);
    ann.send(&chat, "meanwhile").await.expect_status(201);
    let cursor = first.next_cursor().unwrap();
    let second = ben
        .messages(&chat, &format!("?limit=2&cursor={cursor}"))
        .await
        .expect_status(200);
    assert_eq!(second.seqs(), [2, 1]);
}

#[tokio::test]
async fn an_invalid_parameter_is_rejected_by_name_and_an_unknown_one_is_ignored() {
    let (ann, _, chat) = chat_with_messages(0).await;
    let messages = format!("/chats/{chat}/messages");
    for list in [
        messages.as_str(),
        "/chats",
        "/chats/pending",
        "/chats/rejected",
        "/blocks",
    ] {
        for invalid in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1.5",
            "limit=%2B5",
            "limit=1e1",
            "limit=1&limit=1",
            "limit=1,1",
            "limit=9007199254740992",
            "limit=99999999999999999999999",
            "skip=-1",
            "skip=x",
            "skip=",
            "skip=0&skip=0",
            "skip=9007199254740992",
            "cursor=",
            "cursor=x",
            "cursor=%F0%9F%98%80",
            "cursor=bm9wZQ",
        ] {
            let name = invalid.split('=').next().unwrap();
            ann.get(&format!("{list}?{invalid}"))
                .await
                .expect_invalid(&format!("`{name}`"));
        }
        let skip_and_cursor = format!("{list}?skip=0&cursor=x");
        assert_eq!(ann.get(&skip_and_cursor).await.status, 400);
        ann.get(&format!("{list}?unknown=1&unknown=2&limit=100"))
            .await
            .expect_status(200);
    }
    for invalid in [
        "before=0",
        "before=-1",
        "before=x",
        "before=",
        "before=9007199254740992",
        "before=1&before=1",
        "after=-1",
        "after=x",
        "after=",
        "after=9007199254740992",
        "after=0&after=0",
    ] {
        let name = invalid.split('=').next().unwrap();
        ann.get(&format!("{messages}?{invalid}"))
            .await
            .expect_invalid(&format!("`{name}`"));
    }
}

#[tokio::test]
async fn skip_before_after_and_cursor_cannot_be_combined() {
    let (ann, _, chat) = chat_with_messages(2).await;
    let page = ann.messages(&chat, "?limit=1").await.expect_status(200);
    let cursor = format!("cursor={}", page.next_cursor().unwrap());
    let parameters = [
        ("skip", "skip=0"),
        ("before", "before=1"),
        ("after", "after=0"),
        ("cursor", cursor.as_str()),
    ];
    for (n, (name, parameter)) in parameters.iter().enumerate() {
        for (other_name, other_parameter) in &parameters[n + 1..] {
            let query = format!("?{parameter}&{other_parameter}");
            let response = ann.messages(&chat, &query).await;
            response.expect_invalid(&format!("`{name}`"));
            response.expect_invalid(&format!("`{other_name}`"));
        }
    }
    // Lists of chats and blocks have neither `before` nor `after`, and ignore them.
    for list in ["/chats", "/blocks"] {
        ann.get(&format!("{list}?skip=0&before=0&after=x"))
            .await
            .expect_status(200);
    }
}

#[tokio::test]
async fn a_page_over_1_mb_has_as_many_messages_as_limit() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    // A message has 20 KB, so DynamoDB ends each of its own pages, of at most 1 MB, after some fifty.
    let url = format!("https://a.example/{}", "x".repeat(2_000));
    let body = json!({"text": "𝕏".repeat(4_096), "imageUrl": url, "linkPreviewUrl": url});
    for _ in 0..110 {
        ann.post(&format!("/chats/{chat}/messages"), &body)
            .await
            .expect_status(201);
    }
    let newest = ben.messages(&chat, "?limit=100").await.expect_status(200);
    assert_eq!(newest.seqs(), (11..=110).rev().collect::<Vec<_>>());
    assert!(newest.next_cursor().is_some());
    let oldest = ben
        .messages(&chat, "?limit=100&after=0")
        .await
        .expect_status(200);
    assert_eq!(oldest.seqs(), (1..=100).collect::<Vec<_>>());
    let rest = ben
        .messages(&chat, "?limit=100&skip=20")
        .await
        .expect_status(200);
    assert_eq!(rest.seqs(), (1..=90).rev().collect::<Vec<_>>());
    assert_eq!(rest.next_cursor(), None);
}

#[tokio::test]
async fn active_chats_are_paged_by_cursor_and_by_skip_latest_first() {
    let (me, chats) = user_with_chats(17).await;
    let chats = ids(&chats);
    let first = me.wait_for_page("/chats", &chats[..15], true).await;
    let next = format!("/chats?cursor={}", first.next_cursor().unwrap());
    me.wait_for_page(&next, &chats[15..], false).await;
    for (query, from, to) in [
        ("skip=3&limit=4", 3, 7),
        ("skip=14", 14, 17),
        ("skip=17", 17, 17),
        // A full last page is not followed by an empty one.
        ("limit=17", 0, 17),
        ("limit=16&skip=1", 1, 17),
        ("skip=1000", 17, 17),
    ] {
        let path = format!("/chats?{query}");
        me.wait_for_page(&path, &chats[from..to], to < 17).await;
    }
    me.get("/chats?skip=1001").await.expect_invalid("`skip`");
}

#[tokio::test]
async fn a_chat_that_moves_to_the_top_between_two_pages_is_not_listed_twice() {
    let (me, chats) = user_with_chats(4).await;
    let chats = ids(&chats);
    let first = me.wait_for_page("/chats?limit=2", &chats[..2], true).await;
    me.send(chats[0], "stays at the top")
        .await
        .expect_status(201);
    me.send(chats[3], "moves to the top")
        .await
        .expect_status(201);
    me.wait_for_list("/chats", &[chats[3], chats[0], chats[1], chats[2]])
        .await;
    let next = format!("/chats?limit=2&cursor={}", first.next_cursor().unwrap());
    me.wait_for_page(&next, &chats[2..3], false).await;
}

/// A chat that moves up is on no page below. A client finds it when it reads from the start again until a
/// chat is as the client knows it (`docs/clients.md`).
#[tokio::test]
async fn a_chat_that_moves_up_while_one_pages_is_found_by_reading_from_the_start_again() {
    let (me, chats) = user_with_chats(5).await;
    let chats = ids(&chats);
    let first = me.wait_for_page("/chats?limit=2", &chats[..2], true).await;
    me.send(chats[4], "moves to the top")
        .await
        .expect_status(201);
    let next = format!("/chats?limit=2&cursor={}", first.next_cursor().unwrap());
    me.wait_for_page(&next, &chats[2..4], false).await;
    me.wait_for_page("/chats?limit=2", &[chats[4], chats[0]], true)
        .await;
}

#[tokio::test]
async fn sent_and_received_requests_are_paged_by_cursor_and_by_skip() {
    let api = Api::shared();
    let (me, mut sent, mut received) = (api.user(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let other = api.user();
        me.request_chat(&other).await.expect_status(201);
        sent.insert(0, me.chat_id_with(&other));
        let other = api.user();
        other.request_chat(&me).await.expect_status(201);
        received.insert(0, me.chat_id_with(&other));
    }
    for (path, chats) in [
        ("/chats/pending?limit=2", sent),
        ("/chats/pending?direction=received&limit=2", received),
    ] {
        let chats = ids(&chats);
        let first = me.wait_for_page(path, &chats[..2], true).await;
        let next = format!("{path}&cursor={}", first.next_cursor().unwrap());
        me.wait_for_page(&next, &chats[2..], false).await;
        let skipped = format!("{path}&skip=1");
        me.wait_for_page(&skipped, &chats[1..], false).await;
    }
}

#[tokio::test]
async fn a_cursor_is_valid_only_for_its_list_and_its_user() {
    let api = Api::shared();
    let (me, friend) = (api.user(), api.user());
    for _ in 0..2 {
        me.request_chat(&api.user()).await.expect_status(201);
        api.user().request_chat(&me).await.expect_status(201);
        api.user().start_chat(&me).await;
        me.block(&api.user()).await.expect_status(200);
    }
    let chat = me.start_chat(&friend).await;
    let other_chat = me.start_chat(&api.user()).await;
    for chat in [&chat, &other_chat] {
        me.send(chat, "one").await.expect_status(201);
        me.send(chat, "two").await.expect_status(201);
        me.edit_text(chat, 1, "1").await.expect_status(200);
        me.edit_text(chat, 2, "2").await.expect_status(200);
    }
    let lists = [
        "/chats?".to_owned(),
        "/chats/pending?".to_owned(),
        "/chats/pending?direction=received&".to_owned(),
        "/chats/rejected?".to_owned(),
        "/blocks?".to_owned(),
        format!("/chats/{chat}/messages?"),
        format!("/chats/{other_chat}/messages?"),
        format!("/chats/{chat}/changes?"),
        format!("/chats/{other_chat}/changes?"),
    ];
    for from in lists.iter().filter(|list| !list.contains("rejected")) {
        let path = format!("{from}limit=1");
        let first = me.wait_for_chats(&path, "have a next page", |page| {
            page.next_cursor().is_some()
        });
        let first = first.await;
        let cursor = first.next_cursor().unwrap();
        for to in &lists {
            let response = me.get(&format!("{to}limit=1&cursor={cursor}")).await;
            if to == from {
                assert_eq!(response.status, 200);
            } else {
                response.expect_invalid("`cursor`");
            }
        }
        let response = friend.get(&format!("{from}limit=1&cursor={cursor}")).await;
        response.expect_invalid("`cursor`");
    }
}
