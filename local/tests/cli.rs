//! What a person at the terminal meets before anything is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use chat_local::DEVELOPMENT_SECRET;
use chat_shared::{auth::Authenticator, domain::UserId};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat-local"))
        .args(arguments)
        .env_remove("JWT_SECRET")
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
    ] {
        assert!(help.contains(option), "{help}");
    }
}
