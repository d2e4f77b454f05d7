//! Black-box tests of the API contract over HTTP and WebSockets, against the real function binaries.
//!
//! Without `API_URL` the tests start the whole backend on this machine. With `API_URL` they run against
//! any deployment, with tokens signed by `JWT_SECRET`. Each test uses new users, so tests may run
//! concurrently and repeatedly against the same deployment.
//!
//! `LIVE_URL` is the URL of the WebSocket API; without it, `/live` of `API_URL`. It must start with `ws://`: for a
//! deployment, run a reverse proxy that adds TLS and sets the header `Host`. `ALLOWED_ORIGIN` is an origin whose pages
//! the deployment allows, if that is not every page.
//!
//! The tests are in `suite.rs`. The target `integration` runs them again while indexes follow the table
//! late, as in a deployment.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "suite.rs"]
mod suite;
#[path = "../support/mod.rs"]
mod support;

use chat_local::Stack;

// The tests refer to these at the root of the crate.
use suite::chats;
use support::{endpoint_path, live_stack_options, with_valid_body};

/// Starts the API that all tests share: the one at `API_URL`, or a stack on this machine. Returns its
/// URL, and what must live as long as it is in use.
async fn start_shared_api() -> (String, Option<Stack>) {
    if let Ok(url) = std::env::var("API_URL") {
        return (url, None);
    }
    let stack = Stack::start(live_stack_options())
        .await
        .expect("the stack should start");
    (stack.url().to_owned(), Some(stack))
}
