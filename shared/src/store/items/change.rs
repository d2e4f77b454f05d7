//! Changes of messages after they were sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Item, ItemKey, Partition, read, unreadable, write};
use crate::{
    Error,
    domain::{ChatId, Message, Rev, Seq, Timestamp},
};

/// A change to a message after it was sent. The numbers of the changes of a chat have no gaps.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeItem {
    pk: String,
    /// The sort key. [`ChangeItem::rev`] reads the number of the change from it.
    pub sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    /// The sequence number of the message.
    pub seq: u64,
    /// Milliseconds since 1970 UTC.
    pub at: u64,
    /// Seconds since 1970 UTC. The table's TTL deletes the item some time later.
    pub expires_at: u64,
}

impl ChangeItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Change";
    /// The start of the sort keys of changes.
    pub const SK_PREFIX: &str = "CHG#";
    /// How long a change is kept.
    pub const LIFETIME: Duration = Duration::from_hours(90 * 24);

    /// The key of a change.
    #[must_use]
    pub fn key(id: ChatId, rev: Rev) -> ItemKey {
        ItemKey::new(Partition::Chat(id).pk(), Self::sk(rev))
    }

    /// The sort key of a change.
    pub(in crate::store) fn sk(rev: Rev) -> String {
        format!("{}{:016}", Self::SK_PREFIX, rev.get())
    }

    /// The number of the change in a sort key. `None` if no change has this sort key.
    #[must_use]
    pub fn rev(sk: &str) -> Option<Rev> {
        let digits = sk.strip_prefix(Self::SK_PREFIX)?;
        let rev = Rev::new(digits.parse().ok()?);
        (Self::sk(rev) == sk).then_some(rev)
    }

    /// Reads an item and the number of the change.
    pub(in crate::store) fn read_with_rev(item: Item) -> Result<(Rev, Self), Error> {
        let item = Self::read(item)?;
        let rev = Self::rev(&item.sk).ok_or_else(|| unreadable(&item.sk))?;
        Ok((rev, item))
    }

    pub(in crate::store) fn write(message: &Message, at: Timestamp) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(message.chat_id, message.rev);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            seq: message.seq.get(),
            at: at.millis(),
            expires_at: (at + Self::LIFETIME).seconds(),
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

/// What a message contained before a change. Only operators read it, when they work on a report.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousContentItem {
    pk: String,
    /// The sort key.
    pub sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    /// The user who sent the message.
    pub sender_id: u64,
    /// The text before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The URL of the image before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The URL of the page to preview before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_preview_url: Option<String>,
    /// When the message was sent, in milliseconds since 1970 UTC.
    pub created_at: u64,
    /// When the content was replaced or deleted, in milliseconds since 1970 UTC.
    pub replaced_at: u64,
    /// Seconds since 1970 UTC. The table's TTL deletes the item some time later.
    pub expires_at: u64,
}

impl PreviousContentItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "PreviousContent";
    /// The start of the sort keys of previous contents.
    pub const SK_PREFIX: &str = "HIST#";
    /// How long previous content is kept. It is shorter than [`ChangeItem::LIFETIME`], and the table's TTL deletes
    /// whole items, so it is an item of its own.
    pub const LIFETIME: Duration = Duration::from_hours(30 * 24);

    /// The key of the content that the message `seq` had before its change `rev`.
    #[must_use]
    pub fn key(id: ChatId, seq: Seq, rev: Rev) -> ItemKey {
        let sk = format!("{}{:016}", Self::sk_prefix(seq), rev.get());
        ItemKey::new(Partition::Chat(id).pk(), sk)
    }

    /// The start of the sort keys of the previous contents of one message.
    #[must_use]
    pub fn sk_prefix(seq: Seq) -> String {
        format!("{}{:016}#", Self::SK_PREFIX, seq.get())
    }

    /// The message and the change in a sort key. `None` if no previous content has this sort key.
    #[must_use]
    pub fn seq_and_rev(sk: &str) -> Option<(Seq, Rev)> {
        let (seq, rev) = sk.strip_prefix(Self::SK_PREFIX)?.split_once('#')?;
        let (seq, rev) = (Seq::new(seq.parse().ok()?), Rev::new(rev.parse().ok()?));
        let canonical = format!("{}{:016}", Self::sk_prefix(seq), rev.get());
        (canonical == sk).then_some((seq, rev))
    }

    /// `before` is the message before the change `rev` at `at`.
    pub(in crate::store) fn write(
        before: &Message,
        rev: Rev,
        at: Timestamp,
    ) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(before.chat_id, before.seq, rev);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            sender_id: before.sender.get(),
            text: before.text().map(str::to_owned),
            image_url: before.image_url().map(str::to_owned),
            link_preview_url: before.link_preview_url().map(str::to_owned),
            created_at: before.created_at.millis(),
            replaced_at: at.millis(),
            expires_at: (at + Self::LIFETIME).seconds(),
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
