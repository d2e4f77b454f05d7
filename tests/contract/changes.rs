//! The list of changes: which messages were edited or deleted after a `rev`.
//!
//! The integration tests cover changes that have expired, because they can remove them from the table.

use serde_json::{Value, json};

use crate::support::{Api, Response, User};

/// Far more pages than a test creates. A longer list means that paging does not end.
const MAX_PAGES: usize = 100;

/// Two new users with an active chat, in which the first one has sent this many messages, and its id.
async fn chat_with_messages(count: usize) -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for n in 1..=count {
        let text = format!("message {n}");
        ann.send(&chat, &text).await.expect_status(201);
    }
    (ann, ben, chat)
}

/// A page of changes. Asserts that it has this `rev`.
async fn page(user: &User, chat: &str, query: &str, rev: u64) -> Response {
    let page = user.changes(chat, query).await.expect_status(200);
    assert_eq!(page.body["rev"], rev, "{query}: {page:?}");
    page
}

/// Follows `nextCursor` to the last page, and returns the pages.
async fn follow(user: &User, chat: &str, first: Response, limit: usize) -> Vec<Response> {
    let mut pages = vec![first];
    for _ in 0..MAX_PAGES {
        let Some(cursor) = pages.last().and_then(Response::next_cursor) else {
            return pages;
        };
        let query = format!("?limit={limit}&cursor={cursor}");
        let page = user.changes(chat, &query).await.expect_status(200);
        pages.push(page);
    }
    panic!("{chat} still has a next page after {MAX_PAGES} pages");
}

/// The sequence numbers on each page of the changes after a `rev`.
async fn seqs_by_page(user: &User, chat: &str, after: u64, limit: usize) -> Vec<Vec<u64>> {
    let query = format!("?limit={limit}&after={after}");
    let first = user.changes(chat, &query).await.expect_status(200);
    let pages = follow(user, chat, first, limit).await;
    pages.iter().map(Response::seqs).collect()
}

#[tokio::test]
async fn a_chat_without_changes_has_an_empty_list_of_changes() {
    let (ann, ben, chat) = chat_with_messages(2).await;
    for user in [&ann, &ben] {
        for query in ["", "?after=0", "?after=7", "?limit=1"] {
            let page = user.changes(&chat, query).await.expect_status(200);
            let empty = json!({"messages": [], "rev": 0, "nextCursor": null});
            assert_eq!(page.body, empty, "{query}");
        }
    }
}

#[tokio::test]
async fn a_changed_message_is_listed_as_it_is_now() {
    let (ann, ben, chat) = chat_with_messages(3).await;
    ben.mark_up_to(&chat, 2).await.expect_status(200);
    ann.edit_text(&chat, 2, "edited").await.expect_status(200);
    ann.delete_message(&chat, 3).await.expect_status(200);
    for user in [&ann, &ben] {
        let expected = json!([user.message(&chat, 2).await, user.message(&chat, 3).await]);
        let page = page(user, &chat, "", 2).await;
        assert_eq!(page.body["messages"], expected);
        assert_eq!(page.body["nextCursor"], Value::Null);
        assert_eq!(page.body["messages"][0]["text"], "edited");
        assert_eq!(page.body["messages"][0]["status"], "read");
        assert_eq!(page.body["messages"][1]["text"], Value::Null);
    }
}

#[tokio::test]
async fn each_changed_message_is_listed_once_in_the_order_of_its_last_change() {
    let (ann, ben, chat) = chat_with_messages(4).await;
    ann.edit_text(&chat, 1, "first").await.expect_status(200); // rev 1
    ann.edit_text(&chat, 3, "second").await.expect_status(200); // rev 2
    ann.delete_message(&chat, 1).await.expect_status(200); // rev 3
    ann.edit_text(&chat, 2, "fourth").await.expect_status(200); // rev 4
    ann.edit_text(&chat, 3, "fifth").await.expect_status(200); // rev 5
    let listed: [(u64, &[u64]); 8] = [
        (0, &[1, 2, 3]),
        (1, &[1, 2, 3]),
        (2, &[1, 2, 3]),
        (3, &[2, 3]),
        (4, &[3]),
        (5, &[]),
        (6, &[]),
        (9_007_199_254_740_991, &[]),
    ];
    for (after, seqs) in listed {
        for user in [&ann, &ben] {
            let page = page(user, &chat, &format!("?after={after}"), 5).await;
            assert_eq!(page.seqs(), seqs, "after {after}");
            assert_eq!(page.next_cursor(), None);
        }
    }
}

/// A client that knows `rev` 7 and sees 9 asks for the changes after 7.
#[tokio::test]
async fn a_client_that_keeps_the_rev_gets_only_what_was_changed_since() {
    let (ann, ben, chat) = chat_with_messages(3).await;
    let mut known = 0;
    for (seq, rev) in [(2, 1), (3, 2), (2, 3)] {
        ann.edit_text(&chat, seq, &format!("change {rev}"))
            .await
            .expect_status(200);
        let shown = ben.get_chat(&chat).await.expect_status(200);
        assert_eq!(shown.body["rev"], rev);
        let page = page(&ben, &chat, &format!("?after={known}"), rev).await;
        assert_eq!(page.seqs(), [seq]);
        known = rev;
    }
}

#[tokio::test]
async fn all_pages_of_changes_but_the_last_are_full() {
    let (ann, ben, chat) = chat_with_messages(7).await;
    // Most changes are overtaken by later ones, so that a page needs many of them.
    for round in 0..6 {
        for seq in 1..=2 {
            let text = format!("round {round}");
            ann.edit_text(&chat, seq, &text).await.expect_status(200);
        }
    }
    for seq in [3, 5, 4, 7, 1, 6] {
        ann.edit_text(&chat, seq, "last").await.expect_status(200);
    }
    for (after, limit, pages) in [
        (0, 2, vec![vec![2, 3], vec![5, 4], vec![7, 1], vec![6]]),
        (0, 3, vec![vec![2, 3, 5], vec![4, 7, 1], vec![6]]),
        (0, 7, vec![vec![2, 3, 5, 4, 7, 1, 6]]),
        (0, 100, vec![vec![2, 3, 5, 4, 7, 1, 6]]),
        (11, 6, vec![vec![2, 3, 5, 4, 7, 1], vec![6]]),
        (12, 3, vec![vec![3, 5, 4], vec![7, 1, 6]]),
        (17, 1, vec![vec![6]]),
        (18, 1, vec![vec![]]),
    ] {
        let actual = seqs_by_page(&ben, &chat, after, limit).await;
        assert_eq!(actual, pages, "after {after}, limit {limit}");
    }
}

#[tokio::test]
async fn a_page_of_changes_has_15_messages_by_default() {
    let (ann, _, chat) = chat_with_messages(17).await;
    for seq in 1..=17 {
        ann.edit_text(&chat, seq, "edited").await.expect_status(200);
    }
    let first = page(&ann, &chat, "", 17).await;
    assert_eq!(first.seqs(), (1..=15).collect::<Vec<_>>());
    let pages = follow(&ann, &chat, first, 15).await;
    let last = pages.last().unwrap();
    assert_eq!(last.seqs(), [16, 17]);
    assert_eq!(pages.len(), 2);
}

/// A client keeps the `rev` of the last page. Then it has missed no change up to that one.
#[tokio::test]
async fn a_change_between_two_pages_is_on_a_later_page() {
    let (ann, ben, chat) = chat_with_messages(5).await;
    for seq in [1, 2, 3] {
        ann.edit_text(&chat, seq, "before").await.expect_status(200);
    }
    let first = page(&ben, &chat, "?limit=1", 3).await;
    assert_eq!(first.seqs(), [1]);
    // A message that is on a page already, one that is on a later page, and one that was not changed before.
    for seq in [1, 3, 5] {
        ann.edit_text(&chat, seq, "between")
            .await
            .expect_status(200);
    }
    let pages = follow(&ben, &chat, first, 1).await;
    let seqs: Vec<_> = pages.iter().flat_map(Response::seqs).collect();
    assert_eq!(seqs, [1, 2, 1, 3, 5]);
    let revs: Vec<_> = pages.iter().map(|page| page.body["rev"].clone()).collect();
    assert_eq!(revs, [3, 6, 6, 6, 6]);
    for page in &pages[2..] {
        assert_eq!(page.body["messages"][0]["text"], "between");
    }
}

#[tokio::test]
async fn new_messages_and_marks_are_no_changes() {
    let (ann, ben, chat) = chat_with_messages(2).await;
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    ben.send(&chat, "new").await.expect_status(201);
    ben.mark_read(&chat).await.expect_status(200);
    ann.mark_read(&chat).await.expect_status(200);
    assert_eq!(page(&ben, &chat, "", 1).await.seqs(), [1]);
}

#[tokio::test]
async fn a_chat_of_other_users_has_no_changes() {
    let (ann, _, chat) = chat_with_messages(1).await;
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    let stranger = ann.api.user();
    for query in ["", "?after=1"] {
        let response = stranger.changes(&chat, query).await;
        response.expect_error(404, "chat_not_found");
    }
    let own = ann.chat_id_with(&stranger);
    ann.changes(&own, "")
        .await
        .expect_error(404, "chat_not_found");
}

#[tokio::test]
async fn an_invalid_parameter_is_rejected_by_name_and_an_unknown_one_is_ignored() {
    let (ann, _, chat) = chat_with_messages(2).await;
    for seq in [1, 2] {
        ann.edit_text(&chat, seq, "edited").await.expect_status(200);
    }
    for invalid in [
        "after=-1",
        "after=x",
        "after=",
        "after=1.0",
        "after=%2B1",
        "after=9007199254740992",
        "after=0&after=0",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1&limit=1",
        "cursor=",
        "cursor=x",
        "cursor=bm9wZQ",
        "cursor=%F0%9F%98%80",
    ] {
        let name = invalid.split('=').next().unwrap();
        let response = ann.changes(&chat, &format!("?{invalid}")).await;
        response.expect_invalid(&format!("`{name}`"));
    }
    let first = page(&ann, &chat, "?limit=1", 2).await;
    let cursor = first.next_cursor().unwrap();
    let both = format!("?after=0&cursor={cursor}");
    let response = ann.changes(&chat, &both).await;
    response.expect_invalid("`after`");
    response.expect_invalid("`cursor`");
    // This list has neither `skip` nor `before`.
    let unknown = "?skip=x&before=0&unknown=1&unknown=2";
    assert_eq!(page(&ann, &chat, unknown, 2).await.seqs(), [1, 2]);
}
