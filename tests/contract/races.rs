//! Concurrent requests: the invariants of chats, messages and totals hold for every interleaving.

use crate::support::{Api, User, run_concurrently};

/// Far more pages than a test creates. A longer list means that paging does not end.
const MAX_PAGES: usize = 100;

/// The sequence numbers of all messages in a chat, oldest first.
async fn all_seqs(user: &User, chat: &str) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = seqs.last().copied().unwrap_or(0);
        let page = user
            .messages(chat, &format!("?limit=100&after={after}"))
            .await
            .expect_status(200);
        let messages: Vec<_> = page.body["messages"].as_array().unwrap().iter().collect();
        assert!(messages.is_sorted_by(|a, b| a["createdAt"].as_str() <= b["createdAt"].as_str()));
        seqs.extend(page.seqs());
        if page.next_cursor().is_none() {
            return seqs;
        }
    }
    panic!("{chat} still has a next page after {MAX_PAGES} pages");
}

#[tokio::test]
async fn concurrently_sent_messages_are_all_listed_exactly_once_in_order() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let calls = (0..30).map(|n| {
        let (user, chat) = (
            if n % 2 == 0 { ann.clone() } else { ben.clone() },
            chat.clone(),
        );
        async move { user.send(&chat, &format!("{n}")).await }
    });
    let mut seqs: Vec<_> = run_concurrently(calls)
        .await
        .into_iter()
        .map(|response| response.expect_status(201).body["seq"].as_u64().unwrap())
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    assert_eq!(all_seqs(&ann, &chat).await, seqs);
    assert_eq!(ann.totals().await, [0, 15, 0]);
    assert_eq!(ben.totals().await, [0, 15, 0]);
}

#[tokio::test]
async fn unread_counts_are_correct_when_marking_as_read_overlaps_with_sending() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let sends = (0..20).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "hi").await.expect_status(201).status }
    });
    let marks = (0..20).map(|_| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.expect_status(200).status }
    });
    tokio::join!(run_concurrently(sends), run_concurrently(marks));
    let view = ben.chat_view(&chat).await;
    let (unread, read_seq) = (
        view["unreadCount"].as_u64(),
        view["readSeq"].as_u64().unwrap(),
    );
    assert_eq!(unread, Some(20 - read_seq));
    assert_eq!(ben.totals().await, [0, 20 - read_seq, 0]);
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn two_users_who_request_each_other_concurrently_get_one_active_chat() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let calls = (0..10).map(|n| {
        let (from, to) = if n % 2 == 0 {
            (&ann, &ben)
        } else {
            (&ben, &ann)
        };
        let (from, to) = (from.clone(), to.clone());
        async move { from.request_chat(&to).await.status }
    });
    let statuses = run_concurrently(calls).await;
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [200, 201].contains(status)),
        "{statuses:?}"
    );
    let view = ann.chat_view(&ann.chat_id_with(&ben)).await;
    assert_eq!(view["status"], "active");
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn of_concurrent_accepts_and_declines_only_one_kind_succeeds() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let chat = ann.chat_id_with(&ben);
    let calls = (0..10).map(|n| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move {
            let response = if n % 2 == 0 {
                ben.accept(&chat).await
            } else {
                ben.decline(&chat).await
            };
            (n % 2 == 0, response.status)
        }
    });
    let outcomes = run_concurrently(calls).await;
    let accepted = outcomes.contains(&(true, 200));
    for (is_accept, status) in outcomes {
        assert_eq!(status, if is_accept == accepted { 200 } else { 409 });
    }
    let active: &[&str] = if accepted { &[&chat] } else { &[] };
    ben.wait_for_list("/chats", active).await;
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn messages_from_many_concurrent_senders_are_all_counted() {
    let api = Api::shared();
    let me = api.user();
    let calls = (0..20).map(|_| {
        let (friend, me) = (api.user(), me.clone());
        async move {
            let chat = friend.start_chat(&me).await;
            friend.send(&chat, "one").await.expect_status(201);
            friend.send(&chat, "two").await.expect_status(201);
        }
    });
    run_concurrently(calls).await;
    assert_eq!(me.totals().await, [0, 40, 0]);
}
