//! Function processes: their replacement, private data in their logs, and events that no client of the
//! gateway can send.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    TestStack,
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack, error_body},
    eventually,
    support::{self, run_concurrently, tokens},
};

fn pid(process: u32) -> Pid {
    Pid::from_raw(i32::try_from(process).unwrap())
}

/// Kills the only instance of a function. Returns its process id.
fn kill_only_instance(stack: &TestStack, function: &str) -> u32 {
    let [process] = stack.stack.instance_pids(function)[..] else {
        panic!("there is not exactly one instance of {function}")
    };
    kill(pid(process), Signal::SIGKILL).unwrap();
    process
}

#[tokio::test]
async fn an_instance_that_exits_is_replaced_at_the_next_request() {
    let stack = TestStack::start().await;
    let user = stack.api.user();
    user.get("/totals").await.expect_status(200);
    let killed = kill_only_instance(&stack, "get-totals");
    // Until the exit is noticed, the killed process may still get a request. Its client must get a response.
    let response = user.get("/totals").await;
    if response.status != 200 {
        assert_eq!(response.status, 500);
        assert_eq!(response.body, json!({"message": "Internal Server Error"}));
    }
    eventually("the killed process is not an instance", async || {
        !stack.stack.instance_pids("get-totals").contains(&killed)
    })
    .await;
    user.get("/totals").await.expect_status(200);
    let instances = stack.stack.instance_pids("get-totals");
    assert_eq!(instances.len(), 1, "{instances:?}");
    assert_ne!(instances, [killed]);
}

#[tokio::test]
async fn a_function_that_is_killed_during_a_request_is_500_at_once() {
    let proxied = ProxiedStack::start().await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    proxied.inject_next([Fault::new("TransactWriteItems", FaultEffect::NeverRespond)]);
    let request = tokio::spawn({
        let (ann, chat) = (ann.clone(), chat.clone());
        async move { ann.send_with_key(&chat, "key", "hi").await }
    });
    proxied.wait_until_blocked().await;
    kill_only_instance(&proxied.stack, "send-message");
    let response = request.await.unwrap().expect_status(500);
    assert_eq!(response.body, json!({"message": "Internal Server Error"}));
    // The client retries the request with its key.
    ann.send_with_key(&chat, "key", "hi")
        .await
        .expect_status(201);
    assert_eq!(ben.totals().await, [0, 1, 0]);
}

#[tokio::test]
async fn a_function_opens_its_connections_before_the_first_request() {
    let proxied = ProxiedStack::start().await;
    let user = proxied.stack.api.user();
    let other = proxied.stack.api.user();
    let messages = format!("/chats/{}/messages?after=0", user.start_chat(&other).await);
    for (path, connections) in [
        ("/totals", 1),
        ("/chats", 2),
        ("/blocks", 2),
        (&messages, 2),
    ] {
        let before = proxied.health_checks().len();
        proxied.drain_cost();
        user.get(path).await.expect_status(200);
        let opened = proxied.health_checks().split_off(before);
        assert_eq!(opened.len(), connections, "{path}");
        let operations = proxied.drain_cost().operations;
        assert_eq!(operations.len(), connections, "{path}");
        for operation in operations {
            assert!(opened.contains(&operation.connection), "{path}");
        }
    }
}

#[tokio::test]
async fn concurrent_requests_start_instances_that_later_requests_use() {
    let stack = TestStack::start().await;
    let requests = (0..20).map(|_| {
        let user = stack.api.user();
        async move { user.get("/totals").await.status }
    });
    assert_eq!(run_concurrently(requests).await, [200; 20]);
    let warm = stack.stack.instance_pids("get-totals");
    assert!(!warm.is_empty());
    stack.api.user().get("/totals").await.expect_status(200);
    assert_eq!(stack.stack.instance_pids("get-totals").len(), warm.len());
}

#[tokio::test]
async fn a_stopped_stack_leaves_no_process_behind() {
    let stack = TestStack::start().await;
    stack.api.user().get("/totals").await.expect_status(200);
    let instances = stack.stack.instance_pids("get-totals");
    assert!(!instances.is_empty());
    stack.stack.stop().await;
    for process in instances {
        // Signal 0 only checks whether the process exists.
        let exists = kill(pid(process), None::<Signal>);
        assert_eq!(exists, Err(Errno::ESRCH), "{process} is still running");
    }
}

#[tokio::test]
async fn the_log_contains_no_secret_no_token_and_no_text() {
    let log = Arc::new(Mutex::new(String::new()));
    let mut options = support::stack_options();
    let lines = log.clone();
    options.log = Arc::new(move |line| {
        let mut log = lines.lock().unwrap();
        log.push_str(line);
        log.push('\n');
    });
    let stack = TestStack::start_with(options).await;
    let (ann, ben, chat) = stack.api.active_chat().await;
    ann.send_with_key(&chat, "key", "a private text")
        .await
        .expect_status(201);
    ann.send_with_key(&chat, "key", "another private text")
        .await
        .expect_status(422);
    ann.post(
        &format!("/chats/{chat}/messages"),
        &json!({"text": 1, "private": 2}),
    )
    .await
    .expect_status(400);
    ben.messages(&chat, "").await.expect_status(200);
    let edited = ann.edit_text(&chat, 1, "a private edit").await;
    edited.expect_status(200);
    let body = json!({"text": "private", "note": "private"});
    let edited = ann.edit(&chat, 1, &body);
    edited.await.expect_status(400);
    for note in ["a private note", &"private ".repeat(200)] {
        let report = json!({"userId": ann.id, "seq": 1, "reason": "other", "note": note});
        let status = if note.len() < 1_000 { 201 } else { 400 };
        ben.report(&report).await.expect_status(status);
    }
    ann.delete_message(&chat, 1).await.expect_status(200);
    ben.changes(&chat, "").await.expect_status(200);
    // The cause of a 5xx is logged, so this makes the chat unreadable.
    let pk = format!("CHAT#{chat}");
    let broken = AttributeValue::S("broken".to_owned());
    stack.table.set(&pk, "STATE", "status", broken).await;
    let failed = ann.send(&chat, "a third private text").await;
    failed.expect_error(500, "internal");
    let request_id = failed.body["requestId"].as_str().unwrap();

    let log = log.lock().unwrap().clone();
    assert!(
        log.contains(request_id),
        "the cause is not logged with the request id: {log}"
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
async fn the_logged_cause_of_an_error_contains_no_text_of_users() {
    let log = Arc::new(Mutex::new(String::new()));
    let mut options = support::stack_options();
    let lines = log.clone();
    options.log = Arc::new(move |line| lines.lock().unwrap().push_str(line));
    let proxied = ProxiedStack::start_with(options).await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    // A response that the SDK cannot read, and a transaction that is cancelled for an unexpected reason.
    let private = json!({"text": {"S": "a private text"}});
    for fault in [
        Fault::response("GetItem", 200, json!({"Item": "a private text"})),
        Fault::cancelled_with_reasons(json!([{"Code": "ValidationError", "Item": private}])),
    ] {
        proxied.inject_always(Some(fault));
        let response = ann.send(&chat, "a private text").await;
        assert!(response.status >= 500, "{response:?}");
        let body = response.body.to_string();
        assert!(!body.contains("private"), "{response:?}");
        let request_id = response.body["requestId"].as_str().unwrap();
        let log = log.lock().unwrap();
        assert!(log.contains(request_id), "{log}");
        assert!(!log.contains("private"), "{log}");
    }
    // A failed condition of a single update, with an item that cannot be read.
    let mut failed = error_body("ConditionalCheckFailedException");
    failed["Item"] = json!({"text": {"S": "a private text"}});
    let fault = Fault::response("UpdateItem", 400, failed);
    proxied.inject_always(Some(fault));
    let response = ann.block(&ben).await;
    response.expect_error(500, "internal");
    let request_id = response.body["requestId"].as_str().unwrap();
    let log = log.lock().unwrap();
    assert!(log.contains(request_id), "{log}");
    assert!(!log.contains("private"), "{log}");
}

/// An event for `list-active-chats` with every member that API Gateway sends.
fn list_chats_event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "GET /chats",
        "rawPath": "/chats",
        "rawQueryString": "limit=5",
        "cookies": ["a=b"],
        "headers": {
            "authorization": format!("Bearer {}", tokens::valid_token(42)),
            "host": "localhost:3000",
            "x-a": "b",
        },
        "queryStringParameters": {"limit": "5"},
        "pathParameters": {"a": "b"},
        "stageVariables": {"a": "b"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": "localhost",
            "domainPrefix": "localhost",
            "http": {
                "method": "GET",
                "path": "/chats",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test",
            },
            "requestId": "test",
            "routeKey": "GET /chats",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_u64,
        },
        "body": "",
        "isBase64Encoded": false,
    })
}

/// Invokes `list-active-chats`. Returns the status and, for an error, its code. A function error fails the
/// test.
async fn invoke_list_chats(stack: &TestStack, event: &Value) -> (u64, Option<String>) {
    let payload = stack.stack.invoke("list-active-chats", event.clone()).await;
    let payload = payload.unwrap_or_else(|error| panic!("{error}, for the event {event}"));
    let status = payload["statusCode"].as_u64().expect("there is a status");
    let body = payload["body"].as_str().expect("there is a body");
    let body: Value = serde_json::from_str(body).expect("the body is JSON");
    (status, body["code"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn null_is_the_same_as_absent_in_an_event() {
    let stack = TestStack::start().await;
    let complete = list_chats_event();
    assert_eq!(invoke_list_chats(&stack, &complete).await, (200, None));
    for pointer in [
        "/rawPath",
        "/rawQueryString",
        "/cookies",
        "/headers",
        "/headers/x-a",
        "/queryStringParameters",
        "/pathParameters",
        "/stageVariables",
        "/requestContext",
        "/requestContext/accountId",
        "/requestContext/apiId",
        "/requestContext/domainName",
        "/requestContext/domainPrefix",
        "/requestContext/http",
        "/requestContext/http/method",
        "/requestContext/http/path",
        "/requestContext/http/protocol",
        "/requestContext/http/sourceIp",
        "/requestContext/http/userAgent",
        "/requestContext/requestId",
        "/requestContext/routeKey",
        "/requestContext/stage",
        "/requestContext/time",
        "/requestContext/timeEpoch",
        "/body",
        "/isBase64Encoded",
    ] {
        let mut with_null = complete.clone();
        *with_null.pointer_mut(pointer).unwrap() = Value::Null;
        let mut without = complete.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = without.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(name);
        // Without headers there is no token.
        let expected = match pointer {
            "/headers" => (401, Some("unauthorized".to_owned())),
            _ => (200, None),
        };
        let response = invoke_list_chats(&stack, &with_null).await;
        assert_eq!(response, expected, "{pointer} is null");
        let response = invoke_list_chats(&stack, &without).await;
        assert_eq!(response, expected, "{pointer} is absent");
    }
}

#[tokio::test]
async fn any_character_in_a_query_path_or_header_is_accepted() {
    let stack = TestStack::start().await;
    let each_byte = (0..=u8::MAX).map(|byte| char::from(byte).to_string());
    let others = ["caf\u{e9}\u{7f}\u{1}", "<\">{}|\\^`", "\u{1f600} %zz=%"].map(str::to_owned);
    for text in each_byte.chain(others) {
        let mut event = list_chats_event();
        event["rawQueryString"] = json!(format!("limit=5&a={text}"));
        event["queryStringParameters"]["a"] = json!(text);
        event["rawPath"] = json!(format!("/chats{text}"));
        event["requestContext"]["http"]["path"] = json!(format!("/chats{text}"));
        event["headers"]["x-a"] = json!(text);
        let response = invoke_list_chats(&stack, &event).await;
        assert_eq!(response, (200, None), "{text:?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_an_invalid_request() {
    let stack = TestStack::start().await;
    let with = |pointer: &str, value: Value| {
        let mut event = list_chats_event();
        *event.pointer_mut(pointer).unwrap() = value;
        event
    };
    let mut invalid_base64 = with("/isBase64Encoded", json!(true));
    invalid_base64["body"] = json!("not base64!");
    for event in [
        json!("an event"),
        json!([]),
        with("/headers", json!("a header")),
        with("/headers/x-a", json!({"a": "b"})),
        with("/requestContext", json!("a context")),
        with("/requestContext/http", json!(1)),
        with("/isBase64Encoded", json!("yes")),
        with("/body", json!(1)),
        invalid_base64,
    ] {
        let response = invoke_list_chats(&stack, &event).await;
        let expected = (400, Some("invalid_request".to_owned()));
        assert_eq!(response, expected, "{event}");
    }
}
