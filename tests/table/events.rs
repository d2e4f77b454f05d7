//! `events/` holds one event a function for `sam local invoke`; each must work.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Local, support};

#[tokio::test]
async fn each_function_answers_its_sample_event() {
    // The events' tokens are signed with the development secret.
    let mut options = support::options();
    let secret = chat_local::DEVELOPMENT_SECRET.to_owned();
    options.environment.insert("JWT_SECRET".to_owned(), secret);
    let local = Local::start_with(options).await;
    // In the order in which two users would call: 17 asks 42, who accepts and reads.
    for (function, status) in [
        ("send-chat-request", 201),
        ("list-pending-requests", 200),
        ("list-rejected-requests", 200),
        ("get-totals", 200),
        ("accept-chat-request", 200),
        ("send-message", 201),
        ("get-unread-total", 200),
        ("list-active-chats", 200),
        ("list-messages", 200),
        ("mark-messages-read", 200),
        ("decline-chat-request", 409),
    ] {
        let path = format!("{}/../events/{function}.json", env!("CARGO_MANIFEST_DIR"));
        let event = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let event: Value = serde_json::from_str(&event).unwrap();
        let reply = local.stack.invoke(function, event).await.unwrap();
        assert_eq!(reply["statusCode"], status, "{function}: {reply}");
    }
}

#[test]
fn functions_events_and_templates_binaries_are_the_same_eleven() {
    let root = format!("{}/..", env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str, extension: &str| -> BTreeSet<String> {
        let files = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| Some(name.strip_suffix(extension)?.to_owned()))
            .collect()
    };
    let binaries = names("functions/src/bin", ".rs");
    assert_eq!(binaries.len(), 11);
    assert_eq!(names("events", ".json"), binaries);
    let template = chat_local::template::Template::read(format!("{root}/template.yaml").as_ref());
    let functions = template
        .unwrap()
        .functions
        .into_iter()
        .map(|function| function.binary);
    assert_eq!(functions.collect::<BTreeSet<_>>(), binaries);
}
