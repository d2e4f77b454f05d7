//! Marking messages as read.

use std::collections::HashMap;

use super::{
    KeyQuery, Store,
    items::{ChangeItem, ChatItem, MessageItem, MessageSummary, TotalsItem},
    retry::not_readable_yet,
    transaction::{Write, number},
    update::{ItemUpdate, absent_if_zero},
};
use crate::{
    Error,
    domain::{Chat, ChatId, MemberState, Rev, Seq, Timestamp, UserId},
};

/// Maximum number of messages after the last one that is marked. They are counted.
const MAX_REMAINING: u64 = 1_000;
/// The number of changes that are read first, and again if all of them are recent. One chat accepts some 40 changes per
/// second, because each of them locks the state of the chat for about 25 ms.
const RECENT_CHANGES: [usize; 2] = [20, 500];

impl Store {
    /// Marks messages of the other member as read by `reader`: all of them, or those up to `up_to`.
    ///
    /// - **All**: the transaction is conditional on the unread count, because the total decreases by it. It sets the
    ///   watermark to the `seq` of the chat at the time of the write, not to a `seq` that was read earlier. The count
    ///   and the watermark are therefore consistent, even if other devices mark messages and new messages arrive at
    ///   the same time.
    /// - **Up to a message**: the messages after it are counted, because they are fewer than those before it. The
    ///   difference is subtracted from the unread count and the total. It depends on the watermark, on `rev` and on
    ///   the blocks, so the transaction is conditional on them. It does not depend on messages that arrive later,
    ///   so a mark does not fail while the other member writes.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`]; [`Error::InvalidRequest`] if `up_to` is beyond the newest message, or too far before
    /// it; the errors of [`Chat::check_mark_read`]; [`Error::NotEnabled`] with `up_to`.
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
        let mut counted: Option<Counted> = None;
        loop {
            let before = chat.member_state(reader);
            let last = up_to.filter(|last| *last > before.read_seq && before.unread_count() > 0);
            check_range(&chat, up_to, last)?;
            chat.check_mark_read(reader)?;
            if before.unread == 0 || (up_to.is_some() && last.is_none()) {
                return Ok(());
            }
            let basis = (chat.rev(), before.read_seq, chat.blocks.version);
            // New messages do not change what was counted.
            let known = counted.take().filter(|counted| counted.basis == basis);
            let current = if let Some(known) = known {
                known
            } else {
                let remaining = match last {
                    Some(last) => self.count_unread_after(&chat, reader, last).await?,
                    None => Remaining::default(),
                };
                Counted {
                    basis,
                    marked: before.unread.saturating_sub(remaining.unread),
                    missing_change: remaining.missing_change,
                }
            };
            let marked = current.marked;
            let missing_change = current
                .missing_change
                .map(|rev| self.require_absent(ChangeItem::key(id, rev)));
            if marked == 0 {
                let Some(check) = missing_change else {
                    return Ok(());
                };
                // Nothing to mark, if the missing change has expired.
                match self
                    .transact_planned(|_| Ok((vec![check.clone()], ())))
                    .await?
                {
                    Ok(()) => return Ok(()),
                    Err(_) => continue,
                }
            }
            let written = self.transact_planned(|_| {
                let change = -i64::try_from(marked).unwrap_or(i64::MAX);
                let mut writes = vec![
                    self.mark(&chat, reader, last, before, change),
                    self.count_total(TotalsItem::UNREAD, reader, id, change),
                ];
                writes.extend(missing_change.clone());
                Ok((writes, ()))
            });
            let Err(mut failures) = written.await? else {
                return Ok(());
            };
            if last.is_some() && failures.was_chat_read_again() {
                counted = Some(current);
            }
            // If only the change was readable too late, the chat has not changed.
            if failures.failed(STATE) {
                chat = failures
                    .take_old_item(STATE)
                    .map(|item| self.read_chat(item))
                    .ok_or(Error::ChatNotFound)??;
            }
        }
    }

    fn mark(
        &self,
        chat: &Chat,
        reader: UserId,
        last: Option<Seq>,
        before: MemberState,
        change: i64,
    ) -> Write {
        let (unread, read_seq) = ChatItem::member_attributes(chat.id, reader);
        let mut update = ItemUpdate::default();
        update.require("v", absent_if_zero(chat.blocks.version).as_ref());
        if let Some(last) = last {
            update.require("rev", absent_if_zero(chat.rev().get()).as_ref());
            update.require(read_seq, Some(&number(before.read_seq)));
            update.add(unread, change);
            update.set(read_seq, Some(number(last)));
        } else {
            update.require(unread, Some(&number(before.unread)));
            update.set(unread, Some(number(0)));
            update.copy(read_seq, "seq");
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
    ) -> Result<Remaining, Error> {
        let expected = chat.seq().get() - last.get();
        if expected == 0 {
            return Ok(Remaining::default());
        }
        let read = || async {
            let (messages, changes) =
                tokio::try_join!(self.messages_after(chat, last), self.recent_changes(chat))?;
            let unseen = changes.iter().find(|(rev, change)| {
                let message = messages.get(&Seq::new(change.seq));
                change.seq > last.get() && message.is_none_or(|message| message.rev < rev.get())
            });
            let unseen_at = unseen.map(|(_, change)| Timestamp::from_millis(change.at));
            Ok((messages, changes, unseen_at))
        };
        let is_complete = |(messages, _, unseen_at): &(HashMap<Seq, _>, _, Option<Timestamp>)| {
            messages.len() as u64 == expected && unseen_at.is_none()
        };
        let result = self.reread_until(read, is_complete).await?;
        let is_complete = is_complete(&result);
        let (messages, changes, unseen_at) = result;
        // A count of items that are not readable yet would stay wrong. Items that somebody has deleted stay missing.
        if !is_complete && self.may_be_half_readable(unseen_at.unwrap_or(chat.updated_at)) {
            return Err(not_readable_yet());
        }
        let is_unread = |message: &&MessageSummary| {
            message.sender_id != reader.get() && message.deleted_at.is_none()
        };
        Ok(Remaining {
            unread: messages.values().filter(is_unread).count() as u64,
            missing_change: missing_change(chat.rev(), &changes, |at| {
                self.may_be_half_readable(at)
            }),
        })
    }

    async fn messages_after(
        &self,
        chat: &Chat,
        last: Seq,
    ) -> Result<HashMap<Seq, MessageSummary>, Error> {
        let (first, last) = (MessageItem::sk(last.next()), MessageItem::sk(chat.seq()));
        let query = KeyQuery {
            projection: Some(MessageSummary::ATTRIBUTES),
            ..KeyQuery::between(chat.id, first, last)
        };
        let max_items = usize::try_from(MAX_REMAINING).unwrap_or(usize::MAX);
        let items = self.query(query, max_items).await?.into_iter();
        items.map(MessageSummary::read).collect()
    }

    /// The latest changes that the state of the chat includes, latest first: all that can be readable in part.
    async fn recent_changes(&self, chat: &Chat) -> Result<Vec<(Rev, ChangeItem)>, Error> {
        let mut changes = Vec::new();
        if chat.rev() == Rev::ZERO {
            return Ok(changes);
        }
        for max_items in RECENT_CHANGES {
            let (first, last) = (ChangeItem::SK_PREFIX.to_owned(), ChangeItem::sk(chat.rev()));
            let query = KeyQuery {
                ascending: false,
                ..KeyQuery::between(chat.id, first, last)
            };
            let items = self.query(query, max_items).await?.into_iter();
            changes = items
                .map(ChangeItem::read_with_rev)
                .collect::<Result<Vec<_>, _>>()?;
            let oldest = changes.last();
            let has_settled = oldest.is_none_or(|(_, change)| {
                !self.may_be_half_readable(Timestamp::from_millis(change.at))
            });
            if has_settled || changes.len() < max_items {
                break;
            }
        }
        Ok(changes)
    }
}

/// What a mark up to a message changes.
#[derive(Clone, Copy)]
struct Counted {
    /// What it depends on: the changes of messages, the watermark, and the blocks.
    basis: (Rev, Seq, u64),
    marked: u64,
    missing_change: Option<Rev>,
}

/// What remains unread after a mark.
#[derive(Default)]
struct Remaining {
    unread: u64,
    /// A recent change that could not be read. The transaction requires that it does not exist, because it could be the
    /// deletion of a message that was counted.
    missing_change: Option<Rev>,
}

/// The latest change that the state of the chat includes and that could not be read: either it has expired, or it is not
/// readable yet. All changes before one that is not recent are readable or expired.
fn missing_change(
    newest: Rev,
    changes: &[(Rev, ChangeItem)],
    is_recent: impl Fn(Timestamp) -> bool,
) -> Option<Rev> {
    let mut expected = newest;
    for (rev, change) in changes {
        if *rev != expected {
            return Some(expected);
        }
        if !is_recent(Timestamp::from_millis(change.at)) {
            return None;
        }
        expected = expected.previous();
    }
    let is_cut = changes.len() >= RECENT_CHANGES[1];
    (!is_cut && expected > Rev::ZERO).then_some(expected)
}

/// `last` is `up_to` if it is above the watermark and the reader has unread messages, otherwise `None`.
fn check_range(chat: &Chat, up_to: Option<Seq>, last: Option<Seq>) -> Result<(), Error> {
    let newest = chat.seq();
    if up_to.is_some_and(|up_to| up_to > newest) {
        return Err(Error::invalid(format!(
            "`seq` must be at most {newest}, the newest message of the chat"
        )));
    }
    if last.is_some_and(|last| newest.get() - last.get() > MAX_REMAINING) {
        return Err(Error::invalid(format!(
            "`seq` must be at least {}, because the messages after it are counted; omit it to mark all",
            newest.back(MAX_REMAINING)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::items::Item;
    use aws_sdk_dynamodb::types::AttributeValue;

    const NOW: u64 = 1_000_000;

    /// The changes `revs`, of which the first is `age` seconds old.
    fn changes(revs: &[u64], age: u64) -> Vec<(Rev, ChangeItem)> {
        let at = NOW - age * 1_000;
        let attribute = |name: &str, value: AttributeValue| (name.to_owned(), value);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let change = |rev: &u64| {
            let item = Item::from([
                attribute("pk", text("CHAT#17-42")),
                attribute("sk", text(&ChangeItem::sk(Rev::new(*rev)))),
                attribute("type", text(ChangeItem::ENTITY_TYPE)),
                attribute("seq", number(1)),
                attribute("at", number(at)),
                attribute("expiresAt", number(at)),
            ]);
            (Rev::new(*rev), ChangeItem::read(item).unwrap())
        };
        revs.iter().map(change).collect()
    }

    #[test]
    fn a_recent_change_that_cannot_be_read_is_missing() {
        let missing = |newest, revs: &[u64], age| {
            let changes = changes(revs, age);
            let is_recent = |at: Timestamp| at.millis() + 10_000 > NOW;
            missing_change(Rev::new(newest), &changes, is_recent).map(Rev::get)
        };
        assert_eq!(missing(0, &[], 0), None);
        assert_eq!(missing(3, &[3, 2, 1], 0), None);
        assert_eq!(missing(3, &[], 0), Some(3));
        assert_eq!(missing(3, &[2, 1], 0), Some(3));
        assert_eq!(missing(3, &[3, 1], 0), Some(2));
        assert_eq!(missing(3, &[3], 9), Some(2));
        // The newest change was 10 seconds ago, so the one before it has expired.
        assert_eq!(missing(3, &[3], 10), None);
        let newest: Vec<_> = (501..=1_000).rev().collect();
        assert_eq!(missing(1_000, &newest, 0), None);
    }
}
