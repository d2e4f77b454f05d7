//! The item types of the table. Each type owns its keys and attribute names; no other code formats a key.
//! The attribute `type` of an item names its type.
//!
//! | Item | pk | sk |
//! |---|---|---|
//! | [`ChatItem`] | `CHAT#17-42` | `STATE` |
//! | [`MessageItem`] | `CHAT#17-42` | `MSG#0000000000000009` |
//! | [`IdempotencyItem`] | `CHAT#17-42` | `KEY#42#<idempotency key>` |
//! | [`TotalsItem`] | `USER#42` | `TOTALS#0` … `TOTALS#7` |
//! | [`OpenRequestsItem`] | `USER#42` | `SENT` |
//!
//! `STATE` sorts after `MSG#`, so that one descending query returns a chat and its newest messages. Times
//! are numbers: milliseconds since 1970 UTC, except `expiresAt`, which the table's TTL reads in seconds.

use std::{collections::HashMap, fmt, str::FromStr};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_dynamo::AttributeValue as SerdeValue;

use crate::{
    Error,
    domain::{
        Chat, ChatId, ChatState, ChatStatus, Conversation, MemberState, Message, MessageContent,
        MessagePreview, Seq, Timestamp, UserId,
    },
};

/// An item as the SDK represents it.
pub type Item = HashMap<String, AttributeValue>;

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The partition key.
    pub pk: String,
    /// The sort key.
    pub sk: String,
}

impl ItemKey {
    /// Creates a key.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }
}

/// The number of shards of one user's totals. Each shard is one item.
pub const TOTALS_SHARDS: u64 = 8;

/// An item cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("unreadable item: {0}")]
struct UnreadableItem(String);

fn unreadable(what: impl fmt::Display) -> Error {
    Error::Internal(Box::new(UnreadableItem(what.to_string())))
}

fn read<T: DeserializeOwned>(item: Item) -> Result<T, Error> {
    let item: HashMap<String, SerdeValue> = item
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    serde_dynamo::from_item(item).map_err(unreadable)
}

fn write(item: &impl Serialize) -> Result<Item, Error> {
    serde_dynamo::to_item(item).map_err(|error| Error::Internal(Box::new(error)))
}

fn has_sort_key(item: &Item, expected: &str) -> bool {
    item.get("sk")
        .and_then(|sk| sk.as_s().ok())
        .is_some_and(|sk| sk == expected)
}

fn user(id: u64) -> Result<UserId, Error> {
    UserId::new(id).ok_or_else(|| unreadable(format_args!("user {id}")))
}

fn to_counter(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The time of an item. RFC 3339 cannot express times after the year 9999, so those are unreadable.
fn timestamp(millis: u64) -> Result<Timestamp, Error> {
    let time = Timestamp::from_millis(millis);
    if time > Timestamp::MAX {
        return Err(unreadable(format_args!(
            "{millis} ms is after the year 9999"
        )));
    }
    Ok(time)
}

/// The owner of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The items of a chat.
    Chat(ChatId),
    /// The items of a user.
    User(UserId),
}

impl Partition {
    /// Parses a partition key. Returns `None` if it is not a key of this service.
    #[must_use]
    pub fn parse(pk: &str) -> Option<Self> {
        if let Some(id) = pk.strip_prefix("CHAT#") {
            return id.parse().ok().map(Self::Chat);
        }
        let id = pk.strip_prefix("USER#")?;
        id.parse().ok().map(Self::User)
    }

    /// The partition key.
    #[must_use]
    pub fn pk(self) -> String {
        match self {
            Self::Chat(id) => format!("CHAT#{id}"),
            Self::User(id) => format!("USER#{id}"),
        }
    }
}

/// The kinds of items, told apart by their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// [`ChatItem`]
    Chat,
    /// [`MessageItem`]
    Message,
    /// [`IdempotencyItem`]
    IdempotencyKey,
    /// [`TotalsItem`]
    Totals,
    /// [`OpenRequestsItem`]
    OpenRequests,
}

impl ItemKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Chat,
        Self::Message,
        Self::IdempotencyKey,
        Self::Totals,
        Self::OpenRequests,
    ];

    /// The kind whose keys look like this one, even if an id or a number in the key is invalid. `None`: this
    /// version of the service has no such items.
    #[must_use]
    pub fn of(key: &ItemKey) -> Option<Self> {
        let ItemKey { pk, sk } = key;
        let is_chat = pk.starts_with("CHAT#");
        let is_user = pk.starts_with("USER#");
        if is_chat && sk == ChatItem::SK {
            Some(Self::Chat)
        } else if is_chat && sk.starts_with(MessageItem::SK_PREFIX) {
            Some(Self::Message)
        } else if is_chat && sk.starts_with(IdempotencyItem::SK_PREFIX) {
            Some(Self::IdempotencyKey)
        } else if is_user && sk.starts_with(TotalsItem::SK_PREFIX) {
            Some(Self::Totals)
        } else if is_user && sk == OpenRequestsItem::SK {
            Some(Self::OpenRequests)
        } else {
            None
        }
    }

    /// The value of the attribute `type`.
    #[must_use]
    pub fn entity_type(self) -> &'static str {
        match self {
            Self::Chat => ChatItem::ENTITY_TYPE,
            Self::Message => MessageItem::ENTITY_TYPE,
            Self::IdempotencyKey => IdempotencyItem::ENTITY_TYPE,
            Self::Totals => TotalsItem::ENTITY_TYPE,
            Self::OpenRequests => OpenRequestsItem::ENTITY_TYPE,
        }
    }
}

/// The state of a chat. It is also the row in both indexes.
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
    /// `pending`, `active` or `declined`.
    pub status: String,
    /// The number of the last message, or 0.
    pub seq: u64,
    /// The unread count of the member with the smaller user id.
    pub low_unread: i64,
    /// The watermark of the member with the smaller user id.
    pub low_read_seq: u64,
    /// The unread count of the member with the larger user id.
    pub high_unread: i64,
    /// The watermark of the member with the larger user id.
    pub high_read_seq: u64,
    /// The preview of the last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<PreviewItem>,
    /// Milliseconds since 1970 UTC.
    pub created_at: u64,
    /// Milliseconds since 1970 UTC.
    pub updated_at: u64,
    /// The partition key in [`Index::ByRequester`].
    pub requester_key: String,
    /// The partition key in [`Index::ByRecipient`].
    pub recipient_key: String,
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
}

fn status_name(status: ChatStatus) -> &'static str {
    match status {
        ChatStatus::Pending => ChatItem::STATUS_PENDING,
        ChatStatus::Active => ChatItem::STATUS_ACTIVE,
        ChatStatus::Declined => ChatItem::STATUS_DECLINED,
    }
}

impl ChatItem {
    pub(super) const SK: &str = "STATE";
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Chat";

    /// The value of `status` for an active chat.
    pub const STATUS_ACTIVE: &str = "active";
    /// The value of `status` for a pending request.
    pub const STATUS_PENDING: &str = "pending";
    const STATUS_DECLINED: &str = "declined";

    /// The attributes that a transition from one status to another changes.
    pub(super) const TRANSITION_ATTRIBUTES: [&str; 7] = [
        "requesterId",
        "recipientId",
        "status",
        "updatedAt",
        "requesterKey",
        "recipientKey",
        "activity",
    ];

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
        ]
        .into_iter()
        .find(|status| status_name(*status) == name)
    }

    /// Whether an item of a chat's partition is the chat's state.
    pub(super) fn matches(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }

    pub(super) fn write(chat: &Chat) -> Result<Item, Error> {
        let empty = Conversation::default();
        let conversation = match &chat.state {
            ChatState::Active(conversation) => conversation,
            ChatState::Pending | ChatState::Declined => &empty,
        };
        let ItemKey { pk, sk } = Self::key(chat.id);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            status: status_name(chat.status()).to_owned(),
            seq: conversation.seq.get(),
            low_unread: to_counter(conversation.low.unread),
            low_read_seq: conversation.low.read_seq.get(),
            high_unread: to_counter(conversation.high.unread),
            high_read_seq: conversation.high.read_seq.get(),
            last_message: conversation.last_message.as_ref().map(PreviewItem::new),
            created_at: chat.created_at.millis(),
            updated_at: chat.updated_at.millis(),
            requester_key: Index::key(chat.requester, chat.status()),
            recipient_key: Index::key(chat.recipient(), chat.status()),
            activity: ActivityKey::of(chat).to_string(),
        })
    }

    pub(super) fn into_chat(self) -> Result<Chat, Error> {
        let id = self.id()?;
        let state = match self.status.as_str() {
            Self::STATUS_PENDING => ChatState::Pending,
            Self::STATUS_DECLINED => ChatState::Declined,
            Self::STATUS_ACTIVE => ChatState::Active(Conversation {
                seq: Seq::new(self.seq),
                low: MemberState {
                    unread: u64::try_from(self.low_unread).unwrap_or(0),
                    read_seq: Seq::new(self.low_read_seq),
                },
                high: MemberState {
                    unread: u64::try_from(self.high_unread).unwrap_or(0),
                    read_seq: Seq::new(self.high_read_seq),
                },
                last_message: self
                    .last_message
                    .map(PreviewItem::into_preview)
                    .transpose()?,
            }),
            other => return Err(unreadable(format_args!("status {other} of {id}"))),
        };
        Ok(Chat {
            id,
            requester: user(self.requester_id)?,
            state,
            created_at: timestamp(self.created_at)?,
            updated_at: timestamp(self.updated_at)?,
        })
    }

    /// Whether an unread count is negative. [`ChatItem::into_chat`] reads it as 0, because a request must not
    /// fail when the table was changed in another way.
    pub(super) fn has_negative_count(&self) -> bool {
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
    pub fn index_keys(&self, id: ChatId) -> [(&'static str, &str, String); 3] {
        let key = |user: u64| format!("{user}#{}", self.status);
        let activity = ActivityKey::at(Timestamp::from_millis(self.updated_at), id);
        [
            ("requesterKey", &self.requester_key, key(self.requester_id)),
            ("recipientKey", &self.recipient_key, key(self.recipient_id)),
            ("activity", &self.activity, activity.to_string()),
        ]
        .map(|(name, actual, expected)| (name, actual.as_str(), expected))
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
    pub(super) fn new(preview: &MessagePreview) -> Self {
        Self {
            seq: preview.seq.get(),
            sender_id: preview.sender.get(),
            text: preview.text.clone(),
            created_at: preview.created_at.millis(),
        }
    }

    pub(super) fn write(&self) -> Result<AttributeValue, Error> {
        serde_dynamo::to_attribute_value(self).map_err(|error| Error::Internal(Box::new(error)))
    }

    fn into_preview(self) -> Result<MessagePreview, Error> {
        Ok(MessagePreview {
            seq: Seq::new(self.seq),
            sender: user(self.sender_id)?,
            text: self.text,
            created_at: timestamp(self.created_at)?,
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
    pub(super) fn chat(self) -> ChatId {
        self.chat
    }

    /// The key of a chat whose latest activity is at `at`.
    pub(super) fn at(at: Timestamp, chat: ChatId) -> Self {
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

/// A message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageItem {
    pk: String,
    sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    sender_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_preview_url: Option<String>,
    created_at: u64,
}

impl MessageItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Message";
    /// The start of the sort keys of messages. Sort keys of other items in a chat's partition must be less, so
    /// that one query reads the state of a chat and its newest messages and nothing else.
    pub(super) const SK_PREFIX: &str = "MSG#";

    pub(super) fn key(id: ChatId, seq: Seq) -> ItemKey {
        ItemKey::new(Self::pk(id), Self::sk(seq))
    }

    pub(super) fn pk(id: ChatId) -> String {
        Partition::Chat(id).pk()
    }

    pub(super) fn sk(seq: Seq) -> String {
        format!("{}{:016}", Self::SK_PREFIX, seq.get())
    }

    /// The sequence number in a sort key. `None` if no message has this sort key.
    #[must_use]
    pub fn seq(sk: &str) -> Option<Seq> {
        let digits = sk.strip_prefix(Self::SK_PREFIX)?;
        let seq = Seq::new(digits.parse().ok()?);
        (Self::sk(seq) == sk).then_some(seq)
    }

    pub(super) fn write(message: &Message) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(message.chat_id, message.seq);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            sender_id: message.sender.get(),
            text: message.content.text().map(str::to_owned),
            image_url: message.content.image_url().map(str::to_owned),
            link_preview_url: message.content.link_preview_url().map(str::to_owned),
            created_at: message.created_at.millis(),
        })
    }

    /// Reads an item of the chat `chat_id`.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item, chat_id: ChatId) -> Result<Message, Error> {
        let item: Self = read(item)?;
        let seq = item
            .sk
            .strip_prefix(Self::SK_PREFIX)
            .and_then(|seq| seq.parse().ok());
        Ok(Message {
            chat_id,
            seq: Seq::new(seq.ok_or_else(|| unreadable(&item.sk))?),
            sender: user(item.sender_id)?,
            content: MessageContent::from_parts(item.text, item.image_url, item.link_preview_url),
            created_at: timestamp(item.created_at)?,
        })
    }
}

/// An idempotency key, and the message that was sent with it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdempotencyItem {
    pk: String,
    sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    /// The sequence number of the message.
    pub seq: u64,
    /// A digest of the content of the message.
    #[serde(with = "serde_bytes")]
    pub(super) hash: Vec<u8>,
    /// Seconds since 1970 UTC. The table's TTL deletes the item some time later.
    expires_at: u64,
}

impl IdempotencyItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "IdempotencyKey";
    const SK_PREFIX: &str = "KEY#";

    /// The sender and the idempotency key in a sort key. `None` if it contains no user id.
    #[must_use]
    pub fn sender_and_key(sk: &str) -> Option<(UserId, &str)> {
        let (sender, key) = sk.strip_prefix(Self::SK_PREFIX)?.split_once('#')?;
        Some((sender.parse().ok()?, key))
    }

    /// Whether a key of a chat's partition is the key of an idempotency item.
    #[must_use]
    pub fn matches_key(key: &ItemKey) -> bool {
        key.sk.starts_with(Self::SK_PREFIX)
    }

    pub(super) fn write(
        id: ChatId,
        sender: UserId,
        key: &str,
        seq: Seq,
        hash: &[u8],
        expires_at: Timestamp,
    ) -> Result<Item, Error> {
        write(&Self {
            pk: Partition::Chat(id).pk(),
            sk: format!("{}{sender}#{key}", Self::SK_PREFIX),
            entity_type: Self::ENTITY_TYPE.to_owned(),
            seq: seq.get(),
            hash: hash.to_vec(),
            expires_at: expires_at.seconds(),
        })
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

/// One shard of the totals of a user.
#[derive(Deserialize)]
pub struct TotalsItem {
    /// The number of unread messages.
    #[serde(default)]
    pub unread: i64,
    /// The number of open requests that the user has received.
    #[serde(default)]
    pub pending: i64,
}

impl TotalsItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Totals";
    /// The start of the sort key of each shard.
    pub const SK_PREFIX: &str = "TOTALS#";
    /// The name of the attribute for [`TotalsItem::unread`].
    pub const UNREAD: &str = "unread";
    /// The name of the attribute for [`TotalsItem::pending`].
    pub const PENDING: &str = "pending";

    /// The key of the shard that counts for a chat. Everything that a chat adds to the totals of a user is
    /// in the same shard, so that no shard becomes negative. The hash (Fibonacci hashing of both user ids)
    /// must never change, because a later subtraction must find the shard of the addition.
    #[must_use]
    pub fn key(owner: UserId, chat: ChatId) -> ItemKey {
        let mixed = (chat.low().get().rotate_left(32) ^ chat.high().get())
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let shard = (mixed >> 32) % TOTALS_SHARDS;
        ItemKey::new(Self::pk(owner), format!("{}{shard}", Self::SK_PREFIX))
    }

    /// The sort key of the last shard. Sort keys of other items in a user's partition must be less than that of
    /// [`OpenRequestsItem`] or greater than this one, so that one query reads all counters and nothing else.
    pub(super) fn last_sk() -> String {
        format!("{}{}", Self::SK_PREFIX, TOTALS_SHARDS - 1)
    }

    /// Whether this is the sort key of one of the shards.
    #[must_use]
    pub fn is_shard(sk: &str) -> bool {
        let shard = sk.strip_prefix(Self::SK_PREFIX);
        shard.is_some_and(|shard| (0..TOTALS_SHARDS).any(|number| number.to_string() == shard))
    }

    /// The partition key of all counters of a user.
    #[must_use]
    pub fn pk(owner: UserId) -> String {
        Partition::User(owner).pk()
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

/// The number of open requests that a user has sent. It is a single item, so that a condition can enforce
/// the cap.
#[derive(Deserialize)]
pub struct OpenRequestsItem {
    /// The number of open requests.
    #[serde(default)]
    pub open: i64,
}

impl OpenRequestsItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "OpenRequests";
    /// The name of the attribute for [`OpenRequestsItem::open`].
    pub const OPEN: &str = "open";
    pub(super) const SK: &str = "SENT";

    /// The key of a user's counter.
    #[must_use]
    pub fn key(owner: UserId) -> ItemKey {
        ItemKey::new(Partition::User(owner).pk(), Self::SK)
    }

    /// Whether an item of a user's partition is this counter.
    #[must_use]
    pub fn matches(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    /// Whether a key of a user's partition is the key of this counter.
    #[must_use]
    pub fn matches_key(key: &ItemKey) -> bool {
        key.sk == Self::SK
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat_id(id: &str) -> ChatId {
        id.parse().unwrap()
    }

    #[test]
    fn activity_keys_sort_by_time_then_chat_and_have_a_fixed_width() {
        let small = ActivityKey::at(Timestamp::from_millis(9), chat_id("2-3"));
        let large =
            ActivityKey::at(Timestamp::from_millis(10), chat_id("1-9007199254740991")).to_string();
        assert!(small.to_string() < large);
        assert_eq!(small.to_string().len(), large.len());
        assert_eq!(small.to_string().parse(), Ok(small));
        assert_eq!("9#2-3".parse::<ActivityKey>(), Err(()));
    }

    #[test]
    fn a_chat_has_one_shard_and_chats_are_spread_over_all_shards() {
        let me = UserId::new(1).unwrap();
        let shard_of = |other| {
            TotalsItem::key(
                me,
                ChatId::between(me, UserId::new(other).unwrap()).unwrap(),
            )
            .sk
        };
        assert_eq!(shard_of(42), "TOTALS#3");
        let mut counts = HashMap::new();
        for other in 2..802 {
            *counts.entry(shard_of(other)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 8);
        assert!(
            counts.values().all(|&count| (50..200).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_chat_is_the_same_after_writing_and_reading() {
        let id = chat_id("17-42");
        let mut chat = Chat::new_request(id, id.high(), Timestamp::from_millis(5));
        let read_back = |chat: &Chat| {
            ChatItem::read(ChatItem::write(chat).unwrap())
                .unwrap()
                .into_chat()
                .unwrap()
        };
        assert_eq!(read_back(&chat), chat);
        chat.state = ChatState::Active(Conversation {
            seq: Seq::new(3),
            low: MemberState {
                unread: 1,
                read_seq: Seq::new(2),
            },
            high: MemberState {
                unread: 0,
                read_seq: Seq::new(3),
            },
            last_message: Some(MessagePreview {
                seq: Seq::new(3),
                sender: id.high(),
                text: Some("👍".to_owned()),
                created_at: Timestamp::from_millis(7),
            }),
        });
        assert_eq!(read_back(&chat), chat);
    }

    fn user_id(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn each_item_type_has_its_own_keys() {
        let id = chat_id("17-42");
        let key = |pk: &str, sk: &str| ItemKey::new(pk, sk);
        assert_eq!(ChatItem::key(id), key("CHAT#17-42", "STATE"));
        let message = MessageItem::key(id, Seq::new(9));
        assert_eq!(message, key("CHAT#17-42", "MSG#0000000000000009"));
        assert_eq!(OpenRequestsItem::key(user_id(42)), key("USER#42", "SENT"));
        assert_eq!(TotalsItem::key(user_id(42), id).pk, "USER#42");
        assert_eq!(TotalsItem::pk(user_id(42)), "USER#42");

        let keys = [
            ChatItem::key(id),
            message,
            key("CHAT#17-42", "KEY#42#a"),
            OpenRequestsItem::key(user_id(42)),
            TotalsItem::key(user_id(42), id),
        ];
        let item =
            |key: &ItemKey| Item::from([("sk".to_owned(), AttributeValue::S(key.sk.clone()))]);
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(ChatItem::matches(&item(key)), index == 0, "{key:?}");
            assert_eq!(IdempotencyItem::matches_key(key), index == 2, "{key:?}");
            assert_eq!(OpenRequestsItem::matches(&item(key)), index == 3, "{key:?}");
            assert_eq!(OpenRequestsItem::matches_key(key), index == 3, "{key:?}");
        }
    }

    #[test]
    fn a_key_shows_the_kind_of_its_item_even_if_it_is_damaged() {
        use ItemKind::{Chat, IdempotencyKey, Message, OpenRequests, Totals};

        for (pk, sk, kind) in [
            ("CHAT#17-42", "STATE", Some(Chat)),
            ("CHAT#42-17", "STATE", Some(Chat)),
            ("CHAT#17-42", "MSG#0000000000000009", Some(Message)),
            ("CHAT#17-42", "MSG#9", Some(Message)),
            ("CHAT#17-42", "KEY#42#a", Some(IdempotencyKey)),
            ("CHAT#17-42", "KEY#", Some(IdempotencyKey)),
            ("USER#42", "TOTALS#9", Some(Totals)),
            ("USER#042", "SENT", Some(OpenRequests)),
            ("CHAT#17-42", "SENT", None),
            ("USER#42", "STATE", None),
            ("USER#42", "SENT2", None),
            ("OTHER#42", "STATE", None),
        ] {
            assert_eq!(ItemKind::of(&ItemKey::new(pk, sk)), kind, "{pk} {sk}");
        }
    }

    #[test]
    fn only_the_sort_keys_that_this_service_writes_are_valid() {
        let sk = "MSG#0000000000000009";
        assert_eq!(MessageItem::seq(sk), Some(Seq::new(9)));
        assert_eq!(MessageItem::sk(Seq::new(9)), sk);
        for sk in [
            "MSG#9",
            "MSG#00000000000000009",
            "MSG#",
            "MSG#+000000000000009",
            "9",
        ] {
            assert_eq!(MessageItem::seq(sk), None, "{sk}");
        }
        let sender_and_key = IdempotencyItem::sender_and_key;
        assert_eq!(sender_and_key("KEY#42#a#b"), Some((user_id(42), "a#b")));
        for sk in ["KEY#42", "KEY#042#a", "KEY##a", "42#a"] {
            assert_eq!(sender_and_key(sk), None, "{sk}");
        }
        for shard in 0..TOTALS_SHARDS {
            assert!(TotalsItem::is_shard(&format!("TOTALS#{shard}")));
        }
        for sk in [
            "TOTALS#8",
            "TOTALS#00",
            "TOTALS#+1",
            "TOTALS#x",
            "TOTALS#",
            "1",
        ] {
            assert!(!TotalsItem::is_shard(sk), "{sk}");
        }
        for status in [
            ChatStatus::Pending,
            ChatStatus::Active,
            ChatStatus::Declined,
        ] {
            assert_eq!(ChatItem::parse_status(status_name(status)), Some(status));
        }
        assert_eq!(ChatItem::parse_status("Active"), None);
    }

    #[test]
    fn a_partition_key_names_a_chat_or_a_user() {
        for (pk, partition) in [
            ("CHAT#17-42", Some(Partition::Chat(chat_id("17-42")))),
            ("USER#42", Some(Partition::User(user_id(42)))),
            ("CHAT#42-17", None),
            ("USER#042", None),
            ("USER#", None),
            ("OTHER#42", None),
        ] {
            assert_eq!(Partition::parse(pk), partition, "{pk}");
            assert!(partition.is_none_or(|partition| partition.pk() == pk));
        }
    }

    #[test]
    fn the_rows_of_an_index_are_selected_by_user_and_status() {
        let (requester, recipient) = (Index::ByRequester, Index::ByRecipient);
        assert_eq!(
            [requester.name(), recipient.name()],
            ["byRequester", "byRecipient"]
        );
        for (index, attribute) in [(requester, "requesterKey"), (recipient, "recipientKey")] {
            assert_eq!(index.condition(false), format!("{attribute} = :key"));
            let below = format!("{attribute} = :key AND activity < :below");
            assert_eq!(index.condition(true), below);
        }
        assert_eq!(Index::key(user_id(42), ChatStatus::Pending), "42#pending");
        assert_eq!(Index::key(user_id(42), ChatStatus::Active), "42#active");
        assert_eq!(Index::key(user_id(42), ChatStatus::Declined), "42#declined");
    }

    #[test]
    fn a_chat_item_has_separate_attributes_for_its_members_and_the_keys_of_its_index_rows() {
        let id = chat_id("17-42");
        let chat = Chat::new_request(id, id.high(), Timestamp::from_millis(5));
        let mut item = ChatItem::read(ChatItem::write(&chat).unwrap()).unwrap();
        (item.low_unread, item.low_read_seq) = (2, 3);
        (item.high_unread, item.high_read_seq) = (4, 5);
        assert_eq!(item.member(id, id.low()), (2, 3));
        assert_eq!(item.member(id, id.high()), (4, 5));
        let attributes = ChatItem::member_attributes;
        assert_eq!(attributes(id, id.low()), ("lowUnread", "lowReadSeq"));
        assert_eq!(attributes(id, id.high()), ("highUnread", "highReadSeq"));
        item.status = "active".to_owned();
        let activity = "000000000000005#0000000000000017-0000000000000042";
        let expected = [
            ("requesterKey", "42#pending", "42#active".to_owned()),
            ("recipientKey", "17#pending", "17#active".to_owned()),
            ("activity", activity, activity.to_owned()),
        ];
        assert_eq!(item.index_keys(id), expected);
        item.status = "unknown".to_owned();
        assert!(item.into_chat().is_err());
        let mut negative = ChatItem::read(ChatItem::write(&chat).unwrap()).unwrap();
        negative.status = "active".to_owned();
        negative.low_unread = -1;
        assert!(negative.has_negative_count());
        let chat = negative.into_chat().unwrap();
        assert_eq!(chat.member_state(id.low()).unread, 0);
    }

    #[test]
    fn messages_keys_and_counters_are_the_same_after_writing_and_reading() {
        let message = Message {
            chat_id: chat_id("17-42"),
            seq: Seq::new(9),
            sender: user_id(42),
            content: MessageContent::new(
                Some("👍".to_owned()),
                Some("https://a.example/i".to_owned()),
                Some("https://a.example/l".to_owned()),
            )
            .unwrap(),
            created_at: Timestamp::from_millis(7),
        };
        let written = MessageItem::write(&message).unwrap();
        assert_eq!(
            MessageItem::read(written, message.chat_id).unwrap(),
            message
        );

        let expires_at = Timestamp::from_millis(8_000);
        let written = IdempotencyItem::write(
            message.chat_id,
            user_id(42),
            "k",
            message.seq,
            b"h",
            expires_at,
        )
        .unwrap();
        assert_eq!(written["sk"], AttributeValue::S("KEY#42#k".to_owned()));
        assert_eq!(written["expiresAt"], AttributeValue::N("8".to_owned()));
        let key = IdempotencyItem::read(written).unwrap();
        assert_eq!((key.seq, key.hash), (9, b"h".to_vec()));

        let number = |name: &str| (name.to_owned(), AttributeValue::N("5".to_owned()));
        let totals = TotalsItem::read(Item::from([number("unread")])).unwrap();
        assert_eq!((totals.unread, totals.pending), (5, 0));
        let totals = TotalsItem::read(Item::from([number("pending")])).unwrap();
        assert_eq!((totals.unread, totals.pending), (0, 5));
        assert_eq!(
            OpenRequestsItem::read(Item::from([number("open")]))
                .unwrap()
                .open,
            5
        );
        assert_eq!(OpenRequestsItem::read(Item::new()).unwrap().open, 0);
    }

    /// Existing tables depend on these values: see [`TotalsItem::key`].
    #[test]
    fn the_shard_of_a_chat_never_changes() {
        for (id, shard) in [
            ("17-42", 3),
            ("1-1000000", 3),
            ("123456789-987654321012", 6),
            ("4294967297-8589934595", 1),
            ("9007199254740990-9007199254740991", 2),
        ] {
            let key = TotalsItem::key(user_id(1), chat_id(id));
            assert_eq!(key.sk, format!("TOTALS#{shard}"), "{id}");
        }
    }
}
