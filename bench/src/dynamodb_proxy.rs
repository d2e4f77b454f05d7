//! Proxy between a function and the embedded DynamoDB: adds TLS as in production, counts requests and
//! capacity units, and emulates transaction conflicts and the time of a round trip. It also emulates the one
//! request to Secrets Manager that a function sends at init, and the `@connections` API of a WebSocket API,
//! whose clients receive everything at once.
//!
//! The proxy of the integration tests (`tests/integration/dynamodb_proxy/`) also emulates conflicts,
//! but this one is separate because it must add as little time as possible to the measurements and
//! therefore uses blocking threads and no server library (see `http.rs`).

use std::{
    collections::BTreeSet,
    io::{self, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chat_local::template::workspace_root;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};

use crate::{Result, dataset::SECRET, http::Message};

/// Assumed time of a round trip to DynamoDB on AWS.
pub const ROUND_TRIP: Duration = Duration::from_millis(5);
/// Delay of each counted response. It is long enough that concurrent requests overlap in the count.
const COUNTED_ROUND_TRIP: Duration = Duration::from_millis(25);
/// How long a transaction locks its items, as in production.
pub const TRANSACTION_DURATION: Duration = Duration::from_millis(25);
/// Where operating systems store the certificates that they trust.
const SYSTEM_CERTIFICATE_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How the proxy treats requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// It forwards them.
    PassThrough,
    /// It forwards and counts them. It also delays each response, to tell concurrent requests from
    /// sequential ones.
    CountRequests,
    /// It forwards them and delays each response by [`ROUND_TRIP`]. The round trip on this machine, some
    /// tenths of a millisecond, comes on top.
    Delay,
    /// A transaction locks its items for [`TRANSACTION_DURATION`], also those of which it only checks a
    /// condition. It is cancelled if another transaction has locked one of them. Until the end of this time, a
    /// read returns the old items. Half of [`ROUND_TRIP`] passes before each request and half of it after.
    EmulateConflicts,
}

/// Counted requests and their capacity units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Requests to DynamoDB.
    pub requests: usize,
    /// Sequential round trips. Concurrent requests count once.
    pub round_trips: usize,
    /// Write capacity units.
    pub write_units: f64,
    /// Read capacity units.
    pub read_units: f64,
}

/// Numbers of transactions and conflicts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConflictStats {
    /// Attempted transactions.
    pub transactions: u64,
    /// Attempted transactions that were cancelled because of a conflict.
    pub conflicts: u64,
}

/// A self-signed certificate for `localhost`, and certificate files that make a function trust it.
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// Only the proxy's certificate.
    pub own: PathBuf,
    /// Amazon's roots and the proxy's certificate. A function parses as many in production.
    pub amazon_roots: PathBuf,
    /// The system's roots and the proxy's certificate. The SDK's defaults parse as many.
    pub system_roots: PathBuf,
}

/// A running proxy.
pub struct Proxy {
    state: Arc<ProxyState>,
    endpoint: String,
}

struct ProxyState {
    upstream: String,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicU64,
    traffic: Mutex<Traffic>,
}

struct Traffic {
    mode: ProxyMode,
    /// A logical clock: counts the starts and ends of requests.
    clock: u64,
    requests: Vec<CountedRequest>,
    held_items: BTreeSet<String>,
    conflict_stats: ConflictStats,
}

struct CountedRequest {
    start: u64,
    end: u64,
    is_write: bool,
    capacity_units: f64,
}

impl Certificate {
    /// Generates a certificate and writes its files to `folder`.
    pub fn generate(folder: &Path) -> Result<Self> {
        let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(generated.signing_key.serialize_der());
        let key = PrivateKeyDer::Pkcs8(key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![generated.cert.der().clone()], key)?;
        let write_with = |file_name: &str, others: &str| {
            let path = folder.join(file_name);
            std::fs::write(&path, others.to_owned() + &generated.cert.pem()).map(|()| path)
        };
        let amazon_roots = workspace_root().join("shared/src/amazon-roots.pem");
        let system_roots = SYSTEM_CERTIFICATE_FILES
            .iter()
            .find_map(|file| std::fs::read_to_string(file).ok());
        let system_roots = system_roots
            .ok_or("the system has no certificate file; install the package ca-certificates")?;
        Ok(Self {
            own: write_with("own.pem", "")?,
            amazon_roots: write_with("amazon-roots.pem", &std::fs::read_to_string(amazon_roots)?)?,
            system_roots: write_with("system-roots.pem", &system_roots)?,
            config: Arc::new(config),
        })
    }
}

impl Proxy {
    /// Starts a proxy for the DynamoDB at `endpoint`. It serves TLS if it has a certificate.
    pub fn start(endpoint: &str, certificate: Option<&Certificate>) -> Result<Self> {
        let upstream = endpoint
            .strip_prefix("http://")
            .ok_or("the endpoint of the embedded DynamoDB must start with http://")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let scheme = certificate.map_or("http", |_| "https");
        let state = Arc::new(ProxyState {
            upstream: upstream.to_owned(),
            tls: certificate.map(|certificate| certificate.config.clone()),
            connections: AtomicU64::new(0),
            traffic: Mutex::new(Traffic {
                mode: ProxyMode::PassThrough,
                clock: 0,
                requests: Vec::new(),
                held_items: BTreeSet::new(),
                conflict_stats: ConflictStats::default(),
            }),
        });
        let listener_state = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                listener_state.connections.fetch_add(1, Ordering::Relaxed);
                let state = listener_state.clone();
                // Ignore errors: a process that is killed breaks its connection.
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Ok(Self {
            state,
            endpoint: format!("{scheme}://localhost:{port}"),
        })
    }

    /// The URL of the proxy.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sets how the proxy treats requests from now on.
    pub fn set_mode(&self, mode: ProxyMode) {
        self.state.traffic().mode = mode;
    }

    /// Returns the number of new connections since the previous call.
    pub fn drain_connections(&self) -> u64 {
        self.state.connections.swap(0, Ordering::Relaxed)
    }

    /// Returns the cost of the requests counted since the previous call.
    pub fn drain_cost(&self) -> Cost {
        let mut requests = std::mem::take(&mut self.state.traffic().requests);
        requests.sort_by_key(|request| request.end);
        let mut cost = Cost::default();
        let mut round_trip_end = 0;
        for request in &requests {
            cost.requests += 1;
            if request.start > round_trip_end || cost.round_trips == 0 {
                cost.round_trips += 1;
                round_trip_end = request.end;
            }
            if request.is_write {
                cost.write_units += request.capacity_units;
            } else {
                cost.read_units += request.capacity_units;
            }
        }
        cost
    }

    /// Returns the numbers of transactions and conflicts since the previous call.
    pub fn drain_conflict_stats(&self) -> ConflictStats {
        std::mem::take(&mut self.state.traffic().conflict_stats)
    }
}

impl ProxyState {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let upstream = TcpStream::connect(&self.upstream)?;
        upstream.set_nodelay(true)?;
        let upstream = BufReader::new(upstream);
        match &self.tls {
            None => self.relay(stream, upstream)?,
            Some(tls) => {
                let tls = ServerConnection::new(tls.clone())?;
                self.relay(StreamOwned::new(tls, stream), upstream)?;
            }
        }
        Ok(())
    }

    fn relay(
        &self,
        client: impl Read + Write,
        mut upstream: BufReader<TcpStream>,
    ) -> io::Result<()> {
        let mut client = BufReader::new(client);
        while let Some(request) = Message::read(&mut client)? {
            let mode = self.traffic().mode;
            let response = match mode {
                _ if is_secret_request(&request) => secret_response(),
                _ if is_connections_request(&request) => Message::response("200 OK", &[], ""),
                ProxyMode::PassThrough => forward(&request, &mut upstream)?,
                ProxyMode::CountRequests => self.count(&request, &mut upstream)?,
                ProxyMode::Delay => delay(&request, &mut upstream)?,
                ProxyMode::EmulateConflicts => {
                    std::thread::sleep(ROUND_TRIP / 2);
                    let response = self.emulate_conflicts(&request, &mut upstream)?;
                    std::thread::sleep(ROUND_TRIP / 2);
                    response
                }
            };
            response.write(client.get_mut())?;
        }
        Ok(())
    }

    fn count(&self, request: &Message, upstream: &mut BufReader<TcpStream>) -> io::Result<Message> {
        let tick = || {
            let mut traffic = self.traffic();
            traffic.clock += 1;
            traffic.clock
        };
        let start = tick();
        let response = forward(request, upstream)?;
        std::thread::sleep(COUNTED_ROUND_TRIP);
        let counted = CountedRequest {
            start,
            end: tick(),
            is_write: is_write(request),
            capacity_units: capacity_units(&response.body),
        };
        self.traffic().requests.push(counted);
        Ok(response)
    }

    fn emulate_conflicts(
        &self,
        request: &Message,
        upstream: &mut BufReader<TcpStream>,
    ) -> io::Result<Message> {
        if !is_transaction(request) {
            return forward(request, upstream);
        }
        let keys = transaction_keys(&request.body);
        {
            let traffic = &mut *self.traffic();
            traffic.conflict_stats.transactions += 1;
            if keys.iter().any(|key| traffic.held_items.contains(key)) {
                traffic.conflict_stats.conflicts += 1;
                return Ok(transaction_cancelled(&keys, &traffic.held_items));
            }
            traffic.held_items.extend(keys.iter().cloned());
        }
        std::thread::sleep(TRANSACTION_DURATION);
        let response = forward(request, upstream);
        self.traffic().held_items.retain(|key| !keys.contains(key));
        response
    }
}

fn forward(request: &Message, upstream: &mut BufReader<TcpStream>) -> io::Result<Message> {
    request.write(upstream.get_mut())?;
    Message::read(upstream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn delay(request: &Message, upstream: &mut BufReader<TcpStream>) -> io::Result<Message> {
    let response = forward(request, upstream)?;
    std::thread::sleep(ROUND_TRIP);
    Ok(response)
}

fn is_secret_request(request: &Message) -> bool {
    request.header("x-amz-target") == Some("secretsmanager.GetSecretValue")
}

/// Whether a request sends a frame to a connection, or closes one.
fn is_connections_request(request: &Message) -> bool {
    let (_, path) = request.method_and_path();
    path.contains("connections/")
}

/// The response of Secrets Manager, with a secret that was stored long ago.
fn secret_response() -> Message {
    let body = json!({
        "ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench/jwt-secret-AbCdEf",
        "CreatedDate": 1_700_000_000.0,
        "Name": "bench/jwt-secret",
        "SecretString": SECRET,
        "VersionId": "00000000-0000-0000-0000-000000000000",
        "VersionStages": ["AWSCURRENT"],
    });
    let headers = [("content-type", "application/x-amz-json-1.1")];
    Message::response("200 OK", &headers, body.to_string())
}

fn is_transaction(request: &Message) -> bool {
    operation(request) == Some("TransactWriteItems")
}

fn is_write(request: &Message) -> bool {
    let single = ["PutItem", "UpdateItem", "DeleteItem"];
    is_transaction(request) || operation(request).is_some_and(|name| single.contains(&name))
}

/// The operation of DynamoDB that a request is for.
fn operation(request: &Message) -> Option<&str> {
    let (_, operation) = request.header("x-amz-target")?.split_once('.')?;
    Some(operation)
}

/// The keys of the items that a transaction locks, in the order of its actions: those that it writes, and
/// those of which it checks a condition.
fn transaction_keys(request: &[u8]) -> Vec<String> {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let writes = request["TransactItems"].as_array();
    let key = |write: &Value| {
        let attributes = [
            &write["Put"]["Item"],
            &write["Update"]["Key"],
            &write["ConditionCheck"]["Key"],
        ];
        let item = attributes.into_iter().find(|value| value.is_object())?;
        Some(format!("{} {}", item["pk"]["S"], item["sk"]["S"]))
    };
    writes.into_iter().flatten().filter_map(key).collect()
}

/// The response of DynamoDB to a transaction in conflict.
fn transaction_cancelled(keys: &[String], held_items: &BTreeSet<String>) -> Message {
    let reason = |key| {
        let is_held = held_items.contains(key);
        json!({"Code": if is_held { "TransactionConflict" } else { "None" }})
    };
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "another transaction holds an item",
        "CancellationReasons": keys.iter().map(reason).collect::<Vec<_>>(),
    });
    let headers = [("content-type", "application/x-amz-json-1.0")];
    Message::response("400 Bad Request", &headers, body.to_string())
}

/// The sum of the capacity units in a response. `ConsumedCapacity` is an object, or a list with one
/// object per table if the request was a transaction.
fn capacity_units(response: &[u8]) -> f64 {
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    let consumed = &response["ConsumedCapacity"];
    let single = std::slice::from_ref(consumed);
    let tables = consumed.as_array().map_or(single, Vec::as_slice);
    let units = tables
        .iter()
        .filter_map(|table| table["CapacityUnits"].as_f64());
    units.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_locks_the_items_that_it_writes_and_those_that_it_checks() {
        let item = |sk: &str| json!({"pk": {"S": "CHAT#1-2"}, "sk": {"S": sk}});
        let request = json!({"TransactItems": [
            {"Update": {"Key": item("STATE")}},
            {"Put": {"Item": item("MSG#1")}},
            {"ConditionCheck": {"Key": item("CHG#1")}},
        ]});
        let keys = transaction_keys(request.to_string().as_bytes());
        let expected = ["STATE", "MSG#1", "CHG#1"].map(|sk| format!("\"CHAT#1-2\" \"{sk}\""));
        assert_eq!(keys, expected);
    }
}
