//! Part 1.2 of the contract: paging in all its forms, at its edges.

use serde_json::json;

use crate::support::{Api, User};

/// A chat of two with `count` messages.
async fn chat_with_messages(count: usize) -> (User, User, String) {
    let (ann, ben, chat) = Api::shared().friends().await;
    for _ in 0..count {
        ann.say(&chat, "hi").await.is(201);
    }
    (ann, ben, chat)
}

/// Follows `nextCursor` to the end; the seqs of each page.
async fn pages(user: &User, chat: &str, query: &str, limit: usize) -> Vec<Vec<u64>> {
    let mut pages = Vec::new();
    let mut page = user
        .messages(chat, &format!("?limit={limit}{query}"))
        .await
        .is(200);
    loop {
        pages.push(page.seqs());
        let Some(cursor) = page.next_cursor() else {
            return pages;
        };
        page = user
            .messages(chat, &format!("?limit={limit}&cursor={cursor}"))
            .await
            .is(200);
    }
}

/// A user with `count` active chats, half of them asked for by the user; latest first.
async fn user_with_chats(count: usize) -> (User, Vec<String>) {
    let api = Api::shared();
    let me = api.user();
    let mut chats = Vec::new();
    for n in 0..count {
        let friend = api.user();
        let chat = if n % 2 == 0 {
            me.befriend(&friend).await
        } else {
            friend.befriend(&me).await
        };
        chats.insert(0, chat);
    }
    let latest: Vec<_> = chats.iter().take(100).map(String::as_str).collect();
    me.list_becomes("/chats?limit=100", &latest).await;
    (me, chats)
}

#[tokio::test]
async fn a_page_of_messages_has_15_unless_limit_says_otherwise() {
    let (ann, _, chat) = chat_with_messages(16).await;
    let page = ann.messages(&chat, "").await.is(200);
    assert_eq!(page.seqs(), (2..=16).rev().collect::<Vec<_>>());
    assert!(page.next_cursor().is_some());
    let all = ann.messages(&chat, "?limit=16").await.is(200);
    assert_eq!(all.seqs().len(), 16);
    assert_eq!(all.next_cursor(), None);
    assert_eq!(
        ann.messages(&chat, "?limit=100")
            .await
            .is(200)
            .next_cursor(),
        None
    );
    assert_eq!(ann.messages(&chat, "?limit=1").await.is(200).seqs(), [16]);
}

#[tokio::test]
async fn a_cursor_keeps_its_pages_direction_and_is_null_at_the_end() {
    let (ann, _, chat) = chat_with_messages(7).await;
    assert_eq!(
        pages(&ann, &chat, "", 3).await,
        [vec![7, 6, 5], vec![4, 3, 2], vec![1]]
    );
    assert_eq!(
        pages(&ann, &chat, "&after=0", 3).await,
        [vec![1, 2, 3], vec![4, 5, 6], vec![7]]
    );
    assert_eq!(
        pages(&ann, &chat, "&before=6", 2).await,
        [vec![5, 4], vec![3, 2], vec![1]]
    );
    assert_eq!(
        pages(&ann, &chat, "&skip=2", 3).await,
        [vec![5, 4, 3], vec![2, 1]]
    );
    // No empty page follows a full last one.
    assert_eq!(pages(&ann, &chat, "", 7).await, [vec![7, 6, 5, 4, 3, 2, 1]]);
    assert_eq!(
        pages(&ann, &chat, "&after=0", 7).await,
        [vec![1, 2, 3, 4, 5, 6, 7]]
    );
    assert_eq!(pages(&ann, &chat, "&after=4", 3).await, [vec![5, 6, 7]]);
}

#[tokio::test]
async fn skip_before_and_after_work_at_and_beyond_the_ends() {
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
        assert_eq!(
            ann.messages(&chat, query).await.is(200).seqs(),
            seqs,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_client_catches_up_with_after_its_last_seq() {
    let (ann, ben, chat) = chat_with_messages(2).await;
    let page = ben.messages(&chat, "?after=0").await.is(200);
    assert_eq!((page.seqs(), page.next_cursor()), (vec![1, 2], None));
    ann.say(&chat, "more").await.is(201);
    assert_eq!(ben.messages(&chat, "?after=2").await.is(200).seqs(), [3]);
}

#[tokio::test]
async fn messages_that_arrive_while_one_pages_back_are_neither_repeated_nor_pushed_in() {
    let (ann, ben, chat) = chat_with_messages(4).await;
    let first = ben.messages(&chat, "?limit=2").await.is(200);
    ann.say(&chat, "meanwhile").await.is(201);
    let cursor = first.next_cursor().unwrap();
    let second = ben
        .messages(&chat, &format!("?limit=2&cursor={cursor}"))
        .await
        .is(200);
    assert_eq!(second.seqs(), [2, 1]);
}

#[tokio::test]
async fn parameters_out_of_range_are_refused_by_name() {
    let (ann, _, chat) = chat_with_messages(0).await;
    let messages = format!("/chats/{chat}/messages");
    for list in [
        messages.as_str(),
        "/chats",
        "/chats/pending",
        "/chats/rejected",
    ] {
        for bad in [
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
            let name = bad.split('=').next().unwrap();
            ann.get(&format!("{list}?{bad}"))
                .await
                .is_invalid(&format!("`{name}`"));
        }
        let two = format!("{list}?skip=0&cursor=x");
        assert_eq!(ann.get(&two).await.status, 400);
        ann.get(&format!("{list}?unknown=1&unknown=2&limit=100"))
            .await
            .is(200);
    }
    for bad in [
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
        let name = bad.split('=').next().unwrap();
        ann.get(&format!("{messages}?{bad}"))
            .await
            .is_invalid(&format!("`{name}`"));
    }
}

#[tokio::test]
async fn ways_to_page_exclude_one_another() {
    let (ann, _, chat) = chat_with_messages(2).await;
    let page = ann.messages(&chat, "?limit=1").await.is(200);
    let cursor = format!("cursor={}", page.next_cursor().unwrap());
    let ways = ["skip=0", "before=1", "after=0", &cursor];
    for (n, one) in ways.iter().enumerate() {
        for other in &ways[n + 1..] {
            let query = format!("?{one}&{other}");
            ann.messages(&chat, &query).await.is_invalid("exclude");
        }
    }
    // Lists of chats know neither `before` nor `after`, and ignore them.
    ann.get("/chats?skip=0&before=0&after=x").await.is(200);
}

#[tokio::test]
async fn a_page_over_1_mb_is_continued_until_limit_or_the_end() {
    let (ann, ben, chat) = Api::shared().friends().await;
    // 20 KB each: DynamoDB cuts a page after some fifty.
    let url = format!("https://a.example/{}", "x".repeat(2_000));
    let body = json!({"text": "𝕏".repeat(4_096), "imageUrl": url, "linkPreviewUrl": url});
    for _ in 0..110 {
        ann.post(&format!("/chats/{chat}/messages"), &body)
            .await
            .is(201);
    }
    let newest = ben.messages(&chat, "?limit=100").await.is(200);
    assert_eq!(newest.seqs(), (11..=110).rev().collect::<Vec<_>>());
    assert!(newest.next_cursor().is_some());
    let oldest = ben.messages(&chat, "?limit=100&after=0").await.is(200);
    assert_eq!(oldest.seqs(), (1..=100).collect::<Vec<_>>());
    let rest = ben.messages(&chat, "?limit=100&skip=20").await.is(200);
    assert_eq!(rest.seqs(), (1..=90).rev().collect::<Vec<_>>());
    assert_eq!(rest.next_cursor(), None);
}

#[tokio::test]
async fn active_chats_page_by_cursor_and_by_skip_latest_first() {
    let (me, chats) = user_with_chats(17).await;
    let first = me.get("/chats").await.is(200);
    assert_eq!(first.chat_ids(), chats[..15]);
    let cursor = first.next_cursor().unwrap();
    let second = me.get(&format!("/chats?cursor={cursor}")).await.is(200);
    assert_eq!(second.chat_ids(), chats[15..]);
    assert_eq!(second.next_cursor(), None);
    for (query, from, to) in [
        ("skip=3&limit=4", 3, 7),
        ("skip=14", 14, 17),
        ("skip=17", 17, 17),
    ] {
        let page = me.get(&format!("/chats?{query}")).await.is(200);
        assert_eq!(page.chat_ids(), chats[from..to], "{query}");
        assert_eq!(page.next_cursor().is_some(), to < 17, "{query}");
    }
    // No empty page follows a full last one.
    let all = me.get("/chats?limit=17").await.is(200);
    assert_eq!((all.chat_ids().len(), all.next_cursor()), (17, None));
    assert_eq!(me.get("/chats?skip=1000").await.is(200).chat_ids(), [""; 0]);
    me.get("/chats?skip=1001").await.is_invalid("`skip`");
}

#[tokio::test]
async fn a_chat_that_becomes_active_while_one_pages_is_not_repeated_below() {
    let (me, chats) = user_with_chats(4).await;
    let first = me.get("/chats?limit=2").await.is(200);
    assert_eq!(first.chat_ids(), chats[..2]);
    me.say(&chats[0], "still at the top").await.is(201);
    me.say(&chats[3], "moves to the top").await.is(201);
    me.list_becomes("/chats", &[&chats[3], &chats[0], &chats[1], &chats[2]])
        .await;
    let cursor = first.next_cursor().unwrap();
    let second = me
        .get(&format!("/chats?limit=2&cursor={cursor}"))
        .await
        .is(200);
    assert_eq!(second.chat_ids(), [&chats[2]]);
    assert_eq!(second.next_cursor(), None);
}

#[tokio::test]
async fn requests_page_in_both_directions() {
    let api = Api::shared();
    let (me, mut sent, mut received) = (api.user(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let other = api.user();
        me.ask(&other).await.is(201);
        sent.insert(0, me.chat_with(&other));
        let other = api.user();
        other.ask(&me).await.is(201);
        received.insert(0, me.chat_with(&other));
    }
    for (path, chats) in [
        ("/chats/pending?limit=2", sent),
        ("/chats/pending?direction=received&limit=2", received),
    ] {
        let ids: Vec<_> = chats.iter().map(String::as_str).collect();
        me.list_becomes(path, &ids[..2]).await;
        let first = me.get(path).await.is(200);
        let next = format!("{path}&cursor={}", first.next_cursor().unwrap());
        let second = me.get(&next).await.is(200);
        assert_eq!(
            (second.chat_ids(), second.next_cursor()),
            (vec![ids[2]], None)
        );
        let skipped = me.get(&format!("{path}&skip=1")).await.is(200);
        assert_eq!(skipped.chat_ids(), ids[1..]);
    }
}

#[tokio::test]
async fn a_cursor_is_of_use_only_in_its_list_and_to_its_user() {
    let api = Api::shared();
    let (me, friend) = (api.user(), api.user());
    for _ in 0..2 {
        me.ask(&api.user()).await.is(201);
        api.user().ask(&me).await.is(201);
        api.user().befriend(&me).await;
    }
    let chat = me.befriend(&friend).await;
    let other_chat = me.befriend(&api.user()).await;
    for chat in [&chat, &other_chat] {
        me.say(chat, "one").await.is(201);
        me.say(chat, "two").await.is(201);
    }
    let lists = [
        "/chats?".to_owned(),
        "/chats/pending?".to_owned(),
        "/chats/pending?direction=received&".to_owned(),
        "/chats/rejected?".to_owned(),
        format!("/chats/{chat}/messages?"),
        format!("/chats/{other_chat}/messages?"),
    ];
    for from in lists.iter().filter(|list| !list.contains("rejected")) {
        let first = me.get(&format!("{from}limit=1")).await.is(200);
        let cursor = first
            .next_cursor()
            .unwrap_or_else(|| panic!("{from}: {first:?}"));
        for to in &lists {
            let answer = me.get(&format!("{to}limit=1&cursor={cursor}")).await;
            if to == from {
                assert_eq!(answer.status, 200);
            } else {
                answer.is_invalid("`cursor`");
            }
        }
        let answer = friend.get(&format!("{from}limit=1&cursor={cursor}")).await;
        answer.is_invalid("`cursor`");
    }
}
