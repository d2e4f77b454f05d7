//! The command line of `cargo run`: tokens, sample events, generated files, and clear errors before
//! anything is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output, Stdio};

use chat_local::{DEVELOPMENT_SECRET, dynamodb::client_for_endpoint};
use chat_shared::{
    auth::Authenticator,
    domain::{Timestamp, UserId},
    openapi::{sample_requests, to_yaml},
};
use tokio::io::{AsyncBufReadExt, BufReader};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-local"))
        .args(arguments)
        .env_remove("JWT_SECRET")
        .env_remove("JWT_SECRET_PREVIOUS")
        .env_remove("TABLE_NAME")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Runs a command that succeeds, and returns its output.
#[track_caller]
fn stdout(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(arguments, variables);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the command failed with status 1 and one line that contains `expected`.
#[track_caller]
fn expect_error(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(expected),
        "{error:?} does not contain {expected:?}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// The user of a token, if functions with these variables accept it.
fn token_user(token: &str, variables: &[(&str, &str)]) -> Option<u64> {
    let variable = |name: &str| {
        let value = variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| *value);
        value
            .or((name == "JWT_SECRET").then_some(DEVELOPMENT_SECRET))
            .map(str::to_owned)
    };
    let authenticator = Authenticator::from_env(variable).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let user = authenticator.verify(Some(&authorization), Timestamp::now());
    user.ok().map(UserId::get)
}

#[test]
fn token_prints_a_token_that_the_functions_accept() {
    let token = |variables: &[_]| stdout(&["token", "42"], variables);
    assert_eq!(token_user(&token(&[]), &[]), Some(42));
    let own_secret = [("JWT_SECRET", "another secret of at least 32 bytes")];
    assert_eq!(token_user(&token(&own_secret), &own_secret), Some(42));
    assert_eq!(token_user(&token(&own_secret), &[]), None);
    let strict = [
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "chat"),
    ];
    assert_eq!(token_user(&token(&strict), &strict), Some(42));
    assert_eq!(token_user(&token(&[]), &strict), None);
    let lists = [
        ("JWT_ISSUER", "https://id.example, https://new-id.example"),
        ("JWT_AUDIENCE", "chat, chat-web"),
    ];
    assert_eq!(token_user(&token(&lists), &lists), Some(42));
    let access_token = [("JWT_TOKEN_USE", "access"), ("JWT_TYP", "at+jwt")];
    assert_eq!(token_user(&token(&access_token), &access_token), Some(42));
    assert_eq!(token_user(&token(&[]), &access_token), None);
    let claim = [("JWT_USER_CLAIM", "https://app.example/user")];
    assert_eq!(token_user(&token(&claim), &claim), Some(42));
}

#[test]
fn token_rejects_an_invalid_user_id() {
    for invalid in ["0", "042", "ann", "9007199254740992", ""] {
        let output = run(&["token", invalid], &[]);
        assert_eq!(output.status.code(), Some(2), "{invalid:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("9007199254740991"), "{error}");
    }
}

#[test]
fn token_rejects_a_configuration_that_the_functions_reject() {
    let output = run(&["token", "42"], &[("JWT_SECRET", "short")]);
    expect_error(&output, "JWT_SECRET");
}

#[test]
fn a_token_needs_a_secret_also_beside_keys_that_the_functions_fetch() {
    let keys = ("JWT_JWKS_URL", "https://id.example/jwks.json");
    let output = run(&["token", "42"], &[keys]);
    expect_error(&output, "set JWT_SECRET");
    let secret = ("JWT_SECRET", "another secret of at least 32 bytes");
    let token = stdout(&["token", "42"], &[keys, secret]);
    assert_eq!(token_user(&token, &[secret]), Some(42));
}

#[test]
fn event_prints_a_sample_event_with_a_token_of_the_requested_user() {
    let user = |arguments: &[&str]| {
        let event: serde_json::Value = serde_json::from_str(&stdout(arguments, &[])).unwrap();
        let authorization = event["headers"]["authorization"].as_str().unwrap();
        token_user(authorization.strip_prefix("Bearer ").unwrap(), &[])
    };
    assert_eq!(user(&["event", "send-message"]), Some(17));
    assert_eq!(user(&["event", "send-message", "--user", "99"]), Some(99));
    expect_error(&run(&["event", "no-such"], &[]), "no-such");
}

#[test]
fn events_lists_all_sample_events_with_their_status() {
    let expected: Vec<_> = sample_requests()
        .iter()
        .map(|sample| format!("{} {}", sample.endpoint.name, sample.status))
        .collect();
    let listed = stdout(&["events"], &[]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn openapi_prints_the_document() {
    assert_eq!(stdout(&["openapi"], &[]), to_yaml().unwrap());
}

#[test]
fn generate_check_accepts_the_files_in_the_repository() {
    assert_eq!(stdout(&["generate", "--check"], &[]), "");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    expect_error(&run(&["--port", &port], &[]), &port);
}

#[test]
fn an_invalid_template_is_one_clear_line() {
    expect_error(
        &run(&["--port", "0", "--template", "no-such.yaml"], &[]),
        "no-such.yaml",
    );
    let not_a_template = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    expect_error(
        &run(&["--port", "0", "--template", not_a_template], &[]),
        "Cargo.toml",
    );
}

#[test]
fn a_weak_secret_is_one_clear_line() {
    expect_error(
        &run(&["--port", "0"], &[("JWT_SECRET", "short")]),
        "JWT_SECRET",
    );
}

#[test]
fn the_development_secret_is_rejected_for_a_dynamodb_on_another_machine() {
    let endpoint = "https://dynamodb.eu-central-1.amazonaws.com";
    let arguments = ["--port", "0", "--endpoint-url", endpoint];
    for variables in [
        &[][..],
        &[("JWT_SECRET", DEVELOPMENT_SECRET)],
        &[
            ("JWT_SECRET", "another secret of at least 32 bytes"),
            ("JWT_SECRET_PREVIOUS", DEVELOPMENT_SECRET),
        ],
    ] {
        let output = run(&arguments, variables);
        expect_error(&output, "set JWT_SECRET");
        expect_error(&output, endpoint);
    }
}

#[test]
fn an_allowed_origin_is_what_browsers_send_as_origin() {
    // An invalid template ends the program before it builds anything.
    let start = |origin: &str| {
        let arguments = ["--template", "no-such.yaml", "--allowed-origin", origin];
        run(&arguments, &[]).status.code()
    };
    for origin in [
        "https://app.example",
        "http://192.168.0.2:5173",
        "*",
        "https://*",
    ] {
        assert_eq!(start(origin), Some(1), "{origin}");
    }
    for invalid in [
        "",
        "app.example",
        "https://",
        "https://app.example/",
        "https://*.app.example",
        "https://a.example,https://b.example",
    ] {
        assert_eq!(start(invalid), Some(2), "{invalid}");
    }
}

#[test]
fn options_that_exclude_each_other_are_rejected() {
    let both = run(&["--db", "a", "--endpoint-url", "http://localhost:1"], &[]);
    assert_eq!(both.status.code(), Some(2));
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

    let client = client_for_endpoint(url);
    let scan = client.scan().table_name("chats").send().await.unwrap();
    assert_eq!(scan.count(), 0);
    let pid = table.id().unwrap().to_string();
    let interrupted = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(interrupted.success());
    assert!(table.wait().await.unwrap().success());
}

#[test]
fn only_this_machine_can_reach_the_table_by_default() {
    let help = stdout(&["table", "--help"], &[]);
    assert!(help.contains("[default: 127.0.0.1:8000]"), "{help}");
}

#[test]
fn a_table_on_a_port_in_use_is_one_clear_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    expect_error(&run(&["table", "--listen", &address], &[]), &address);
}

#[test]
fn help_lists_every_option_and_command() {
    let help = stdout(&["--help"], &[]);
    for option in [
        "--port",
        "--db",
        "--endpoint-url",
        "--allowed-origin",
        "--release",
        "--template",
        "token",
        "event",
        "events",
        "table",
        "openapi",
        "generate",
    ] {
        assert!(help.contains(option), "{help}");
    }
}
