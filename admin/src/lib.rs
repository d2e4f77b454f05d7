//! Operator tool of the chat backend. The deployed functions never contain this crate.
//!
//! - [`check`] verifies the invariants of a table and repairs its counters.
//! - [`client`] connects to DynamoDB, on AWS or at another endpoint.
//!
//! The binary `chat-admin` makes both available on the command line.

pub mod check;
pub mod client;
