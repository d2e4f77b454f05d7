use super::{
    Range, Store,
    items::{SHARDS, SentItem, TotalsItem},
};
use crate::{Error, domain::UserId};

/// What waits for a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that wait for the user's answer.
    pub pending: u64,
    /// Messages that the user has not read, over all chats.
    pub unread: u64,
    /// Requests of the user's own that wait for an answer.
    pub sent: u64,
}

impl Store {
    /// All of a user's counters, in one consistent query of at most nine small items.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn totals(&self, user: UserId) -> Result<Totals, Error> {
        let range = Range {
            index: None,
            condition: "pk = :pk",
            values: vec![(":pk", TotalsItem::pk(user))],
            ascending: true,
        };
        let mut totals = Totals::default();
        for item in self
            .query(range, usize::try_from(SHARDS).unwrap_or_default() + 1)
            .await?
        {
            if SentItem::is(&item) {
                totals.sent += count(SentItem::read(item)?.open);
            } else {
                let shard = TotalsItem::read(item)?;
                totals.pending += count(shard.pending);
                totals.unread += count(shard.unread);
            }
        }
        Ok(totals)
    }
}

/// Counters are never negative: each is changed only together with what it counts.
fn count(counter: i64) -> u64 {
    debug_assert!(counter >= 0, "a counter fell below zero");
    u64::try_from(counter).unwrap_or(0)
}
