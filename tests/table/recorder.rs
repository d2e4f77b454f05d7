//! A proxy between the functions and the table that records what goes through it, refuses a function
//! what its role in the template does not allow, as IAM does, and answers in the table's stead when a
//! test wants a fault.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chat_local::{
    Database, Options,
    dynamodb::Embedded,
    template::{Grant, Template},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, sync::Notify};

use crate::{
    Local, Table, support,
    weather::{Trouble, Weather},
};

/// One call to DynamoDB.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The function's binary; `None` when somebody else called.
    pub function: Option<String>,
    pub name: String,
    /// What IAM would ask for: of a transaction, the actions of its parts.
    pub needs: BTreeSet<Grant>,
    pub index: Option<String>,
    /// Whether it asked for what is true now.
    pub consistent: bool,
    /// The token that makes repeats of a transaction count once.
    pub token: Option<String>,
    /// The connection it came over, by the caller's port.
    pub connection: u16,
    /// Capacity units as DynamoDB reports them; 0 when it reports none.
    pub units: f64,
    /// When it began and ended, counted in events and not in seconds.
    began: u64,
    ended: u64,
}

/// What the calls since the last look cost.
#[derive(Debug)]
pub struct Cost {
    pub operations: Vec<Operation>,
}

impl Cost {
    /// Round trips one after another: operations under way at the same time count once.
    pub fn round_trips(&self) -> usize {
        let mut operations: Vec<_> = self.operations.iter().collect();
        operations.sort_by_key(|operation| operation.ended);
        let mut end_of_last = 0;
        let mut count = 0;
        for operation in operations {
            if operation.began > end_of_last || count == 0 {
                count += 1;
                end_of_last = operation.ended;
            }
        }
        count
    }

    pub fn written(&self) -> f64 {
        let written = self
            .operations
            .iter()
            .filter(|it| it.name == "TransactWriteItems");
        written.map(|operation| operation.units).sum()
    }

    pub fn read(&self) -> f64 {
        let read = self
            .operations
            .iter()
            .filter(|it| it.name != "TransactWriteItems");
        read.map(|operation| operation.units).sum()
    }
}

/// What befalls one kind of operation, or any.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Option<&'static str>,
    fate: Fate,
}

/// What befalls a call on its way.
#[derive(Clone, Debug)]
pub enum Fate {
    /// An answer in the table's stead, which sees nothing of the call.
    Answer(u16, Value),
    /// No answer at all; the table sees nothing of the call.
    Silence,
    /// The call reaches the table once the test lets it.
    Hold,
    /// The call takes effect, but the caller hears of a fault.
    LostAnswer,
    /// The call takes effect, and the answer takes this much longer.
    Slow(Duration),
    /// The connection is closed; the table sees nothing of the call.
    DropBefore,
    /// The call takes effect, and the connection is closed.
    DropAfter,
    /// The calling process is killed; the table sees nothing of the call.
    KillBefore,
    /// The call takes effect, and the calling process is killed.
    KillAfter,
    /// The call takes effect, but for this long nobody can read the messages that it wrote.
    Torn(Duration),
}

impl Fate {
    /// A transaction that was cancelled for reasons with these codes.
    pub fn cancelled<'a>(codes: impl IntoIterator<Item = &'a str>) -> Self {
        let reasons = codes.into_iter().map(|code| json!({"Code": code}));
        let mut body = error("TransactionCanceledException");
        body["CancellationReasons"] = reasons.collect();
        Self::Answer(400, body)
    }
}

impl Fault {
    /// Any answer.
    pub fn answer(operation: &'static str, status: u16, body: Value) -> Self {
        Self::new(operation, Fate::Answer(status, body))
    }

    /// A transaction that was cancelled for these reasons, with whatever else they hold.
    pub fn cancelled_for(reasons: Value) -> Self {
        let mut body = error("TransactionCanceledException");
        body["CancellationReasons"] = reasons;
        Self::answer("TransactWriteItems", 400, body)
    }

    /// A transaction that was cancelled for reasons with these codes.
    pub fn cancelled(codes: &[&str]) -> Self {
        let fate = Fate::cancelled(codes.iter().copied());
        Self::new("TransactWriteItems", fate)
    }

    /// An error of DynamoDB.
    pub fn error(operation: &'static str, status: u16, name: &str) -> Self {
        Self::answer(operation, status, error(name))
    }

    /// A fate of one kind of operation.
    pub fn new(operation: &'static str, fate: Fate) -> Self {
        let operation = Some(operation);
        Self { operation, fate }
    }

    /// A fate of all operations.
    pub fn of_all(fate: Fate) -> Self {
        let operation = None;
        Self { operation, fate }
    }
}

/// The body of an error of DynamoDB.
pub fn error(name: &str) -> Value {
    json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "a fault"})
}

/// A stack whose functions reach the table through the recorder.
pub struct Recorded {
    pub local: Local,
    tape: Arc<Tape>,
    _dynamodb: Embedded,
}

struct Tape {
    endpoint: String,
    /// What each function's role allows.
    grants: BTreeMap<String, BTreeSet<Grant>>,
    http: reqwest::Client,
    log: Mutex<Log>,
    /// Told of each call that meets silence or is held.
    stopped: Notify,
    /// Told when the held call may go on.
    released: Notify,
}

#[derive(Default)]
struct Log {
    events: u64,
    under_way: u64,
    operations: Vec<Operation>,
    health_checks: Vec<u16>,
    next_faults: VecDeque<Fault>,
    every_fault: Option<Fault>,
    weather: Weather,
    troubles: BTreeMap<Trouble, u64>,
    overlaps: Overlaps,
    /// Items that nobody can read yet.
    hidden: BTreeSet<ItemKey>,
}

/// Partition key and sort key.
type ItemKey = (String, String);

/// Transactions under way, and how often two of them met.
#[derive(Clone, Debug, Default)]
pub struct Overlaps {
    held: BTreeSet<ItemKey>,
    tokens: BTreeSet<String>,
    /// Transactions that were tried.
    pub attempts: u64,
    /// Transactions that were cancelled because another one held an item of theirs.
    pub conflicts: u64,
}

impl Recorded {
    pub async fn start() -> Self {
        Self::start_with(support::options()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let dynamodb = Embedded::start(None).await.unwrap();
        // The client of the tests installs what the recorder's needs, too.
        drop(support::Api::at(""));
        let functions = Template::read(&options.template).unwrap().functions;
        let grants = functions.into_iter().map(|it| (it.binary, it.grants));
        let tape = Arc::new(Tape {
            endpoint: dynamodb.endpoint().to_owned(),
            grants: grants.collect(),
            http: reqwest::Client::new(),
            log: Mutex::default(),
            stopped: Notify::new(),
            released: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(accept(listener, tape.clone()));
        let options = Options {
            database: Database::Endpoint(endpoint),
            ..options
        };
        let mut local = Local::start_with(options).await;
        // The tests' own look at the table meets no trouble.
        local.table = Table::at(dynamodb.endpoint(), local.stack.table());
        Self {
            local,
            tape,
            _dynamodb: dynamodb,
        }
    }

    /// What was called since the last look.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: std::mem::take(&mut self.tape.log().operations),
        }
    }

    /// The connections over which the table's health was asked for.
    pub fn health_checks(&self) -> Vec<u16> {
        self.tape.log().health_checks.clone()
    }

    /// The next calls of their operations meet these faults, one each.
    pub fn next_calls_meet(&self, faults: impl IntoIterator<Item = Fault>) {
        self.tape.log().next_faults = faults.into_iter().collect();
    }

    /// Waits until a call has met silence or is held.
    pub async fn stopped(&self) {
        self.tape.stopped.notified().await;
    }

    /// Lets the held call go on.
    pub fn release(&self) {
        self.tape.released.notify_one();
    }

    /// Every call of its operation meets this fault from now on, or none does.
    pub fn every_call_meets(&self, fault: Option<Fault>) {
        self.tape.log().every_fault = fault;
    }

    /// What befalls calls at random from now on.
    pub fn weather(&self, weather: Weather) {
        self.tape.log().weather = weather;
    }

    /// Waits until nothing is under way any more.
    pub async fn quiet(&self) {
        while self.tape.log().under_way > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often each trouble has befallen a call.
    pub fn troubles(&self) -> BTreeMap<Trouble, u64> {
        self.tape.log().troubles.clone()
    }

    /// How often transactions have overlapped since the last look.
    pub fn overlaps(&self) -> Overlaps {
        let overlaps = &mut self.tape.log().overlaps;
        let seen = overlaps.clone();
        (overlaps.attempts, overlaps.conflicts) = (0, 0);
        seen
    }
}

/// Closes the connection without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was dropped")
    }
}

impl std::error::Error for Dropped {}

type Reply = Result<Response<Full<Bytes>>, Dropped>;

async fn accept(listener: TcpListener, tape: Arc<Tape>) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let peer = Ends {
            local: peer.port(),
            remote: stream.local_addr().unwrap().port(),
        };
        let tape = tape.clone();
        let caller = tape.function_at(peer);
        let service = service_fn(move |request: Request<Incoming>| {
            let (tape, caller) = (tape.clone(), caller.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
                // In a task of its own: what has begun goes on when the caller is gone.
                tape.log().under_way += 1;
                let call = tokio::spawn(async move {
                    let reply = record(&tape, peer, caller, parts.headers, body).await;
                    tape.log().under_way -= 1;
                    reply
                });
                call.await.unwrap_or(Err(Dropped))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn record(
    tape: &Tape,
    peer: Ends,
    function: Option<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let began = tape.tick();
    // Who asks for no operation asks for the endpoint's health, with nothing that is a secret.
    let Some(target) = headers.get("x-amz-target") else {
        assert!(!headers.contains_key("authorization"), "{headers:?}");
        tape.log().health_checks.push(peer.local);
        return Ok(Response::new(Full::from("healthy: localhost")));
    };
    let target = target.to_str().unwrap().to_owned();
    let name = target.rsplit('.').next().unwrap().to_owned();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let apply = async || tape.forward(&name, &headers, &request, body.clone()).await;
    let needs = needs(&name, &request);
    let fate = if tape.allows(function.as_deref(), &needs) {
        tape.fate(&name, &request)
    } else {
        Some(Fate::Answer(400, error("AccessDeniedException")))
    };
    let (status, body) = match fate {
        Some(Fate::Answer(status, body)) => (
            StatusCode::from_u16(status).unwrap(),
            Bytes::from(body.to_string()),
        ),
        Some(Fate::Silence) => {
            tape.stopped.notify_one();
            std::future::pending().await
        }
        Some(Fate::Hold) => {
            tape.stopped.notify_one();
            tape.released.notified().await;
            apply().await
        }
        Some(Fate::LostAnswer) => {
            apply().await;
            let body = error("InternalServerError").to_string();
            (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(body))
        }
        Some(Fate::Slow(delay)) => {
            let answer = apply().await;
            tokio::time::sleep(delay).await;
            answer
        }
        Some(Fate::DropBefore) => return Err(Dropped),
        Some(Fate::DropAfter) => {
            apply().await;
            return Err(Dropped);
        }
        Some(Fate::KillBefore) => {
            kill_who_calls(peer).await;
            return Err(Dropped);
        }
        Some(Fate::KillAfter) => {
            apply().await;
            kill_who_calls(peer).await;
            return Err(Dropped);
        }
        Some(Fate::Torn(delay)) => {
            let messages: BTreeSet<_> = keys(&request)
                .into_iter()
                .filter(|(_, sk)| sk.starts_with("MSG#"))
                .collect();
            tape.log().hidden.extend(messages.iter().cloned());
            let answer = apply().await;
            // Who was refused has written nothing that could be hidden.
            if answer.0.is_success() {
                tokio::time::sleep(delay).await;
            }
            tape.log().hidden.retain(|key| !messages.contains(key));
            answer
        }
        None => apply().await,
    };
    let round_trip = tape.log().weather.round_trip;
    tokio::time::sleep(round_trip).await;
    let text = |name: &str| request[name].as_str().map(str::to_owned);
    let operation = Operation {
        function,
        needs,
        name,
        index: text("IndexName"),
        consistent: request["ConsistentRead"] == true,
        token: text("ClientRequestToken"),
        connection: peer.local,
        units: units(&serde_json::from_slice(&body).unwrap_or_default()),
        began,
        ended: tape.tick(),
    };
    tape.log().operations.push(operation);
    let reply = Response::builder().status(status);
    let reply = reply.header("content-type", "application/x-amz-json-1.0");
    Ok(reply.body(Full::new(body)).unwrap())
}

impl Tape {
    /// The function whose process is at the other end.
    fn function_at(&self, peer: Ends) -> Option<String> {
        let process = process_at(peer)?;
        let executable = std::fs::read_link(format!("/proc/{process}/exe")).ok()?;
        let name = executable.file_name()?.to_str()?.to_owned();
        self.grants.contains_key(&name).then_some(name)
    }

    fn allows(&self, function: Option<&str>, needs: &BTreeSet<Grant>) -> bool {
        let granted = function.and_then(|function| self.grants.get(function));
        granted.is_none_or(|granted| needs.is_subset(granted))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn tick(&self) -> u64 {
        let mut log = self.log();
        log.events += 1;
        log.events
    }

    fn fate(&self, operation: &str, request: &Value) -> Option<Fate> {
        let mut log = self.log();
        let befalls = |fault: &Fault| fault.operation.is_none_or(|it| it == operation);
        if log.next_faults.front().is_some_and(befalls) {
            return log.next_faults.pop_front().map(|fault| fault.fate);
        }
        if let Some(fault) = log.every_fault.clone().filter(befalls) {
            return Some(fault.fate);
        }
        let (trouble, fate) = log.weather.befalls(operation, request)?;
        *log.troubles.entry(trouble).or_default() += 1;
        Some(fate)
    }

    /// The call as the table sees it: a transaction holds its items while it lasts, if the weather
    /// says so, and what is hidden is not read.
    async fn forward(
        &self,
        name: &str,
        headers: &HeaderMap,
        request: &Value,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        if name != "TransactWriteItems" {
            let (status, answer) = self.send(headers, body).await;
            return (status, self.without_hidden(request, answer));
        }
        let token = request["ClientRequestToken"].to_string();
        let held = match self.hold(&token, keys(request)) {
            Ok(held) => held,
            Err(refusal) => return (StatusCode::BAD_REQUEST, Bytes::from(refusal.to_string())),
        };
        if let Some((hold, _)) = held {
            tokio::time::sleep(hold).await;
        }
        let answer = self.send(headers, body).await;
        if let Some((_, held)) = held {
            let overlaps = &mut self.log().overlaps;
            overlaps.held.retain(|key| !held.contains(key));
            overlaps.tokens.remove(&token);
        }
        answer
    }

    /// Takes a transaction's items, for as long as the weather says, or says who has them.
    fn hold(
        &self,
        token: &str,
        mut keys: Vec<ItemKey>,
    ) -> Result<Option<(Duration, Vec<ItemKey>)>, Value> {
        let log = &mut *self.log();
        let Some(hold) = log.weather.hold else {
            return Ok(None);
        };
        if log.weather.one_counter {
            for (_, sk) in keys.iter_mut().filter(|(_, sk)| sk.starts_with("TOTALS#")) {
                "TOTALS".clone_into(sk);
            }
        }
        let overlaps = &mut log.overlaps;
        overlaps.attempts += 1;
        if overlaps.tokens.contains(token) {
            return Err(error("TransactionInProgressException"));
        }
        if keys.iter().any(|key| overlaps.held.contains(key)) {
            overlaps.conflicts += 1;
            let code = |key| {
                if overlaps.held.contains(key) {
                    "TransactionConflict"
                } else {
                    "None"
                }
            };
            let codes = keys.iter().map(code);
            let Fate::Answer(_, refusal) = Fate::cancelled(codes) else {
                unreachable!("a cancellation is an answer");
            };
            return Err(refusal);
        }
        overlaps.held.extend(keys.iter().cloned());
        overlaps.tokens.insert(token.to_owned());
        Ok(Some((hold, keys)))
    }

    async fn send(&self, headers: &HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let mut forwarded = self.http.post(&self.endpoint).body(body);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            forwarded = forwarded.header(name, value);
        }
        let answer = forwarded.send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    }

    fn without_hidden(&self, request: &Value, answer: Bytes) -> Bytes {
        let log = self.log();
        if log.hidden.is_empty() {
            return answer;
        }
        let hidden = |item: &Value| item_key(item).is_some_and(|key| log.hidden.contains(&key));
        let mut body: Value = serde_json::from_slice(&answer).unwrap();
        if hidden(&request["Key"]) {
            body.as_object_mut().unwrap().remove("Item");
        }
        if let Some(items) = body["Items"].as_array_mut() {
            items.retain(|item| !hidden(item));
        }
        Bytes::from(body.to_string())
    }
}

/// The permissions that IAM asks of a call.
fn needs(name: &str, request: &Value) -> BTreeSet<Grant> {
    let action = |action: &str, index: Option<&str>| Grant {
        action: format!("dynamodb:{action}"),
        index: index.map(str::to_owned),
    };
    let Some(parts) = request["TransactItems"].as_array() else {
        return BTreeSet::from([action(name, request["IndexName"].as_str())]);
    };
    let of_part = |part: &Value| match part.as_object().unwrap().keys().next().unwrap().as_str() {
        "ConditionCheck" => action("ConditionCheckItem", None),
        part => action(&format!("{part}Item"), None),
    };
    parts.iter().map(of_part).collect()
}

/// The items of a transaction.
fn keys(request: &Value) -> Vec<ItemKey> {
    let parts = request["TransactItems"].as_array();
    let key = |part: &Value| {
        let put = item_key(&part["Put"]["Item"]);
        put.or_else(|| item_key(&part["Update"]["Key"]))
            .expect("a transaction is made of puts and updates")
    };
    parts.into_iter().flatten().map(key).collect()
}

fn item_key(item: &Value) -> Option<ItemKey> {
    let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    Some((text("pk")?, text("sk")?))
}

/// The ports of a connection on this machine, as the other end sees them.
#[derive(Clone, Copy)]
struct Ends {
    local: u16,
    remote: u16,
}

/// Kills the process at the other end of a connection on this machine.
async fn kill_who_calls(peer: Ends) {
    // Another call of the same process may have killed it already.
    if let Some(process) = process_at(peer) {
        let kill = Command::new("kill").args(["-9", &process]).status();
        kill.await.unwrap();
    }
}

/// The process at the other end: Linux lists connections with the number of their socket, and the
/// sockets of each process. A port alone may have connections to several others.
fn process_at(far: Ends) -> Option<String> {
    let connections = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let [local, remote] = [far.local, far.remote].map(|port| format!("0100007F:{port:04X}"));
    let mut lines = connections.lines().map(str::split_whitespace);
    let socket = lines.find_map(|mut fields| {
        let matches = fields.nth(1) == Some(&local) && fields.next() == Some(&remote);
        fields.nth(6).filter(|inode| matches && *inode != "0")
    })?;
    let socket = format!("socket:[{socket}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes = processes.filter(|process| {
        let files = std::fs::read_dir(process.path().join("fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|it| it == *socket))
    });
    Some(processes.next()?.file_name().to_string_lossy().into_owned())
}

/// `ConsumedCapacity` is one object or, of a transaction, one a table.
fn units(answer: &Value) -> f64 {
    let consumed = &answer["ConsumedCapacity"];
    let each = consumed
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![consumed.clone()]);
    each.iter()
        .filter_map(|it| it["CapacityUnits"].as_f64())
        .sum()
}
