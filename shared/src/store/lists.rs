//! Lists of chats.

use super::{
    KeyQuery, Store,
    items::{ActivityKey, Index},
    read_chat,
};
use crate::{
    Error,
    domain::{Chat, ChatStatus, UserId},
};

/// A list of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatList {
    /// Active chats.
    Active,
    /// Open requests.
    Pending(RequestDirection),
    /// Requests that were declined.
    Declined(RequestDirection),
}

/// Selects sent or received requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestDirection {
    /// Requests that the user has sent.
    Sent,
    /// Requests that the user has received.
    Received,
}

/// The start of a page of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatPageStart {
    /// Skips this many chats.
    Skip(usize),
    /// Starts after this chat.
    After(ActivityKey),
}

/// A page of chats, latest activity first.
pub struct ChatPage {
    /// The chats.
    pub chats: Vec<Chat>,
    /// The start of the next page, or `None` at the end.
    pub next: Option<ActivityKey>,
}

impl Store {
    /// A page of one of the user's lists. It comes from indexes, which are up to date within about a
    /// second.
    ///
    /// The active chats of a user are in two indexes, because the user was either the requester or the
    /// recipient. Both are queried in parallel and merged. The query reads one chat more than the page
    /// has, to find out whether there is a next page.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn list_chats(
        &self,
        user: UserId,
        list: ChatList,
        start: ChatPageStart,
        limit: usize,
    ) -> Result<ChatPage, Error> {
        let (skip, below) = match start {
            ChatPageStart::Skip(skip) => (skip, None),
            ChatPageStart::After(key) => (0, Some(key)),
        };
        let max_items = skip + limit + 1;
        let chats_of = |index, status| self.chats_of(index, user, status, below, max_items);
        let mut chats = match list {
            ChatList::Active => {
                let (mut sent, received) = tokio::try_join!(
                    chats_of(Index::ByRequester, ChatStatus::Active),
                    chats_of(Index::ByRecipient, ChatStatus::Active),
                )?;
                sent.extend(received);
                sent
            }
            ChatList::Pending(direction) => {
                chats_of(direction.index(), ChatStatus::Pending).await?
            }
            ChatList::Declined(direction) => {
                chats_of(direction.index(), ChatStatus::Declined).await?
            }
        };
        chats.sort_by_key(|chat| std::cmp::Reverse(ActivityKey::of(chat)));
        // For a moment, an index may contain the old and the new row of a chat.
        let mut seen = std::collections::HashSet::new();
        chats.retain(|chat| seen.insert(chat.id));

        let more = chats.len() > skip + limit;
        let chats: Vec<_> = chats.into_iter().skip(skip).take(limit).collect();
        let next = chats.last().filter(|_| more).map(ActivityKey::of);
        Ok(ChatPage { chats, next })
    }

    async fn chats_of(
        &self,
        index: Index,
        user: UserId,
        status: ChatStatus,
        below: Option<ActivityKey>,
        max_items: usize,
    ) -> Result<Vec<Chat>, Error> {
        let mut values = vec![(":key", Index::key(user, status))];
        values.extend(below.map(|key| (":below", key.to_string())));
        let query = KeyQuery {
            index: Some(index.name()),
            condition: index.condition(below.is_some()),
            values,
            ascending: false,
        };
        self.query(query, max_items)
            .await?
            .into_iter()
            .map(read_chat)
            .collect()
    }
}

impl RequestDirection {
    fn index(self) -> Index {
        match self {
            Self::Sent => Index::ByRequester,
            Self::Received => Index::ByRecipient,
        }
    }
}
