//! The tests of the contract. A test reads a list of chats with `wait_for_list` and the like, because
//! lists are eventually consistent.

pub mod auth;
pub mod blocks;
pub mod bodies;
pub mod changes;
pub mod chats;
pub mod edits;
pub mod gateway;
pub mod idempotency;
pub mod marks;
pub mod messages;
pub mod methods;
pub mod paging;
pub mod races;
pub mod reports;
pub mod totals;
pub mod withdrawing;
