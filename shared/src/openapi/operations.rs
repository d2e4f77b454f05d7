//! The operations of the OpenAPI document: parameters, bodies, responses and examples.
//!
//! Parameters that exclude one another, or that must come from an earlier response, have neither an
//! example nor a default, because tools that send example requests would send all of them.

use std::collections::BTreeMap;

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
        BlockView, ChatView, EditMessageBody, Endpoint, MarkMessagesReadBody, MarkedAsReadView,
        MessageView, ReportBody, SendChatRequestBody, SendMessageBody, TotalsView, UnblockedView,
        UnreadTotalView,
        query::{DEFAULT_LIMIT, MAX_CHATS_SKIP, MAX_LIMIT},
        schemas::{ChatIdText, Cursor, Seq, UserIdNumber, integer, number},
        views::{BlockPageView, ChangePageView, ChatPageView, MessagePageView, ReportView},
    },
    store::IdempotencyKey,
};

/// The description of an endpoint.
pub(super) struct Description {
    /// The operation. Its errors are references to responses in the components.
    pub operation: Operation,
    /// The error codes of the operation, grouped by status.
    pub errors: Vec<Vec<ErrorCode>>,
}

/// The description of an endpoint.
pub(super) fn describe(endpoint: &Endpoint) -> Description {
    let operation = OperationBuilder::new().operation_id(Some(endpoint.operation_id()));
    match endpoint.name {
        "send-chat-request" => send_chat_request(operation),
        "list-pending-requests" => list_pending_requests(operation),
        "list-rejected-requests" => list_rejected_requests(operation),
        "accept-chat-request" => accept_chat_request(operation),
        "decline-chat-request" => decline_chat_request(operation),
        "withdraw-chat-request" => withdraw_chat_request(operation),
        "list-active-chats" => list_active_chats(operation),
        "get-chat" => get_chat(operation),
        "send-message" => send_message(operation),
        "list-messages" => list_messages(operation),
        "mark-messages-read" => mark_messages_read(operation),
        "edit-message" => edit_message(operation),
        "delete-message" => delete_message(operation),
        "list-changes" => list_changes(operation),
        "get-totals" => get_totals(operation),
        "get-unread-total" => get_unread_total(operation),
        "block-user" => block_user(operation),
        "unblock-user" => unblock_user(operation),
        "list-blocks" => list_blocks(operation),
        "report-user" => report_user(operation),
        other => panic!("{other} has no description; add it to shared/src/openapi/operations.rs"),
    }
}

fn list_active_chats(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Chats", "List active chats").description(Some(
        "The active chats of the caller, latest activity first, without those with users that the caller has \
         blocked. A chat with new activity moves to the top while a client pages, and does not appear again on \
         later pages.",
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

fn list_pending_requests(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Requests", "List pending requests").description(Some(
        "Unanswered chat requests, latest first: those that the caller has sent, or with \
             `direction=received` those that the caller has received.",
    ));
    list_of_requests(operation, "pending")
}

fn list_rejected_requests(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Requests", "List declined requests").description(Some(
        "Declined chat requests, latest first: those that the caller has sent, or with \
             `direction=received` those that the caller has declined.",
    ));
    list_of_requests(operation, "declined")
}

fn list_of_requests(operation: OperationBuilder, status: &str) -> Description {
    let operation = with_chat_page_parameters(operation.parameter(direction()));
    let page = json!({"chats": [chat(status)], "nextCursor": null});
    let response = response::<ChatPageView<'_>>("A page of chats.", page);
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn get_chat(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Chats", "Get a chat")
        .description(Some(
            "One chat of the caller, in any status. For opening a chat from a notification, and for a chat that is in \
             no list: a withdrawn one, or one with a user that the caller has blocked.",
        ))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The chat.", chat("active"));
    with_responses(operation, [(200, response)], &[ErrorCode::ChatNotFound])
}

fn send_chat_request(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Requests", "Send a chat request")
        .description(Some(
            "Sends a chat request to another user. Safe to repeat. If the other user has sent a request to the \
             caller, this accepts it. If the caller has declined a request of the other user, this sends a new \
             request with swapped roles. If a request was withdrawn, this sends a new one.",
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
            .link("get", link("getChat", "Both members can get the chat."))
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
        ErrorCode::YouBlocked,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::TooManyPendingRequests,
    ];
    with_responses(operation, [(200, old), (201, new)], &codes)
}

fn accept_chat_request(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Requests", "Accept a request")
        .description(Some("The recipient accepts the request. Safe to repeat."))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The active chat.", chat("active"));
    let codes = [
        ErrorCode::NotTheRecipient,
        ErrorCode::ChatNotFound,
        ErrorCode::ChatDeclined,
        ErrorCode::ChatWithdrawn,
        ErrorCode::YouBlocked,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn decline_chat_request(operation: OperationBuilder) -> Description {
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
        ErrorCode::ChatWithdrawn,
        ErrorCode::YouBlocked,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn withdraw_chat_request(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Requests", "Withdraw a request")
        .description(Some(
            "The requester withdraws a request that is still pending. Safe to repeat. The chat leaves all lists and \
             totals. Afterwards, both members can send a new request.",
        ))
        .parameter(chat_id());
    let response = response::<ChatView<'_>>("The withdrawn chat.", chat("withdrawn"));
    let codes = [
        ErrorCode::NotTheRequester,
        ErrorCode::ChatNotFound,
        ErrorCode::ChatActive,
        ErrorCode::ChatDeclined,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn list_messages(operation: OperationBuilder) -> Description {
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

fn send_message(operation: OperationBuilder) -> Description {
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
        ErrorCode::YouBlocked,
        ErrorCode::PeerUnavailable,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::IdempotencyKeyReused,
    ];
    with_responses(operation, [(200, replayed), (201, new)], &codes)
}

fn mark_messages_read(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Messages", "Mark messages as read")
        .description(Some(
            "Marks messages of the chat as read by the caller: all existing ones, or with a `seq` in the body all up \
             to this one, so that a message that arrives while the user reads stays unread. A `seq` beyond the newest \
             message returns 400. So does one above `readSeq` with more than 1,000 messages after it while the caller \
             has unread messages: mark all messages, or a newer one. Safe to repeat.",
        ))
        .parameter(chat_id())
        .request_body(Some(optional_body::<MarkMessagesReadBody>(
            "Absent, null, or without a `seq`: all messages.",
            samples::mark_body(),
        )));
    let body = json!({"success": true, "message": "All messages have been marked as read."});
    let response = response::<MarkedAsReadView>(
        "The caller has no unread messages in the chat, or none up to the `seq`.",
        body,
    );
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::ChatNotFound,
        ErrorCode::YouBlocked,
        ErrorCode::UnsupportedMediaType,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn edit_message(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Messages", "Edit a message")
        .description(Some(
            "The sender replaces or removes parts of a message. An absent part stays as it is. At least one part must \
             remain. A message can be edited for 24 hours by default. An edit never makes a message unread and never \
             moves the chat. Safe to repeat: the same edit again changes nothing, also after this time.",
        ))
        .parameter(chat_id())
        .parameter(seq())
        .request_body(Some(body::<EditMessageBody>(
            "The new parts.",
            samples::edit_body(),
        )));
    let mut message = message("sent");
    message["text"] = "Hello Ben 👋".into();
    message["editedAt"] = CHANGE_TIME.into();
    let response = response::<MessageView<'_>>("The message as it is now.", message);
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::NotTheSender,
        ErrorCode::ChatNotFound,
        ErrorCode::MessageNotFound,
        ErrorCode::MessageDeleted,
        ErrorCode::EditWindowClosed,
        ErrorCode::YouBlocked,
        ErrorCode::PeerUnavailable,
        ErrorCode::UnsupportedMediaType,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn delete_message(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Messages", "Delete a message")
        .description(Some(
            "The sender deletes the content of a message for both members. The message keeps its `seq`. If the \
             recipient has not read it, `unreadCount` and the total of the recipient go down by one. Safe to repeat.",
        ))
        .parameter(chat_id())
        .parameter(seq());
    let response =
        response::<MessageView<'_>>("The message without its content.", deleted_message());
    let codes = [
        ErrorCode::NotTheSender,
        ErrorCode::ChatNotFound,
        ErrorCode::MessageNotFound,
        ErrorCode::DeleteWindowClosed,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn list_changes(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Messages", "List changed messages")
        .description(Some(
            "The messages that were edited or deleted after a `rev` of the chat, each once and as it is now, in the \
             order of the last changes. A client that knows `rev` 7 and sees 9 in the chat lists the changes after 7: \
             follow `nextCursor` until it is null, and then keep the `rev` of the page. Changes are kept for 90 days.",
        ))
        .parameter(chat_id())
        .parameter(limit())
        .parameter(cursor("`after`"))
        .parameter(query(
            "after",
            "Only changes after this `rev`; 0 by default. Cannot be combined with `cursor`.",
            integer(0),
        ));
    let page = json!({
        "messages": [deleted_message()],
        "rev": 2,
        "nextCursor": null,
    });
    let next = Link::builder()
        .operation_id("listChanges")
        .parameter("chatId", "$request.path.chatId")
        .parameter("cursor", "$response.body#/nextCursor")
        .description("The next page, unless `nextCursor` is null.");
    let response = ResponseBuilder::new()
        .description("A page of changed messages.")
        .content(JSON, content::<ChangePageView<'_>>(page))
        .link("next", next.build())
        .build();
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::ChatNotFound,
        ErrorCode::ChangesExpired,
    ];
    with_responses(operation, [(200, response)], &codes)
}

fn get_totals(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Totals", "Get all totals").description(Some(
        "Counts for badges: received requests, unread messages and sent requests.",
    ));
    let body = json!({
        "totalPendingRequest": 1,
        "totalUnreadMessages": 3,
        "totalSentRequest": 2,
        "version": 41,
    });
    let response = response::<TotalsView>("The totals.", body);
    with_responses(operation, [(200, response)], &[])
}

fn get_unread_total(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Totals", "Get the unread total").description(
        Some("The number of unread messages of the caller. The response is the smallest one for polling."),
    );
    let response = response::<UnreadTotalView>("The total.", json!({"totalUnreadMessages": 3}));
    with_responses(operation, [(200, response)], &[])
}

fn block_user(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Safety", "Block a user")
        .description(Some(
            "Blocks a user, with or without a chat. The blocked user cannot see it. For the caller, the chat leaves \
             all lists and totals, and a pending request of the caller is withdrawn. The blocked user can no longer \
             send and edit messages in the chat, and requests of the blocked user are not shown to the caller. Safe \
             to repeat.",
        ))
        .parameter(user_id());
    let response = response::<BlockView>("The user is blocked.", block());
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn unblock_user(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Safety", "Unblock a user")
        .description(Some(
            "Ends the block of a user. The chat returns to the lists of the caller, its unread messages to the total, \
             and so does a request that waits. A request that the block has withdrawn stays withdrawn. Safe to \
             repeat.",
        ))
        .parameter(user_id());
    let body = json!({"success": true, "message": "The user is not blocked."});
    let response = response::<UnblockedView>("The user is not blocked.", body);
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn list_blocks(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Safety", "List blocked users").description(Some(
        "The users that the caller has blocked, in the order of the latest activity in the chat with them.",
    ));
    let operation = with_chat_page_parameters(operation);
    let page = json!({"blocks": [block()], "nextCursor": null});
    let next = Link::builder()
        .operation_id("listBlocks")
        .parameter("cursor", "$response.body#/nextCursor")
        .description("The next page, unless `nextCursor` is null.");
    let response = ResponseBuilder::new()
        .description("A page of blocked users.")
        .content(JSON, content::<BlockPageView>(page))
        .link("next", next.build())
        .build();
    with_responses(operation, [(200, response)], &[ErrorCode::InvalidRequest])
}

fn report_user(operation: OperationBuilder) -> Description {
    let operation = summary(operation, "Safety", "Report a user or a message")
        .description(Some(
            "Reports a user to the operators, or with `seq` a message of this user in the chat with the caller. The \
             report keeps a copy of the message. The reported user cannot see it. With `block`, the user is also \
             blocked. Safe to repeat: each user and message is reported once.",
        ))
        .request_body(Some(body::<ReportBody>("The report.", samples::report_body())));
    let report = json!({
        "reportId": "17-42/17/0",
        "userId": 42,
        "seq": null,
        "reason": "spam",
        "createdAt": CHANGE_TIME,
    });
    let new = response::<ReportView>("The report was stored.", report.clone());
    let old = response::<ReportView>(
        "The caller has reported the same user and `seq` before. Contains the first report, which does not change.",
        report,
    );
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::MessageNotFound,
        ErrorCode::UnsupportedMediaType,
    ];
    with_responses(operation, [(200, old), (201, new)], &codes)
}

fn summary(operation: OperationBuilder, tag: &str, summary: &str) -> OperationBuilder {
    operation.tag(tag).summary(Some(summary))
}

/// Adds the responses: successes, the given error codes, and the error codes of every operation.
fn with_responses<const N: usize>(
    operation: OperationBuilder,
    successes: [(u16, Response); N],
    codes: &[ErrorCode],
) -> Description {
    let every = [
        ErrorCode::Unauthorized,
        ErrorCode::BodyTooLarge,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
    ];
    // An operation has one response for each status.
    let mut errors: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes.iter().chain(&every) {
        errors.entry(code.status()).or_default().push(*code);
    }
    let mut all: BTreeMap<u16, RefOr<Response>> = BTreeMap::new();
    for (status, response) in successes {
        all.insert(status, RefOr::T(response));
    }
    for (status, codes) in &errors {
        all.insert(*status, RefOr::Ref(error_response_ref(codes)));
    }
    let from_gateway = |name: &str| RefOr::Ref(Ref::from_response_name(name));
    all.entry(429).or_insert_with(|| from_gateway("throttled"));
    all.insert(431, from_gateway("headers_too_large"));
    let add = |operation: OperationBuilder, (status, response): (u16, RefOr<Response>)| {
        operation.response(status.to_string(), response)
    };
    Description {
        operation: all.into_iter().fold(operation, add).build(),
        errors: errors.into_values().collect(),
    }
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

fn optional_body<T: ToSchema>(description: &str, example: Value) -> RequestBody {
    RequestBodyBuilder::from(body::<T>(description, example))
        .required(Some(Required::False))
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

fn seq() -> Parameter {
    ParameterBuilder::new()
        .name("seq")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(
            "The `seq` of a message of the chat. Any other value is a 404.",
        ))
        .schema(Some(schema_ref::<Seq>()))
        .example(Some(json!(9)))
        .build()
}

fn user_id() -> Parameter {
    ParameterBuilder::new()
        .name("userId")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(
            "Any user except the caller. Any other value is a 400.",
        ))
        .schema(Some(schema_ref::<UserIdNumber>()))
        .example(Some(json!(42)))
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

/// The time of a change in an example.
const CHANGE_TIME: &str = "2026-01-31T12:05:00.125Z";

/// An example: the chat of Ann (17) and Ben (42) from the perspective of Ann, who has received the request.
pub(super) fn chat(status: &str) -> Value {
    let is_active = status == "active";
    let last_message = json!({
        "seq": 9,
        "senderId": 42,
        "text": "Hello 👋",
        "createdAt": "2026-01-31T12:00:00.250Z",
        "deleted": false,
    });
    json!({
        "chatId": "17-42",
        "status": status,
        "requesterId": 42,
        "recipientId": 17,
        "unreadCount": if is_active { 3 } else { 0 },
        "readSeq": if is_active { 6 } else { 0 },
        "peerReadSeq": if is_active { 9 } else { 0 },
        "rev": if is_active { 2 } else { 0 },
        "lastMessage": if is_active { last_message } else { Value::Null },
        "blocked": false,
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
        "editedAt": null,
        "deletedAt": null,
    })
}

fn deleted_message() -> Value {
    let mut message = message("read");
    message["text"] = Value::Null;
    message["deletedAt"] = CHANGE_TIME.into();
    message
}

fn block() -> Value {
    json!({"userId": 42, "blockedAt": CHANGE_TIME})
}
