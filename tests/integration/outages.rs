//! Outage tests: every operation on DynamoDB fails, or no response arrives. They check the response to the
//! client, the table, and the response when the client retries.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    contract_model::{ModelledPair, PairRequest, named},
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack, error_body},
    fault_injection::FaultPlan,
    invariants::{admin_findings, invariant_violations},
    retries::{pair_after, start_with_short_timeout},
    support::{Response, User, run_concurrently},
};

/// Requests before, and a change, for changes whose pair has no other requests. The names are those of [`named`].
const CHANGES: [(&str, &str, &str); 12] = [
    ("edit", "active send", "edit:1"),
    ("delete", "active send send", "delete:1"),
    ("delete a read message", "active send mark", "delete:1"),
    ("mark up to", "active send send", "mark:1"),
    ("withdraw", "request", "withdraw"),
    ("block", "active", "block"),
    ("block with unread", "active send", "block"),
    ("block a requester", "request", "block"),
    ("unblock", "active block", "unblock"),
    ("unblock with unread", "active send block", "unblock"),
    (REPORT, "active send", "report:1"),
    (REPORT_AND_BLOCK, "active send", "report-and-block:1"),
];
const REPORT: &str = "report";
const REPORT_AND_BLOCK: &str = "report and block";

/// A change whose pair has no other requests.
struct Change {
    name: &'static str,
    pair: ModelledPair,
    caller: usize,
    request: PairRequest,
}

/// Chats in each state, so that every kind of request has an effect.
struct Fixture {
    proxied: ProxiedStack,
    ann: User,
    ben: User,
    cem: User,
    dan: User,
    eve: User,
    fay: User,
    changes: Vec<Change>,
}

impl Fixture {
    async fn new() -> Self {
        let proxied = start_with_short_timeout().await;
        proxied.set_fault_plan(FaultPlan::none());
        let mut changes = Vec::new();
        for (name, before, request) in CHANGES {
            let pair = pair_after(&proxied, before).await;
            let (caller, request) = named(request);
            changes.push(Change {
                name,
                pair,
                caller,
                request,
            });
        }
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
            changes,
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
        let changes = self.changes.iter().map(|change| {
            let [user, other] = [change.caller, 1 - change.caller];
            let (user, other) = (change.pair.users[user].clone(), change.pair.users[other].id);
            let (name, request) = (change.name, change.request.clone());
            async move { (name, user.perform(other, &request).await) }
        });
        let (request, request_again, accept, decline, send, mark_read, changes) = tokio::join!(
            ben.request_chat(fay),
            ann.request_chat(eve),
            ann.accept(&with_cem),
            ann.decline(&with_dan),
            ann.send_with_key(&with_ben, "key", "are you there?"),
            ben.mark_read(&with_ben),
            run_concurrently(changes),
        );
        let mut responses = BTreeMap::from([
            ("request", request),
            ("request again", request_again),
            ("accept", accept),
            ("decline", decline),
            ("send", send),
            ("mark as read", mark_read),
        ]);
        responses.extend(changes);
        responses
    }

    /// Asserts that each of the changes has taken effect once.
    async fn assert_changes_took_effect(&mut self) {
        for change in &mut self.changes {
            change.pair.expected(change.caller, &change.request);
            change.pair.assert_equals_model(change.name).await;
        }
    }

    async fn assert_invariants(&self) {
        let table = &self.proxied.stack.table;
        assert_eq!(invariant_violations(table).await, [""; 0]);
        assert_eq!(admin_findings(table).await, [""; 0]);
    }

    /// Sends one request to each endpoint that only reads, all at once.
    async fn send_reads(&self) -> [Response; 9] {
        let chat = self.ann.chat_id_with(&self.ben);
        let changes = format!("/chats/{chat}/changes");
        let one_chat = format!("/chats/{chat}");
        tokio::join!(
            self.ann.get("/chats"),
            self.ann.get("/chats/pending"),
            self.ann.get("/chats/rejected"),
            self.ann.get("/totals"),
            self.ann.get("/totals/unread"),
            self.ann.messages(&chat, ""),
            self.ann.get(&one_chat),
            self.ann.get(&changes),
            self.ann.get("/blocks"),
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
    // Every transaction gets these reasons, regardless of its number of parts. A change of a single item gets the
    // exception.
    for (code, exception) in [
        ("TransactionConflict", "TransactionConflictException"),
        ("ThrottlingError", "ThrottlingException"),
        (
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
        ),
    ] {
        fixture.proxied.inject_always([
            Fault::cancelled(&["None", code, "None"]),
            Fault::error("UpdateItem", 400, exception),
        ]);
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
async fn when_every_response_to_a_write_is_lost_a_retry_shows_that_it_was_applied_once() {
    for effect in [
        FaultEffect::DropAfter,
        FaultEffect::LoseResponse,
        FaultEffect::KillAfter,
    ] {
        let mut fixture = Fixture::new().await;
        fixture
            .proxied
            .inject_always(Some(Fault::on_writes(effect.clone())));
        for response in fixture.send_writes().await.into_values() {
            match effect {
                FaultEffect::KillAfter => assert_eq!(response.status, 500, "{response:?}"),
                _ => assert_unavailable(&response),
            }
        }
        fixture.proxied.wait_until_idle().await;
        fixture.proxied.inject_always(None);
        fixture.assert_invariants().await;
        fixture.assert_changes_took_effect().await;

        let mut retries = fixture.send_writes().await;
        // The functions have 3 seconds. On a busy machine one can run out of time, so retry as a client does.
        for _ in 0..3 {
            if retries.values().all(|response| response.status != 503) {
                break;
            }
            retries = fixture.send_writes().await;
        }
        let status = |name: &str| (retries[name].status, retries[name].body["status"].as_str());
        assert_eq!(status("request"), (200, Some("pending")), "{effect:?}");
        assert_eq!(status("request again"), (200, Some("pending")));
        assert_eq!(status("accept"), (200, Some("active")));
        assert_eq!(status("decline"), (200, Some("declined")));
        assert_eq!(retries["send"].status, 200);
        assert_eq!(retries["send"].header("idempotent-replayed"), Some("true"));
        assert_eq!(retries["send"].body["seq"], 2);
        assert_eq!(status("mark as read").0, 200);
        for change in &fixture.changes {
            assert_eq!(status(change.name).0, 200, "{}", change.name);
        }
        // The retries have changed nothing.
        fixture.assert_changes_took_effect().await;

        let chat = fixture.ann.chat_id_with(&fixture.ben);
        assert_eq!(fixture.ben.messages(&chat, "").await.seqs(), [2, 1]);
        // Ben has one open request, to Fay, and no unread messages. Ann has one open request, to Eve.
        assert_eq!(fixture.ben.totals().await, [0, 0, 1]);
        assert_eq!(fixture.ann.totals().await, [0, 0, 1]);
        assert_eq!(fixture.cem.totals().await, [0, 0, 0]);
        assert_eq!(fixture.dan.totals().await, [0, 0, 0]);
        fixture.assert_invariants().await;
    }
}

#[tokio::test]
async fn when_every_response_is_lost_no_change_is_applied_in_part() {
    let mut fixture = Fixture::new().await;
    for effect in [FaultEffect::DropAfter, FaultEffect::LoseResponse] {
        fixture.proxied.inject_always(Some(Fault::on_all(effect)));
        fixture.expect_all_requests_unavailable().await;
        fixture.proxied.wait_until_idle().await;
        fixture.assert_invariants().await;
    }
    fixture.proxied.inject_always(None);
    for (name, response) in fixture.send_writes().await {
        // These need a read before they write, so they have not been applied yet.
        let is_new = ["send", REPORT, REPORT_AND_BLOCK].contains(&name);
        let status = if is_new { 201 } else { 200 };
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    fixture.assert_changes_took_effect().await;
    fixture.assert_invariants().await;
}
