//! Lists of chats.
//!
//! The active and the blocked chats of a user are in two indexes, because the user was either the requester or the
//! recipient. Both are queried in parallel and merged.
//!
//! **`skip`.** An index cannot skip rows without reading them, and it is not known how many of the skipped rows are in
//! which index. Reading all rows that could be needed from both indexes would cost twice as much as necessary. So the
//! first read of each index is half of `skip` and a page. If the page is not decided then, only the missing rows are
//! read, from the index whose rows ran out. That is one more round trip, unless an index contains old rows of chats, or
//! the rows are more than the 1 MB that a query reads at once. At most the first read of one index is not needed, which happens if the other index has all newer rows.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use super::{
    KeyQuery, Store,
    items::{ActivityKey, Index},
};
use crate::{
    Error,
    domain::{Chat, ChatId, ChatStatus, UserId},
};

/// Up to this number of rows, an index is read at once: a second round trip would take longer than reading more rows.
const MIN_FIRST_ROWS: usize = 100;

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
#[derive(Debug)]
pub struct ChatPage {
    /// The chats.
    pub chats: Vec<Chat>,
    /// The start of the next page, or `None` at the end.
    pub next: Option<ActivityKey>,
}

/// The range of a list that a page covers.
#[derive(Clone, Copy)]
struct PageRange {
    /// The last row of the previous page. The page starts below it.
    below: Option<ActivityKey>,
    skip: usize,
    limit: usize,
}

impl PageRange {
    /// The maximum number of rows that are read from an index. It is one more than the page needs, to find out whether
    /// there is a next page.
    fn max_rows(self) -> usize {
        self.skip + self.limit + 1
    }

    /// The number of rows of each index that are read first.
    fn first_rows(self, indexes: usize) -> usize {
        let share = self.skip.div_ceil(indexes) + self.limit + 1;
        share.max(MIN_FIRST_ROWS).min(self.max_rows())
    }
}

impl Store {
    /// A page of one of the user's lists. It comes from indexes, which are up to date within about a
    /// second.
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
        let range = PageRange { below, skip, limit };
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
        let indexes = direction.map_or_else(
            || vec![Index::ByRequester, Index::ByRecipient],
            |direction| vec![direction.index()],
        );
        let read = |index, below, max_rows| self.chats_of(index, &key, below, max_rows);
        read_page(&indexes, range, read).await
    }

    async fn chats_of(
        &self,
        index: Index,
        key: &str,
        below: Option<ActivityKey>,
        max_rows: usize,
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
        let items = self.query(query, max_rows).await?.into_iter();
        items.map(|item| self.read_chat(item)).collect()
    }
}

/// The rows of an index that were read so far, latest activity first.
struct IndexRows {
    rows: Vec<Chat>,
    /// Whether the index may have more rows.
    has_more: bool,
}

/// The result of merging the rows that were read so far.
#[derive(Debug)]
enum Merged {
    /// The page is decided.
    Page(ChatPage),
    /// The page depends on rows that were not read.
    MissingRows {
        /// The position of their index in the list of indexes.
        position: usize,
        /// The number of rows to read.
        count: usize,
    },
}

impl IndexRows {
    /// The rows that a read of up to `max_rows` returned.
    fn new(rows: Vec<Chat>, max_rows: usize) -> Self {
        Self {
            has_more: rows.len() >= max_rows,
            rows,
        }
    }

    fn last_key(&self) -> Option<ActivityKey> {
        self.rows.last().map(ActivityKey::of)
    }
}

/// Reads a page from one or two indexes. `read` returns the rows of an index below a key, up to a maximum number.
async fn read_page<F>(
    indexes: &[Index],
    range: PageRange,
    read: impl Fn(Index, Option<ActivityKey>, usize) -> F,
) -> Result<ChatPage, Error>
where
    F: Future<Output = Result<Vec<Chat>, Error>>,
{
    let max_rows = range.first_rows(indexes.len());
    let reads = indexes
        .iter()
        .map(|index| read(*index, range.below, max_rows));
    let first = try_join_all(reads).await?.into_iter();
    let mut parts: Vec<_> = first.map(|rows| IndexRows::new(rows, max_rows)).collect();
    loop {
        let (position, count) = match merge(&parts, range) {
            Merged::Page(page) => return Ok(page),
            Merged::MissingRows { position, count } => (position, count),
        };
        let part = &mut parts[position];
        let rows = read(indexes[position], part.last_key(), count).await?;
        let next = IndexRows::new(rows, count);
        part.rows.extend(next.rows);
        part.has_more = next.has_more;
    }
}

/// Merges the rows of one or two indexes to a page, latest activity first. An index of which [`PageRange::max_rows`] were read needs no more.
///
/// For a moment, an index can contain the old and the new row of a chat. Only the newer row is returned. The page
/// can then have less than `limit` chats although the list goes on. `next` is therefore decided by rows, before
/// duplicates are removed: it is `None` only if no row remains.
fn merge(parts: &[IndexRows], range: PageRange) -> Merged {
    let PageRange { below, skip, limit } = range;
    // Rows below the last row of an index that has more rows are not merged: a row that was not read may
    // belong above them.
    let truncated = parts.iter().enumerate();
    let truncated = truncated.filter(|(_, part)| part.has_more);
    let lowest = truncated
        .filter_map(|(position, part)| Some((part.last_key()?, position)))
        .max();
    let mut rows: Vec<_> = parts.iter().flat_map(|part| &part.rows).collect();
    rows.sort_by_key(|chat| std::cmp::Reverse(ActivityKey::of(chat)));

    let mut seen: HashSet<ChatId> = below.map(ActivityKey::chat).into_iter().collect();
    let mut skipped = 0;
    let mut last = None;
    let mut chats = Vec::with_capacity(limit);
    let mut rows = rows.into_iter().peekable();
    while chats.len() < limit
        && let Some(row) =
            rows.next_if(|row| lowest.is_none_or(|(key, _)| ActivityKey::of(row) >= key))
    {
        last = Some(ActivityKey::of(row));
        if !seen.insert(row.id) {
            continue;
        }
        if skipped < skip {
            skipped += 1;
        } else {
            chats.push(row.clone());
        }
    }
    let has_next_row = rows.peek().is_some();
    let is_decided = chats.len() == limit && has_next_row;
    if let Some((_, position)) = lowest
        && !is_decided
    {
        let missing = range.max_rows() - skipped - chats.len();
        let count = missing.min(range.max_rows() - parts[position].rows.len());
        if count > 0 {
            return Merged::MissingRows { position, count };
        }
    }
    let has_more = has_next_row || lowest.is_some();
    Merged::Page(ChatPage {
        chats,
        next: last.filter(|_| has_more),
    })
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
    use std::cell::RefCell;

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
        let below = previous.map(|peer| key(peer, 10));
        let range = PageRange { below, skip, limit };
        let rows = indexes.iter().map(|rows| {
            let rows = rows.iter();
            rows.map(|(peer, at)| row(*peer, *at)).collect()
        });
        let page = merge_all(rows, range);
        let chats = page.chats.iter();
        let chats = chats.map(|chat| (chat.id.high().get(), chat.updated_at.millis()));
        (chats.collect(), page.next)
    }

    fn key(peer: u64, at: u64) -> ActivityKey {
        ActivityKey::of(&row(peer, at))
    }

    /// The page if all rows that may be needed are read from each index at once.
    fn merge_all(indexes: impl Iterator<Item = Vec<Chat>>, range: PageRange) -> ChatPage {
        let max_rows = range.max_rows();
        let indexes = indexes.map(|mut rows| {
            rows.truncate(max_rows);
            IndexRows::new(rows, max_rows)
        });
        match merge(&indexes.collect::<Vec<_>>(), range) {
            Merged::Page(page) => page,
            missing @ Merged::MissingRows { .. } => panic!("all rows were read, but {missing:?}"),
        }
    }

    /// Reads a page as the store does. Also returns the number of rows of each read: the first two reads happen at
    /// once.
    async fn read_in_parts(indexes: &[Vec<Chat>; 2], range: PageRange) -> (ChatPage, Vec<usize>) {
        let reads = RefCell::new(Vec::new());
        let read = |index: Index, below: Option<ActivityKey>, max_rows: usize| {
            let [sent, received] = indexes;
            let rows = match index {
                Index::ByRequester => sent,
                Index::ByRecipient => received,
            };
            let is_below = |row: &&Chat| below.is_none_or(|key| ActivityKey::of(row) < key);
            let rows = rows.iter().filter(is_below).take(max_rows);
            let rows: Vec<_> = rows.cloned().collect();
            reads.borrow_mut().push(rows.len());
            std::future::ready(Ok(rows))
        };
        let both = [Index::ByRequester, Index::ByRecipient];
        let page = read_page(&both, range, read).await.unwrap();
        (page, reads.into_inner())
    }

    /// Up to 800 rows, divided between two indexes at random. Some chats can have several rows.
    fn random_rows(random: &mut fastrand::Rng, with_old_rows: bool) -> [Vec<Chat>; 2] {
        let mut indexes = [vec![], vec![]];
        let share = random.f64();
        for at in (0..random.u64(..800)).rev() {
            let repeats = with_old_rows && random.u8(..10) == 0;
            let peer = if repeats {
                random.u64(2..50)
            } else {
                1_000 + at
            };
            indexes[usize::from(random.f64() < share)].push(row(peer, at));
        }
        indexes
    }

    fn random_range(random: &mut fastrand::Rng) -> PageRange {
        PageRange {
            below: None,
            skip: random.usize(..600),
            limit: random.usize(1..=30),
        }
    }

    /// The range of a page of 15 chats.
    fn range(skip: usize) -> PageRange {
        PageRange {
            below: None,
            skip,
            limit: 15,
        }
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

    #[tokio::test]
    async fn a_page_that_is_read_in_parts_is_the_page_from_all_rows() {
        for seed in 0..300 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let indexes = random_rows(random, true);
            let range = random_range(random);
            let (page, _) = read_in_parts(&indexes, range).await;
            let expected = merge_all(indexes.into_iter(), range);
            assert_eq!(page.chats, expected.chats, "seed {seed}");
            assert_eq!(page.next, expected.next, "seed {seed}");
        }
    }

    #[tokio::test]
    async fn a_page_takes_two_round_trips_and_reads_at_most_the_first_rows_of_one_index_in_vain() {
        for seed in 0..300 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let indexes = random_rows(random, false);
            let range = random_range(random);
            let (_, reads) = read_in_parts(&indexes, range).await;
            assert!(reads.len() <= 3, "seed {seed}: {reads:?}");
            let max = range.max_rows() + range.first_rows(2);
            let sum: usize = reads.iter().sum();
            assert!(sum <= max, "seed {seed}: {reads:?}, at most {max}");
        }
    }

    #[tokio::test]
    async fn a_deep_page_reads_little_more_than_it_skips() {
        let rows = |times: std::ops::Range<u64>| {
            let times = times.rev();
            times.map(|at| row(10_000 + at, at)).collect::<Vec<_>>()
        };
        let every_second = |first: usize| {
            let rows = rows(0..4_000).into_iter().skip(first);
            rows.step_by(2).collect::<Vec<_>>()
        };
        for (indexes, expected) in [
            ([every_second(0), every_second(1)], vec![516, 516]),
            ([rows(0..4_000), vec![]], vec![516, 0, 500]),
            ([rows(0..10), rows(10..4_000)], vec![10, 516, 500]),
            // The worst case: all rows of the page are in one index.
            ([rows(2_000..4_000), rows(0..2_000)], vec![516, 516, 500]),
        ] {
            let (page, reads) = read_in_parts(&indexes, range(1_000)).await;
            assert_eq!(reads, expected);
            let first = page.chats.first().map(|chat| chat.updated_at.millis());
            assert_eq!((first, page.chats.len()), (Some(2_999), 15));
        }
    }

    #[tokio::test]
    async fn the_first_pages_take_one_round_trip() {
        let chats = || (0..300).rev().map(|at| row(1_000 + at, at)).collect();
        for (skip, rows) in [(0, 16), (15, 31), (84, 100)] {
            let (_, reads) = read_in_parts(&[chats(), vec![]], range(skip)).await;
            assert_eq!(reads, [rows, 0]);
        }
        let start = PageRange {
            below: Some(key(1_200, 200)),
            ..range(0)
        };
        let (_, reads) = read_in_parts(&[chats(), vec![]], start).await;
        assert_eq!(reads, [16, 0]);
    }

    #[test]
    fn one_index_is_read_at_once() {
        assert_eq!(range(1_000).first_rows(1), 1_016);
    }
}
