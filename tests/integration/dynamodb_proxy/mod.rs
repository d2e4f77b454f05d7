//! DynamoDB proxy for tests: records each operation of the functions, enforces their IAM permissions
//! and injects faults.
//!
//! It stands between the functions and the embedded DynamoDB. It rejects an operation that the
//! function's role in the template does not allow, as IAM does, so every test behind the proxy also
//! shows that no permission is missing. That needs `/proc` to find the calling function; on systems
//! other than Linux the proxy records and injects faults, but allows every operation.
//!
//! The development server reads the stream of the table through the proxy, too, as Lambda does in AWS. The proxy only
//! forwards these operations.

mod batches;
mod faults;
mod iam;
mod index_lag;
mod processes;
mod torn_reads;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chat_local::{
    Database, StackOptions,
    dynamodb::EmbeddedDynamoDb,
    template::{Permission, Template},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::HeaderValue,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

pub use batches::batch_keys;
pub use faults::{Fault, FaultEffect, LateItems, Until, error_body};

use crate::{
    Table, TestStack, eventually,
    fault_injection::{FaultKind, FaultPlan},
    support, within_limit,
};
use index_lag::{IndexQuery, LateRows, RowHistory};
use processes::Ports;

/// A stack whose functions reach the table through the proxy.
pub struct ProxiedStack {
    pub stack: TestStack,
    proxy: Arc<ProxyState>,
    _dynamodb: EmbeddedDynamoDb,
}

/// One operation on DynamoDB.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The binary of the calling function; `None` if the caller is not a function.
    pub function: Option<String>,
    pub name: String,
    /// The permissions that IAM checks for it.
    pub required_permissions: BTreeSet<Permission>,
    pub index: Option<String>,
    /// Whether it is a strongly consistent read.
    pub consistent: bool,
    /// The token with which repeats of a transaction take effect once.
    pub token: Option<String>,
    /// The connection, identified by the caller's port.
    pub connection: u16,
    /// Capacity units that DynamoDB reports; 0 if it reports none.
    pub units: f64,
    /// Start and end on a logical clock, which counts events instead of seconds.
    started: u64,
    ended: u64,
}

/// The operations since the last drain, and their cost.
#[derive(Debug)]
pub struct Cost {
    pub operations: Vec<Operation>,
}

impl Operation {
    /// Whether it changes items.
    pub fn is_write(&self) -> bool {
        faults::is_write(&self.name)
    }
}

impl Cost {
    /// Sequential round trips: operations that overlap in time count once.
    pub fn round_trips(&self) -> usize {
        let mut operations: Vec<_> = self.operations.iter().collect();
        operations.sort_by_key(|operation| operation.ended);
        let mut last_end = 0;
        let mut count = 0;
        for operation in operations {
            if operation.started > last_end || count == 0 {
                count += 1;
                last_end = operation.ended;
            }
        }
        count
    }

    pub fn write_units(&self) -> f64 {
        let writes = self
            .operations
            .iter()
            .filter(|operation| operation.is_write());
        writes.map(|operation| operation.units).sum()
    }

    pub fn read_units(&self) -> f64 {
        let reads = self
            .operations
            .iter()
            .filter(|operation| !operation.is_write());
        reads.map(|operation| operation.units).sum()
    }
}

/// Counts transactions, and conflicts between transactions that overlap in time.
#[derive(Clone, Debug, Default)]
pub struct ConflictStats {
    /// Attempted transactions.
    pub attempts: u64,
    /// Transactions that were cancelled because another one had locked one of their items.
    pub conflicts: u64,
}

impl ProxiedStack {
    pub async fn start() -> Self {
        Self::start_with(support::stack_options()).await
    }

    pub async fn start_with(options: StackOptions) -> Self {
        let dynamodb = EmbeddedDynamoDb::start(None).await.unwrap();
        // Creating a test client installs the TLS provider that the proxy's client needs, too.
        drop(support::Api::at(""));
        let functions = Template::read(&options.template).unwrap().functions;
        let permissions = functions
            .into_iter()
            .map(|function| (function.binary, function.permissions));
        let proxy = Arc::new(ProxyState {
            endpoint: dynamodb.endpoint().to_owned(),
            permissions: permissions.collect(),
            http: reqwest::Client::new(),
            data: Mutex::default(),
            commits: tokio::sync::RwLock::default(),
            index_order: tokio::sync::Mutex::default(),
            blocked: Notify::new(),
            released: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(accept_connections(listener, proxy.clone()));
        let options = StackOptions {
            database: Database::Endpoint(endpoint),
            ..options
        };
        let mut stack = TestStack::start_with(options).await;
        // The tests read the table directly, so that faults do not affect them.
        stack.table = Table::at(dynamodb.endpoint(), stack.stack.table());
        Self {
            stack,
            proxy,
            _dynamodb: dynamodb,
        }
    }

    /// Returns the operations since the last call of this, and forgets them.
    pub fn drain_cost(&self) -> Cost {
        Cost {
            operations: std::mem::take(&mut self.proxy.data().operations),
        }
    }

    /// How many operations have ended since the last call of [`ProxiedStack::drain_cost`].
    pub fn operation_count(&self) -> usize {
        self.proxy.data().operations.len()
    }

    /// The connections that functions opened by a request to the endpoint's health check.
    pub fn health_checks(&self) -> Vec<u16> {
        self.proxy.data().health_checks.clone()
    }

    /// Injects these faults in order, each into the next operation of its kind.
    pub fn inject_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.proxy.data().next_faults = faults.into_iter().collect();
    }

    /// Injects these faults into every operation of their kinds from now on, the first one that applies; `None`
    /// ends that.
    pub fn inject_always(&self, faults: impl IntoIterator<Item = Fault>) {
        self.proxy.data().permanent_faults = faults.into_iter().collect();
    }

    /// Whether faults that [`ProxiedStack::inject_next`] has announced are still to come.
    pub fn has_pending_faults(&self) -> bool {
        !self.proxy.data().next_faults.is_empty()
    }

    /// Injects the faults of this plan from now on. The indexes have followed all earlier changes.
    pub fn set_fault_plan(&self, plan: FaultPlan) {
        let data = &mut *self.proxy.data();
        data.fault_plan = plan;
        data.row_history.clear();
    }

    /// Makes the indexes follow all changes so far.
    pub fn settle_indexes(&self) {
        self.proxy.data().row_history.clear();
    }

    /// How many queries on an index have missed a change.
    pub fn late_index_queries(&self) -> u64 {
        self.proxy.data().late_index_queries
    }

    /// Waits until the proxy holds an operation, or has one that it never responds to.
    pub async fn wait_until_blocked(&self) {
        let blocked = self.proxy.blocked.notified();
        within_limit("an operation is blocked in the proxy", blocked).await;
    }

    /// Forwards the held operation, or makes the rest of a transaction readable.
    pub fn release_held(&self) {
        self.proxy.released.notify_one();
    }

    /// Waits until no operation is in flight.
    pub async fn wait_until_idle(&self) {
        eventually("no operation is in flight", async || {
            self.proxy.data().in_flight == 0
        })
        .await;
    }

    /// How often the fault plan has injected each kind of fault.
    pub fn fault_counts(&self) -> BTreeMap<FaultKind, u64> {
        self.proxy.data().fault_counts.clone()
    }

    /// Returns the transactions and conflicts since the last call of this, and resets them to zero.
    pub fn drain_conflict_stats(&self) -> ConflictStats {
        std::mem::take(&mut self.proxy.data().conflict_stats)
    }
}

/// What the connections to the proxy share.
struct ProxyState {
    endpoint: String,
    /// The permissions of each function's role, by binary.
    permissions: BTreeMap<String, BTreeSet<Permission>>,
    http: reqwest::Client,
    data: Mutex<ProxyData>,
    /// Held exclusively while a transaction is applied in parts, so that no operation sees it change back and
    /// forth.
    commits: tokio::sync::RwLock<()>,
    /// Held while a transaction changes rows of the indexes, and while a late index is queried. So the
    /// remembered rows fit the rows in the response.
    index_order: tokio::sync::Mutex<()>,
    /// Notified when an operation is held or will never get a response.
    blocked: Notify,
    /// Notified when the held operation may go on.
    released: Notify,
}

#[derive(Default)]
struct ProxyData {
    /// The logical clock.
    events: u64,
    in_flight: u64,
    operations: Vec<Operation>,
    health_checks: Vec<u16>,
    next_faults: VecDeque<Fault>,
    permanent_faults: Vec<Fault>,
    fault_plan: FaultPlan,
    fault_counts: BTreeMap<FaultKind, u64>,
    conflict_stats: ConflictStats,
    /// Items of transactions in flight, if the fault plan makes overlapping transactions conflict, and items
    /// that become readable late.
    locked_items: BTreeSet<ItemKey>,
    /// The tokens of those transactions.
    locking_tokens: BTreeSet<String>,
    /// The latest rows of the indexes, if the fault plan has index lag.
    row_history: RowHistory,
    late_index_queries: u64,
}

/// Partition key and sort key.
type ItemKey = (String, String);

/// The items that a transaction has locked, and for how long it normally does.
struct ItemLocks {
    keys: Vec<ItemKey>,
    duration: Duration,
}

/// The status and the body of a response.
type RawResponse = (StatusCode, Bytes);

/// When an operation reaches the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Immediate,
    /// When the test releases it.
    Held,
}

/// Makes hyper close the connection without a response.
#[derive(Debug)]
struct ConnectionDropped;

impl std::fmt::Display for ConnectionDropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the proxy dropped the connection")
    }
}

impl std::error::Error for ConnectionDropped {}

type ProxyResult = Result<Response<Full<Bytes>>, ConnectionDropped>;

async fn accept_connections(listener: TcpListener, state: Arc<ProxyState>) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let ports = Ports {
            caller: peer.port(),
            proxy: stream.local_addr().unwrap().port(),
        };
        let state = state.clone();
        let function = state.calling_function(ports);
        let service = service_fn(move |request: Request<Incoming>| {
            let (state, function) = (state.clone(), function.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|_| ConnectionDropped)?;
                let body = body.to_bytes();
                if is_of_stream_poller(&parts.headers) {
                    let response = state.try_send(&parts.headers, body).await;
                    return response.map(to_http).map_err(|_| ConnectionDropped);
                }
                // In its own task, so that an operation goes on when its caller is gone.
                state.data().in_flight += 1;
                let operation = tokio::spawn(async move {
                    let result = handle(&state, ports, function, parts.headers, body).await;
                    state.data().in_flight -= 1;
                    result
                });
                operation.await.unwrap_or(Err(ConnectionDropped))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// An operation as the proxy has received it.
struct Received {
    name: String,
    /// Whether the caller is a function, as far as this system can tell. Others are tests, which change the table
    /// also while transactions have locked its items.
    is_from_function: bool,
    ports: Ports,
    headers: HeaderMap,
    request: Value,
    body: Bytes,
}

/// Records one operation, and forwards it unless a fault or a missing permission prevents that.
async fn handle(
    state: &ProxyState,
    ports: Ports,
    function: Option<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ProxyResult {
    let started = state.tick();
    // A request without an operation is a health check. It must not carry credentials.
    let Some(target) = headers.get("x-amz-target") else {
        assert!(!headers.contains_key("authorization"), "{headers:?}");
        state.data().health_checks.push(ports.caller);
        return Ok(Response::new(Full::from("healthy: localhost")));
    };
    let target = target.to_str().unwrap();
    let received = Received {
        name: target.rsplit('.').next().unwrap().to_owned(),
        is_from_function: function.is_some() || !processes::CAN_FIND_CALLERS,
        ports,
        request: serde_json::from_slice(&body).unwrap(),
        headers,
        body,
    };
    let Received { name, request, .. } = &received;
    let required_permissions = iam::required_permissions(name, request);
    let effect = if state.allows(function.as_deref(), &required_permissions) {
        state.next_effect(name, request)
    } else {
        let denied = error_body("AccessDeniedException");
        Some(FaultEffect::Respond(400, denied))
    };
    let (status, body) = state.respond(&received, effect).await?;
    let round_trip = state.data().fault_plan.round_trip;
    tokio::time::sleep(round_trip).await;
    let text = |name: &str| request[name].as_str().map(str::to_owned);
    let operation = Operation {
        function,
        required_permissions,
        name: name.clone(),
        index: text("IndexName"),
        consistent: is_consistent(request),
        token: text("ClientRequestToken"),
        connection: ports.caller,
        units: capacity_units(&serde_json::from_slice(&body).unwrap_or_default()),
        started,
        ended: state.tick(),
    };
    state.data().operations.push(operation);
    Ok(to_http((status, body)))
}

/// Whether an operation is one with which the development server reads the stream. A test does not see these, because
/// it is Lambda that sends them in AWS, at times that no test knows.
fn is_of_stream_poller(headers: &HeaderMap) -> bool {
    let target = headers.get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok());
    target.is_some_and(|target| {
        target.starts_with("DynamoDBStreams_") || target.ends_with(".DescribeTable")
    })
}

fn to_http((status, body): RawResponse) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/x-amz-json-1.0");
    response.body(Full::new(body)).unwrap()
}

impl ProxyState {
    fn data(&self) -> MutexGuard<'_, ProxyData> {
        self.data.lock().unwrap()
    }

    fn tick(&self) -> u64 {
        let mut data = self.data();
        data.events += 1;
        data.events
    }

    /// The function whose process made a connection; `None` for other processes.
    fn calling_function(&self, ports: Ports) -> Option<String> {
        if !processes::CAN_FIND_CALLERS {
            return None;
        }
        let name = processes::calling_executable(ports)?;
        self.permissions.contains_key(&name).then_some(name)
    }

    /// Whether IAM would allow an operation. Callers that are not functions may do everything.
    fn allows(&self, function: Option<&str>, required: &BTreeSet<Permission>) -> bool {
        let granted = function.and_then(|function| self.permissions.get(function));
        granted.is_none_or(|granted| required.is_subset(granted))
    }

    /// The fault for the next operation, if there is one. Faults that a test injects go before those
    /// of the fault plan.
    fn next_effect(&self, operation: &str, request: &Value) -> Option<FaultEffect> {
        let mut data = self.data();
        let applies = |fault: &Fault| fault.applies_to(operation, request);
        if data.next_faults.front().is_some_and(applies) {
            return data.next_faults.pop_front().map(|fault| fault.effect);
        }
        if let Some(fault) = data.permanent_faults.iter().find(|fault| applies(fault)) {
            return Some(fault.effect.clone());
        }
        let (kind, effect) = data.fault_plan.next_fault(operation, request)?;
        *data.fault_counts.entry(kind).or_default() += 1;
        Some(effect)
    }

    /// The response to an operation that meets this fault.
    async fn respond(
        &self,
        received: &Received,
        effect: Option<FaultEffect>,
    ) -> Result<RawResponse, ConnectionDropped> {
        let Some(effect) = effect else {
            return Ok(self.forward(received, Delivery::Immediate).await);
        };
        let forward = async || self.forward(received, Delivery::Immediate).await;
        Ok(match effect {
            FaultEffect::Respond(status, body) => {
                let status = StatusCode::from_u16(status).unwrap();
                (status, Bytes::from(body.to_string()))
            }
            FaultEffect::NeverRespond => {
                self.blocked.notify_one();
                std::future::pending().await
            }
            FaultEffect::Hold => self.forward(received, Delivery::Held).await,
            FaultEffect::Conflict if received.name == "TransactWriteItems" => {
                let reasons = item_keys(&received.request).into_iter();
                let reasons = reasons.map(|_| json!({"Code": "TransactionConflict"}));
                bad_request(&faults::cancellation(reasons.collect()))
            }
            FaultEffect::Conflict => bad_request(&error_body("TransactionConflictException")),
            FaultEffect::LoseResponse => {
                forward().await;
                let body = error_body("InternalServerError").to_string();
                (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(body))
            }
            FaultEffect::Delay(delay) => {
                let response = forward().await;
                tokio::time::sleep(delay).await;
                response
            }
            FaultEffect::DropBefore => return Err(ConnectionDropped),
            FaultEffect::DropAfter => {
                forward().await;
                return Err(ConnectionDropped);
            }
            FaultEffect::KillBefore => {
                processes::kill_calling_process(received.ports);
                return Err(ConnectionDropped);
            }
            FaultEffect::KillAfter => {
                forward().await;
                processes::kill_calling_process(received.ports);
                return Err(ConnectionDropped);
            }
            FaultEffect::TornRead { late, until } => {
                self.apply_in_parts(received, late, until).await
            }
            FaultEffect::Unprocessed { seed } => self.read_part_of_batch(received, seed).await,
            FaultEffect::ReportOneFailure => {
                let (status, body) = forward().await;
                let mut body: Value = serde_json::from_slice(&body).unwrap();
                if !status.is_success() {
                    faults::report_one_failure(&mut body);
                }
                (status, Bytes::from(body.to_string()))
            }
            FaultEffect::IndexLag { seed } => {
                let Received {
                    headers, request, ..
                } = received;
                self.query_late_index(headers, request, seed).await
            }
        })
    }

    /// Sends an operation to the table. A transaction first locks its items if the fault plan says so.
    async fn forward(&self, received: &Received, delivery: Delivery) -> RawResponse {
        let Received { name, request, .. } = received;
        if name != "TransactWriteItems" {
            if delivery == Delivery::Held {
                self.wait_for_release().await;
            }
            if received.is_from_function && self.is_locked(&item_keys(request)) {
                return bad_request(&error_body("TransactionConflictException"));
            }
            let _commit = self.commits.read().await;
            return self.send_and_remember_rows(received).await;
        }
        let locks = match self.lock_items(request) {
            Ok(locks) => locks,
            Err(error) => return bad_request(&error),
        };
        if delivery == Delivery::Held {
            self.wait_for_release().await;
        } else if let Some(locks) = &locks {
            tokio::time::sleep(locks.duration).await;
        }
        let response = {
            let _commit = self.commits.read().await;
            self.send_and_remember_rows(received).await
        };
        if let Some(locks) = locks {
            self.unlock_items(request, &locks.keys);
        }
        response
    }

    async fn wait_for_release(&self) {
        self.blocked.notify_one();
        self.released.notified().await;
    }

    /// Locks a transaction's items, or returns DynamoDB's error when another transaction has locked
    /// one of them. `None` if transactions do not conflict in this fault plan.
    fn lock_items(&self, transaction: &Value) -> Result<Option<ItemLocks>, Value> {
        let data = &mut *self.data();
        let (token, mut keys) = (transaction_token(transaction), item_keys(transaction));
        let lock_time = data.fault_plan.lock_time;
        if data.fault_plan.single_counter {
            for (_, sk) in keys.iter_mut().filter(|(_, sk)| sk.starts_with("TOTALS#")) {
                "TOTALS".clone_into(sk);
            }
        }
        data.conflict_stats.attempts += u64::from(lock_time.is_some());
        if data.locking_tokens.contains(&token) {
            return Err(error_body("TransactionInProgressException"));
        }
        if keys.iter().any(|key| data.locked_items.contains(key)) {
            data.conflict_stats.conflicts += u64::from(lock_time.is_some());
            let reason = |key: &ItemKey| {
                let locked = data.locked_items.contains(key);
                json!({"Code": if locked { "TransactionConflict" } else { "None" }})
            };
            return Err(faults::cancellation(keys.iter().map(reason).collect()));
        }
        let Some(duration) = lock_time else {
            return Ok(None);
        };
        data.locked_items.extend(keys.iter().cloned());
        data.locking_tokens.insert(token);
        Ok(Some(ItemLocks { keys, duration }))
    }

    fn unlock_items(&self, transaction: &Value, keys: &[ItemKey]) {
        let data = &mut *self.data();
        data.locked_items.retain(|key| !keys.contains(key));
        data.locking_tokens.remove(&transaction_token(transaction));
    }

    /// Whether a transaction in flight has locked one of these items.
    fn is_locked(&self, keys: &[ItemKey]) -> bool {
        let data = self.data();
        keys.iter().any(|key| data.locked_items.contains(key))
    }

    /// Sends an operation. If it is a write and the fault plan has index lag, remembers how it changes the rows of
    /// the indexes. Those are the states of chats. The caller has locked `commits`.
    async fn send_and_remember_rows(&self, received: &Received) -> RawResponse {
        let Received {
            headers, request, ..
        } = received;
        let body = received.body.clone();
        let mut keys = item_keys(request);
        keys.retain(|(_, sk)| sk == "STATE");
        if keys.is_empty() || !self.data().fault_plan.has_index_lag() {
            return self.send(headers, body).await;
        }
        let _order = self.index_order.lock().await;
        let before = self.read_items(headers, request, &keys).await;
        let response = self.send(headers, body).await;
        if response.0.is_success() {
            let after = self.read_items(headers, request, &keys).await;
            let data = &mut *self.data();
            for ((key, before), after) in keys.into_iter().zip(before).zip(after) {
                data.row_history.record(key, before, after);
            }
        }
        response
    }

    /// Reads items of a write's table, with the headers of the write. `None` stands for an item that does not
    /// exist.
    async fn read_items(
        &self,
        headers: &HeaderMap,
        write: &Value,
        keys: &[ItemKey],
    ) -> Vec<Option<Value>> {
        let table = table_name(write);
        let mut items = Vec::new();
        for key in keys {
            let request =
                json!({"TableName": table, "Key": key_attributes(key), "ConsistentRead": true});
            let mut response = self.call(headers, "GetItem", &request).await;
            items.push(response.as_object_mut().unwrap().remove("Item"));
        }
        items
    }

    /// Sends an operation of the proxy itself, with the headers of another operation.
    async fn call(&self, headers: &HeaderMap, operation: &str, request: &Value) -> Value {
        let mut headers = headers.clone();
        let target = HeaderValue::try_from(format!("DynamoDB_20120810.{operation}")).unwrap();
        headers.insert("x-amz-target", target);
        let body = Bytes::from(request.to_string());
        let (status, body) = self.send(&headers, body).await;
        assert!(status.is_success(), "{status} {body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Answers a query on an index as if the index had not followed the latest changes yet.
    async fn query_late_index(
        &self,
        headers: &HeaderMap,
        request: &Value,
        seed: u64,
    ) -> RawResponse {
        let query = IndexQuery::new(request);
        let _commit = self.commits.read().await;
        let _order = self.index_order.lock().await;
        let late = self.choose_late_rows(&query, seed);
        let request = query.request_with_room(request, &late);
        let body = Bytes::from(request.to_string());
        let (status, body) = self.send(headers, body).await;
        if !status.is_success() {
            return (status, body);
        }
        let response = serde_json::from_slice(&body).unwrap();
        let response = query.late_response(response, late);
        (status, Bytes::from(response.to_string()))
    }

    fn choose_late_rows(&self, query: &IndexQuery, seed: u64) -> LateRows {
        let data = &mut *self.data();
        let max_late_queries = data.fault_plan.max_late_queries;
        let late = data.row_history.late_rows(query, max_late_queries, seed);
        data.late_index_queries += u64::from(!late.is_empty());
        late
    }

    async fn send(&self, headers: &HeaderMap, body: Bytes) -> RawResponse {
        self.try_send(headers, body).await.unwrap()
    }

    /// Fails when the table is gone, because the test has ended.
    async fn try_send(&self, headers: &HeaderMap, body: Bytes) -> reqwest::Result<RawResponse> {
        let mut forwarded = self.http.post(&self.endpoint).body(body);
        // The client sets these two. The body can have another length than in the caller's request.
        let is_set_by_client = |name: &str| matches!(name, "host" | "content-length");
        for (name, value) in headers {
            if !is_set_by_client(name.as_str()) {
                forwarded = forwarded.header(name, value);
            }
        }
        let response = forwarded.send().await?;
        Ok((response.status(), response.bytes().await?))
    }
}

fn bad_request(error: &Value) -> RawResponse {
    (StatusCode::BAD_REQUEST, Bytes::from(error.to_string()))
}

/// The keys of the items that a write changes or checks. Empty if the operation is a read.
pub fn item_keys(request: &Value) -> Vec<ItemKey> {
    let key = |part: &Value| item_key(&part["Item"]).or_else(|| item_key(&part["Key"]));
    if let Some(parts) = request["TransactItems"].as_array() {
        let parts = parts
            .iter()
            .flat_map(|part| part.as_object().unwrap().values());
        let key = |part| key(part).expect("a part of a transaction has a key");
        return parts.map(key).collect();
    }
    let is_update = request["UpdateExpression"].is_string() || request["Item"].is_object();
    key(request).filter(|_| is_update).into_iter().collect()
}

/// The table of a write.
fn table_name(write: &Value) -> &Value {
    match write["TransactItems"][0].as_object() {
        Some(part) => &part.values().next().unwrap()["TableName"],
        None => &write["TableName"],
    }
}

/// Identifies the repeats of a transaction.
fn transaction_token(transaction: &Value) -> String {
    transaction["ClientRequestToken"].to_string()
}

fn item_key(item: &Value) -> Option<ItemKey> {
    let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    Some((text("pk")?, text("sk")?))
}

fn key_attributes((pk, sk): &ItemKey) -> Value {
    json!({"pk": {"S": pk}, "sk": {"S": sk}})
}

/// Whether a read is strongly consistent.
fn is_consistent(request: &Value) -> bool {
    match request["RequestItems"].as_object() {
        Some(tables) => tables.values().all(|table| table["ConsistentRead"] == true),
        None => request["ConsistentRead"] == true,
    }
}

/// The capacity units in a response. `ConsumedCapacity` is one object or, for a transaction, a list
/// with one object for each table.
fn capacity_units(response: &Value) -> f64 {
    let consumed = &response["ConsumedCapacity"];
    let each = consumed
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![consumed.clone()]);
    each.iter()
        .filter_map(|consumed| consumed["CapacityUnits"].as_f64())
        .sum()
}
