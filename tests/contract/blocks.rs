//! Blocks: what changes for the user who blocks, and that nothing is visible to the one who is blocked.

use serde_json::{Value, json};

use crate::{
    chats::{
        LISTS, assert_chat, assert_is_timestamp, declined_chat, pending_chat, wait_for_empty_lists,
        withdrawn_chat,
    },
    support::{Api, Response, User},
};

/// The status and the body of a response. Of an error only its code, because each error has another request id.
fn shown(response: &Response) -> Value {
    match response.code() {
        Some(code) => json!([response.status, code]),
        None => json!([response.status, response.body]),
    }
}

/// Everything that a user sees of a chat: the chat, its messages and changes, the totals, the blocks and all
/// lists. Waits until the list `list` has exactly this chat as it is now, and every other list is empty.
async fn everything_visible(user: &User, chat: &str, list: Option<&str>) -> String {
    let current = user.get_chat(chat).await;
    let mut visible = vec![shown(&current)];
    for response in [
        user.messages(chat, "?limit=100").await,
        user.messages(chat, "?after=0").await,
        user.changes(chat, "").await,
        user.get("/totals").await,
        user.get("/totals/unread").await,
        user.blocks("").await,
    ] {
        visible.push(shown(&response));
    }
    for path in LISTS {
        let is_in_list = list == Some(path);
        let what = format!("have the chat as it is now: {is_in_list}");
        let page = user.wait_for_chats(path, &what, |page| {
            if is_in_list {
                page.chats() == [current.body.clone()]
            } else {
                page.chats().is_empty()
            }
        });
        visible.push(shown(&page.await));
    }
    Value::Array(visible).to_string()
}

/// The unread count of a user in a chat, which is not part of a total while the user blocks the other member.
async fn unread_count(user: &User, chat: &str) -> Value {
    let view = user.get_chat(chat).await.expect_status(200).body;
    view["unreadCount"].clone()
}

#[tokio::test]
async fn a_block_has_a_time_and_blocking_again_changes_nothing() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let first = ann.block(&ben).await.expect_status(200);
    assert_is_timestamp(&first.body["blockedAt"]);
    let expected = json!({"userId": ben.id, "blockedAt": first.body["blockedAt"]});
    assert_eq!(first.body, expected);
    for _ in 0..2 {
        assert_eq!(ann.block(&ben).await.expect_status(200).body, expected);
    }
    let list = ann.wait_for_blocks("/blocks", &[&ben], false).await;
    assert_eq!(list.body, json!({"blocks": [expected], "nextCursor": null}));
    // The one who is blocked has blocked nobody.
    ben.wait_for_blocks("/blocks", &[], false).await;
}

#[tokio::test]
async fn unblocking_removes_the_block_and_may_be_repeated() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let without_block = ann.unblock(&ben).await.expect_status(200);
    assert_eq!(without_block.body["success"], true);
    assert!(!without_block.body["message"].as_str().unwrap().is_empty());
    assert_eq!(without_block.body.as_object().unwrap().len(), 2);
    let first = ann.block(&ben).await.expect_status(200);
    for _ in 0..2 {
        let response = ann.unblock(&ben).await.expect_status(200);
        assert_eq!(response.body, without_block.body);
    }
    ann.wait_for_blocks("/blocks", &[], false).await;
    // A later block is a new one.
    let second = ann.block(&ben).await.expect_status(200);
    assert!(second.body["blockedAt"].as_str() >= first.body["blockedAt"].as_str());
    ann.wait_for_blocks("/blocks", &[&ben], false).await;
}

#[tokio::test]
async fn an_encoded_slash_is_part_of_the_user_id() {
    let user = Api::shared().user();
    let path = "/blocks/42%2F1";
    user.put(path).await.expect_invalid("`userId`");
    user.delete(path).await.expect_invalid("`userId`");
}

#[tokio::test]
async fn only_the_canonical_id_of_another_user_can_be_blocked_or_unblocked() {
    let user = Api::shared().user();
    let own = user.id.to_string();
    let padded = format!("0{}", user.id);
    for id in [
        own.as_str(),
        padded.as_str(),
        "0",
        "042",
        "%2B42",
        "-42",
        "42.0",
        "4e1",
        "42%20",
        "%2042",
        "42%00",
        "x",
        "%F0%9F%98%80",
        "9007199254740992",
        "18446744073709551658",
        "17-42",
    ] {
        let path = format!("/blocks/{id}");
        user.put(&path).await.expect_invalid("`userId`");
        user.delete(&path).await.expect_invalid("`userId`");
    }
    user.wait_for_blocks("/blocks", &[], false).await;
    // The largest id is valid. A path parameter is percent-decoded, and a body is ignored.
    user.put("/blocks/9007199254740991")
        .await
        .expect_status(200);
    user.delete("/blocks/900719925474099%31")
        .await
        .expect_status(200);
    let request = user.request("PUT", "/blocks/42");
    let request = request.header("content-type", "text/plain").body("hi");
    let response = request.send().await.expect_status(200);
    assert_eq!(response.body["userId"], 42);
}

#[tokio::test]
async fn a_pair_that_has_only_a_block_has_no_chat() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    let assert_no_chat = async || {
        for user in [&ann, &ben] {
            for response in [
                user.get_chat(&chat).await,
                user.messages(&chat, "").await,
                user.messages(&chat, "?after=0").await,
                user.messages(&chat, "?skip=1").await,
                user.changes(&chat, "").await,
                user.accept(&chat).await,
                user.decline(&chat).await,
                user.withdraw(&chat).await,
                user.send(&chat, "hi").await,
                user.send_with_key(&chat, "key", "hi").await,
                user.mark_read(&chat).await,
                user.mark_up_to(&chat, 1).await,
                user.edit_text(&chat, 1, "hi").await,
                user.delete_message(&chat, 1).await,
            ] {
                response.expect_error(404, "chat_not_found");
            }
            wait_for_empty_lists(user).await;
            assert_eq!(user.totals().await, [0, 0, 0]);
        }
    };
    ann.block(&ben).await.expect_status(200);
    assert_no_chat().await;
    ben.block(&ann).await.expect_status(200);
    assert_no_chat().await;
    for (blocker, other) in [(&ann, &ben), (&ben, &ann)] {
        blocker.wait_for_blocks("/blocks", &[other], false).await;
        let response = blocker.request_chat(other).await;
        response.expect_error(409, "you_blocked");
    }
    ann.unblock(&ben).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    assert_no_chat().await;
    for user in [&ann, &ben] {
        user.wait_for_blocks("/blocks", &[], false).await;
    }
    // They can still have a chat, which then is a new one.
    let requested = ann.request_chat(&ben).await.expect_status(201);
    assert_chat(&requested, "pending", &ann, &ben);
    assert_eq!(requested.body["createdAt"], requested.body["updatedAt"]);
    ben.accept(&chat).await.expect_status(200);
    ann.send(&chat, "hi").await.expect_status(201);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn for_the_user_who_blocks_the_chat_is_in_no_list_and_its_messages_in_no_total() {
    let api = Api::shared();
    let (ann, ben, chat) = api.active_chat().await;
    let cat = api.user();
    let other_chat = cat.start_chat(&ann).await;
    for text in ["one", "two", "three"] {
        ben.send(&chat, text).await.expect_status(201);
    }
    ann.mark_up_to(&chat, 1).await.expect_status(200);
    cat.send(&other_chat, "hi").await.expect_status(201);
    assert_eq!(ann.totals().await, [0, 3, 0]);
    let mut expected = ann.get_chat(&chat).await.expect_status(200).body;
    ann.block(&ben).await.expect_status(200);
    expected["blocked"] = json!(true);
    // The count stays in the chat itself, and reading works.
    let blocked = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(blocked, expected);
    assert_eq!(blocked["unreadCount"], 2);
    assert_eq!(ann.totals().await, [0, 1, 0]);
    let unread = ann.get("/totals/unread").await.expect_status(200);
    assert_eq!(unread.body, json!({"totalUnreadMessages": 1}));
    ann.wait_for_list("/chats", &[&other_chat]).await;
    for list in &LISTS[1..] {
        ann.wait_for_list(list, &[]).await;
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [3, 2, 1]);
    assert_eq!(ann.changes(&chat, "").await.body["rev"], 0);

    ann.unblock(&ben).await.expect_status(200);
    expected["blocked"] = json!(false);
    let unblocked = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(unblocked, expected);
    assert_eq!(ann.totals().await, [0, 3, 0]);
    // The block has not moved the chat.
    ann.wait_for_chats("/chats", "have both chats", |page| {
        page.chat_ids() == [&other_chat, &chat] && page.chats()[1] == expected
    })
    .await;
    ann.mark_read(&chat).await.expect_status(200);
    assert_eq!(ann.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn the_user_who_blocks_cannot_send_edit_request_accept_decline_or_mark() {
    let api = Api::shared();
    let (ann, ben, chat) = api.active_chat().await;
    ann.send(&chat, "from ann").await.expect_status(201);
    ben.send(&chat, "from ben").await.expect_status(201);
    ben.block(&ann).await.expect_status(200);
    let before = ben.get_chat(&chat).await.expect_status(200);
    for response in [
        ben.send(&chat, "hi").await,
        ben.send_with_key(&chat, "key", "hi").await,
        ben.edit_text(&chat, 2, "changed").await,
        // The same content as before.
        ben.edit_text(&chat, 2, "from ben").await,
        ben.request_chat(&ann).await,
        ben.accept(&chat).await,
        ben.decline(&chat).await,
        ben.mark_read(&chat).await,
        ben.mark_up_to(&chat, 1).await,
        ben.mark_up_to(&chat, 2).await,
    ] {
        response.expect_error(409, "you_blocked");
    }
    // A body after which nothing remains is invalid, whatever the state of the chat.
    ben.edit(&chat, 2, &json!({"text": null}))
        .await
        .expect_invalid("`text`");
    let after = ben.get_chat(&chat).await.expect_status(200);
    assert_eq!(after.body, before.body);
    assert_eq!(after.body["unreadCount"], 1);
    // The key was not used up.
    ben.unblock(&ann).await.expect_status(200);
    ben.send_with_key(&chat, "key", "another message")
        .await
        .expect_status(201);
}

#[tokio::test]
async fn the_user_who_blocks_cannot_answer_or_send_requests_in_any_status() {
    // In each of these chats the second user blocks the first one.
    let (ann, ben, pending) = pending_chat().await;
    ben.block(&ann).await.expect_status(200);
    for response in [
        ben.accept(&pending).await,
        ben.decline(&pending).await,
        ben.request_chat(&ann).await,
        ben.send(&pending, "hi").await,
        ben.mark_read(&pending).await,
    ] {
        response.expect_error(409, "you_blocked");
    }
    for (ann, ben, chat) in [declined_chat().await, withdrawn_chat().await] {
        ben.block(&ann).await.expect_status(200);
        for response in [
            ben.accept(&chat).await,
            ben.decline(&chat).await,
            ben.request_chat(&ann).await,
            ben.send(&chat, "hi").await,
            ben.mark_read(&chat).await,
        ] {
            response.expect_error(409, "you_blocked");
        }
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn for_the_user_who_blocks_404_400_403_and_422_come_before_the_block() {
    let api = Api::shared();
    let (ann, ben, chat) = api.active_chat().await;
    ann.send_with_key(&chat, "key", "from ann")
        .await
        .expect_status(201);
    ben.send(&chat, "from ben").await.expect_status(201);
    ann.block(&ben).await.expect_status(200);
    // The requester of an active chat can neither accept nor edit the messages of the other member.
    ann.accept(&chat)
        .await
        .expect_error(403, "not_the_recipient");
    ann.edit_text(&chat, 2, "changed")
        .await
        .expect_error(403, "not_the_sender");
    ann.edit_text(&chat, 3, "changed")
        .await
        .expect_error(404, "message_not_found");
    ann.send_with_key(&chat, "key", "another message")
        .await
        .expect_error(422, "idempotency_key_reused");
    ann.send(&chat, " ").await.expect_invalid("`text`");
    ann.edit(&chat, 1, &json!({}))
        .await
        .expect_invalid("`text`");
    ann.mark_up_to(&chat, 3).await.expect_invalid("`seq`");
    // Every other 409 comes later.
    ann.decline(&chat).await.expect_error(409, "you_blocked");
    ann.delete_message(&chat, 1).await.expect_status(200);
    ann.edit_text(&chat, 1, "changed")
        .await
        .expect_error(409, "you_blocked");

    let (ann, ben, declined) = declined_chat().await;
    ann.block(&ben).await.expect_status(200);
    ann.decline(&declined)
        .await
        .expect_error(403, "not_the_recipient");
    ann.accept(&declined).await.expect_error(409, "you_blocked");
    ann.request_chat(&ben)
        .await
        .expect_error(409, "you_blocked");
}

#[tokio::test]
async fn withdrawing_is_not_refused_because_of_a_block() {
    let (ann, ben, withdrawn) = withdrawn_chat().await;
    ann.block(&ben).await.expect_status(200);
    let again = ann.withdraw(&withdrawn).await.expect_status(200);
    assert_chat(&again, "withdrawn", &ann, &ben);
    assert_eq!(again.body["blocked"], true);
    let (ann, ben, pending) = pending_chat().await;
    ben.block(&ann).await.expect_status(200);
    ben.withdraw(&pending)
        .await
        .expect_error(403, "not_the_requester");
    let (ann, ben, active) = Api::shared().active_chat().await;
    ann.block(&ben).await.expect_status(200);
    ann.withdraw(&active).await.expect_error(409, "chat_active");
}

#[tokio::test]
async fn reading_works_for_both_members_whatever_is_blocked() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ben.send(&chat, "two").await.expect_status(201);
    ann.edit_text(&chat, 1, "ONE").await.expect_status(200);
    for blocker in [&ann, &ben] {
        let other = if blocker.id == ann.id { &ben } else { &ann };
        blocker.block(other).await.expect_status(200);
        for user in [&ann, &ben] {
            user.get_chat(&chat).await.expect_status(200);
            assert_eq!(user.messages(&chat, "").await.seqs(), [2, 1]);
            assert_eq!(user.messages(&chat, "?after=0").await.seqs(), [1, 2]);
            assert_eq!(user.changes(&chat, "").await.seqs(), [1]);
        }
    }
}

#[tokio::test]
async fn a_pending_request_of_the_user_who_blocks_is_withdrawn() {
    let (ann, ben, chat) = pending_chat().await;
    ann.block(&ben).await.expect_status(200);
    let withdrawn = ben.get_chat(&chat).await.expect_status(200);
    assert_chat(&withdrawn, "withdrawn", &ann, &ben);
    assert_eq!(withdrawn.body["blocked"], false);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
        wait_for_empty_lists(user).await;
    }
    for response in [ben.accept(&chat).await, ben.decline(&chat).await] {
        response.expect_error(409, "chat_withdrawn");
    }
    ben.withdraw(&chat)
        .await
        .expect_error(403, "not_the_requester");
    // It stays withdrawn after the block.
    ann.unblock(&ben).await.expect_status(200);
    let shown = ann.get_chat(&chat).await.expect_status(200);
    assert_chat(&shown, "withdrawn", &ann, &ben);
    assert_eq!(shown.body["blocked"], false);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
        wait_for_empty_lists(user).await;
    }
    ben.request_chat(&ann).await.expect_status(200);
    assert_eq!(ann.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_request_to_a_user_who_blocks_is_answered_as_usual_and_waits_for_the_end_of_the_block() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    ann.block(&ben).await.expect_status(200);
    let requested = ben.request_chat(&ann).await.expect_status(201);
    assert_chat(&requested, "pending", &ben, &ann);
    assert_eq!(requested.body["createdAt"], requested.body["updatedAt"]);
    assert_eq!(requested.body["blocked"], false);
    let again = ben.request_chat(&ann).await.expect_status(200);
    assert_eq!(again.body, requested.body);
    ben.wait_for_list("/chats/pending", &[&chat]).await;
    assert_eq!(ben.totals().await, [0, 0, 1]);
    // The user who blocks does not see it.
    assert_eq!(ann.totals().await, [0, 0, 0]);
    wait_for_empty_lists(&ann).await;
    ann.wait_for_blocks("/blocks", &[&ben], false).await;
    ann.request_chat(&ben)
        .await
        .expect_error(409, "you_blocked");

    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(ann.totals().await, [1, 0, 0]);
    assert_eq!(ben.totals().await, [0, 0, 1]);
    let received = "/chats/pending?direction=received";
    let list = ann.wait_for_list(received, &[&chat]).await;
    assert_eq!(list.chats()[0], requested.body);
    ann.wait_for_blocks("/blocks", &[], false).await;
    let accepted = ann.accept(&chat).await.expect_status(200);
    assert_chat(&accepted, "active", &ben, &ann);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_received_request_is_hidden_by_a_block_and_comes_back_after_it() {
    let (ann, ben, chat) = pending_chat().await;
    let received = "/chats/pending?direction=received";
    ben.wait_for_list(received, &[&chat]).await;
    ben.block(&ann).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    wait_for_empty_lists(&ben).await;
    let shown = ben.get_chat(&chat).await.expect_status(200);
    assert_chat(&shown, "pending", &ann, &ben);
    assert_eq!(shown.body["blocked"], true);
    ann.wait_for_list("/chats/pending", &[&chat]).await;
    ben.unblock(&ann).await.expect_status(200);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    ben.wait_for_list(received, &[&chat]).await;
    ben.decline(&chat).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    assert_eq!(ann.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_hidden_request_can_be_withdrawn_and_sent_again() {
    let (ann, ben, chat) = pending_chat().await;
    ben.block(&ann).await.expect_status(200);
    for _ in 0..2 {
        ann.withdraw(&chat).await.expect_status(200);
        assert_eq!(ann.totals().await, [0, 0, 0]);
        assert_eq!(ben.totals().await, [0, 0, 0]);
        ann.request_chat(&ben).await.expect_status(200);
        assert_eq!(ann.totals().await, [0, 0, 1]);
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
    ann.withdraw(&chat).await.expect_status(200);
    ben.unblock(&ann).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    wait_for_empty_lists(&ben).await;
    ben.request_chat(&ann).await.expect_status(200);
    assert_eq!(ann.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_declined_chat_can_be_requested_from_a_user_who_blocks() {
    let (ann, ben, chat) = declined_chat().await;
    ann.block(&ben).await.expect_status(200);
    let requested = ben.request_chat(&ann).await.expect_status(200);
    assert_chat(&requested, "pending", &ben, &ann);
    assert_eq!(ben.totals().await, [0, 0, 1]);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    wait_for_empty_lists(&ann).await;
    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(ann.totals().await, [1, 0, 0]);
    ann.wait_for_list("/chats/pending?direction=received", &[&chat])
        .await;
}

#[tokio::test]
async fn the_one_who_is_blocked_cannot_send_or_edit_but_delete_and_mark() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "from ann").await.expect_status(201);
    for text in ["one", "two"] {
        ben.send(&chat, text).await.expect_status(201);
    }
    ann.block(&ben).await.expect_status(200);
    for response in [
        ben.send(&chat, "hi").await,
        ben.send_with_key(&chat, "key", "hi").await,
        ben.edit_text(&chat, 2, "changed").await,
        // An edit that changes nothing is refused all the same.
        ben.edit_text(&chat, 2, "one").await,
    ] {
        response.expect_error(409, "peer_unavailable");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [3, 2, 1]);
    ben.delete_message(&chat, 2).await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    let view = ann.get_chat(&chat).await.expect_status(200).body;
    assert_eq!([&view["unreadCount"], &view["peerReadSeq"]], [1, 3]);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    // Every other error comes first.
    ben.send(&chat, " ").await.expect_invalid("`text`");
    ben.edit_text(&chat, 1, "changed")
        .await
        .expect_error(403, "not_the_sender");
    ben.edit_text(&chat, 2, "changed")
        .await
        .expect_error(409, "message_deleted");
    ben.edit(&chat, 3, &json!({"text": null}))
        .await
        .expect_invalid("`text`");
    // The refused messages do not exist, and the key was not used up.
    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(ann.messages(&chat, "").await.seqs(), [3, 2, 1]);
    assert_eq!(ann.totals().await, [0, 1, 0]);
    let sent = ben.send_with_key(&chat, "key", "another message").await;
    assert_eq!(sent.expect_status(201).body["seq"], 4);
}

#[tokio::test]
async fn both_members_can_delete_own_messages_and_the_counts_stay_exact() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    for text in ["1", "2", "3"] {
        ben.send(&chat, text).await.expect_status(201);
    }
    for text in ["4", "5"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    ann.block(&ben).await.expect_status(200);
    // The user who blocks has unread messages that no total contains.
    ben.delete_message(&chat, 2).await.expect_status(200);
    assert_eq!(unread_count(&ann, &chat).await, 2);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    // The one who is blocked still has unread messages.
    ann.delete_message(&chat, 4).await.expect_status(200);
    assert_eq!(unread_count(&ben, &chat).await, 1);
    assert_eq!(ben.totals().await, [0, 1, 0]);
    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(unread_count(&ann, &chat).await, 2);
    assert_eq!(ann.totals().await, [0, 2, 0]);
    // Deleted until nothing remains.
    ann.block(&ben).await.expect_status(200);
    for seq in [1, 3] {
        ben.delete_message(&chat, seq).await.expect_status(200);
    }
    assert_eq!(unread_count(&ann, &chat).await, 0);
    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(ann.totals().await, [0, 0, 0]);
    ben.send(&chat, "6").await.expect_status(201);
    assert_eq!(unread_count(&ann, &chat).await, 1);
    assert_eq!(ann.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn a_block_does_not_change_the_response_to_a_replay() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let from_ann = ann
        .send_with_key(&chat, "key", "from ann")
        .await
        .expect_status(201);
    let from_ben = ben
        .send_with_key(&chat, "key", "from ben")
        .await
        .expect_status(201);
    ann.block(&ben).await.expect_status(200);
    for (user, text, first) in [(&ann, "from ann", from_ann), (&ben, "from ben", from_ben)] {
        let replayed = user.send_with_key(&chat, "key", text).await;
        let replayed = replayed.expect_status(200);
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
        assert_eq!(replayed.body, first.body);
        user.send_with_key(&chat, "key", "another message")
            .await
            .expect_error(422, "idempotency_key_reused");
    }
    // Also if the message is deleted.
    let deleted = ben.delete_message(&chat, 2).await.expect_status(200);
    let replayed = ben.send_with_key(&chat, "key", "from ben").await;
    assert_eq!(replayed.expect_status(200).body, deleted.body);
}

#[tokio::test]
async fn both_members_can_block_each_other_and_each_block_ends_by_itself() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    ann.send(&chat, "one").await.expect_status(201);
    ben.send(&chat, "two").await.expect_status(201);
    ann.block(&ben).await.expect_status(200);
    ben.block(&ann).await.expect_status(200);
    for (user, other) in [(&ann, &ben), (&ben, &ann)] {
        let view = user.get_chat(&chat).await.expect_status(200).body;
        assert_eq!(view["blocked"], true);
        assert_eq!(view["unreadCount"], 1);
        assert_eq!(user.totals().await, [0, 0, 0]);
        wait_for_empty_lists(user).await;
        user.wait_for_blocks("/blocks", &[other], false).await;
        // If both codes apply, the own block comes first.
        let own = if user.id == ann.id { 1 } else { 2 };
        for response in [
            user.send(&chat, "hi").await,
            user.edit_text(&chat, own, "changed").await,
        ] {
            response.expect_error(409, "you_blocked");
        }
    }
    ann.unblock(&ben).await.expect_status(200);
    assert_eq!(ann.totals().await, [0, 1, 0]);
    ann.wait_for_list("/chats", &[&chat]).await;
    assert_eq!(ann.get_chat(&chat).await.body["blocked"], false);
    ann.send(&chat, "hi")
        .await
        .expect_error(409, "peer_unavailable");
    ben.send(&chat, "hi").await.expect_error(409, "you_blocked");
    wait_for_empty_lists(&ben).await;
    ben.wait_for_blocks("/blocks", &[&ann], false).await;
    ben.unblock(&ann).await.expect_status(200);
    ann.send(&chat, "three").await.expect_status(201);
    ben.send(&chat, "four").await.expect_status(201);
    assert_eq!(ann.totals().await, [0, 2, 0]);
    assert_eq!(ben.totals().await, [0, 2, 0]);
}

#[tokio::test]
async fn a_request_between_users_who_block_each_other_is_counted_for_nobody_twice() {
    // Ann requested, Ben blocks, Ann blocks too: that withdraws her request, which Ben's total did not contain.
    let (ann, ben, chat) = pending_chat().await;
    ben.block(&ann).await.expect_status(200);
    ann.block(&ben).await.expect_status(200);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
    ben.unblock(&ann).await.expect_status(200);
    ann.unblock(&ben).await.expect_status(200);
    for user in [&ann, &ben] {
        assert_eq!(user.totals().await, [0, 0, 0]);
        wait_for_empty_lists(user).await;
        let shown = user.get_chat(&chat).await.expect_status(200);
        assert_chat(&shown, "withdrawn", &ann, &ben);
    }
    // The block of the recipient ends only after the one of the requester.
    ann.request_chat(&ben).await.expect_status(200);
    ann.block(&ben).await.expect_status(200);
    ben.block(&ann).await.expect_status(200);
    ann.unblock(&ben).await.expect_status(200);
    ann.request_chat(&ben).await.expect_status(200);
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    ben.unblock(&ann).await.expect_status(200);
    assert_eq!(ben.totals().await, [1, 0, 0]);
}

/// Two new users in each state that a pair can have, and the list that has their chat for the first user. The
/// second user has sent no request that waits, because a block would withdraw it.
async fn pairs_in_every_state() -> Vec<(&'static str, User, User, Option<&'static str>)> {
    let api = Api::shared();
    let (me, other, chat) = api.active_chat().await;
    for text in ["one", "two", "three"] {
        me.send(&chat, text).await.expect_status(201);
        other.send(&chat, text).await.expect_status(201);
    }
    me.mark_up_to(&chat, 2).await.expect_status(200);
    other.mark_up_to(&chat, 3).await.expect_status(200);
    me.edit_text(&chat, 3, "edited").await.expect_status(200);
    other.delete_message(&chat, 6).await.expect_status(200);
    let mut pairs = vec![("active", me, other, Some(LISTS[0]))];
    let (other, me, _) = api.active_chat().await;
    pairs.push(("active, the other way", me, other, Some(LISTS[0])));
    let (me, other, _) = pending_chat().await;
    pairs.push(("pending", me, other, Some(LISTS[1])));
    let (me, other, _) = declined_chat().await;
    pairs.push(("declined by the other", me, other, Some(LISTS[3])));
    let (other, me, _) = declined_chat().await;
    pairs.push(("declined by me", me, other, Some(LISTS[4])));
    let (me, other, _) = withdrawn_chat().await;
    pairs.push(("withdrawn by me", me, other, None));
    let (other, me, _) = withdrawn_chat().await;
    pairs.push(("withdrawn by the other", me, other, None));
    pairs.push(("none", api.user(), api.user(), None));
    pairs
}

#[tokio::test]
async fn a_block_is_not_visible_to_the_one_who_is_blocked() {
    for (state, me, other, list) in pairs_in_every_state().await {
        let chat = me.chat_id_with(&other);
        let before = everything_visible(&me, &chat, list).await;
        other.block(&me).await.expect_status(200);
        let blocked = everything_visible(&me, &chat, list).await;
        assert_eq!(blocked, before, "{state}");
        other.unblock(&me).await.expect_status(200);
        let unblocked = everything_visible(&me, &chat, list).await;
        assert_eq!(unblocked, before, "{state}");
    }
}

/// The status, the code and what does not depend on the users of a response.
fn result(response: &Response, caller: &User) -> Value {
    let body = &response.body;
    let is_requester = body["requesterId"] == caller.id;
    json!([
        response.status,
        body["code"],
        body["status"],
        is_requester,
        body["unreadCount"],
        body["readSeq"],
        body["peerReadSeq"],
        body["rev"],
        body["blocked"],
        body["seq"],
        body["text"],
        body["message"].as_str().filter(|_| response.status == 200),
    ])
}

/// The results of one request of each kind by `me`, except those that a block of the other user refuses in an
/// active chat, in the order in which they are sent.
async fn results(me: &User, other: &User) -> Vec<(&'static str, Value)> {
    let chat = me.chat_id_with(other);
    let mut results = Vec::new();
    let mut add = |name, response: Response| results.push((name, result(&response, me)));
    add("accept", me.accept(&chat).await);
    add("decline", me.decline(&chat).await);
    add("mark", me.mark_read(&chat).await);
    add("mark up to", me.mark_up_to(&chat, 1).await);
    add("mark beyond", me.mark_up_to(&chat, 99).await);
    add("delete", me.delete_message(&chat, 1).await);
    add("delete again", me.delete_message(&chat, 1).await);
    add("delete another's", me.delete_message(&chat, 2).await);
    add("edit another's", me.edit_text(&chat, 2, "hi").await);
    add("edit a deleted one", me.edit_text(&chat, 1, "hi").await);
    add("edit none", me.edit_text(&chat, 99, "hi").await);
    add("withdraw", me.withdraw(&chat).await);
    add("request", me.request_chat(other).await);
    add("request again", me.request_chat(other).await);
    add("accept the own request", me.accept(&chat).await);
    add("withdraw the own request", me.withdraw(&chat).await);
    add("withdraw again", me.withdraw(&chat).await);
    add("accept a withdrawn request", me.accept(&chat).await);
    add("read", me.get_chat(&chat).await);
    let totals = me.totals().await;
    results.push(("totals", json!(totals)));
    results
}

#[tokio::test]
async fn the_one_who_is_blocked_gets_the_same_responses_as_without_a_block() {
    let (with_block, without) = tokio::join!(pairs_in_every_state(), pairs_in_every_state());
    for ((state, me, other, _), (_, my_twin, other_twin, _)) in with_block.into_iter().zip(without)
    {
        other.block(&me).await.expect_status(200);
        if !state.starts_with("active") {
            let chats = [
                (&me, me.chat_id_with(&other)),
                (&my_twin, my_twin.chat_id_with(&other_twin)),
            ];
            for (user, chat) in chats {
                let response = user.send(&chat, "hi").await;
                let expected = if state == "none" {
                    (404, Some("chat_not_found"))
                } else {
                    (409, Some("chat_not_active"))
                };
                assert_eq!((response.status, response.code()), expected, "{state}");
            }
        }
        let blocked = results(&me, &other).await;
        let expected = results(&my_twin, &other_twin).await;
        assert_eq!(blocked, expected, "{state}");
    }
}

#[tokio::test]
async fn a_block_does_not_move_the_chat_of_the_other_member() {
    let api = Api::shared();
    let (me, ben, cat) = (api.user(), api.user(), api.user());
    let older = me.start_chat(&ben).await;
    let newer = cat.start_chat(&me).await;
    let before = me.wait_for_list("/chats", &[&newer, &older]).await;
    for other in [&ben, &cat] {
        other.block(&me).await.expect_status(200);
        let list = me.wait_for_list("/chats", &[&newer, &older]).await;
        assert_eq!(list.body, before.body);
    }
    for other in [&ben, &cat] {
        other.unblock(&me).await.expect_status(200);
        let list = me.wait_for_list("/chats", &[&newer, &older]).await;
        assert_eq!(list.body, before.body);
    }
}

/// A new user who has blocked six others, of which some have a chat with the user. The latest activity is first.
async fn user_with_blocks() -> (User, Vec<User>) {
    let api = Api::shared();
    let me = api.user();
    let mut others = Vec::new();
    for n in 0..6 {
        let other = api.user();
        match n {
            0 | 3 => drop(me.start_chat(&other).await),
            1 => drop(other.start_chat(&me).await),
            2 => drop(other.request_chat(&me).await.expect_status(201)),
            // A pair without a chat: the block is its activity.
            _ => drop(me.block(&other).await.expect_status(200)),
        }
        others.insert(0, other);
    }
    // The order of the blocks does not matter.
    for n in [3, 5, 2, 4] {
        me.block(&others[n]).await.expect_status(200);
    }
    (me, others)
}

#[tokio::test]
async fn blocks_are_paged_by_cursor_and_by_skip_each_once_by_the_latest_activity() {
    let (me, others) = user_with_blocks().await;
    let others: Vec<_> = others.iter().collect();
    me.wait_for_blocks("/blocks", &others, false).await;
    for (limit, skip, from, to) in [
        (2, 0, 0, 2),
        (4, 1, 1, 5),
        (6, 0, 0, 6),
        (5, 1, 1, 6),
        (15, 5, 5, 6),
        (15, 6, 6, 6),
        (15, 1_000, 6, 6),
    ] {
        let path = format!("/blocks?limit={limit}&skip={skip}");
        me.wait_for_blocks(&path, &others[from..to], to < 6).await;
    }
    for limit in [1, 2, 4] {
        let mut path = format!("/blocks?limit={limit}");
        for (n, expected) in others.chunks(limit).enumerate() {
            let has_next = (n + 1) * limit < others.len();
            let page = me.wait_for_blocks(&path, expected, has_next).await;
            if let Some(cursor) = page.next_cursor() {
                path = format!("/blocks?limit={limit}&cursor={cursor}");
            }
        }
    }
    me.get("/blocks?skip=1001").await.expect_invalid("`skip`");
}

#[tokio::test]
async fn an_unblocked_user_is_no_longer_in_the_list() {
    let (me, others) = user_with_blocks().await;
    me.unblock(&others[0]).await.expect_status(200);
    me.unblock(&others[3]).await.expect_status(200);
    let remaining = [&others[1], &others[2], &others[4], &others[5]];
    me.wait_for_blocks("/blocks", &remaining, false).await;
    // A request of a blocked user moves nothing in, and nothing twice.
    others[1].request_chat(&me).await.expect_status(201);
    me.wait_for_blocks("/blocks", &remaining, false).await;
}
