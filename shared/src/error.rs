//! Error types: [`Error`] for a request, [`ConfigError`] for a function that cannot start.
//!
//! Every operation of this crate that serves a request returns [`Error`]. [`ErrorCode`] lists the error
//! codes of the API. [`Error::code`] and [`ErrorCode::status`] are the only places that map an error to
//! HTTP. The message of a 4xx error says how to correct the request. The message of a 5xx error only
//! says whether to retry; its cause goes to the log, with the same request id.

use std::{borrow::Cow, error::Error as StdError};

use serde::Serialize;

use crate::{
    auth::TokenError,
    domain::{ContentError, EditError, TransitionError},
};

/// The cause of a 5xx error. It is logged and never sent to a client.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Machine-readable reason for an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400
    InvalidRequest,
    /// 401
    Unauthorized,
    /// 403
    NotTheRecipient,
    /// 403
    NotTheRequester,
    /// 403
    NotTheSender,
    /// 404
    ChatNotFound,
    /// 404
    MessageNotFound,
    /// 405
    MethodNotAllowed,
    /// 409
    ChatActive,
    /// 409
    ChatDeclined,
    /// 409
    ChatWithdrawn,
    /// 409
    ChatNotActive,
    /// 409
    MessageDeleted,
    /// 409
    EditWindowClosed,
    /// 409
    DeleteWindowClosed,
    /// 409
    YouBlocked,
    /// 409
    PeerUnavailable,
    /// 410
    ChangesExpired,
    /// 413
    BodyTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    IdempotencyKeyReused,
    /// 429
    TooManyPendingRequests,
    /// 500
    Internal,
    /// 503
    Unavailable,
}

impl ErrorCode {
    /// All codes, ordered by status.
    pub const ALL: [Self; 24] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::NotTheRecipient,
        Self::NotTheRequester,
        Self::NotTheSender,
        Self::ChatNotFound,
        Self::MessageNotFound,
        Self::MethodNotAllowed,
        Self::ChatActive,
        Self::ChatDeclined,
        Self::ChatWithdrawn,
        Self::ChatNotActive,
        Self::MessageDeleted,
        Self::EditWindowClosed,
        Self::DeleteWindowClosed,
        Self::YouBlocked,
        Self::PeerUnavailable,
        Self::ChangesExpired,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::TooManyPendingRequests,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The HTTP status of responses with this code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::NotTheRecipient | Self::NotTheRequester | Self::NotTheSender => 403,
            Self::ChatNotFound | Self::MessageNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ChatActive
            | Self::ChatDeclined
            | Self::ChatWithdrawn
            | Self::ChatNotActive
            | Self::MessageDeleted
            | Self::EditWindowClosed
            | Self::DeleteWindowClosed
            | Self::YouBlocked
            | Self::PeerUnavailable => 409,
            Self::ChangesExpired => 410,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyKeyReused => 422,
            Self::TooManyPendingRequests => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// The error of a request. `Display` is the message for the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 401: the access token is missing or not valid. The reason goes to the log only, because it would help
    /// an attacker.
    #[error("send a valid access token in the header `Authorization: Bearer <token>`")]
    Unauthorized(TokenError),
    /// 405: the path exists, but not with this method. Contains the value of the `Allow` header.
    #[error("this path supports only the methods {0}")]
    MethodNotAllowed(String),
    /// 413: the body is larger than [`crate::http::MAX_BODY_BYTES`].
    #[error("the body must be at most 64 KiB")]
    BodyTooLarge,
    /// 415: `Content-Type` is not JSON.
    #[error("send the body as JSON, with the header `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// 415: the body is compressed.
    #[error(
        "send the body without compression: omit the header `Content-Encoding`, or set it to identity"
    )]
    UnsupportedContentEncoding,
    /// 400: the body, a parameter or a header is invalid. The message names it and says what is allowed.
    #[error("{0}")]
    InvalidRequest(String),
    /// 404: the path does not contain the canonical id of one of the caller's chats.
    #[error("you have no chat with this id")]
    ChatNotFound,
    /// 404: the chat has no message with the `seq` in the path or in the body.
    #[error("this chat has no message with this seq")]
    MessageNotFound,
    /// 410: the service no longer has all changes after the requested `rev`.
    #[error("changes this old are no longer available; load the messages of the chat again")]
    ChangesExpired,
    /// 422: another message was sent with this key in the last 24 hours.
    #[error(
        "this Idempotency-Key was used for another message; use a new key for each new message"
    )]
    IdempotencyKeyReused,
    /// 429: the caller has reached the cap on open requests.
    #[error("you have {0} unanswered requests; withdraw one, or wait until one is answered")]
    TooManyPendingRequests(u64),
    /// 403 and 409: the state of the chat or of the message does not allow the request.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// 503: contention, throttling or a lost connection outlasted the retries. The request was
    /// applied completely or not at all.
    #[error("the service is busy; retry the request, with the same Idempotency-Key if it had one")]
    Unavailable(#[source] BoxError),
    /// 503: the variable `SAFETY_FEATURES` is off, until all functions have the version that knows them.
    #[error("this operation is not enabled yet in this deployment; retry later")]
    NotEnabled,
    /// 500: a defect or a wrong deployment.
    #[error("something went wrong in the service; include the requestId when you report it")]
    Internal(#[source] BoxError),
}

impl Error {
    /// An error for an invalid body, parameter or header. The message must name it.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRequest(message.into())
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code().status()
    }

    /// The error code of the API.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized(_) => ErrorCode::Unauthorized,
            Self::MethodNotAllowed(_) => ErrorCode::MethodNotAllowed,
            Self::BodyTooLarge => ErrorCode::BodyTooLarge,
            Self::UnsupportedMediaType | Self::UnsupportedContentEncoding => {
                ErrorCode::UnsupportedMediaType
            }
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::ChatNotFound => ErrorCode::ChatNotFound,
            Self::MessageNotFound => ErrorCode::MessageNotFound,
            Self::ChangesExpired => ErrorCode::ChangesExpired,
            Self::Transition(error) => transition_code(*error),
            Self::IdempotencyKeyReused => ErrorCode::IdempotencyKeyReused,
            Self::TooManyPendingRequests(_) => ErrorCode::TooManyPendingRequests,
            Self::Unavailable(_) | Self::NotEnabled => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// The reason for a 401, for the log.
    #[must_use]
    pub fn token_error(&self) -> Option<TokenError> {
        match self {
            Self::Unauthorized(token_error) => Some(*token_error),
            _ => None,
        }
    }

    /// The cause of a 5xx, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync)> {
        match self {
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}

fn transition_code(error: TransitionError) -> ErrorCode {
    match error {
        TransitionError::NotTheRecipient => ErrorCode::NotTheRecipient,
        TransitionError::NotTheRequester => ErrorCode::NotTheRequester,
        TransitionError::NotTheSender => ErrorCode::NotTheSender,
        TransitionError::ChatActive => ErrorCode::ChatActive,
        TransitionError::ChatDeclined => ErrorCode::ChatDeclined,
        TransitionError::ChatWithdrawn => ErrorCode::ChatWithdrawn,
        TransitionError::ChatNotActive => ErrorCode::ChatNotActive,
        TransitionError::MessageDeleted => ErrorCode::MessageDeleted,
        TransitionError::EditWindowClosed => ErrorCode::EditWindowClosed,
        TransitionError::DeleteWindowClosed => ErrorCode::DeleteWindowClosed,
        TransitionError::YouBlocked => ErrorCode::YouBlocked,
        TransitionError::PeerUnavailable => ErrorCode::PeerUnavailable,
    }
}

impl From<EditError> for Error {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Content(error) => error.into(),
            EditError::Transition(error) => error.into(),
        }
    }
}

impl From<ContentError> for Error {
    fn from(invalid: ContentError) -> Self {
        Self::invalid(invalid.to_string())
    }
}

/// An environment variable is missing or invalid. `Display` is one line that names the variable and
/// says what it must contain.
#[derive(Debug, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: Cow<'static, str>,
}

impl ConfigError {
    /// `problem` continues the sentence that starts with the name of the variable.
    pub(crate) fn new(variable: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            variable,
            problem: problem.into(),
        }
    }
}
