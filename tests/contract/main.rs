//! The API contract, row by row, over HTTP against the real binaries.
//!
//! Without `API_URL` the tests start the whole backend on this machine. With it they run against any
//! deployment, with tokens signed by `JWT_SECRET`. Users are new in each test, so that tests run at
//! once and twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod bodies;
mod chats;
mod gateway;
mod idempotency;
mod messages;
mod methods;
mod paging;
mod races;
mod totals;

/// The routes: method, path with a chat, a body that the route takes.
const ROUTES: [(&str, &str, Option<&str>); 11] = [
    ("GET", "/chats", None),
    ("POST", "/chats", Some(r#"{"userId":1}"#)),
    ("GET", "/chats/pending", None),
    ("GET", "/chats/rejected", None),
    ("PUT", "/chats/{chatId}/accept", None),
    ("PUT", "/chats/{chatId}/decline", None),
    ("GET", "/chats/{chatId}/messages", None),
    ("PUT", "/chats/{chatId}/messages/read", None),
    ("GET", "/totals", None),
    ("GET", "/totals/unread", None),
    ("POST", "/chats/{chatId}/messages", Some(r#"{"text":"hi"}"#)),
];
