//! DynamoDB proxy for tests: records each operation of the functions, enforces their IAM permissions
//! and injects faults.
//!
//! It stands between the functions and the embedded DynamoDB. It rejects an operation that the
//! function's role in the template does not allow, as IAM does, so every test behind the proxy also
//! shows that no permission is missing. That needs `/proc` to find the calling function; on systems
//! other than Linux the proxy records and injects faults, but allows every operation.

mod faults;
mod iam;
mod index_lag;
mod processes;

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

pub use faults::{Fault, FaultEffect, error_body};

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
        let operations = self.operations.iter();
        let writes = operations.filter(|operation| operation.name == "TransactWriteItems");
        writes.map(|operation| operation.units).sum()
    }

    pub fn read_units(&self) -> f64 {
        let operations = self.operations.iter();
        let reads = operations.filter(|operation| operation.name != "TransactWriteItems");
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

    /// The connections that functions opened by a request to the endpoint's health check.
    pub fn health_checks(&self) -> Vec<u16> {
        self.proxy.data().health_checks.clone()
    }

    /// Injects these faults in order, each into the next operation of its kind.
    pub fn inject_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.proxy.data().next_faults = faults.into_iter().collect();
    }

    /// Injects this fault into every operation of its kind from now on; `None` ends that.
    pub fn inject_always(&self, fault: Option<Fault>) {
        self.proxy.data().permanent_fault = fault;
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

    /// Forwards the held operation.
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
    permanent_fault: Option<Fault>,
    fault_plan: FaultPlan,
    fault_counts: BTreeMap<FaultKind, u64>,
    conflict_stats: ConflictStats,
    /// Items of transactions in flight, if the fault plan makes overlapping transactions conflict.
    locked_items: BTreeSet<ItemKey>,
    /// The tokens of those transactions.
    locking_tokens: BTreeSet<String>,
    /// Items that nobody can read yet.
    hidden_items: BTreeSet<ItemKey>,
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
    let target = target.to_str().unwrap().to_owned();
    let name = target.rsplit('.').next().unwrap().to_owned();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let forward = async |delivery: Delivery| {
        let body = body.clone();
        state
            .forward(&name, &headers, &request, body, delivery)
            .await
    };
    let required_permissions = iam::required_permissions(&name, &request);
    let effect = if state.allows(function.as_deref(), &required_permissions) {
        state.next_effect(&name, &request)
    } else {
        let denied = error_body("AccessDeniedException");
        Some(FaultEffect::Respond(400, denied))
    };
    let (status, body) = match effect {
        None => forward(Delivery::Immediate).await,
        Some(FaultEffect::Respond(status, body)) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, Bytes::from(body.to_string()))
        }
        Some(FaultEffect::NeverRespond) => {
            state.blocked.notify_one();
            std::future::pending().await
        }
        Some(FaultEffect::Hold) => forward(Delivery::Held).await,
        Some(FaultEffect::LoseResponse) => {
            forward(Delivery::Immediate).await;
            let body = error_body("InternalServerError").to_string();
            (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(body))
        }
        Some(FaultEffect::Delay(delay)) => {
            let response = forward(Delivery::Immediate).await;
            tokio::time::sleep(delay).await;
            response
        }
        Some(FaultEffect::DropBefore) => return Err(ConnectionDropped),
        Some(FaultEffect::DropAfter) => {
            forward(Delivery::Immediate).await;
            return Err(ConnectionDropped);
        }
        Some(FaultEffect::KillBefore) => {
            processes::kill_calling_process(ports);
            return Err(ConnectionDropped);
        }
        Some(FaultEffect::KillAfter) => {
            forward(Delivery::Immediate).await;
            processes::kill_calling_process(ports);
            return Err(ConnectionDropped);
        }
        Some(FaultEffect::TornRead(delay)) => {
            let messages: BTreeSet<_> = item_keys(&request)
                .into_iter()
                .filter(|(_, sk)| sk.starts_with("MSG#"))
                .collect();
            state.data().hidden_items.extend(messages.iter().cloned());
            let response = forward(Delivery::Immediate).await;
            // A cancelled transaction has written nothing that could be hidden.
            if response.0.is_success() {
                tokio::time::sleep(delay).await;
            }
            let is_visible = |key: &ItemKey| !messages.contains(key);
            state.data().hidden_items.retain(is_visible);
            response
        }
        Some(FaultEffect::IndexLag { seed }) => {
            state.query_late_index(&headers, &request, seed).await
        }
    };
    let round_trip = state.data().fault_plan.round_trip;
    tokio::time::sleep(round_trip).await;
    let text = |name: &str| request[name].as_str().map(str::to_owned);
    let operation = Operation {
        function,
        required_permissions,
        name,
        index: text("IndexName"),
        consistent: request["ConsistentRead"] == true,
        token: text("ClientRequestToken"),
        connection: ports.caller,
        units: capacity_units(&serde_json::from_slice(&body).unwrap_or_default()),
        started,
        ended: state.tick(),
    };
    state.data().operations.push(operation);
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/x-amz-json-1.0");
    Ok(response.body(Full::new(body)).unwrap())
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
        let applies = |fault: &Fault| fault.applies_to(operation);
        if data.next_faults.front().is_some_and(applies) {
            return data.next_faults.pop_front().map(|fault| fault.effect);
        }
        if let Some(fault) = data.permanent_fault.clone().filter(applies) {
            return Some(fault.effect);
        }
        let (kind, effect) = data.fault_plan.next_fault(operation, request)?;
        *data.fault_counts.entry(kind).or_default() += 1;
        Some(effect)
    }

    /// Sends an operation to the table. A transaction first locks its items if the fault plan says
    /// so. Hidden items are left out of responses.
    async fn forward(
        &self,
        operation: &str,
        headers: &HeaderMap,
        request: &Value,
        body: Bytes,
        delivery: Delivery,
    ) -> (StatusCode, Bytes) {
        if operation != "TransactWriteItems" {
            if delivery == Delivery::Held {
                self.wait_for_release().await;
            }
            let (status, response) = self.send(headers, body).await;
            return (status, self.without_hidden_items(request, response));
        }
        let token = request["ClientRequestToken"].to_string();
        let locks = match self.lock_items(&token, item_keys(request)) {
            Ok(locks) => locks,
            Err(error) => return (StatusCode::BAD_REQUEST, Bytes::from(error.to_string())),
        };
        if delivery == Delivery::Held {
            self.wait_for_release().await;
        } else if let Some(locks) = &locks {
            tokio::time::sleep(locks.duration).await;
        }
        let remembers_rows = self.data().fault_plan.has_index_lag();
        let response = if remembers_rows {
            self.send_and_remember_rows(headers, request, body).await
        } else {
            self.send(headers, body).await
        };
        if let Some(locks) = locks {
            let data = &mut *self.data();
            data.locked_items.retain(|key| !locks.keys.contains(key));
            data.locking_tokens.remove(&token);
        }
        response
    }

    async fn wait_for_release(&self) {
        self.blocked.notify_one();
        self.released.notified().await;
    }

    /// Locks a transaction's items, or returns DynamoDB's error when another transaction has locked
    /// one of them. `None` if transactions do not conflict in this fault plan.
    fn lock_items(&self, token: &str, mut keys: Vec<ItemKey>) -> Result<Option<ItemLocks>, Value> {
        let data = &mut *self.data();
        let Some(duration) = data.fault_plan.lock_time else {
            return Ok(None);
        };
        if data.fault_plan.single_counter {
            for (_, sk) in keys.iter_mut().filter(|(_, sk)| sk.starts_with("TOTALS#")) {
                "TOTALS".clone_into(sk);
            }
        }
        data.conflict_stats.attempts += 1;
        if data.locking_tokens.contains(token) {
            return Err(error_body("TransactionInProgressException"));
        }
        if keys.iter().any(|key| data.locked_items.contains(key)) {
            data.conflict_stats.conflicts += 1;
            let reason = |key: &ItemKey| {
                let locked = data.locked_items.contains(key);
                json!({"Code": if locked { "TransactionConflict" } else { "None" }})
            };
            return Err(faults::cancellation(keys.iter().map(reason).collect()));
        }
        data.locked_items.extend(keys.iter().cloned());
        data.locking_tokens.insert(token.to_owned());
        Ok(Some(ItemLocks { keys, duration }))
    }

    /// Sends a transaction, and remembers how it changes the rows of the indexes. Those are the states of
    /// chats.
    async fn send_and_remember_rows(
        &self,
        headers: &HeaderMap,
        request: &Value,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let mut keys = item_keys(request);
        keys.retain(|(_, sk)| sk == "STATE");
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

    /// Reads items of a transaction's table, with the headers of the transaction. `None` stands for an
    /// item that does not exist.
    async fn read_items(
        &self,
        headers: &HeaderMap,
        transaction: &Value,
        keys: &[ItemKey],
    ) -> Vec<Option<Value>> {
        let mut parts = transaction["TransactItems"][0]
            .as_object()
            .unwrap()
            .values();
        let table = &parts.next().unwrap()["TableName"];
        let mut headers = headers.clone();
        let get_item = HeaderValue::from_static("DynamoDB_20120810.GetItem");
        headers.insert("x-amz-target", get_item);
        let mut items = Vec::new();
        for (pk, sk) in keys {
            let key = json!({"pk": {"S": pk}, "sk": {"S": sk}});
            let request = json!({"TableName": table, "Key": key, "ConsistentRead": true});
            let body = Bytes::from(request.to_string());
            let (status, body) = self.send(&headers, body).await;
            assert!(status.is_success(), "{status} {body:?}");
            let mut response: Value = serde_json::from_slice(&body).unwrap();
            items.push(response.as_object_mut().unwrap().remove("Item"));
        }
        items
    }

    /// Answers a query on an index as if the index had not followed the latest changes yet.
    async fn query_late_index(
        &self,
        headers: &HeaderMap,
        request: &Value,
        seed: u64,
    ) -> (StatusCode, Bytes) {
        let query = IndexQuery::new(request);
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

    async fn send(&self, headers: &HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let mut forwarded = self.http.post(&self.endpoint).body(body);
        // The client sets these two. The body can have another length than in the caller's request.
        let is_set_by_client = |name: &str| matches!(name, "host" | "content-length");
        for (name, value) in headers {
            if !is_set_by_client(name.as_str()) {
                forwarded = forwarded.header(name, value);
            }
        }
        let response = forwarded.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap())
    }

    fn without_hidden_items(&self, request: &Value, response: Bytes) -> Bytes {
        let data = self.data();
        if data.hidden_items.is_empty() {
            return response;
        }
        let is_hidden =
            |item: &Value| item_key(item).is_some_and(|key| data.hidden_items.contains(&key));
        let mut body: Value = serde_json::from_slice(&response).unwrap();
        if is_hidden(&request["Key"]) {
            body.as_object_mut().unwrap().remove("Item");
        }
        if let Some(items) = body["Items"].as_array_mut() {
            items.retain(|item| !is_hidden(item));
        }
        Bytes::from(body.to_string())
    }
}

/// The keys of the items that a transaction writes.
fn item_keys(request: &Value) -> Vec<ItemKey> {
    let parts = request["TransactItems"].as_array();
    let key = |part: &Value| {
        let put = item_key(&part["Put"]["Item"]);
        put.or_else(|| item_key(&part["Update"]["Key"]))
            .expect("a transaction consists of puts and updates")
    };
    parts.into_iter().flatten().map(key).collect()
}

fn item_key(item: &Value) -> Option<ItemKey> {
    let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    Some((text("pk")?, text("sk")?))
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
