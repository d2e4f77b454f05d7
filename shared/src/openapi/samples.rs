//! Sample requests: one per endpoint. They are examples in the OpenAPI document, and the sample events in
//! `events/` for `sam local invoke`.

use serde_json::{Value, json};

use crate::http::{ENDPOINTS, Endpoint};

/// The users of the samples: Ann sends a chat request to Ben.
const ANN: u64 = 17;
const BEN: u64 = 42;
/// The values of all path parameters: the chat of Ann and Ben, its first message, and Ben.
const PATH_PARAMETERS: [(&str, &str); 3] = [("chatId", "17-42"), ("seq", "1"), ("userId", "42")];

/// A request with a valid body.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// The user id of the caller.
    pub caller: u64,
    /// The path parameters, each with its name and its value.
    pub path_parameters: Vec<(&'static str, &'static str)>,
    /// The body, if the endpoint has one.
    pub body: Option<Value>,
    /// The `Idempotency-Key` header, if the endpoint supports it.
    pub idempotency_key: Option<&'static str>,
    /// The expected status code, if the samples are sent in order to an empty table.
    pub status: u16,
}

impl SampleRequest {
    /// The path with the values of its parameters.
    #[must_use]
    pub fn path(&self) -> String {
        let path = self.endpoint.path.to_owned();
        let parameters = self.path_parameters.iter();
        parameters.fold(path, |path, (name, value)| {
            path.replace(&placeholder(name), value)
        })
    }
}

/// A sample request for each endpoint, in the order of [`ENDPOINTS`]. Sent in this
/// order, each one succeeds, except `decline-chat-request` and `withdraw-chat-request`: the chat is active by
/// then.
///
/// # Panics
/// If an endpoint has no sample request. A test finds this.
#[must_use]
pub fn sample_requests() -> Vec<SampleRequest> {
    ENDPOINTS.iter().map(sample_request).collect()
}

fn sample_request(endpoint: &'static Endpoint) -> SampleRequest {
    let (caller, status) = match endpoint.name {
        "send-chat-request" | "send-message" | "report-user" => (ANN, 201),
        "list-rejected-requests"
        | "edit-message"
        | "delete-message"
        | "block-user"
        | "unblock-user"
        | "list-blocks" => (ANN, 200),
        "withdraw-chat-request" => (ANN, 409),
        "decline-chat-request" => (BEN, 409),
        "list-pending-requests"
        | "accept-chat-request"
        | "list-active-chats"
        | "get-chat"
        | "list-messages"
        | "mark-messages-read"
        | "list-changes"
        | "get-totals"
        | "get-unread-total" => (BEN, 200),
        other => panic!("{other} has no sample request; add it to shared/src/openapi/samples.rs"),
    };
    let path_parameters = PATH_PARAMETERS.into_iter();
    SampleRequest {
        endpoint,
        caller,
        path_parameters: path_parameters
            .filter(|(name, _)| endpoint.path.contains(&placeholder(name)))
            .collect(),
        body: match endpoint.name {
            "send-chat-request" => Some(chat_request_body()),
            "send-message" => Some(message_body()),
            "edit-message" => Some(edit_body()),
            "report-user" => Some(report_body()),
            _ => None,
        },
        idempotency_key: (endpoint.name == "send-message").then_some("sample-event"),
        status,
    }
}

/// A parameter in the path of an endpoint.
fn placeholder(name: &str) -> String {
    format!("{{{name}}}")
}

pub(super) fn chat_request_body() -> Value {
    json!({"userId": BEN})
}

pub(super) fn message_body() -> Value {
    json!({"text": "Hello 👋"})
}

pub(super) fn edit_body() -> Value {
    json!({"text": "Hello Ben 👋"})
}

/// Marks all messages, because the chat of a tool that sends the example may have any number of them.
pub(super) fn mark_body() -> Value {
    json!({})
}

pub(super) fn report_body() -> Value {
    json!({"userId": BEN, "reason": "spam"})
}
