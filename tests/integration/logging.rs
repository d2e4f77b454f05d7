//! Logging tests: a function writes one line of JSON for each request, with its cost and metrics.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    collect_log_lines,
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack},
    eventually, support,
};

/// Starts a stack with this log level. Returns also the JSON lines that its functions write.
async fn start_with_log_level(level: &str) -> (ProxiedStack, Arc<Mutex<Vec<Value>>>) {
    let mut options = support::stack_options();
    let lines = collect_log_lines(&mut options);
    let level = level.to_owned();
    options.environment.insert("LOG_LEVEL".to_owned(), level);
    (ProxiedStack::start_with(options).await, lines)
}

/// The log line of the nth request. It arrives a moment after the response.
async fn nth_line(lines: &Mutex<Vec<Value>>, n: usize) -> Value {
    let what = format!("{n} requests are logged");
    eventually(&what, async || lines.lock().unwrap().len() >= n).await;
    lines.lock().unwrap()[n - 1].clone()
}

#[tokio::test]
async fn each_request_is_logged_on_one_line_with_its_cost() {
    let (proxied, lines) = start_with_log_level("INFO").await;
    let api = &proxied.stack.api;
    let (ann, ben) = (api.user(), api.user());
    proxied.inject_next([
        Fault::new(
            "TransactWriteItems",
            FaultEffect::cancelled(["TransactionConflict", "None", "None"]),
        ),
        Fault::error("TransactWriteItems", 500, "InternalServerError"),
    ]);
    ann.request_chat(&ben).await.expect_status(201);
    let line = nth_line(&lines, 1).await;
    let expected = json!({
        "level": "INFO", "function": "SendChatRequestFunction", "route": "POST /chats",
        "status": 201, "attempts": 4, "coldStart": true, "stack": "local",
        "Calls": 1, "Retries": 2, "Conflicts": 1, "ReadUnits": 1.0, "WriteUnits": 8.0,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
    assert!(line["durationMs"].as_f64().unwrap() > 0.0);
    assert!(line["requestId"].is_string() && line["_aws"].is_object());
    assert!(line.get("code").is_none() && line.get("Errors").is_none());

    ann.request_chat(&ben).await.expect_status(200);
    let line = nth_line(&lines, 2).await;
    assert_eq!(line["coldStart"], false);
    assert_eq!([&line["attempts"], &line["Retries"]], [1, 0]);

    // An error is logged with its code, the request id of the response, and the route instead of the path.
    let chat = ann.chat_id_with(&ben);
    let rejected = ann.accept(&chat).await;
    rejected.expect_error(403, "not_the_recipient");
    let line = nth_line(&lines, 3).await;
    assert_eq!(line["code"], "not_the_recipient");
    assert_eq!(line["requestId"], rejected.body["requestId"]);
    assert_eq!(line["route"], "PUT /chats/{chatId}/accept");
    assert_eq!(
        [&line["Errors"], &line["ReadUnits"]],
        [&json!(1), &json!(1.0)]
    );
    assert!(!line.to_string().contains(&chat), "{line}");

    // A request that is rejected without the table has no attempts.
    api.request("GET", "/totals")
        .send()
        .await
        .expect_status(401);
    let line = nth_line(&lines, 4).await;
    assert_eq!([&line["attempts"], &line["status"]], [0, 401]);
    assert_eq!(line["reason"], "missing_token");
    assert_eq!(line["RejectedTokens"], 1);
}

#[tokio::test]
async fn a_negative_counter_is_returned_as_0_and_counted_as_an_invariant_violation() {
    let (proxied, lines) = start_with_log_level("ERROR").await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    // The requests above are logged first: a request, an acceptance and a message.
    let before = 3;
    nth_line(&lines, before).await;
    let minus_1 = || AttributeValue::N("-1".to_owned());
    let table = &proxied.stack.table;
    let ben_pk = format!("USER#{}", ben.id);
    let (shard, _) = table.user(ben.id).await.pop_first().unwrap();
    table.set(&ben_pk, &shard, "unread", minus_1()).await;
    for attribute in ["lowUnread", "highUnread"] {
        let pk = format!("CHAT#{chat}");
        table.set(&pk, "STATE", attribute, minus_1()).await;
    }
    let totals = ben.get("/totals").await.expect_status(200);
    assert_eq!(totals.body["totalUnreadMessages"], 0);
    let unread = ben.get("/totals/unread").await.expect_status(200);
    assert_eq!(unread.body["totalUnreadMessages"], 0);
    let chats = ben.get("/chats").await.expect_status(200);
    assert_eq!(chats.body["chats"][0]["unreadCount"], 0);
    ben.messages(&chat, "").await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    nth_line(&lines, before + 5).await;
    let lines = lines.lock().unwrap().split_off(before);
    for line in lines {
        assert_eq!(line["InvariantViolations"], 1, "{line}");
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["requestId"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_cause_of_a_timeout_contains_the_error_that_was_retried() {
    let (proxied, lines) = start_with_log_level("INFO").await;
    let (ann, _, chat) = proxied.stack.api.active_chat().await;
    let before = 2;
    nth_line(&lines, before).await;
    let conflict = Fault::cancelled(&["TransactionConflict", "None", "None"]);
    proxied.inject_always(Some(conflict));
    ann.send(&chat, "hi").await.expect_error(503, "unavailable");
    let line = nth_line(&lines, before + 1).await;
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("ran out of time"), "{line}");
    assert!(
        cause.contains("TransactionCanceledException") || cause.contains("cancel"),
        "{line}"
    );
}

#[tokio::test]
async fn a_request_below_the_log_level_is_logged_with_its_metrics_only() {
    let (proxied, lines) = start_with_log_level("ERROR").await;
    let user = proxied.stack.api.user();
    user.get("/totals").await.expect_status(200);
    let line = nth_line(&lines, 1).await;
    assert_eq!(
        [&line["Calls"], &line["ReadUnits"]],
        [&json!(1), &json!(1.0)]
    );
    for detail in ["requestId", "route", "status", "durationMs"] {
        assert!(line.get(detail).is_none(), "{line}");
    }
    proxied.inject_next([Fault::error("Query", 400, "AccessDeniedException")]);
    user.get("/totals").await.expect_error(500, "internal");
    let line = nth_line(&lines, 2).await;
    assert_eq!([&line["level"], &line["code"]], ["ERROR", "internal"]);
    assert!(
        line["cause"].as_str().unwrap().contains("AccessDenied"),
        "{line}"
    );
}

/// Everything that a stack with these options will write to its log.
fn collect_log(options: &mut chat_local::StackOptions) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let lines = log.clone();
    options.log = Arc::new(move |line| {
        let mut log = lines.lock().unwrap();
        log.push_str(line);
        log.push('\n');
    });
    log
}

#[tokio::test]
async fn the_log_contains_nothing_that_an_edit_or_a_report_says() {
    let mut options = support::stack_options();
    let log = collect_log(&mut options);
    let proxied = ProxiedStack::start_with(options).await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    ann.send(&chat, "a private text").await.expect_status(201);
    let url = "https://private.example/";
    let edit = json!({"text": "another private text", "imageUrl": url});
    ann.edit(&chat, 1, &edit).await.expect_status(200);
    for invalid in [
        json!({"text": "private", "imageUrl": "http://private.example/"}),
        json!({"private": 1}),
        json!({"text": ["private"]}),
    ] {
        ann.edit(&chat, 1, &invalid).await.expect_status(400);
    }
    ben.changes(&chat, "").await.expect_status(200);
    let report = json!({
        "userId": ann.id, "seq": 1, "reason": "self_harm", "note": "a private note", "block": true,
    });
    for status in [201, 200] {
        ben.report(&report).await.expect_status(status);
    }
    ann.delete_message(&chat, 1).await.expect_status(200);
    ann.edit_text(&chat, 1, "a private text")
        .await
        .expect_status(409);
    for invalid in [
        json!({"userId": ann.id, "reason": "private"}),
        json!({"userId": ann.id, "reason": "spam", "note": "private".repeat(200)}),
        json!({"userId": ann.id, "reason": "spam", "private": true}),
        json!({"userId": "private", "reason": "spam"}),
    ] {
        ben.report(&invalid).await.expect_status(400);
    }
    // The cause of a 5xx is logged. Here it is about an item that contains a text.
    let private = json!([{"Code": "ValidationError", "Item": {"text": {"S": "a private text"}}}]);
    proxied.inject_always(Some(Fault::cancelled_with_reasons(private)));
    let other = json!({"userId": ann.id, "reason": "sexual", "note": "a private note"});
    let failed = ben.report(&other).await;
    failed.expect_error(500, "internal");
    let request_id = failed.body["requestId"].as_str().unwrap();
    eventually("the last error is logged", async || {
        log.lock().unwrap().contains(request_id)
    })
    .await;
    let log = log.lock().unwrap().clone();
    for private in ["private", "self_harm", "sexual"] {
        assert!(!log.contains(private), "{private:?} is in the log: {log}");
    }
}

#[tokio::test]
async fn a_request_is_logged_with_its_route_and_without_the_values_of_path_parameters() {
    let (proxied, lines) = start_with_log_level("INFO").await;
    let api = &proxied.stack.api;
    let ann = api.user();
    let ben = api.user_with_id(1_234_567_890_123_456);
    let chat = ann.chat_id_with(&ben);
    let requests = [
        ("GET /chats/{chatId}", ann.get_chat(&chat).await),
        (
            "PATCH /chats/{chatId}/messages/{seq}",
            ann.edit_text(&chat, 987_654_321, "hi").await,
        ),
        (
            "DELETE /chats/{chatId}/messages/{seq}",
            ann.delete_message(&chat, 987_654_321).await,
        ),
        (
            "GET /chats/{chatId}/changes",
            ann.changes(&chat, "?after=987654321").await,
        ),
        ("PUT /chats/{chatId}/withdraw", ann.withdraw(&chat).await),
        ("PUT /blocks/{userId}", ann.block(&ben).await),
        ("DELETE /blocks/{userId}", ann.unblock(&ben).await),
        ("GET /blocks", ann.blocks("").await),
        (
            "POST /reports",
            ann.report(&json!({"userId": ben.id, "reason": "spam"}))
                .await,
        ),
    ];
    for (n, (route, response)) in requests.iter().enumerate() {
        let line = nth_line(&lines, n + 1).await;
        assert_eq!(line["route"], *route);
        assert_eq!(line["status"], response.status);
        for parameter in [chat.as_str(), "1234567890123456", "987654321"] {
            assert!(!line.to_string().contains(parameter), "{line}");
        }
    }
    // Units of an update that is no transaction are logged, too.
    let block = nth_line(&lines, 6).await;
    assert_eq!(block["WriteUnits"], 2.0);
    let report = nth_line(&lines, requests.len()).await;
    assert_eq!(report["WriteUnits"], 3.0);
}
