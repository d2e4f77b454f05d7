//! Chats of one user: pages of lists, and totals.

use chat_shared::{
    domain::UserId,
    store::{ActivityKey, ChatList, ChatPageStart, Store},
};

use super::{PAGE_SIZE, Point, ScalingBenchmark, Section, Series, powers_of_ten};
use crate::{
    Result,
    dataset::{chat_id, ensure, short_message, start_chat, user_id},
};

/// The user who gets more and more chats.
pub(super) const USER: u64 = 1_000_000;
/// The API's maximum for `skip` in lists of chats.
const MAX_SKIP: u64 = 1_000;

/// Pages of a list at several positions.
#[derive(Default)]
pub(super) struct ListPages {
    first: Vec<Point>,
    skipped: Vec<Point>,
    by_cursor: Vec<Point>,
}

impl ListPages {
    pub(super) fn into_series(self) -> Vec<Series> {
        vec![
            ("first page", self.first),
            ("skip half, at most 1,000", self.skipped),
            ("cursor at the middle", self.by_cursor),
        ]
    }
}

impl ScalingBenchmark {
    /// Measures lists and totals of a user who gets more and more chats.
    pub(super) async fn measure_chats(&self, max: u64) -> Result<Vec<Section>> {
        let user = user_id(USER)?;
        let nothing = async || Ok(());
        let mut pages = ListPages::default();
        let mut totals = Vec::new();
        let mut chats = 0;
        for size in powers_of_ten(max) {
            eprintln!("Measuring a user with {size} chats …");
            self.fill(chats + 1..=size, async |n| self.add_chat(user, n).await)
                .await?;
            chats = size;
            let get_totals = async |store: &Store| {
                let totals = store.totals(user).await?;
                ensure(
                    totals.unread_messages == size,
                    "the totals do not match the sent messages",
                )
            };
            totals.push(self.measure(size, nothing, get_totals).await?);
            self.measure_pages(&mut pages, user, ChatList::Active, size)
                .await?;
        }
        Ok(vec![
            Section {
                name: "chats",
                title: "A page of 15 chats",
                note: "The user has requested every second chat, so both indexes contain half of them.",
                size: "chats of the user",
                series: pages.into_series(),
            },
            Section {
                name: "totals",
                title: "Totals",
                note: "",
                size: "chats of the user, all unread",
                series: vec![("totals", totals)],
            },
        ])
    }

    /// Adds a chat to a user. The other member sends one message.
    async fn add_chat(&self, user: UserId, n: u64) -> Result<()> {
        let other = user_id(user.get() + n)?;
        let chat = chat_id(user.get(), other.get())?;
        let requester = if n.is_multiple_of(2) { user } else { other };
        start_chat(&self.store(), requester, chat).await?;
        let content = short_message()?;
        self.store()
            .send_message(other, chat, content, None)
            .await?;
        Ok(())
    }

    /// Measures pages of a list with `size` entries, unless it has less than ten.
    pub(super) async fn measure_pages(
        &self,
        pages: &mut ListPages,
        user: UserId,
        list: ChatList,
        size: u64,
    ) -> Result<()> {
        if size < 10 {
            return Ok(());
        }
        let nothing = async || Ok(());
        let middle = self.middle_of_list(user, list, size).await?;
        let skip = usize::try_from((size / 2).min(MAX_SKIP))?;
        for (points, start) in [
            (&mut pages.first, ChatPageStart::Skip(0)),
            (&mut pages.skipped, ChatPageStart::Skip(skip)),
            (&mut pages.by_cursor, ChatPageStart::After(middle)),
        ] {
            let read = async |store: &Store| {
                let page = store.list_chats(user, list, start, PAGE_SIZE).await?;
                let expected = PAGE_SIZE.min(usize::try_from(size / 2)?);
                ensure(page.chats.len() >= expected, "a page is not full")
            };
            points.push(self.measure(size, nothing, read).await?);
        }
        Ok(())
    }

    /// The position in the middle of a user's list, found by following cursors.
    async fn middle_of_list(&self, user: UserId, list: ChatList, size: u64) -> Result<ActivityKey> {
        let store = self.store();
        let mut remaining = usize::try_from(size / 2)?;
        let mut start = ChatPageStart::Skip(0);
        loop {
            let page = store
                .list_chats(user, list, start, remaining.min(100))
                .await?;
            remaining = remaining.saturating_sub(page.chats.len());
            let last = page.chats.last().ok_or("the list ended too early")?;
            if remaining == 0 {
                return Ok(ActivityKey::of(last));
            }
            start = ChatPageStart::After(ActivityKey::of(last));
        }
    }
}
