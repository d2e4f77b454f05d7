//! The functions' processes: what callers see when they die, and what they may write to the log.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::{
    Local,
    recorder::{Fate, Fault, Recorded},
    support::{self, all, tokens},
};

#[tokio::test]
async fn a_dead_instance_is_replaced_and_nothing_hangs() {
    let local = Local::start().await;
    let user = local.api.user();
    user.get("/totals").await.is(200);
    let first = kill_the_one(&local, "get-totals").await;
    // The caller that meets the dying instance may see a 500; the next one sees none.
    let met = user.get("/totals").await;
    assert!([200, 500].contains(&met.status), "{met:?}");
    if met.status == 500 {
        assert_eq!(met.body, json!({"message": "Internal Server Error"}));
    }
    user.get("/totals").await.is(200);
    assert_ne!(local.stack.instances("get-totals"), [first]);
}

#[tokio::test]
async fn a_function_is_connected_before_its_first_call() {
    let recorded = Recorded::start().await;
    let user = recorded.local.api.user();
    for (path, connections) in [("/totals", 1), ("/chats", 2)] {
        let before = recorded.health_checks().len();
        recorded.cost();
        user.get(path).await.is(200);
        let opened = recorded.health_checks().split_off(before);
        assert_eq!(opened.len(), connections, "{path}");
        let operations = recorded.cost().operations;
        assert_eq!(operations.len(), connections, "{path}");
        for operation in operations {
            assert!(opened.contains(&operation.connection), "{path}");
        }
    }
}

/// Kills the only instance of a function, and returns its process id.
async fn kill_the_one(local: &Local, function: &str) -> u32 {
    let [process] = local.stack.instances(function)[..] else {
        panic!("there is one instance of {function}")
    };
    let kill = tokio::process::Command::new("kill")
        .args(["-9", &process.to_string()])
        .status()
        .await;
    assert!(kill.unwrap().success());
    process
}

#[tokio::test]
async fn a_process_killed_in_the_middle_of_a_call_is_500_at_once() {
    let recorded = Recorded::start().await;
    let (ann, ben, chat) = recorded.local.api.friends().await;
    recorded.next_calls_meet([Fault::new("TransactWriteItems", Fate::Silence)]);
    let call = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.say_once(&chat, "key", "hi").await }
    });
    recorded.stopped().await;
    kill_the_one(&recorded.local, "send-message").await;
    let killed = call.await.unwrap().is(500);
    assert_eq!(killed.body, json!({"message": "Internal Server Error"}));
    // The caller repeats the call with its key.
    ann.say_once(&chat, "key", "hi").await.is(201);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn calls_at_once_are_answered_by_several_instances_that_stay_warm() {
    let local = Local::start().await;
    let calls = (0..20).map(|_| {
        let user = local.api.user();
        async move { user.get("/totals").await.status }
    });
    assert_eq!(all(calls).await, [200; 20]);
    let warm = local.stack.instances("get-totals");
    assert!(!warm.is_empty());
    local.api.user().get("/totals").await.is(200);
    assert_eq!(local.stack.instances("get-totals").len(), warm.len());
}

#[tokio::test]
async fn a_stack_that_stops_leaves_no_process_behind() {
    let local = Local::start().await;
    local.api.user().get("/totals").await.is(200);
    let pids = local.stack.instances("get-totals");
    local.stack.stop().await;
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} lives on"
        );
    }
}

#[tokio::test]
async fn no_secret_token_or_text_reaches_the_log() {
    let log = Arc::new(Mutex::new(String::new()));
    let mut options = support::options();
    let lines = log.clone();
    options.log = Arc::new(move |line| {
        let mut log = lines.lock().unwrap();
        log.push_str(line);
        log.push('\n');
    });
    let local = Local::start_with(options).await;
    let (ann, ben, chat) = local.api.friends().await;
    ann.say_once(&chat, "key", "a private text").await.is(201);
    ann.say_once(&chat, "key", "another private text")
        .await
        .is(422);
    ann.post(
        &format!("/chats/{chat}/messages"),
        &json!({"text": 1, "private": 2}),
    )
    .await
    .is(400);
    ben.messages(&chat, "").await.is(200);
    // A 5xx writes its cause: break what a call relies on.
    let pk = format!("CHAT#{chat}");
    let broken = aws_sdk_dynamodb::types::AttributeValue::S("broken".to_owned());
    local.table.set(&pk, "STATE", "status", broken).await;
    let failed = ann.say(&chat, "a third private text").await;
    failed.is_refusal(500, "internal");
    let request_id = failed.body["requestId"].as_str().unwrap();

    let log = log.lock().unwrap().clone();
    assert!(
        log.contains(request_id),
        "the cause is logged under the request's id: {log}"
    );
    assert!(log.contains("status broken"), "{log}");
    assert!(!failed.body["message"].as_str().unwrap().contains("broken"));
    let secret = support::secret();
    for private in [
        "private",
        secret.as_str(),
        ann.token.as_str(),
        ben.token.as_str(),
    ] {
        assert!(!log.contains(private), "{private:?} is in the log: {log}");
    }
}

#[tokio::test]
async fn what_users_wrote_is_not_in_the_cause_of_a_failure_either() {
    let log = Arc::new(Mutex::new(String::new()));
    let mut options = support::options();
    let lines = log.clone();
    options.log = Arc::new(move |line| lines.lock().unwrap().push_str(line));
    let recorded = Recorded::start_with(options).await;
    let (ann, _, chat) = recorded.local.api.friends().await;
    // Answers that the SDK cannot read, or that refuse for a reason unknown.
    let private = json!({"text": {"S": "a private text"}});
    for fault in [
        Fault::answer("GetItem", 200, json!({"Item": "a private text"})),
        Fault::cancelled_for(json!([{"Code": "ValidationError", "Item": private}])),
    ] {
        recorded.every_call_meets(Some(fault));
        let answer = ann.say(&chat, "a private text").await;
        assert!(answer.status >= 500, "{answer:?}");
        assert!(!answer.body.to_string().contains("private"), "{answer:?}");
        let request_id = answer.body["requestId"].as_str().unwrap();
        let log = log.lock().unwrap();
        assert!(log.contains(request_id), "{log}");
        assert!(!log.contains("private"), "{log}");
    }
}

#[tokio::test]
async fn an_event_with_a_strange_header_or_query_is_answered_as_any_other() {
    let local = Local::start().await;
    for (header, query) in [
        ("caf\u{e9}\u{7f}\u{1}", "limit=5"),
        ("x", "limit=5&a=<\">{}|\\^`"),
        ("x", "limit=5&\u{1f600} %zz=%"),
    ] {
        let event = json!({
            "version": "2.0", "routeKey": "GET /chats", "rawPath": "/chats",
            "rawQueryString": query,
            "headers": {"authorization": format!("Bearer {}", tokens::valid(42)), "x-a": header},
            "isBase64Encoded": false,
        });
        let reply = local
            .stack
            .invoke("list-active-chats", event)
            .await
            .unwrap();
        assert_eq!(reply["statusCode"], 200, "{reply}");
    }
}
