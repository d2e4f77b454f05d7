use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;

use super::cursor;
#[cfg(feature = "openapi")]
use super::openapi::{
    ChatIdText, Count, Cursor, HttpsUrl, MessageId, Preview, RequestId, Seq, Text, Time,
    UserIdNumber, Watermark, always_false, always_true,
};
use crate::{
    Error,
    domain::{Chat, Message, Status, UserId},
    error::Code,
    store::{ChatPage, List, MessagePage, Sent, Totals},
};

/// Seconds after which a caller should repeat a call that was answered with 503.
const RETRY_AFTER: &str = "1";
/// Chats are private: no cache on the way may keep them.
const NO_STORE: &str = "no-store";

/// What a call is answered, as API Gateway takes it (payload format 2.0).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    status_code: u16,
    headers: BTreeMap<&'static str, Cow<'static, str>>,
    body: String,
}

impl Reply {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// [`Error::Internal`] when the body cannot be written, which no type here can cause.
    pub fn ok(body: &impl Serialize) -> Result<Self, Error> {
        Self::json(200, body)
    }

    /// 201 with a JSON body.
    ///
    /// # Errors
    /// As [`Reply::ok`].
    pub fn created(body: &impl Serialize) -> Result<Self, Error> {
        Self::json(201, body)
    }

    /// 201 with the message, or 200 with the one that was accepted before.
    ///
    /// # Errors
    /// As [`Reply::ok`].
    pub fn sent(sent: &Sent) -> Result<Self, Error> {
        match sent {
            Sent::New(message) => Self::created(&MessageView::new(message, false)),
            Sent::Replayed { message, read } => {
                let mut reply = Self::ok(&MessageView::new(message, *read))?;
                reply.headers.insert("idempotent-replayed", "true".into());
                Ok(reply)
            }
        }
    }

    /// A page of a list of chats.
    ///
    /// # Errors
    /// As [`Reply::ok`].
    pub fn chats(page: &ChatPage, caller: UserId, list: List) -> Result<Self, Error> {
        Self::ok(&ChatPageView {
            chats: page
                .chats
                .iter()
                .map(|chat| ChatView::new(chat, caller))
                .collect(),
            next_cursor: page.next.map(|place| cursor::of_chats(caller, list, place)),
        })
    }

    /// A page of a chat's messages.
    ///
    /// # Errors
    /// As [`Reply::ok`].
    pub fn messages(page: &MessagePage, caller: UserId) -> Result<Self, Error> {
        let view = |message| MessageView::new(message, page.chat.has_been_read(message));
        Self::ok(&MessagePageView {
            messages: page.messages.iter().map(view).collect(),
            next_cursor: page
                .next
                .and_then(|place| cursor::of_messages(caller, page.chat.id, place)),
        })
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        self.status_code
    }

    /// An error's status, code and message; for a 5xx the cause goes to the log instead.
    pub(super) fn error(error: &Error, request_id: &str) -> Self {
        let body = ErrorView {
            success: false,
            code: error.code(),
            message: error.to_string(),
            request_id,
        };
        let mut reply = Self::json(error.status(), &body).unwrap_or_else(|_| Self::empty(500));
        match error {
            Error::Unauthorized => reply.headers.insert("www-authenticate", "Bearer".into()),
            Error::Unavailable(_) => reply.headers.insert("retry-after", RETRY_AFTER.into()),
            Error::MethodNotAllowed(allow) => reply.headers.insert("allow", allow.clone().into()),
            _ => None,
        };
        reply
    }

    /// 204 that names the methods of the path.
    pub(super) fn options(allow: String) -> Self {
        let headers = [("allow", allow.into()), ("cache-control", NO_STORE.into())];
        Self {
            status_code: 204,
            headers: headers.into(),
            body: String::new(),
        }
    }

    /// As the answer to `HEAD`.
    pub(super) fn leave_out_body(&mut self) {
        self.body.clear();
    }

    fn json(status_code: u16, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Error::Internal(error.into()))?;
        Ok(Self {
            body,
            ..Self::empty(status_code)
        })
    }

    fn empty(status_code: u16) -> Self {
        let headers = [
            ("content-type", "application/json".into()),
            ("cache-control", NO_STORE.into()),
        ];
        Self {
            status_code,
            headers: headers.into(),
            body: String::new(),
        }
    }
}

/// A page of chats.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ChatPage))]
#[serde(rename_all = "camelCase")]
pub(super) struct ChatPageView<'a> {
    chats: Vec<ChatView<'a>>,
    /// Give it as `cursor` for the next page; null at the end of the list.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    next_cursor: Option<String>,
}

/// A page of a chat's messages.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MessagePage))]
#[serde(rename_all = "camelCase")]
pub(super) struct MessagePageView<'a> {
    /// Newest first; oldest first on a page that began with `after`.
    messages: Vec<MessageView<'a>>,
    /// Give it as `cursor` for the next page in the same direction; null at its end.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Cursor>))]
    next_cursor: Option<String>,
}

/// Why a call was refused or failed.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Error))]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorView<'a> {
    /// Always false.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_false))]
    success: bool,
    code: Code,
    /// For a person; says what to do. It may change: programs go by `code`.
    message: String,
    /// Quote it when you report a failure.
    #[cfg_attr(feature = "openapi", schema(value_type = RequestId))]
    request_id: &'a str,
}

/// A chat as one of its members, the caller, sees it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Chat))]
#[serde(rename_all = "camelCase")]
pub struct ChatView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = ChatIdText))]
    chat_id: String,
    status: ChatStatus,
    /// Who asked for the chat, the last time that it was asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    requester_id: u64,
    /// Who was asked.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    recipient_id: u64,
    /// Messages of the other member after the caller's last mark as read.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    unread_count: u64,
    /// Up to which message the caller has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    read_seq: u64,
    /// Up to which message the other member has read; 0 at first.
    #[cfg_attr(feature = "openapi", schema(value_type = Watermark))]
    peer_read_seq: u64,
    /// The newest message in short; null before the first.
    #[cfg_attr(feature = "openapi", schema(required))]
    last_message: Option<SummaryView<'a>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
    /// When the chat was created, changed its status or got a message; not when it was marked as read.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    updated_at: String,
}

/// Whether a chat waits for its recipient's answer, was accepted, or was declined.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum ChatStatus {
    Pending,
    Active,
    Declined,
}

/// Whether a message's recipient has marked it as read.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum MessageStatus {
    Sent,
    Read,
}

/// A chat's newest message in short.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LastMessage))]
#[serde(rename_all = "camelCase")]
struct SummaryView<'a> {
    #[cfg_attr(feature = "openapi", schema(value_type = Seq))]
    seq: u64,
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// The first 120 code points of its text, nothing appended; null when it has none.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Preview>))]
    text: Option<&'a str>,
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
}

impl<'a> ChatView<'a> {
    /// The chat as `caller` sees it.
    #[must_use]
    pub fn new(chat: &'a Chat, caller: UserId) -> Self {
        let (mine, theirs) = (chat.member(caller), chat.member(chat.id.peer_of(caller)));
        Self {
            chat_id: chat.id.to_string(),
            status: match chat.status() {
                Status::Pending => ChatStatus::Pending,
                Status::Active => ChatStatus::Active,
                Status::Declined => ChatStatus::Declined,
            },
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            unread_count: mine.unread,
            read_seq: mine.read_seq.get(),
            peer_read_seq: theirs.read_seq.get(),
            last_message: chat.last_message().map(|last| SummaryView {
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

/// A message as the members of its chat see it.
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
    /// Who wrote it.
    #[cfg_attr(feature = "openapi", schema(value_type = UserIdNumber))]
    sender_id: u64,
    /// As it was sent; null when it was sent without.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<Text>))]
    text: Option<&'a str>,
    /// As it was sent; null when it was sent without.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<HttpsUrl>))]
    image_url: Option<&'a str>,
    /// As it was sent; null when it was sent without.
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<HttpsUrl>))]
    link_preview_url: Option<&'a str>,
    status: MessageStatus,
    /// When it was accepted; never before the message before it.
    #[cfg_attr(feature = "openapi", schema(value_type = Time))]
    created_at: String,
}

impl<'a> MessageView<'a> {
    /// The message; `read` when its recipient's watermark is at or past it.
    #[must_use]
    pub fn new(message: &'a Message, read: bool) -> Self {
        Self {
            message_id: format!("{}/{}", message.chat_id, message.seq),
            chat_id: message.chat_id.to_string(),
            seq: message.seq.get(),
            sender_id: message.sender.get(),
            text: message.content.text(),
            image_url: message.content.image_url(),
            link_preview_url: message.content.link_preview_url(),
            status: if read {
                MessageStatus::Read
            } else {
                MessageStatus::Sent
            },
            created_at: message.created_at.to_string(),
        }
    }
}

/// How much waits for the caller.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Totals))]
#[expect(clippy::struct_field_names, reason = "the names are the contract's")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TotalsView {
    /// Requests that wait for the caller's answer.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_pending_request: u64,
    /// The sum of the `unreadCount`s of the caller's chats.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
    /// The caller's own requests that wait for an answer.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_sent_request: u64,
}

impl From<Totals> for TotalsView {
    fn from(totals: Totals) -> Self {
        Self {
            total_pending_request: totals.pending,
            total_unread_messages: totals.unread,
            total_sent_request: totals.sent,
        }
    }
}

/// How many messages the caller has not read.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = UnreadTotal))]
#[serde(rename_all = "camelCase")]
pub struct UnreadTotalView {
    /// The sum of the `unreadCount`s of the caller's chats.
    #[cfg_attr(feature = "openapi", schema(value_type = Count))]
    total_unread_messages: u64,
}

impl From<Totals> for UnreadTotalView {
    fn from(totals: Totals) -> Self {
        Self {
            total_unread_messages: totals.unread,
        }
    }
}

/// There is nothing that the caller has not read.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MarkedAsRead))]
pub struct MarkedView {
    /// Always true.
    #[cfg_attr(feature = "openapi", schema(schema_with = always_true))]
    success: bool,
    /// For a person.
    message: &'static str,
}

impl MarkedView {
    /// There is nothing that the caller has not read.
    pub const ALL: Self = Self {
        success: true,
        message: "All messages have been marked as read.",
    };
}
