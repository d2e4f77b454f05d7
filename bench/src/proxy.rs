//! What lies between a function and the embedded DynamoDB: TLS, as in production, and on demand a count
//! of what passes, or transactions that hold their items as long as in production.

use std::{
    collections::BTreeSet,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
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

use crate::{Result, http::Message};

/// What a counted answer takes on its way, so that calls under way at the same time are seen to be.
const COUNTED_ROUND_TRIP: Duration = Duration::from_millis(25);
/// How long a transaction holds its items in production.
const HOLD: Duration = Duration::from_millis(25);
/// Where systems keep the certificates that they trust.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What happens to calls on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// Nothing.
    Open,
    /// They are counted, and slowed down so that it shows which went at the same time.
    Counted,
    /// Transactions hold their items for [`HOLD`], and are cancelled when another one does.
    Crowded,
}

/// What some calls came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Requests to DynamoDB.
    pub requests: usize,
    /// Of those, one after another: requests at the same time count once.
    pub round_trips: usize,
    /// Write capacity units.
    pub written: f64,
    /// Read capacity units.
    pub read: f64,
}

/// A certificate for `localhost`, and the file that makes a function trust it.
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// Our certificate alone.
    pub own: PathBuf,
    /// Amazon's roots and ours: as many as the functions parse in production.
    pub roots: PathBuf,
    /// The system's certificates and ours: as many as the SDK's defaults parse.
    pub system: PathBuf,
}

/// A listener in front of a DynamoDB.
pub struct Proxy {
    state: Arc<State>,
    endpoint: String,
}

struct State {
    upstream: String,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicU64,
    traffic: Mutex<Traffic>,
}

struct Traffic {
    road: Road,
    /// Counts beginnings and ends of requests.
    events: u64,
    requests: Vec<Request>,
    held: BTreeSet<String>,
    transactions: u64,
    conflicts: u64,
}

struct Request {
    began: u64,
    ended: u64,
    writes: bool,
    units: f64,
}

impl Certificate {
    /// Makes one, and writes its files into `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let trusting = |name: &str, others: &str| {
            let path = folder.join(name);
            std::fs::write(&path, others.to_owned() + &made.cert.pem()).map(|()| path)
        };
        let roots = workspace_root().join("shared/src/store/amazon-roots.pem");
        let bundle = BUNDLES
            .iter()
            .find_map(|it| std::fs::read_to_string(it).ok());
        let bundle = bundle.ok_or("the system's certificates are missing: ca-certificates")?;
        Ok(Self {
            own: trusting("own.pem", "")?,
            roots: trusting("roots.pem", &std::fs::read_to_string(roots)?)?,
            system: trusting("system.pem", &bundle)?,
            config: Arc::new(config),
        })
    }
}

impl Proxy {
    /// Starts one in front of the DynamoDB at `endpoint`, over TLS when there is a certificate.
    pub fn start(endpoint: &str, certificate: Option<&Certificate>) -> Result<Self> {
        let upstream = endpoint.strip_prefix("http://").ok_or("not plain HTTP")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address: SocketAddr = listener.local_addr()?;
        let scheme = certificate.map_or("http", |_| "https");
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            tls: certificate.map(|it| it.config.clone()),
            connections: AtomicU64::new(0),
            traffic: Mutex::new(Traffic {
                road: Road::Open,
                events: 0,
                requests: Vec::new(),
                held: BTreeSet::new(),
                transactions: 0,
                conflicts: 0,
            }),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let state = shared.clone();
                // A process that is killed breaks its connection.
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Ok(Self {
            state,
            endpoint: format!("{scheme}://localhost:{}", address.port()),
        })
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What happens to calls from now on.
    pub fn set_road(&self, road: Road) {
        self.state.traffic().road = road;
    }

    /// Connections since the last look.
    pub fn connections(&self) -> u64 {
        self.state.connections.swap(0, Ordering::Relaxed)
    }

    /// What was counted since the last look.
    pub fn cost(&self) -> Cost {
        let mut requests = std::mem::take(&mut self.state.traffic().requests);
        requests.sort_by_key(|request| request.ended);
        let mut cost = Cost::default();
        let mut end_of_last = 0;
        for request in &requests {
            cost.requests += 1;
            if request.began > end_of_last || cost.round_trips == 0 {
                cost.round_trips += 1;
                end_of_last = request.ended;
            }
            if request.writes {
                cost.written += request.units;
            } else {
                cost.read += request.units;
            }
        }
        cost
    }

    /// Transactions tried, and those of them that another one was in the way of, since the last look.
    pub fn conflicts(&self) -> (u64, u64) {
        let mut traffic = self.state.traffic();
        let transactions = std::mem::take(&mut traffic.transactions);
        (transactions, std::mem::take(&mut traffic.conflicts))
    }
}

impl State {
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

    fn relay(&self, client: impl Read + Write, mut to: BufReader<TcpStream>) -> io::Result<()> {
        let mut client = BufReader::new(client);
        while let Some(request) = Message::read(&mut client)? {
            let road = self.traffic().road;
            let answer = match road {
                Road::Open => forward(&request, &mut to)?,
                Road::Counted => self.count(&request, &mut to)?,
                Road::Crowded => self.hold(&request, &mut to)?,
            };
            answer.write(client.get_mut())?;
        }
        Ok(())
    }

    fn count(&self, request: &Message, to: &mut BufReader<TcpStream>) -> io::Result<Message> {
        let tick = || {
            let mut traffic = self.traffic();
            traffic.events += 1;
            traffic.events
        };
        let began = tick();
        let answer = forward(request, to)?;
        std::thread::sleep(COUNTED_ROUND_TRIP);
        let counted = Request {
            began,
            ended: tick(),
            writes: is_transaction(request),
            units: units(&answer.body),
        };
        self.traffic().requests.push(counted);
        Ok(answer)
    }

    fn hold(&self, request: &Message, to: &mut BufReader<TcpStream>) -> io::Result<Message> {
        if !is_transaction(request) {
            return forward(request, to);
        }
        let keys = keys(&request.body);
        {
            let traffic = &mut *self.traffic();
            traffic.transactions += 1;
            if keys.iter().any(|key| traffic.held.contains(key)) {
                traffic.conflicts += 1;
                return Ok(cancelled(&keys, &traffic.held));
            }
            traffic.held.extend(keys.iter().cloned());
        }
        std::thread::sleep(HOLD);
        let answer = forward(request, to);
        self.traffic().held.retain(|key| !keys.contains(key));
        answer
    }
}

fn forward(request: &Message, to: &mut BufReader<TcpStream>) -> io::Result<Message> {
    request.write(to.get_mut())?;
    Message::read(to)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn is_transaction(request: &Message) -> bool {
    let target = request.header("x-amz-target");
    target.is_some_and(|target| target.ends_with(".TransactWriteItems"))
}

/// The items that a transaction changes.
fn keys(request: &[u8]) -> Vec<String> {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let parts = request["TransactItems"].as_array();
    let key = |part: &Value| {
        let places = [&part["Put"]["Item"], &part["Update"]["Key"]];
        let item = places.into_iter().find(|it| it.is_object())?;
        Some(format!("{} {}", item["pk"]["S"], item["sk"]["S"]))
    };
    parts.into_iter().flatten().filter_map(key).collect()
}

fn cancelled(keys: &[String], held: &BTreeSet<String>) -> Message {
    let reason = |key| {
        let conflicts = held.contains(key);
        json!({"Code": if conflicts { "TransactionConflict" } else { "None" }})
    };
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "another transaction is in the way",
        "CancellationReasons": keys.iter().map(reason).collect::<Vec<_>>(),
    });
    let headers = [("content-type", "application/x-amz-json-1.0")];
    Message::answer("400 Bad Request", &headers, body.to_string())
}

/// `ConsumedCapacity` is one object or, of a transaction, one a table.
fn units(answer: &[u8]) -> f64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let consumed = &answer["ConsumedCapacity"];
    let one = std::slice::from_ref(consumed);
    let each = consumed.as_array().map_or(one, Vec::as_slice);
    let units = each.iter().filter_map(|it| it["CapacityUnits"].as_f64());
    units.sum()
}
