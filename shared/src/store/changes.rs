//! Editing and deleting messages, and the list of changes.
//!
//! A change of a message is one transaction: the chat (its `rev`, the unread count of the recipient if an unread
//! message is deleted, the preview if the message is the last one), the message, a [`ChangeItem`] for clients that
//! were offline, a [`PreviousContentItem`] for operators, and the total if an unread message is deleted.
//!
//! The previous content is an item of its own, although it costs 2 units: it must disappear after 30 days, while a
//! change is kept for 90 days, and the table's TTL deletes whole items.

use std::collections::HashMap;

use super::{
    KeyQuery, MAX_BATCH_KEYS, Store,
    items::{ChangeItem, ChatItem, MessageItem, PreviewItem, PreviousContentItem, TotalsItem},
    retry::{MAX_REREADS, not_readable_yet},
    transaction::{Write, nothing_to_write, number},
    update::{ItemUpdate, absent_if_zero},
};
use crate::{
    Error,
    domain::{Chat, ChatId, ContentChange, Message, Rev, Seq, Timestamp, UserId},
};

/// The number of changes that are read at once when the first ones do not fill a page. It grows, so that a chat with
/// very many changes needs few queries.
const MIN_CHANGES_AGAIN: usize = 500;
/// The maximum of that number: about 1 MB, which is what a query reads at once.
const MAX_CHANGES_AGAIN: usize = 8_000;

/// A message after it was edited or deleted.
pub struct MessageOutcome {
    /// The message.
    pub message: Message,
    /// Whether its recipient has read it.
    pub is_read: bool,
}

/// The start of a page of changes: the changes after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangesStart(pub Rev);

/// A page of changed messages.
pub struct ChangePage {
    /// The chat.
    pub chat: Chat,
    /// The messages, as they are now, in the order of their last change.
    pub messages: Vec<Message>,
    /// The start of the next page, or `None` at the end.
    pub next: Option<Rev>,
}

impl Store {
    /// `by` edits a message. `seq` is `None` if no message can have the number in the path.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::MessageNotFound`]; [`Error::InvalidRequest`] if nothing would remain;
    /// [`Error::NotEnabled`]; the errors of [`Chat::edit`].
    pub async fn edit_message(
        &self,
        by: UserId,
        id: ChatId,
        seq: Option<Seq>,
        change: &ContentChange,
    ) -> Result<MessageOutcome, Error> {
        let window = self.table.edit_window;
        self.change_message(id, seq, |chat, message, now| {
            Ok(chat.edit(by, message, change, window, now)?)
        })
        .await
    }

    /// `by` deletes a message. `seq` is `None` if no message can have the number in the path.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::MessageNotFound`]; [`Error::NotEnabled`]; the errors of [`Chat::delete`].
    pub async fn delete_message(
        &self,
        by: UserId,
        id: ChatId,
        seq: Option<Seq>,
    ) -> Result<MessageOutcome, Error> {
        let window = self.table.delete_window;
        self.change_message(id, seq, |chat, message, now| {
            Ok(chat.delete(by, message, window, now)?)
        })
        .await
    }

    /// An operator deletes a message of any user, at any time.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::MessageNotFound`].
    pub async fn delete_message_as_operator(
        &self,
        id: ChatId,
        seq: Seq,
    ) -> Result<MessageOutcome, Error> {
        self.change_message(id, Some(seq), |chat, message, now| {
            Ok(chat.delete(message.sender, message, None, now)?)
        })
        .await
    }

    /// Changes a message. `change` returns the new message, or `None` if nothing changes.
    async fn change_message(
        &self,
        id: ChatId,
        seq: Option<Seq>,
        change: impl Fn(&Chat, &Message, Timestamp) -> Result<Option<Message>, Error>,
    ) -> Result<MessageOutcome, Error> {
        const STATE: usize = 0;
        const MESSAGE: usize = 1;

        let Some(seq) = seq else {
            self.get_chat(id).await?;
            return Err(Error::MessageNotFound);
        };
        self.require_safety_features()?;
        let (mut chat, message) = tokio::try_join!(self.get_chat(id), self.message(id, seq))?;
        let mut message = self.require_message(&chat, seq, message).await?;
        loop {
            let outcome = |message| MessageOutcome {
                is_read: chat.is_read(&message),
                message,
            };
            if change(&chat, &message, self.now())?.is_none() {
                return Ok(outcome(message));
            }
            let written = self.transact_planned(|now| {
                let after = change(&chat, &message, now)?;
                let after = after.ok_or_else(nothing_to_write)?;
                let writes = self.change_writes(&chat, &message, &after, now)?;
                Ok((writes, after))
            });
            let mut failures = match written.await? {
                Ok(after) => return Ok(outcome(after)),
                Err(failures) => failures,
            };
            // If only the chat is reported, the message may have changed, too. Then its condition fails next time.
            if let Some(item) = failures.take_old_item(MESSAGE) {
                message = MessageItem::read(item, id)?;
            }
            if let Some(item) = failures.take_old_item(STATE) {
                chat = self.read_chat(item)?;
            }
            if failures.was_chat_read_again() {
                // A change of the message decides before the state of the chat.
                let current = self.message(id, seq).await?;
                message = self.require_message(&chat, seq, current).await?;
            }
        }
    }

    /// The message `seq` of a chat, if it exists. `message` is its item, if it is readable.
    pub(super) async fn require_message(
        &self,
        chat: &Chat,
        seq: Seq,
        message: Option<Message>,
    ) -> Result<Message, Error> {
        if seq > chat.seq() {
            return Err(Error::MessageNotFound);
        }
        let message = match message {
            Some(message) => Some(message),
            None => self.wait_for_message(chat.id, seq).await?,
        };
        message.ok_or(Error::MessageNotFound)
    }

    fn change_writes(
        &self,
        chat: &Chat,
        before: &Message,
        after: &Message,
        now: Timestamp,
    ) -> Result<Vec<Write>, Error> {
        let id = chat.id;
        let recipient = id.peer_of(before.sender);
        let state = chat.member_state(recipient);
        let (unread, read_seq) = ChatItem::member_attributes(id, recipient);
        let is_unread = before.seq > state.read_seq;
        let lowers_unread = after.deleted_at.is_some() && is_unread;
        let lowers_total = lowers_unread && state.held == 0;

        let mut update = ItemUpdate::default();
        update.require("rev", absent_if_zero(chat.rev().get()).as_ref());
        update.require("v", absent_if_zero(chat.blocks.version).as_ref());
        update.set("rev", Some(number(after.rev)));
        if is_unread {
            // The response says whether the message is read, and a deletion counts on it.
            update.require_that(read_seq, "<", number(before.seq));
        }
        if lowers_total {
            update.add(unread, -1);
        } else if lowers_unread {
            // Only changes of messages and of blocks change this count, and the conditions exclude both.
            let held = ChatItem::held_attribute(id, recipient);
            update.set(held, absent_if_zero(state.held - 1));
        }
        if before.seq == chat.seq() {
            // A message that was sent in between must remain the last one.
            update.require("seq", Some(&number(before.seq)));
            let preview = PreviewItem::new(&after.preview()).write()?;
            update.set("lastMessage", Some(preview));
        }

        let mut message = ItemUpdate::default();
        message.require("senderId", Some(&number(before.sender.get())));
        message.require("rev", absent_if_zero(before.rev.get()).as_ref());
        message.change_to(&MessageItem::write(before)?, &MessageItem::write(after)?);

        let mut writes = vec![
            self.update_item(ChatItem::key(id), &update),
            self.update_item(MessageItem::key(id, before.seq), &message),
            self.insert(ChangeItem::write(after, now)?),
            self.insert(PreviousContentItem::write(before, after.rev, now)?),
        ];
        if lowers_total {
            writes.push(self.count_total(TotalsItem::UNREAD, recipient, id, -1));
        }
        Ok(writes)
    }

    /// A page of the messages that were changed after a `rev`, each once, as it is now, in the order of its last
    /// change.
    ///
    /// The state of the chat is read first. A message that was changed again later is skipped: the client gets it at
    /// its last change, on a later page or when it asks for the changes after this `rev`.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::ChangesExpired`].
    pub async fn list_changes(
        &self,
        id: ChatId,
        start: ChangesStart,
        limit: usize,
    ) -> Result<ChangePage, Error> {
        let chat = self.get_chat(id).await?;
        let ChangesStart(mut after) = start;
        let mut messages = Vec::with_capacity(limit);
        let (mut max_changes, mut max_messages) = (limit, limit);
        while messages.len() < limit && after < chat.rev() {
            let changes = self.changes_after(&chat, after, max_changes).await?;
            for changes in last_changes(changes).chunks(max_messages) {
                for (rev, message) in self.changed_messages(id, changes).await? {
                    if messages.len() < limit {
                        messages.extend(message);
                        after = rev;
                    }
                }
                if messages.len() == limit {
                    break;
                }
            }
            // Most pages are full now. Otherwise messages were changed again, perhaps many times.
            max_changes = (max_changes * 4).clamp(MIN_CHANGES_AGAIN, MAX_CHANGES_AGAIN);
            max_messages = MAX_BATCH_KEYS;
        }
        let next = (after < chat.rev()).then_some(after);
        Ok(ChangePage {
            chat,
            messages,
            next,
        })
    }

    /// Up to `max_items` changes after `after`. The numbers of changes have no gaps, so a missing number is a change that
    /// has expired, or one that is not readable yet: the items of a transaction become readable at different times.
    async fn changes_after(
        &self,
        chat: &Chat,
        after: Rev,
        max_items: usize,
    ) -> Result<Vec<(Rev, ChangeItem)>, Error> {
        let expected = (chat.rev().get() - after.get()).min(max_items as u64);
        for _ in 0..=MAX_REREADS {
            let (first, last) = (ChangeItem::sk(after.next()), ChangeItem::sk(chat.rev()));
            let query = KeyQuery::between(chat.id, first, last);
            let items = self.query(query, max_items).await?.into_iter();
            let changes: Vec<_> = items
                .map(ChangeItem::read_with_rev)
                .collect::<Result<_, _>>()?;
            let first = changes.first().filter(|(rev, _)| *rev == after.next());
            if let Some((_, first)) = first {
                if first.expires_at <= self.now().seconds() {
                    return Err(Error::ChangesExpired);
                }
                if is_dense(&changes) && changes.len() as u64 == expected {
                    return Ok(changes);
                }
            } else {
                // Either it has expired, or it is not readable yet. A transaction knows.
                let check = self.require_absent(ChangeItem::key(chat.id, after.next()));
                if self.transact(vec![check]).await?.is_ok() {
                    return Err(Error::ChangesExpired);
                }
            }
            self.wait_before_retry().await;
        }
        Err(not_readable_yet())
    }

    /// For each change its message, or `None` if the message was changed again later. Each message occurs once in
    /// `changes`.
    async fn changed_messages(
        &self,
        id: ChatId,
        changes: &[(Rev, ChangeItem)],
    ) -> Result<Vec<(Rev, Option<Message>)>, Error> {
        let mut found: HashMap<u64, Message> = HashMap::new();
        for attempt in 0..=MAX_REREADS {
            // The change can be readable earlier than the message of the same transaction.
            let is_missing = |(rev, change): &&(Rev, ChangeItem)| {
                let message = found.get(&change.seq);
                message.is_none_or(|message| message.rev < *rev)
            };
            let missing: Vec<_> = changes.iter().filter(is_missing).collect();
            if missing.is_empty() {
                break;
            }
            if attempt == MAX_REREADS {
                let is_recent = |change: &ChangeItem| {
                    self.may_be_half_readable(Timestamp::from_millis(change.at))
                };
                if missing.iter().any(|(_, change)| is_recent(change)) {
                    return Err(not_readable_yet());
                }
                // Somebody has deleted or replaced an item.
                break;
            }
            if attempt > 0 {
                self.wait_before_retry().await;
            }
            let keys = missing
                .iter()
                .map(|(_, change)| MessageItem::key(id, Seq::new(change.seq)));
            for item in self.batch_get(keys.collect()).await? {
                let message = MessageItem::read(item, id)?;
                found.insert(message.seq.get(), message);
            }
        }
        let message = |(rev, change): &(Rev, ChangeItem)| {
            let message = found.remove(&change.seq);
            (*rev, message.filter(|message| message.rev <= *rev))
        };
        Ok(changes.iter().map(message).collect())
    }
}

fn is_dense(changes: &[(Rev, ChangeItem)]) -> bool {
    let mut pairs = changes.iter().zip(changes.iter().skip(1));
    pairs.all(|((rev, _), (next, _))| rev.next() == *next)
}

/// The changes that are the last one of their message among `changes`.
fn last_changes(mut changes: Vec<(Rev, ChangeItem)>) -> Vec<(Rev, ChangeItem)> {
    let last: HashMap<u64, Rev> = changes
        .iter()
        .map(|(rev, change)| (change.seq, *rev))
        .collect();
    changes.retain(|(rev, change)| last.get(&change.seq) == Some(rev));
    changes
}
