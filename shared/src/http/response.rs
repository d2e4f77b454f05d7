//! Builds responses.

use lambda_http::{
    Body,
    http::{
        self, HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;

use super::{
    cursor,
    views::{
        BlockPageView, BlockView, ChangePageView, ChatPageView, ChatView, ErrorView,
        MessagePageView, MessageView, ReportView,
    },
};
use crate::{
    Error,
    domain::{Chat, UserId},
    store::{
        ChangePage, ChatList, ChatPage, MessageOutcome, MessagePage, ReportOutcome, SendOutcome,
    },
};

/// Seconds to wait before a client retries after a 503.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// The same while an operation is not enabled, until an upgrade is finished.
const RETRY_AFTER_UPGRADE_SECONDS: HeaderValue = HeaderValue::from_static("300");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Chats are private. No cache may store a response.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The response of a handler. It converts to an `http::Response`.
pub struct Response(http::Response<Body>);

impl Response {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// [`Error::Internal`] if the body cannot be serialized, which none of the views can cause.
    pub fn ok(body: &impl Serialize) -> Result<Self, Error> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a JSON body.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn created(body: &impl Serialize) -> Result<Self, Error> {
        Self::json(StatusCode::CREATED, body)
    }

    /// 201 with the new message, or 200 with the message that was sent earlier with the same key.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn sent(outcome: &SendOutcome) -> Result<Self, Error> {
        match outcome {
            SendOutcome::Sent(message) => Self::created(&MessageView::new(message, false)),
            SendOutcome::Replayed { message, is_read } => {
                let mut response = Self::ok(&MessageView::new(message, *is_read))?;
                response.insert_header(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
                Ok(response)
            }
        }
    }

    /// 200 with the message after an edit or a deletion.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn message(outcome: &MessageOutcome) -> Result<Self, Error> {
        Self::ok(&MessageView::new(&outcome.message, outcome.is_read))
    }

    /// 201 with the new report, or 200 with the first report of the same user or message.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn reported(outcome: &ReportOutcome) -> Result<Self, Error> {
        match outcome {
            ReportOutcome::Created(report) => Self::created(&ReportView::new(report)),
            ReportOutcome::Existing(report) => Self::ok(&ReportView::new(report)),
        }
    }

    /// A page of a list of chats.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn chats(page: &ChatPage, caller: UserId, list: ChatList) -> Result<Self, Error> {
        let chats = page.chats.iter();
        Self::ok(&ChatPageView {
            chats: chats.map(|chat| ChatView::new(chat, caller)).collect(),
            next_cursor: page.next.map(|key| cursor::encode_chats(caller, list, key)),
        })
    }

    /// A page of the messages of a chat.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn messages(page: &MessagePage, caller: UserId) -> Result<Self, Error> {
        let view = |message| MessageView::new(message, page.chat.is_read(message));
        Self::ok(&MessagePageView {
            messages: page.messages.iter().map(view).collect(),
            next_cursor: page
                .next
                .and_then(|start| cursor::encode_messages(caller, page.chat.id, start)),
        })
    }

    /// A page of the changes of a chat.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn changes(page: &ChangePage, caller: UserId) -> Result<Self, Error> {
        let view = |message| MessageView::new(message, page.chat.is_read(message));
        let cursor = |rev| cursor::encode_changes(caller, page.chat.id, rev);
        Self::ok(&ChangePageView {
            messages: page.messages.iter().map(view).collect(),
            rev: page.chat.rev().get(),
            next_cursor: page.next.map(cursor),
        })
    }

    /// A page of the users that the caller has blocked.
    ///
    /// # Errors
    /// The same as [`Response::ok`].
    pub fn blocks(page: &ChatPage, caller: UserId) -> Result<Self, Error> {
        let view = |chat: &Chat| {
            let blocked_at = chat.blocked_at(caller)?;
            Some(BlockView::new(chat.id.peer_of(caller), blocked_at))
        };
        let cursor = |key| cursor::encode_chats(caller, ChatList::Blocked, key);
        Self::ok(&BlockPageView {
            blocks: page.chats.iter().filter_map(view).collect(),
            next_cursor: page.next.map(cursor),
        })
    }

    /// The status code.
    pub(super) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// The status, code and message of an error. The cause of a 5xx is not part of the response.
    pub(super) fn error(error: &Error, request_id: &str) -> Self {
        let body = ErrorView {
            success: false,
            code: error.code(),
            message: error.to_string(),
            request_id,
        };
        let status =
            StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Self::json(status, &body)
            .unwrap_or_else(|_| Self::empty(StatusCode::INTERNAL_SERVER_ERROR));
        match error {
            Error::Unauthorized(_) => {
                response.insert_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Error::MethodNotAllowed(allow) => response.insert_allow(allow),
            Error::NotEnabled => {
                response.insert_header(RETRY_AFTER, RETRY_AFTER_UPGRADE_SECONDS);
            }
            Error::Unavailable(_) => response.insert_header(RETRY_AFTER, RETRY_AFTER_SECONDS),
            _ => {}
        }
        response
    }

    /// 204 with the methods that the path supports.
    pub(super) fn options(allow: &str) -> Self {
        let mut response = Self::empty(StatusCode::NO_CONTENT);
        response.insert_allow(allow);
        response
    }

    /// Removes the body, for the response to a `HEAD` request.
    pub(super) fn remove_body(&mut self) {
        *self.0.body_mut() = Body::Empty;
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Error::Internal(error.into()))?;
        let mut response = Self::empty(status);
        *response.0.body_mut() = Body::Text(body);
        response.insert_header(CONTENT_TYPE, JSON);
        Ok(response)
    }

    fn empty(status: StatusCode) -> Self {
        let mut response = Self(http::Response::new(Body::Empty));
        *response.0.status_mut() = status;
        response.insert_header(CACHE_CONTROL, NO_STORE);
        response
    }

    fn insert_allow(&mut self, allow: &str) {
        // The methods in the table of endpoints are valid header values.
        if let Ok(allow) = HeaderValue::from_str(allow) {
            self.insert_header(ALLOW, allow);
        }
    }

    fn insert_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.headers_mut().insert(name, value);
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> Self {
        response.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        domain::{
            ChatId, ChatState, Conversation, Message, MessageContent, Rev, Seq, Timestamp,
            Transition,
        },
        store::ActivityKey,
    };

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn chat_id() -> ChatId {
        "17-42".parse().unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + millis)
    }

    fn body(response: Result<Response, Error>) -> Value {
        match response.unwrap().0.body() {
            Body::Text(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_503_says_when_to_retry() {
        for (error, seconds) in [
            (Error::NotEnabled, "300"),
            (Error::Unavailable("a test".into()), "1"),
        ] {
            let response = Response::error(&error, "id");
            assert_eq!(response.status(), 503);
            assert_eq!(response.0.headers()[RETRY_AFTER], seconds);
        }
        let other = Response::error(&Error::MessageNotFound, "id");
        assert_eq!(other.0.headers().get(RETRY_AFTER), None);
    }

    #[test]
    fn a_page_of_changes_has_the_rev_of_the_chat_and_a_cursor_of_its_list() {
        let conversation = Conversation {
            seq: Seq::new(1),
            rev: Rev::new(9),
            ..Conversation::default()
        };
        let chat = Chat {
            state: ChatState::Active(conversation),
            ..Chat::new_request(chat_id(), user(42), at(0))
        };
        let content = MessageContent::new(Some("hi".to_owned()), None, None).unwrap();
        let mut page = ChangePage {
            messages: vec![Message::new(
                chat_id(),
                Seq::new(1),
                user(42),
                content,
                at(0),
            )],
            chat,
            next: Some(Rev::new(7)),
        };
        let first = body(Response::changes(&page, user(17)));
        assert_eq!(first["rev"], 9);
        assert_eq!(first["messages"][0]["messageId"], "17-42/1");
        let cursor = first["nextCursor"].as_str().unwrap();
        let start = cursor::decode_changes(cursor, user(17), chat_id());
        assert_eq!(start.unwrap().0, Rev::new(7));
        page.next = None;
        let last = body(Response::changes(&page, user(17)));
        assert_eq!(last["nextCursor"], Value::Null);
    }

    #[test]
    fn a_page_of_blocks_lists_only_users_that_the_caller_has_blocked() {
        let blocked = Chat::new_block(chat_id(), user(17), at(5));
        // An index can contain the old row of a user who is no longer blocked.
        let Transition::To(unblocked) = blocked.unblock(user(17)) else {
            panic!("the block should end");
        };
        let key = ActivityKey::of(&blocked);
        let page = ChatPage {
            chats: vec![blocked, unblocked],
            next: Some(key),
        };
        let page = body(Response::blocks(&page, user(17)));
        let expected = json!([{"userId": 42, "blockedAt": "2026-01-01T00:00:00.005Z"}]);
        assert_eq!(page["blocks"], expected);
        let cursor = page["nextCursor"].as_str().unwrap();
        let start = cursor::decode_chats(cursor, user(17), ChatList::Blocked);
        assert_eq!(start, Some(key));
    }
}
