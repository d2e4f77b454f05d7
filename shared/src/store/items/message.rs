//! Messages and the idempotency keys that they were sent with.

use serde::{Deserialize, Serialize};

use super::{Item, ItemKey, Partition, is_zero, read, timestamp, unreadable, user, write};
use crate::{
    Error,
    domain::{ChatId, Message, MessageContent, Rev, Seq, Timestamp, UserId},
};

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at: Option<u64>,
    /// The number of the last change, or 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    rev: u64,
    /// The key that the sender chose for it. An [`IdempotencyItem`] finds the message by its key; this finds the key by
    /// the message, for the sender's own connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

impl MessageItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Message";
    /// The start of the sort keys of messages. Sort keys of other items in a chat's partition must be less, so
    /// that one query reads the state of a chat and its newest messages and nothing else.
    pub(in crate::store) const SK_PREFIX: &str = "MSG#";

    /// The key of a message.
    #[must_use]
    pub fn key(id: ChatId, seq: Seq) -> ItemKey {
        ItemKey::new(Self::pk(id), Self::sk(seq))
    }

    pub(in crate::store) fn pk(id: ChatId) -> String {
        Partition::Chat(id).pk()
    }

    pub(in crate::store) fn sk(seq: Seq) -> String {
        format!("{}{:016}", Self::SK_PREFIX, seq.get())
    }

    /// The sequence number in a sort key. `None` if no message has this sort key.
    #[must_use]
    pub fn seq(sk: &str) -> Option<Seq> {
        let digits = sk.strip_prefix(Self::SK_PREFIX)?;
        let seq = Seq::new(digits.parse().ok()?);
        (Self::sk(seq) == sk).then_some(seq)
    }

    pub(in crate::store) fn write(message: &Message) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(message.chat_id, message.seq);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            sender_id: message.sender.get(),
            text: message.text().map(str::to_owned),
            image_url: message.image_url().map(str::to_owned),
            link_preview_url: message.link_preview_url().map(str::to_owned),
            created_at: message.created_at.millis(),
            edited_at: message.edited_at.map(Timestamp::millis),
            deleted_at: message.deleted_at.map(Timestamp::millis),
            rev: message.rev.get(),
            idempotency_key: message.idempotency_key.clone(),
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
            content: item.deleted_at.is_none().then(|| {
                MessageContent::from_parts(item.text, item.image_url, item.link_preview_url)
            }),
            created_at: timestamp(item.created_at)?,
            edited_at: item.edited_at.map(timestamp).transpose()?,
            deleted_at: item.deleted_at.map(timestamp).transpose()?,
            rev: Rev::new(item.rev),
            idempotency_key: item.idempotency_key,
        })
    }
}

/// The attributes of a message that decide whether it is unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::store) struct MessageSummary {
    sk: String,
    pub sender_id: u64,
    pub deleted_at: Option<u64>,
    #[serde(default)]
    pub rev: u64,
}

impl MessageSummary {
    /// The projection expression of a query for these attributes.
    pub const ATTRIBUTES: &str = "sk, senderId, deletedAt, rev";

    /// Reads the attributes and the sequence number.
    pub fn read(item: Item) -> Result<(Seq, Self), Error> {
        let item: Self = read(item)?;
        let seq = MessageItem::seq(&item.sk).ok_or_else(|| unreadable(&item.sk))?;
        Ok((seq, item))
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
    pub(in crate::store) hash: Vec<u8>,
    /// Seconds since 1970 UTC. The table's TTL deletes the item some time later.
    pub(in crate::store) expires_at: u64,
}

impl IdempotencyItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "IdempotencyKey";
    pub(super) const SK_PREFIX: &str = "KEY#";

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

    /// The key of an idempotency key.
    pub(in crate::store) fn key(id: ChatId, sender: UserId, key: &str) -> ItemKey {
        let sk = format!("{}{sender}#{key}", Self::SK_PREFIX);
        ItemKey::new(Partition::Chat(id).pk(), sk)
    }

    pub(in crate::store) fn write(
        id: ChatId,
        sender: UserId,
        key: &str,
        seq: Seq,
        hash: &[u8],
        expires_at: Timestamp,
    ) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(id, sender, key);
        write(&Self {
            pk,
            sk,
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
