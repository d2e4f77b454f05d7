//! Sample requests: one per endpoint. They are examples in the OpenAPI document, and the sample events in
//! `events/` for `sam local invoke`.

use serde_json::{Value, json};

use crate::http::{ENDPOINTS, Endpoint};

/// The users of the samples: Ann sends a chat request to Ben.
const ANN: u64 = 17;
const BEN: u64 = 42;
const CHAT_ID: &str = "17-42";

/// A request with a valid body.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// The user id of the caller.
    pub caller: u64,
    /// The path parameter `chatId`, if the path has it.
    pub chat_id: Option<&'static str>,
    /// The body, if the endpoint has one.
    pub body: Option<Value>,
    /// The `Idempotency-Key` header, if the endpoint supports it.
    pub idempotency_key: Option<&'static str>,
    /// The expected status code, if the samples are sent in order to an empty table.
    pub status: u16,
}

/// A sample request for each endpoint, in the order of [`ENDPOINTS`]. Sent in this
/// order, each one succeeds, except `decline-chat-request`: the chat is active by then.
///
/// # Panics
/// If an endpoint has no sample request. A test finds this.
#[must_use]
pub fn sample_requests() -> Vec<SampleRequest> {
    ENDPOINTS.iter().map(sample_request).collect()
}

fn sample_request(endpoint: &'static Endpoint) -> SampleRequest {
    let (caller, status) = match endpoint.name {
        "send-chat-request" | "send-message" => (ANN, 201),
        "list-rejected-requests" => (ANN, 200),
        "decline-chat-request" => (BEN, 409),
        "list-pending-requests"
        | "accept-chat-request"
        | "list-active-chats"
        | "list-messages"
        | "mark-messages-read"
        | "get-totals"
        | "get-unread-total" => (BEN, 200),
        other => panic!("{other} has no sample request; add it to shared/src/openapi/samples.rs"),
    };
    SampleRequest {
        endpoint,
        caller,
        chat_id: endpoint.path.contains("{chatId}").then_some(CHAT_ID),
        body: match endpoint.name {
            "send-chat-request" => Some(chat_request_body()),
            "send-message" => Some(message_body()),
            _ => None,
        },
        idempotency_key: (endpoint.name == "send-message").then_some("sample-event"),
        status,
    }
}

pub(super) fn chat_request_body() -> Value {
    json!({"userId": BEN})
}

pub(super) fn message_body() -> Value {
    json!({"text": "Hello 👋"})
}
