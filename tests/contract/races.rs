//! Part 1.5 of the contract: what always holds, when calls happen at once.

use crate::support::{Api, User, all};

/// The messages of a chat, oldest first, over all pages.
async fn history(user: &User, chat: &str) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    loop {
        let after = seqs.last().copied().unwrap_or(0);
        let page = user
            .messages(chat, &format!("?limit=100&after={after}"))
            .await
            .is(200);
        let times: Vec<_> = page.body["messages"].as_array().unwrap().iter().collect();
        assert!(times.is_sorted_by(|a, b| a["createdAt"].as_str() <= b["createdAt"].as_str()));
        seqs.extend(page.seqs());
        if page.next_cursor().is_none() {
            return seqs;
        }
    }
}

#[tokio::test]
async fn messages_sent_at_once_are_all_there_once_in_order() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let calls = (0..30).map(|n| {
        let (user, chat) = (
            if n % 2 == 0 { ann.clone() } else { ben.clone() },
            chat.clone(),
        );
        async move { user.say(&chat, &format!("{n}")).await }
    });
    let mut seqs: Vec<_> = all(calls)
        .await
        .into_iter()
        .map(|it| it.is(201).body["seq"].as_u64().unwrap())
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    assert_eq!(history(&ann, &chat).await, seqs);
    assert_eq!(ann.totals().await, [0, 15, 0]);
    assert_eq!(ben.totals().await, [0, 15, 0]);
}

#[tokio::test]
async fn counts_are_right_when_devices_mark_while_messages_arrive() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let sends = (0..20).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say(&chat, "hi").await.is(201).status }
    });
    let marks = (0..20).map(|_| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.is(200).status }
    });
    tokio::join!(all(sends), all(marks));
    let view = ben.view(&chat).await;
    let (unread, read_seq) = (
        view["unreadCount"].as_u64(),
        view["readSeq"].as_u64().unwrap(),
    );
    assert_eq!(unread, Some(20 - read_seq));
    assert_eq!(ben.totals().await, [0, 20 - read_seq, 0]);
    ben.mark_read(&chat).await.is(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_pair_that_asks_at_once_has_one_active_chat() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let calls = (0..10).map(|n| {
        let (from, to) = if n % 2 == 0 {
            (&ann, &ben)
        } else {
            (&ben, &ann)
        };
        let (from, to) = (from.clone(), to.clone());
        async move { from.ask(&to).await.status }
    });
    let statuses = all(calls).await;
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [200, 201].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(ann.view(&ann.chat_with(&ben)).await["status"], "active");
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn accept_and_decline_at_once_end_in_one_of_the_two() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.ask(&ben).await.is(201);
    let chat = ann.chat_with(&ben);
    let calls = (0..10).map(|n| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move {
            let answer = if n % 2 == 0 {
                ben.accept(&chat).await
            } else {
                ben.decline(&chat).await
            };
            (n % 2 == 0, answer.status)
        }
    });
    let answers = all(calls).await;
    let accepted = answers.contains(&(true, 200));
    for (accepts, status) in answers {
        assert_eq!(status, if accepts == accepted { 200 } else { 409 });
    }
    let active: &[&str] = if accepted { &[&chat] } else { &[] };
    ben.list_becomes("/chats", active).await;
    assert_eq!(ann.totals().await, [0, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn many_who_write_to_one_user_are_all_counted() {
    let api = Api::shared();
    let me = api.user();
    let calls = (0..20).map(|_| {
        let (friend, me) = (api.user(), me.clone());
        async move {
            let chat = friend.befriend(&me).await;
            friend.say(&chat, "one").await.is(201);
            friend.say(&chat, "two").await.is(201);
        }
    });
    all(calls).await;
    assert_eq!(me.totals().await, [0, 40, 0]);
}
