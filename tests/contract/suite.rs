//! The tests of the contract. A test reads a list of chats with `wait_for_list` and the like, because
//! lists are eventually consistent. The modules `live_…` test the push protocol.

pub mod auth;
pub mod blocks;
pub mod bodies;
pub mod changes;
pub mod chats;
pub mod edits;
pub mod gateway;
pub mod idempotency;
pub mod live_connections;
pub mod live_events;
pub mod live_frames;
pub mod live_handshake;
pub mod live_typing;
pub mod marks;
pub mod messages;
pub mod methods;
pub mod paging;
pub mod races;
pub mod reports;
pub mod totals;
pub mod withdrawing;
