//! The item kinds of the table. Each type owns its keys and attribute names; nothing else formats a
//! key. Every item says its kind in `type`.
//!
//! | Item | pk | sk |
//! |---|---|---|
//! | [`ChatItem`] | `CHAT#17-42` | `STATE` |
//! | [`MessageItem`] | `CHAT#17-42` | `MSG#0000000000000009` |
//! | [`KeyItem`] | `CHAT#17-42` | `KEY#42#<idempotency key>` |
//! | [`TotalsItem`] | `USER#42` | `TOTALS#0` … `TOTALS#7` |
//! | [`SentItem`] | `USER#42` | `SENT` |
//!
//! `STATE` sorts after `MSG#`, so one descending query brings a chat and its newest messages. Times
//! are numbers: milliseconds since 1970 UTC, but seconds where DynamoDB's TTL reads them.

use std::{collections::HashMap, fmt, str::FromStr};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_dynamo::AttributeValue as SerdeValue;

use crate::{
    Error,
    domain::{
        Chat, ChatId, Content, Conversation, Member, Message, Seq, State, Status, Summary,
        Timestamp, UserId,
    },
};

/// An item as the SDK carries it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Where an item is: partition key and sort key.
pub(super) type Key = (String, String);

/// Items a user's totals are spread over.
pub(super) const SHARDS: u64 = 8;

/// An item of the table cannot be what it says.
#[derive(Debug, thiserror::Error)]
#[error("unreadable item: {0}")]
struct Unreadable(String);

fn unreadable(what: impl fmt::Display) -> Error {
    Error::Internal(Box::new(Unreadable(what.to_string())))
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

fn counted(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(counted: i64) -> Result<u64, Error> {
    u64::try_from(counted).map_err(|_| unreadable("a negative count"))
}

fn chat_pk(id: ChatId) -> String {
    format!("CHAT#{id}")
}

fn user_pk(id: UserId) -> String {
    format!("USER#{id}")
}

/// Whose items a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Chat(ChatId),
    User(UserId),
}

impl Owner {
    /// `None` when it is nobody's.
    pub(super) fn of(pk: &str) -> Option<Self> {
        if let Some(id) = pk.strip_prefix("CHAT#") {
            return id.parse().ok().map(Self::Chat);
        }
        let id = pk.strip_prefix("USER#")?;
        id.parse().ok().map(Self::User)
    }
}

/// The state of a chat, and the row of both indexes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChatItem {
    pub(super) pk: String,
    sk: String,
    #[serde(rename = "type")]
    kind: String,
    pub(super) requester_id: u64,
    recipient_id: u64,
    pub(super) status: String,
    pub(super) seq: u64,
    pub(super) low_unread: i64,
    pub(super) low_read_seq: u64,
    pub(super) high_unread: i64,
    pub(super) high_read_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_message: Option<SummaryItem>,
    created_at: u64,
    pub(super) updated_at: u64,
    requester_key: String,
    recipient_key: String,
    activity: String,
}

/// What the state of a chat holds of its last message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SummaryItem {
    pub(super) seq: u64,
    sender_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    created_at: u64,
}

/// An index: its name and its two key attributes.
#[derive(Clone, Copy)]
pub(super) enum Index {
    /// Chats by who asked.
    ByRequester,
    /// Chats by who was asked.
    ByRecipient,
}

impl Index {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ByRequester => "byRequester",
            Self::ByRecipient => "byRecipient",
        }
    }

    /// All chats of a partition, or those below a place in it.
    pub(super) fn condition(self, below: bool) -> &'static str {
        match (self, below) {
            (Self::ByRequester, false) => "requesterKey = :key",
            (Self::ByRequester, true) => "requesterKey = :key AND activity < :below",
            (Self::ByRecipient, false) => "recipientKey = :key",
            (Self::ByRecipient, true) => "recipientKey = :key AND activity < :below",
        }
    }

    /// The state is in the partition key because a filter would page wrongly.
    pub(super) fn key(user: UserId, status: Status) -> String {
        format!("{user}#{}", status_name(status))
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Pending => ChatItem::PENDING,
        Status::Active => ChatItem::ACTIVE,
        Status::Declined => "declined",
    }
}

impl ChatItem {
    const SK: &str = "STATE";
    pub(super) const KIND: &str = "Chat";

    /// Value of `status` in an active chat.
    pub(super) const ACTIVE: &str = "active";
    /// Value of `status` while a request waits for its answer.
    pub(super) const PENDING: &str = "pending";

    pub(super) fn key(id: ChatId) -> Key {
        (chat_pk(id), Self::SK.to_owned())
    }

    /// Whether a row of the chat's partition is its state.
    pub(super) fn is(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    pub(super) fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }

    pub(super) fn write(chat: &Chat) -> Result<Item, Error> {
        let nothing = Conversation::default();
        let conversation = match &chat.state {
            State::Active(conversation) => conversation,
            State::Pending | State::Declined => &nothing,
        };
        let (pk, sk) = Self::key(chat.id);
        write(&Self {
            pk,
            sk,
            kind: Self::KIND.to_owned(),
            requester_id: chat.requester.get(),
            recipient_id: chat.recipient().get(),
            status: status_name(chat.status()).to_owned(),
            seq: conversation.seq.get(),
            low_unread: counted(conversation.low.unread),
            low_read_seq: conversation.low.read_seq.get(),
            high_unread: counted(conversation.high.unread),
            high_read_seq: conversation.high.read_seq.get(),
            last_message: conversation.last_message.as_ref().map(SummaryItem::new),
            created_at: chat.created_at.millis(),
            updated_at: chat.updated_at.millis(),
            requester_key: Index::key(chat.requester, chat.status()),
            recipient_key: Index::key(chat.recipient(), chat.status()),
            activity: Activity::of(chat).to_string(),
        })
    }

    pub(super) fn into_chat(self) -> Result<Chat, Error> {
        let id = self.id()?;
        let state = match self.status.as_str() {
            Self::PENDING => State::Pending,
            "declined" => State::Declined,
            Self::ACTIVE => State::Active(Conversation {
                seq: Seq::new(self.seq),
                low: Member {
                    unread: count(self.low_unread)?,
                    read_seq: Seq::new(self.low_read_seq),
                },
                high: Member {
                    unread: count(self.high_unread)?,
                    read_seq: Seq::new(self.high_read_seq),
                },
                last_message: self
                    .last_message
                    .map(SummaryItem::into_summary)
                    .transpose()?,
            }),
            other => return Err(unreadable(format_args!("status {other} of {id}"))),
        };
        Ok(Chat {
            id,
            requester: user(self.requester_id)?,
            state,
            created_at: Timestamp::from_millis(self.created_at),
            updated_at: Timestamp::from_millis(self.updated_at),
        })
    }

    pub(super) fn id(&self) -> Result<ChatId, Error> {
        match Owner::of(&self.pk) {
            Some(Owner::Chat(id)) => Ok(id),
            _ => Err(unreadable(&self.pk)),
        }
    }

    /// What the chat knows of a member: unread count and watermark, whatever the status.
    pub(super) fn member(&self, id: ChatId, member: UserId) -> (i64, u64) {
        if member == id.low() {
            (self.low_unread, self.low_read_seq)
        } else {
            (self.high_unread, self.high_read_seq)
        }
    }

    /// The attributes that place the chat in the indexes: what each is, and what it should be.
    pub(super) fn index_keys(&self, id: ChatId) -> [(&'static str, &str, String); 3] {
        let key = |user: u64| format!("{user}#{}", self.status);
        let activity = Activity::at(Timestamp::from_millis(self.updated_at), id);
        [
            ("requesterKey", &self.requester_key, key(self.requester_id)),
            ("recipientKey", &self.recipient_key, key(self.recipient_id)),
            ("activity", &self.activity, activity.to_string()),
        ]
        .map(|(name, is, should_be)| (name, is.as_str(), should_be))
    }

    /// The attributes that hold what the chat knows of a member: unread count and watermark.
    pub(super) fn member_attributes(id: ChatId, member: UserId) -> (&'static str, &'static str) {
        if member == id.low() {
            ("lowUnread", "lowReadSeq")
        } else {
            ("highUnread", "highReadSeq")
        }
    }
}

impl SummaryItem {
    pub(super) fn new(summary: &Summary) -> Self {
        Self {
            seq: summary.seq.get(),
            sender_id: summary.sender.get(),
            text: summary.text.clone(),
            created_at: summary.created_at.millis(),
        }
    }

    pub(super) fn write(&self) -> Result<AttributeValue, Error> {
        serde_dynamo::to_attribute_value(self).map_err(|error| Error::Internal(Box::new(error)))
    }

    fn into_summary(self) -> Result<Summary, Error> {
        Ok(Summary {
            seq: Seq::new(self.seq),
            sender: user(self.sender_id)?,
            text: self.text,
            created_at: Timestamp::from_millis(self.created_at),
        })
    }
}

/// The place of a chat in a list, latest activity first: when it was last asked for, answered or
/// written to, then its id. Fixed width, so that text sorts as numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Activity {
    at: Timestamp,
    chat: ChatId,
}

impl Activity {
    /// Where a chat is now.
    #[must_use]
    pub fn of(chat: &Chat) -> Self {
        Self {
            at: chat.updated_at,
            chat: chat.id,
        }
    }

    /// Where a chat is once something happens to it at `at`.
    pub(super) fn at(at: Timestamp, chat: ChatId) -> Self {
        Self { at, chat }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.chat.low().get(), self.chat.high().get());
        write!(f, "{:015}#{low:016}-{high:016}", self.at.millis())
    }
}

impl FromStr for Activity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |digits: &str| digits.parse::<u64>().map_err(drop);
        let (at, pair) = text.split_once('#').ok_or(())?;
        let (low, high) = pair.split_once('-').ok_or(())?;
        let low = UserId::new(number(low)?).ok_or(())?;
        let high = UserId::new(number(high)?).ok_or(())?;
        let activity = Self {
            at: Timestamp::from_millis(number(at)?),
            chat: ChatId::between(low, high).ok_or(())?,
        };
        if activity.to_string() == text {
            Ok(activity)
        } else {
            Err(())
        }
    }
}

/// A message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageItem {
    pk: String,
    sk: String,
    #[serde(rename = "type")]
    kind: String,
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
    /// Below every message of a chat.
    pub(super) const LOWEST: &str = "MSG#";

    pub(super) fn key(id: ChatId, seq: Seq) -> Key {
        (chat_pk(id), Self::sk(seq))
    }

    pub(super) fn pk(id: ChatId) -> String {
        chat_pk(id)
    }

    pub(super) fn sk(seq: Seq) -> String {
        format!("{}{:016}", Self::LOWEST, seq.get())
    }

    pub(super) fn write(message: &Message) -> Result<Item, Error> {
        let (pk, sk) = Self::key(message.chat_id, message.seq);
        write(&Self {
            pk,
            sk,
            kind: "Message".to_owned(),
            sender_id: message.sender.get(),
            text: message.content.text().map(str::to_owned),
            image_url: message.content.image_url().map(str::to_owned),
            link_preview_url: message.content.link_preview_url().map(str::to_owned),
            created_at: message.created_at.millis(),
        })
    }

    pub(super) fn read(item: Item, chat_id: ChatId) -> Result<Message, Error> {
        let item: Self = read(item)?;
        let seq = item
            .sk
            .strip_prefix(Self::LOWEST)
            .and_then(|seq| seq.parse().ok());
        Ok(Message {
            chat_id,
            seq: Seq::new(seq.ok_or_else(|| unreadable(&item.sk))?),
            sender: user(item.sender_id)?,
            content: Content::from_parts(item.text, item.image_url, item.link_preview_url),
            created_at: Timestamp::from_millis(item.created_at),
        })
    }
}

/// What was sent under an idempotency key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyItem {
    pk: String,
    sk: String,
    #[serde(rename = "type")]
    kind: String,
    /// The message's place in the chat.
    pub(super) seq: u64,
    /// A digest of the message's content.
    #[serde(with = "serde_bytes")]
    pub(super) hash: Vec<u8>,
    /// Seconds since 1970 UTC; the table's TTL deletes the item some time after.
    expires_at: u64,
}

impl KeyItem {
    pub(super) fn is((_, sk): &Key) -> bool {
        sk.starts_with("KEY#")
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
            pk: chat_pk(id),
            sk: format!("KEY#{sender}#{key}"),
            kind: "IdempotencyKey".to_owned(),
            seq: seq.get(),
            hash: hash.to_vec(),
            expires_at: expires_at.seconds(),
        })
    }

    pub(super) fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

/// One shard of a user's totals.
#[derive(Deserialize)]
pub(super) struct TotalsItem {
    /// Messages that the user has not read.
    #[serde(default)]
    pub(super) unread: i64,
    /// Requests that wait for the user's answer.
    #[serde(default)]
    pub(super) pending: i64,
}

impl TotalsItem {
    pub(super) const KIND: &str = "Totals";
    /// Begins the sort key of each shard.
    pub(super) const PREFIX: &str = "TOTALS#";
    /// The attribute behind [`TotalsItem::unread`].
    pub(super) const UNREAD: &str = "unread";
    /// The attribute behind [`TotalsItem::pending`].
    pub(super) const PENDING: &str = "pending";

    /// The shard that counts for one chat. All that a chat adds to a user's totals it adds to the
    /// same shard, so no shard is ever negative. The hash (Fibonacci, of both ids) must never
    /// change: what was added to one shard would be taken from another.
    pub(super) fn key(owner: UserId, chat: ChatId) -> Key {
        let mixed = (chat.low().get().rotate_left(32) ^ chat.high().get())
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let shard = (mixed >> 32) % SHARDS;
        (user_pk(owner), format!("{}{shard}", Self::PREFIX))
    }

    pub(super) fn pk(owner: UserId) -> String {
        user_pk(owner)
    }

    pub(super) fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

/// How many open requests a user has sent. One item, so that the cap can be a condition.
#[derive(Deserialize)]
pub(super) struct SentItem {
    #[serde(default)]
    pub(super) open: i64,
}

impl SentItem {
    pub(super) const KIND: &str = "OpenRequests";
    /// The attribute behind [`SentItem::open`].
    pub(super) const OPEN: &str = "open";
    const SK: &str = "SENT";

    pub(super) fn key(owner: UserId) -> Key {
        (user_pk(owner), Self::SK.to_owned())
    }

    pub(super) fn is(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    pub(super) fn is_sk(sk: &str) -> bool {
        sk == Self::SK
    }

    pub(super) fn read(item: Item) -> Result<Self, Error> {
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
    fn activity_sorts_by_time_then_chat_at_a_fixed_width() {
        let small = Activity::at(Timestamp::from_millis(9), chat_id("2-3"));
        let large =
            Activity::at(Timestamp::from_millis(10), chat_id("1-9007199254740991")).to_string();
        assert!(small.to_string() < large);
        assert_eq!(small.to_string().len(), large.len());
        assert_eq!(small.to_string().parse(), Ok(small));
        assert_eq!("9#2-3".parse::<Activity>(), Err(()));
    }

    #[test]
    fn a_chat_stays_in_one_shard_and_chats_spread_over_all() {
        let me = UserId::new(1).unwrap();
        let shard_of = |other| {
            TotalsItem::key(
                me,
                ChatId::between(me, UserId::new(other).unwrap()).unwrap(),
            )
            .1
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
    fn a_chat_reads_back_as_it_was_written() {
        let id = chat_id("17-42");
        let mut chat = Chat::requested(id, id.high(), Timestamp::from_millis(5));
        let read_back = |chat: &Chat| {
            ChatItem::read(ChatItem::write(chat).unwrap())
                .unwrap()
                .into_chat()
                .unwrap()
        };
        assert_eq!(read_back(&chat), chat);
        chat.state = State::Active(Conversation {
            seq: Seq::new(3),
            low: Member {
                unread: 1,
                read_seq: Seq::new(2),
            },
            high: Member {
                unread: 0,
                read_seq: Seq::new(3),
            },
            last_message: Some(Summary {
                seq: Seq::new(3),
                sender: id.high(),
                text: Some("👍".to_owned()),
                created_at: Timestamp::from_millis(7),
            }),
        });
        assert_eq!(read_back(&chat), chat);
    }
}
