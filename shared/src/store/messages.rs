use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use ring::digest::{Context, SHA256};

use super::{
    Range, Store,
    items::{Activity, ChatItem, KeyItem, MessageItem, SummaryItem, TotalsItem},
    read_chat,
    transaction::{Backoff, Write, number},
};
use crate::{
    Error,
    domain::{Chat, ChatId, Content, MAX_INTEGER, Message, Seq, UserId},
};

/// How long an idempotency key is good.
const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// How often what is not yet readable of a transaction is read again: for a second on average.
const REREADS: usize = 8;
/// After this time all of a transaction is readable.
const LONGEST_COMMIT: Duration = Duration::from_secs(10);

/// The caller's name for one message, so that sending it again does not send it twice: 1 to 64
/// visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Not an idempotency key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`Idempotency-Key` must have 1 to 64 visible ASCII characters")]
pub struct InvalidKey;

impl IdempotencyKey {
    /// Most characters that a key may have.
    pub const MAX_LENGTH: usize = 64;
}

impl std::str::FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(key: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=Self::MAX_LENGTH).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic());
        if fits {
            Ok(Self(key.to_owned()))
        } else {
            Err(InvalidKey)
        }
    }
}

/// What sending came to.
pub enum Sent {
    /// The message was accepted.
    New(Message),
    /// It was accepted before, under the same key.
    Replayed {
        /// The message as it was accepted.
        message: Message,
        /// Whether its recipient has read it since.
        read: bool,
    },
}

/// Where a page of messages begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagesFrom {
    /// After this many of the newest, newest first.
    Skip(u64),
    /// Before this one, newest first.
    Before(Seq),
    /// After this one, oldest first.
    After(Seq),
}

/// Some messages of a chat.
pub struct MessagePage {
    /// The chat, with the watermarks that say what has been read.
    pub chat: Chat,
    /// The messages.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<MessagesFrom>,
}

impl MessagePage {
    /// Of what was read: nothing that is newer than the chat's state.
    fn new(chat: Chat, mut messages: Vec<Message>, from: MessagesFrom, limit: usize) -> Self {
        messages.retain(|message| message.seq <= chat.seq());
        let last = messages.last().map(|message| message.seq);
        let next = match from {
            MessagesFrom::After(_) => last
                .filter(|last| messages.len() == limit && *last < chat.seq())
                .map(MessagesFrom::After),
            MessagesFrom::Skip(_) | MessagesFrom::Before(_) => {
                last.filter(|last| last.get() > 1).map(MessagesFrom::Before)
            }
        };
        Self {
            chat,
            messages,
            next,
        }
    }

    /// Whether it holds each message of its range: as the chat was when its state was read.
    fn is_whole(&self, from: MessagesFrom, limit: usize) -> bool {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let newest = self.chat.seq();
        let available = match from {
            MessagesFrom::Skip(skip) => newest.back(skip),
            MessagesFrom::Before(seq) => newest.min(seq.back(1)),
            MessagesFrom::After(seq) => newest.back(seq.get()),
        };
        self.messages.len() as u64 == limit.min(available.get())
    }
}

impl Store {
    /// Accepts a message into a chat as its next.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`crate::domain::Refusal::ChatNotActive`];
    /// [`Error::IdempotencyKeyReused`] when another message was sent under the key.
    pub async fn send_message(
        &self,
        sender: UserId,
        id: ChatId,
        content: Content,
        key: Option<&IdempotencyKey>,
    ) -> Result<Sent, Error> {
        const STATE: usize = 0;
        const KEY: usize = 3;

        let hash = key.map(|_| digest(&content));
        let mut chat = self.chat(id).await?.ok_or(Error::ChatNotFound)?;
        loop {
            // No key can have been used in a chat that is not active: once active, it stays so.
            let seq = chat.conversation()?.seq.next();
            let created_at = chat.not_before_last_change(self.now);
            let message = Message {
                chat_id: id,
                seq,
                sender,
                content: content.clone(),
                created_at,
            };
            let mut writes = vec![
                self.append(&chat, &message)?,
                self.insert(MessageItem::write(&message)?),
                self.count_total(TotalsItem::UNREAD, id.peer_of(sender), id, 1),
            ];
            if let (Some(key), Some(hash)) = (key, &hash) {
                writes.push(self.remember(&message, key, hash)?);
            }
            let Err(mut refused) = self.transact(writes).await? else {
                return Ok(Sent::New(message));
            };
            if refused.failed(STATE) {
                chat = refused
                    .old_item(STATE)
                    .map(read_chat)
                    .ok_or(Error::ChatNotFound)??;
            }
            // When the key and the seq are both taken, the key decides: the message is there.
            if let (Some(taken), Some(hash)) = (refused.old_item(KEY), &hash) {
                return self.replay(&chat, &KeyItem::read(taken)?, hash).await;
            }
        }
    }

    /// Marks all messages of the chat's other member as read by `reader`.
    ///
    /// Conditional on the unread count, because that is what the total is lowered by. The watermark is
    /// set to the `seq` that the chat has when it is marked, not to one that was read before: so the
    /// count and the watermark belong together, whatever other devices marked and however many messages
    /// came in between.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`].
    pub async fn mark_messages_read(&self, reader: UserId, id: ChatId) -> Result<(), Error> {
        const STATE: usize = 0;

        let mut chat = self.chat(id).await?.ok_or(Error::ChatNotFound)?;
        loop {
            let before = chat.member(reader);
            if before.unread == 0 {
                return Ok(());
            }
            let (unread, read_seq) = ChatItem::member_attributes(id, reader);
            let mark = self.update(
                ChatItem::key(id),
                "SET #unread = :none, #readSeq = seq",
                Some("#unread = :unread"),
                &[("#unread", unread), ("#readSeq", read_seq)],
                vec![(":none", number(0)), (":unread", number(before.unread))],
            );
            let read = i64::try_from(before.unread).unwrap_or(i64::MAX);
            let writes = vec![
                mark,
                self.count_total(TotalsItem::UNREAD, reader, id, -read),
            ];
            let Err(mut refused) = self.transact(writes).await? else {
                return Ok(());
            };
            chat = refused
                .old_item(STATE)
                .map(read_chat)
                .ok_or(Error::ChatNotFound)??;
        }
    }

    /// A page of a chat's messages: all of its range, as it was when the chat's state was read.
    ///
    /// State and messages are several items. They are read at different instants, and DynamoDB writes
    /// the items of a transaction together but not at one instant, so that a message can be readable
    /// a moment before the one before it. Messages never change, so the page is right once it holds
    /// every message that the state knows of and none that it does not. Until then they are read again:
    /// who catches up with `after` would never see what was not there. A gap that stays is served:
    /// somebody deleted a message.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`].
    pub async fn list_messages(
        &self,
        id: ChatId,
        from: MessagesFrom,
        limit: usize,
    ) -> Result<MessagePage, Error> {
        let (chat, messages) = match from {
            MessagesFrom::Skip(0) => self.newest(id, limit).await?,
            MessagesFrom::Skip(_) => {
                let chat = self.chat(id).await?.ok_or(Error::ChatNotFound)?;
                let messages = self.range(id, from, chat.seq(), limit).await?;
                (chat, messages)
            }
            MessagesFrom::Before(_) | MessagesFrom::After(_) => {
                let messages = self.range(id, from, Seq::new(MAX_INTEGER), limit);
                let (chat, messages) = tokio::try_join!(self.chat(id), messages)?;
                (chat.ok_or(Error::ChatNotFound)?, messages)
            }
        };
        let settled = chat.updated_at + LONGEST_COMMIT <= self.now;
        let mut page = MessagePage::new(chat, messages, from, limit);
        let mut backoff = Backoff::new();
        for _ in 0..REREADS {
            if settled || page.is_whole(from, limit) {
                break;
            }
            backoff.wait().await;
            let messages = self.range(id, from, page.chat.seq(), limit).await?;
            page = MessagePage::new(page.chat, messages, from, limit);
        }
        Ok(page)
    }

    /// The messages of a page of a chat that has messages up to `newest`.
    async fn range(
        &self,
        id: ChatId,
        from: MessagesFrom,
        newest: Seq,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let first = Seq::new(1);
        let (first, last, ascending) = match from {
            MessagesFrom::Skip(skip) => (first, newest.back(skip), false),
            MessagesFrom::Before(seq) => (first, newest.min(seq.back(1)), false),
            MessagesFrom::After(seq) => (seq.next(), newest, true),
        };
        self.messages(id, first, last, ascending, limit).await
    }

    /// The chat and its newest messages: one range of one partition, downwards from its state.
    async fn newest(&self, id: ChatId, limit: usize) -> Result<(Chat, Vec<Message>), Error> {
        let range = Range {
            index: None,
            condition: "pk = :pk AND sk >= :lowest",
            values: vec![
                (":pk", MessageItem::pk(id)),
                (":lowest", MessageItem::LOWEST.to_owned()),
            ],
            ascending: false,
        };
        let mut items = self.query(range, limit + 1).await?.into_iter();
        let state = items
            .next()
            .filter(ChatItem::is)
            .ok_or(Error::ChatNotFound)?;
        let messages = items
            .map(|item| MessageItem::read(item, id))
            .collect::<Result<_, _>>()?;
        Ok((read_chat(state)?, messages))
    }

    /// Up to `limit` messages from `first` to `last`, both included.
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
        let range = Range {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", MessageItem::pk(id)),
                (":first", MessageItem::sk(first)),
                (":last", MessageItem::sk(last)),
            ],
            ascending,
        };
        let items = self.query(range, limit).await?;
        items
            .into_iter()
            .map(|item| MessageItem::read(item, id))
            .collect()
    }

    /// Makes a message the chat's last, unless another came first.
    fn append(&self, chat: &Chat, message: &Message) -> Result<Write, Error> {
        let (unread, _) = ChatItem::member_attributes(chat.id, chat.id.peer_of(message.sender));
        let activity = Activity::at(message.created_at, chat.id);
        Ok(self.update(
            ChatItem::key(chat.id),
            "SET seq = :next, #unread = #unread + :one, lastMessage = :summary, \
             updatedAt = :now, activity = :activity",
            Some("seq = :seq AND #status = :active"),
            &[("#unread", unread), ("#status", "status")],
            vec![
                (":next", number(message.seq)),
                (":one", number(1)),
                (":summary", SummaryItem::new(&message.summary()).write()?),
                (":now", number(message.created_at.millis())),
                (":activity", AttributeValue::S(activity.to_string())),
                (":seq", number(chat.seq())),
                (":active", AttributeValue::S(ChatItem::ACTIVE.to_owned())),
            ],
        ))
    }

    /// Takes an idempotency key for a message, unless it is taken. One that has expired is free even
    /// before the table's TTL deletes it.
    fn remember(
        &self,
        message: &Message,
        key: &IdempotencyKey,
        hash: &[u8],
    ) -> Result<Write, Error> {
        let expires_at = self.now + KEY_LIFETIME;
        let (chat, sender) = (message.chat_id, message.sender);
        Ok(self.put(
            KeyItem::write(chat, sender, &key.0, message.seq, hash, expires_at)?,
            "attribute_not_exists(pk) OR expiresAt <= :now",
            &[],
            vec![(":now", number(self.now.seconds()))],
        ))
    }

    async fn replay(&self, chat: &Chat, taken: &KeyItem, hash: &[u8]) -> Result<Sent, Error> {
        if taken.hash != hash {
            return Err(Error::IdempotencyKeyReused);
        }
        let place = MessageItem::key(chat.id, Seq::new(taken.seq));
        let mut found = self.get(place.clone()).await?;
        // The key may be readable a moment before the message that came with it.
        let mut backoff = Backoff::new();
        for _ in 0..REREADS {
            if found.is_some() {
                break;
            }
            backoff.wait().await;
            found = self.get(place.clone()).await?;
        }
        let found = found.ok_or_else(|| Error::Internal("a key without its message".into()))?;
        let message = MessageItem::read(found, chat.id)?;
        let read = chat.has_been_read(&message);
        Ok(Sent::Replayed { message, read })
    }
}

/// A digest of what a message says, not of the bytes it was sent as.
fn digest(content: &Content) -> Vec<u8> {
    let mut sha256 = Context::new(&SHA256);
    for part in [
        content.text(),
        content.image_url(),
        content.link_preview_url(),
    ] {
        // Lengths keep the parts apart; a missing one differs from an empty one.
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
    fn an_idempotency_key_has_1_to_64_visible_ascii_characters() {
        for good in ["a", "!~", &"k".repeat(64)] {
            assert!(good.parse::<IdempotencyKey>().is_ok(), "{good:?}");
        }
        for bad in ["", " ", "a b", "é", "a\n", "\u{7f}", &"k".repeat(65)] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(InvalidKey), "{bad:?}");
        }
    }

    #[test]
    fn the_same_words_in_another_field_are_another_message() {
        let url = || Some("https://a.example".to_owned());
        let as_image = Content::new(None, url(), None).unwrap();
        let as_preview = Content::new(None, None, url()).unwrap();
        let as_text = Content::new(url(), None, None).unwrap();
        assert_ne!(digest(&as_image), digest(&as_preview));
        assert_ne!(digest(&as_image), digest(&as_text));
        assert_eq!(digest(&as_image), digest(&as_image.clone()));
    }
}
