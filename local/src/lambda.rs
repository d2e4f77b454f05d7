//! Runs functions as Lambda does: the real binaries, against the Lambda Runtime API.
//!
//! A call goes to the instance that was idle last, or else to a new one; an instance stays warm and
//! takes one call at a time. A function has at most [`max_instances`] of them, so that a laptop
//! survives a burst; callers beyond that wait their turn. An instance that dies or takes too long is
//! replaced at the next call.
//!
//! All instances talk to one listener; a path prefix of its own (`AWS_LAMBDA_RUNTIME_API` is
//! `http://host:port/<instance>`) says which one does. The crate `lambda-simulator` offers a Runtime API, too,
//! but keeps the state of each invocation, and so grows with every call.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::{Response, StatusCode},
    routing::{get, post},
};
use chat_shared::domain::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    Database, Error, Log, Options, dynamodb,
    template::{Function, Setting, Template},
};

/// How long an instance may take to start: what Lambda grants.
const LONGEST_START: Duration = Duration::from_secs(10);
/// How long the last lines of a process that has ended are waited for. They are there already, unless
/// a child of its own keeps the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Lambda's limit on a reply.
const MAX_REPLY_BYTES: usize = 6 * 1024 * 1024;

/// Instances a function may have at once.
#[must_use]
pub fn max_instances() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (2 * cores).max(4)
}

/// All functions of a stack.
pub struct Lambda {
    pools: HashMap<String, Pool>,
    instances: Mutex<HashMap<u64, Arc<Instance>>>,
    next_instance: AtomicU64,
    runtime_api: String,
    log: Log,
    stop: watch::Receiver<bool>,
    /// Answers to [`Lambda::stop`] that every process is gone.
    reaped: Notify,
    this: Weak<Lambda>,
}

/// What a function answered.
pub struct Invoked {
    /// Its reply, as JSON.
    pub reply: Bytes,
    /// How long the instance took to start, when the call had to wait for that.
    pub cold_start: Option<Duration>,
}

/// Why a function did not answer.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// There is none of this name.
    #[error("there is no function {0}")]
    Unknown(String),
    /// It cannot be started.
    #[error("cannot start {0}: {1}")]
    NotStarted(PathBuf, std::io::Error),
    /// Its process ended before it was ready: its configuration is wrong, most likely.
    #[error("the function refused to start ({0}); its own lines above say why")]
    Refused(String),
    /// Its process ended before it answered.
    #[error("the function's process ended ({0}) before it answered; its own lines above say why")]
    Died(String),
    /// It took longer than the template allows.
    #[error("the function did not answer within its time limit of {0:?}")]
    TimedOut(Duration),
    /// It answered with an error.
    #[error("the function failed: {0}")]
    Failed(String),
}

struct Pool {
    function: Function,
    executable: PathBuf,
    environment: BTreeMap<String, String>,
    places: Semaphore,
    idle: Mutex<Vec<Arc<Instance>>>,
}

struct Instance {
    process: u32,
    binary: String,
    started: Instant,
    timeout: Duration,
    ready: watch::Sender<Option<Duration>>,
    events: mpsc::Sender<Event>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    answer: Mutex<Option<(String, oneshot::Sender<Answer>)>>,
    /// The exit status, once the process has ended.
    ended: watch::Sender<Option<String>>,
    kill: Notify,
}

struct Event {
    request_id: String,
    body: Bytes,
}

enum Answer {
    Reply(Bytes),
    Error(Bytes),
}

/// A lock whose holder panicked is still a lock: no state here is left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lambda {
    /// Prepares the template's functions. Their processes start when they are first called.
    ///
    /// # Errors
    /// When an environment variable is known only at deployment and `options` does not give it.
    pub async fn start(
        template: &Template,
        options: &Options,
        dynamodb_endpoint: &str,
        table: &str,
        stop: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| Error::new(format!("no free port: {error}")))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        // Real credentials are handed on only where they are needed.
        let access = match options.database {
            Database::Endpoint(_) => dynamodb::access(|name| std::env::var(name).ok()),
            Database::Memory | Database::File(_) => dynamodb::access(|_| None),
        };
        let mut pools = HashMap::new();
        for function in &template.functions {
            let mut environment = variables(function, options, table)?;
            let given_by_lambda = [
                ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_endpoint.to_owned()),
                ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
                (
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                    function.memory.to_string(),
                ),
                (
                    "LAMBDA_TASK_ROOT",
                    options.binaries.to_string_lossy().into_owned(),
                ),
                ("LANG", "en_US.UTF-8".to_owned()),
                ("TZ", ":UTC".to_owned()),
                ("_HANDLER", "bootstrap".to_owned()),
            ];
            let given_by_lambda = given_by_lambda.into_iter().chain(access.clone());
            environment.extend(given_by_lambda.map(|(name, value)| (name.to_owned(), value)));
            let pool = Pool {
                function: function.clone(),
                executable: options.binaries.join(&function.binary),
                environment,
                places: Semaphore::new(max_instances()),
                idle: Mutex::default(),
            };
            pools.insert(function.binary.clone(), pool);
        }
        let lambda = Arc::new_cyclic(|this| Self {
            pools,
            instances: Mutex::default(),
            next_instance: AtomicU64::new(1),
            runtime_api: address.to_string(),
            log: options.log.clone(),
            stop: stop.clone(),
            reaped: Notify::new(),
            this: this.clone(),
        });
        tokio::spawn(serve_runtime_api(listener, Arc::downgrade(&lambda), stop));
        Ok(lambda)
    }

    /// Gives a function an event and waits for its reply.
    ///
    /// # Errors
    /// When it fails, dies or takes too long.
    pub async fn invoke(&self, function: &str, event: Bytes) -> Result<Invoked, InvokeError> {
        let unknown = || InvokeError::Unknown(function.to_owned());
        let pool = self.pools.get(function).ok_or_else(unknown)?;
        let _place = pool.places.acquire().await.map_err(|_| unknown())?;
        loop {
            let (instance, cold) = match pool.take_idle() {
                Some(instance) => (instance, false),
                None => (self.start_instance(pool)?, true),
            };
            let invoked = Self::invoke_on(pool, &instance, cold, event.clone()).await;
            // It died while it was idle, and nobody had noticed yet: it has not seen the event.
            if !cold && matches!(invoked, Err(InvokeError::Died(_))) && instance.has_event() {
                continue;
            }
            return invoked;
        }
    }

    async fn invoke_on(
        pool: &Pool,
        instance: &Arc<Instance>,
        cold: bool,
        event: Bytes,
    ) -> Result<Invoked, InvokeError> {
        let mut ended = instance.ended.subscribe();
        let died = async {
            let status = ended.wait_for(Option::is_some).await;
            status
                .ok()
                .and_then(|status| status.clone())
                .unwrap_or_default()
        };
        let limit = pool.function.timeout;
        let call = async {
            tokio::time::timeout(LONGEST_START, instance.wait_until_ready())
                .await
                .ok()?;
            tokio::time::timeout(limit, instance.call(event))
                .await
                .ok()
                .flatten()
        };
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            status = died => return Err(if instance.is_ready() {
                InvokeError::Died(status)
            } else {
                InvokeError::Refused(status)
            }),
        };
        match answer {
            Some(Answer::Reply(reply)) => {
                let cold_start = cold.then(|| *instance.ready.borrow()).flatten();
                lock(&pool.idle).push(instance.clone());
                Ok(Invoked { reply, cold_start })
            }
            Some(Answer::Error(error)) => {
                lock(&pool.idle).push(instance.clone());
                Err(InvokeError::Failed(
                    String::from_utf8_lossy(&error).into_owned(),
                ))
            }
            None => {
                instance.kill.notify_one();
                let limit = if instance.is_ready() {
                    limit
                } else {
                    LONGEST_START
                };
                Err(InvokeError::TimedOut(limit))
            }
        }
    }

    /// Process ids of a function's live instances.
    #[must_use]
    pub fn instances(&self, function: &str) -> Vec<u32> {
        let instances = lock(&self.instances);
        let of_function = instances.values().filter(|it| it.binary == function);
        let mut processes: Vec<_> = of_function.map(|instance| instance.process).collect();
        processes.sort_unstable();
        processes
    }

    /// Ends all processes, and waits until they are gone.
    pub async fn stop(&self) {
        loop {
            let reaped = self.reaped.notified();
            {
                let instances = lock(&self.instances);
                if instances.is_empty() {
                    return;
                }
                instances
                    .values()
                    .for_each(|instance| instance.kill.notify_one());
            }
            reaped.await;
        }
    }

    fn start_instance(&self, pool: &Pool) -> Result<Arc<Instance>, InvokeError> {
        let id = self.next_instance.fetch_add(1, Ordering::Relaxed);
        let function = &pool.function;
        let mut command = Command::new(&pool.executable);
        command
            .env_clear()
            .envs(&pool.environment)
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                format!("http://{}/{id}", self.runtime_api),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A Ctrl-C at the terminal reaches the whole group of processes; calls under way shall finish.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| InvokeError::NotStarted(pool.executable.clone(), error))?;
        let (events, inbox) = mpsc::channel(1);
        let instance = Arc::new(Instance {
            process: child.id().unwrap_or_default(),
            binary: function.binary.clone(),
            started: Instant::now(),
            timeout: function.timeout,
            ready: watch::Sender::new(None),
            events,
            inbox: tokio::sync::Mutex::new(inbox),
            answer: Mutex::default(),
            ended: watch::Sender::new(None),
            kill: Notify::new(),
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (binary, log) = (function.binary.clone(), self.log.clone());
        let lines = tokio::spawn(async move {
            tokio::join!(
                print_lines(&binary, stdout, &log),
                print_lines(&binary, stderr, &log)
            );
        });
        lock(&self.instances).insert(id, instance.clone());
        tokio::spawn(attend(
            self.this.clone(),
            id,
            instance.clone(),
            child,
            lines,
            self.stop.clone(),
        ));
        Ok(instance)
    }
}

impl Pool {
    fn take_idle(&self) -> Option<Arc<Instance>> {
        let mut idle = lock(&self.idle);
        while let Some(instance) = idle.pop() {
            if instance.ended.borrow().is_none() {
                return Some(instance);
            }
        }
        None
    }
}

impl Instance {
    fn is_ready(&self) -> bool {
        self.ready.borrow().is_some()
    }

    /// Whether an event waits that the process has not asked for.
    fn has_event(&self) -> bool {
        self.events.capacity() == 0
    }

    async fn wait_until_ready(&self) {
        let _ = self.ready.subscribe().wait_for(Option::is_some).await;
    }

    async fn call(&self, body: Bytes) -> Option<Answer> {
        let request_id = new_id();
        let (send_answer, answer) = oneshot::channel();
        *lock(&self.answer) = Some((request_id.clone(), send_answer));
        self.events.send(Event { request_id, body }).await.ok()?;
        match answer.await {
            Ok(answer) => Some(answer),
            // Only a process that ends drops it, and the caller hears of that.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The environment of a function, as at deployment; `options` takes precedence.
fn variables(
    function: &Function,
    options: &Options,
    table: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let settings = function.environment.iter();
    settings
        .map(|(name, setting)| {
            let value = match (options.environment.get(name), setting) {
                (Some(value), _) | (None, Setting::Value(value)) => value.clone(),
                (None, Setting::TableName) => table.to_owned(),
                (None, Setting::Dynamic) => {
                    return Err(Error::new(format!(
                        "{name} of {} is looked up at deployment; give it as an environment variable",
                        function.name
                    )));
                }
            };
            Ok((name.clone(), value))
        })
        .collect()
}

/// Waits for the end of a process, or brings it about.
async fn attend(
    lambda: Weak<Lambda>,
    id: u64,
    instance: Arc<Instance>,
    mut child: Child,
    lines: JoinHandle<()>,
    mut stop: watch::Receiver<bool>,
) {
    // A stack that was dropped has no sender left, and its processes have no use.
    let dropped = async { while stop.changed().await.is_ok() {} };
    let status = tokio::select! {
        status = child.wait() => status,
        () = instance.kill.notified() => { let _ = child.start_kill(); child.wait().await }
        () = dropped => { let _ = child.start_kill(); child.wait().await }
    };
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    // Before its caller hears of it, so that the log says first why.
    let _ = tokio::time::timeout(LAST_WORDS, lines).await;
    lock(&instance.answer).take();
    instance.ended.send_replace(Some(status));
    if let Some(lambda) = lambda.upgrade() {
        lock(&lambda.instances).remove(&id);
        lambda.reaped.notify_waiters();
    }
}

/// Hands a function's own lines to the log, whatever their bytes.
async fn print_lines(binary: &str, output: Option<impl AsyncRead + Unpin>, log: &Log) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log(&format!("{binary}: {}", String::from_utf8_lossy(&line)));
    }
}

/// A random id in the form of a UUID.
pub(crate) fn new_id() -> String {
    let id = format!("{:032x}", fastrand::u128(..));
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-")
}

async fn serve_runtime_api(
    listener: TcpListener,
    lambda: Weak<Lambda>,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route("/{instance}/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/{instance}/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .route(
            "/{instance}/2018-06-01/runtime/invocation/{id}/error",
            post(error),
        )
        .route(
            "/{instance}/2018-06-01/runtime/init/error",
            post(init_error),
        )
        // What is too large is refused by name below, at once, instead of at the time limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(lambda);
    tokio::select! {
        _ = axum::serve(listener, router) => {}
        () = async { while stop.changed().await.is_ok() {} } => {}
    }
}

type Shared = State<Weak<Lambda>>;

fn find(lambda: &Weak<Lambda>, instance: u64) -> Result<Arc<Instance>, StatusCode> {
    let lambda = lambda.upgrade().ok_or(StatusCode::GONE)?;
    let instance = lock(&lambda.instances).get(&instance).cloned();
    instance.ok_or(StatusCode::NOT_FOUND)
}

/// An instance asks for its next event; this takes until there is one.
async fn next(
    State(lambda): Shared,
    Path(instance): Path<u64>,
) -> Result<Response<Body>, StatusCode> {
    let instance = find(&lambda, instance)?;
    if instance.ready.borrow().is_none() {
        instance
            .ready
            .send_replace(Some(instance.started.elapsed()));
    }
    let event = instance
        .inbox
        .lock()
        .await
        .recv()
        .await
        .ok_or(StatusCode::GONE)?;
    let deadline = (Timestamp::now() + instance.timeout).millis();
    let arn = format!(
        "arn:aws:lambda:us-east-1:000000000000:function:{}",
        instance.binary
    );
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", event.request_id)
        .header("lambda-runtime-deadline-ms", deadline)
        .header("lambda-runtime-invoked-function-arn", arn)
        .header("lambda-runtime-trace-id", trace_id())
        .body(Body::from(event.body))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// An id in the form of X-Ray's, not sampled.
pub(crate) fn trace_id() -> String {
    let id = format!("{:024x}", fastrand::u128(..) >> 32);
    format!("Root=1-{:08x}-{id};Sampled=0", Timestamp::now().seconds())
}

async fn response(
    State(lambda): Shared,
    Path((instance, id)): Path<(u64, String)>,
    reply: Bytes,
) -> StatusCode {
    let answer = if reply.len() > MAX_REPLY_BYTES {
        Answer::Error("the reply is larger than 6 MB".into())
    } else {
        Answer::Reply(reply)
    };
    take_answer(&lambda, instance, &id, answer)
}

async fn error(
    State(lambda): Shared,
    Path((instance, id)): Path<(u64, String)>,
    error: Bytes,
) -> StatusCode {
    take_answer(&lambda, instance, &id, Answer::Error(error))
}

/// The process ends after this, and the caller hears of that.
async fn init_error(State(lambda): Shared, Path(instance): Path<u64>, error: Bytes) -> StatusCode {
    let Ok(instance) = find(&lambda, instance) else {
        return StatusCode::NOT_FOUND;
    };
    if let Some(lambda) = lambda.upgrade() {
        let error = String::from_utf8_lossy(&error);
        (lambda.log)(&format!("{}: did not start: {error}", instance.binary));
    }
    StatusCode::ACCEPTED
}

fn take_answer(lambda: &Weak<Lambda>, instance: u64, id: &str, answer: Answer) -> StatusCode {
    let Ok(instance) = find(lambda, instance) else {
        return StatusCode::NOT_FOUND;
    };
    let mut waiting = lock(&instance.answer);
    match waiting.take_if(|(expected, _)| expected == id) {
        Some((_, caller)) => {
            let _ = caller.send(answer);
            StatusCode::ACCEPTED
        }
        None => StatusCode::BAD_REQUEST,
    }
}
