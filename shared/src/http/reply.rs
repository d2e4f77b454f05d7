use std::collections::BTreeMap;

use serde::Serialize;

use super::cursor;
use crate::{
    Error,
    domain::{Chat, Message, Status, UserId},
    store::{ChatPage, List, MessagePage, Sent, Totals},
};

/// Seconds after which a caller should repeat a call that was answered with 503.
const RETRY_AFTER: &str = "1";

/// What a call is answered, as API Gateway takes it (payload format 2.0).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    status_code: u16,
    headers: BTreeMap<&'static str, &'static str>,
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
                reply.headers.insert("idempotent-replayed", "true");
                Ok(reply)
            }
        }
    }

    /// A page of a list of chats.
    ///
    /// # Errors
    /// As [`Reply::ok`].
    pub fn chats(page: &ChatPage, caller: UserId, list: List) -> Result<Self, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            chats: Vec<ChatView<'a>>,
            next_cursor: Option<String>,
        }
        Self::ok(&Body {
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
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            messages: Vec<MessageView<'a>>,
            next_cursor: Option<String>,
        }
        let view = |message| MessageView::new(message, page.chat.has_been_read(message));
        Self::ok(&Body {
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
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            success: bool,
            code: &'a str,
            message: String,
            request_id: &'a str,
        }
        let message = error.to_string();
        let body = Body {
            success: false,
            code: error.code(),
            message,
            request_id,
        };
        let mut reply = Self::json(error.status(), &body).unwrap_or_else(|_| Self::empty(500));
        match error.status() {
            401 => reply.headers.insert("www-authenticate", "Bearer"),
            503 => reply.headers.insert("retry-after", RETRY_AFTER),
            _ => None,
        };
        reply
    }

    fn json(status_code: u16, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Error::Internal(error.into()))?;
        Ok(Self {
            body,
            ..Self::empty(status_code)
        })
    }

    fn empty(status_code: u16) -> Self {
        // Chats are private: no cache on the way may keep them.
        let headers = [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
        ];
        Self {
            status_code,
            headers: headers.into(),
            body: String::new(),
        }
    }
}

/// A chat as one of its members sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatView<'a> {
    chat_id: String,
    status: &'static str,
    requester_id: u64,
    recipient_id: u64,
    unread_count: u64,
    read_seq: u64,
    peer_read_seq: u64,
    last_message: Option<SummaryView<'a>>,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryView<'a> {
    seq: u64,
    sender_id: u64,
    text: Option<&'a str>,
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
                Status::Pending => "pending",
                Status::Active => "active",
                Status::Declined => "declined",
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
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    message_id: String,
    chat_id: String,
    seq: u64,
    sender_id: u64,
    text: Option<&'a str>,
    image_url: Option<&'a str>,
    link_preview_url: Option<&'a str>,
    status: &'static str,
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
            status: if read { "read" } else { "sent" },
            created_at: message.created_at.to_string(),
        }
    }
}

/// Body of `GET /totals`.
#[expect(clippy::struct_field_names, reason = "the names are the contract's")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TotalsView {
    total_pending_request: u64,
    total_unread_messages: u64,
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

/// Body of `GET /totals/unread`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadTotalView {
    total_unread_messages: u64,
}

impl From<Totals> for UnreadTotalView {
    fn from(totals: Totals) -> Self {
        Self {
            total_unread_messages: totals.unread,
        }
    }
}

/// Body of `PUT /chats/{chatId}/messages/read`.
#[derive(Serialize)]
pub struct MarkedView {
    success: bool,
    message: &'static str,
}

impl MarkedView {
    /// There is nothing that the caller has not read.
    pub const ALL: Self = Self {
        success: true,
        message: "All messages have been marked as read.",
    };
}
