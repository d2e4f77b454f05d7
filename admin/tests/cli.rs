//! Tests of the command line: exit codes, output and messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

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
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-admin"))
        .args(arguments)
        .env_remove("TABLE_NAME")
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
    let values = [("type", text("Block"))];
    put(&client, "chats", ("USER#42", "BLOCK#17"), &values).await;
    let output = check(dynamodb.endpoint(), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    let notes = stderr(&output);
    assert!(notes.contains("note: 1 items have a type"), "{notes}");
    assert!(notes.contains("(1 Block)"), "{notes}");
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

#[test]
fn help_names_every_command_and_option_with_an_example() {
    let help = stdout(&run(&["--help"]));
    assert!(help.contains("check") && help.contains("copy"), "{help}");
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
