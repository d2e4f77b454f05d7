//! The `AsyncAPI` 3.0 document of the live events, generated from the types of the frames.
//!
//! It follows the rules of the `OpenAPI` document: schemas of frames that the service sends have no closed lists of
//! values, because a compatible version may add event types, reasons and codes. `Message`, `Chat` and `Totals` are the
//! schemas of the `OpenAPI` document, because events contain the same objects as responses.
//!
//! The document is written from the perspective of the service, as version 3 of the specification demands: the action
//! `send` is a frame from the service to a client.
//!
//! No crate was found that builds `AsyncAPI` 3 documents from `utoipa` schemas. So this module builds the few objects
//! around the schemas as JSON. A script checks the result with the parser of the `AsyncAPI` project.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, Type},
    },
};

use super::{ACCESS_TOKEN, JSON, add, open_enum, operations, quote_times};
use crate::{
    error::BoxError,
    realtime::protocol::{
        ByeFrame, ErrorFrame, EventFrame, PROTOCOL, RenewRequest, RenewedFrame, SyncRequest,
        SyncedFrame, TypingRequest,
    },
};

const INTRODUCTION: &str = include_str!("asyncapi.md");
/// The name of the only channel.
const CHANNEL: &str = "live";
/// The security scheme for clients that cannot set headers.
const SUBPROTOCOL_TOKEN: &str = "subprotocolToken";
/// The time of the events in the examples.
const EVENT_TIME: &str = "2026-01-31T12:00:00.250Z";

/// A map that keeps the order of its entries in the document.
struct Ordered<T>(Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (*name, value)))
    }
}

/// The document. The fields are in the order in which people read them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    asyncapi: &'static str,
    info: Value,
    default_content_type: &'static str,
    servers: Value,
    channels: Value,
    operations: Ordered<Value>,
    components: Components,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components {
    messages: Ordered<Message>,
    schemas: BTreeMap<String, RefOr<Schema>>,
    security_schemes: Value,
}

/// A kind of frame.
#[derive(Serialize)]
struct Message {
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    payload: Value,
    examples: Vec<Value>,
}

/// The document as JSON.
#[must_use]
pub fn asyncapi_document() -> Value {
    // Structs and maps with names as keys cannot fail to serialize.
    serde_json::to_value(document()).unwrap_or_default()
}

/// The document as YAML.
///
/// # Errors
/// If it cannot be serialized.
pub fn asyncapi_yaml() -> Result<String, BoxError> {
    Ok(quote_times(&yaml_serde::to_string(&document())?))
}

fn document() -> Document {
    let messages = messages();
    Document {
        asyncapi: "3.0.0",
        info: json!({
            "title": "One-to-one chat: live events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION.trim(),
            "license": {"name": "MIT OR Apache-2.0"},
        }),
        default_content_type: JSON,
        servers: servers(),
        channels: channels(&messages),
        operations: operations(),
        components: Components {
            messages: Ordered(
                messages
                    .into_iter()
                    .map(|message| (message.name, message))
                    .collect(),
            ),
            schemas: schemas(),
            security_schemes: security_schemes(),
        },
    }
}

fn servers() -> Value {
    let security = [
        reference(&format!("components/securitySchemes/{SUBPROTOCOL_TOKEN}")),
        reference(&format!("components/securitySchemes/{ACCESS_TOKEN}")),
    ];
    json!({
        "local": {
            "host": "localhost:3000",
            "protocol": "ws",
            "description": "The development server: `cargo run`",
            "security": security,
        },
        "aws": {
            "host": "{api}.execute-api.{region}.amazonaws.com",
            "protocol": "wss",
            "description": "A deployment: see the output `LiveUrl` of the stack",
            "variables": {
                "api": {"default": "a1b2c3d4e5", "description": "The id of the WebSocket API"},
                "region": {"default": "eu-central-1", "description": "The AWS region"},
            },
            "security": security,
        },
    })
}

fn security_schemes() -> Value {
    json!({
        SUBPROTOCOL_TOKEN: {
            "type": "httpApiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": format!(
                "`{PROTOCOL}` and the access token, in this order: `new WebSocket(url, [\"{PROTOCOL}\", token])`. For \
                 browsers, which cannot set headers."
            ),
        },
        ACCESS_TOKEN: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": format!(
                "`Authorization: Bearer <token>`, together with the subprotocol `{PROTOCOL}`: the access token of the \
                 REST API. `cargo run -- token 17` prints one for the development server."
            ),
        },
    })
}

fn channels(messages: &[Message]) -> Value {
    let messages: Map<_, _> = messages
        .iter()
        .map(|message| {
            let target = reference(&format!("components/messages/{}", message.name));
            (message.name.to_owned(), target)
        })
        .collect();
    let string = |description: &str| json!({"type": "string", "description": description});
    json!({
        CHANNEL: {
            "address": "/live",
            "title": "Live events",
            "description": "One WebSocket connection of a user. It gets the events of all chats of the user.",
            "messages": messages,
            "bindings": {
                "ws": {
                    "method": "GET",
                    "headers": {
                        "type": "object",
                        "properties": {
                            "Sec-WebSocket-Protocol": string(
                                "`chat.v1`, and the access token unless `Authorization` has it."
                            ),
                            "Authorization": string("`Bearer` and the access token."),
                            "Origin": string("Browsers send it. It must be an allowed origin."),
                        },
                        "required": ["Sec-WebSocket-Protocol"],
                    },
                    "bindingVersion": "0.1.0",
                },
            },
        },
    })
}

fn operations() -> Ordered<Value> {
    Ordered(vec![
        operation(
            "sendEvents",
            "send",
            &["events"],
            &[],
            "Something has happened in a chat of the user.",
        ),
        operation(
            "sendBye",
            "send",
            &["bye"],
            &[],
            "The service closes the connection after this frame.",
        ),
        operation(
            "receiveSync",
            "receive",
            &["sync"],
            &["synced", "error", "gatewayError"],
            "Checks that the connection works, and returns the totals.",
        ),
        operation(
            "receiveRenew",
            "receive",
            &["renew"],
            &["renewed", "error", "gatewayError"],
            "Replaces the access token of the connection by a new one of the same user.",
        ),
        operation(
            "receiveTyping",
            "receive",
            &["typing"],
            &["error", "gatewayError"],
            "Tells the other member that the user is typing. There is no response, unless the frame is rejected.",
        ),
    ])
}

/// An operation with its id: `messages` go in the direction of `action`, and `replies` go back.
fn operation(
    id: &'static str,
    action: &str,
    messages: &[&str],
    replies: &[&str],
    summary: &str,
) -> (&'static str, Value) {
    let channel = reference(&format!("channels/{CHANNEL}"));
    let references = |names: &[&str]| {
        let target = |name: &&str| reference(&format!("channels/{CHANNEL}/messages/{name}"));
        names.iter().map(target).collect::<Vec<_>>()
    };
    let mut operation = json!({
        "action": action,
        "channel": channel,
        "summary": summary,
        "messages": references(messages),
    });
    if !replies.is_empty() {
        operation["reply"] = json!({"channel": channel, "messages": references(replies)});
    }
    (id, operation)
}

fn reference(target: &str) -> Value {
    json!({"$ref": format!("#/{target}")})
}

fn schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut schemas = Vec::new();
    add::<EventFrame<'_>>(&mut schemas);
    add::<SyncedFrame>(&mut schemas);
    add::<RenewedFrame>(&mut schemas);
    add::<ByeFrame>(&mut schemas);
    add::<ErrorFrame>(&mut schemas);
    for (_, schema) in &mut schemas {
        if matches!(schema, RefOr::T(Schema::Object(object)) if object.enum_values.is_some()) {
            open_enum(schema);
        }
    }
    let frames_of_clients = [
        request::<SyncRequest>("sync"),
        request::<RenewRequest>("renew"),
        request::<TypingRequest>("typing"),
    ];
    schemas.into_iter().chain(frames_of_clients).collect()
}

/// The schema of a frame from a client. The type does not contain the member `type`, which selects it.
fn request<T: ToSchema>(kind: &str) -> (String, RefOr<Schema>) {
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(format!("Always `{kind}`.")))
            .enum_values(Some([kind]));
        let mut with_type = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(object.description.take())
            .property("type", name)
            .required("type")
            .build();
        with_type
            .properties
            .extend(std::mem::take(&mut object.properties));
        with_type.required.append(&mut object.required);
        *object = with_type;
    }
    (T::name().into_owned(), schema)
}

/// All kinds of frames: first those of the service, then those of clients.
fn messages() -> Vec<Message> {
    let mut messages = server_frames();
    messages.extend(client_frames());
    messages
}

fn server_frames() -> Vec<Message> {
    vec![
        frame::<EventFrame<'_>>(
            "events",
            "Events",
            "One or more events of the user's chats, in order.",
            event_examples(),
        ),
        frame::<SyncedFrame>(
            "synced",
            "Synced",
            "The response to `sync`. Load afterwards what may have been missed.",
            vec![example(
                "synced",
                "The connection works.",
                &json!({"v": 1, "type": "synced", "totals": totals(), "serverTime": EVENT_TIME}),
            )],
        ),
        frame::<RenewedFrame>(
            "renewed",
            "Renewed",
            "The response to `renew`: the new token is in use.",
            vec![example(
                "renewed",
                "The token is valid for another hour.",
                &json!({"v": 1, "type": "renewed", "expiresAt": "2026-01-31T13:00:00.000Z"}),
            )],
        ),
        frame::<ByeFrame>(
            "bye",
            "Bye",
            "The last frame before the service closes the connection, and the reason.",
            bye_examples(),
        ),
        frame::<ErrorFrame>(
            "error",
            "Error",
            "A frame of the client was not accepted. The connection stays open.",
            error_examples(),
        ),
        gateway_error(),
    ]
}

fn client_frames() -> [Message; 3] {
    [
        frame::<SyncRequest>(
            "sync",
            "Sync",
            "Asks whether the connection works.",
            vec![example("sync", "Sync.", &json!({"type": "sync"}))],
        ),
        frame::<RenewRequest>(
            "renew",
            "Renew",
            "Replaces the access token of the connection, before it expires.",
            vec![example(
                "renew",
                "A new token of the same user.",
                &json!({"type": "renew", "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxNyJ9.c2lnbmF0dXJl"}),
            )],
        ),
        frame::<TypingRequest>(
            "typing",
            "Typing",
            "The user is typing in a chat. Send it at most once in 3 seconds.",
            vec![example(
                "typing",
                "The user is typing.",
                &json!({"type": "typing", "chatId": "17-42"}),
            )],
        ),
    ]
}

/// API Gateway sends this frame itself when the function for the frames of clients fails.
fn gateway_error() -> Message {
    Message {
        name: "gatewayError",
        title: "Gateway error",
        summary: "The gateway could not process a frame of the client. It has no `v`. Send the frame again later.",
        payload: json!({
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "connectionId": {"type": "string"},
                "requestId": {"type": "string"},
            },
            "required": ["message"],
        }),
        examples: vec![example(
            "gateway error",
            "The function for frames of clients failed.",
            &json!({
                "message": "Internal server error",
                "connectionId": "L0SM9cOFvHcCIhw=",
                "requestId": "L0SM9F2fPHcFoKg=",
            }),
        )],
    }
}

/// A message whose payload is a frame.
fn frame<T: ToSchema>(
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    examples: Vec<Value>,
) -> Message {
    Message {
        name,
        title,
        summary,
        payload: reference(&format!("components/schemas/{}", T::name())),
        examples,
    }
}

fn example(name: &str, summary: &str, payload: &Value) -> Value {
    json!({"name": name, "summary": summary, "payload": payload})
}

fn bye_examples() -> Vec<Value> {
    [
        (
            "token_expired",
            "The access token has expired. Reconnect with a new one.",
        ),
        (
            "too_many_connections",
            "The user has more than 10 connections. This was the oldest.",
        ),
        (
            "behind",
            "Events could not be delivered to this connection. Reconnect and load.",
        ),
    ]
    .map(|(reason, summary)| {
        example(
            reason,
            summary,
            &json!({"v": 1, "type": "bye", "reason": reason}),
        )
    })
    .into()
}

fn error_examples() -> Vec<Value> {
    [
        (
            "invalid_frame",
            "The frame is too large, is not JSON, or has an unknown type.",
            "the `type` of a frame must be sync, renew or typing",
        ),
        (
            "rate_limited",
            "The client sends too many frames. The frame had no effect.",
            "at most one frame a second",
        ),
        (
            "unauthorized",
            "The token of `renew` is not valid, or belongs to another user.",
            "the access token is not valid",
        ),
    ]
    .map(|(code, summary, message)| {
        let payload = json!({"v": 1, "type": "error", "code": code, "message": message});
        example(code, summary, &payload)
    })
    .into()
}

/// An example of each event type, as Ann (17) receives it in her chat with Ben (42).
fn event_examples() -> Vec<Value> {
    let message = |text: Value, deleted_at: Value| {
        json!({
            "messageId": "17-42/9",
            "chatId": "17-42",
            "seq": 9,
            "senderId": 42,
            "text": text,
            "imageUrl": null,
            "linkPreviewUrl": null,
            "status": "sent",
            "createdAt": EVENT_TIME,
            "editedAt": null,
            "deletedAt": deleted_at,
        })
    };
    let with_message = |kind: &str, message: Value| {
        let mut event = event(kind, &chat("active"));
        event["message"] = message;
        event
    };
    let mut own_message = message("Hello Ben 👋".into(), Value::Null);
    own_message["senderId"] = 17.into();
    let mut own = with_message("message.created", own_message);
    own["chat"]["lastMessage"]["senderId"] = 17.into();
    own["chat"]["lastMessage"]["text"] = "Hello Ben 👋".into();
    own["idempotencyKey"] = "0c9f4a3e-58d2-4f0e-9d0f-4a0b8f0f6a11".into();
    let mut deleted = with_message(
        "message.changed",
        message(Value::Null, "2026-01-31T12:05:00.125Z".into()),
    );
    deleted["at"] = "2026-01-31T12:05:00.125Z".into();
    deleted["chat"]["lastMessage"]["text"] = Value::Null;
    deleted["chat"]["lastMessage"]["deleted"] = true.into();
    let typing = json!({
        "id": "0f2c1be0-6a3e-4d5e-9a37-1d2f6c1f0b7e",
        "type": "typing",
        "chatId": "17-42",
        "at": EVENT_TIME,
        "userId": 42,
    });
    [
        (
            "The other member has sent a message.",
            with_message("message.created", message("Hello 👋".into(), Value::Null)),
        ),
        (
            "The user has sent a message, on this or another device.",
            own,
        ),
        ("A message was deleted.", deleted),
        (
            "The other member has sent a chat request.",
            event("chat.requested", &chat("pending")),
        ),
        (
            "A chat request was accepted.",
            event("chat.accepted", &chat("active")),
        ),
        (
            "A chat request was declined.",
            event("chat.declined", &chat("declined")),
        ),
        (
            "A chat request was withdrawn.",
            event("chat.withdrawn", &chat("withdrawn")),
        ),
        (
            "A member has marked messages as read.",
            event("chat.read", &chat("active")),
        ),
        (
            "The user has blocked or unblocked the other member, on this or another device.",
            event("chat.changed", &blocked_chat()),
        ),
        ("The other member is typing.", typing),
    ]
    .into_iter()
    .map(|(summary, event)| {
        let name = event["type"].as_str().unwrap_or_default().to_owned();
        example(&name, summary, &json!({"v": 1, "events": [event]}))
    })
    .collect()
}

fn event(kind: &str, chat: &Value) -> Value {
    json!({
        "id": "7f3a1c9b52d84e6f90ab12cd34ef5678",
        "type": kind,
        "chatId": "17-42",
        "at": EVENT_TIME,
        "chat": chat,
        "totals": totals(),
    })
}

fn totals() -> Value {
    json!({
        "totalPendingRequest": 0,
        "totalUnreadMessages": 3,
        "totalSentRequest": 0,
        "version": 41,
    })
}

/// The chat of Ann and Ben as Ann sees it after an event.
fn chat(status: &str) -> Value {
    let mut chat = operations::chat(status);
    chat["updatedAt"] = EVENT_TIME.into();
    chat
}

fn blocked_chat() -> Value {
    let mut chat = chat("active");
    chat["blocked"] = true.into();
    chat
}
