//! Black-box tests of the API contract over HTTP, against the real function binaries.
//!
//! Without `API_URL` the tests start the whole backend on this machine. With `API_URL` they run against
//! any deployment, with tokens signed by `JWT_SECRET`. Each test uses new users, so tests may run
//! concurrently and repeatedly against the same deployment.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

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

use chat_shared::{http::Endpoint, openapi::sample_requests};
use support::Request;

/// The path of an endpoint for one chat.
fn endpoint_path(endpoint: &Endpoint, chat: &str) -> String {
    endpoint.path.replace("{chatId}", chat)
}

/// Adds a body that the endpoint accepts to a request, if the endpoint takes a body.
fn with_valid_body(request: Request, endpoint: &Endpoint) -> Request {
    let samples = sample_requests().into_iter();
    let mut bodies = samples
        .filter(|sample| sample.endpoint.name == endpoint.name)
        .filter_map(|sample| sample.body);
    if let Some(body) = bodies.next() {
        return request.json(&body);
    }
    assert!(
        !["POST", "PATCH"].contains(&endpoint.method),
        "{} needs a sample request with a body",
        endpoint.name
    );
    request
}
