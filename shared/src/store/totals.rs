//! Totals of a user.

use super::{
    KeyQuery, Store,
    items::{Item, OpenRequestsItem, TOTALS_SHARDS, TotalsItem},
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
    /// The number of changes of the counters. Of two totals, the one with the higher version is newer. It is 0 until
    /// the first change by a version of this service that counts the changes.
    pub version: u64,
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
        for item in self.query(query, max_items).await? {
            self.add_counter(&mut totals, item)?;
        }
        Ok(totals)
    }

    /// Adds a counter of a user to the totals. Counts the negative numbers that it contains.
    pub(super) fn add_counter(&self, totals: &mut Totals, item: Item) -> Result<(), Error> {
        for _ in 0..totals.add(item)? {
            self.table.usage.count_invariant_violation();
        }
        Ok(())
    }
}

impl Totals {
    /// Adds a counter. Returns how many of its numbers are negative.
    fn add(&mut self, item: Item) -> Result<u32, Error> {
        let mut negative_numbers = 0;
        // A counter is never negative, because each change of it is in the transaction that changes what it
        // counts. A request must not fail because the table was changed in another way.
        let mut from_counter = |counter: i64| {
            u64::try_from(counter).unwrap_or_else(|_| {
                negative_numbers += 1;
                0
            })
        };
        if OpenRequestsItem::matches(&item) {
            let counter = OpenRequestsItem::read(item)?;
            self.sent_requests += from_counter(counter.open);
            self.version += from_counter(counter.changes);
        } else {
            let shard = TotalsItem::read(item)?;
            self.received_requests += from_counter(shard.pending);
            self.unread_messages += from_counter(shard.unread);
            self.version += from_counter(shard.changes);
        }
        Ok(negative_numbers)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    fn item(sk: &str, numbers: &[(&str, i64)]) -> Item {
        let sk = ("sk".to_owned(), AttributeValue::S(sk.to_owned()));
        let numbers = numbers.iter().map(|(name, number)| {
            let number = AttributeValue::N(number.to_string());
            ((*name).to_owned(), number)
        });
        numbers.chain([sk]).collect()
    }

    #[test]
    fn the_version_of_the_totals_is_the_number_of_changes_of_all_counters() {
        let mut totals = Totals::default();
        for item in [
            item("SENT", &[("open", 1), ("changes", 5)]),
            item("TOTALS#0", &[("pending", 2), ("unread", 3), ("changes", 7)]),
            item("TOTALS#7", &[("unread", 4), ("changes", 30)]),
            // Only an earlier version has changed it.
            item("TOTALS#3", &[("unread", 10)]),
        ] {
            assert_eq!(totals.add(item).unwrap(), 0);
        }
        let expected = Totals {
            received_requests: 2,
            unread_messages: 17,
            sent_requests: 1,
            version: 42,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_negative_number_counts_as_0_and_is_reported() {
        let mut totals = Totals::default();
        let damaged = item(
            "TOTALS#0",
            &[("pending", -1), ("unread", 3), ("changes", -7)],
        );
        assert_eq!(totals.add(damaged).unwrap(), 2);
        assert_eq!(totals.unread_messages, 3);
        assert_eq!((totals.received_requests, totals.version), (0, 0));
        let text = AttributeValue::S("1".to_owned());
        let unreadable = Item::from([("changes".to_owned(), text)]);
        assert!(totals.add(unreadable).is_err());
    }
}
