//! WebSocket connections of one user, and of all others.

use chat_shared::{
    domain::UserId,
    store::{FrameAdmission, Store, items::ConnectionItem},
};

use super::{Point, ScalingBenchmark, Section, Series, chats, powers_of_ten, with_key};
use crate::{
    Result,
    dataset::{connection, ensure, user_id},
};

/// Numbers of connections of the user. The last one is the maximum: one more closes the oldest one.
const CONNECTIONS: [u64; 3] = [0, 1, MAX_CONNECTIONS];
const MAX_CONNECTIONS: u64 = chat_shared::store::MAX_CONNECTIONS as u64;
/// The id of the user's first connection.
const FIRST_CONNECTION: &str = "c0=";
/// The users with higher ids are the others who are connected.
const OTHERS: u64 = 3_000_000;

/// Calls for the connections of a user.
#[derive(Default)]
struct ConnectionPoints {
    openings: Vec<Point>,
    syncs: Vec<Point>,
    recipients: Vec<Point>,
}

impl ConnectionPoints {
    fn into_series(self) -> Vec<Series> {
        vec![
            ("open a connection", self.openings),
            ("sync", self.syncs),
            ("recipient of an event", self.recipients),
        ]
    }
}

impl ScalingBenchmark {
    /// Measures a user with many chats and up to 10 connections, and then the same user with one connection while up
    /// to `max_others` other users are connected.
    pub(super) async fn measure_connections(&self, max_others: u64) -> Result<Vec<Section>> {
        let user = user_id(chats::USER)?;
        let mut of_user = ConnectionPoints::default();
        for count in CONNECTIONS {
            eprintln!("Measuring a user with {count} connections …");
            self.add_points(&mut of_user, user, count, count).await?;
        }
        let mut of_others = ConnectionPoints::default();
        let mut others = 0;
        for size in powers_of_ten(max_others) {
            eprintln!("Measuring a user while {size} others are connected …");
            self.connect_others(others, size).await?;
            others = size;
            self.add_points(&mut of_others, user, 1, size).await?;
        }
        Ok(vec![
            Section {
                name: "connections",
                title: "Connections of a user",
                note: "An event reads the connections and totals of each recipient. Opening one connection more \
                       than the maximum of 10 deletes the oldest one.",
                size: "connections of the user",
                series: of_user.into_series(),
            },
            Section {
                name: "other-connections",
                title: "Connections of other users",
                note: "The user has one connection.",
                size: "other users who are connected",
                series: of_others.into_series(),
            },
        ])
    }

    /// Measures the calls for a user with `count` connections.
    async fn add_points(
        &self,
        points: &mut ConnectionPoints,
        user: UserId,
        count: u64,
        size: u64,
    ) -> Result<()> {
        let prepare = async || self.set_connections(user, count).await;
        let open = async |store: &Store| {
            let new = connection("new=".to_owned());
            let surplus = store.open_connection(user, &new).await?;
            for oldest in &surplus {
                store.delete_connection(user, &oldest.id).await?;
            }
            let is_full = count == MAX_CONNECTIONS;
            ensure(
                surplus.len() == usize::from(is_full),
                "a user does not have the expected number of connections",
            )
        };
        points
            .openings
            .push(self.measure(size, &prepare, open).await?);
        if count > 0 {
            let sync = async |store: &Store| {
                let admission = store.admit_frame(user, FIRST_CONNECTION, true).await?;
                store.totals(user).await?;
                ensure(
                    admission == FrameAdmission::Admitted,
                    "a frame was not admitted",
                )
            };
            points.syncs.push(self.measure(size, &prepare, sync).await?);
        }
        let read = async |store: &Store| {
            let (connections, _) = store.connections_and_totals(user).await?;
            ensure(
                connections.len() as u64 == count,
                "a user does not have the expected number of connections",
            )
        };
        points
            .recipients
            .push(self.measure(size, &prepare, read).await?);
        Ok(())
    }

    /// Replaces the connections of a user by new ones.
    async fn set_connections(&self, user: UserId, count: u64) -> Result<()> {
        let store = self.store();
        for old in store.connections(user).await? {
            store.delete_connection(user, &old.id).await?;
        }
        for number in 0..count {
            let new = connection(format!("c{number}="));
            store.open_connection(user, &new).await?;
        }
        Ok(())
    }

    /// Gives one connection to each other user from number `from` + 1 to number `to`.
    async fn connect_others(&self, from: u64, to: u64) -> Result<()> {
        let first = user_id(OTHERS + 1)?;
        let new = connection(FIRST_CONNECTION.to_owned());
        self.store().open_connection(first, &new).await?;
        let item = self
            .get(ConnectionItem::key(first, FIRST_CONNECTION))
            .await?;
        let users = (from + 1..=to).map(|number| user_id(OTHERS + number));
        let users = users.collect::<Result<Vec<_>>>()?;
        let copies = users.into_iter().map(|user| {
            let key = ConnectionItem::key(user, FIRST_CONNECTION);
            with_key(&item, key)
        });
        self.put_items(copies).await
    }
}
