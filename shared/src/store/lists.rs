//! Lists of chats.

use std::collections::HashSet;

use super::{
    KeyQuery, Store,
    items::{ActivityKey, Index},
};
use crate::{
    Error,
    domain::{Chat, ChatId, ChatStatus, UserId},
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
    /// Pairs whose other member the user has blocked, with or without a chat.
    Blocked,
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
    /// The active and the blocked chats of a user are in two indexes, because the user was either the requester or
    /// the recipient. Both are queried in parallel and merged. The query reads one chat more than the page
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
        let (key, direction) = match list {
            ChatList::Active => (Index::key(user, ChatStatus::Active), None),
            ChatList::Pending(direction) => {
                (Index::key(user, ChatStatus::Pending), Some(direction))
            }
            ChatList::Declined(direction) => {
                (Index::key(user, ChatStatus::Declined), Some(direction))
            }
            ChatList::Blocked => (Index::blocked_key(user), None),
        };
        let chats_of = |index| self.chats_of(index, &key, below, max_items);
        let rows = if let Some(direction) = direction {
            vec![chats_of(direction.index()).await?]
        } else {
            let (sent, received) =
                tokio::try_join!(chats_of(Index::ByRequester), chats_of(Index::ByRecipient),)?;
            vec![sent, received]
        };
        let previous = below.map(ActivityKey::chat);
        Ok(merge(rows, max_items, previous, skip, limit))
    }

    async fn chats_of(
        &self,
        index: Index,
        key: &str,
        below: Option<ActivityKey>,
        max_items: usize,
    ) -> Result<Vec<Chat>, Error> {
        let mut values = vec![(":key", key.to_owned())];
        values.extend(below.map(|key| (":below", key.to_string())));
        let query = KeyQuery {
            index: Some(index.name()),
            condition: index.condition(below.is_some()),
            values,
            ascending: false,
            projection: None,
        };
        let items = self.query(query, max_items).await?.into_iter();
        items.map(|item| self.read_chat(item)).collect()
    }
}

/// Merges the rows of one or two indexes to a page, latest activity first. `max_rows` is the maximum number of
/// rows of an index. `previous` is the last chat of the previous page.
///
/// For a moment, an index can contain the old and the new row of a chat. Only the newer row is returned. The page
/// can then have less than `limit` chats although the list goes on. `next` is therefore decided by rows, before
/// duplicates are removed: it is `None` only if no row remains.
fn merge(
    indexes: Vec<Vec<Chat>>,
    max_rows: usize,
    previous: Option<ChatId>,
    skip: usize,
    limit: usize,
) -> ChatPage {
    // Rows below the last row of an index that has more rows are not merged: a row that was not read may
    // belong above them.
    let truncated = indexes.iter().filter(|rows| rows.len() >= max_rows);
    let lowest = truncated
        .filter_map(|rows| rows.last().map(ActivityKey::of))
        .max();
    let mut rows: Vec<_> = indexes.into_iter().flatten().collect();
    rows.sort_by_key(|chat| std::cmp::Reverse(ActivityKey::of(chat)));

    let mut seen: HashSet<ChatId> = previous.into_iter().collect();
    let mut skipped = 0;
    let mut last = None;
    let mut chats = Vec::with_capacity(limit);
    let mut rows = rows.into_iter().peekable();
    while chats.len() < limit
        && let Some(row) = rows.next_if(|row| lowest.is_none_or(|key| ActivityKey::of(row) >= key))
    {
        last = Some(ActivityKey::of(&row));
        if !seen.insert(row.id) {
            continue;
        }
        if skipped < skip {
            skipped += 1;
        } else {
            chats.push(row);
        }
    }
    let has_more = rows.peek().is_some() || lowest.is_some();
    ChatPage {
        chats,
        next: last.filter(|_| has_more),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    /// A row of the chat 1-`peer` with its latest activity at `at`.
    fn row(peer: u64, at: u64) -> Chat {
        let user = |id| UserId::new(id).unwrap();
        let id = ChatId::between(user(1), user(peer)).unwrap();
        Chat::new_request(id, user(1), Timestamp::from_millis(at))
    }

    /// The peers and times of a page, and the time of `next`.
    fn page(
        indexes: &[&[(u64, u64)]],
        previous: Option<u64>,
        (skip, limit): (usize, usize),
    ) -> (Vec<(u64, u64)>, Option<ActivityKey>) {
        let max_rows = skip + limit + 1;
        let rows = indexes.iter().map(|rows| {
            let rows = rows.iter().take(max_rows);
            rows.map(|(peer, at)| row(*peer, *at)).collect()
        });
        let previous = previous.map(|peer| row(peer, 0).id);
        let page = merge(rows.collect(), max_rows, previous, skip, limit);
        let chats = page.chats.iter();
        let chats = chats.map(|chat| (chat.id.high().get(), chat.updated_at.millis()));
        (chats.collect(), page.next)
    }

    fn key(peer: u64, at: u64) -> ActivityKey {
        ActivityKey::of(&row(peer, at))
    }

    #[test]
    fn a_page_goes_on_if_duplicates_fill_what_was_read() {
        // Chat 2 has its new and its old row. The index has more rows than the 3 that were read.
        let index: &[_] = &[(2, 9), (2, 8), (3, 7), (4, 6)];
        assert_eq!(
            page(&[index], None, (0, 2)),
            (vec![(2, 9), (3, 7)], Some(key(3, 7)))
        );
        let index: &[_] = &[(2, 9), (2, 8), (2, 7), (4, 6)];
        assert_eq!(
            page(&[index], None, (0, 2)),
            (vec![(2, 9)], Some(key(2, 7)))
        );
        // The next page does not repeat chat 2.
        assert_eq!(
            page(&[&[(2, 7), (4, 6)]], Some(2), (0, 2)),
            (vec![(4, 6)], None)
        );
    }

    #[test]
    fn two_indexes_are_merged_up_to_the_last_row_that_is_known() {
        let sent: &[_] = &[(2, 9), (2, 8), (2, 7), (2, 6), (3, 5)];
        let received: &[_] = &[(4, 4), (5, 3)];
        // Rows of `sent` below 7 were not read, so 4 and 5 may not be next.
        assert_eq!(
            page(&[sent, received], None, (0, 2)),
            (vec![(2, 9)], Some(key(2, 7)))
        );
        let (chats, next) = page(&[&[(2, 9), (6, 2)], &[(4, 4)]], None, (1, 2));
        assert_eq!((chats, next), (vec![(4, 4), (6, 2)], None));
    }

    #[test]
    fn the_last_page_has_no_next_page() {
        assert_eq!(page(&[&[]], None, (0, 1)), (vec![], None));
        assert_eq!(page(&[&[(2, 9)]], None, (0, 1)), (vec![(2, 9)], None));
        assert_eq!(
            page(&[&[(2, 9), (3, 8)]], None, (0, 1)),
            (vec![(2, 9)], Some(key(2, 9)))
        );
        assert_eq!(page(&[&[(2, 9), (3, 8)]], None, (5, 1)), (vec![], None));
    }
}
