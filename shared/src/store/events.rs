//! Reads for the events that are pushed to connected clients.
//!
//! An event is made from the state of a chat, whose writes are in a stream. The other items of the same transaction may
//! become readable a little later, so they are read again until they are as new as the event.

use super::{
    Store,
    items::{ChangeItem, ChatItem},
};
use crate::{
    Error,
    domain::{Chat, ChatId, Message, Rev, Seq},
};

impl Store {
    /// A chat in any status, by a read that costs half and may be a second late. `None` if it does not exist.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn chat_for_typing(&self, id: ChatId) -> Result<Option<Chat>, Error> {
        let item = self.get_item(ChatItem::key(id), false).await?;
        let chat = item.map(|item| self.read_chat(item)).transpose()?;
        Ok(chat.filter(Chat::exists))
    }

    /// The message that the change `rev` of a chat edited or deleted, as it is now. `None` if the change or the message
    /// stays unreadable.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn changed_message(&self, id: ChatId, rev: Rev) -> Result<Option<Message>, Error> {
        let change = || async {
            let item = self.get(ChangeItem::key(id, rev)).await?;
            item.map(ChangeItem::read).transpose()
        };
        let Some(change) = self.reread_until(change, Option::is_some).await? else {
            return Ok(None);
        };
        let has_changed = |message: &Message| message.rev >= rev;
        let is_complete = |message: &Option<Message>| message.as_ref().is_some_and(has_changed);
        let message = || self.message(id, Seq::new(change.seq));
        let message = self.reread_until(message, is_complete).await?;
        Ok(message.filter(has_changed))
    }
}
