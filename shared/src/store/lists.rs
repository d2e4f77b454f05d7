use super::{
    Range, Store,
    items::{Activity, Index},
    read_chat,
};
use crate::{
    Error,
    domain::{Chat, Status, UserId},
};

/// One of the lists of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The chats that both agreed to.
    Active,
    /// Requests that wait for an answer.
    Pending(Direction),
    /// Requests that were declined.
    Declined(Direction),
}

/// Whose requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that the caller has sent.
    Sent,
    /// Those that the caller has received.
    Received,
}

/// Where a page of chats begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatsFrom {
    /// After this many of the latest.
    Skip(usize),
    /// After this one.
    After(Activity),
}

/// Some chats of a list, latest activity first.
pub struct ChatPage {
    /// The chats.
    pub chats: Vec<Chat>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Activity>,
}

impl Store {
    /// A page of one of the user's lists. It comes from indexes, which follow the table within about
    /// a second.
    ///
    /// A user's active chats are in two indexes, by who once asked: both are asked at once and
    /// merged. One more chat than wanted is read, to know whether there is a next page.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn list_chats(
        &self,
        user: UserId,
        list: List,
        from: ChatsFrom,
        limit: usize,
    ) -> Result<ChatPage, Error> {
        let (skip, below) = match from {
            ChatsFrom::Skip(skip) => (skip, None),
            ChatsFrom::After(activity) => (0, Some(activity)),
        };
        let want = skip + limit + 1;
        let chats_of = |index, status| self.chats_of(index, user, status, below, want);
        let mut chats = match list {
            List::Active => {
                let (mut asked, been_asked) = tokio::try_join!(
                    chats_of(Index::ByRequester, Status::Active),
                    chats_of(Index::ByRecipient, Status::Active),
                )?;
                asked.extend(been_asked);
                asked
            }
            List::Pending(direction) => chats_of(direction.index(), Status::Pending).await?,
            List::Declined(direction) => chats_of(direction.index(), Status::Declined).await?,
        };
        chats.sort_by_key(|chat| std::cmp::Reverse(Activity::of(chat)));
        // An index may show a chat's old row beside its new one for a moment.
        let mut seen = std::collections::HashSet::new();
        chats.retain(|chat| seen.insert(chat.id));

        let more = chats.len() > skip + limit;
        let chats: Vec<_> = chats.into_iter().skip(skip).take(limit).collect();
        let next = chats.last().filter(|_| more).map(Activity::of);
        Ok(ChatPage { chats, next })
    }

    async fn chats_of(
        &self,
        index: Index,
        user: UserId,
        status: Status,
        below: Option<Activity>,
        want: usize,
    ) -> Result<Vec<Chat>, Error> {
        let mut values = vec![(":key", Index::key(user, status))];
        values.extend(below.map(|activity| (":below", activity.to_string())));
        let range = Range {
            index: Some(index.name()),
            condition: index.condition(below.is_some()),
            values,
            ascending: false,
        };
        self.query(range, want)
            .await?
            .into_iter()
            .map(read_chat)
            .collect()
    }
}

impl Direction {
    fn index(self) -> Index {
        match self {
            Self::Sent => Index::ByRequester,
            Self::Received => Index::ByRecipient,
        }
    }
}
