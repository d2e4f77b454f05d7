//! Blocking and unblocking users.
//!
//! A block is an attribute of the chat, so that one condition protects both. It raises the version of the blocks, on
//! which every other change of the chat is conditional, and it is itself conditional on the counts that it moves.
//! The design is in `docs/architecture.md`, section "Blocks".

use super::{Store, transaction::Write};
use crate::{
    Error,
    domain::{Chat, ChatId, Timestamp, Transition, UserId},
};

impl Store {
    /// `by` blocks the other member of the pair. Returns the time of the block.
    ///
    /// # Errors
    /// [`Error::NotEnabled`], otherwise only 5xx.
    pub async fn block_user(&self, by: UserId, id: ChatId) -> Result<Timestamp, Error> {
        self.require_safety_features()?;
        let chat = self
            .change_blocks(id, |chat, now| match chat {
                None => Transition::To(Chat::new_block(id, by, now)),
                Some(chat) => chat.block(by, now),
            })
            .await?;
        let blocked_at = chat.and_then(|chat| chat.blocked_at(by));
        blocked_at.ok_or_else(|| Error::Internal("the block was not stored".into()))
    }

    /// `by` unblocks the other member of the pair.
    ///
    /// # Errors
    /// [`Error::NotEnabled`], otherwise only 5xx.
    pub async fn unblock_user(&self, by: UserId, id: ChatId) -> Result<(), Error> {
        self.require_safety_features()?;
        self.change_blocks(id, |chat, _| {
            chat.map_or(Transition::Unchanged, |chat| chat.unblock(by))
        })
        .await?;
        Ok(())
    }

    /// Applies a change of the blocks. Returns the chat afterwards.
    async fn change_blocks(
        &self,
        id: ChatId,
        change: impl Fn(Option<&Chat>, Timestamp) -> Transition,
    ) -> Result<Option<Chat>, Error> {
        let mut current = self.chat(id).await?;
        loop {
            let plan = |now| match change(current.as_ref(), now) {
                Transition::To(to) => Ok((self.transition_writes(current.as_ref(), &to)?, to)),
                Transition::Unchanged => Err(Error::Internal("a block depends on the time".into())),
            };
            if change(current.as_ref(), self.now()) == Transition::Unchanged {
                return Ok(current);
            }
            let version = |chat: &Chat| chat.blocks.version;
            let before = current.as_ref().map(version);
            let found = match &plan(self.now())?.0[..] {
                // Nothing but the chat changes. The version of the blocks makes the update idempotent.
                [_] => {
                    let update = |now| {
                        let (writes, to) = plan(now)?;
                        let update = writes.into_iter().find_map(|write: Write| write.update);
                        let missing = || Error::Internal("the update of a block is missing".into());
                        Ok((update.ok_or_else(missing)?, to))
                    };
                    match self.update_planned(update).await? {
                        Ok(chat) => return Ok(Some(chat)),
                        Err(failure) => {
                            let found = failure.item.map(|item| self.read_chat(item));
                            current = found.transpose()?;
                            if let Some(planned) = failure.may_be
                                && current.as_ref().map(version) != before
                            {
                                return confirm(&planned, current);
                            }
                            continue;
                        }
                    }
                }
                _ => match self.transact_planned(plan).await? {
                    Ok(chat) => return Ok(Some(chat)),
                    Err(mut failures) => failures.take_old_item(0),
                },
            };
            current = found.map(|item| self.read_chat(item)).transpose()?;
        }
    }
}

/// Whether an update whose response was lost was applied. If the blocks have changed again since then, nobody can
/// tell: repeating the update could undo what another device of the same user did later.
fn confirm(planned: &Chat, found: Option<Chat>) -> Result<Option<Chat>, Error> {
    match found {
        Some(found) if found.blocks == planned.blocks => Ok(Some(found)),
        _ => Err(Error::Unavailable(
            "the response to an update was lost, and the item has changed since then".into(),
        )),
    }
}
