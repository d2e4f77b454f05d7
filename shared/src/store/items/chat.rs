//! The state of a chat and its rows in the indexes.

use std::{fmt, str::FromStr};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::{
    Item, ItemKey, Partition, has_sort_key, is_false, is_zero, read, timestamp, unreadable, user,
    write,
};
use crate::{
    Error,
    domain::{
        Blocks, Chat, ChatId, ChatState, ChatStatus, Conversation, MemberState, MessagePreview,
        Rev, Seq, Timestamp, UserId,
    },
};

fn to_counter(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The state of a chat. It is also the row in both indexes.
///
/// It must stay below 1,024 bytes, or every send costs half as much again. So new attributes have short names
/// and are absent while they are not needed, and nothing of free length is added.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatItem {
    /// The partition key.
    pub pk: String,
    /// The sort key.
    pub sk: String,
    /// [`ChatItem::ENTITY_TYPE`].
    #[serde(rename = "type")]
    pub entity_type: String,
    /// The user who sent the latest chat request.
    pub requester_id: u64,
    /// The other member.
    pub recipient_id: u64,
    /// `none`, `pending`, `active`, `declined` or `withdrawn`.
    pub status: String,
    /// The number of changes to the blocks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub v: u64,
    /// The number of the last message, or 0.
    pub seq: u64,
    /// The number of changes to messages after they were sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rev: u64,
    /// The unread count of the member with the smaller user id, as the totals of this member count it.
    pub low_unread: i64,
    /// The watermark of the member with the smaller user id.
    pub low_read_seq: u64,
    /// The unread count of the member with the larger user id.
    pub high_unread: i64,
    /// The watermark of the member with the larger user id.
    pub high_read_seq: u64,
    /// When the member with the smaller user id blocked the other, in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_block: Option<u64>,
    /// When the member with the larger user id blocked the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_block: Option<u64>,
    /// Unread messages of the member with the smaller user id that no total counts, because this member has
    /// blocked the other. They are apart from `lowUnread`, so that a version of this service that knows no
    /// blocks keeps `lowUnread` and the totals equal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub low_held: u64,
    /// The same for the member with the larger user id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub high_held: u64,
    /// Whether the pending request is hidden from its recipient, whose totals do not count it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hid: bool,
    /// The preview of the last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<PreviewItem>,
    /// Milliseconds since 1970 UTC.
    pub created_at: u64,
    /// Milliseconds since 1970 UTC.
    pub updated_at: u64,
    /// The partition key in [`Index::ByRequester`]. Without it, the chat is not in that index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_key: Option<String>,
    /// The partition key in [`Index::ByRecipient`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_key: Option<String>,
    /// The sort key in both indexes: [`ActivityKey`].
    pub activity: String,
}

/// The preview of the last message in a [`ChatItem`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewItem {
    /// The sequence number of the message.
    pub seq: u64,
    sender_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    created_at: u64,
    /// Whether the message was deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// Whether the preview contains the whole message: see [`MessagePreview::is_whole`]. Then an event needs no read of
    /// the message.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
}

/// An index of chats.
#[derive(Clone, Copy)]
pub enum Index {
    /// Chats by requester.
    ByRequester,
    /// Chats by recipient.
    ByRecipient,
}

impl Index {
    /// The name of the index.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ByRequester => "byRequester",
            Self::ByRecipient => "byRecipient",
        }
    }

    /// The key condition for a partition (`:key`), or for its rows below a sort key (`:below`).
    #[must_use]
    pub fn condition(self, below: bool) -> &'static str {
        match (self, below) {
            (Self::ByRequester, false) => "requesterKey = :key",
            (Self::ByRequester, true) => "requesterKey = :key AND activity < :below",
            (Self::ByRecipient, false) => "recipientKey = :key",
            (Self::ByRecipient, true) => "recipientKey = :key AND activity < :below",
        }
    }

    /// The partition key for the chats of a user. It contains the status, because a filter would return
    /// pages with too few rows.
    #[must_use]
    pub fn key(user: UserId, status: ChatStatus) -> String {
        format!("{user}#{}", status_name(status))
    }

    /// The partition key for the chats whose other member the user has blocked.
    #[must_use]
    pub fn blocked_key(user: UserId) -> String {
        format!("{user}#blocked")
    }

    /// The partition key of a chat in the index of one member. `None`: it is in no list of this member.
    fn member_key(user: impl fmt::Display, status: &str, has_blocked: bool) -> Option<String> {
        if has_blocked {
            return Some(format!("{user}#blocked"));
        }
        let is_listed = !matches!(status, ChatItem::STATUS_NONE | ChatItem::STATUS_WITHDRAWN);
        is_listed.then(|| format!("{user}#{status}"))
    }
}

pub(super) fn status_name(status: ChatStatus) -> &'static str {
    match status {
        ChatStatus::Pending => ChatItem::STATUS_PENDING,
        ChatStatus::Active => ChatItem::STATUS_ACTIVE,
        ChatStatus::Declined => ChatItem::STATUS_DECLINED,
        ChatStatus::NotRequested => ChatItem::STATUS_NONE,
        ChatStatus::Withdrawn => ChatItem::STATUS_WITHDRAWN,
    }
}

impl ChatItem {
    pub(in crate::store) const SK: &str = "STATE";
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Chat";

    /// The value of `status` for an active chat.
    pub const STATUS_ACTIVE: &str = "active";
    /// The value of `status` for a pending request.
    pub const STATUS_PENDING: &str = "pending";
    const STATUS_DECLINED: &str = "declined";
    const STATUS_NONE: &str = "none";
    const STATUS_WITHDRAWN: &str = "withdrawn";

    /// The name of the attribute [`ChatItem::hid`].
    pub const HIDDEN: &str = "hid";

    /// The key of a chat.
    #[must_use]
    pub fn key(id: ChatId) -> ItemKey {
        ItemKey::new(Partition::Chat(id).pk(), Self::SK)
    }

    /// The meaning of a value of `status`.
    #[must_use]
    pub fn parse_status(name: &str) -> Option<ChatStatus> {
        [
            ChatStatus::Pending,
            ChatStatus::Active,
            ChatStatus::Declined,
            ChatStatus::NotRequested,
            ChatStatus::Withdrawn,
        ]
        .into_iter()
        .find(|status| status_name(*status) == name)
    }

    /// Whether an item of a chat's partition is the chat's state.
    pub(in crate::store) fn matches(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }

    pub(in crate::store) fn write(chat: &Chat) -> Result<Item, Error> {
        let empty = Conversation::default();
        let conversation = chat.conversation().unwrap_or(&empty);
        let status = status_name(chat.status());
        let member_key = |member| Index::member_key(member, status, chat.has_blocked(member));
        let ItemKey { pk, sk } = Self::key(chat.id);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            status: status.to_owned(),
            v: chat.blocks.version,
            seq: conversation.seq.get(),
            rev: conversation.rev.get(),
            low_unread: to_counter(conversation.low.unread),
            low_read_seq: conversation.low.read_seq.get(),
            high_unread: to_counter(conversation.high.unread),
            high_read_seq: conversation.high.read_seq.get(),
            low_block: chat.blocks.low.map(Timestamp::millis),
            high_block: chat.blocks.high.map(Timestamp::millis),
            low_held: conversation.low.held,
            high_held: conversation.high.held,
            hid: chat.open_request().is_some_and(|request| request.hidden),
            last_message: conversation.last_message.as_ref().map(PreviewItem::new),
            created_at: chat.created_at.millis(),
            updated_at: chat.updated_at.millis(),
            requester_key: member_key(chat.requester),
            recipient_key: member_key(chat.recipient()),
            activity: ActivityKey::of(chat).to_string(),
        })
    }

    pub(in crate::store) fn into_chat(self) -> Result<Chat, Error> {
        let id = self.id()?;
        let status = Self::parse_status(&self.status)
            .ok_or_else(|| unreadable(format_args!("status {} of {id}", self.status)))?;
        let state = match status {
            ChatStatus::NotRequested => ChatState::NotRequested,
            ChatStatus::Pending => ChatState::Pending { hidden: self.hid },
            ChatStatus::Declined => ChatState::Declined,
            ChatStatus::Withdrawn => ChatState::Withdrawn,
            ChatStatus::Active => ChatState::Active(Conversation {
                seq: Seq::new(self.seq),
                rev: Rev::new(self.rev),
                low: MemberState {
                    unread: u64::try_from(self.low_unread).unwrap_or(0),
                    held: self.low_held,
                    read_seq: Seq::new(self.low_read_seq),
                },
                high: MemberState {
                    unread: u64::try_from(self.high_unread).unwrap_or(0),
                    held: self.high_held,
                    read_seq: Seq::new(self.high_read_seq),
                },
                last_message: self
                    .last_message
                    .map(PreviewItem::into_preview)
                    .transpose()?,
            }),
        };
        Ok(Chat {
            id,
            requester: user(self.requester_id)?,
            state,
            blocks: Blocks {
                version: self.v,
                low: self.low_block.map(timestamp).transpose()?,
                high: self.high_block.map(timestamp).transpose()?,
            },
            created_at: timestamp(self.created_at)?,
            updated_at: timestamp(self.updated_at)?,
        })
    }

    /// Whether an unread count is negative. [`ChatItem::into_chat`] reads it as 0, because a request must not
    /// fail when the table was changed in another way.
    pub(in crate::store) fn has_negative_count(&self) -> bool {
        self.low_unread < 0 || self.high_unread < 0
    }

    /// The id of the chat, from the partition key.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is not the partition key of a chat.
    pub fn id(&self) -> Result<ChatId, Error> {
        match Partition::parse(&self.pk) {
            Some(Partition::Chat(id)) => Ok(id),
            _ => Err(unreadable(&self.pk)),
        }
    }

    /// The unread count and the watermark of a member, in any status.
    #[must_use]
    pub fn member(&self, id: ChatId, member: UserId) -> (i64, u64) {
        if member == id.low() {
            (self.low_unread, self.low_read_seq)
        } else {
            (self.high_unread, self.high_read_seq)
        }
    }

    /// The key attributes of the indexes: name, actual value and expected value.
    #[must_use]
    pub fn index_keys(&self, id: ChatId) -> [(&'static str, Option<&str>, Option<String>); 3] {
        let key = |user: u64| {
            let has_blocked = if user == id.low().get() {
                self.low_block.is_some()
            } else {
                self.high_block.is_some()
            };
            Index::member_key(user, &self.status, has_blocked)
        };
        let activity = ActivityKey::at(Timestamp::from_millis(self.updated_at), id);
        let (requester, recipient) = (&self.requester_key, &self.recipient_key);
        [
            ("requesterKey", requester.as_deref(), key(self.requester_id)),
            ("recipientKey", recipient.as_deref(), key(self.recipient_id)),
            ("activity", Some(&self.activity), Some(activity.to_string())),
        ]
    }

    /// The name of the attribute for the unread messages of a member that no total counts.
    #[must_use]
    pub fn held_attribute(id: ChatId, member: UserId) -> &'static str {
        if member == id.low() {
            "lowHeld"
        } else {
            "highHeld"
        }
    }

    /// The names of the attributes for the unread count and the watermark of a member.
    #[must_use]
    pub fn member_attributes(id: ChatId, member: UserId) -> (&'static str, &'static str) {
        if member == id.low() {
            ("lowUnread", "lowReadSeq")
        } else {
            ("highUnread", "highReadSeq")
        }
    }
}

impl PreviewItem {
    pub(in crate::store) fn new(preview: &MessagePreview) -> Self {
        Self {
            seq: preview.seq.get(),
            sender_id: preview.sender.get(),
            text: preview.text.clone(),
            created_at: preview.created_at.millis(),
            deleted: preview.deleted,
            whole: preview.is_whole,
        }
    }

    pub(in crate::store) fn write(&self) -> Result<AttributeValue, Error> {
        serde_dynamo::to_attribute_value(self).map_err(|error| Error::Internal(Box::new(error)))
    }

    fn into_preview(self) -> Result<MessagePreview, Error> {
        Ok(MessagePreview {
            seq: Seq::new(self.seq),
            sender: user(self.sender_id)?,
            text: self.text,
            created_at: timestamp(self.created_at)?,
            deleted: self.deleted,
            is_whole: self.whole,
        })
    }
}

/// The sort key of a chat in lists: the time of the latest activity, then the chat id. Fixed width, so
/// that text and numbers have the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActivityKey {
    at: Timestamp,
    chat: ChatId,
}

impl ActivityKey {
    /// The current key of a chat.
    #[must_use]
    pub fn of(chat: &Chat) -> Self {
        Self {
            at: chat.updated_at,
            chat: chat.id,
        }
    }

    /// The chat.
    pub(in crate::store) fn chat(self) -> ChatId {
        self.chat
    }

    /// The key of a chat whose latest activity is at `at`.
    pub(in crate::store) fn at(at: Timestamp, chat: ChatId) -> Self {
        Self { at, chat }
    }
}

impl fmt::Display for ActivityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.chat.low().get(), self.chat.high().get());
        write!(f, "{:015}#{low:016}-{high:016}", self.at.millis())
    }
}

impl FromStr for ActivityKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |digits: &str| digits.parse::<u64>().map_err(drop);
        let (at, pair) = text.split_once('#').ok_or(())?;
        let (low, high) = pair.split_once('-').ok_or(())?;
        let low = UserId::new(number(low)?).ok_or(())?;
        let high = UserId::new(number(high)?).ok_or(())?;
        let key = Self {
            at: Some(Timestamp::from_millis(number(at)?))
                .filter(|at| *at <= Timestamp::MAX)
                .ok_or(())?,
            chat: ChatId::between(low, high).ok_or(())?,
        };
        // Only the canonical form is valid.
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(())
        }
    }
}
