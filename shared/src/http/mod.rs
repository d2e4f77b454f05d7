//! HTTP layer: parses requests, builds responses and runs a function.
//!
//! This is the only module that knows JSON and status codes.
//!
//! The `main` of a function calls [`serve`] with a handler, which is a closure from [`RequestContext`] to
//! [`Response`]. `serve` does what all functions have in common: configuration, access token, body size,
//! time limit, error responses and logging. The handler reads the parts of the request in the order in
//! which the API reports errors (body, query and headers, then the ids in the path).
//!
//! | Module | Task |
//! |---|---|
//! | [`endpoints`] | the table of endpoints; which methods a path supports |
//! | `serve` | starts a function and handles its events |
//! | `event` | converts a Lambda event to an `http::Request`, and an `http::Response` back |
//! | `request` | one authenticated request: [`RequestContext`] |
//! | `body`, `query`, `cursor` | parse and validate the parts of a request |
//! | `response` | builds [`Response`] |
//! | `views` | the JSON objects of responses |
//! | `log` | the log line and metrics of a request |
//! | `schemas` | OpenAPI schemas of single values; only with feature `openapi` |

mod body;
mod cursor;
pub mod endpoints;
mod event;
pub(crate) mod log;
pub(crate) mod query;
mod request;
mod response;
#[cfg(feature = "openapi")]
pub(crate) mod schemas;
pub(crate) mod serve;
pub(crate) mod views;

pub use body::{
    EditMessageBody, MAX_BODY_BYTES, MarkMessagesReadBody, ReportBody, SendChatRequestBody,
    SendMessageBody,
};
pub use endpoints::{ENDPOINTS, Endpoint};
pub use request::RequestContext;
pub use response::Response;
pub use serve::{serve, serve_with_connections};
pub use views::{
    BlockView, ChatView, MarkedAsReadView, MessageView, TotalsView, UnblockedView, UnreadTotalView,
};
