//! Realtime push: WebSocket connections, and the events of chats that clients receive on them.
//!
//! Goals, in this order: a client that follows the rules of `docs/realtime.md` shows what the REST API says,
//! whatever fails; a request to the REST API costs no more than without push; an event arrives within a fraction of
//! a second.
//!
//! - **The stream of the table is the only source of events.** It cannot lose an event between the commit of a
//!   change and its publication, which a request that publishes by itself can, when its function dies in between.
//! - **Events are derived from the state of a chat alone** ([`ChatEvent`]). Each change that a client must learn of
//!   writes it exactly once, and the stream keeps the order of the changes to one item.
//! - **Push is a hint.** An event is delivered at least once while a connection exists. Clients recognize duplicates
//!   and gaps by `seq` and `rev`, and close gaps with the REST API. So there is no buffer of events, and a connection
//!   that cannot follow is closed: its client loads everything again.
//!
//! Alternatives: publishing in `send-message` would save about 200 ms and lose events; AWS `AppSync` Events has a
//! protocol of its own for every client; server-sent events need a running function for each listener.
//!
//! | Module | Task |
//! |---|---|
//! | `protocol` | the frames of the protocol `chat.v1` |
//! | `event` | the events of API Gateway and of the stream |
//! | `authorizer` | which handshakes are accepted |
//! | `management` | sends frames to connections, and closes connections |
//! | `frames` | handles the frames of clients |
//! | `push` | sends the events of a batch of changes to all connections |
//! | `serve` | runs the functions |
//!
//! [`ChatEvent`]: crate::domain::ChatEvent

mod authorizer;
mod event;
mod frames;
mod management;
pub mod protocol;
mod push;
mod serve;

pub use serve::{
    authorize_connections, close_connections, open_connections, push_events, receive_frames,
};
