//! Blocking and unblocking users.
//!
//! A block is an attribute of the chat, so that one condition protects both. It raises the version of the blocks, on
//! which every other change of the chat is conditional, and it is itself conditional on the counts that it moves.
//! The design is in `docs/architecture.md`, section "Blocks".

use super::{
    Store,
    transaction::{Write, nothing_to_write},
};
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
        const STATE: usize = 0;

        let mut current = self.chat(id).await?;
        loop {
            let from = current.as_ref();
            let Transition::To(to) = change(from, self.now()) else {
                return Ok(current);
            };
            let plan = |now| match change(from, now) {
                Transition::To(to) => Ok((self.transition_writes(from, &to)?, to)),
                Transition::Unchanged => Err(nothing_to_write()),
            };
            let found = if self.transition_writes(from, &to)?.len() == 1 {
                match self.update_blocks(from, plan).await? {
                    BlockOutcome::Applied(chat) => return Ok(Some(chat)),
                    BlockOutcome::Stale(found) => found,
                }
            } else {
                match self.transact_planned(plan).await? {
                    Ok(chat) => return Ok(Some(chat)),
                    Err(mut failures) => {
                        let found = failures.take_old_item(STATE);
                        found.map(|item| self.read_chat(item)).transpose()?
                    }
                }
            };
            current = found;
        }
    }

    /// Applies a change of the blocks that changes no counter, as a single update. The version of the blocks prevents
    /// that it is applied twice.
    async fn update_blocks(
        &self,
        from: Option<&Chat>,
        plan: impl Fn(Timestamp) -> Result<(Vec<Write>, Chat), Error>,
    ) -> Result<BlockOutcome, Error> {
        let update = |now| {
            let (writes, to) = plan(now)?;
            let update = writes.into_iter().find_map(|write| write.update);
            Ok((update.ok_or_else(nothing_to_write)?, to))
        };
        let failure = match self.update_planned(update).await? {
            Ok(chat) => return Ok(BlockOutcome::Applied(chat)),
            Err(failure) => failure,
        };
        let found = failure.item.map(|item| self.read_chat(item)).transpose()?;
        let version = |chat: &Chat| chat.blocks.version;
        let is_changed = found.as_ref().map(version) != from.map(version);
        match failure.possibly_applied {
            Some(planned) if is_changed => resolve_lost_response(&planned, found),
            _ => Ok(BlockOutcome::Stale(found)),
        }
    }
}

enum BlockOutcome {
    /// Contains the chat as it was written.
    Applied(Chat),
    /// Another request has changed the chat. Contains the current chat.
    Stale(Option<Chat>),
}

/// Whether an update whose response was lost was applied. If the blocks have changed again since then, nobody can
/// tell: repeating the update could undo what another device of the same user did later.
fn resolve_lost_response(planned: &Chat, found: Option<Chat>) -> Result<BlockOutcome, Error> {
    match found {
        Some(found) if found.blocks == planned.blocks => Ok(BlockOutcome::Applied(found)),
        _ => Err(Error::Unavailable(
            "the response to an update was lost, and the item has changed since then".into(),
        )),
    }
}
