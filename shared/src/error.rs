//! The one way to fail: [`Error`] in a call, [`ConfigError`] at the start.
//!
//! Every operation of this crate that answers a caller returns [`Error`]. [`Code`] lists the contract's
//! codes, once; [`Error::code`] and [`Code::status`] are the only place where a failure meets HTTP. A 4xx
//! tells the caller what to do. A 5xx tells the caller nothing but whether to try again; its cause goes to
//! the log under the same request id.

use std::error::Error as StdError;

use serde::Serialize;

use crate::domain::{InvalidContent, Refusal};

/// A cause that is logged and never sent to a caller.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// What a program reads of a refusal or failure, whatever its message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ErrorCode))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400
    InvalidRequest,
    /// 401
    Unauthorized,
    /// 403
    NotTheRecipient,
    /// 404
    ChatNotFound,
    /// 405
    MethodNotAllowed,
    /// 409
    ChatActive,
    /// 409
    ChatDeclined,
    /// 409
    ChatNotActive,
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

impl Code {
    /// All there are, by status.
    pub const ALL: [Self; 14] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::NotTheRecipient,
        Self::ChatNotFound,
        Self::MethodNotAllowed,
        Self::ChatActive,
        Self::ChatDeclined,
        Self::ChatNotActive,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::TooManyPendingRequests,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The HTTP status that it comes with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::NotTheRecipient => 403,
            Self::ChatNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ChatActive | Self::ChatDeclined | Self::ChatNotActive => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyKeyReused => 422,
            Self::TooManyPendingRequests => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a call was refused or failed. `Display` is the message for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 401: no token, or none that is valid now.
    #[error("send a valid access token as `Authorization: Bearer <token>`")]
    Unauthorized,
    /// 405: the path is known, the method is not one of its own. With those, for the `Allow` header.
    #[error("this path takes only the methods {0}")]
    MethodNotAllowed(String),
    /// 413: over [`crate::http::MAX_BODY_BYTES`].
    #[error("the body must be at most 64 KiB")]
    BodyTooLarge,
    /// 415: a body that says it is not JSON.
    #[error("send the body as JSON, with `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// 400: a body, parameter or header that cannot be; names it and says what it must be.
    #[error("{0}")]
    InvalidRequest(String),
    /// 404: not the canonical id of one of the caller's chats.
    #[error("you have no chat with this id")]
    ChatNotFound,
    /// 422: another message was sent under this key within the last 24 hours.
    #[error("this Idempotency-Key was used for another message; use a new key for a new message")]
    IdempotencyKeyReused,
    /// 429: the cap on open sent requests.
    #[error("you have {0} unanswered requests; wait until one is answered before you send more")]
    TooManyPendingRequests(u64),
    /// 403 and 409: what the chat's state does not allow.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// 503: contention, throttling or a lost connection that outlasted the retries. The call
    /// happened whole or not at all.
    #[error("the service is busy; repeat the call, with the same Idempotency-Key if it had one")]
    Unavailable(#[source] Cause),
    /// 500: a defect or a wrong deployment.
    #[error("something went wrong on our side; quote the requestId when you report it")]
    Internal(#[source] Cause),
}

impl Error {
    /// A body, parameter or header that cannot be, with a message that names it.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRequest(message.into())
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code().status()
    }

    /// The contract's code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unauthorized => Code::Unauthorized,
            Self::MethodNotAllowed(_) => Code::MethodNotAllowed,
            Self::BodyTooLarge => Code::BodyTooLarge,
            Self::UnsupportedMediaType => Code::UnsupportedMediaType,
            Self::InvalidRequest(_) => Code::InvalidRequest,
            Self::ChatNotFound => Code::ChatNotFound,
            Self::Refused(Refusal::NotTheRecipient) => Code::NotTheRecipient,
            Self::IdempotencyKeyReused => Code::IdempotencyKeyReused,
            Self::Refused(Refusal::ChatActive) => Code::ChatActive,
            Self::Refused(Refusal::ChatDeclined) => Code::ChatDeclined,
            Self::Refused(Refusal::ChatNotActive) => Code::ChatNotActive,
            Self::TooManyPendingRequests(_) => Code::TooManyPendingRequests,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
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

impl From<InvalidContent> for Error {
    fn from(invalid: InvalidContent) -> Self {
        Self::invalid(invalid.to_string())
    }
}

/// An environment variable is missing or cannot be right. `Display` is one line that names it and
/// says what it must be.
#[derive(Debug, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: &'static str,
}

impl ConfigError {
    /// A variable, and a sentence that goes on from its name.
    pub(crate) fn new(variable: &'static str, problem: &'static str) -> Self {
        Self { variable, problem }
    }
}
