//! A proxy between the functions and the table that records what goes through it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response},
};
use chat_local::{Database, dynamodb::Embedded};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{Local, support};

/// What an answer takes on its way. Without it the embedded DynamoDB answers one of two parallel calls
/// before a connection for the other is open, and they would look like two round trips.
const ROUND_TRIP: Duration = Duration::from_millis(25);

/// One call to DynamoDB.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub index: Option<String>,
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
}

#[derive(Default)]
struct Log {
    events: u64,
    operations: Vec<Operation>,
}

impl Recorded {
    pub async fn start() -> Self {
        let dynamodb = Embedded::start(None).await.unwrap();
        // The client of the tests installs what the recorder's needs, too.
        drop(support::Api::at(""));
        let tape = Arc::new(Tape {
            endpoint: dynamodb.endpoint().to_owned(),
            http: reqwest::Client::new(),
            log: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(record).with_state(tape.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut options = support::options();
        options.database = Database::Endpoint(endpoint);
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
}

async fn record(State(tape): State<Arc<Tape>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let began = tape.tick();
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let mut forwarded = tape.http.post(&tape.endpoint).body(body);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        forwarded = forwarded.header(name, value);
    }
    let answer = forwarded.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.unwrap();
    let units = units(&serde_json::from_slice(&body).unwrap_or_default());
    let name = target.rsplit('.').next().unwrap().to_owned();
    let index = request["IndexName"].as_str().map(str::to_owned);
    tokio::time::sleep(ROUND_TRIP).await;
    let ended = tape.tick();
    let operation = Operation {
        name,
        index,
        units,
        began,
        ended,
    };
    tape.log.lock().unwrap().operations.push(operation);
    let mut reply = Response::builder().status(status);
    for (name, value) in headers
        .iter()
        .filter(|(name, _)| *name != "transfer-encoding")
    {
        reply = reply.header(name, value);
    }
    reply.body(Body::from(body)).unwrap()
}

impl Tape {
    fn tick(&self) -> u64 {
        let mut log = self.log.lock().unwrap();
        log.events += 1;
        log.events
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
