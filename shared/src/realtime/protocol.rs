//! The frames of the protocol `chat.v1`. Each frame is a JSON object in a text frame. Clients ignore frame types and
//! members that they do not know, so new ones can be added.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(feature = "openapi")]
use crate::http::schemas::{ChatIdText, Time, UserIdNumber};
use crate::{
    domain::{Chat, ChatEvent, ChatId, Message, Timestamp, UserId},
    http::{ChatView, MessageView, TotalsView},
    store::Totals,
};

/// The name of the protocol, which the client offers and the server selects.
pub const PROTOCOL: &str = "chat.v1";
/// The maximum length of a frame from a client, in bytes.
pub const MAX_CLIENT_FRAME_BYTES: usize = 2 * 1024;
/// The maximum length of a frame with several events, in bytes. A longer frame would be charged as two messages. A
/// single event may be longer.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;
/// The version of the frames.
const VERSION: u8 = 1;

/// A frame with events, in the order in which they happened in their chats.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EventFrame))]
pub(crate) struct EventFrame<'a> {
    /// The version of the frames: 1.
    #[cfg_attr(feature = "openapi", schema(schema_with = version))]
    v: u8,
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<EventView>))]
    events: &'a [&'a RawValue],
}

impl<'a> EventFrame<'a> {
    /// The frame as JSON.
    pub fn json(events: &'a [&'a RawValue]) -> Result<String, serde_json::Error> {
        let v = VERSION;
        serde_json::to_string(&Self { v, events })
    }

    /// The length of a frame with events of this total length, in bytes, at most.
    pub fn max_length(events: usize, count: usize) -> usize {
        r#"{"v":1,"events":[]}"#.len() + events + count
    }
}

/// Something that happened in a chat, from the perspective of the user who receives it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Event))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventView<'a> {
    /// The same event has the same id on every connection and when it is delivered again.
    id: String,
    #[serde(rename = "type")]
    kind: EventType,
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    at: String,
    /// The message as it is now. Only with `message.created` and `message.changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageView<'a>>,
    /// The key with which the message was sent. Only with `message.created`, on the connections of its sender, and
    /// only if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    /// The chat after the event. Not with `typing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<ChatView<'a>>,
    /// The user's totals, which can include later changes. Not with `typing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<TotalsView>,
    /// The user who is typing. Only with `typing`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<UserIdNumber>, nullable = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<u64>,
}

/// What happened.
///
/// - `message.created`: a message was sent.
/// - `message.changed`: a message was edited or deleted.
/// - `chat.requested`, `chat.accepted`, `chat.declined`, `chat.withdrawn`: the status of the chat changed.
/// - `chat.read`: a member marked messages as read.
/// - `chat.changed`: the user blocked or unblocked the other member. Only the user's own connections receive it.
/// - `typing`: the other member is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) enum EventType {
    #[serde(rename = "message.created")]
    MessageCreated,
    #[serde(rename = "message.changed")]
    MessageChanged,
    #[serde(rename = "chat.requested")]
    ChatRequested,
    #[serde(rename = "chat.accepted")]
    ChatAccepted,
    #[serde(rename = "chat.declined")]
    ChatDeclined,
    #[serde(rename = "chat.withdrawn")]
    ChatWithdrawn,
    #[serde(rename = "chat.read")]
    ChatRead,
    #[serde(rename = "chat.changed")]
    ChatChanged,
    #[serde(rename = "typing")]
    Typing,
}

impl From<ChatEvent> for EventType {
    fn from(event: ChatEvent) -> Self {
        match event {
            ChatEvent::Requested => Self::ChatRequested,
            ChatEvent::Accepted => Self::ChatAccepted,
            ChatEvent::Declined => Self::ChatDeclined,
            ChatEvent::Withdrawn => Self::ChatWithdrawn,
            ChatEvent::MessageCreated(_) => Self::MessageCreated,
            ChatEvent::MessageChanged(_) => Self::MessageChanged,
            ChatEvent::Read => Self::ChatRead,
            ChatEvent::BlockChanged { .. } => Self::ChatChanged,
        }
    }
}

impl<'a> EventView<'a> {
    /// An event of a chat, as `user` sees it. `message` is the message that was sent or changed.
    pub fn new(
        id: String,
        event: ChatEvent,
        at: Timestamp,
        chat: &'a Chat,
        message: Option<&'a Message>,
        user: UserId,
        totals: Totals,
    ) -> Self {
        let kind = EventType::from(event);
        let own = message.filter(|message| message.sender == user);
        let key = own.and_then(|message| message.idempotency_key.as_deref());
        Self {
            id,
            kind,
            chat_id: chat.id.to_string(),
            at: at.to_string(),
            message: message.map(|message| MessageView::new(message, chat.is_read(message))),
            idempotency_key: key.filter(|_| kind == EventType::MessageCreated),
            chat: Some(ChatView::new(chat, user)),
            totals: Some(totals.into()),
            user_id: None,
        }
    }

    /// `user` is typing in a chat.
    pub fn typing(id: String, at: Timestamp, chat: ChatId, user: UserId) -> Self {
        Self {
            id,
            kind: EventType::Typing,
            chat_id: chat.to_string(),
            at: at.to_string(),
            message: None,
            idempotency_key: None,
            chat: None,
            totals: None,
            user_id: Some(user.get()),
        }
    }
}

/// A frame from the server that is no event.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum ControlFrame {
    Synced(SyncedFrame),
    Renewed(RenewedFrame),
    Bye(ByeFrame),
    Error(ErrorFrame),
}

/// The response to `sync`: the connection works. Fetch what may have been missed.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SyncedFrame {
    /// The version of the frames: 1.
    #[cfg_attr(feature = "openapi", schema(schema_with = version))]
    v: u8,
    /// Always `synced`.
    #[cfg_attr(feature = "openapi", schema(schema_with = type_synced))]
    #[serde(rename = "type")]
    kind: &'static str,
    totals: TotalsView,
    /// The clock of the service.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    server_time: String,
}

/// The response to `renew`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewedFrame {
    /// The version of the frames: 1.
    #[cfg_attr(feature = "openapi", schema(schema_with = version))]
    v: u8,
    /// Always `renewed`.
    #[cfg_attr(feature = "openapi", schema(schema_with = type_renewed))]
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the new token expires.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    expires_at: String,
}

/// The last frame before the server closes the connection.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct ByeFrame {
    /// The version of the frames: 1.
    #[cfg_attr(feature = "openapi", schema(schema_with = version))]
    v: u8,
    /// Always `bye`.
    #[cfg_attr(feature = "openapi", schema(schema_with = type_bye))]
    #[serde(rename = "type")]
    kind: &'static str,
    reason: ByeReason,
}

/// A frame of the client was not accepted. The connection stays open.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct ErrorFrame {
    /// The version of the frames: 1.
    #[cfg_attr(feature = "openapi", schema(schema_with = version))]
    v: u8,
    /// Always `error`.
    #[cfg_attr(feature = "openapi", schema(schema_with = type_error))]
    #[serde(rename = "type")]
    kind: &'static str,
    code: FrameErrorCode,
    /// A description of the error for developers. The text may change; programs must use `code`.
    message: String,
}

/// Why the server closes the connection.
///
/// - `token_expired`: the access token expired and was not renewed in time. Connect with a new one.
/// - `too_many_connections`: the user has opened more than 10 connections, and this was the oldest.
/// - `behind`: events could not be delivered. Connect again, and fetch what was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum ByeReason {
    TokenExpired,
    TooManyConnections,
    Behind,
}

/// Why a frame was not accepted.
///
/// - `invalid_frame`: the frame is too long, is not JSON, or has an unknown type or an invalid member.
/// - `rate_limited`: the client has sent more than one frame a second on average.
/// - `unauthorized`: the new token is not valid, or belongs to another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum FrameErrorCode {
    InvalidFrame,
    RateLimited,
    Unauthorized,
}

impl ControlFrame {
    pub fn synced(totals: Totals, now: Timestamp) -> Self {
        Self::Synced(SyncedFrame {
            v: VERSION,
            kind: "synced",
            totals: totals.into(),
            server_time: now.to_string(),
        })
    }

    pub fn renewed(expires_at: Timestamp) -> Self {
        Self::Renewed(RenewedFrame {
            v: VERSION,
            kind: "renewed",
            expires_at: expires_at.to_string(),
        })
    }

    pub fn bye(reason: ByeReason) -> Self {
        Self::Bye(ByeFrame {
            v: VERSION,
            kind: "bye",
            reason,
        })
    }

    pub fn error(code: FrameErrorCode, message: impl Into<String>) -> Self {
        Self::Error(ErrorFrame {
            v: VERSION,
            kind: "error",
            code,
            message: message.into(),
        })
    }

    /// The frame as JSON.
    pub fn json(&self) -> String {
        // None of these frames can fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A frame from a client.
// Without `Debug`, so that no log can contain a token.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ClientFrame {
    Sync(SyncRequest),
    Renew(RenewRequest),
    Typing(TypingRequest),
}

/// Asks whether the connection works. The response is a `synced` frame.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct SyncRequest {}

/// Replaces the access token of the connection, before it expires. The response is a `renewed` frame.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct RenewRequest {
    /// A new access token of the same user.
    pub token: String,
}

/// The user is writing. The other member's connections receive a `typing` event. There is no response. Send it at
/// most once in 3 seconds.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct TypingRequest {
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    pub chat_id: String,
}

impl ClientFrame {
    /// Parses a frame.
    ///
    /// # Errors
    /// What is wrong with it, for the developer of the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CLIENT_FRAME_BYTES {
            return Err(format!(
                "a frame must have at most {MAX_CLIENT_FRAME_BYTES} bytes"
            ));
        }
        // The message of the parser is not used, because it can contain a part of the frame, such as a token.
        let frame = serde_json::from_str(text).ok();
        // serde would also accept an array whose first item is the type.
        let frame = frame
            .filter(serde_json::Value::is_object)
            .ok_or("a frame must be a JSON object with a `type`")?;
        let kind = frame.get("type").and_then(serde_json::Value::as_str);
        let problem = match kind {
            Some("sync") => "a frame of type `sync` has no other required members",
            Some("renew") => "a frame of type `renew` needs a `token`: a new access token",
            Some("typing") => "a frame of type `typing` needs a `chatId`",
            _ => "the `type` of a frame must be sync, renew or typing",
        };
        serde_json::from_value(frame).map_err(|_| problem.to_owned())
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use serde_json::json;
    use utoipa::openapi::{
        Schema,
        schema::{ObjectBuilder, Type},
    };

    /// The version of the frames.
    pub fn version() -> Schema {
        let schema = ObjectBuilder::new().schema_type(Type::Integer);
        schema
            .enum_values(Some([json!(super::VERSION)]))
            .build()
            .into()
    }

    fn constant(value: &str) -> Schema {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        schema.enum_values(Some([json!(value)])).build().into()
    }

    pub fn type_synced() -> Schema {
        constant("synced")
    }

    pub fn type_renewed() -> Schema {
        constant("renewed")
    }

    pub fn type_bye() -> Schema {
        constant("bye")
    }

    pub fn type_error() -> Schema {
        constant("error")
    }
}
#[cfg(feature = "openapi")]
use schema::{type_bye, type_error, type_renewed, type_synced, version};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_unknown_members_is_accepted() {
        let frame = ClientFrame::parse(r#"{"type":"renew","token":"a.b.c","x":[1]}"#);
        assert!(matches!(frame, Ok(ClientFrame::Renew(renew)) if renew.token == "a.b.c"));
        let frame = ClientFrame::parse(r#"{"type":"sync","id":7}"#);
        assert!(matches!(frame, Ok(ClientFrame::Sync(_))));
    }

    #[test]
    fn the_error_names_the_member_that_is_missing_and_never_contains_the_frame() {
        for (frame, named) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            (r#"["sync"]"#, "JSON object"),
            (r#"["renew","SECRET"]"#, "JSON object"),
            ("{}", "must be sync, renew or typing"),
            (r#"{"type":7}"#, "must be sync, renew or typing"),
            (r#"{"type":"SECRET"}"#, "must be sync, renew or typing"),
            (r#"{"type":"renew"}"#, "`token`"),
            (r#"{"type":"renew","token":["SECRET"]}"#, "`token`"),
            (r#"{"type":"typing"}"#, "`chatId`"),
            (r#"{"type":"typing","chatId":1}"#, "`chatId`"),
        ] {
            let error = ClientFrame::parse(frame).err().unwrap();
            assert!(error.contains(named), "{frame}: {error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
        let padding = " ".repeat(MAX_CLIENT_FRAME_BYTES);
        let long = format!(r#"{{"type":"sync"}}{padding}"#);
        assert!(ClientFrame::parse(&long).err().unwrap().contains("2048"));
        let longest = &long[..MAX_CLIENT_FRAME_BYTES];
        assert!(ClientFrame::parse(longest).is_ok());
    }

    #[test]
    fn a_frame_is_never_longer_than_computed() {
        let event = RawValue::from_string(r#"{"id":"1"}"#.to_owned()).unwrap();
        for count in 1..4 {
            let events = vec![&*event; count];
            let frame = EventFrame::json(&events).unwrap();
            let length = EventFrame::max_length(count * event.get().len(), count);
            assert!((frame.len()..=frame.len() + 1).contains(&length), "{frame}");
        }
    }
}
