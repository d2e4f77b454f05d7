//! Each function may do at the table exactly what it does: its role in the template against what the
//! recorder sees it ask for. That nothing is missing holds in every test with a recorder, as it
//! refuses what a role does not allow; that nothing is unused needs each way through each function.

use std::collections::{BTreeMap, BTreeSet};

use chat_local::template::{Grant, Template, default_path};
use serde_json::json;

use crate::{
    options_with_template,
    recorder::{Fate, Fault, Recorded},
};

type Grants = BTreeMap<String, BTreeSet<Grant>>;

fn granted(template: &str) -> Grants {
    let functions = Template::parse(template).unwrap().functions.into_iter();
    functions.map(|it| (it.binary, it.grants)).collect()
}

/// What is allowed and not used, and what is used and not allowed.
fn differences(granted: &Grants, used: &Grants) -> Vec<String> {
    let pairs = |of: &Grants| -> BTreeSet<(String, Grant)> {
        let each = of.iter().flat_map(|(function, grants)| {
            grants.iter().map(|grant| (function.clone(), grant.clone()))
        });
        each.collect()
    };
    let (granted, used) = (pairs(granted), pairs(used));
    let tell = |says: &str, (function, grant): &(String, Grant)| {
        let on = grant.index.as_deref().unwrap_or("the table");
        format!("{function} {says} {} on {on}", grant.action)
    };
    let unused = granted.difference(&used).map(|it| tell("never uses", it));
    let missing = used.difference(&granted).map(|it| tell("lacks", it));
    unused.chain(missing).collect()
}

/// Takes each function through all that it does at the table, and returns what it asked for.
async fn used(recorded: &Recorded) -> Grants {
    let api = &recorded.local.api;
    let (ann, ben, cat) = (api.user(), api.user(), api.user());
    recorded.cost();
    // Asked, asked again, declined, asked the other way round, accepted by asking, and refused.
    ann.ask(&ben).await.is(201);
    ann.ask(&ben).await.is(200);
    let chat = ann.chat_with(&ben);
    ben.decline(&chat).await.is(200);
    ben.decline(&chat).await.is(200);
    ann.ask(&ben).await.is(409);
    ben.ask(&ann).await.is(200);
    ben.accept(&chat).await.is(403);
    ann.ask(&ben).await.is(200);
    ben.decline(&chat).await.is(409);
    cat.ask(&ann).await.is(201);
    let other = cat.chat_with(&ann);
    ann.accept(&other).await.is(200);
    ann.accept(&other).await.is(200);
    for path in ["/chats", "/chats/pending", "/chats/rejected"] {
        for query in ["", "?skip=1", "?direction=received"] {
            ann.get(&format!("{path}{query}")).await.is(200);
        }
    }
    // A message, one with a key and its replay, one whose number was taken, one under contention.
    ann.say(&chat, "one").await.is(201);
    ann.say_once(&chat, "key", "two").await.is(201);
    ann.say_once(&chat, "key", "two").await.is(200);
    ann.say_once(&chat, "key", "other").await.is(422);
    let (first, second) = tokio::join!(ann.say(&chat, "three"), ben.say(&chat, "four"));
    assert_eq!([first.status, second.status], [201, 201]);
    let conflict = Fate::cancelled(["TransactionConflict", "None", "None"]);
    recorded.next_calls_meet([Fault::new("TransactWriteItems", conflict)]);
    ann.say(&chat, "five").await.is(201);
    for query in ["", "?skip=2", "?before=3", "?after=1", "?limit=2"] {
        ann.messages(&chat, query).await.is(200);
    }
    ben.mark_read(&chat).await.is(200);
    ben.mark_read(&chat).await.is(200);
    ann.get("/totals").await.is(200);
    ann.get("/totals/unread").await.is(200);

    let mut used = Grants::new();
    for operation in recorded.cost().operations {
        let function = operation.function.expect("a function asked");
        used.entry(function).or_default().extend(operation.needs);
    }
    used
}

#[tokio::test]
async fn each_function_may_do_what_it_does_and_nothing_else() {
    let recorded = Recorded::start().await;
    let template = std::fs::read_to_string(default_path()).unwrap();
    let used = used(&recorded).await;
    assert_eq!(differences(&granted(&template), &used), [""; 0]);

    // The comparison itself: an action more, an action less, and an index more are seen.
    let only = |from: &str, to: &str| {
        assert!(template.contains(from), "{from}");
        differences(&granted(&template.replacen(from, to, 1)), &used)
    };
    assert_eq!(
        only(
            "[dynamodb:GetItem, dynamodb:Query]",
            "[dynamodb:GetItem, dynamodb:Query, dynamodb:Scan]"
        ),
        ["list-messages never uses dynamodb:Scan on the table"]
    );
    assert_eq!(
        only(
            "[dynamodb:GetItem, dynamodb:UpdateItem]",
            "[dynamodb:GetItem]"
        ),
        ["mark-messages-read lacks dynamodb:UpdateItem on the table"]
    );
    assert_eq!(
        only(
            "Action: [dynamodb:Query]\n              Resource: !GetAtt ChatTable.Arn",
            "Action: [dynamodb:Query]\n              Resource: [!GetAtt ChatTable.Arn, !Sub \"${ChatTable.Arn}/index/byRequester\"]"
        ),
        ["get-totals never uses dynamodb:Query on byRequester"]
    );
}

#[tokio::test]
async fn what_a_role_does_not_allow_fails_in_every_test_with_a_recorder() {
    let options = options_with_template(
        "Action: [dynamodb:GetItem, dynamodb:UpdateItem]",
        "Action: [dynamodb:GetItem]",
    );
    let recorded = Recorded::start_with(options).await;
    let (ann, ben, chat) = recorded.local.api.friends().await;
    ann.say(&chat, "hi").await.is(201);
    ben.mark_read(&chat).await.is_refusal(500, "internal");
    assert_eq!(
        ben.get("/totals").await.body["totalUnreadMessages"],
        json!(1)
    );
}
