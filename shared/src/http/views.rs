//! The JSON objects in responses.

use serde::Serialize;

#[cfg(feature = "openapi")]
use super::schemas::{
    ChatIdText, Count, Cursor, MessageId, Preview, RequestId, Seq, Time, UserIdNumber, Watermark,
    always_false, always_true,
};
use crate::{
    domain::{self, Chat, Message, UserId},
    error::ErrorCode,
    store::Totals,
};

/// A page of chats.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ChatPage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatPageView<'a> {
    pub(super) chats: Vec<ChatView<'a>>,
    /// Pass it as `cursor` to get the next page. Null at the end of the list.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// A page of the messages of a chat.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MessagePage))]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePageView<'a> {
    /// Newest first. Oldest first if the first page was requested with `after`.
    pub(super) messages: Vec<MessageView<'a>>,
    /// Pass it as `cursor` to get the next page in the same direction. Null at the end.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    pub(super) next_cursor: Option<String>,
}

/// An error.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Error))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorView<'a> {
    /// Always false.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_false))]
    pub(super) success: bool,
    pub(super) code: ErrorCode,
    /// A description of the error for developers. The text may change; programs must use `code`.
    pub(super) message: String,
    /// Include it when you report a problem.
    #[cfg_attr(feature = "openapi", schema(value_type = RequestId))]
    pub(super) request_id: &'a str,
}

/// A chat from the perspective of the caller.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Chat))]
#[serde(rename_all = "camelCase")]
pub struct ChatView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    status: ChatStatus,
    /// The user who sent the latest chat request.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    requester_id: u64,
    /// The user who received the latest chat request.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    recipient_id: u64,
    /// The number of messages from the other member that the caller has not marked as read.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    unread_count: u64,
    /// The `seq` up to which the caller has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    read_seq: u64,
    /// The `seq` up to which the other member has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    peer_read_seq: u64,
    /// A preview of the newest message. Null if there is none.
    #[cfg_attr(feature = "openapi", schema(required))]
    last_message: Option<PreviewView<'a>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
    /// The time of the latest status change or message. Marking as read does not change it.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    updated_at: String,
}

/// `pending`: the recipient can accept or decline the request. `active`: the recipient accepted it.
/// `declined`: the recipient declined it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum ChatStatus {
    Pending,
    Active,
    Declined,
}

/// `read` once the recipient has marked the message as read, otherwise `sent`.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum MessageStatus {
    Sent,
    Read,
}

/// A preview of the newest message of a chat.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LastMessage))]
#[serde(rename_all = "camelCase")]
struct PreviewView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = Seq))]
    seq: u64,
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// The start of the text: whole characters as a reader sees them (graphemes), at most 120 code points, with
    /// nothing appended. Null if the message has no text.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Preview>))]
    text: Option<&'a str>,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
}

impl<'a> ChatView<'a> {
    /// The chat from the perspective of `caller`.
    #[must_use]
    pub fn new(chat: &'a Chat, caller: UserId) -> Self {
        let (mine, theirs) = (
            chat.member_state(caller),
            chat.member_state(chat.id.peer_of(caller)),
        );
        Self {
            chat_id: chat.id.to_string(),
            status: match chat.status() {
                domain::ChatStatus::Pending => ChatStatus::Pending,
                domain::ChatStatus::Active => ChatStatus::Active,
                domain::ChatStatus::Declined => ChatStatus::Declined,
            },
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            unread_count: mine.unread,
            read_seq: mine.read_seq.get(),
            peer_read_seq: theirs.read_seq.get(),
            last_message: chat.last_message().map(|last| PreviewView {
                seq: last.seq.get(),
                sender_id: last.sender.get(),
                text: last.text.as_deref(),
                created_at: last.created_at.to_string(),
            }),
            created_at: chat.created_at.to_string(),
            updated_at: chat.updated_at.to_string(),
        }
    }
}

/// A message.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Message))]
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = MessageId))]
    message_id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = Seq))]
    seq: u64,
    /// The user who sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// Exactly as it was sent. Null if the message has none.
    #[cfg_attr(feature = "openapi", schema(required))]
    text: Option<&'a str>,
    /// Exactly as it was sent. Null if the message has none.
    #[cfg_attr(feature = "openapi", schema(required))]
    image_url: Option<&'a str>,
    /// Exactly as it was sent. Null if the message has none.
    #[cfg_attr(feature = "openapi", schema(required))]
    link_preview_url: Option<&'a str>,
    status: MessageStatus,
    /// The time when the service accepted it. It is never earlier than that of the previous message.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
}

impl<'a> MessageView<'a> {
    /// `is_read`: whether the watermark of the recipient has reached the message.
    #[must_use]
    pub fn new(message: &'a Message, is_read: bool) -> Self {
        Self {
            message_id: format!("{}/{}", message.chat_id, message.seq),
            chat_id: message.chat_id.to_string(),
            seq: message.seq.get(),
            sender_id: message.sender.get(),
            text: message.content.text(),
            image_url: message.content.image_url(),
            link_preview_url: message.content.link_preview_url(),
            status: if is_read {
                MessageStatus::Read
            } else {
                MessageStatus::Sent
            },
            created_at: message.created_at.to_string(),
        }
    }
}

/// Counts for badges.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Totals))]
#[expect(clippy::struct_field_names, reason = "the API defines these names")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TotalsView {
    /// Open requests that the caller has received.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_pending_request: u64,
    /// The sum of `unreadCount` over all chats of the caller.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
    /// Open requests that the caller has sent.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_sent_request: u64,
}

impl From<Totals> for TotalsView {
    fn from(totals: Totals) -> Self {
        Self {
            total_pending_request: totals.received_requests,
            total_unread_messages: totals.unread_messages,
            total_sent_request: totals.sent_requests,
        }
    }
}

/// The number of unread messages.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = UnreadTotal))]
#[serde(rename_all = "camelCase")]
pub struct UnreadTotalView {
    /// The sum of `unreadCount` over all chats of the caller.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
}

impl From<Totals> for UnreadTotalView {
    fn from(totals: Totals) -> Self {
        Self {
            total_unread_messages: totals.unread_messages,
        }
    }
}

/// Confirms that the messages are marked as read.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MarkedAsRead))]
pub struct MarkedAsReadView {
    /// Always true.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_true))]
    success: bool,
    /// A text for people.
    message: &'static str,
}

impl MarkedAsReadView {
    /// All messages are marked as read.
    pub const ALL: Self = Self {
        success: true,
        message: "All messages have been marked as read.",
    };
}
