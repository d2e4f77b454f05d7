//! Tests of push through WebSockets: the real functions, the stream and the sockets of the development server, with
//! injected faults. The design and the rules for clients are in `docs/realtime.md`. The contract tests check each event
//! and each frame; these tests check what remains true when something fails, and what it costs.
//!
//! | Module | What it checks |
//! |---|---|
//! | `cost` | round trips, capacity units, frames and invocations of each event and of each frame of a client |
//! | `expiry` | access tokens that expire while a connection is open, renewal, the limits on idle time and age |
//! | `faults` | one fault at a time: killed functions, failed sends, lost disconnects, odd records |
//! | `handshake` | the authorizer: issuer, audience, origins; invalid configuration |
//! | `model` | random requests on several devices under faults, against what the REST API says |
//! | `permissions` | what the functions of push do, for `iam_policies` |
//! | `storm` | many sockets are cut at once and come back below a limit on new connections |
//!
//! `client` is a client that follows the rules for clients.

pub mod client;
mod cost;
mod expiry;
mod faults;
mod handshake;
mod model;
pub mod permissions;
mod storm;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{
    InvokeError, Stack, StackOptions,
    realtime::{DisconnectFault, ManagementFault, RealtimeFaults, RealtimeOptions},
};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};

use crate::{
    Table,
    dynamodb_proxy::ProxiedStack,
    eventually,
    fault_injection::FaultPlan,
    support::{self, Api, User},
};

/// The function that sends the events.
pub const PUSH_EVENTS: &str = "push-events";

/// A stack with push. Its functions reach the table through the proxy, and its faults are injected without delays.
pub struct LiveStack {
    pub proxied: Arc<ProxiedStack>,
    pub faults: Arc<LiveFaults>,
}

impl LiveStack {
    pub async fn start() -> Self {
        Self::start_with(support::stack_options(), RealtimeOptions::default()).await
    }

    pub async fn start_with(mut options: StackOptions, realtime: RealtimeOptions) -> Self {
        let faults = Arc::new(LiveFaults::default());
        let injected: Arc<dyn RealtimeFaults> = faults.clone();
        options.realtime = RealtimeOptions {
            enabled: true,
            faults: Some(injected),
            ..realtime
        };
        let proxied = ProxiedStack::start_with(options).await;
        proxied.set_fault_plan(FaultPlan::none());
        Self {
            proxied: Arc::new(proxied),
            faults,
        }
    }

    pub fn api(&self) -> &Api {
        &self.proxied.stack.api
    }

    pub fn table(&self) -> &Table {
        &self.proxied.stack.table
    }

    pub fn stack(&self) -> &Stack {
        &self.proxied.stack.stack
    }

    /// A function that kills all processes of one of the stack's functions, as an injected fault does.
    pub fn killer(&self, function: &'static str) -> impl Fn() + Send + Sync + use<> {
        let proxied = Arc::downgrade(&self.proxied);
        move || {
            let Some(proxied) = proxied.upgrade() else {
                return;
            };
            for process in proxied.stack.stack.instance_pids(function) {
                let process = Pid::from_raw(i32::try_from(process).unwrap());
                match kill(process, Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => panic!("cannot kill {function}: {error}"),
                }
            }
        }
    }

    /// The ids of a user's connections in the table, oldest first.
    pub async fn connections(&self, user: &User) -> Vec<String> {
        let items = self.table().user(user.id).await.into_iter();
        let mut connections: Vec<_> = items
            .filter_map(|(sk, item)| {
                let id = sk.strip_prefix("CONN#")?.to_owned();
                Some((item["connectedAt"].as_u64(), id))
            })
            .collect();
        connections.sort();
        connections.into_iter().map(|(_, id)| id).collect()
    }

    /// The id of a user's only connection.
    pub async fn only_connection(&self, user: &User) -> String {
        let mut connections = self.connections(user).await;
        assert_eq!(connections.len(), 1, "{connections:?}");
        connections.remove(0)
    }

    /// Sets a number of a connection's item.
    pub async fn set_connection(&self, user: &User, id: &str, attribute: &str, value: u64) {
        let value = AttributeValue::N(value.to_string());
        let (pk, sk) = (format!("USER#{}", user.id), format!("CONN#{id}"));
        self.table().set(&pk, &sk, attribute, value).await;
    }

    /// Writes the item of a connection whose socket does not exist, opened this many seconds ago.
    pub async fn put_stale_connection(&self, user: &User, id: &str, age: u64) {
        let now = support::tokens::now_seconds();
        let number = |value: u64| AttributeValue::N(value.to_string());
        let attributes = [
            ("type", AttributeValue::S("Connection".to_owned())),
            ("connectedAt", number((now - age) * 1_000)),
            ("tokenExpiresAt", number(now + 3_600)),
            ("nextAt", number((now - age) * 1_000)),
            ("expiresAt", number(now + 7_800 - age)),
        ];
        let (pk, sk) = (format!("USER#{}", user.id), format!("CONN#{id}"));
        self.table().put(&pk, &sk, &attributes).await;
    }

    /// The record of the latest change of a chat. [`LiveFaults::withhold_records`] must have been called before the
    /// change.
    pub async fn latest_record(&self, chat: &str) -> Value {
        let state = self.table().chat(chat).await["STATE"].clone();
        let find = || {
            let withheld = lock(&self.faults.withheld);
            let mut records = withheld.iter().rev();
            records
                .find(|record| {
                    let keys = &record["dynamodb"]["Keys"];
                    keys["pk"]["S"] == format!("CHAT#{chat}") && new_image(record) == state
                })
                .cloned()
        };
        eventually("the stream has the latest change", async || {
            find().is_some()
        })
        .await;
        find().unwrap()
    }

    /// Sends records to `push-events`, past the stream. Returns its response when everything is sent.
    pub async fn push(&self, records: &[Value]) -> Result<Value, InvokeError> {
        let event = json!({"Records": records});
        self.stack().invoke(PUSH_EVENTS, event).await
    }

    /// Like [`LiveStack::push`]. Asserts that no record is reported as failed.
    pub async fn push_all(&self, records: &[Value]) {
        let response = self.push(records).await.unwrap();
        assert_eq!(failed_records(&response), [""; 0], "{response}");
    }
}

/// The sequence numbers that a response of `push-events` reports.
pub fn failed_records(response: &Value) -> Vec<&str> {
    let failures = response["batchItemFailures"].as_array();
    let failures = failures.into_iter().flatten();
    failures
        .map(|failure| failure["itemIdentifier"].as_str().unwrap())
        .collect()
}

/// The sequence number of a record.
pub fn sequence_number(record: &Value) -> &str {
    record["dynamodb"]["SequenceNumber"].as_str().unwrap()
}

/// The chat that a record is about.
pub fn chat_of(record: &Value) -> Option<&str> {
    let pk = record["dynamodb"]["Keys"]["pk"]["S"].as_str()?;
    pk.strip_prefix("CHAT#")
}

/// The item of a record after the change, without its keys, as [`Table`] shows items.
fn new_image(record: &Value) -> Value {
    let image = record["dynamodb"]["NewImage"].as_object();
    let members = image.into_iter().flatten();
    let members = members.filter(|(name, _)| !matches!(name.as_str(), "pk" | "sk"));
    members
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// An attribute in the JSON of DynamoDB as plain JSON.
fn plain(value: &Value) -> Value {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "M" => {
            let members = value.as_object().unwrap().iter();
            members
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        _ => value.clone(),
    }
}

/// One batch of records on its way to `push-events`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub attempt: u32,
    pub records: Vec<Value>,
}

/// One request to `@connections`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementRequest {
    pub method: String,
    pub connection: String,
}

type BatchRule = Box<dyn FnMut(Vec<Value>, u32) -> Vec<Value> + Send>;
type ManagementRule = Box<dyn FnMut(&str, &str) -> ManagementFault + Send>;
type DisconnectRule = Box<dyn FnMut(&str) -> DisconnectFault + Send>;
type HandshakeRule = Box<dyn FnMut(&str) -> Duration + Send>;

/// Records the batches, the requests to `@connections` and the ends of sockets, and injects the faults that a test
/// defines. Without a rule, nothing is changed.
#[derive(Default)]
pub struct LiveFaults {
    batches: Mutex<Vec<Batch>>,
    requests: Mutex<Vec<ManagementRequest>>,
    disconnects: Mutex<Vec<String>>,
    /// Records that the stream did not deliver.
    withheld: Arc<Mutex<Vec<Value>>>,
    batch_rule: Mutex<Option<BatchRule>>,
    management_rule: Mutex<Option<ManagementRule>>,
    disconnect_rule: Mutex<Option<DisconnectRule>>,
    handshake_rule: Mutex<Option<HandshakeRule>>,
}

/// Locks a mutex. A test that has panicked must not hide its reason behind others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl LiveFaults {
    /// What `push-events` receives instead of each batch.
    pub fn on_batch(&self, rule: impl FnMut(Vec<Value>, u32) -> Vec<Value> + Send + 'static) {
        *lock(&self.batch_rule) = Some(Box::new(rule));
    }

    /// The fault of each request to `@connections`, by method and connection.
    pub fn on_management(&self, rule: impl FnMut(&str, &str) -> ManagementFault + Send + 'static) {
        *lock(&self.management_rule) = Some(Box::new(rule));
    }

    /// The fault of each `$disconnect`, by connection.
    pub fn on_disconnect(&self, rule: impl FnMut(&str) -> DisconnectFault + Send + 'static) {
        *lock(&self.disconnect_rule) = Some(Box::new(rule));
    }

    /// How long each handshake is held after `$connect` has responded, by connection.
    pub fn on_handshake(&self, rule: impl FnMut(&str) -> Duration + Send + 'static) {
        *lock(&self.handshake_rule) = Some(Box::new(rule));
    }

    /// Removes all rules.
    pub fn clear(&self) {
        *lock(&self.batch_rule) = None;
        *lock(&self.management_rule) = None;
        *lock(&self.disconnect_rule) = None;
        *lock(&self.handshake_rule) = None;
    }

    /// Keeps all records back from now on, so that a test sends them itself, at a time that it chooses.
    pub fn withhold_records(&self) {
        let withheld = self.withheld.clone();
        self.on_batch(move |records, _| {
            lock(&withheld).extend(records);
            Vec::new()
        });
    }

    /// The batches since the last call of this.
    pub fn drain_batches(&self) -> Vec<Batch> {
        std::mem::take(&mut lock(&self.batches))
    }

    /// How many batches there were since the last call of [`LiveFaults::drain_batches`].
    pub fn batch_count(&self) -> usize {
        lock(&self.batches).len()
    }

    /// The highest attempt at a batch since the last call of [`LiveFaults::drain_batches`].
    pub fn last_attempt(&self) -> u32 {
        let batches = lock(&self.batches);
        batches.iter().map(|batch| batch.attempt).max().unwrap_or(0)
    }

    /// The requests to `@connections` since the last call of this.
    pub fn drain_requests(&self) -> Vec<ManagementRequest> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// How many requests with this method there were since the last call of [`LiveFaults::drain_requests`].
    pub fn request_count(&self, method: &str) -> usize {
        let requests = lock(&self.requests);
        let requests = requests.iter().filter(|request| request.method == method);
        requests.count()
    }

    /// How many sockets have closed.
    pub fn disconnect_count(&self) -> usize {
        lock(&self.disconnects).len()
    }
}

impl RealtimeFaults for LiveFaults {
    fn batch(&self, records: Vec<Value>, attempt: u32) -> Vec<Value> {
        lock(&self.batches).push(Batch {
            attempt,
            records: records.clone(),
        });
        match &mut *lock(&self.batch_rule) {
            Some(rule) => rule(records, attempt),
            None => records,
        }
    }

    fn management(&self, method: &str, connection_id: &str) -> ManagementFault {
        lock(&self.requests).push(ManagementRequest {
            method: method.to_owned(),
            connection: connection_id.to_owned(),
        });
        match &mut *lock(&self.management_rule) {
            Some(rule) => rule(method, connection_id),
            None => ManagementFault::None,
        }
    }

    fn disconnect(&self, connection_id: &str) -> DisconnectFault {
        lock(&self.disconnects).push(connection_id.to_owned());
        match &mut *lock(&self.disconnect_rule) {
            Some(rule) => rule(connection_id),
            None => DisconnectFault::None,
        }
    }

    fn handshake_delay(&self, connection_id: &str) -> Duration {
        match &mut *lock(&self.handshake_rule) {
            Some(rule) => rule(connection_id),
            None => Duration::ZERO,
        }
    }
}

/// The fault for the first request of each connection, and none for those that follow.
pub fn once_per_connection(
    fault: impl Fn() -> ManagementFault + Send + 'static,
) -> impl FnMut(&str, &str) -> ManagementFault + Send + 'static {
    let mut met = std::collections::BTreeSet::new();
    move |_: &str, connection: &str| {
        if met.insert(connection.to_owned()) {
            fault()
        } else {
            ManagementFault::None
        }
    }
}
