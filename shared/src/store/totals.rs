//! Totals of a user.

use super::{
    KeyQuery, Store,
    items::{OpenRequestsItem, TOTALS_SHARDS, TotalsItem},
};
use crate::{Error, domain::UserId};

/// The totals of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Open requests that the user has received.
    pub received_requests: u64,
    /// Unread messages in all chats.
    pub unread_messages: u64,
    /// Open requests that the user has sent.
    pub sent_requests: u64,
}

impl Store {
    /// Reads all counters of a user with one consistent query of at most nine small items.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn totals(&self, user: UserId) -> Result<Totals, Error> {
        let query = KeyQuery {
            index: None,
            // Other items in the partition of a user are not read.
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", TotalsItem::pk(user)),
                (":first", OpenRequestsItem::SK.to_owned()),
                (":last", TotalsItem::last_sk()),
            ],
            ascending: true,
            projection: None,
        };
        let max_items = usize::try_from(TOTALS_SHARDS).unwrap_or_default() + 1;
        let mut totals = Totals::default();
        // A counter is never negative, because each change of it is in the transaction that changes what it
        // counts. A request must not fail because the table was changed in another way.
        let from_counter = |counter: i64| {
            u64::try_from(counter).unwrap_or_else(|_| {
                self.table.usage.count_invariant_violation();
                0
            })
        };
        for item in self.query(query, max_items).await? {
            if OpenRequestsItem::matches(&item) {
                totals.sent_requests += from_counter(OpenRequestsItem::read(item)?.open);
            } else {
                let shard = TotalsItem::read(item)?;
                totals.received_requests += from_counter(shard.pending);
                totals.unread_messages += from_counter(shard.unread);
            }
        }
        Ok(totals)
    }
}
