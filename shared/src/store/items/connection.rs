//! WebSocket connections of users.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Item, ItemKey, Partition, read, timestamp, unreadable, write};
use crate::{
    Error,
    domain::{Timestamp, UserId},
    store::Connection,
};

/// A WebSocket connection of a user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionItem {
    pk: String,
    sk: String,
    #[serde(rename = "type")]
    entity_type: String,
    /// Milliseconds since 1970 UTC.
    connected_at: u64,
    /// When the token expires that opened the connection, or renewed it: seconds since 1970 UTC.
    pub(in crate::store) token_expires_at: u64,
    /// When the client's next frame is within the rate limit, in milliseconds since 1970 UTC. Before this time, it is
    /// part of a burst: see `connections.rs`.
    pub(in crate::store) next_at: u64,
    /// Seconds since 1970 UTC. The table's TTL deletes the item some time later.
    pub(in crate::store) expires_at: u64,
}

impl ConnectionItem {
    /// The value of `type`.
    pub const ENTITY_TYPE: &str = "Connection";
    /// The start of the sort keys of connections. It sorts before the keys of counters, so that one query reads the
    /// connections and the counters of a user, and another one only the counters.
    pub const SK_PREFIX: &str = "CONN#";
    /// How long an item is kept. API Gateway closes a connection after two hours, and nothing promises that the service
    /// hears of it.
    pub const LIFETIME: Duration = Duration::from_mins(130);

    /// The name of the attribute [`ConnectionItem::token_expires_at`].
    pub(in crate::store) const TOKEN_EXPIRES_AT: &str = "tokenExpiresAt";
    /// The name of the attribute [`ConnectionItem::next_at`].
    pub(in crate::store) const NEXT_AT: &str = "nextAt";

    /// The key of a connection.
    #[must_use]
    pub fn key(owner: UserId, id: &str) -> ItemKey {
        let sk = format!("{}{id}", Self::SK_PREFIX);
        ItemKey::new(Partition::User(owner).pk(), sk)
    }

    /// `next_at` is in milliseconds since 1970 UTC.
    pub(in crate::store) fn write(
        owner: UserId,
        connection: &Connection,
        next_at: u64,
    ) -> Result<Item, Error> {
        let ItemKey { pk, sk } = Self::key(owner, &connection.id);
        write(&Self {
            pk,
            sk,
            entity_type: Self::ENTITY_TYPE.to_owned(),
            connected_at: connection.connected_at.millis(),
            token_expires_at: connection.token_expires_at.seconds(),
            next_at,
            expires_at: (connection.connected_at + Self::LIFETIME).seconds(),
        })
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if an attribute is missing or has the wrong type.
    pub fn read(item: Item) -> Result<Self, Error> {
        read(item)
    }

    /// The connection.
    ///
    /// # Errors
    /// [`Error::Internal`] if a value is out of range.
    pub fn into_connection(self) -> Result<Connection, Error> {
        let id = self.sk.strip_prefix(Self::SK_PREFIX);
        let id = id.filter(|id| !id.is_empty());
        Ok(Connection {
            id: id.ok_or_else(|| unreadable(&self.sk))?.to_owned(),
            connected_at: timestamp(self.connected_at)?,
            token_expires_at: timestamp(self.token_expires_at.saturating_mul(1_000))?,
        })
    }

    /// Whether the item has expired. The table's TTL deletes it some time later.
    pub(in crate::store) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now.seconds()
    }
}
