//! What a person at the terminal meets before anything is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output, Stdio};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{
    DEVELOPMENT_SECRET,
    dynamodb::{Embedded, client, create_table},
    template::{Template, default_path},
};
use chat_shared::{auth::Authenticator, domain::UserId};
use tokio::io::{AsyncBufReadExt, BufReader};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-local"))
        .args(arguments)
        .env_remove("JWT_SECRET")
        .env_remove("TABLE_NAME")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Asserts that it ends with 1 and one line that says what is wrong.
#[track_caller]
fn fails(output: &Output, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(says), "{error:?} does not say {says:?}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn user_of(token: &str, variables: &[(&str, &str)]) -> Option<u64> {
    let variable = |name: &str| {
        let value = variables
            .iter()
            .find(|(it, _)| *it == name)
            .map(|(_, value)| *value);
        value
            .or((name == "JWT_SECRET").then_some(DEVELOPMENT_SECRET))
            .map(str::to_owned)
    };
    let authenticator = Authenticator::from_variables(variable).unwrap();
    authenticator
        .user(Some(&format!("Bearer {}", token.trim())))
        .ok()
        .map(UserId::get)
}

#[test]
fn token_prints_a_token_that_the_functions_take() {
    let printed = |variables: &[_]| {
        let output = run(&["token", "42"], variables);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(user_of(&printed(&[]), &[]), Some(42));
    let own = [("JWT_SECRET", "another secret of at least 32 bytes")];
    assert_eq!(user_of(&printed(&own), &own), Some(42));
    assert_eq!(user_of(&printed(&own), &[]), None);
    let strict = [
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "chat"),
    ];
    assert_eq!(user_of(&printed(&strict), &strict), Some(42));
    assert_eq!(user_of(&printed(&[]), &strict), None);
    let claim = [("JWT_USER_CLAIM", "https://app.example/user")];
    assert_eq!(user_of(&printed(&claim), &claim), Some(42));
}

#[test]
fn a_token_is_printed_only_for_a_user() {
    for no_user in ["0", "042", "ann", "9007199254740992", ""] {
        let output = run(&["token", no_user], &[]);
        assert_eq!(output.status.code(), Some(2), "{no_user:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("9007199254740991"), "{error}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fails(&run(&["--port", &port], &[]), &port);
}

#[test]
fn an_unreadable_template_is_one_clear_line() {
    fails(
        &run(&["--port", "0", "--template", "no-such.yaml"], &[]),
        "no-such.yaml",
    );
    let this_is_no_template = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    fails(
        &run(&["--port", "0", "--template", this_is_no_template], &[]),
        "Cargo.toml",
    );
}

#[test]
fn a_weak_secret_is_one_clear_line() {
    fails(
        &run(&["--port", "0"], &[("JWT_SECRET", "short")]),
        "JWT_SECRET",
    );
}

#[test]
fn options_that_exclude_one_another_are_refused() {
    let both = run(&["--db", "a", "--endpoint-url", "http://localhost:1"], &[]);
    assert_eq!(both.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_a_table_and_repairs_it() {
    let dynamodb = Embedded::start(None).await.unwrap();
    let check = |more: &[&str]| {
        let mut arguments = vec!["check", "--table", "chats", "--settle", "0"];
        arguments.extend(["--endpoint-url", dynamodb.endpoint()]);
        arguments.extend(more);
        run(&arguments, &[])
    };
    let error = check(&[]);
    assert_eq!(error.status.code(), Some(2));
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(error.contains("cannot check table chats"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");

    let template = Template::read(&default_path()).unwrap();
    create_table(dynamodb.endpoint(), &template.table, "chats")
        .await
        .unwrap();
    assert_eq!(check(&[]).status.code(), Some(0));
    let put = client(dynamodb.endpoint()).put_item().table_name("chats");
    let put = put.item("pk", AttributeValue::S("USER#42".to_owned()));
    let put = put.item("sk", AttributeValue::S("TOTALS#3".to_owned()));
    let put = put.item("unread", AttributeValue::N("5".to_owned()));
    put.send().await.unwrap();

    let found = check(&[]);
    assert_eq!(found.status.code(), Some(1));
    let lines = String::from_utf8(found.stdout).unwrap();
    assert_eq!(lines, "USER#42 TOTALS#3: unread is 5, not 0\n");
    let hint = String::from_utf8(found.stderr).unwrap();
    assert!(hint.contains("1 items, 0 chats, 1 users"), "{hint}");
    assert!(hint.contains("--repair"), "{hint}");

    let repaired = check(&["--repair"]);
    assert_eq!(repaired.status.code(), Some(0));
    let lines = String::from_utf8(repaired.stdout).unwrap();
    assert_eq!(lines, "USER#42 TOTALS#3: unread is 5, not 0 (repaired)\n");
    let sound = check(&[]);
    assert_eq!(sound.status.code(), Some(0));
    assert_eq!(sound.stdout, b"");
}

#[tokio::test]
async fn table_serves_the_empty_table_to_other_processes_until_it_is_stopped() {
    let mut table = tokio::process::Command::new(env!("CARGO_BIN_EXE_chat-local"))
        .args(["table", "--listen", "127.0.0.1:0", "--name", "chats"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(table.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let words: Vec<_> = line.split([' ', ',']).collect();
    let url = words.iter().find(|word| word.starts_with("http")).unwrap();

    let scan = client(url).scan().table_name("chats").send().await.unwrap();
    assert_eq!(scan.count(), 0);
    let pid = table.id().unwrap().to_string();
    let interrupted = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(interrupted.success());
    assert!(table.wait().await.unwrap().success());
}

#[test]
fn a_table_on_a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&run(&["table", "--listen", &address], &[]), &address);
}

#[test]
fn check_wants_to_know_which_table() {
    let output = run(&["check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--table"));
}

#[test]
fn help_names_every_option() {
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    for option in [
        "--port",
        "--db",
        "--endpoint-url",
        "--release",
        "--template",
        "token",
        "event",
        "table",
        "check",
    ] {
        assert!(help.contains(option), "{help}");
    }
}
