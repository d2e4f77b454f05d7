//! The load of an active user, its cost, and the extrapolation to many users.
//!
//! The load of an active user on a day is a table with a row for each kind of operation ([`Calls`]). One such table
//! is the arithmetic of docs/capacity.md ([`documented_day`]), and another one is counted by the simulation. All other
//! figures are computed from a table in the same way, so that the two can be compared.

use std::collections::BTreeMap;

use super::{
    float,
    model::{CHATS_PER_SESSION, Mode, Model},
};
use crate::pricing::{
    CONNECTION_MINUTES_PER_MILLION, HTTP_API_PER_MILLION, LAMBDA_PER_GIGABYTE_SECOND,
    LAMBDA_PER_MILLION, LOGS_PER_GIGABYTE, READ_UNITS_PER_MILLION, WEBSOCKET_MESSAGES_PER_MILLION,
    WRITE_UNITS_PER_MILLION,
};

/// How often a user marks messages as read per day.
const DOCUMENTED_MARKS: f64 = 10.0;
/// Loads of new messages per day, after a poll of a chat has found some.
const DOCUMENTED_ARRIVALS: f64 = 1.0;
/// Average read units of the first page of chats. The tests allow 4.
const DOCUMENTED_LIST_UNITS: f64 = 1.2;
/// Average read units of the newest messages of a chat. The tests allow 2.
const DOCUMENTED_MESSAGES_UNITS: f64 = 1.1;
/// The share of events during which the other member is connected.
const DOCUMENTED_CONNECTED_SHARE: f64 = 0.4;

/// Days of a month.
const DAYS: f64 = 30.0;
/// Seconds of a day.
const DAY_SECONDS: f64 = 86_400.0;
/// Memory of a function in gigabytes: the default of the template.
const GIGABYTES: f64 = 0.25;
/// Assumed duration of an invocation in seconds.
const INVOCATION_SECONDS: f64 = 0.01;
/// Assumed duration of an invocation of `push-events` in seconds.
const PUSH_SECONDS: f64 = 0.03;
/// Estimated log lines of a request, of the function, the gateway and Lambda, in gigabytes.
const REQUEST_LOG_GIGABYTES: f64 = 1.7e-6;
/// Estimated log lines of any other invocation, of the function and Lambda, in gigabytes.
const INVOCATION_LOG_GIGABYTES: f64 = 1.3e-6;
/// Invocations of a connection: the authorizer, its start and its end.
const CONNECTION_INVOCATIONS: f64 = 3.0;

/// A kind of operation: a request, a frame, or a change that is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Send,
    Mark,
    Totals,
    ListChats,
    OpenChat,
    Edit,
    Delete,
    Request,
    Accept,
    Block,
    PollBadge,
    PollChat,
    LoadNew,
    LoadChanges,
    OpenConnection,
    CloseConnection,
    Sync,
    Typing,
    Push,
}

impl Call {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send a message, with a key",
            Self::Mark => "mark as read up to a `seq`",
            Self::Totals => "open the app: totals",
            Self::ListChats => "open the app: list of chats",
            Self::OpenChat => "open a chat: newest messages",
            Self::Edit => "edit a message",
            Self::Delete => "delete a message",
            Self::Request => "send a chat request",
            Self::Accept => "accept a chat request",
            Self::Block => "block a user",
            Self::PollBadge => "poll the badge",
            Self::PollChat => "poll a chat",
            Self::LoadNew => "load new messages (`after`)",
            Self::LoadChanges => "load changes (`after`)",
            Self::OpenConnection => "open a connection",
            Self::CloseConnection => "close a connection",
            Self::Sync => "`sync` frame",
            Self::Typing => "`typing` frame",
            Self::Push => "push a change",
        }
    }

    /// Whether it is a request to the HTTP API.
    fn is_request(self) -> bool {
        self < Self::OpenConnection
    }
}

/// The calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallLoad {
    /// The number of calls.
    pub calls: f64,
    /// Write units of all calls.
    pub write_units: f64,
    /// Read units of all calls.
    pub read_units: f64,
    /// Frames over WebSocket connections, in both directions.
    pub frames: f64,
}

impl CallLoad {
    /// This load times a number.
    pub fn times(self, factor: f64) -> Self {
        Self {
            calls: self.calls * factor,
            write_units: self.write_units * factor,
            read_units: self.read_units * factor,
            frames: self.frames * factor,
        }
    }
}

/// The calls of all kinds.
pub type Calls = BTreeMap<Call, CallLoad>;

/// The operations of an active user on a day, as in docs/capacity.md.
pub fn documented_day(model: &Model, mode: Mode) -> Calls {
    let sent = model.sent_messages();
    let (edits, deletions) = (model.edited_share * sent, model.deleted_share * sent);
    let per_session = |count: f64| model.sessions * count;
    let row = |calls: f64, write_units: f64, read_units: f64| CallLoad {
        calls,
        write_units: calls * write_units,
        read_units: calls * read_units,
        frames: 0.0,
    };
    let with_frames = |frames: f64, row: CallLoad| CallLoad {
        frames: row.calls * frames,
        ..row
    };
    let mut calls = Calls::from([
        (Call::Send, row(sent, 12.0, 1.0)),
        (Call::Mark, row(DOCUMENTED_MARKS, 6.0, 1.0)),
        (Call::Totals, row(model.sessions, 0.0, 1.0)),
        (
            Call::ListChats,
            row(model.sessions, 0.0, DOCUMENTED_LIST_UNITS),
        ),
        (
            Call::OpenChat,
            row(model.opened_chats(), 0.0, DOCUMENTED_MESSAGES_UNITS),
        ),
        (Call::Edit, row(edits, 10.0, 2.0)),
        (Call::Delete, row(deletions, 12.0, 2.0)),
        (Call::Request, row(model.requests, 8.0, 0.0)),
        (Call::Accept, row(model.requests, 10.0, 1.0)),
        (Call::Block, row(model.blocks, 4.0, 1.0)),
    ]);
    match mode {
        Mode::Polling => calls.extend([
            (
                Call::PollBadge,
                row(per_session(model.polls_of_the_badge()), 0.0, 1.0),
            ),
            (
                Call::PollChat,
                row(
                    per_session(CHATS_PER_SESSION * model.polls_of_a_chat()),
                    0.0,
                    1.0,
                ),
            ),
            (Call::LoadNew, row(DOCUMENTED_ARRIVALS, 0.0, 2.0)),
        ]),
        Mode::Live => {
            let list = row(model.sessions + model.syncs, 0.0, DOCUMENTED_LIST_UNITS);
            let changes =
                sent + DOCUMENTED_MARKS + edits + deletions + 2.0 * model.requests + model.blocks;
            // Each change reads both members. Each message is read. Each edit or deletion reads itself and its message.
            let reads = 2.0 * changes + sent + 2.0 * (edits + deletions);
            let receivers = 1.0 + DOCUMENTED_CONNECTED_SHARE;
            let typing = float(usize::try_from(model.typing_frames).unwrap_or_default()) * sent;
            calls.extend([
                (Call::ListChats, list),
                (Call::OpenConnection, row(model.sessions, 1.0, 1.0)),
                (Call::CloseConnection, row(model.sessions, 1.0, 0.0)),
                (Call::Sync, with_frames(2.0, row(model.syncs, 1.0, 1.0))),
                (Call::Typing, with_frames(receivers, row(typing, 1.0, 1.0))),
                (
                    Call::Push,
                    with_frames(receivers, row(changes, 0.0, reads / changes)),
                ),
            ]);
        }
    }
    calls
}

/// The sum of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests to the HTTP API.
    pub requests: f64,
    /// Write units.
    pub write_units: f64,
    /// Read units.
    pub read_units: f64,
    /// Frames over WebSocket connections.
    pub frames: f64,
    /// New WebSocket connections.
    connections: f64,
    /// The time that connections are open.
    connection_minutes: f64,
    /// Frames that clients send.
    client_frames: f64,
    /// Invocations of `push-events`.
    pushes: f64,
}

/// A bill in dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bill {
    /// Requests to DynamoDB, without storage.
    pub dynamodb: f64,
    /// The HTTP API and the WebSocket API.
    pub gateway: f64,
    /// Lambda.
    pub lambda: f64,
    /// Log lines.
    pub logs: f64,
}

impl Load {
    /// The sum of calls.
    pub fn of(calls: &Calls, model: &Model) -> Self {
        let mut load = Self::default();
        for (call, row) in calls {
            load.write_units += row.write_units;
            load.read_units += row.read_units;
            load.frames += row.frames;
            if call.is_request() {
                load.requests += row.calls;
            }
            match call {
                Call::OpenConnection => load.connections += row.calls,
                Call::Sync | Call::Typing => load.client_frames += row.calls,
                Call::Push => load.pushes += row.calls,
                _ => {}
            }
        }
        load.connection_minutes = load.connections * model.session_minutes();
        load
    }

    /// This load times a number.
    pub fn times(self, factor: f64) -> Self {
        Self {
            requests: self.requests * factor,
            write_units: self.write_units * factor,
            read_units: self.read_units * factor,
            frames: self.frames * factor,
            connections: self.connections * factor,
            connection_minutes: self.connection_minutes * factor,
            client_frames: self.client_frames * factor,
            pushes: self.pushes * factor,
        }
    }

    /// The load of `users` in the busiest second, if this is the load of an active user on a day.
    pub fn per_second_at_the_peak(self, users: f64, model: &Model) -> Self {
        self.times(users * model.active_share * model.peak_factor() / DAY_SECONDS)
    }

    /// The load of `users` in a month, if this is the load of an active user on a day.
    pub fn per_month(self, users: f64, model: &Model) -> Self {
        self.times(users * model.active_share * DAYS)
    }

    /// What this load costs.
    pub fn bill(self) -> Bill {
        let millions = |count: f64, price: f64| count / 1e6 * price;
        let short = self.requests + CONNECTION_INVOCATIONS * self.connections + self.client_frames;
        let invocations = short + self.pushes;
        let seconds = short * INVOCATION_SECONDS + self.pushes * PUSH_SECONDS;
        let log_gigabytes = self.requests * REQUEST_LOG_GIGABYTES
            + (invocations - self.requests) * INVOCATION_LOG_GIGABYTES;
        Bill {
            dynamodb: millions(self.write_units, WRITE_UNITS_PER_MILLION)
                + millions(self.read_units, READ_UNITS_PER_MILLION),
            gateway: millions(self.requests, HTTP_API_PER_MILLION)
                + millions(self.frames, WEBSOCKET_MESSAGES_PER_MILLION)
                + millions(self.connection_minutes, CONNECTION_MINUTES_PER_MILLION),
            lambda: millions(invocations, LAMBDA_PER_MILLION)
                + seconds * GIGABYTES * LAMBDA_PER_GIGABYTE_SECOND,
            logs: log_gigabytes * LOGS_PER_GIGABYTE,
        }
    }
}

impl Bill {
    /// The sum.
    pub fn total(self) -> f64 {
        self.dynamodb + self.gateway + self.lambda + self.logs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model::DEFAULT;

    fn assert_near(actual: f64, expected: f64) {
        let difference = (actual - expected).abs();
        assert!(
            difference < 0.005 * expected.max(0.01),
            "{actual} instead of {expected}"
        );
    }

    fn documented(mode: Mode) -> Load {
        Load::of(&documented_day(&MODEL, mode), &MODEL)
    }

    #[test]
    fn a_million_messages_cost_what_the_documentation_says() {
        // Sent, read and marked as read.
        let load = Load {
            requests: 3e6,
            write_units: 16e6,
            read_units: 4e6,
            ..Load::default()
        };
        let bill = load.bill();
        assert_near(bill.dynamodb, 10.5);
        assert_near(bill.gateway, 3.0);
        assert_near(bill.lambda, 0.7);
        assert_near(bill.logs, 2.55);
        assert_near(bill.total(), 16.75);
    }

    #[test]
    fn a_connection_costs_what_the_documentation_says() {
        let load = Load {
            connections: 1e6,
            write_units: 2e6,
            read_units: 1e6,
            ..Load::default()
        };
        assert_near(load.bill().total(), 4.03);
    }

    #[test]
    fn a_day_is_the_sum_of_its_calls() {
        let polling = documented(Mode::Polling);
        assert_near(polling.requests, 342.0);
        assert_near(polling.write_units, 310.1);
        assert_near(polling.read_units, 347.4);
        assert_near(polling.frames, 0.0);
        let live = documented(Mode::Live);
        assert_near(live.requests, 72.0);
        assert_near(live.write_units, 391.1);
        assert_near(live.read_units, 230.9);
        assert_near(live.frames, 129.4);
        assert_near(live.connection_minutes, 30.0);
    }

    #[test]
    fn rates_grow_with_the_number_of_users() {
        let load = Load {
            requests: 100.0,
            write_units: 86_400.0,
            ..Load::default()
        };
        // 0.3 of them are active, and the peak is 3 times the average.
        let peak = load.per_second_at_the_peak(1_000.0, &MODEL);
        assert_near(peak.write_units, 900.0);
        let month = load.per_month(1_000.0, &MODEL);
        assert_near(month.requests, 900_000.0);
        assert_near(load.per_month(1e6, &MODEL).requests, 9e8);
    }

    #[test]
    fn live_events_replace_polling() {
        let calls = |mode| documented_day(&MODEL, mode).into_keys().collect::<Vec<_>>();
        let (polling, live) = (calls(Mode::Polling), calls(Mode::Live));
        assert!(polling.iter().all(|call| call.is_request()));
        assert!(live.contains(&Call::Push) && !live.contains(&Call::PollChat));
    }
}
