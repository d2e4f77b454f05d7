//! When DynamoDB is gone, or none of its answers arrive: what a caller is told, what has happened, and
//! what the repeated call is told.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    invariants::broken,
    recorder::{Fate, Fault, Recorded, error},
    retries::impatient,
    support::{Answer, User},
};

/// Chats in each state, so that each function has something to do.
struct Town {
    recorded: Recorded,
    ann: User,
    ben: User,
    cem: User,
    dan: User,
    eve: User,
    fay: User,
}

impl Town {
    async fn new() -> Self {
        let recorded = impatient().await;
        let api = &recorded.local.api;
        let [ann, ben, cem, dan, eve, fay] = [(); 6].map(|()| api.user());
        let chat = ann.befriend(&ben).await;
        ann.say(&chat, "hello").await.is(201);
        cem.ask(&ann).await.is(201);
        dan.ask(&ann).await.is(201);
        eve.ask(&ann).await.is(201);
        ann.decline(&ann.chat_with(&eve)).await.is(200);
        Self {
            recorded,
            ann,
            ben,
            cem,
            dan,
            eve,
            fay,
        }
    }

    /// One call for each way in which something changes, all at once.
    async fn change(&self) -> BTreeMap<&'static str, Answer> {
        let Self {
            ann,
            ben,
            cem,
            dan,
            eve,
            fay,
            ..
        } = self;
        let (with_ben, with_cem) = (ann.chat_with(ben), ann.chat_with(cem));
        let with_dan = ann.chat_with(dan);
        let (ask, ask_again, accept, decline, send, mark) = tokio::join!(
            ben.ask(fay),
            ann.ask(eve),
            ann.accept(&with_cem),
            ann.decline(&with_dan),
            ann.say_once(&with_ben, "key", "are you there?"),
            ben.mark_read(&with_ben),
        );
        BTreeMap::from([
            ("ask", ask),
            ("ask again", ask_again),
            ("accept", accept),
            ("decline", decline),
            ("send", send),
            ("mark", mark),
        ])
    }

    /// One call of each function that only reads, all at once.
    async fn read(&self) -> [Answer; 6] {
        let chat = self.ann.chat_with(&self.ben);
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
}

fn assert_unavailable(answer: &Answer) {
    answer.is_refusal(503, "unavailable");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

#[tokio::test]
async fn when_no_call_reaches_the_table_all_are_503_and_nothing_changes() {
    let town = Town::new().await;
    let before = town.recorded.local.table.everything().await;
    for fate in [
        Fate::Answer(500, error("InternalServerError")),
        Fate::Answer(503, error("ServiceUnavailable")),
        Fate::Answer(400, error("ThrottlingException")),
        Fate::Answer(400, error("ProvisionedThroughputExceededException")),
        Fate::Answer(400, error("RequestLimitExceeded")),
        Fate::DropBefore,
        Fate::Silence,
    ] {
        town.recorded.every_call_meets(Some(Fault::of_all(fate)));
        town.change().await.values().for_each(assert_unavailable);
        town.read().await.iter().for_each(assert_unavailable);
        assert_eq!(town.recorded.local.table.everything().await, before);
    }
}

#[tokio::test]
async fn when_no_transaction_goes_through_changes_are_503_and_reads_go_on() {
    let town = Town::new().await;
    let before = town.recorded.local.table.everything().await;
    // However many parts a transaction has, these are its reasons.
    for code in [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ] {
        let fault = Fault::cancelled(&["None", code, "None"]);
        town.recorded.every_call_meets(Some(fault));
        town.change().await.values().for_each(assert_unavailable);
        for answer in town.read().await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(town.recorded.local.table.everything().await, before);
    }
}

#[tokio::test]
async fn a_function_killed_before_its_change_took_effect_has_changed_nothing() {
    let town = Town::new().await;
    let before = town.recorded.local.table.everything().await;
    town.recorded
        .every_call_meets(Some(Fault::of_all(Fate::KillBefore)));
    for answer in town.change().await.into_values().chain(town.read().await) {
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(answer.body, json!({"message": "Internal Server Error"}));
    }
    assert_eq!(town.recorded.local.table.everything().await, before);
}

#[tokio::test]
async fn when_every_answer_is_lost_the_change_happened_once_and_repeating_it_tells_so() {
    for fate in [Fate::DropAfter, Fate::LostAnswer, Fate::KillAfter] {
        let town = Town::new().await;
        town.recorded
            .every_call_meets(Some(Fault::new("TransactWriteItems", fate.clone())));
        for answer in town.change().await.into_values() {
            match fate {
                Fate::KillAfter => assert_eq!(answer.status, 500, "{answer:?}"),
                _ => assert_unavailable(&answer),
            }
        }
        town.recorded.quiet().await;
        assert_eq!(
            broken(&town.recorded.local.table).await,
            [""; 0],
            "{fate:?}"
        );
        town.recorded.every_call_meets(None);

        let again = town.change().await;
        let told = |name: &str| (again[name].status, again[name].body["status"].as_str());
        assert_eq!(told("ask"), (200, Some("pending")), "{fate:?}");
        assert_eq!(told("ask again"), (200, Some("pending")));
        assert_eq!(told("accept"), (200, Some("active")));
        assert_eq!(told("decline"), (200, Some("declined")));
        assert_eq!(again["send"].status, 200);
        assert_eq!(again["send"].header("idempotent-replayed"), Some("true"));
        assert_eq!(again["send"].body["seq"], 2);
        assert_eq!(told("mark").0, 200);

        let chat = town.ann.chat_with(&town.ben);
        assert_eq!(town.ben.messages(&chat, "").await.seqs(), [2, 1]);
        // One request of Ben's own; all read. One to Eve of Ann's own.
        assert_eq!(town.ben.totals().await, [0, 0, 1]);
        assert_eq!(town.ann.totals().await, [0, 0, 1]);
        assert_eq!(town.cem.totals().await, [0, 0, 0]);
        assert_eq!(town.dan.totals().await, [0, 0, 0]);
        assert_eq!(broken(&town.recorded.local.table).await, [""; 0]);
    }
}

#[tokio::test]
async fn when_every_answer_of_any_call_is_lost_nothing_is_half_done() {
    let town = Town::new().await;
    for fate in [Fate::DropAfter, Fate::LostAnswer] {
        town.recorded.every_call_meets(Some(Fault::of_all(fate)));
        town.change().await.values().for_each(assert_unavailable);
        town.read().await.iter().for_each(assert_unavailable);
        town.recorded.quiet().await;
        assert_eq!(broken(&town.recorded.local.table).await, [""; 0]);
    }
    town.recorded.every_call_meets(None);
    for (name, answer) in town.change().await {
        let status = if name == "send" { 201 } else { 200 };
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
    assert_eq!(broken(&town.recorded.local.table).await, [""; 0]);
}
