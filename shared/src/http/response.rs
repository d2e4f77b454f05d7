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
    views::{ChatPageView, ChatView, ErrorView, MessagePageView, MessageView},
};
use crate::{
    Error,
    domain::UserId,
    store::{ChatList, ChatPage, MessagePage, SendOutcome},
};

/// Seconds to wait before a client retries after a 503.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
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
            Error::Unavailable(_) => response.insert_header(RETRY_AFTER, RETRY_AFTER_SECONDS),
            Error::MethodNotAllowed(allow) => response.insert_allow(allow),
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
