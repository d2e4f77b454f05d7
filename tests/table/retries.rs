//! When DynamoDB is busy: what is tried again, and what a caller is told when time runs out.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    invariants::broken,
    options_with_template,
    recorder::{Fate, Fault, Recorded},
    support::User,
};

/// A stack whose functions have two seconds a call.
pub async fn impatient() -> Recorded {
    let options = options_with_template("Timeout: !Ref FunctionTimeout\n", "Timeout: 2\n");
    Recorded::start_with(options).await
}

async fn friends(recorded: &Recorded) -> (User, User, String) {
    recorded.local.api.friends().await
}

fn conflict() -> Fault {
    Fault::cancelled(&["TransactionConflict", "None", "None"])
}

#[tokio::test]
async fn a_conflict_or_a_throttle_is_tried_again_with_the_same_token() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    recorded.cost();
    recorded.next_calls_meet([
        conflict(),
        Fault::cancelled(&["None", "ThrottlingError", "ProvisionedThroughputExceeded"]),
        Fault::error("TransactWriteItems", 400, "TransactionInProgressException"),
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
    ]);
    ann.say(&chat, "hi").await.is(201);
    let cost = recorded.cost();
    let transactions = cost
        .operations
        .iter()
        .filter(|it| it.name == "TransactWriteItems");
    let tokens: Vec<_> = transactions.map(|it| it.token.clone().unwrap()).collect();
    assert_eq!(tokens.len(), 5, "{cost:?}");
    assert_eq!(
        tokens.iter().collect::<BTreeSet<_>>().len(),
        1,
        "{tokens:?}"
    );
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_counts_once() {
    let recorded = Recorded::start().await;
    let api = &recorded.local.api;
    let (ann, ben) = (api.user(), api.user());
    let chat = ann.chat_with(&ben);
    let lose_the_answer =
        || recorded.next_calls_meet([Fault::new("TransactWriteItems", Fate::LostAnswer)]);
    lose_the_answer();
    ann.ask(&ben).await.is(201);
    assert_eq!(ben.totals().await, [1, 0, 0]);
    lose_the_answer();
    ben.accept(&chat).await.is(200);
    lose_the_answer();
    assert_eq!(ann.say(&chat, "hi").await.is(201).body["seq"], 1);
    lose_the_answer();
    assert_eq!(
        ann.say_once(&chat, "key", "hi").await.is(201).body["seq"],
        2
    );
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
    assert_eq!(ben.totals().await, [0, 2, 0]);
    lose_the_answer();
    ben.mark_read(&chat).await.is(200);
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
}

#[tokio::test]
async fn a_plan_that_was_overtaken_is_made_again_under_a_new_token() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    recorded.cost();
    // Ann's message is on its way to the first place when Ben's takes it.
    recorded.next_calls_meet([Fault::new("TransactWriteItems", Fate::Hold)]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say(&chat, "a").await }
    });
    recorded.stopped().await;
    assert_eq!(ben.say(&chat, "b").await.is(201).body["seq"], 1);
    recorded.release();
    assert_eq!(first.await.unwrap().is(201).body["seq"], 2);
    let cost = recorded.cost();
    let transactions = cost
        .operations
        .iter()
        .filter(|it| it.name == "TransactWriteItems");
    let tokens: Vec<_> = transactions.map(|it| it.token.clone().unwrap()).collect();
    assert_eq!(tokens.len(), 3, "{cost:?}");
    assert_eq!(
        tokens.iter().collect::<BTreeSet<_>>().len(),
        3,
        "{tokens:?}"
    );
    assert_eq!(
        cost.operations
            .iter()
            .filter(|it| it.name == "GetItem")
            .count(),
        2,
        "{cost:?}"
    );
}

#[tokio::test]
async fn while_the_chat_is_in_conflict_no_other_condition_decides() {
    let recorded = Recorded::start().await;
    let api = &recorded.local.api;
    let (ann, ben) = (api.user(), api.user());
    // Half of another transaction is done: it has counted a request, and still holds the chat.
    recorded.next_calls_meet([Fault::cancelled(&[
        "TransactionConflict",
        "ConditionalCheckFailed",
        "None",
    ])]);
    ann.ask(&ben).await.is(201);
    assert_eq!(ann.totals().await, [0, 0, 1]);
}

/// A message that can be read only half a second after the rest of its transaction.
fn half_readable() -> Fault {
    Fault::new("TransactWriteItems", Fate::Torn(Duration::from_millis(500)))
}

#[tokio::test]
async fn a_page_waits_for_a_message_that_is_not_readable_yet() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    recorded.next_calls_meet([half_readable()]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say(&chat, "one").await.status }
    });
    // The second is there first, as others see it.
    while ben.totals().await != [0, 1, 0] {}
    assert_eq!(ben.say(&chat, "two").await.is(201).body["seq"], 2);
    let (newest, after, before, skip) = tokio::join!(
        ann.messages(&chat, ""),
        ann.messages(&chat, "?after=0"),
        ann.messages(&chat, "?before=2"),
        ann.messages(&chat, "?skip=1"),
    );
    assert_eq!(newest.seqs(), [2, 1]);
    assert_eq!(after.seqs(), [1, 2]);
    assert_eq!(before.seqs(), [1]);
    assert_eq!(skip.seqs(), [1]);
    assert_eq!(first.await.unwrap(), 201);
}

#[tokio::test]
async fn a_replay_waits_for_its_message_to_become_readable() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    recorded.next_calls_meet([half_readable()]);
    let first = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say_once(&chat, "key", "hi").await.status }
    });
    while ben.totals().await != [0, 1, 0] {}
    let again = ann.say_once(&chat, "key", "hi").await.is(200);
    assert_eq!(again.body["seq"], 1);
    assert_eq!(first.await.unwrap(), 201);
}

#[tokio::test]
async fn a_message_that_somebody_deleted_is_a_gap_and_no_error() {
    let recorded = Recorded::start().await;
    let (ann, _, chat) = friends(&recorded).await;
    for text in ["one", "two", "three"] {
        ann.say(&chat, text).await.is(201);
    }
    let pk = format!("CHAT#{chat}");
    recorded
        .local
        .table
        .delete(&pk, "MSG#0000000000000002")
        .await;
    assert_eq!(ann.messages(&chat, "").await.is(200).seqs(), [3, 1]);
    // Long after the chat's last change nobody waits for it.
    recorded
        .local
        .table
        .set(&pk, "STATE", "updatedAt", AttributeValue::N("1".to_owned()))
        .await;
    recorded.cost();
    assert_eq!(ann.messages(&chat, "?after=0").await.is(200).seqs(), [1, 3]);
    assert_eq!(recorded.cost().round_trips(), 1);
}

#[tokio::test]
async fn a_late_mark_does_not_take_back_what_another_device_marked() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    let two_messages = async || {
        ann.say(&chat, "one").await.is(201);
        ann.say(&chat, "two").await.is(201);
    };
    two_messages().await;
    // One device has read that two are unread. Before it writes, another device marks them, and as
    // many arrive: the count alone looks as it did.
    recorded.next_calls_meet([Fault::new("TransactWriteItems", Fate::Hold)]);
    let late = tokio::spawn({
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.status }
    });
    recorded.stopped().await;
    ben.mark_read(&chat).await.is(200);
    two_messages().await;
    recorded.release();
    assert_eq!(late.await.unwrap(), 200);
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
    let view = ben.view(&chat).await;
    assert_eq!([&view["readSeq"], &view["unreadCount"]], [4, 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_mark_takes_what_the_reader_wrote_meanwhile() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = friends(&recorded).await;
    ann.say(&chat, "one").await.is(201);
    recorded.next_calls_meet([Fault::new("TransactWriteItems", Fate::Hold)]);
    let mark = tokio::spawn({
        let (ben, chat) = (ben.clone(), chat.clone());
        async move { ben.mark_read(&chat).await.status }
    });
    recorded.stopped().await;
    ben.say(&chat, "two").await.is(201);
    recorded.release();
    assert_eq!(mark.await.unwrap(), 200);
    // It happened after the second message, so the watermark is there.
    assert_eq!(ben.view(&chat).await["readSeq"], 2);
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
}

#[tokio::test]
async fn contention_that_outlasts_the_time_is_503_and_nothing_happened() {
    let recorded = impatient().await;
    let (ann, ben, chat) = friends(&recorded).await;
    let before = recorded.local.table.chat(&chat).await;
    for fault in [
        conflict(),
        Fault::error(
            "TransactWriteItems",
            400,
            "ProvisionedThroughputExceededException",
        ),
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
        Fault::error("GetItem", 400, "ThrottlingException"),
    ] {
        recorded.every_call_meets(Some(fault));
        let answer = ann.say_once(&chat, "key", "hi").await;
        answer.is_refusal(503, "unavailable");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 0);
        recorded.every_call_meets(None);
        assert_eq!(recorded.local.table.chat(&chat).await, before);
        assert_eq!(ben.totals().await, [0, 0, 0]);
    }
    ann.say_once(&chat, "key", "hi").await.is(201);
}

#[tokio::test]
async fn what_no_repetition_mends_is_500_at_once() {
    let recorded = Recorded::start().await;
    let (ann, _, chat) = friends(&recorded).await;
    for fault in [
        Fault::error("TransactWriteItems", 400, "AccessDeniedException"),
        Fault::error("TransactWriteItems", 400, "ValidationException"),
        Fault::cancelled(&["ValidationError", "None", "None"]),
        Fault::cancelled(&[
            "ItemCollectionSizeLimitExceeded",
            "TransactionConflict",
            "None",
        ]),
    ] {
        recorded.cost();
        recorded.next_calls_meet([fault]);
        ann.say(&chat, "hi").await.is_refusal(500, "internal");
        let cost = recorded.cost();
        assert_eq!(cost.operations.len(), 2, "{cost:?}");
    }
}
