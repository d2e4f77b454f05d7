//! Outage tests: every operation on DynamoDB fails, or no response arrives. They check the response to the
//! client, the table, and the response when the client retries.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack, error_body},
    invariants::invariant_violations,
    retries::start_with_short_timeout,
    support::{Response, User},
};

/// Chats in each state, so that every kind of request has an effect.
struct Fixture {
    proxied: ProxiedStack,
    ann: User,
    ben: User,
    cem: User,
    dan: User,
    eve: User,
    fay: User,
}

impl Fixture {
    async fn new() -> Self {
        let proxied = start_with_short_timeout().await;
        let api = &proxied.stack.api;
        let [ann, ben, cem, dan, eve, fay] = [(); 6].map(|()| api.user());
        let chat = ann.start_chat(&ben).await;
        ann.send(&chat, "hello").await.expect_status(201);
        cem.request_chat(&ann).await.expect_status(201);
        dan.request_chat(&ann).await.expect_status(201);
        eve.request_chat(&ann).await.expect_status(201);
        ann.decline(&ann.chat_id_with(&eve))
            .await
            .expect_status(200);
        Self {
            proxied,
            ann,
            ben,
            cem,
            dan,
            eve,
            fay,
        }
    }

    /// Sends one request of each kind that changes something, all at once.
    async fn send_writes(&self) -> BTreeMap<&'static str, Response> {
        let Self {
            ann,
            ben,
            cem,
            dan,
            eve,
            fay,
            ..
        } = self;
        let (with_ben, with_cem) = (ann.chat_id_with(ben), ann.chat_id_with(cem));
        let with_dan = ann.chat_id_with(dan);
        let (request, request_again, accept, decline, send, mark_read) = tokio::join!(
            ben.request_chat(fay),
            ann.request_chat(eve),
            ann.accept(&with_cem),
            ann.decline(&with_dan),
            ann.send_with_key(&with_ben, "key", "are you there?"),
            ben.mark_read(&with_ben),
        );
        BTreeMap::from([
            ("request", request),
            ("request again", request_again),
            ("accept", accept),
            ("decline", decline),
            ("send", send),
            ("mark as read", mark_read),
        ])
    }

    /// Sends one request to each endpoint that only reads, all at once.
    async fn send_reads(&self) -> [Response; 6] {
        let chat = self.ann.chat_id_with(&self.ben);
        tokio::join!(
            self.ann.get("/chats"),
            self.ann.get("/chats/pending"),
            self.ann.get("/chats/rejected"),
            self.ann.get("/totals"),
            self.ann.get("/totals/unread"),
            self.ann.messages(&chat, ""),
        )
        .into()
    }

    /// Asserts that every write and every read returns 503.
    async fn expect_all_requests_unavailable(&self) {
        let writes = self.send_writes().await;
        writes.values().for_each(assert_unavailable);
        let reads = self.send_reads().await;
        reads.iter().for_each(assert_unavailable);
    }
}

fn assert_unavailable(response: &Response) {
    response.expect_error(503, "unavailable");
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

#[tokio::test]
async fn when_no_operation_reaches_the_table_every_request_is_503_and_nothing_changes() {
    let fixture = Fixture::new().await;
    let before = fixture.proxied.stack.table.everything().await;
    for effect in [
        FaultEffect::Respond(500, error_body("InternalServerError")),
        FaultEffect::Respond(503, error_body("ServiceUnavailable")),
        FaultEffect::Respond(400, error_body("ThrottlingException")),
        FaultEffect::Respond(400, error_body("ProvisionedThroughputExceededException")),
        FaultEffect::Respond(400, error_body("RequestLimitExceeded")),
        FaultEffect::DropBefore,
        FaultEffect::NeverRespond,
    ] {
        fixture.proxied.inject_always(Some(Fault::on_all(effect)));
        fixture.expect_all_requests_unavailable().await;
        assert_eq!(fixture.proxied.stack.table.everything().await, before);
    }
}

#[tokio::test]
async fn when_every_transaction_is_cancelled_writes_are_503_and_reads_succeed() {
    let fixture = Fixture::new().await;
    let before = fixture.proxied.stack.table.everything().await;
    // Every transaction gets these reasons, regardless of its number of parts.
    for code in [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ] {
        let fault = Fault::cancelled(&["None", code, "None"]);
        fixture.proxied.inject_always(Some(fault));
        fixture
            .send_writes()
            .await
            .values()
            .for_each(assert_unavailable);
        for response in fixture.send_reads().await {
            assert_eq!(response.status, 200, "{response:?}");
        }
        assert_eq!(fixture.proxied.stack.table.everything().await, before);
    }
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn a_function_that_is_killed_before_its_operation_changes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.proxied.stack.table.everything().await;
    fixture
        .proxied
        .inject_always(Some(Fault::on_all(FaultEffect::KillBefore)));
    for response in fixture
        .send_writes()
        .await
        .into_values()
        .chain(fixture.send_reads().await)
    {
        assert_eq!(response.status, 500, "{response:?}");
        assert_eq!(response.body, json!({"message": "Internal Server Error"}));
    }
    assert_eq!(fixture.proxied.stack.table.everything().await, before);
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn when_every_response_to_a_transaction_is_lost_a_retry_shows_that_it_was_applied_once() {
    for effect in [
        FaultEffect::DropAfter,
        FaultEffect::LoseResponse,
        FaultEffect::KillAfter,
    ] {
        let fixture = Fixture::new().await;
        fixture
            .proxied
            .inject_always(Some(Fault::new("TransactWriteItems", effect.clone())));
        for response in fixture.send_writes().await.into_values() {
            match effect {
                FaultEffect::KillAfter => assert_eq!(response.status, 500, "{response:?}"),
                _ => assert_unavailable(&response),
            }
        }
        fixture.proxied.wait_until_idle().await;
        assert_eq!(
            invariant_violations(&fixture.proxied.stack.table).await,
            [""; 0],
            "{effect:?}"
        );
        fixture.proxied.inject_always(None);

        let retries = fixture.send_writes().await;
        let status = |name: &str| (retries[name].status, retries[name].body["status"].as_str());
        assert_eq!(status("request"), (200, Some("pending")), "{effect:?}");
        assert_eq!(status("request again"), (200, Some("pending")));
        assert_eq!(status("accept"), (200, Some("active")));
        assert_eq!(status("decline"), (200, Some("declined")));
        assert_eq!(retries["send"].status, 200);
        assert_eq!(retries["send"].header("idempotent-replayed"), Some("true"));
        assert_eq!(retries["send"].body["seq"], 2);
        assert_eq!(status("mark as read").0, 200);

        let chat = fixture.ann.chat_id_with(&fixture.ben);
        assert_eq!(fixture.ben.messages(&chat, "").await.seqs(), [2, 1]);
        // Ben has one open request, to Fay, and no unread messages. Ann has one open request, to Eve.
        assert_eq!(fixture.ben.totals().await, [0, 0, 1]);
        assert_eq!(fixture.ann.totals().await, [0, 0, 1]);
        assert_eq!(fixture.cem.totals().await, [0, 0, 0]);
        assert_eq!(fixture.dan.totals().await, [0, 0, 0]);
        assert_eq!(
            invariant_violations(&fixture.proxied.stack.table).await,
            [""; 0]
        );
    }
}

#[tokio::test]
async fn when_every_response_is_lost_no_change_is_applied_in_part() {
    let fixture = Fixture::new().await;
    for effect in [FaultEffect::DropAfter, FaultEffect::LoseResponse] {
        fixture.proxied.inject_always(Some(Fault::on_all(effect)));
        fixture.expect_all_requests_unavailable().await;
        fixture.proxied.wait_until_idle().await;
        assert_eq!(
            invariant_violations(&fixture.proxied.stack.table).await,
            [""; 0]
        );
    }
    fixture.proxied.inject_always(None);
    for (name, response) in fixture.send_writes().await {
        let status = if name == "send" { 201 } else { 200 };
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    assert_eq!(
        invariant_violations(&fixture.proxied.stack.table).await,
        [""; 0]
    );
}
