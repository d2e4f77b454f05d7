//! Code shared by all functions of the chat service.
//!
//! Dependencies point inward only:
//!
//! - [`domain`]: chats, messages and their state machine. No I/O, no clock, no JSON.
//! - [`store`]: persistence in `DynamoDB`. The only module that knows keys, conditions and transactions.
//! - [`auth`]: verification of access tokens.
//! - [`aws`]: settings that all AWS clients of a function share.
//! - [`http`]: parses requests, builds responses and runs a function. It knows JSON and status codes.
//! - [`realtime`]: WebSocket connections, and the events that clients receive on them.
//! - [`error`]: the error types.
//! - `openapi`: the OpenAPI document, behind the feature of the same name.

pub mod auth;
pub mod aws;
pub mod domain;
pub mod error;
pub mod http;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod realtime;
pub mod store;

pub use error::Error;
