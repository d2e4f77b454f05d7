//! What the eleven functions share.
//!
//! Dependencies point inward only:
//!
//! - [`domain`]: what a chat is and what may happen to it. No I/O, no clock, no JSON.
//! - [`store`]: how chats are kept. The only module that knows keys, conditions and transactions.
//! - [`auth`]: whose call it is.
//! - [`http`]: how a call is asked for and answered; the only module that knows JSON and statuses.
//! - [`error`]: the one way to fail.

pub mod auth;
pub mod domain;
pub mod error;
pub mod http;
pub mod store;

pub use error::Error;
