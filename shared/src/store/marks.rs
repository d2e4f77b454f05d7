//! Marking messages as read.

use super::{
    KeyQuery, Store,
    items::{ChangeItem, ChatItem, MessageItem, MessageSummary, TotalsItem},
    messages::MAX_REREADS,
    transaction::{Write, number},
    update::{ItemUpdate, absent_if_zero},
};
use crate::{
    Error,
    domain::{Chat, ChatId, MemberState, Seq, UserId},
};

/// Maximum number of messages after the last one that is marked. They are counted.
const MAX_REMAINING: u64 = 1_000;
/// The number of changes that are compared with the messages. Changes of a chat are applied one after the other, so
/// only the latest ones can be half readable.
const RECENT_CHANGES: usize = 20;

impl Store {
    /// Marks messages of the other member as read by `reader`: all of them, or those up to `up_to`.
    ///
    /// - **All**: the transaction is conditional on the unread count, because the total decreases by it. It sets the
    ///   watermark to the `seq` of the chat at the time of the write, not to a `seq` that was read earlier. The count
    ///   and the watermark are therefore consistent, even if other devices mark messages and new messages arrive at
    ///   the same time.
    /// - **Up to a message**: the messages after it are counted. The transaction is conditional on everything that
    ///   the count depends on: `seq`, `rev`, the blocks, the unread count and the watermark. With the unread count
    ///   alone, a late mark could move the watermark back if only own messages lie between two marks.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::InvalidRequest`] if `up_to` is beyond the newest message, or too far before
    /// it; the errors of [`Chat::mark_read`]; [`Error::NotEnabled`] with `up_to`.
    pub async fn mark_messages_read(
        &self,
        reader: UserId,
        id: ChatId,
        up_to: Option<Seq>,
    ) -> Result<(), Error> {
        const STATE: usize = 0;

        if up_to.is_some() {
            self.require_safety_features()?;
        }
        let mut chat = self.get_chat(id).await?;
        loop {
            let before = chat.member_state(reader);
            let last = up_to.filter(|last| *last > before.read_seq && before.unread_count() > 0);
            check_range(&chat, up_to, last)?;
            chat.mark_read(reader)?;
            if before.unread == 0 || (up_to.is_some() && last.is_none()) {
                return Ok(());
            }
            let remaining = match last {
                Some(last) => self.count_unread_after(&chat, reader, last).await?,
                None => 0,
            };
            let marked = before.unread.saturating_sub(remaining);
            if marked == 0 {
                return Ok(());
            }
            let written = self.transact_planned(|_| {
                let mark = self.mark(&chat, reader, last, before, remaining);
                let change = -i64::try_from(marked).unwrap_or(i64::MAX);
                let count = self.count_total(TotalsItem::UNREAD, reader, id, change);
                Ok((vec![mark, count], ()))
            });
            let Err(mut failures) = written.await? else {
                return Ok(());
            };
            chat = failures
                .take_old_item(STATE)
                .map(|item| self.read_chat(item))
                .ok_or(Error::ChatNotFound)??;
        }
    }

    fn mark(
        &self,
        chat: &Chat,
        reader: UserId,
        last: Option<Seq>,
        before: MemberState,
        remaining: u64,
    ) -> Write {
        let (unread, read_seq) = ChatItem::member_attributes(chat.id, reader);
        let mut update = ItemUpdate::default();
        update.require(unread, Some(&number(before.unread)));
        update.require("v", absent_if_zero(chat.blocks.version).as_ref());
        update.set(unread, Some(number(remaining)));
        match last {
            Some(last) => {
                update.require("seq", Some(&number(chat.seq())));
                update.require("rev", absent_if_zero(chat.rev().get()).as_ref());
                update.require(read_seq, Some(&number(before.read_seq)));
                update.set(read_seq, Some(number(last)));
            }
            None => update.copy(read_seq, "seq"),
        }
        self.update_item(ChatItem::key(chat.id), &update)
    }

    /// The number of messages after `last` that `reader` has not read and that are not deleted, consistent with the
    /// state of the chat.
    ///
    /// The messages are read later than the chat, and the items of a transaction become readable at different
    /// times. A change of the chat after it was read makes the transaction fail. A message that the state already
    /// includes, and a deletion that it already includes, must be seen: so the messages must be complete, and must
    /// not be older than the latest changes.
    async fn count_unread_after(
        &self,
        chat: &Chat,
        reader: UserId,
        last: Seq,
    ) -> Result<u64, Error> {
        let expected = chat.seq().get() - last.get();
        if expected == 0 {
            return Ok(0);
        }
        let mut messages = Vec::new();
        for _ in 0..=MAX_REREADS {
            let read = self.messages_after(chat, last);
            let changes;
            (messages, changes) = tokio::try_join!(read, self.recent_changes(chat))?;
            let is_current = |change: &ChangeItem| {
                change.seq <= last.get()
                    || messages.iter().any(|message: &MessageSummary| {
                        message.seq().get() == change.seq
                            && ChangeItem::rev(&change.sk)
                                .is_some_and(|rev| message.rev >= rev.get())
                    })
            };
            let newest = changes
                .first()
                .and_then(|change| ChangeItem::rev(&change.sk));
            if messages.len() as u64 == expected
                && newest.unwrap_or_default() == chat.rev()
                && changes.iter().all(is_current)
            {
                break;
            }
            self.wait_before_retry().await;
        }
        let is_unread = |message: &&MessageSummary| {
            message.sender_id != reader.get() && message.deleted_at.is_none()
        };
        Ok(messages.iter().filter(is_unread).count() as u64)
    }

    async fn messages_after(&self, chat: &Chat, last: Seq) -> Result<Vec<MessageSummary>, Error> {
        let query = KeyQuery {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", MessageItem::pk(chat.id)),
                (":first", MessageItem::sk(last.next())),
                (":last", MessageItem::sk(chat.seq())),
            ],
            ascending: true,
            projection: Some(MessageSummary::ATTRIBUTES),
        };
        let max_items = usize::try_from(MAX_REMAINING).unwrap_or(usize::MAX);
        let items = self.query(query, max_items).await?.into_iter();
        items.map(MessageSummary::read).collect()
    }

    /// The latest changes that the state of the chat includes, latest first.
    async fn recent_changes(&self, chat: &Chat) -> Result<Vec<ChangeItem>, Error> {
        if chat.rev().get() == 0 {
            return Ok(Vec::new());
        }
        let query = KeyQuery {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", MessageItem::pk(chat.id)),
                (":first", ChangeItem::SK_PREFIX.to_owned()),
                (":last", ChangeItem::sk(chat.rev())),
            ],
            ascending: false,
            projection: None,
        };
        let items = self.query(query, RECENT_CHANGES).await?.into_iter();
        items.map(ChangeItem::read).collect()
    }
}

/// `last` is `up_to`, if there is something to mark.
fn check_range(chat: &Chat, up_to: Option<Seq>, last: Option<Seq>) -> Result<(), Error> {
    let newest = chat.seq();
    if up_to.is_some_and(|up_to| up_to > newest) {
        return Err(Error::invalid(format!(
            "`seq` must be at most {newest}, the newest message of the chat"
        )));
    }
    if last.is_some_and(|last| newest.get() - last.get() > MAX_REMAINING) {
        return Err(Error::invalid(format!(
            "`seq` must be one of the newest {MAX_REMAINING} messages or newer; omit it to mark all"
        )));
    }
    Ok(())
}
