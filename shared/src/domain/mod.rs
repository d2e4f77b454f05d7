//! Chats, messages and the chat state machine: no I/O, no clock, no JSON.
//!
//! Input is parsed into these types once, at the edge of the service, and is valid from then on.

mod chat;
mod event;
mod ids;
mod message;
mod report;
mod time;

pub use chat::{
    Blocks, Chat, ChatState, ChatStatus, Conversation, EditError, MemberState, OpenRequest,
    Transition, TransitionError,
};
pub use event::ChatEvent;
pub use ids::{ChatId, InvalidId, MAX_SAFE_INTEGER, Rev, Seq, UserId};
pub use message::{
    ContentChange, ContentError, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, Message, MessageContent,
    MessagePreview, PREVIEW_CODE_POINTS,
};
pub use report::{MAX_NOTE_CODE_POINTS, NewReport, Report, ReportReason};
pub use time::Timestamp;
