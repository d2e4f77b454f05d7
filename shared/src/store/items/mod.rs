//! The item types of the table. Each type owns its keys and attribute names; no other code formats a key.
//! The attribute `type` of an item names its type.
//!
//! | Item | pk | sk |
//! |---|---|---|
//! | [`ChatItem`] | `CHAT#17-42` | `STATE` |
//! | [`MessageItem`] | `CHAT#17-42` | `MSG#0000000000000009` |
//! | [`IdempotencyItem`] | `CHAT#17-42` | `KEY#42#<idempotency key>` |
//! | [`ChangeItem`] | `CHAT#17-42` | `CHG#0000000000000003` |
//! | [`PreviousContentItem`] | `CHAT#17-42` | `HIST#0000000000000009#0000000000000003` |
//! | [`ReportItem`] | `CHAT#17-42` | `FLAG#17#0000000000000009` |
//! | [`ConnectionItem`] | `USER#42` | `CONN#<connection id>` |
//! | [`TotalsItem`] | `USER#42` | `TOTALS#0` … `TOTALS#7` |
//! | [`OpenRequestsItem`] | `USER#42` | `SENT` |
//!
//! `STATE` sorts after `MSG#`, so that one descending query returns a chat and its newest messages. Times
//! are numbers: milliseconds since 1970 UTC, except `expiresAt`, which the table's TTL reads in seconds, and
//! `tokenExpiresAt`, which tokens have in seconds.

mod change;
mod chat;
mod connection;
mod counters;
mod message;
mod report;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Serialize, de::DeserializeOwned};

pub use change::{ChangeItem, PreviousContentItem};
pub use chat::{ActivityKey, ChatItem, Index, PreviewItem};
pub use connection::ConnectionItem;
pub use counters::{CHANGES, OpenRequestsItem, TOTALS_SHARDS, TotalsItem};
pub(super) use message::MessageSummary;
pub use message::{IdempotencyItem, MessageItem};
pub use report::ReportItem;

use crate::{
    Error,
    domain::{ChatId, Timestamp, UserId},
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

    /// The key of an item, if both attributes are there.
    pub(super) fn of(item: &Item) -> Option<Self> {
        let attribute = |name| item.get(name)?.as_s().ok();
        Some(Self::new(attribute("pk")?, attribute("sk")?))
    }
}

/// An item cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("unreadable item: {0}")]
struct UnreadableItem(String);

fn unreadable(what: impl fmt::Display) -> Error {
    Error::Internal(Box::new(UnreadableItem(what.to_string())))
}

fn read<T: DeserializeOwned>(item: Item) -> Result<T, Error> {
    // A map is converted once. `from_item` would convert it twice.
    serde_dynamo::from_attribute_value(AttributeValue::M(item)).map_err(unreadable)
}

/// For attributes that are absent while they are 0.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// For attributes that are absent while they are false.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
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
    /// [`ChangeItem`]
    Change,
    /// [`PreviousContentItem`]
    PreviousContent,
    /// [`ReportItem`]
    Report,
    /// [`ConnectionItem`]
    Connection,
}

impl ItemKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Chat,
        Self::Message,
        Self::IdempotencyKey,
        Self::Change,
        Self::PreviousContent,
        Self::Report,
        Self::Connection,
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
        } else if is_chat && sk.starts_with(ChangeItem::SK_PREFIX) {
            Some(Self::Change)
        } else if is_chat && sk.starts_with(PreviousContentItem::SK_PREFIX) {
            Some(Self::PreviousContent)
        } else if is_chat && sk.starts_with(ReportItem::SK_PREFIX) {
            Some(Self::Report)
        } else if is_user && sk.starts_with(ConnectionItem::SK_PREFIX) {
            Some(Self::Connection)
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
            Self::Change => ChangeItem::ENTITY_TYPE,
            Self::PreviousContent => PreviousContentItem::ENTITY_TYPE,
            Self::Report => ReportItem::ENTITY_TYPE,
            Self::Connection => ConnectionItem::ENTITY_TYPE,
        }
    }
}
