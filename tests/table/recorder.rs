//! A proxy between the functions and the table that records what goes through it, and answers in the
//! table's stead when a test wants a fault.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode},
};
use chat_local::{Database, Options, dynamodb::Embedded};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use crate::{Local, support};

/// What an answer takes on its way. Without it the embedded DynamoDB answers one of two parallel calls
/// before a connection for the other is open, and they would look like two round trips.
const ROUND_TRIP: Duration = Duration::from_millis(25);

/// One call to DynamoDB.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub index: Option<String>,
    /// Whether it asked for what is true now.
    pub consistent: bool,
    /// The token that makes repeats of a transaction count once.
    pub token: Option<String>,
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

/// What befalls a call on its way.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: &'static str,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// An answer in the table's stead, which sees nothing of the call.
    Answer(u16, Value),
    /// No answer at all; the table sees nothing of the call.
    Silence,
    /// The call reaches the table once the test lets it.
    Hold,
    /// The call takes effect, but the caller hears of a fault.
    LostAnswer,
}

impl Fault {
    /// Any answer.
    pub fn answer(operation: &'static str, status: u16, body: Value) -> Self {
        let kind = Kind::Answer(status, body);
        Self { operation, kind }
    }

    /// A transaction that was cancelled for these reasons, with whatever else they hold.
    pub fn cancelled_for(reasons: Value) -> Self {
        let mut body = error("TransactionCanceledException");
        body["CancellationReasons"] = reasons;
        Self::answer("TransactWriteItems", 400, body)
    }

    /// A transaction that was cancelled for reasons with these codes.
    pub fn cancelled(codes: &[&str]) -> Self {
        Self::cancelled_for(codes.iter().map(|code| json!({"Code": code})).collect())
    }

    /// An error of DynamoDB.
    pub fn error(operation: &'static str, status: u16, name: &str) -> Self {
        Self::answer(operation, status, error(name))
    }

    /// No answer at all.
    pub fn silence(operation: &'static str) -> Self {
        let kind = Kind::Silence;
        Self { operation, kind }
    }

    /// The call takes effect, but the caller hears of a fault.
    pub fn lost_answer(operation: &'static str) -> Self {
        let kind = Kind::LostAnswer;
        Self { operation, kind }
    }

    /// The call waits until [`Recorded::release`].
    pub fn hold(operation: &'static str) -> Self {
        let kind = Kind::Hold;
        Self { operation, kind }
    }
}

fn error(name: &str) -> Value {
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
    operations: Vec<Operation>,
    next_faults: VecDeque<Fault>,
    every_fault: Option<Fault>,
}

impl Recorded {
    pub async fn start() -> Self {
        Self::start_with(support::options()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let dynamodb = Embedded::start(None).await.unwrap();
        // The client of the tests installs what the recorder's needs, too.
        drop(support::Api::at(""));
        let tape = Arc::new(Tape {
            endpoint: dynamodb.endpoint().to_owned(),
            http: reqwest::Client::new(),
            log: Mutex::default(),
            stopped: Notify::new(),
            released: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(record).with_state(tape.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let options = Options {
            database: Database::Endpoint(endpoint),
            ..options
        };
        Self {
            local: Local::start_with(options).await,
            tape,
            _dynamodb: dynamodb,
        }
    }

    /// What was called since the last look.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: std::mem::take(&mut self.tape.log.lock().unwrap().operations),
        }
    }

    /// The next calls of their operations meet these faults, one each.
    pub fn next_calls_meet(&self, faults: impl IntoIterator<Item = Fault>) {
        self.tape.log.lock().unwrap().next_faults = faults.into_iter().collect();
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
        self.tape.log.lock().unwrap().every_fault = fault;
    }
}

async fn record(State(tape): State<Arc<Tape>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let began = tape.tick();
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let name = target.rsplit('.').next().unwrap().to_owned();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let (status, body) = match tape.fault(&name) {
        Some(Kind::Answer(status, body)) => (
            StatusCode::from_u16(status).unwrap(),
            Bytes::from(body.to_string()),
        ),
        Some(Kind::Silence) => {
            tape.stopped.notify_one();
            std::future::pending().await
        }
        Some(Kind::Hold) => {
            tape.stopped.notify_one();
            tape.released.notified().await;
            tape.forward(headers, body).await
        }
        Some(Kind::LostAnswer) => {
            let (status, _) = tape.forward(headers, body).await;
            assert!(
                status.is_success(),
                "there was no effect to lose the answer of"
            );
            let body = error("InternalServerError").to_string();
            (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(body))
        }
        None => tape.forward(headers, body).await,
    };
    tokio::time::sleep(ROUND_TRIP).await;
    let text = |name: &str| request[name].as_str().map(str::to_owned);
    let operation = Operation {
        name,
        index: text("IndexName"),
        consistent: request["ConsistentRead"] == true,
        token: text("ClientRequestToken"),
        units: units(&serde_json::from_slice(&body).unwrap_or_default()),
        began,
        ended: tape.tick(),
    };
    tape.log.lock().unwrap().operations.push(operation);
    let reply = Response::builder().status(status);
    reply
        .header("content-type", "application/x-amz-json-1.0")
        .body(Body::from(body))
        .unwrap()
}

impl Tape {
    fn tick(&self) -> u64 {
        let mut log = self.log.lock().unwrap();
        log.events += 1;
        log.events
    }

    fn fault(&self, operation: &str) -> Option<Kind> {
        let mut log = self.log.lock().unwrap();
        let befalls = |fault: &Fault| fault.operation == operation;
        let fault = if log.next_faults.front().is_some_and(befalls) {
            log.next_faults.pop_front()
        } else {
            log.every_fault.clone().filter(befalls)
        };
        fault.map(|fault| fault.kind)
    }

    async fn forward(&self, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let mut forwarded = self.http.post(&self.endpoint).body(body);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            forwarded = forwarded.header(name, value);
        }
        let answer = forwarded.send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    }
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
