//! `events/` holds one event a function for `sam local invoke`; each must work.

use std::{collections::BTreeSet, path::PathBuf};

use chat_local::template::{Template, default_path, workspace_root};
use chat_shared::domain::UserId;
use serde_json::Value;

use crate::{Local, support::tokens};

#[tokio::test]
async fn each_function_answers_its_sample_event() {
    let local = Local::start().await;
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
        let token = |user: UserId| Ok(tokens::valid(user.get()));
        let event = chat_local::events::ready(&folder(), function, None, token).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let reply = local.stack.invoke(function, event).await.unwrap();
        assert_eq!(reply["statusCode"], status, "{function}: {reply}");
    }
}

fn folder() -> PathBuf {
    workspace_root().join("events")
}

#[test]
fn an_events_token_is_of_whom_it_names_or_of_whom_is_asked_for() {
    let token = |user: UserId| Ok(format!("[{user}]"));
    let ready = |user: Option<&str>| {
        let user = user.map(|user| user.parse().unwrap());
        let event = chat_local::events::ready(&folder(), "send-message", user, token).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        event["headers"]["authorization"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ready(None), "Bearer [17]");
    assert_eq!(ready(Some("99")), "Bearer [99]");
    let none = chat_local::events::ready(&folder(), "no-such", None, token).unwrap_err();
    assert!(none.to_string().contains("no-such"), "{none}");
}

#[test]
fn functions_routes_events_binaries_and_the_readmes_table_say_the_same() {
    let binaries = names("functions/src/bin", ".rs");
    assert_eq!(binaries.len(), 11);
    let template = Template::read(&default_path()).unwrap();
    let functions = template.functions.iter().map(|it| it.binary.clone());
    assert_eq!(functions.collect::<BTreeSet<_>>(), binaries);

    let of_template: BTreeSet<_> = template
        .routes
        .iter()
        .filter(|route| ["GET", "POST", "PUT"].contains(&&*route.method))
        .map(|route| {
            (
                route.binary.clone(),
                format!("{} {}", route.method, route.path),
            )
        })
        .collect();
    let events = names("events", ".json")
        .into_iter()
        .filter(|name| name != "env");
    let of_events: BTreeSet<_> = events
        .map(|name| (name.clone(), route_of_event(&name)))
        .collect();
    assert_eq!(of_events, of_template);

    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let of_readme: BTreeSet<_> = readme.lines().filter_map(route_in_table).collect();
    assert_eq!(of_readme, of_template);
}

fn names(folder: &str, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(workspace_root().join(folder)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(extension)?.to_owned()))
        .collect()
}

/// The route that an event says it is of, which its method and path must be of, too.
fn route_of_event(name: &str) -> String {
    let event = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let event: Value = serde_json::from_str(&event).unwrap();
    let route = event["routeKey"].as_str().unwrap();
    assert_eq!(event["requestContext"]["routeKey"], route, "{name}");
    assert_eq!(
        event["requestContext"]["http"]["path"], event["rawPath"],
        "{name}"
    );
    let method = event["requestContext"]["http"]["method"].as_str().unwrap();
    let chat = event["pathParameters"]["chatId"]
        .as_str()
        .unwrap_or_default();
    let path = event["rawPath"].as_str().unwrap().replace(chat, "{chatId}");
    let path = if chat.is_empty() {
        event["rawPath"].as_str().unwrap().to_owned()
    } else {
        path
    };
    assert_eq!(format!("{method} {path}"), route, "{name}");
    route.to_owned()
}

/// Function and route of a row such as ``| `get-totals` | `GET /totals` | …``.
fn route_in_table(row: &str) -> Option<(String, String)> {
    let mut cells = row.strip_prefix("| `")?.split("` |");
    let function = cells.next()?;
    let route = cells.next()?.strip_prefix(" `")?;
    let route = route.split('`').next()?;
    let is_route = route.contains(" /");
    is_route.then(|| (function.to_owned(), route.to_owned()))
}
