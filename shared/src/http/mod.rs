//! How a call is asked for and answered: the only module that knows JSON and statuses.
//!
//! A function is [`serve`] and a closure from [`Call`] to [`Reply`]. `serve` does what all share:
//! configuration, access token, body size, the time limit, errors, a line in the log. The closure asks
//! the [`Call`] for its parts in the contract's order (body, query and headers, then the chat), so that
//! the first thing wrong is the one that is answered.
//!
//! The functions run on `lambda_runtime` and read the few fields of a payload 2.0 event that they
//! need ([`Event`]), rather than on `lambda_http`: its conversion to an `http::Request` panics on
//! query strings with characters that are not allowed in a URI, and refuses events with control
//! characters in a header; a client would see a 500 for what is its own mistake.

mod body;
mod cursor;
mod event;
mod log;
#[cfg(feature = "openapi")]
pub mod openapi;
mod query;
mod reply;
mod route;

use std::{
    cell::Cell,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use lambda_runtime::{LambdaEvent, service_fn};

pub use body::{MAX_BODY_BYTES, SendChatRequestBody, SendMessageBody};
pub use event::Event;
pub use reply::{ChatView, MarkedView, MessageView, Reply, TotalsView, UnreadTotalView};
pub use route::ROUTES;

use log::{Log, Outcome};
use route::Asked;

use crate::{
    Error,
    auth::Authenticator,
    domain::{ChatId, Timestamp, UserId},
    store::{ChatsFrom, Connection, Direction, IdempotencyKey, List, MessagesFrom, Store},
};

/// Kept of the invocation's time for answering, so that a caller gets a 503 and not a dead line.
const TIME_TO_ANSWER: Duration = Duration::from_millis(500);

/// One authenticated call.
pub struct Call {
    event: Event,
    body: Vec<u8>,
    caller: UserId,
    store: Store,
}

impl Call {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> UserId {
        self.caller
    }

    /// The store, at the time of this call.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::UnsupportedMediaType`], or [`Error::InvalidRequest`] naming the field.
    pub fn body<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        body::parse(&self.body, self.event.header("content-type"))
    }

    /// The `Idempotency-Key` header, if there is one.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Error> {
        let key = self
            .event
            .header("idempotency-key")
            .map(str::parse)
            .transpose();
        key.map_err(|invalid: crate::store::InvalidKey| Error::invalid(invalid.to_string()))
    }

    /// `direction`, by default [`Direction::Sent`].
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn direction(&self) -> Result<Direction, Error> {
        query::Query::new(self.event.query()).direction()
    }

    /// Where the asked page of a list of chats begins, and how long it is.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the parameter.
    pub fn chat_page(&self, list: List) -> Result<(ChatsFrom, usize), Error> {
        query::Query::new(self.event.query()).chat_page(self.caller, list)
    }

    /// Where the asked page of a chat's messages begins, and how long it is.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the parameter.
    pub fn message_page(&self) -> Result<(MessagesFrom, usize), Error> {
        // A cursor is bound to a chat. For what is not a chat of the caller no cursor is right.
        query::Query::new(self.event.query()).message_page(self.caller, self.chat_id().ok())
    }

    /// The chat that the path names.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`] for all that is not the canonical id of a chat with the caller.
    pub fn chat_id(&self) -> Result<ChatId, Error> {
        let id = self
            .event
            .path_parameter("chatId")
            .and_then(|id| id.parse().ok());
        id.filter(|id: &ChatId| id.has(self.caller))
            .ok_or(Error::ChatNotFound)
    }
}

/// Runs a function: connects, then answers calls with `handler` until Lambda stops it. Refuses to
/// start when the configuration is missing or wrong, naming the variable on standard error.
pub async fn serve(handler: impl AsyncFn(&Call) -> Result<Reply, Error>) -> ExitCode {
    serve_over(1, handler).await
}

/// [`serve`], for a function whose calls ask the table for `connections` things at once.
pub async fn serve_over(
    connections: usize,
    handler: impl AsyncFn(&Call) -> Result<Reply, Error>,
) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let authenticator = match Authenticator::from_variables(variable) {
        Ok(authenticator) => authenticator,
        Err(error) => return refuse_to_start(&error),
    };
    let log = match Log::from_variables(variable) {
        Ok(log) => log,
        Err(error) => return refuse_to_start(&error),
    };
    let connection = match Connection::from_variables(variable, connections).await {
        Ok(connection) => connection,
        Err(error) => return refuse_to_start(&error),
    };

    let (authenticator, connection, handler) = (&authenticator, &connection, &handler);
    let is_first_call = Cell::new(true);
    let (log, is_first_call) = (&log, &is_first_call);
    let served = lambda_runtime::run(service_fn(async |event: LambdaEvent<Event>| {
        let began = Instant::now();
        let (mut event, context) = event.into_parts();
        let route = event.route().to_owned();
        let is_head = event.method() == "HEAD";
        let now = Timestamp::now();
        let deadline = Duration::from_millis(context.deadline.saturating_sub(now.millis()));
        // Boxed: the compiler gives up on the nesting of an unboxed one.
        let answer: Pin<Box<dyn Future<Output = _>>> = Box::pin(async {
            let asked = Asked::of(&event)?;
            if let Asked::Options { allow } = asked {
                return Ok(Reply::options(allow));
            }
            let caller = authenticator.user(event.header("authorization"))?;
            let body = event.take_body()?;
            let call = Call {
                body,
                caller,
                store: connection.at(now),
                event,
            };
            handler(&call).await
        });
        let answer = tokio::time::timeout(deadline.saturating_sub(TIME_TO_ANSWER), answer).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Error::Unavailable("the invocation's time ran out".into())));
        let error = answer.as_ref().err();
        let (code, cause) = (error.map(Error::code), error.and_then(Error::cause));
        let mut outcome = Outcome {
            at: Timestamp::now(),
            request_id: &context.request_id,
            route: &route,
            status: 0,
            code,
            cause: cause.map(ToString::to_string),
            duration: began.elapsed(),
            cold_start: is_first_call.replace(false),
            work: connection.work(),
        };
        let mut reply = answer.unwrap_or_else(|error| Reply::error(&error, &context.request_id));
        if is_head {
            reply.leave_out_body();
        }
        outcome.status = reply.status();
        log.write(&outcome);
        Ok::<_, std::convert::Infallible>(reply)
    }))
    .await;
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse_to_start(error.as_ref()),
    }
}

fn refuse_to_start(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}
