//! WebSocket connections of users, and the rate limit of the frames that clients send.
//!
//! The connections of a user are in the partition of the user's counters, so that one consistent query reads both. The
//! service may not hear of the end of a connection: an item that stays behind is left out once it has expired, and the
//! table's TTL deletes it.
//!
//! **Rate limit.** A client may send one frame a second on average, and [`BURST`] at once after a pause: the generic
//! cell rate algorithm. Its state is one time, `nextAt`, which each frame moves on by a second, and which is never more
//! than the burst in the past. A frame is admitted unless that time is in the future. The update that counts a frame
//! also proves that the connection exists and that its token is valid, so that this costs one write unit and one round
//! trip. Only the further frames of a burst need a second update, because no expression of an update knows a maximum.
//!
//! These writes are single updates without a token. After a lost response, the same write is sent again. A put, a
//! deletion and a renewal have the same result, and a frame may be counted twice at worst.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::{
    KeyQuery, Store, Totals,
    items::{ConnectionItem, Item, ItemKey, ItemKind, Partition, TotalsItem},
    transaction::{UpdateFailure, nothing_to_write, number},
    update::ItemUpdate,
};
use crate::{
    Error,
    auth::LEEWAY_SECONDS,
    domain::{Timestamp, UserId},
};

/// A WebSocket connection of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The id that API Gateway gave it. It ends with `=`.
    pub id: String,
    /// When the client opened it.
    pub connected_at: Timestamp,
    /// When its token expires, in whole seconds.
    pub token_expires_at: Timestamp,
}

/// The maximum number of connections of a user.
pub const MAX_CONNECTIONS: usize = 10;

/// Whether a frame of a client is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameAdmission {
    /// It is, and it counts for the rate limit.
    Admitted,
    /// The client has sent too many frames.
    RateLimited,
    /// The token of the connection has expired, longer ago than the leeway of tokens.
    TokenExpired,
    /// The service does not know the connection, or knows it no longer.
    Unknown,
}

/// The time between two frames of a client on average, in milliseconds.
const FRAME_INTERVAL: u64 = 1_000;
/// The number of frames that a client can send at once after a pause.
const BURST: u64 = 5;

impl Store {
    /// Stores a connection. Returns the connections of the user beyond [`MAX_CONNECTIONS`], oldest first. They do not
    /// contain the new one unless as many newer ones exist.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn open_connection(
        &self,
        user: UserId,
        connection: &Connection,
    ) -> Result<Vec<Connection>, Error> {
        // The client can send a burst at once.
        let item = ConnectionItem::write(user, connection, idle_at(connection.connected_at))?;
        let request = self
            .client()
            .put_item()
            .table_name(self.table_name())
            .set_item(Some(item))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.retry_idempotent(|| request.clone().send()).await?;
        let usage = &self.table.usage;
        usage.count_write(output.consumed_capacity.as_slice());
        Ok(beyond_limit(self.query_connections(user, true).await?))
    }

    /// Deletes a connection, if it exists.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn delete_connection(&self, user: UserId, id: &str) -> Result<(), Error> {
        let key = ConnectionItem::key(user, id);
        let request = self
            .client()
            .delete_item()
            .table_name(self.table_name())
            .key("pk", AttributeValue::S(key.pk))
            .key("sk", AttributeValue::S(key.sk))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.retry_idempotent(|| request.clone().send()).await?;
        let usage = &self.table.usage;
        usage.count_write(output.consumed_capacity.as_slice());
        Ok(())
    }

    /// Reads the connections and the totals of a user with one consistent query.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn connections_and_totals(
        &self,
        user: UserId,
    ) -> Result<(Vec<Connection>, Totals), Error> {
        let query = KeyQuery {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", Partition::User(user).pk()),
                (":first", ConnectionItem::SK_PREFIX.to_owned()),
                (":last", TotalsItem::last_sk()),
            ],
            ascending: true,
            projection: None,
        };
        let (mut connections, mut totals) = (Vec::new(), Totals::default());
        for item in self.query(query, usize::MAX).await? {
            match kind_of(&item) {
                Some(ItemKind::Connection) => connections.extend(self.read_connection(item)),
                // A counter that somebody has damaged must not keep events from the user. Without it the version is
                // lower, so that clients do not take these totals.
                Some(_) if self.add_counter(&mut totals, item).is_err() => {
                    self.table.usage.count_invariant_violation();
                }
                // A newer version of this service has written an item of an unknown kind.
                Some(_) | None => {}
            }
        }
        Ok((connections, totals))
    }

    /// The connections of a user, by a read that costs half and may be a second late.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn connections(&self, user: UserId) -> Result<Vec<Connection>, Error> {
        self.query_connections(user, false).await
    }

    /// Counts a frame of a client, if the connection exists and the client has not sent too many; with
    /// `needs_valid_token` also only if its token is valid.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn admit_frame(
        &self,
        user: UserId,
        id: &str,
        needs_valid_token: bool,
    ) -> Result<FrameAdmission, Error> {
        let now = self.now();
        let idle = idle_at(now);
        // Almost all frames come after a pause.
        let expired = needs_valid_token.then(|| last_expired_second(now));
        let key = ConnectionItem::key(user, id);
        let counted = self.count_frame(&key, expired, ("<=", idle), idle + FRAME_INTERVAL);
        let found = match counted.await? {
            Ok(()) => return Ok(FrameAdmission::Admitted),
            Err(None) => return Ok(FrameAdmission::Unknown),
            Err(Some(found)) => found,
        };
        if expired.is_some_and(|expired| found.token_expires_at <= expired) {
            return Ok(FrameAdmission::TokenExpired);
        }
        let Some(next_at) = next_at(found.next_at, now) else {
            return Ok(FrameAdmission::RateLimited);
        };
        let counted = self.count_frame(&key, expired, ("=", found.next_at), next_at);
        // If another frame of the same client has come first, the client sends many at once.
        Ok(match counted.await? {
            Ok(()) => FrameAdmission::Admitted,
            Err(_) => FrameAdmission::RateLimited,
        })
    }

    /// Sets when the token of a connection expires, unless it already expires later: two renewals can be handled in
    /// the wrong order. Returns when it expires now, or `None` if the connection does not exist.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn renew_connection(
        &self,
        user: UserId,
        id: &str,
        token_expires_at: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let mut update = ItemUpdate::default();
        update.require_existing();
        let seconds = number(token_expires_at.seconds());
        update.require_that(ConnectionItem::TOKEN_EXPIRES_AT, "<=", seconds.clone());
        update.set(ConnectionItem::TOKEN_EXPIRES_AT, Some(seconds));
        let key = ConnectionItem::key(user, id);
        let Err(failure) = self.update_connection(&key, &update).await? else {
            return Ok(Some(token_expires_at));
        };
        let found = failure.item.map(ConnectionItem::read).transpose()?;
        let found = found.map(ConnectionItem::into_connection).transpose()?;
        Ok(found.map(|found| found.token_expires_at))
    }

    /// Sets `nextAt` of a connection to `next_at`, if its value compares to another one in this way, and its token
    /// expires after `expired`. The inner error is the item that does not meet this condition, or `None` if there is
    /// none.
    async fn count_frame(
        &self,
        key: &ItemKey,
        expired: Option<u64>,
        (comparison, before): (&str, u64),
        next_at: u64,
    ) -> Result<Result<(), Option<ConnectionItem>>, Error> {
        let mut update = ItemUpdate::default();
        update.require_existing();
        if let Some(expired) = expired {
            update.require_that(ConnectionItem::TOKEN_EXPIRES_AT, ">", number(expired));
        }
        update.require_that(ConnectionItem::NEXT_AT, comparison, number(before));
        update.set(ConnectionItem::NEXT_AT, Some(number(next_at)));
        let Err(failure) = self.update_connection(key, &update).await? else {
            return Ok(Ok(()));
        };
        let found = failure.item.map(ConnectionItem::read).transpose()?;
        // An earlier attempt whose response was lost has written this value.
        let is_counted = failure.possibly_applied.is_some()
            && found.as_ref().is_some_and(|item| item.next_at == next_at);
        Ok(if is_counted { Ok(()) } else { Err(found) })
    }

    async fn update_connection(
        &self,
        key: &ItemKey,
        update: &ItemUpdate,
    ) -> Result<Result<(), UpdateFailure<()>>, Error> {
        self.update_planned(|_| {
            let write = self.update_item(key.clone(), update);
            Ok((write.update.ok_or_else(nothing_to_write)?, ()))
        })
        .await
    }

    async fn query_connections(
        &self,
        user: UserId,
        consistent: bool,
    ) -> Result<Vec<Connection>, Error> {
        let query = KeyQuery {
            index: None,
            condition: "pk = :pk AND begins_with(sk, :prefix)",
            values: vec![
                (":pk", Partition::User(user).pk()),
                (":prefix", ConnectionItem::SK_PREFIX.to_owned()),
            ],
            ascending: true,
            projection: None,
        };
        let items = self.query_items(&query, usize::MAX, consistent).await?;
        let connections = items.into_iter();
        Ok(connections
            .filter_map(|item| self.read_connection(item))
            .collect())
    }

    /// Reads an item that is a connection, unless it has expired. One that somebody has damaged must not keep events
    /// from the other connections of the user, so it is left out.
    fn read_connection(&self, item: Item) -> Option<Connection> {
        let connection = ConnectionItem::read(item).and_then(|item| {
            let is_open = !item.has_expired(self.now());
            is_open.then(|| item.into_connection()).transpose()
        });
        connection.unwrap_or_else(|_| {
            self.table.usage.count_invariant_violation();
            None
        })
    }
}

/// The kind of an item in the partition of a user.
fn kind_of(item: &Item) -> Option<ItemKind> {
    ItemKind::of(&ItemKey::of(item)?)
}

/// The connections beyond [`MAX_CONNECTIONS`], oldest first.
fn beyond_limit(mut connections: Vec<Connection>) -> Vec<Connection> {
    connections.sort_by(|one, other| {
        let order = one.connected_at.cmp(&other.connected_at);
        order.then_with(|| one.id.cmp(&other.id))
    });
    connections.truncate(connections.len().saturating_sub(MAX_CONNECTIONS));
    connections
}

/// The last second at which the token of a connection can have expired so that its frames are no longer handled.
fn last_expired_second(now: Timestamp) -> u64 {
    now.seconds().saturating_sub(LEEWAY_SECONDS)
}

/// The value of `nextAt` of a client that can send a burst, in milliseconds since 1970 UTC.
fn idle_at(now: Timestamp) -> u64 {
    now.millis().saturating_sub((BURST - 1) * FRAME_INTERVAL)
}

/// The value of `nextAt` after a frame at `now`. `None` if the client has sent too many frames.
fn next_at(before: u64, now: Timestamp) -> Option<u64> {
    (before <= now.millis()).then(|| before.max(idle_at(now)) + FRAME_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;

    /// For each time, in milliseconds after the connection was opened, whether a frame at this time is admitted.
    fn admitted(times: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let mut stored = idle_at(Timestamp::from_millis(START));
        let times = times.into_iter();
        let results = times.map(|time| {
            let next = next_at(stored, Timestamp::from_millis(START + time));
            stored = next.unwrap_or(stored);
            next.is_some()
        });
        results.collect()
    }

    #[test]
    fn a_new_client_can_send_a_burst_of_5_frames_but_not_a_6th() {
        assert_eq!(admitted([0; 6]), [true, true, true, true, true, false]);
    }

    #[test]
    fn after_a_burst_a_client_can_send_one_frame_a_second() {
        let after_burst = |times: &[u64]| {
            let times = times.iter().copied();
            admitted([0; 5].into_iter().chain(times)).split_off(5)
        };
        assert_eq!(after_burst(&[999, 1_000]), [false, true]);
        assert_eq!(after_burst(&[1_000, 1_999, 2_000]), [true, false, true]);
        // A refused frame does not count.
        assert_eq!(after_burst(&[1, 2, 3, 1_000]), [false, false, false, true]);
        assert_eq!(after_burst(&[2_000, 2_000, 2_000]), [true, true, false]);
    }

    #[test]
    fn a_pause_of_any_length_allows_one_burst() {
        for pause in [5_000, 60_000, 7_200_000] {
            let mut times = vec![0; 5];
            times.extend([pause; 6]);
            let results = admitted(times).split_off(5);
            assert_eq!(results, [true, true, true, true, true, false], "{pause}");
        }
        // After four seconds, one of the five frames is still missing.
        let mut times = vec![0; 5];
        times.extend([4_000; 5]);
        let results = admitted(times).split_off(5);
        assert_eq!(results, [true, true, true, true, false]);
    }

    #[test]
    fn a_client_that_sends_one_frame_a_second_is_always_idle() {
        let mut stored = idle_at(Timestamp::from_millis(START));
        for second in 0..100 {
            let now = Timestamp::from_millis(START + second * FRAME_INTERVAL);
            // The condition of the first update holds, and it writes the same value.
            assert!(stored <= idle_at(now));
            let next = next_at(stored, now).unwrap();
            assert_eq!(next, idle_at(now) + FRAME_INTERVAL);
            stored = next;
        }
        assert!(
            admitted((0..100).map(|second| second * 1_000))
                .iter()
                .all(|is| *is)
        );
    }

    #[test]
    fn the_token_of_a_connection_has_the_leeway_of_tokens() {
        let now = Timestamp::from_millis(100_999);
        assert_eq!(last_expired_second(now), 70);
        assert_eq!(last_expired_second(Timestamp::from_millis(0)), 0);
    }

    fn connection(id: &str, connected_at: u64) -> Connection {
        Connection {
            id: id.to_owned(),
            connected_at: Timestamp::from_millis(connected_at),
            token_expires_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn the_oldest_connections_beyond_10_are_those_to_close() {
        let ids = |connections: Vec<Connection>| {
            let ids = connections.into_iter().map(|connection| connection.id);
            ids.collect::<Vec<_>>()
        };
        // In the order of their keys, not of their age.
        let mut open: Vec<_> = (0..10)
            .map(|number| connection(&format!("c{number}="), 100 - number))
            .collect();
        assert_eq!(ids(beyond_limit(open.clone())), [""; 0]);
        open.push(connection("new=", 200));
        assert_eq!(ids(beyond_limit(open.clone())), ["c9="]);
        // Of two that were opened at the same time, the one with the smaller id.
        open.push(connection("a=", 91));
        assert_eq!(ids(beyond_limit(open)), ["a=", "c9="]);
        // All others are newer than the new one.
        let mut open: Vec<_> = (0..10)
            .map(|number| connection(&format!("c{number}="), 100))
            .collect();
        open.push(connection("new=", 99));
        assert_eq!(ids(beyond_limit(open)), ["new="]);
    }

    #[test]
    fn items_of_a_newer_version_are_neither_connections_nor_counters() {
        let item = |sk: &str| {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            Item::from([
                ("pk".to_owned(), text("USER#42")),
                ("sk".to_owned(), text(sk)),
            ])
        };
        for (sk, kind) in [
            ("CONN#a=", Some(ItemKind::Connection)),
            ("SENT", Some(ItemKind::OpenRequests)),
            ("TOTALS#7", Some(ItemKind::Totals)),
            ("DEVICE#1", None),
        ] {
            assert_eq!(kind_of(&item(sk)), kind, "{sk}");
        }
    }
}
