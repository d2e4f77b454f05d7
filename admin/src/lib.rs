//! Operator tool of the chat backend. The deployed functions never contain this crate.
//!
//! - [`check`] verifies the invariants of a table and repairs its counters.
//! - [`copy`] copies the items that a table lacks from another table.
//! - [`reports`] lists, shows and resolves what users have reported.
//! - [`client`] connects to DynamoDB, on AWS or at another endpoint.
//! - [`table`] sends requests to one table.
//!
//! The binary `chat-admin` makes the first three available on the command line.

pub mod check;
pub mod client;
pub mod copy;
pub mod reports;
pub mod table;
mod text;
