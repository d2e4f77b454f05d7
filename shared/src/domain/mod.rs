//! What a chat is and what may happen to it: no I/O, no clock, no JSON.
//!
//! Values are parsed into these types once, at the edge, and are right from then on.

mod chat;
mod ids;
mod message;
mod time;

pub use chat::{Chat, Conversation, Member, Pending, Refusal, State, Status, Step};
pub use ids::{ChatId, MAX_INTEGER, Seq, UserId};
pub use message::{
    Content, InvalidContent, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, Message, PREVIEW_CODE_POINTS,
    Summary,
};
pub use time::Timestamp;
