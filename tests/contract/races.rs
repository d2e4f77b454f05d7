//! Concurrent requests: the invariants of chats, messages and totals hold for every interleaving.

use serde_json::{Value, json};

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

/// The number of the other member's messages after the user's watermark that are not deleted, from the messages
/// themselves. Asserts that the unread count of the chat is this number.
async fn exact_unread_count(user: &User, chat: &str) -> u64 {
    let page = user.messages(chat, "?limit=100&after=0").await;
    let page = page.expect_status(200);
    assert_eq!(page.next_cursor(), None, "the test needs one page");
    let view = user.get_chat(chat).await.expect_status(200).body;
    let read_seq = view["readSeq"].as_u64().unwrap();
    let is_unread = |message: &&Value| {
        message["senderId"] != user.id
            && message["seq"].as_u64().unwrap() > read_seq
            && message["deletedAt"].is_null()
    };
    let messages = page.body["messages"].as_array().unwrap();
    let count = messages.iter().filter(is_unread).count() as u64;
    assert_eq!(view["unreadCount"], count, "{view}");
    count
}

#[tokio::test]
async fn unread_counts_are_correct_when_deleting_overlaps_with_marking_and_sending() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..12 {
        ann.send(&chat, "hi").await.expect_status(201);
    }
    let deletions = (1..=12).map(|seq| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move {
            ann.delete_message(&chat, seq)
                .await
                .expect_status(200)
                .status
        }
    });
    let marks = [3, 6, 9, 5].map(|seq| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_up_to(&chat, seq).await.expect_status(200).status }
    });
    let sends = (0..4).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "more").await.expect_status(201).status }
    });
    tokio::join!(
        run_concurrently(deletions),
        run_concurrently(marks),
        run_concurrently(sends)
    );
    assert_eq!(exact_unread_count(&ben, &chat).await, 4);
    assert_eq!(ben.totals().await, [0, 4, 0]);
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(view["rev"], 12);
    assert_eq!(view["lastMessage"]["seq"], 16);
    assert_eq!(view["lastMessage"]["deleted"], false);
    let changes = ben.changes(&chat, "?limit=100").await.expect_status(200);
    let mut seqs = changes.seqs();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=12).collect::<Vec<_>>());
}

/// Each of these is repeated, because the outcome depends on which request comes first.
const ROUNDS: usize = 8;

#[tokio::test]
async fn a_message_that_is_deleted_while_it_is_marked_is_counted_once() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..ROUNDS {
        let sent = ann.send(&chat, "hi").await.expect_status(201);
        let seq = sent.body["seq"].as_u64().unwrap();
        let (deleted, marked) = tokio::join!(ann.delete_message(&chat, seq), ben.mark_read(&chat));
        assert_eq!([deleted.status, marked.status], [200, 200]);
        assert_eq!(exact_unread_count(&ben, &chat).await, 0);
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn two_devices_that_mark_up_to_different_messages_end_at_the_later_one() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for seq in 1..=10 {
        // Only own messages lie between some marks.
        let sender = if seq % 3 == 0 { &ann } else { &ben };
        sender.send(&chat, "hi").await.expect_status(201);
    }
    let marks = [3, 9, 4, 8, 6, 5, 7].map(|seq| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_up_to(&chat, seq).await.expect_status(200).status }
    });
    run_concurrently(marks).await;
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&view["readSeq"], &view["unreadCount"]], [9, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_watermark_is_correct_when_marking_up_to_a_message_overlaps_with_sending() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..4 {
        ann.send(&chat, "hi").await.expect_status(201);
    }
    let sends = (0..10).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "hi").await.expect_status(201).status }
    });
    let marks = [2, 4, 1, 3].map(|seq| {
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_up_to(&chat, seq).await.expect_status(200).status }
    });
    tokio::join!(run_concurrently(sends), run_concurrently(marks));
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    // Nothing after the mark was swept away.
    assert_eq!([&view["readSeq"], &view["unreadCount"]], [4, 10]);
    assert_eq!(ben.totals().await, [0, 10, 0]);
}

#[tokio::test]
async fn concurrent_edits_are_numbered_without_gaps() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for text in ["one", "two", "three"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    let edits = (0..12_u64).map(|n| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move {
            let edited = ann.edit_text(&chat, n % 3 + 1, &format!("edit {n}")).await;
            edited.expect_status(200).status
        }
    });
    run_concurrently(edits).await;
    let view = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&view["rev"], &view["unreadCount"]], [12, 3]);
    let last = ben.message(&chat, 3).await;
    assert_eq!(view["lastMessage"]["text"], last["text"]);
    // A client that knows only a part of the changes gets the rest, each message once.
    for after in 0..12 {
        let query = format!("?after={after}");
        let page = ben.changes(&chat, &query).await.expect_status(200);
        let mut seqs = page.seqs();
        assert!(!seqs.is_empty());
        for (seq, message) in seqs.iter().zip(page.body["messages"].as_array().unwrap()) {
            assert_eq!(ben.message(&chat, *seq).await, *message);
        }
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), page.seqs().len(), "{page:?}");
    }
}

#[tokio::test]
async fn of_an_edit_and_a_deletion_at_once_the_deletion_remains() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let mut rev = 0;
    for _ in 0..ROUNDS {
        let sent = ann.send(&chat, "hi").await.expect_status(201);
        let seq = sent.body["seq"].as_u64().unwrap();
        let (edited, deleted) = tokio::join!(
            ann.edit_text(&chat, seq, "edited"),
            ann.delete_message(&chat, seq)
        );
        deleted.expect_status(200);
        if edited.status != 200 {
            edited.expect_error(409, "message_deleted");
        }
        rev += if edited.status == 200 { 2 } else { 1 };
        let message = ben.message(&chat, seq).await;
        assert!(message["deletedAt"].is_string(), "{message}");
        assert!(message["text"].is_null(), "{message}");
        assert_eq!(message["editedAt"].is_string(), edited.status == 200);
        let view = ben.get_chat(&chat).await.expect_status(200).body;
        assert_eq!([&view["rev"], &view["unreadCount"]], [rev, 0]);
        assert_eq!(view["lastMessage"]["deleted"], true);
    }
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn the_preview_is_the_last_message_when_editing_or_deleting_overlaps_with_sending() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "first").await.expect_status(201);
    for n in 0..ROUNDS {
        let seq = ann.messages(&chat, "").await.seqs()[0];
        let own = if n % 2 == 0 { &ann } else { &ben };
        let other = if n % 2 == 0 { &ben } else { &ann };
        let (sent, edited) = if n % 4 < 2 {
            tokio::join!(
                other.send(&chat, "next"),
                own.edit_text(&chat, seq, "edited")
            )
        } else {
            tokio::join!(other.send(&chat, "next"), own.delete_message(&chat, seq))
        };
        edited.expect_status(200);
        let sent = sent.expect_status(201).body;
        let view = own.get_chat(&chat).await.expect_status(200).body;
        assert_eq!(
            view["lastMessage"],
            json!({
                "seq": sent["seq"], "senderId": other.id, "text": "next",
                "createdAt": sent["createdAt"], "deleted": false,
            })
        );
    }
}

#[tokio::test]
async fn withdrawing_and_accepting_at_once_have_one_outcome() {
    let api = Api::shared();
    for _ in 0..ROUNDS {
        let (ann, ben) = (api.user(), api.user());
        let chat = ann.chat_id_with(&ben);
        ann.request_chat(&ben).await.expect_status(201);
        let (withdrawn, accepted) = tokio::join!(ann.withdraw(&chat), ben.accept(&chat));
        let status = if withdrawn.status == 200 {
            accepted.expect_error(409, "chat_withdrawn");
            "withdrawn"
        } else {
            withdrawn.expect_error(409, "chat_active");
            accepted.expect_status(200);
            "active"
        };
        for user in [&ann, &ben] {
            let view = user.get_chat(&chat).await.expect_status(200).body;
            assert_eq!(view["status"], status);
            assert_eq!(user.totals().await, [0, 0, 0]);
        }
    }
}

#[tokio::test]
async fn withdrawing_and_requesting_at_once_leave_correct_totals() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    ann.request_chat(&ben).await.expect_status(201);
    let calls = (0..16).map(|n| {
        let (ann, ben, chat) = (ann.clone(), ben.clone(), chat.clone());
        async move {
            if n % 2 == 0 {
                ann.withdraw(&chat).await.status
            } else {
                ann.request_chat(&ben).await.status
            }
        }
    });
    assert_eq!(run_concurrently(calls).await, [200; 16]);
    let view = ann.get_chat(&chat).await.expect_status(200).body;
    let open = u64::from(view["status"] == "pending");
    assert_eq!(ann.totals().await, [0, 0, open], "{view}");
    assert_eq!(ben.totals().await, [open, 0, 0], "{view}");
}

#[tokio::test]
async fn a_block_while_messages_arrive_leaves_correct_counts() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..3 {
        ann.send(&chat, "before").await.expect_status(201);
    }
    let sends = (0..10).map(|_| {
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send(&chat, "hi").await }
    });
    let (responses, blocked) = tokio::join!(run_concurrently(sends), ben.block(&ann));
    blocked.expect_status(200);
    let mut accepted = 3;
    for response in responses {
        if response.status == 201 {
            accepted += 1;
        } else {
            response.expect_error(409, "peer_unavailable");
        }
    }
    assert_eq!(
        all_seqs(&ann, &chat).await,
        (1..=accepted).collect::<Vec<_>>()
    );
    assert_eq!(exact_unread_count(&ben, &chat).await, accepted);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ben.unblock(&ann).await.expect_status(200);
    assert_eq!(exact_unread_count(&ben, &chat).await, accepted);
    assert_eq!(ben.totals().await, [0, accepted, 0]);
}

#[tokio::test]
async fn blocks_sends_marks_and_deletions_at_once_leave_correct_counts() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for _ in 0..4 {
        ann.send(&chat, "hi").await.expect_status(201);
        ben.send(&chat, "hi").await.expect_status(201);
    }
    let calls = (0..24).map(|n| {
        let (ann, ben, chat) = (ann.clone(), ben.clone(), chat.clone());
        async move {
            let response = match n % 8 {
                0 => ben.block(&ann).await,
                1 => ann.send(&chat, "more").await,
                2 => ann.delete_message(&chat, n / 8 * 2 + 1).await,
                3 => ben.unblock(&ann).await,
                4 => ben.mark_up_to(&chat, n / 8 * 2 + 2).await,
                5 => ann.block(&ben).await,
                6 => ben.send(&chat, "more").await,
                _ => ann.unblock(&ben).await,
            };
            if ![200, 201].contains(&response.status) {
                let expected = [Some("peer_unavailable"), Some("you_blocked")];
                assert!(expected.contains(&response.code()), "{n}: {response:?}");
                assert_eq!(response.status, 409);
            }
        }
    });
    run_concurrently(calls).await;
    for user in [&ann, &ben] {
        let unread = exact_unread_count(user, &chat).await;
        let view = user.get_chat(&chat).await.expect_status(200).body;
        let total = if view["blocked"] == true { 0 } else { unread };
        assert_eq!(user.totals().await, [0, total, 0], "{view}");
    }
    ann.unblock(&ben).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    for user in [&ann, &ben] {
        let unread = exact_unread_count(user, &chat).await;
        assert_eq!(user.totals().await, [0, unread, 0]);
        user.wait_for_list("/chats", &[&chat]).await;
        user.wait_for_blocks("/blocks", &[], false).await;
    }
}

#[tokio::test]
async fn a_request_and_a_block_at_once_leave_correct_totals() {
    let api = Api::shared();
    for _ in 0..ROUNDS {
        let (ann, ben) = (api.user(), api.user());
        let (requested, blocked) = tokio::join!(ann.request_chat(&ben), ben.block(&ann));
        requested.expect_status(201);
        blocked.expect_status(200);
        assert_eq!(ann.totals().await, [0, 0, 1]);
        assert_eq!(ben.totals().await, [0, 0, 0]);
        let chat = ann.chat_id_with(&ben);
        let (withdrawn, unblocked) = tokio::join!(ann.withdraw(&chat), ben.unblock(&ann));
        withdrawn.expect_status(200);
        unblocked.expect_status(200);
        assert_eq!(ann.totals().await, [0, 0, 0]);
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn the_same_report_sent_at_once_is_stored_once() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let calls = (0..10).map(|n| {
        let (ann, ben) = (ann.clone(), ben.clone());
        let body = json!({"userId": ben.id, "reason": "spam", "block": n % 2 == 0});
        async move { ann.report(&body).await }
    });
    let responses = run_concurrently(calls).await;
    let created = responses.iter().filter(|response| response.status == 201);
    assert_eq!(created.count(), 1, "{responses:?}");
    for response in &responses {
        assert!([200, 201].contains(&response.status), "{response:?}");
        assert_eq!(response.body, responses[0].body);
    }
    ann.wait_for_blocks("/blocks", &[&ben], false).await;
}
