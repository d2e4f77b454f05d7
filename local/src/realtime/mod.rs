//! Realtime push: emulates a WebSocket API of API Gateway and the event source mapping of the table's stream.
//!
//! | Module | Task |
//! |---|---|
//! | `sockets` | handshakes, frames of clients, time limits, and the registry of open connections |
//! | `management` | requests of functions to `@connections` |
//! | `event` | the events that the functions of the WebSocket API receive |
//! | `stream` | reads the shards of the table's stream |
//! | `lanes` | invokes the function of the mapping with the records, and tries again when it fails |
//!
//! Tests shorten the time limits and inject faults by [`RealtimeOptions`].

mod event;
mod lanes;
mod management;
mod sockets;
mod stream;

use std::{sync::Arc, time::Duration};

use serde_json::Value;

pub(crate) use self::{lanes::Lanes, sockets::Sockets, stream::StreamPoller};

/// API Gateway's limit on the time without a message in either direction.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// API Gateway's limit on the duration of a connection.
const MAX_AGE: Duration = Duration::from_hours(2);

/// How a stack pushes events.
#[derive(Clone)]
pub struct RealtimeOptions {
    /// Whether the stack has the WebSocket API and reads the table's stream, if the template has them.
    pub enabled: bool,
    /// After this time without a message, a connection is closed.
    pub idle_timeout: Duration,
    /// After this time, a connection is closed.
    pub max_age: Duration,
    /// Faults to inject.
    pub faults: Option<Arc<dyn RealtimeFaults>>,
}

impl Default for RealtimeOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            idle_timeout: IDLE_TIMEOUT,
            max_age: MAX_AGE,
            faults: None,
        }
    }
}

impl RealtimeOptions {
    /// No WebSocket API and no stream.
    #[must_use]
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

/// Faults that a test injects. By default nothing fails.
pub trait RealtimeFaults: Send + Sync {
    /// Each batch before the function of the stream is invoked with it. `attempt` is 1 for the first invocation with
    /// these records. The result may contain records twice, changed, in another order or of earlier batches, or miss
    /// some of them. Without records, the function is not invoked, and the batch has succeeded.
    fn batch(&self, records: Vec<Value>, attempt: u32) -> Vec<Value> {
        let _ = attempt;
        records
    }

    /// Each request to `@connections`.
    fn management(&self, method: &str, connection_id: &str) -> ManagementFault {
        let _ = (method, connection_id);
        ManagementFault::None
    }

    /// After a socket has closed, before `$disconnect` is invoked.
    fn disconnect(&self, connection_id: &str) -> DisconnectFault {
        let _ = connection_id;
        DisconnectFault::None
    }

    /// After `$connect` has answered, before the client gets the answer to its handshake: how long to hold it back.
    fn handshake_delay(&self, connection_id: &str) -> Duration {
        let _ = connection_id;
        Duration::ZERO
    }
}

/// What happens to a request to `@connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementFault {
    /// No fault.
    None,
    /// The response has this status, and nothing is delivered.
    Status(u16),
    /// The request has its effect, but no response arrives.
    LoseResponse,
    /// The request waits for this time.
    Delay(Duration),
    /// The request never gets a response, and nothing is delivered.
    Hang,
}

/// What happens to the invocation of `$disconnect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectFault {
    /// No fault.
    None,
    /// The function is not invoked.
    Lose,
    /// The function is invoked after this time.
    Delay(Duration),
}
