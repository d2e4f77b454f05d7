//! Counters of users.

use serde::Deserialize;

use super::{Item, ItemKey, Partition, has_sort_key, read};
use crate::{
    Error,
    domain::{ChatId, UserId},
};

/// The number of shards of one user's totals. Each shard is one item.
pub const TOTALS_SHARDS: u64 = 8;

/// One shard of the totals of a user.
#[derive(Deserialize)]
pub struct TotalsItem {
    /// The number of unread messages.
    #[serde(default)]
    pub unread: i64,
    /// The number of open requests that the user has received.
    #[serde(default)]
    pub pending: i64,
    /// The number of changes of this item, which never decreases.
    #[serde(default)]
    pub changes: i64,
}

/// The name of the attribute [`TotalsItem::changes`] and [`OpenRequestsItem::changes`]. Every update of a counter adds
/// 1 to it, in the same expression, so that of two reads of a user's totals, the later one has the larger sum. A clock
/// could not order them.
pub const CHANGES: &str = "changes";

impl TotalsItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Totals";
    /// The start of the sort key of each shard.
    pub const SK_PREFIX: &str = "TOTALS#";
    /// The name of the attribute for [`TotalsItem::unread`].
    pub const UNREAD: &str = "unread";
    /// The name of the attribute for [`TotalsItem::pending`].
    pub const PENDING: &str = "pending";

    /// The key of the shard that counts for a chat. Everything that a chat adds to the totals of a user is
    /// in the same shard, so that no shard becomes negative. The hash (Fibonacci hashing of both user ids)
    /// must never change, because a later subtraction must find the shard of the addition.
    #[must_use]
    pub fn key(owner: UserId, chat: ChatId) -> ItemKey {
        let mixed = (chat.low().get().rotate_left(32) ^ chat.high().get())
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let shard = (mixed >> 32) % TOTALS_SHARDS;
        ItemKey::new(Self::pk(owner), format!("{}{shard}", Self::SK_PREFIX))
    }

    /// The sort key of the last shard. Sort keys of other items in a user's partition must be less than that of
    /// [`OpenRequestsItem`] or greater than this one, so that one query reads all counters and nothing else.
    pub(in crate::store) fn last_sk() -> String {
        format!("{}{}", Self::SK_PREFIX, TOTALS_SHARDS - 1)
    }

    /// Whether this is the sort key of one of the shards.
    #[must_use]
    pub fn is_shard(sk: &str) -> bool {
        let shard = sk.strip_prefix(Self::SK_PREFIX);
        shard.is_some_and(|shard| (0..TOTALS_SHARDS).any(|number| number.to_string() == shard))
    }

    /// The partition key of all counters of a user.
    #[must_use]
    pub fn pk(owner: UserId) -> String {
        Partition::User(owner).pk()
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}

/// The number of open requests that a user has sent. It is a single item, so that a condition can enforce
/// the cap.
#[derive(Deserialize)]
pub struct OpenRequestsItem {
    /// The number of open requests.
    #[serde(default)]
    pub open: i64,
    /// The number of changes of this item, which never decreases.
    #[serde(default)]
    pub changes: i64,
}

impl OpenRequestsItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "OpenRequests";
    /// The name of the attribute for [`OpenRequestsItem::open`].
    pub const OPEN: &str = "open";
    pub(in crate::store) const SK: &str = "SENT";

    /// The key of a user's counter.
    #[must_use]
    pub fn key(owner: UserId) -> ItemKey {
        ItemKey::new(Partition::User(owner).pk(), Self::SK)
    }

    /// Whether an item of a user's partition is this counter.
    #[must_use]
    pub fn matches(item: &Item) -> bool {
        has_sort_key(item, Self::SK)
    }

    /// Whether a key of a user's partition is the key of this counter.
    #[must_use]
    pub fn matches_key(key: &ItemKey) -> bool {
        key.sk == Self::SK
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }
}
