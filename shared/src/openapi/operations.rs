//! The operations of the OpenAPI document: parameters, bodies, responses and examples.
//!
//! Parameters that exclude one another, or that must come from an earlier response, have neither an
//! example nor a default, because tools that send example requests would send all of them.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{
        Content, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
        link::Link,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::{ObjectBuilder, Type},
    },
};

use super::{JSON, error_response_ref, header, samples, schema_ref};
use crate::{
    domain::MAX_SAFE_INTEGER,
    error::ErrorCode,
    http::{
        ChatView, Endpoint, MarkedAsReadView, MessageView, SendChatRequestBody, SendMessageBody,
        TotalsView, UnreadTotalView,
        query::{DEFAULT_LIMIT, MAX_CHATS_SKIP, MAX_LIMIT},
        schemas::{ChatIdText, Cursor, integer, number},
        views::{ChatPageView, MessagePageView},
    },
    store::IdempotencyKey,
};

/// The operation of an endpoint.
pub(super) fn describe(endpoint: &Endpoint) -> Operation {
    let operation = OperationBuilder::new().operation_id(Some(endpoint.operation_id()));
    match endpoint.name {
        "send-chat-request" => send_chat_request(operation),
        "list-pending-requests" => list_pending_requests(operation),
        "list-rejected-requests" => list_rejected_requests(operation),
        "accept-chat-request" => accept_chat_request(operation),
        "decline-chat-request" => decline_chat_request(operation),
        "list-active-chats" => list_active_chats(operation),
        "send-message" => send_message(operation),
        "list-messages" => list_messages(operation),
        "mark-messages-read" => mark_messages_read(operation),
        "get-totals" => get_totals(operation),
        "get-unread-total" => get_unread_total(operation),
        other => panic!("{other} has no description; add it to shared/src/openapi/operations.rs"),
    }
}

fn list_active_chats(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Chats", "List active chats").description(Some(
        "The active chats of the caller, latest activity first. A chat with new activity moves to the top \
         while a client pages, and does not appear again on later pages.",
    ));
    let operation = with_chat_page_parameters(operation);
    let page = json!({"chats": [chat("active")], "nextCursor": null});
    // The lists of requests have no such link, because it would need the optional parameter `direction`.
    let next = Link::builder()
        .operation_id("listActiveChats")
        .parameter("cursor", "$response.body#/nextCursor")
        .description("The next page, unless `nextCursor` is null.");
    let response = ResponseBuilder::new()
        .description("A page of chats.")
        .content(JSON, content::<ChatPageView<'_>>(page))
        .link("next", next.build())
        .build();
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn list_pending_requests(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Requests", "List pending requests").description(Some(
        "Unanswered chat requests, latest first: those that the caller has sent, or with \
             `direction=received` those that the caller has received.",
    ));
    list_of_requests(operation, "pending")
}

fn list_rejected_requests(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Requests", "List declined requests").description(Some(
        "Declined chat requests, latest first: those that the caller has sent, or with \
             `direction=received` those that the caller has declined.",
    ));
    list_of_requests(operation, "declined")
}

fn list_of_requests(operation: OperationBuilder, status: &str) -> Operation {
    let operation = with_chat_page_parameters(operation.parameter(direction()));
    let page = json!({"chats": [chat(status)], "nextCursor": null});
    let response = response::<ChatPageView<'_>>("A page of chats.", page);
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn send_chat_request(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Requests", "Send a chat request")
        .description(Some(
            "Sends a chat request to another user. Safe to repeat. If the other user has sent a request to the \
             caller, this accepts it. If the caller has declined a request of the other user, this sends a new \
             request with swapped roles.",
        ))
        .request_body(Some(body::<SendChatRequestBody>(
            "The recipient.",
            samples::chat_request_body(),
        )));
    let with_links = |description: &str, status: &str| {
        let link = |operation: &str, description: &str| {
            Link::builder()
                .operation_id(operation)
                .parameter("chatId", "$response.body#/chatId")
                .description(description)
                .build()
        };
        ResponseBuilder::new()
            .description(description)
            .content(JSON, content::<ChatView<'_>>(chat(status)))
            .link(
                "accept",
                link("acceptChatRequest", "The recipient accepts the request."),
            )
            .link(
                "decline",
                link("declineChatRequest", "The recipient declines the request."),
            )
            .link(
                "send",
                link(
                    "sendMessage",
                    "Both members can send messages once the chat is active.",
                ),
            )
            .link(
                "read",
                link("listMessages", "Both members can list the messages."),
            )
            .build()
    };
    let new = with_links(
        "The chat was created. The recipient can accept or decline it.",
        "pending",
    );
    let old = with_links(
        "The pair already had a chat. Contains its current state, which this request may have changed.",
        "active",
    );
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::ChatDeclined,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::TooManyPendingRequests,
    ];
    with_responses(operation, [(200, old), (201, new)], &codes)
}

fn accept_chat_request(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Requests", "Accept a request")
        .description(Some("The recipient accepts the request. Safe to repeat."))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The active chat.", chat("active"));
    let codes = [
        ErrorCode::NotTheRecipient,
        ErrorCode::ChatNotFound,
        ErrorCode::ChatDeclined,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn decline_chat_request(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Requests", "Decline a request")
        .description(Some(
            "The recipient declines the request. Safe to repeat. Afterwards, only the recipient can send a new \
             request.",
        ))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The declined chat.", chat("declined"));
    let codes = [
        ErrorCode::NotTheRecipient,
        ErrorCode::ChatNotFound,
        ErrorCode::ChatActive,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn list_messages(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Messages", "List messages")
        .description(Some(
            "The messages of a chat, newest first. With `after`, oldest first, to catch up after a gap: follow \
             `nextCursor` until it is null, and continue later with `after` and the last `seq`.",
        ))
        .parameter(chat_id())
        .parameter(limit())
        .parameter(cursor("`skip`, `before` and `after`"))
        .parameter(skip(MAX_SAFE_INTEGER, "`cursor`, `before` and `after`"))
        .parameter(query(
            "before",
            "Only messages before this `seq`, newest first. Cannot be combined with `cursor`, `skip` and `after`.",
            integer(1),
        ))
        .parameter(query(
            "after",
            "Only messages after this `seq`, oldest first; 0 starts with the first message. Cannot be combined \
             with `cursor`, `skip` and `before`.",
            integer(0),
        ));
    let page = json!({
        "messages": [message("sent")],
        "nextCursor": "MS5tZXNzYWdlcy0xNy00Mi4xNy5iZWZvcmU6OQ",
    });
    let next = Link::builder()
        .operation_id("listMessages")
        .parameter("chatId", "$request.path.chatId")
        .parameter("cursor", "$response.body#/nextCursor")
        .description("The next page in the same direction, unless `nextCursor` is null.");
    let response = ResponseBuilder::new()
        .description("A page of messages.")
        .content(JSON, content::<MessagePageView<'_>>(page))
        .link("next", next.build())
        .build();
    let codes = [ErrorCode::InvalidRequest, ErrorCode::ChatNotFound];
    with_responses(operation, [(200, response)], &codes)
}

fn send_message(operation: OperationBuilder) -> Operation {
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(IdempotencyKey::MAX_LENGTH))
        // Visible ASCII characters without the comma: API Gateway joins the values of a repeated header with it.
        .pattern(Some("^[!-+.-~-]+$"));
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A key for this message, so that a retry does not send it twice. The client chooses it, for example \
             a random UUID such as `3f0c9a52-7a0b-4a0e-8a51-6f1f5f6f2b11`; visible ASCII characters without \
             commas. It is valid for the caller in this chat, for 24 hours. A request that fails with a 4xx does \
             not use the key.",
        ))
        .schema(Some(key));
    let operation = summary(operation, "Messages", "Send a message")
        .description(Some(
            "Sends a message to the other member. It must have at least one of the three parts. Send an \
             `Idempotency-Key` with each message, and retry with the same key until you get a response.",
        ))
        .parameter(chat_id())
        .parameter(key)
        .request_body(Some(body::<SendMessageBody>(
            "The message.",
            samples::message_body(),
        )));
    let new = response::<MessageView<'_>>("The message was accepted.", message("sent"));
    let replayed = ResponseBuilder::new()
        .description(
            "The message was accepted earlier, with the same key. Contains its current state. Nothing was sent twice.",
        )
        .content(JSON, content::<MessageView<'_>>(message("read")))
        .header(
            "Idempotent-Replayed",
            header("The message was accepted earlier.", "true"),
        )
        .build();
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::ChatNotFound,
        ErrorCode::ChatNotActive,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::IdempotencyKeyReused,
    ];
    with_responses(operation, [(200, replayed), (201, new)], &codes)
}

fn mark_messages_read(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Messages", "Mark messages as read")
        .description(Some(
            "Marks all existing messages of the chat as read by the caller. Safe to repeat.",
        ))
        .parameter(chat_id());
    let body = json!({"success": true, "message": "All messages have been marked as read."});
    let response =
        response::<MarkedAsReadView>("The caller has no unread messages in the chat.", body);
    with_responses(operation, [(200, response)], &[ErrorCode::ChatNotFound])
}

fn get_totals(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Totals", "Get all totals").description(Some(
        "Counts for badges: received requests, unread messages and sent requests.",
    ));
    let body = json!({"totalPendingRequest": 1, "totalUnreadMessages": 3, "totalSentRequest": 2});
    let response = response::<TotalsView>("The totals.", body);
    with_responses(operation, [(200, response)], &[])
}

fn get_unread_total(operation: OperationBuilder) -> Operation {
    let operation = summary(operation, "Totals", "Get the unread total").description(
        Some("The number of unread messages of the caller. The response is the smallest one for polling."),
    );
    let response = response::<UnreadTotalView>("The total.", json!({"totalUnreadMessages": 3}));
    with_responses(operation, [(200, response)], &[])
}

fn summary(operation: OperationBuilder, tag: &str, summary: &str) -> OperationBuilder {
    operation.tag(tag).summary(Some(summary))
}

/// Adds the responses: successes, the given error codes, and the error codes of every operation.
fn with_responses<const N: usize>(
    operation: OperationBuilder,
    successes: [(u16, Response); N],
    codes: &[ErrorCode],
) -> Operation {
    let every = [
        ErrorCode::Unauthorized,
        ErrorCode::BodyTooLarge,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
    ];
    let mut all: Vec<(u16, RefOr<Response>)> = Vec::new();
    all.extend(successes.map(|(status, response)| (status, response.into())));
    let codes = codes.iter().chain(&every);
    all.extend(codes.map(|code| (code.status(), error_response_ref(*code).into())));
    if !all.iter().any(|(status, _)| *status == 429) {
        all.push((429, Ref::from_response_name("throttled").into()));
    }
    all.push((431, Ref::from_response_name("headers_too_large").into()));
    all.sort_by_key(|(status, _)| *status);
    let add = |operation: OperationBuilder, (status, response): (u16, RefOr<Response>)| {
        operation.response(status.to_string(), response)
    };
    all.into_iter().fold(operation, add).build()
}

fn content<T: ToSchema>(example: Value) -> Content {
    Content::builder()
        .schema(Some(schema_ref::<T>()))
        .example(Some(example))
        .build()
}

fn body<T: ToSchema>(description: &str, example: Value) -> RequestBody {
    RequestBodyBuilder::new()
        .description(Some(description))
        .required(Some(Required::True))
        .content(JSON, content::<T>(example))
        .build()
}

fn response<T: ToSchema>(description: &str, example: Value) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content(JSON, content::<T>(example))
        .build()
}

fn chat_id() -> Parameter {
    ParameterBuilder::new()
        .name("chatId")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(
            "The id of a chat of the caller. Any other value is a 404.",
        ))
        .schema(Some(schema_ref::<ChatIdText>()))
        .example(Some(json!("17-42")))
        .build()
}

fn with_chat_page_parameters(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(limit())
        .parameter(cursor("`skip`"))
        .parameter(skip(MAX_CHATS_SKIP, "`cursor`"))
}

fn limit() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(number(MAX_LIMIT)))
        .default(Some(json!(DEFAULT_LIMIT)));
    query(
        "limit",
        "The maximum number of entries on the page.",
        schema,
    )
}

fn skip(max: u64, excludes: &str) -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(number(max)));
    let description =
        format!("The number of entries to skip; 0 by default. Cannot be combined with {excludes}.");
    query("skip", &description, schema)
}

fn cursor(excludes: &str) -> Parameter {
    ParameterBuilder::from(query("cursor", "", ObjectBuilder::new()))
        .description(Some(format!(
            "The `nextCursor` of a page of the same list. Cannot be combined with {excludes}."
        )))
        .schema(Some(schema_ref::<Cursor>()))
        .build()
}

fn direction() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["sent", "received"]))
        .default(Some(json!("sent")));
    let description = "Requests that the caller has sent, or that the caller has received.";
    query("direction", description, schema)
}

fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// An example: the chat of Ann (17) and Ben (42) from the perspective of Ann, who has received the request.
fn chat(status: &str) -> Value {
    let is_active = status == "active";
    let last_message = json!({
        "seq": 9,
        "senderId": 42,
        "text": "Hello 👋",
        "createdAt": "2026-01-31T12:00:00.250Z",
    });
    json!({
        "chatId": "17-42",
        "status": status,
        "requesterId": 42,
        "recipientId": 17,
        "unreadCount": if is_active { 3 } else { 0 },
        "readSeq": if is_active { 6 } else { 0 },
        "peerReadSeq": if is_active { 9 } else { 0 },
        "lastMessage": if is_active { last_message } else { Value::Null },
        "createdAt": "2026-01-30T08:15:00.000Z",
        "updatedAt": if is_active { "2026-01-31T12:00:00.250Z" } else { "2026-01-30T08:15:00.000Z" },
    })
}

fn message(status: &str) -> Value {
    json!({
        "messageId": "17-42/9",
        "chatId": "17-42",
        "seq": 9,
        "senderId": 42,
        "text": "Hello 👋",
        "imageUrl": null,
        "linkPreviewUrl": null,
        "status": status,
        "createdAt": "2026-01-31T12:00:00.250Z",
    })
}
