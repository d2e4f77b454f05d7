//! Tests of the command line: exit codes, output and messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{
    dynamodb::{EmbeddedDynamoDb, client_for_endpoint, create_table},
    template::{Template, default_path},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-admin"))
        .args(arguments)
        .env_remove("TABLE_NAME")
        .output()
        .unwrap()
}

/// Checks the table `chats` of a DynamoDB.
fn check(dynamodb: &EmbeddedDynamoDb, more: &[&str]) -> Output {
    let mut arguments = vec!["check", "--table", "chats", "--settle", "0"];
    arguments.extend(["--endpoint-url", dynamodb.endpoint()]);
    arguments.extend(more);
    run(&arguments)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_violations_and_repairs_them() {
    let dynamodb = EmbeddedDynamoDb::start(None).await.unwrap();
    let template = Template::read(&default_path()).unwrap();
    create_table(dynamodb.endpoint(), &template.table, "chats")
        .await
        .unwrap();
    assert_eq!(check(&dynamodb, &[]).status.code(), Some(0));
    let put = client_for_endpoint(dynamodb.endpoint()).put_item();
    let put = put.table_name("chats");
    let put = put.item("pk", AttributeValue::S("USER#42".to_owned()));
    let put = put.item("sk", AttributeValue::S("TOTALS#3".to_owned()));
    let put = put.item("unread", AttributeValue::N("5".to_owned()));
    put.send().await.unwrap();

    let line = "USER#42 TOTALS#3: unread is 5, should be 0";
    let violated = check(&dynamodb, &[]);
    assert_eq!(violated.status.code(), Some(1));
    assert_eq!(stdout(&violated), format!("{line}\n"));
    let hint = stderr(&violated);
    assert!(hint.contains("1 items, 0 chats, 1 users"), "{hint}");
    assert!(
        hint.contains("1 violations, 0 repaired, 0 inconclusive"),
        "{hint}"
    );
    assert!(hint.contains("--repair"), "{hint}");

    let repaired = check(&dynamodb, &["--repair"]);
    assert_eq!(repaired.status.code(), Some(0));
    assert_eq!(stdout(&repaired), format!("{line} (repaired)\n"));

    let consistent = check(&dynamodb, &[]);
    assert_eq!(consistent.status.code(), Some(0));
    assert_eq!(stdout(&consistent), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_read_is_one_line_of_error_and_exit_code_2() {
    let dynamodb = EmbeddedDynamoDb::start(None).await.unwrap();
    let output = check(&dynamodb, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let error = stderr(&output);
    assert!(error.contains("cannot check table chats"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn check_requires_the_name_of_a_table() {
    let output = run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--table"));
}

#[test]
fn help_names_every_command_and_option_with_an_example() {
    assert!(stdout(&run(&["--help"])).contains("check"));
    let help = stdout(&run(&["check", "--help"]));
    for text in [
        "--table",
        "TABLE_NAME",
        "--endpoint-url",
        "--repair",
        "--settle",
        "chat-admin check --table chats",
        "Exit codes",
    ] {
        assert!(help.contains(text), "{text:?} is missing: {help}");
    }
}
