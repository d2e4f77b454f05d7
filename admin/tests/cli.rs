//! Tests of the command line: exit codes, output and messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::HashMap,
    process::{Command, Output},
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        ScalarAttributeType,
    },
};
use chat_local::{
    dynamodb::{EmbeddedDynamoDb, client_for_endpoint, create_table},
    template::{Template, default_path},
};
use chat_shared::domain::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-admin"))
        .args(arguments)
        .env_remove("TABLE_NAME")
        .env_remove("USER")
        .output()
        .unwrap()
}

/// Checks the table `chats` of a DynamoDB.
fn check(endpoint: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["check", "--table", "chats", "--settle", "0"];
    arguments.extend(["--endpoint-url", endpoint]);
    arguments.extend(more);
    run(&arguments)
}

/// Copies from the table `restored` to the table `chats` of a DynamoDB.
fn copy(endpoint: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["copy", "--from", "restored", "--to", "chats"];
    arguments.extend(["--endpoint-url", endpoint]);
    arguments.extend(more);
    run(&arguments)
}

/// Runs `reports`, `report show` or `report resolve` with the table `chats` of a DynamoDB.
fn on_chats(endpoint: &str, command: &[&str]) -> Output {
    let mut arguments = command.to_vec();
    arguments.extend(["--table", "chats", "--endpoint-url", endpoint]);
    run(&arguments)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Starts a DynamoDB with empty tables of these names.
async fn start_dynamodb(tables: &[&str]) -> EmbeddedDynamoDb {
    let dynamodb = EmbeddedDynamoDb::start(None).await.unwrap();
    let template = Template::read(&default_path()).unwrap();
    for table in tables {
        create_table(dynamodb.endpoint(), &template.table, table)
            .await
            .unwrap();
    }
    dynamodb
}

/// Starts a DynamoDB with the empty table `chats`.
async fn start_with_chats_table() -> (EmbeddedDynamoDb, Client) {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    (dynamodb, client)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Writes an item.
async fn put(client: &Client, table: &str, key: (&str, &str), values: &[(&str, AttributeValue)]) {
    let put = client.put_item().table_name(table);
    let mut put = put.item("pk", text(key.0)).item("sk", text(key.1));
    for (name, value) in values {
        put = put.item(*name, value.clone());
    }
    put.send().await.unwrap();
}

/// Writes a counter that should be 0 to the table `chats`.
async fn put_wrong_counter(dynamodb: &EmbeddedDynamoDb) {
    let client = client_for_endpoint(dynamodb.endpoint());
    let unread = [("unread", number(5))];
    put(&client, "chats", ("USER#42", "TOTALS#3"), &unread).await;
}

const WRONG_COUNTER: &str = "USER#42 TOTALS#3: unread is 5, should be 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_violations_and_repairs_them() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let endpoint = dynamodb.endpoint();
    assert_eq!(check(endpoint, &[]).status.code(), Some(0));
    put_wrong_counter(&dynamodb).await;

    let violated = check(endpoint, &[]);
    assert_eq!(violated.status.code(), Some(1));
    assert_eq!(stdout(&violated), format!("{WRONG_COUNTER}\n"));
    let hint = stderr(&violated);
    assert!(hint.contains("1 items, 0 chats, 1 users"), "{hint}");
    assert!(
        hint.contains("1 violations, 0 repaired, 0 inconclusive"),
        "{hint}"
    );
    let repair = "1 of 1 violations can be repaired: run the check with --repair";
    assert!(hint.contains(repair), "{hint}");

    let repaired = check(endpoint, &["--repair"]);
    assert_eq!(repaired.status.code(), Some(0));
    assert_eq!(stdout(&repaired), format!("{WRONG_COUNTER} (repaired)\n"));

    let consistent = check(endpoint, &[]);
    assert_eq!(consistent.status.code(), Some(0));
    assert_eq!(stdout(&consistent), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_without_permission_is_an_error_and_exit_code_1() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    put_wrong_counter(&dynamodb).await;
    let endpoint = start_read_only_proxy(dynamodb.endpoint()).await;
    let output = check(&endpoint, &["--repair"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), format!("{WRONG_COUNTER}\n"));
    let errors = stderr(&output);
    let error = errors.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("no error: {errors}"));
    assert!(error.contains(WRONG_COUNTER), "{error}");
    assert!(error.contains("AccessDeniedException"), "{error}");
    assert!(errors.contains("1 violations, 0 repaired"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_a_newer_version_are_a_note_and_exit_code_0() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    let values = [("type", text("Device"))];
    put(&client, "chats", ("USER#42", "DEVICE#17"), &values).await;
    let output = check(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    let notes = stderr(&output);
    assert!(notes.contains("note: 1 items have a type"), "{notes}");
    assert!(notes.contains("(1 Device)"), "{notes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_read_is_one_line_of_error_and_exit_code_2() {
    let dynamodb = start_dynamodb(&[]).await;
    let output = check(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let error = stderr(&output);
    assert!(error.contains("cannot check table chats"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let output = copy(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    let expected = "cannot copy table restored to table chats";
    assert!(error.contains(expected), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_says_what_it_does_and_what_to_do_next() {
    let dynamodb = start_dynamodb(&["restored", "chats"]).await;
    let endpoint = dynamodb.endpoint();
    let client = client_for_endpoint(endpoint);
    let expired = vec![("seq", number(1)), ("expiresAt", number(1))];
    for (sk, values) in [
        ("KEY#17#old", expired),
        ("MSG#0000000000000001", vec![]),
        ("MSG#0000000000000002", vec![]),
        ("STATE", vec![("seq", number(2)), ("createdAt", number(1))]),
    ] {
        put(&client, "restored", ("CHAT#17-42", sk), &values).await;
    }
    put(
        &client,
        "chats",
        ("CHAT#17-42", "STATE"),
        &[("seq", number(1)), ("createdAt", number(1))],
    )
    .await;

    let line = "CHAT#17-42 MSG#0000000000000002: not copied: it belongs to message 2, but seq of the \
                chat in the target is 1\n";
    let dry_run = copy(endpoint, &["--dry-run"]);
    assert_eq!(dry_run.status.code(), Some(1));
    assert_eq!(stdout(&dry_run), line);
    let summary = "1 would be copied, 1 exist in chats, 1 expired, 1 not copied";
    assert!(stderr(&dry_run).contains(summary), "{}", stderr(&dry_run));
    assert!(!stderr(&dry_run).contains("--repair"));

    let copied = copy(endpoint, &[]);
    assert_eq!(copied.status.code(), Some(1));
    assert_eq!(stdout(&copied), line);
    let summary = "1 copied, 1 exist in chats, 1 expired, 1 not copied";
    assert!(stderr(&copied).contains(summary), "{}", stderr(&copied));
    let next = format!("chat-admin check --table chats --endpoint-url {endpoint} --repair");
    assert!(stderr(&copied).contains(&next), "{}", stderr(&copied));

    // The counters may be wrong since an earlier copy.
    let repeated = copy(endpoint, &[]);
    assert!(stderr(&repeated).contains("0 copied, 2 exist in chats"));
    assert!(stderr(&repeated).contains(&next), "{}", stderr(&repeated));

    let message = client.get_item().table_name("chats");
    let message = message.key("pk", text("CHAT#17-42"));
    let message = message.key("sk", text("MSG#0000000000000001"));
    assert!(message.send().await.unwrap().item.is_some());
}

#[test]
fn wrong_arguments_are_exit_code_2_and_name_the_argument() {
    let output = run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--table"));
    let output = run(&["copy", "--from", "chats"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--to"));
    let output = run(&["copy", "--from", "chats", "--to", "chats"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--from and --to"));
    let output = run(&["check", "--table", ""]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--table"));
    let output = check("localhost:8000", &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(error.contains("--endpoint-url"), "{error}");
    assert!(error.contains("http://localhost:8000"), "{error}");
}

#[test]
fn missing_credentials_and_a_closed_port_end_the_command_at_once_and_name_the_settings() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let unreachable = check(&closed, &[]);
    let without_credentials = |region: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat-admin"));
        command
            .args(["check", "--table", "chats"])
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "no-such-file")
            .env("AWS_SHARED_CREDENTIALS_FILE", "no-such-file");
        if let Some(region) = region {
            command.env("AWS_REGION", region);
        }
        command.output().unwrap()
    };
    for output in [
        unreachable,
        without_credentials(None),
        without_credentials(Some("eu-central-1")),
    ] {
        assert_eq!(output.status.code(), Some(2));
        let error = stderr(&output);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("cannot check table chats"), "{error}");
        assert!(error.contains("--endpoint-url"), "{error}");
        assert!(error.contains("AWS_PROFILE"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_the_keys_and_indexes_of_the_backend_is_not_checked() {
    let dynamodb = start_dynamodb(&["restored"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    for (table, partition_key) in [("chats", "id"), ("plain", "pk")] {
        let mut create = client.create_table().table_name(table);
        for (name, key_type) in [(partition_key, KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder().attribute_name(name);
            let attribute = attribute.attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(name);
            create = create
                .attribute_definitions(attribute.build().unwrap())
                .key_schema(key.key_type(key_type).build().unwrap());
        }
        let create = create.billing_mode(BillingMode::PayPerRequest);
        create.send().await.unwrap();
    }
    let endpoint = dynamodb.endpoint();
    let other_keys = "its keys are not pk and sk";
    let without_index = run(&[
        "check",
        "--table",
        "plain",
        "--endpoint-url",
        endpoint,
        "--settle",
        "0",
    ]);
    for (output, expected) in [
        (check(endpoint, &[]), other_keys),
        (copy(endpoint, &[]), other_keys),
        (without_index, "lacks the index byRequester"),
    ] {
        assert_eq!(output.status.code(), Some(2));
        let error = stderr(&output);
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_to_a_table_that_does_not_exist_is_exit_code_2() {
    let dynamodb = start_dynamodb(&["restored"]).await;
    let output = copy(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(error.contains("there is no table chats"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_copy_says_how_much_it_has_copied() {
    let dynamodb = start_dynamodb(&["restored", "chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    put(&client, "restored", ("USER#42", "SENT"), &[]).await;
    let endpoint = start_read_only_proxy(dynamodb.endpoint()).await;
    let output = copy(&endpoint, &[]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    let copied = "At least 0 items were copied before the error";
    assert!(errors.contains(copied), "{errors}");
    assert!(errors.contains("AccessDeniedException"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_recommends_repairs_only_if_they_can_change_something() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    put(&client, "chats", ("SOMETHING", "ELSE"), &[]).await;
    let output = check(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("--repair"), "{}", stderr(&output));
}

const HOUR: u64 = 3_600_000;

/// Writes an open report of user 17 on a message of user 42, or on the user if `seq` is 0. It is this many
/// hours old.
async fn put_report(client: &Client, seq: u64, hours: u64, message: &str) {
    let created_at = Timestamp::now().millis() - hours * HOUR;
    let activity = format!("{created_at:015}#17-42/17/{seq}");
    let mut values = vec![
        ("type", text("Report")),
        ("reporterId", number(17)),
        ("userId", number(42)),
        ("reason", text("spam")),
        ("createdAt", number(created_at)),
        ("state", text("open")),
        ("requesterKey", text("#reports#open")),
        ("activity", text(&activity)),
    ];
    if seq > 0 {
        values.extend([
            ("seq", number(seq)),
            ("text", text(message)),
            ("messageCreatedAt", number(created_at - HOUR)),
        ]);
    }
    let sk = format!("FLAG#17#{seq:016}");
    put(client, "chats", ("CHAT#17-42", &sk), &values).await;
}

/// An item of the chat 17-42 in the table `chats`.
async fn chat_item(client: &Client, sk: &str) -> HashMap<String, AttributeValue> {
    let get = client.get_item().table_name("chats");
    let get = get.key("pk", text("CHAT#17-42")).key("sk", text(sk));
    get.send().await.unwrap().item.unwrap()
}

/// Writes an active chat of 17 and 42 with one message of 42, which 17 has not read.
async fn put_chat(client: &Client, message: &str) {
    let time = Timestamp::now().millis() - 30 * HOUR;
    let preview = HashMap::from([
        ("seq".to_owned(), number(1)),
        ("senderId".to_owned(), number(42)),
        ("text".to_owned(), text(message)),
        ("createdAt".to_owned(), number(time)),
    ]);
    let activity = format!("{time:015}#{:016}-{:016}", 17, 42);
    let state = [
        ("type", text("Chat")),
        ("requesterId", number(42)),
        ("recipientId", number(17)),
        ("status", text("active")),
        ("seq", number(1)),
        ("lowUnread", number(1)),
        ("lowReadSeq", number(0)),
        ("highUnread", number(0)),
        ("highReadSeq", number(0)),
        ("lastMessage", AttributeValue::M(preview)),
        ("createdAt", number(time - HOUR)),
        ("updatedAt", number(time)),
        ("requesterKey", text("42#active")),
        ("recipientKey", text("17#active")),
        ("activity", text(&activity)),
    ];
    put(client, "chats", ("CHAT#17-42", "STATE"), &state).await;
    let values = [
        ("type", text("Message")),
        ("senderId", number(42)),
        ("text", text(message)),
        ("createdAt", number(time)),
    ];
    put(client, "chats", ("CHAT#17-42", FIRST_MESSAGE), &values).await;
    let unread = [("type", text("Totals")), ("unread", number(1))];
    put(client, "chats", ("USER#17", "TOTALS#3"), &unread).await;
}

const FIRST_MESSAGE: &str = "MSG#0000000000000001";
const FIRST_REPORT: &str = "FLAG#17#0000000000000001";

/// The JSON document that a command prints.
fn json_of(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_reports_are_a_table_oldest_first() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    let none = on_chats(endpoint, &["reports"]);
    assert_eq!(none.status.code(), Some(0));
    assert_eq!(stdout(&none), "");
    assert_eq!(stderr(&none), "open reports: 0\n");

    put_report(&client, 0, 3, "").await;
    put_report(&client, 9, 21, "one").await;
    let both = on_chats(endpoint, &["reports"]);
    assert_eq!(both.status.code(), Some(0));
    let headings = "ID          AGE  REASON  REPORTED  REPORTER  TEXT\n";
    let first = "17-42/17/9  21h  spam    42        17        \"one\"\n";
    let second = "17-42/17/0  3h   spam    42        17        (the user)\n";
    assert_eq!(stdout(&both), format!("{headings}{first}{second}"));
    assert_eq!(stderr(&both), "open reports: 2\n");

    let oldest = on_chats(endpoint, &["reports", "--limit", "1"]);
    assert_eq!(stdout(&oldest), format!("{headings}{first}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_wait_for_too_long_are_exit_code_1_for_a_scheduled_job() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 0, 3, "").await;
    put_report(&client, 9, 21, "one").await;
    let waiting = on_chats(endpoint, &["reports", "--older-than", "20h", "--json"]);
    assert_eq!(waiting.status.code(), Some(1));
    let reports = json_of(&waiting);
    assert_eq!(reports.as_array().unwrap().len(), 1);
    assert_eq!(reports[0]["id"], "17-42/17/9");
    assert_eq!(stderr(&waiting), "open reports older than 20h: 1\n");

    let none = on_chats(endpoint, &["reports", "--older-than", "2d", "--json"]);
    assert_eq!(none.status.code(), Some(0));
    assert_eq!(json_of(&none), json!([]));
    let invalid = on_chats(endpoint, &["reports", "--older-than", "20"]);
    assert_eq!(invalid.status.code(), Some(2));
    assert!(stderr(&invalid).contains("such as 20h"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_reads_reports_as_one_json_document() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 9, 21, "one").await;
    put_report(&client, 0, 3, "").await;
    let output = on_chats(endpoint, &["reports", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let reports = json_of(&output);
    let (first, second) = (&reports[0], &reports[1]);
    let mut fields: Vec<_> = first.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "chatId",
            "createdAt",
            "id",
            "message",
            "note",
            "reason",
            "reporterId",
            "resolution",
            "seq",
            "state",
            "userId",
        ]
    );
    for (field, expected) in [
        ("id", json!("17-42/17/9")),
        ("chatId", json!("17-42")),
        ("reporterId", json!(17)),
        ("userId", json!(42)),
        ("seq", json!(9)),
        ("reason", json!("spam")),
        ("note", Value::Null),
        ("state", json!("open")),
        ("resolution", Value::Null),
    ] {
        assert_eq!(first[field], expected, "{field}");
    }
    let created_at = first["createdAt"].as_str().unwrap();
    assert_eq!(created_at.len(), "2026-01-31T12:00:00.250Z".len());
    assert_eq!(first["message"]["text"], "one");
    assert_eq!(first["message"]["imageUrl"], Value::Null);
    assert_eq!(
        (&second["seq"], &second["message"]),
        (&Value::Null, &Value::Null)
    );
    // One report per line.
    assert_eq!(stdout(&output).lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reported_text_cannot_control_the_terminal() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    let hostile = "\u{1b}[2J\u{9b}31m\r\n17-42/17/8  1s\u{7}\u{202e}evil\u{2066}";
    put_report(&client, 1, 21, hostile).await;
    put_chat(&client, hostile).await;
    for command in [
        &["reports"][..],
        &["reports", "--json"],
        &["report", "show", "17-42/17/1"],
        &["report", "show", "17-42/17/1", "--json"],
    ] {
        let output = on_chats(endpoint, command);
        assert_eq!(output.status.code(), Some(0));
        let printed = stdout(&output);
        let is_harmless =
            |c: char| c == '\n' || !(c.is_control() || ['\u{202e}', '\u{2066}'].contains(&c));
        assert!(printed.chars().all(is_harmless), "{printed:?}");
        assert!(printed.contains("[2J"), "{printed}");
        let is_fake = |line: &str| line.trim_start().starts_with("17-42/17/8");
        assert!(!printed.lines().any(is_fake), "{printed}");
    }
    let output = on_chats(endpoint, &["reports", "--json"]);
    assert_eq!(json_of(&output)[0]["message"]["text"], hostile);
    let output = on_chats(endpoint, &["report", "show", "17-42/17/1", "--json"]);
    assert_eq!(json_of(&output)["currentMessage"]["text"], hostile);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_cannot_be_read_does_not_hide_the_others() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 9, 21, "one").await;
    let values = [
        ("requesterKey", text("#reports#open")),
        ("activity", text("000000000000001#17-42/17/5")),
    ];
    let key = ("CHAT#17-42", "FLAG#17#0000000000000005");
    put(&client, "chats", key, &values).await;
    let output = on_chats(endpoint, &["reports"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("17-42/17/9"));
    let errors = stderr(&output);
    assert!(
        errors.contains("CHAT#17-42 FLAG#17#0000000000000005"),
        "{errors}"
    );
    assert!(errors.contains("chat-admin check"), "{errors}");
    let output = on_chats(endpoint, &["report", "show", "17-42/17/5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("chat-admin check"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_evidence_of_a_deleted_message_is_shown() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_chat(&client, "insult").await;
    put_report(&client, 1, 21, "insult").await;
    let now = Timestamp::now();
    let deleted = [
        ("type", text("Message")),
        ("senderId", number(42)),
        ("createdAt", number(now.millis() - 30 * HOUR)),
        ("deletedAt", number(now.millis() - HOUR)),
        ("rev", number(2)),
    ];
    put(&client, "chats", ("CHAT#17-42", FIRST_MESSAGE), &deleted).await;
    for (rev, content, expires_at) in [(1, "expired", 1), (2, "insult", now.seconds() + 60)] {
        let values = [
            ("type", text("PreviousContent")),
            ("senderId", number(42)),
            ("text", text(content)),
            ("createdAt", number(now.millis() - 30 * HOUR)),
            ("replacedAt", number(now.millis() - HOUR)),
            ("expiresAt", number(expires_at)),
        ];
        let sk = format!("HIST#{:016}#{rev:016}", 1);
        put(&client, "chats", ("CHAT#17-42", &sk), &values).await;
    }
    let output = on_chats(endpoint, &["report", "show", "17-42/17/1"]);
    assert_eq!(output.status.code(), Some(0));
    let shown = stdout(&output);
    for line in [
        "Report 17-42/17/1 (open, made 21h ago)",
        "Message 1 when it was reported",
        "Message 1 now",
        "  no content",
        "Chat 17-42",
        "  status     active",
        "Messages around it",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line:?}: {shown}"
        );
    }
    let text_line = "  text       \"insult\"";
    assert_eq!(shown.matches(text_line).count(), 2, "{shown}");
    assert!(shown.contains(" 42: (deleted) \"insult\""), "{shown}");
    assert!(!shown.contains("expired"), "{shown}");

    let output = on_chats(endpoint, &["report", "show", "17-42/17/1", "--json"]);
    let report = json_of(&output);
    assert_eq!(report["id"], "17-42/17/1");
    assert_eq!(report["message"]["text"], "insult");
    assert_eq!(report["currentMessage"]["text"], Value::Null);
    assert!(report["currentMessage"]["deletedAt"].is_string());
    let previous = report["previousContents"].as_array().unwrap();
    assert_eq!(previous.len(), 1);
    assert_eq!(previous[0]["text"], "insult");
    assert!(previous[0]["replacedAt"].is_string());
    assert_eq!(report["hasMorePreviousContents"], false);
    assert_eq!(report["chat"]["status"], "active");
    assert_eq!(report["chat"]["blocks"], json!([]));
    assert_eq!(report["context"][0]["seq"], 1);
    assert_eq!(report["context"][0]["lastContent"]["text"], "insult");
    assert_eq!(report["unreadable"], json!([]));
}

/// Writes a previous content of message 1.
async fn put_previous_content(client: &Client, rev: u64, content: &str) {
    let now = Timestamp::now();
    let values = [
        ("type", text("PreviousContent")),
        ("senderId", number(42)),
        ("text", text(content)),
        ("createdAt", number(now.millis() - 30 * HOUR)),
        ("replacedAt", number(now.millis() - HOUR)),
        ("expiresAt", number(now.seconds() + 60)),
    ];
    let sk = format!("HIST#{:016}#{rev:016}", 1);
    put(client, "chats", ("CHAT#17-42", &sk), &values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_newest_previous_contents_of_a_message_are_shown() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 1, 21, "insult").await;
    for rev in 1..=20 {
        put_previous_content(&client, rev, &format!("version {rev}")).await;
    }
    let show = |more: &[&str]| {
        let command = ["report", "show", "17-42/17/1"];
        on_chats(endpoint, &[&command[..], more].concat())
    };
    let more = "… and more that it contained before";
    let shown = stdout(&show(&[]));
    assert_eq!(shown.matches("Message 1 until ").count(), 20, "{shown}");
    assert!(!shown.contains(more), "{shown}");

    put_previous_content(&client, 21, "version 21").await;
    let output = show(&[]);
    assert_eq!(output.status.code(), Some(0));
    let shown = stdout(&output);
    assert_eq!(shown.matches("Message 1 until ").count(), 20, "{shown}");
    assert!(shown.contains(more), "{shown}");
    let report = json_of(&show(&["--json"]));
    let previous = report["previousContents"].as_array().unwrap();
    assert_eq!(previous.len(), 20);
    assert_eq!(previous[0]["text"], "version 21");
    assert_eq!(previous[19]["text"], "version 2");
    assert_eq!(report["hasMorePreviousContents"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_cannot_be_read_does_not_hide_the_rest_of_a_report() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_chat(&client, "insult").await;
    put_report(&client, 1, 21, "insult").await;
    put_report(&client, 0, 21, "").await;
    put_report(&client, 2, 21, "two").await;
    put_previous_content(&client, 1, "before").await;
    for sk in [
        "MSG#0000000000000002",
        "HIST#0000000000000001#0000000000000002",
        "STATE",
    ] {
        put(&client, "chats", ("CHAT#17-42", sk), &[]).await;
    }
    let line = |name: &str| {
        format!("error: {name} cannot be read; chat-admin check names the attribute\n")
    };
    let [message, content, state] = [
        "message 2",
        "what message 1 contained before change 2",
        "the state of the chat",
    ]
    .map(line);

    let output = on_chats(endpoint, &["report", "show", "17-42/17/1"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), format!("{state}{content}{message}"));
    let shown = stdout(&output);
    for part in [
        "Report 17-42/17/1",
        "  text       \"before\"",
        "Chat 17-42\n  cannot be read\n",
        " 42: \"insult\"",
    ] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    let output = on_chats(endpoint, &["report", "show", "17-42/17/1", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let report = json_of(&output);
    assert_eq!(report["chat"], Value::Null);
    assert_eq!(report["context"].as_array().unwrap().len(), 1);
    let unreadable = [
        "the state of the chat",
        "what message 1 contained before change 2",
        "message 2",
    ];
    assert_eq!(report["unreadable"], json!(unreadable));

    // The last messages are found without the state.
    let output = on_chats(endpoint, &["report", "show", "17-42/17/0"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), format!("{state}{message}"));
    assert!(stdout(&output).contains(" 42: \"insult\""));

    // The reported message itself.
    let output = on_chats(endpoint, &["report", "show", "17-42/17/2"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = stdout(&output);
    let now = "Message 2 now\n  cannot be read\n";
    assert!(shown.contains(now), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_message_near_a_report_is_shown_with_its_last_content() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 0, 21, "").await;
    put_report(&client, 2, 21, "(deleted)").await;
    let message = |seq: u64, more: &[(&'static str, AttributeValue)]| {
        let sk = format!("MSG#{seq:016}");
        let mut values = vec![
            ("type", text("Message")),
            ("senderId", number(42)),
            ("createdAt", number(1_767_225_600_000)),
        ];
        values.extend_from_slice(more);
        (sk, values)
    };
    let deleted = |rev| {
        [
            ("deletedAt", number(1_767_225_600_000)),
            ("rev", number(rev)),
        ]
    };
    for (sk, values) in [
        message(1, &deleted(2)),
        message(2, &[("text", text("(deleted)"))]),
        message(3, &deleted(3)),
    ] {
        put(&client, "chats", ("CHAT#17-42", &sk), &values).await;
    }
    // Message 1 was edited, then deleted. The last content of message 3 is not kept any more.
    put_previous_content(&client, 1, "one").await;
    put_previous_content(&client, 2, "one, edited").await;
    for id in ["17-42/17/0", "17-42/17/2"] {
        let output = on_chats(endpoint, &["report", "show", id]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let shown = stdout(&output);
        let lines: Vec<_> = shown
            .lines()
            .filter_map(|line| line.split_once(" 42: "))
            .map(|(_, content)| content)
            .collect();
        let expected = ["(deleted) \"one, edited\"", "\"(deleted)\"", "(deleted)"];
        assert_eq!(lines, expected);
    }
    // The newest messages, oldest first.
    let last = ["report", "show", "17-42/17/0", "--json", "--context", "2"];
    let report = json_of(&on_chats(endpoint, &last));
    let context = report["context"].as_array().unwrap();
    let seqs = context.iter().map(|message| message["seq"].as_u64());
    assert_eq!(seqs.collect::<Vec<_>>(), [Some(2), Some(3)]);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_cannot_be_written_is_exit_code_2_unless_nobody_reads_it() {
    use std::process::Stdio;

    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    put_report(&client, 1, 21, "one").await;
    put_wrong_counter(&dynamodb).await;
    let start = |command: &[&str], stdout: Stdio| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_chat-admin"));
        program
            .args(command)
            .args(["--table", "chats", "--endpoint-url", dynamodb.endpoint()])
            .stdout(stdout)
            .stderr(Stdio::piped());
        program.spawn().unwrap()
    };
    let commands: [(&[&str], i32); 4] = [
        (&["reports"], 0),
        (&["reports", "--json"], 0),
        (&["report", "show", "17-42/17/1"], 0),
        (&["check", "--settle", "0"], 1),
    ];
    for (command, exit_code) in commands {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let output = start(command, full.unwrap().into());
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let error = stderr(&output);
        let count = error.matches("error: cannot write to stdout: ").count();
        assert_eq!(count, 1, "{error}");

        let mut reader_is_gone = start(command, Stdio::piped());
        drop(reader_is_gone.stdout.take());
        let output = reader_is_gone.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{command:?}");
        assert!(!stderr(&output).contains("error: "), "{}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_of_a_user_is_shown_with_the_block_and_the_last_messages() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 0, 21, "").await;
    let without_chat = on_chats(endpoint, &["report", "show", "17-42/17/0"]);
    assert_eq!(without_chat.status.code(), Some(0));
    assert!(stdout(&without_chat).contains("does not exist"));

    put_chat(&client, "hello").await;
    let update = client.update_item().table_name("chats");
    let update = update
        .key("pk", text("CHAT#17-42"))
        .key("sk", text("STATE"));
    let update = update.update_expression("SET lowBlock = :time");
    let update = update.expression_attribute_values(":time", number(1_767_225_600_000));
    update.send().await.unwrap();
    let output = on_chats(endpoint, &["report", "show", "17-42/17/0"]);
    let shown = stdout(&output);
    let block = "  blocked    by 17, since 2026-01-01T00:00:00.000Z";
    assert!(shown.lines().any(|line| line == block), "{shown}");
    assert!(shown.contains("Last messages of the chat"), "{shown}");
    assert!(shown.contains(" 42: \"hello\""), "{shown}");
    let output = on_chats(
        endpoint,
        &["report", "show", "17-42/17/0", "--json", "--context", "0"],
    );
    let report = json_of(&output);
    assert_eq!(report["currentMessage"], Value::Null);
    assert_eq!(report["context"], json!([]));
    assert_eq!(report["chat"]["blocks"][0]["by"], 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_resolved_once_and_keeps_who_when_and_why() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 1, 21, "one").await;
    let resolve = |note: &str, by: &str| {
        let command = ["report", "resolve", "17-42/17/1", "--action", "none"];
        let more = ["--note", note, "--by", by];
        on_chats(endpoint, &[&command[..], &more].concat())
    };
    let resolved = resolve("no violation", "ann");
    assert_eq!(resolved.status.code(), Some(0));
    let line = "Report 17-42/17/1 is resolved: none.\n";
    assert_eq!(stdout(&resolved), line);
    assert_eq!(stdout(&on_chats(endpoint, &["reports"])), "");
    let report = chat_item(&client, FIRST_REPORT).await;
    for (attribute, expected) in [
        ("state", "resolved"),
        ("resolvedBy", "ann"),
        ("action", "none"),
        ("resolution", "no violation"),
    ] {
        assert_eq!(report[attribute], text(expected), "{attribute}");
    }
    assert!(report["resolvedAt"].is_n());
    assert!(!report.contains_key("requesterKey"));

    let again = resolve("no violation", "ann");
    assert_eq!(again.status.code(), Some(0));
    let start = "Report 17-42/17/1 was already resolved: none, by \"ann\" at ";
    assert!(stdout(&again).starts_with(start), "{}", stdout(&again));
    for (note, by) in [("other", "ann"), ("no violation", "ben")] {
        let other = resolve(note, by);
        assert_eq!(other.status.code(), Some(1));
        assert_eq!(stdout(&other), "");
        let error = stderr(&other);
        assert!(
            error.contains("was already resolved: none, by \"ann\""),
            "{error}"
        );
    }
    assert_eq!(chat_item(&client, FIRST_REPORT).await, report);
    let shown = stdout(&on_chats(endpoint, &["report", "show", "17-42/17/1"]));
    let resolved = "  resolved   none, by \"ann\" at ";
    assert!(shown.contains(resolved), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_can_be_deleted_after_its_report_was_resolved_without_an_action() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_chat(&client, "insult").await;
    put_report(&client, 1, 21, "insult").await;
    let resolve = |action: &str, note: &str, by: &str| {
        let command = ["report", "resolve", "17-42/17/1", "--action", action];
        let more = ["--note", note, "--by", by];
        on_chats(endpoint, &[&command[..], &more].concat())
    };
    let first = resolve("none", "fine", "ann");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let second = resolve("delete-message", "insult", "ben");
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    let lines = "Message 1 of chat 17-42 is deleted.\n\
                 Report 17-42/17/1 is resolved: delete-message.\n";
    assert_eq!(stdout(&second), lines);
    let message = chat_item(&client, FIRST_MESSAGE).await;
    assert!(message.contains_key("deletedAt"));
    let report = chat_item(&client, FIRST_REPORT).await;
    for (attribute, expected) in [
        ("state", "resolved"),
        ("resolvedBy", "ben"),
        ("action", "delete-message"),
    ] {
        assert_eq!(report[attribute], text(expected), "{attribute}");
    }
    let note = report["resolution"].as_s().unwrap();
    let earlier = "insult (earlier: none, by \"ann\" at ";
    assert!(note.starts_with(earlier), "{note}");
    assert!(note.ends_with(", with the note \"fine\")"), "{note}");

    let again = resolve("delete-message", "insult", "ben");
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stdout(&again).contains("was already resolved: delete-message"));
    for (action, note, by) in [
        ("none", "fine", "ann"),
        ("delete-message", "spam", "ben"),
        ("delete-message", "insult", "ann"),
    ] {
        let other = resolve(action, note, by);
        assert_eq!(other.status.code(), Some(1), "{action} {note} {by}");
    }
    assert_eq!(chat_item(&client, FIRST_REPORT).await, report);
    assert_eq!(stdout(&check(endpoint, &[])), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolution_that_fails_after_the_deletion_can_be_repeated_and_says_so() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    put_chat(&client, "insult").await;
    put_report(&client, 1, 21, "insult").await;
    // The proxy rejects the update of the report, but not the transaction that deletes the message.
    let proxy = start_read_only_proxy(dynamodb.endpoint()).await;
    let resolve = |endpoint: &str| {
        let command = ["report", "resolve", "17-42/17/1", "--note", "insult"];
        let more = ["--action", "delete-message", "--by", "ann"];
        on_chats(endpoint, &[&command[..], &more].concat())
    };
    let failed = resolve(&proxy);
    assert_eq!(failed.status.code(), Some(2));
    assert_eq!(stdout(&failed), "");
    let error = stderr(&failed);
    let hint = "The message may already be deleted. Repeat the command; it does the rest.\n";
    assert!(error.ends_with(hint), "{error}");
    let message = chat_item(&client, FIRST_MESSAGE).await;
    assert!(message.contains_key("deletedAt"));
    let report = chat_item(&client, FIRST_REPORT).await;
    assert_eq!(report["state"], text("open"));

    let repeated = resolve(dynamodb.endpoint());
    assert_eq!(repeated.status.code(), Some(0), "{}", stderr(&repeated));
    let report = chat_item(&client, FIRST_REPORT).await;
    assert_eq!(report["action"], text("delete-message"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolution_can_delete_the_reported_message() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_chat(&client, "insult").await;
    put_report(&client, 1, 21, "insult").await;
    assert_eq!(stdout(&check(endpoint, &[])), "");
    let resolve = || {
        let command = ["report", "resolve", "17-42/17/1", "--note", "insult"];
        let more = ["--action", "delete-message", "--by", "ann"];
        on_chats(endpoint, &[&command[..], &more].concat())
    };
    let resolved = resolve();
    assert_eq!(resolved.status.code(), Some(0), "{}", stderr(&resolved));
    let lines = "Message 1 of chat 17-42 is deleted.\n\
                 Report 17-42/17/1 is resolved: delete-message.\n";
    assert_eq!(stdout(&resolved), lines);
    let message = chat_item(&client, FIRST_MESSAGE).await;
    assert!(!message.contains_key("text") && message.contains_key("deletedAt"));
    let state = chat_item(&client, "STATE").await;
    assert_eq!(
        (&state["lowUnread"], &state["rev"]),
        (&number(0), &number(1))
    );
    assert_eq!(
        chat_item(&client, FIRST_REPORT).await["text"],
        text("insult")
    );
    let again = resolve();
    assert_eq!(again.status.code(), Some(0));
    assert!(stdout(&again).contains("was already resolved: delete-message"));
    // Unread counts, totals and changes are right.
    let consistent = check(endpoint, &[]);
    assert_eq!(stdout(&consistent), "");
    assert_eq!(consistent.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_without_a_message_to_delete_stays_open() {
    let (dynamodb, client) = start_with_chats_table().await;
    let endpoint = dynamodb.endpoint();
    put_report(&client, 0, 3, "").await;
    put_report(&client, 1, 3, "one").await;
    for (id, reason) in [
        ("17-42/17/0", "is about user 42, not about a message"),
        ("17-42/17/1", "does not exist, so it cannot be deleted"),
    ] {
        let command = ["report", "resolve", id, "--action", "delete-message"];
        let more = ["--note", "insult", "--by", "ann"];
        let output = on_chats(endpoint, &[&command[..], &more].concat());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let error = stderr(&output);
        assert!(error.contains(reason), "{error}");
    }
    let open = on_chats(endpoint, &["reports"]);
    assert_eq!(stderr(&open), "open reports: 2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolution_without_permission_is_exit_code_2_and_the_report_stays_open() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let client = client_for_endpoint(dynamodb.endpoint());
    put_report(&client, 1, 3, "one").await;
    let proxy = start_read_only_proxy(dynamodb.endpoint()).await;
    let command = ["report", "resolve", "17-42/17/1", "--action", "none"];
    let more = ["--note", "fine", "--by", "ann"];
    let output = on_chats(&proxy, &[&command[..], &more].concat());
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(
        error.contains("cannot resolve report 17-42/17/1"),
        "{error}"
    );
    assert!(error.contains("AccessDeniedException"), "{error}");
    assert_eq!(
        chat_item(&client, FIRST_REPORT).await["state"],
        text("open")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_does_not_exist_is_exit_code_1_and_a_wrong_id_exit_code_2() {
    let dynamodb = start_dynamodb(&["chats"]).await;
    let endpoint = dynamodb.endpoint();
    let resolution = ["--action", "none", "--note", "fine", "--by", "ann"];
    for command in [
        vec!["report", "show", "17-42/17/9"],
        [&["report", "resolve", "17-42/17/9"][..], &resolution].concat(),
    ] {
        let output = on_chats(endpoint, &command);
        assert_eq!(output.status.code(), Some(1));
        let error = stderr(&output);
        assert!(error.contains("there is no report 17-42/17/9"), "{error}");
    }
    for id in ["17", "42-17/17/9", "17-42/18/9", "17-42/17/09", "17-42/17"] {
        for command in [
            vec!["report", "show", id],
            [&["report", "resolve", id][..], &resolution].concat(),
        ] {
            let output = on_chats(endpoint, &command);
            assert_eq!(output.status.code(), Some(2));
            let error = stderr(&output);
            assert!(error.contains("write an id such as 17-42/17/9"), "{error}");
        }
    }
}

#[test]
fn a_resolution_needs_an_action_a_note_and_a_name() {
    let resolve = ["report", "resolve", "17-42/17/9", "--table", "chats"];
    let options = ["--action", "none", "--note", "fine", "--by", "ann"];
    for missing in ["--action", "--note", "--by"] {
        let options = options
            .chunks(2)
            .filter(|option| option[0] != missing)
            .flatten()
            .copied();
        let arguments: Vec<_> = resolve.into_iter().chain(options).collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = stderr(&output);
        assert!(error.contains(missing), "{error}");
    }
    let with_empty_name = Command::new(env!("CARGO_BIN_EXE_chat-admin"))
        .args(resolve)
        .args(&options[..4])
        .env("USER", "")
        .output()
        .unwrap();
    assert_eq!(with_empty_name.status.code(), Some(2));
    assert!(stderr(&with_empty_name).contains("--by"));
}

#[test]
fn help_names_every_command_and_option_with_an_example() {
    let help = stdout(&run(&["--help"]));
    for command in ["check", "copy", "reports", "report"] {
        assert!(help.contains(command), "{command}: {help}");
    }
    let commands: [(&[&str], &[&str]); 3] = [
        (
            &["reports"],
            &[
                "--table",
                "--endpoint-url",
                "--json",
                "--older-than",
                "--limit",
                "2>&1",
                "AWS_REGION",
                "chat-admin reports --table chats",
                "Permissions",
                "Exit codes",
            ],
        ),
        (
            &["report", "show"],
            &[
                "--json",
                "--context",
                "chat-admin report show 17-42/17/9",
                "Permissions",
                "Exit codes",
            ],
        ),
        (
            &["report", "resolve"],
            &[
                "--action",
                "delete-message",
                "--note",
                "--by",
                "[env: USER=",
                "chat-admin report resolve 17-42/17/9",
                "Permissions",
                "Exit codes",
            ],
        ),
    ];
    for (command, texts) in commands {
        let help = stdout(&run(&[command, &["--help"]].concat()));
        for text in texts {
            assert!(help.contains(text), "{text:?} is missing: {help}");
        }
    }
    let help = stdout(&run(&["check", "--help"]));
    for text in [
        "--table",
        "TABLE_NAME",
        "--endpoint-url",
        "--repair",
        "--settle",
        "chat-admin check --table chats",
        "Permissions",
        "Exit codes",
        "  3  No violations remain",
    ] {
        assert!(help.contains(text), "{text:?} is missing: {help}");
    }
    let help = stdout(&run(&["copy", "--help"]));
    for text in [
        "PUT /blocks/{userId}",
        "blocks that are newer",
        "--from",
        "--to",
        "--endpoint-url",
        "--dry-run",
        "chat-admin copy --from chats-restored --to chats",
        "Limits",
        "Permissions",
        "Exit codes",
    ] {
        assert!(help.contains(text), "{text:?} is missing: {help}");
    }
}

/// Starts a proxy that rejects writes as IAM does when the caller has no permission. Returns its URL.
async fn start_read_only_proxy(endpoint: &str) -> String {
    let dynamodb = endpoint.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let dynamodb = dynamodb.clone();
            tokio::spawn(async move { forward_request(client, &dynamodb).await });
        }
    });
    url
}

/// Forwards one request, and closes the connection.
async fn forward_request(mut client: TcpStream, dynamodb: &str) {
    let Some(request) = read_request(&mut client).await else {
        return;
    };
    let is_write = ["UpdateItem", "PutItem"]
        .iter()
        .any(|operation| request.contains(&format!("DynamoDB_20120810.{operation}")));
    let response = if is_write {
        let body = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
        let length = body.len();
        let response = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        response.into_bytes()
    } else {
        let (first_line, rest) = request.split_once("\r\n").unwrap();
        let request = format!("{first_line}\r\nconnection: close\r\n{rest}");
        let mut server = TcpStream::connect(dynamodb).await.unwrap();
        server.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        server.read_to_end(&mut response).await.unwrap();
        response
    };
    client.write_all(&response).await.unwrap();
}

/// Reads one request. `None` if the connection was closed without one.
async fn read_request(client: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !is_complete(&String::from_utf8_lossy(&request)) {
        if client.read_buf(&mut request).await.unwrap() == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&request).into_owned())
}

/// Whether a request has its whole body.
fn is_complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}
