//! Reports and their evidence, as the commands print them. The fields are those of the JSON output.

use std::fmt;

use chat_shared::{
    Error,
    domain::{ChatId, Message, Seq, Timestamp},
    store::items::{ChatItem, PreviousContentItem, ReportItem},
};
use serde::{Serialize, Serializer};

use super::ReportId;
use crate::text::escape_json;

/// A time, which is displayed and serialized as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

/// A report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportView {
    /// The id: see [`ReportId`].
    pub id: String,
    /// The pair of the reporter and the reported user.
    pub chat_id: String,
    /// The user who reported.
    pub reporter_id: u64,
    /// The reported user.
    pub user_id: u64,
    /// The number of the reported message. `None` if the user was reported.
    pub seq: Option<u64>,
    /// Why.
    pub reason: String,
    /// What the reporter wrote about it.
    pub note: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// `open` or `resolved`.
    pub state: String,
    /// The reported message when it was reported. `None` if the user was reported.
    pub message: Option<ReportedMessage>,
    /// How it was resolved. `None` while it is open.
    pub resolution: Option<Resolution>,
}

/// The content of a message.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The text.
    pub text: Option<String>,
    /// The URL of an image.
    pub image_url: Option<String>,
    /// The URL of a page to preview.
    pub link_preview_url: Option<String>,
}

/// The copy of a message that a report keeps.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedMessage {
    /// The content. If the message had been deleted, its last content.
    #[serde(flatten)]
    pub content: Content,
    /// When it was sent.
    pub created_at: Option<Time>,
    /// When it was edited last.
    pub edited_at: Option<Time>,
    /// When it was deleted.
    pub deleted_at: Option<Time>,
}

/// How a report was resolved.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// What was done: `none` or `delete-message`.
    pub action: String,
    /// The operator.
    pub by: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Option<Time>,
}

/// A report with its evidence. A value is also `None` if its item cannot be read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportDetails {
    /// The report.
    #[serde(flatten)]
    pub report: ReportView,
    /// The reported message as it is now. `None` if the user was reported, or if the message is missing.
    pub current_message: Option<MessageView>,
    /// Previous contents of the message, newest first. They are kept for 30 days.
    pub previous_contents: Vec<PreviousContentView>,
    /// Whether older previous contents are left out.
    pub has_more_previous_contents: bool,
    /// The state of the chat. `None` if the pair has neither a chat nor a block.
    pub chat: Option<ChatView>,
    /// The messages around the reported one, or the last messages of the chat, oldest first.
    pub context: Vec<MessageView>,
    /// The names of the items that cannot be read, such as `message 7`.
    pub unreadable: Vec<String>,
}

/// Previous content of a message.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousContentView {
    /// The content.
    #[serde(flatten)]
    pub content: Content,
    /// When it was replaced or deleted.
    pub replaced_at: Time,
}

/// A message.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// Its number.
    pub seq: u64,
    /// The user who sent it.
    pub sender_id: u64,
    /// The content. All parts are `None` if it was deleted.
    #[serde(flatten)]
    pub content: Content,
    /// When it was sent.
    pub created_at: Time,
    /// When it was edited last.
    pub edited_at: Option<Time>,
    /// When it was deleted.
    pub deleted_at: Option<Time>,
    /// Its last content before it was deleted. `None` if it was not deleted, or after 30 days.
    pub last_content: Option<Content>,
}

/// The state of a chat.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatView {
    /// `none` if the pair has, or had, only a block; `pending`, `active`, `declined` or `withdrawn`.
    pub status: String,
    /// The user who sent the last chat request.
    pub requester_id: u64,
    /// The number of messages.
    pub seq: u64,
    /// The number of edits and deletions.
    pub rev: u64,
    /// When the last message was sent, or the status changed.
    pub updated_at: Time,
    /// The members who have blocked the other.
    pub blocks: Vec<BlockView>,
}

/// A block.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// The user who has blocked the other.
    pub by: u64,
    /// Since when.
    pub blocked_at: Time,
}

impl Time {
    pub(super) fn from_millis(millis: u64) -> Self {
        Self(Timestamp::from_millis(millis))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ReportView {
    pub(super) fn new(id: ReportId, item: ReportItem) -> Self {
        let content = Content {
            text: item.text,
            image_url: item.image_url,
            link_preview_url: item.link_preview_url,
        };
        let message = ReportedMessage {
            content,
            created_at: item.message_created_at.map(Time::from_millis),
            edited_at: item.edited_at.map(Time::from_millis),
            deleted_at: item.deleted_at.map(Time::from_millis),
        };
        let is_resolved = item.state == ReportItem::STATE_RESOLVED;
        let resolution = is_resolved.then(|| Resolution {
            action: item.action.unwrap_or_default(),
            by: item.resolved_by.unwrap_or_default(),
            note: item.resolution.unwrap_or_default(),
            at: item.resolved_at.map(Time::from_millis),
        });
        Self {
            id: id.to_string(),
            chat_id: id.chat.to_string(),
            reporter_id: id.reporter.get(),
            user_id: id.reported().get(),
            seq: id.seq.map(Seq::get),
            reason: item.reason,
            note: item.note,
            created_at: Time::from_millis(item.created_at),
            state: item.state,
            message: id.seq.is_some().then_some(message),
            resolution,
        }
    }
}

impl PreviousContentView {
    pub(super) fn new(item: PreviousContentItem) -> Self {
        Self {
            content: Content {
                text: item.text,
                image_url: item.image_url,
                link_preview_url: item.link_preview_url,
            },
            replaced_at: Time::from_millis(item.replaced_at),
        }
    }
}

impl MessageView {
    /// `last_content` is the last content of a deleted message.
    pub(super) fn new(message: &Message, last_content: Option<Content>) -> Self {
        Self {
            seq: message.seq.get(),
            sender_id: message.sender.get(),
            content: Content {
                text: message.text().map(str::to_owned),
                image_url: message.image_url().map(str::to_owned),
                link_preview_url: message.link_preview_url().map(str::to_owned),
            },
            created_at: Time(message.created_at),
            edited_at: message.edited_at.map(Time),
            deleted_at: message.deleted_at.map(Time),
            last_content,
        }
    }
}

impl ReportDetails {
    /// The name of the state of the chat in [`ReportDetails::unreadable`].
    pub(super) const CHAT_STATE: &str = "the state of the chat";

    /// The name of a message in [`ReportDetails::unreadable`].
    pub(super) fn message_name(seq: u64) -> String {
        format!("message {seq}")
    }

    /// What is said about an item that is not there.
    pub(super) fn absence_of(&self, name: &str) -> &'static str {
        if self.unreadable.iter().any(|unreadable| unreadable == name) {
            "cannot be read"
        } else {
            "does not exist"
        }
    }
}

impl ChatView {
    pub(super) fn new(id: ChatId, item: &ChatItem) -> Self {
        let blocks = [(id.low(), item.low_block), (id.high(), item.high_block)];
        let blocks = blocks.into_iter().filter_map(|(member, time)| {
            Some(BlockView {
                by: member.get(),
                blocked_at: Time::from_millis(time?),
            })
        });
        Self {
            status: item.status.clone(),
            requester_id: item.requester_id,
            seq: item.seq,
            rev: item.rev,
            updated_at: Time::from_millis(item.updated_at),
            blocks: blocks.collect(),
        }
    }
}

/// A value as JSON on one line. Characters that a terminal would obey are escaped.
///
/// # Errors
/// [`Error::Internal`] if the value cannot be serialized.
pub fn to_json(value: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_string(value);
    let json = json.map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(escape_json(&json))
}
