//! What the functions write: one line of JSON a call.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{
    recorder::{Fate, Fault, Recorded},
    support,
};

/// A stack, and all that its functions have written.
async fn listened_to(level: &str) -> (Recorded, Arc<Mutex<Vec<Value>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut options = support::options();
    let level = level.to_owned();
    options.environment.insert("LOG_LEVEL".to_owned(), level);
    options.log = Arc::new({
        let lines = lines.clone();
        move |line| {
            // The gateway's own line is no JSON.
            let written = line.split_once(": ").map(|(_, line)| line);
            let written = written.and_then(|line| serde_json::from_str::<Value>(line).ok());
            lines.lock().unwrap().extend(written);
        }
    });
    (Recorded::start_with(options).await, lines)
}

/// The line of the last call: it is there a moment after the answer.
async fn last(lines: &Mutex<Vec<Value>>, calls: usize) -> Value {
    while lines.lock().unwrap().len() < calls {
        tokio::task::yield_now().await;
    }
    lines.lock().unwrap()[calls - 1].clone()
}

#[tokio::test]
async fn each_call_is_one_line_that_says_what_it_took() {
    let (recorded, lines) = listened_to("INFO").await;
    let api = &recorded.local.api;
    let (ann, ben) = (api.user(), api.user());
    // One repetition of ours, and one that the SDK makes.
    recorded.next_calls_meet([
        Fault::new(
            "TransactWriteItems",
            Fate::cancelled(["TransactionConflict", "None", "None"]),
        ),
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
    ]);
    ann.ask(&ben).await.is(201);
    let line = last(&lines, 1).await;
    let expected = json!({
        "level": "INFO", "function": "SendChatRequestFunction", "route": "POST /chats",
        "status": 201, "attempts": 3, "coldStart": true, "stack": "local",
        "Calls": 1, "Retries": 2, "Conflicts": 1, "ReadUnits": 0.0, "WriteUnits": 8.0,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
    assert!(line["durationMs"].as_f64().unwrap() > 0.0);
    assert!(line["requestId"].is_string() && line["_aws"].is_object());
    assert!(line.get("code").is_none() && line.get("Errors").is_none());

    ann.ask(&ben).await.is(200);
    let line = last(&lines, 2).await;
    assert_eq!(line["coldStart"], false);
    assert_eq!([&line["attempts"], &line["Retries"]], [1, 0]);

    // A refusal has its code, the caller's request id, and the route instead of the path.
    let chat = ann.chat_with(&ben);
    let refused = ann.accept(&chat).await;
    refused.is_refusal(403, "not_the_recipient");
    let line = last(&lines, 3).await;
    assert_eq!(line["code"], "not_the_recipient");
    assert_eq!(line["requestId"], refused.body["requestId"]);
    assert_eq!(line["route"], "PUT /chats/{chatId}/accept");
    assert_eq!(
        [&line["Errors"], &line["ReadUnits"]],
        [&json!(1), &json!(1.0)]
    );
    assert!(!line.to_string().contains(&chat), "{line}");

    // What is refused before the table is asked has cost nothing.
    api.request("GET", "/totals").send().await.is(401);
    let line = last(&lines, 4).await;
    assert_eq!([&line["attempts"], &line["status"]], [0, 401]);
}

#[tokio::test]
async fn above_the_level_only_metrics_are_written() {
    let (recorded, lines) = listened_to("ERROR").await;
    let user = recorded.local.api.user();
    user.get("/totals").await.is(200);
    let line = last(&lines, 1).await;
    assert_eq!(
        [&line["Calls"], &line["ReadUnits"]],
        [&json!(1), &json!(1.0)]
    );
    for detail in ["requestId", "route", "status", "durationMs"] {
        assert!(line.get(detail).is_none(), "{line}");
    }
    recorded.next_calls_meet([Fault::error("Query", 400, "AccessDeniedException")]);
    user.get("/totals").await.is_refusal(500, "internal");
    let line = last(&lines, 2).await;
    assert_eq!([&line["level"], &line["code"]], ["ERROR", "internal"]);
    assert!(
        line["cause"].as_str().unwrap().contains("AccessDenied"),
        "{line}"
    );
}
