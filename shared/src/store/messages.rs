//! Sending and listing messages.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use ring::digest::{Context, SHA256};

use super::{
    KeyQuery, Store,
    items::{ActivityKey, ChatItem, IdempotencyItem, MessageItem, PreviewItem, TotalsItem},
    retry::MAX_REREADS,
    transaction::{Write, number},
    update::{ItemUpdate, absent_if_zero},
};
use crate::{
    Error,
    domain::{
        Chat, ChatId, MAX_SAFE_INTEGER, Message, MessageContent, Seq, Timestamp, TransitionError,
        UserId,
    },
};

/// The lifetime of an idempotency key.
const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// A key that a client chooses for one message, so that a repeated request does not send it twice. It has
/// 1 to 64 visible ASCII characters and no comma, because API Gateway joins the values of a repeated header
/// with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The text is not a valid idempotency key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`Idempotency-Key` must be sent only once and have 1 to 64 visible ASCII characters, without commas"
)]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// The maximum length of a key.
    pub const MAX_LENGTH: usize = 64;
}

impl std::str::FromStr for IdempotencyKey {
    type Err = InvalidIdempotencyKey;

    fn from_str(key: &str) -> Result<Self, InvalidIdempotencyKey> {
        let is_valid = (1..=Self::MAX_LENGTH).contains(&key.len())
            && key
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',');
        if is_valid {
            Ok(Self(key.to_owned()))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }
}

/// The outcome of sending a message.
pub enum SendOutcome {
    /// The message was accepted.
    Sent(Message),
    /// The same message was accepted earlier, with the same key.
    Replayed {
        /// The message.
        message: Message,
        /// Whether the recipient has read it.
        is_read: bool,
    },
}

/// The start of a page of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePageStart {
    /// Skips this many of the newest messages. The page is newest first.
    Skip(u64),
    /// Only messages before this one. The page is newest first.
    Before(Seq),
    /// Only messages after this one. The page is oldest first.
    After(Seq),
}

/// A page of messages.
pub struct MessagePage {
    /// The chat with its watermarks.
    pub chat: Chat,
    /// The messages.
    pub messages: Vec<Message>,
    /// The start of the next page, or `None` at the end.
    pub next: Option<MessagePageStart>,
}

impl MessagePage {
    /// Creates a page from the items that were read. Messages newer than the state of the chat are removed.
    fn new(chat: Chat, mut messages: Vec<Message>, start: MessagePageStart, limit: usize) -> Self {
        messages.retain(|message| message.seq <= chat.seq());
        let last = messages.last().map(|message| message.seq);
        let next = match start {
            MessagePageStart::After(_) => last
                .filter(|last| messages.len() == limit && *last < chat.seq())
                .map(MessagePageStart::After),
            MessagePageStart::Skip(_) | MessagePageStart::Before(_) => last
                .filter(|last| last.get() > 1)
                .map(MessagePageStart::Before),
        };
        Self {
            chat,
            messages,
            next,
        }
    }

    /// Whether the page contains every message of its range that the state of the chat includes.
    fn is_complete(&self, start: MessagePageStart, limit: usize) -> bool {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let newest = self.chat.seq();
        let available = match start {
            MessagePageStart::Skip(skip) => newest.back(skip),
            MessagePageStart::Before(seq) => newest.min(seq.back(1)),
            MessagePageStart::After(seq) => newest.back(seq.get()),
        };
        self.messages.len() as u64 == limit.min(available.get())
    }
}

impl Store {
    /// Adds a message to a chat.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; the errors of [`Chat::check_send`];
    /// [`Error::IdempotencyKeyReused`] if another message was sent with the key.
    pub async fn send_message(
        &self,
        sender: UserId,
        id: ChatId,
        content: MessageContent,
        key: Option<&IdempotencyKey>,
    ) -> Result<SendOutcome, Error> {
        const STATE: usize = 0;
        const KEY: usize = 3;

        let hash = key.map(|_| digest(&content));
        let mut chat = self.get_chat(id).await?;
        let mut was_chat_read_again = false;
        loop {
            let seq = match chat.check_send(sender) {
                Ok(conversation) => conversation.seq.next(),
                Err(error) => {
                    let (Some(key), Some(hash)) = (key, &hash) else {
                        return Err(error.into());
                    };
                    let may_be_late = was_chat_read_again;
                    return self
                        .replay_or(error, &chat, sender, (key, hash), may_be_late)
                        .await;
                }
            };
            let sent = self.transact_planned(|now| {
                let created_at = chat.next_change_time(now);
                let message = Message {
                    idempotency_key: key.map(|key| key.0.clone()),
                    ..Message::new(id, seq, sender, content.clone(), created_at)
                };
                let mut writes = vec![
                    self.append_message(&chat, &message)?,
                    self.insert(MessageItem::write(&message)?),
                    self.count_total(TotalsItem::UNREAD, id.peer_of(sender), id, 1),
                ];
                if let (Some(key), Some(hash)) = (key, &hash) {
                    writes.push(self.store_key(&message, key, hash, now)?);
                }
                Ok((writes, message))
            });
            let mut failures = match sent.await? {
                Ok(message) => return Ok(SendOutcome::Sent(message)),
                Err(failures) => failures,
            };
            let seq_before = chat.seq();
            if failures.failed(STATE) {
                chat = failures
                    .take_old_item(STATE)
                    .map(|item| self.read_chat(item))
                    .ok_or(Error::ChatNotFound)??;
            }
            // If the conditions on the key and on `seq` both fail, the key decides: the message exists.
            if let (Some(taken), Some(hash)) = (failures.take_old_item(KEY), &hash) {
                return self
                    .replay(&chat, &IdempotencyItem::read(taken)?, hash)
                    .await;
            }
            was_chat_read_again |= failures.was_chat_read_again();
            let new_messages = chat.seq().get().saturating_sub(seq_before.get());
            if chat.check_send(sender).is_ok() && self.wait_if_busy(new_messages).await {
                chat = self.get_chat(id).await?;
            }
        }
    }

    /// A page of the messages of a chat, consistent with the state of the chat.
    ///
    /// The state and the messages are separate items that are read at different times. `DynamoDB` applies
    /// all writes of a transaction, but a reader of several items can see some of them earlier than
    /// others, for example a message before its predecessor. An edited or deleted message keeps its item. The page is
    /// therefore complete if it contains every message that the state includes, and no other. Otherwise the messages
    /// are read again, because a client that catches up with `after` would never see a missing message.
    /// If a gap remains, somebody has deleted the item, and the page is returned with the gap.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`].
    pub async fn list_messages(
        &self,
        id: ChatId,
        start: MessagePageStart,
        limit: usize,
    ) -> Result<MessagePage, Error> {
        let (chat, messages) = match start {
            MessagePageStart::Skip(0) => self.newest_messages(id, limit).await?,
            MessagePageStart::Skip(_) => {
                let chat = self.get_chat(id).await?;
                let messages = self.messages_from(id, start, chat.seq(), limit).await?;
                (chat, messages)
            }
            MessagePageStart::Before(_) | MessagePageStart::After(_) => {
                let messages = self.messages_from(id, start, Seq::new(MAX_SAFE_INTEGER), limit);
                tokio::try_join!(self.get_chat(id), messages)?
            }
        };
        let is_settled = !self.may_be_half_readable(chat.updated_at);
        let mut page = MessagePage::new(chat, messages, start, limit);
        for _ in 0..MAX_REREADS {
            if is_settled || page.is_complete(start, limit) {
                break;
            }
            self.wait_before_retry().await;
            let messages = self
                .messages_from(id, start, page.chat.seq(), limit)
                .await?;
            page = MessagePage::new(page.chat, messages, start, limit);
        }
        Ok(page)
    }

    /// The messages of a page, in a chat whose last message is `newest`.
    async fn messages_from(
        &self,
        id: ChatId,
        start: MessagePageStart,
        newest: Seq,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let first = Seq::new(1);
        let (first, last, ascending) = match start {
            MessagePageStart::Skip(skip) => (first, newest.back(skip), false),
            MessagePageStart::Before(seq) => (first, newest.min(seq.back(1)), false),
            MessagePageStart::After(seq) => (seq.next(), newest, true),
        };
        self.messages(id, first, last, ascending, limit).await
    }

    /// The chat and its newest messages, in one descending query that starts at the state of the chat.
    async fn newest_messages(
        &self,
        id: ChatId,
        limit: usize,
    ) -> Result<(Chat, Vec<Message>), Error> {
        let query = KeyQuery {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :lowest AND :state",
            values: vec![
                (":pk", MessageItem::pk(id)),
                (":lowest", MessageItem::SK_PREFIX.to_owned()),
                (":state", ChatItem::SK.to_owned()),
            ],
            ascending: false,
            projection: None,
        };
        let mut items = self.query(query, limit + 1).await?.into_iter();
        let state = items
            .next()
            .filter(ChatItem::matches)
            .ok_or(Error::ChatNotFound)?;
        let messages = items
            .map(|item| MessageItem::read(item, id))
            .collect::<Result<_, _>>()?;
        let chat = self.read_chat(state)?;
        if !chat.exists() {
            return Err(Error::ChatNotFound);
        }
        Ok((chat, messages))
    }

    /// Up to `limit` messages from `first` to `last`, inclusive.
    async fn messages(
        &self,
        id: ChatId,
        first: Seq,
        last: Seq,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        if first > last {
            return Ok(Vec::new());
        }
        let query = KeyQuery {
            ascending,
            ..KeyQuery::between(id, MessageItem::sk(first), MessageItem::sk(last))
        };
        let items = self.query(query, limit).await?;
        items
            .into_iter()
            .map(|item| MessageItem::read(item, id))
            .collect()
    }

    /// Makes a message the last message of a chat, on condition that `seq` and the blocks have not changed.
    fn append_message(&self, chat: &Chat, message: &Message) -> Result<Write, Error> {
        let (unread, _) = ChatItem::member_attributes(chat.id, chat.id.peer_of(message.sender));
        let activity = ActivityKey::at(message.created_at, chat.id);
        let active = AttributeValue::S(ChatItem::STATUS_ACTIVE.to_owned());
        let preview = PreviewItem::new(&message.preview()).write()?;

        let mut update = ItemUpdate::default();
        update.require("status", Some(&active));
        update.require("seq", Some(&number(chat.seq())));
        update.require("v", absent_if_zero(chat.blocks.version).as_ref());
        update.set("seq", Some(number(message.seq)));
        update.add(unread, 1);
        update.set("lastMessage", Some(preview));
        update.set("updatedAt", Some(number(message.created_at.millis())));
        update.set("activity", Some(AttributeValue::S(activity.to_string())));
        Ok(self.update_item(ChatItem::key(chat.id), &update))
    }

    /// Stores an idempotency key, on condition that it is not in use. An expired key can be used again even
    /// before the table's TTL deletes it.
    fn store_key(
        &self,
        message: &Message,
        key: &IdempotencyKey,
        hash: &[u8],
        now: Timestamp,
    ) -> Result<Write, Error> {
        let expires_at = now + KEY_LIFETIME;
        let (chat, sender) = (message.chat_id, message.sender);
        Ok(self.put(
            IdempotencyItem::write(chat, sender, &key.0, message.seq, hash, expires_at)?,
            "attribute_not_exists(pk) OR expiresAt <= :now",
            &[],
            vec![(":now", number(now.seconds()))],
        ))
    }

    /// A message, if its item is readable.
    pub(super) async fn message(&self, id: ChatId, seq: Seq) -> Result<Option<Message>, Error> {
        let item = self.get(MessageItem::key(id, seq)).await?;
        item.map(|item| MessageItem::read(item, id)).transpose()
    }

    /// A message that was sent, as it is now. Its item can become readable later than other items of the same
    /// transaction, so it is read again while it is not. `None` if it stays unreadable.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn wait_for_message(&self, id: ChatId, seq: Seq) -> Result<Option<Message>, Error> {
        self.reread_until(|| self.message(id, seq), Option::is_some)
            .await
    }

    /// Returns the message that was sent with the key, or else `error`. The chat no longer accepts messages. `may_be_late`:
    /// the transaction that was in progress a moment ago may have stored the key, which can become readable later than
    /// the chat.
    async fn replay_or(
        &self,
        error: TransitionError,
        chat: &Chat,
        sender: UserId,
        (key, hash): (&IdempotencyKey, &[u8]),
        may_be_late: bool,
    ) -> Result<SendOutcome, Error> {
        // A chat without messages has no keys.
        if chat.seq() == Seq::ZERO {
            return Err(error.into());
        }
        let read = || self.get(IdempotencyItem::key(chat.id, sender, &key.0));
        let item = self
            .reread_until(read, |item| item.is_some() || !may_be_late)
            .await?;
        let existing = item.map(IdempotencyItem::read).transpose()?;
        match existing.filter(|key| key.expires_at > self.now().seconds()) {
            Some(existing) => self.replay(chat, &existing, hash).await,
            None => Err(error.into()),
        }
    }

    /// Returns the message that was sent with the same key.
    async fn replay(
        &self,
        chat: &Chat,
        existing: &IdempotencyItem,
        hash: &[u8],
    ) -> Result<SendOutcome, Error> {
        if existing.hash != hash {
            return Err(Error::IdempotencyKeyReused);
        }
        // The key can be readable earlier than the message of the same transaction.
        let message = self
            .wait_for_message(chat.id, Seq::new(existing.seq))
            .await?;
        let message = message.ok_or_else(|| {
            Error::Internal("the message of an idempotency key is missing".into())
        })?;
        let is_read = chat.is_read(&message);
        Ok(SendOutcome::Replayed { message, is_read })
    }
}

/// A digest of the content of a message. It does not depend on how the JSON was formatted.
fn digest(content: &MessageContent) -> Vec<u8> {
    let mut sha256 = Context::new(&SHA256);
    for part in [
        content.text(),
        content.image_url(),
        content.link_preview_url(),
    ] {
        // The lengths separate the parts. A missing part differs from an empty one.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        sha256.update(&length.to_be_bytes());
        sha256.update(part.unwrap_or_default().as_bytes());
    }
    sha256.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_has_1_to_64_visible_ascii_characters_without_commas() {
        for good in ["a", "!~", &"k".repeat(64)] {
            assert!(good.parse::<IdempotencyKey>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "a b",
            "é",
            "a\n",
            "\u{7f}",
            ",",
            "k1,k1",
            &"k".repeat(65),
        ] {
            assert_eq!(
                bad.parse::<IdempotencyKey>(),
                Err(InvalidIdempotencyKey),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_same_text_in_another_field_is_another_message() {
        let url = || Some("https://a.example".to_owned());
        let as_image = MessageContent::new(None, url(), None).unwrap();
        let as_preview = MessageContent::new(None, None, url()).unwrap();
        let as_text = MessageContent::new(url(), None, None).unwrap();
        assert_ne!(digest(&as_image), digest(&as_preview));
        assert_ne!(digest(&as_image), digest(&as_text));
        assert_eq!(digest(&as_image), digest(&as_image.clone()));
    }
}
