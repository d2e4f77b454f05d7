//! Single faults: each kind of change, with one fault in its write or in its first operation. The change takes effect
//! once or not at all, and the response, the lists of messages and changes and all totals are exact afterwards.
//!
//! The random tests (`model_based`, `linearizability`) find combinations. These tests show that no kind of change is
//! left out.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    contract_model::{ObservedResponse, PairRequest, named},
    dynamodb_proxy::{Fault, FaultEffect, error_body},
    invariants::invariant_violations,
    retries::{assert_consistent, pair_after, start_without_delays},
};

/// Requests before, and a change: each kind of change with each set of counters that it moves. The names are those of
/// [`named`].
const CHANGES: &[(&str, &str)] = &[
    ("", "request"),
    ("block", "request"),
    ("request", "counter-request"),
    ("request decline", "counter-request"),
    ("request withdraw", "request"),
    ("request", "accept"),
    ("request", "decline"),
    ("request", "withdraw"),
    ("block request", "withdraw"),
    ("active", "send-with-key"),
    ("active send send", "mark"),
    ("active send send send", "mark:2"),
    ("active send", "edit:1"),
    ("active send send", "edit:1"),
    ("active send edit:1", "edit-again:1"),
    ("active send", "delete:1"),
    ("active send send", "delete:1"),
    ("active send mark", "delete:1"),
    ("active send send block", "delete:1"),
    ("", "block"),
    ("active", "block"),
    ("active send send", "block"),
    ("request", "block"),
    ("request", "block-back"),
    ("request block", "block-back"),
    ("block", "unblock"),
    ("active block", "unblock"),
    ("active send send block", "unblock"),
    ("request block", "unblock"),
    ("", "report"),
    ("active send", "report:1"),
    ("active send delete:1", "report:1"),
    ("", "report-and-block"),
    ("active", "report-and-block"),
    ("active send", "report-and-block:1"),
    ("request", "report-and-block"),
];

/// Checks all changes with this fault. Several stacks at once, because some faults take time.
async fn check_each_change(fault: &Fault) {
    let (first, others) = CHANGES.split_at(CHANGES.len() / 3);
    let (second, third) = others.split_at(others.len() / 2);
    tokio::join!(
        Box::pin(check_changes(fault, first)),
        Box::pin(check_changes(fault, second)),
        Box::pin(check_changes(fault, third)),
    );
}

async fn check_changes(fault: &Fault, changes: &[(&str, &str)]) {
    let proxied = start_without_delays().await;
    for (before, request) in changes {
        let name = format!("{before}; {request}; {fault:?}");
        let mut pair = pair_after(&proxied, before).await;
        let (caller, request) = named(request);
        proxied.inject_next([fault.clone()]);
        let mut response = pair.send(caller, &request).await;
        assert!(
            !proxied.has_pending_faults(),
            "{name}: no operation met the fault"
        );
        let is_retried = response.status >= 500;
        if is_retried {
            response.expect_retryable();
            let violations = invariant_violations(&proxied.stack.table).await;
            assert_eq!(violations, [""; 0], "{name}");
            response = pair.send(caller, &request).await;
        }
        let mut observed = ObservedResponse::new(&response).without_times();
        let mut expected = pair.expected(caller, &request);
        if is_retried && expected.status == 201 {
            // The first attempt, whose response was lost, may have created it.
            let is_send = matches!(request, PairRequest::Send { .. });
            for response in [&mut observed, &mut expected] {
                if response.status == 201 {
                    (response.status, response.replayed) = (200, is_send);
                }
            }
        }
        assert_eq!(observed, expected, "{name}");
        pair.assert_equals_model(&name).await;
    }
    assert_consistent(&proxied).await;
}

macro_rules! each_fault {
    ($($(#[$attribute:meta])* $test:ident: $fault:expr,)*) => {$(
        #[tokio::test]
        $(#[$attribute])*
        async fn $test() {
            check_each_change(&$fault).await;
        }
    )*};
}

each_fault! {
    a_change_is_exact_when_its_write_is_in_conflict:
        Fault::on_writes(FaultEffect::Conflict),
    a_change_is_exact_when_its_write_is_throttled:
        Fault::on_writes(FaultEffect::Respond(400, error_body("ThrottlingException"))),
    a_change_is_exact_when_its_write_fails:
        Fault::on_writes(FaultEffect::Respond(500, error_body("InternalServerError"))),
    a_change_is_exact_when_the_connection_closes_before_its_write:
        Fault::on_writes(FaultEffect::DropBefore),
    a_change_is_exact_when_the_connection_closes_after_its_write:
        Fault::on_writes(FaultEffect::DropAfter),
    a_change_is_exact_when_the_response_to_its_write_is_lost:
        Fault::on_writes(FaultEffect::LoseResponse),
    a_change_is_exact_when_its_write_times_out:
        Fault::on_writes(FaultEffect::NeverRespond),
    a_change_is_exact_when_the_response_to_its_write_is_late:
        Fault::on_writes(FaultEffect::Delay(Duration::from_millis(700))),
    a_change_is_exact_when_its_first_operation_is_throttled:
        Fault::on_all(FaultEffect::Respond(400, error_body("ThrottlingException"))),
    a_change_is_exact_when_the_connection_closes_before_its_first_operation:
        Fault::on_all(FaultEffect::DropBefore),
    #[cfg_attr(not(target_os = "linux"), ignore = "needs /proc to find the calling process")]
    a_change_is_exact_when_its_function_is_killed_before_its_write:
        Fault::on_writes(FaultEffect::KillBefore),
    #[cfg_attr(not(target_os = "linux"), ignore = "needs /proc to find the calling process")]
    a_change_is_exact_when_its_function_is_killed_after_its_write:
        Fault::on_writes(FaultEffect::KillAfter),
}

/// A change sets only the attributes that it is about. Other versions of the service may have added others.
#[tokio::test]
async fn each_change_keeps_attributes_that_this_version_does_not_know() {
    let proxied = start_without_delays().await;
    let table = &proxied.stack.table;
    for (before, request) in CHANGES {
        let mut pair = pair_after(&proxied, before).await;
        let mut partitions = vec![format!("CHAT#{}", pair.chat_id())];
        partitions.extend(pair.users.iter().map(|user| format!("USER#{}", user.id)));
        let mut keys = Vec::new();
        for pk in partitions {
            for sk in table.partition(&pk).await.into_keys() {
                let value = AttributeValue::S("kept".to_owned());
                table.set(&pk, &sk, "future", value).await;
                keys.push((pk.clone(), sk));
            }
        }
        let (caller, change) = named(request);
        pair.perform(caller, &change).await;
        for (pk, sk) in keys {
            let items = table.partition(&pk).await;
            assert_eq!(
                items[&sk]["future"], "kept",
                "{pk} {sk} after {before}; {request}"
            );
        }
    }
    assert_consistent(&proxied).await;
}
