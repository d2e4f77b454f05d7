//! Withdrawing chat requests.
//!
//! The integration tests cover the cap on open requests, because it is a setting of a deployment.

use serde_json::json;

use crate::{
    chats::{assert_chat, declined_chat, pending_chat, wait_for_empty_lists, withdrawn_chat},
    support::{Api, User},
};

async fn assert_no_totals(users: [&User; 2]) {
    for user in users {
        assert_eq!(user.totals().await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn the_requester_can_withdraw_a_pending_request() {
    let (ann, ben, chat) = pending_chat().await;
    ann.wait_for_list("/chats/pending", &[&chat]).await;
    ben.wait_for_list("/chats/pending?direction=received", &[&chat])
        .await;
    let pending = ann.get_chat(&chat).await.expect_status(200).body;
    let withdrawn = ann.withdraw(&chat).await.expect_status(200);
    let mut expected = pending.clone();
    expected["status"] = json!("withdrawn");
    expected["updatedAt"] = withdrawn.body["updatedAt"].clone();
    assert_eq!(withdrawn.body, expected);
    assert!(withdrawn.body["updatedAt"].as_str() >= pending["updatedAt"].as_str());
    assert_no_totals([&ann, &ben]).await;
}

#[tokio::test]
async fn a_withdrawn_chat_is_in_no_list_and_in_no_total() {
    let (ann, ben, chat) = withdrawn_chat().await;
    for user in [&ann, &ben] {
        wait_for_empty_lists(user).await;
        let shown = user.get_chat(&chat).await.expect_status(200);
        assert_chat(&shown, "withdrawn", &ann, &ben);
    }
    assert_no_totals([&ann, &ben]).await;
}

#[tokio::test]
async fn withdrawing_again_changes_nothing_and_only_the_requester_may() {
    let (ann, ben, chat) = withdrawn_chat().await;
    let before = ann.get_chat(&chat).await.expect_status(200);
    for _ in 0..2 {
        let again = ann.withdraw(&chat).await.expect_status(200);
        assert_eq!(again.body, before.body);
    }
    ben.withdraw(&chat)
        .await
        .expect_error(403, "not_the_requester");
    assert_no_totals([&ann, &ben]).await;
}

#[tokio::test]
async fn the_recipient_cannot_withdraw_a_request() {
    let (ann, ben, chat) = pending_chat().await;
    ben.withdraw(&chat)
        .await
        .expect_error(403, "not_the_requester");
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    ben.accept(&chat).await.expect_status(200);
}

#[tokio::test]
async fn an_active_or_declined_chat_cannot_be_withdrawn() {
    let active = Api::shared().active_chat().await;
    let declined = declined_chat().await;
    for ((ann, ben, chat), code) in [(active, "chat_active"), (declined, "chat_declined")] {
        let before = ann.get_chat(&chat).await.expect_status(200);
        for user in [&ann, &ben] {
            user.withdraw(&chat).await.expect_error(409, code);
        }
        let after = ann.get_chat(&chat).await.expect_status(200);
        assert_eq!(after.body, before.body);
        assert_no_totals([&ann, &ben]).await;
    }
}

#[tokio::test]
async fn a_pair_without_a_chat_has_nothing_to_withdraw() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_id_with(&ben);
    ann.withdraw(&chat)
        .await
        .expect_error(404, "chat_not_found");
}

#[tokio::test]
async fn a_withdrawn_request_can_be_neither_accepted_nor_declined() {
    let (ann, ben, chat) = withdrawn_chat().await;
    let before = ann.get_chat(&chat).await.expect_status(200);
    for user in [&ann, &ben] {
        for response in [user.accept(&chat).await, user.decline(&chat).await] {
            response.expect_error(409, "chat_withdrawn");
        }
    }
    let after = ann.get_chat(&chat).await.expect_status(200);
    assert_eq!(after.body, before.body);
    assert_no_totals([&ann, &ben]).await;
}

#[tokio::test]
async fn both_members_can_request_a_withdrawn_chat_again() {
    for by_first_requester in [true, false] {
        let (ann, ben, chat) = withdrawn_chat().await;
        let withdrawn = ann.get_chat(&chat).await.expect_status(200).body;
        let (requester, recipient) = if by_first_requester {
            (&ann, &ben)
        } else {
            (&ben, &ann)
        };
        let again = requester.request_chat(recipient).await.expect_status(200);
        assert_chat(&again, "pending", requester, recipient);
        assert_eq!(again.body["createdAt"], withdrawn["createdAt"]);
        assert!(again.body["updatedAt"].as_str() >= withdrawn["updatedAt"].as_str());
        assert_eq!(requester.totals().await, [0, 0, 1]);
        assert_eq!(recipient.totals().await, [1, 0, 0]);
        requester.wait_for_list("/chats/pending", &[&chat]).await;
        recipient
            .wait_for_list("/chats/pending?direction=received", &[&chat])
            .await;
        requester
            .accept(&chat)
            .await
            .expect_error(403, "not_the_recipient");
        recipient
            .withdraw(&chat)
            .await
            .expect_error(403, "not_the_requester");
        let accepted = recipient.accept(&chat).await.expect_status(200);
        assert_chat(&accepted, "active", requester, recipient);
        assert_no_totals([&ann, &ben]).await;
    }
}

#[tokio::test]
async fn a_request_can_be_withdrawn_and_sent_any_number_of_times() {
    let (ann, ben, chat) = pending_chat().await;
    for _ in 0..3 {
        ann.withdraw(&chat).await.expect_status(200);
        ann.request_chat(&ben).await.expect_status(200);
    }
    assert_eq!(ann.totals().await, [0, 0, 1]);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    // A declined request goes in the other direction, and can be withdrawn as well.
    ben.decline(&chat).await.expect_status(200);
    ben.request_chat(&ann).await.expect_status(200);
    let withdrawn = ben.withdraw(&chat).await.expect_status(200);
    assert_chat(&withdrawn, "withdrawn", &ben, &ann);
    // The member who was declined can request again, because nobody has declined the withdrawn request.
    let requested = ann.request_chat(&ben).await.expect_status(200);
    assert_chat(&requested, "pending", &ann, &ben);
}

#[tokio::test]
async fn withdrawing_ignores_a_body() {
    let (ann, _, chat) = pending_chat().await;
    let request = ann.request("PUT", &format!("/chats/{chat}/withdraw"));
    let request = request.header("content-type", "text/plain").body("hi");
    request.send().await.expect_status(200);
}
