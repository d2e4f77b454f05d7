//! The calls: what each takes, and all that it may be answered.
//!
//! Parameters that exclude one another, or that must come from an earlier answer, have neither an example
//! nor a default: pages that send calls would put all of them in.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{
        Content, HttpMethod, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
        link::Link,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::{ObjectBuilder, Type},
    },
};

use super::{
    ChatIdText, Cursor, JSON, header, refusal_ref, schema_ref,
    schemas::{integer, number},
};
use crate::{
    domain::MAX_INTEGER,
    error::Code,
    http::{
        ChatView, MarkedView, MessageView, SendChatRequestBody, SendMessageBody, TotalsView,
        UnreadTotalView,
        query::{DEFAULT_LIMIT, MAX_CHATS_SKIP, MAX_LIMIT},
        reply::{ChatPageView, MessagePageView},
    },
    store::IdempotencyKey,
};

/// All calls, in the order of the document.
pub(super) fn all() -> Vec<(HttpMethod, &'static str, Operation)> {
    use HttpMethod::{Get, Post, Put};
    vec![
        (Get, "/chats", list_active_chats()),
        (Post, "/chats", send_chat_request()),
        (Get, "/chats/pending", list_pending_requests()),
        (Get, "/chats/rejected", list_rejected_requests()),
        (Put, "/chats/{chatId}/accept", accept_chat_request()),
        (Put, "/chats/{chatId}/decline", decline_chat_request()),
        (Get, "/chats/{chatId}/messages", list_messages()),
        (Post, "/chats/{chatId}/messages", send_message()),
        (Put, "/chats/{chatId}/messages/read", mark_messages_read()),
        (Get, "/totals", get_totals()),
        (Get, "/totals/unread", get_unread_total()),
    ]
}

fn list_active_chats() -> Operation {
    let operation = operation("listActiveChats", "Chats", "List active chats").description(Some(
        "The caller's active chats, latest activity first. A chat that becomes active while one pages \
         moves to the top and is not repeated below.",
    ));
    let operation = with_chat_page_parameters(operation);
    let page = json!({"chats": [chat("active")], "nextCursor": null});
    // The lists of requests have no such link: it would have to keep a `direction` that may be absent.
    let next = Link::builder()
        .operation_id("listActiveChats")
        .parameter("cursor", "$response.body#/nextCursor")
        .description("The next page, unless `nextCursor` is null.");
    let response = ResponseBuilder::new()
        .description("A page of chats.")
        .content(JSON, content::<ChatPageView<'_>>(page))
        .link("next", next.build())
        .build();
    answers(operation, [(200, response)], &[Code::InvalidRequest])
}

fn list_pending_requests() -> Operation {
    let operation = operation("listPendingRequests", "Requests", "List pending requests")
        .description(Some(
            "The requests that wait for an answer, latest first: those that the caller has sent, or with \
             `direction=received` those that wait for the caller's answer.",
        ));
    list_of_requests(operation, "pending")
}

fn list_rejected_requests() -> Operation {
    let operation = operation("listRejectedRequests", "Requests", "List declined requests")
        .description(Some(
            "The requests that were declined, latest first: those that the caller had sent, or with \
             `direction=received` those that the caller declined.",
        ));
    list_of_requests(operation, "declined")
}

fn list_of_requests(operation: OperationBuilder, status: &str) -> Operation {
    let operation = with_chat_page_parameters(operation.parameter(direction()));
    let page = json!({"chats": [chat(status)], "nextCursor": null});
    let response = response::<ChatPageView<'_>>("A page of chats.", page);
    answers(operation, [(200, response)], &[Code::InvalidRequest])
}

fn send_chat_request() -> Operation {
    let operation = operation("sendChatRequest", "Requests", "Ask a user for a chat")
        .description(Some(
            "Asks another user for a chat. Safe to repeat. Asking who has asked the caller accepts; asking \
             whom the caller has declined asks anew.",
        ))
        .request_body(Some(body::<SendChatRequestBody>(
            "Whom to ask.",
            json!({"userId": 17}),
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
                link("acceptChatRequest", "The recipient accepts."),
            )
            .link(
                "decline",
                link("declineChatRequest", "The recipient declines."),
            )
            .link(
                "send",
                link("sendMessage", "Once it is active, both write."),
            )
            .link("read", link("listMessages", "Both read."))
            .build()
    };
    let new = with_links(
        "The pair has a new chat, which waits for an answer.",
        "pending",
    );
    let old = with_links(
        "The pair has a chat already: as it is now, which this call may have changed.",
        "active",
    );
    let codes = [
        Code::InvalidRequest,
        Code::ChatDeclined,
        Code::UnsupportedMediaType,
        Code::TooManyPendingRequests,
    ];
    answers(operation, [(200, old), (201, new)], &codes)
}

fn accept_chat_request() -> Operation {
    let operation = operation("acceptChatRequest", "Requests", "Accept a request")
        .description(Some("The recipient accepts. Safe to repeat."))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The chat, active.", chat("active"));
    let codes = [
        Code::NotTheRecipient,
        Code::ChatNotFound,
        Code::ChatDeclined,
    ];
    answers(operation, [(200, response)], &codes)
}

fn decline_chat_request() -> Operation {
    let operation = operation("declineChatRequest", "Requests", "Decline a request")
        .description(Some(
            "The recipient declines. Safe to repeat. Only who declined may ask for the chat later.",
        ))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The chat, declined.", chat("declined"));
    let codes = [Code::NotTheRecipient, Code::ChatNotFound, Code::ChatActive];
    answers(operation, [(200, response)], &codes)
}

fn list_messages() -> Operation {
    let operation = operation("listMessages", "Messages", "List messages")
        .description(Some(
            "A chat's messages, newest first. With `after` oldest first, to catch up after a gap: go on \
             with `nextCursor` until it is null, and later with `after` and the last `seq`.",
        ))
        .parameter(chat_id())
        .parameter(limit())
        .parameter(cursor("`skip`, `before` and `after`"))
        .parameter(skip(MAX_INTEGER, "`cursor`, `before` and `after`"))
        .parameter(query(
            "before",
            "Only messages before this `seq`, newest first. Excludes `cursor`, `skip` and `after`.",
            integer(1),
        ))
        .parameter(query(
            "after",
            "Only messages after this `seq`, oldest first; 0: from the first. Excludes `cursor`, `skip` and \
             `before`.",
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
    let codes = [Code::InvalidRequest, Code::ChatNotFound];
    answers(operation, [(200, response)], &codes)
}

fn send_message() -> Operation {
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(IdempotencyKey::MAX_LENGTH))
        .pattern(Some("^[!-~]+$"));
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Names this message, so that repeating the call does not send it twice; visible ASCII \
             characters, of the caller's own making, such as `3f0c9a52-7a0b-4a0e-8a51-6f1f5f6f2b11`. It is \
             the caller's in this chat, for 24 hours. A refused call does not use it up.",
        ))
        .schema(Some(key));
    let operation = operation("sendMessage", "Messages", "Send a message")
        .description(Some(
            "Sends a message to the other member. It has at least one of the three parts. Send an \
             `Idempotency-Key` with each message, and repeat the call with the same one until it is answered.",
        ))
        .parameter(chat_id())
        .parameter(key)
        .request_body(Some(body::<SendMessageBody>(
            "What to say.",
            json!({"text": "Hello 👋"}),
        )));
    let new = response::<MessageView<'_>>("The message was accepted.", message("sent"));
    let replayed = ResponseBuilder::new()
        .description(
            "The message was accepted before, under the same key: as it is now. Nothing was sent twice.",
        )
        .content(JSON, content::<MessageView<'_>>(message("read")))
        .header(
            "Idempotent-Replayed",
            header("Says that the message was accepted before.", &["true"]),
        )
        .build();
    let codes = [
        Code::InvalidRequest,
        Code::ChatNotFound,
        Code::ChatNotActive,
        Code::UnsupportedMediaType,
        Code::IdempotencyKeyReused,
    ];
    answers(operation, [(200, replayed), (201, new)], &codes)
}

fn mark_messages_read() -> Operation {
    let operation = operation("markMessagesRead", "Messages", "Mark messages as read")
        .description(Some(
            "The caller has read all messages of the chat that there are now. Safe to repeat.",
        ))
        .parameter(chat_id());
    let body = json!({"success": true, "message": "All messages have been marked as read."});
    let response = response::<MarkedView>("There is nothing that the caller has not read.", body);
    answers(operation, [(200, response)], &[Code::ChatNotFound])
}

fn get_totals() -> Operation {
    let operation = operation("getTotals", "Totals", "Get all totals")
        .description(Some("How much waits for the caller."));
    let body = json!({"totalPendingRequest": 1, "totalUnreadMessages": 3, "totalSentRequest": 2});
    let response = response::<TotalsView>("The totals.", body);
    answers(operation, [(200, response)], &[])
}

fn get_unread_total() -> Operation {
    let operation = operation("getUnreadTotal", "Totals", "Get the unread total").description(
        Some("How many messages the caller has not read: the cheapest call to poll."),
    );
    let response = response::<UnreadTotalView>("The total.", json!({"totalUnreadMessages": 3}));
    answers(operation, [(200, response)], &[])
}

fn operation(id: &str, tag: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag(tag)
        .summary(Some(summary))
}

/// Adds what a call may be answered: its successes, its own codes, and what every call may be.
fn answers<const N: usize>(
    operation: OperationBuilder,
    successes: [(u16, Response); N],
    codes: &[Code],
) -> Operation {
    let every = [
        Code::Unauthorized,
        Code::BodyTooLarge,
        Code::Internal,
        Code::Unavailable,
    ];
    let mut all: Vec<(u16, RefOr<Response>)> = Vec::new();
    all.extend(successes.map(|(status, response)| (status, response.into())));
    let codes = codes.iter().chain(&every);
    all.extend(codes.map(|code| (code.status(), refusal_ref(*code).into())));
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
            "One of the caller's chats. Whatever is not the id of one is answered with 404.",
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
    query("limit", "The most entries that the page may have.", schema)
}

fn skip(most: u64, excludes: &str) -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(number(most)));
    let description =
        format!("How many entries to pass over, none by default. Excludes {excludes}.");
    query("skip", &description, schema)
}

fn cursor(excludes: &str) -> Parameter {
    ParameterBuilder::from(query("cursor", "", ObjectBuilder::new()))
        .description(Some(format!(
            "The `nextCursor` of a page of this very list. Excludes {excludes}."
        )))
        .schema(Some(schema_ref::<Cursor>()))
        .build()
}

fn direction() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["sent", "received"]))
        .default(Some(json!("sent")));
    let description = "Requests that the caller has sent, or that others sent to the caller.";
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

/// Ann (17) as she sees her chat with Ben (42), which he asked for.
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
