//! Lambda emulation: runs the real function binaries against the Lambda Runtime API.
//!
//! Each function has a pool of instances. An invocation goes to the instance that became idle last,
//! or to a new one if none is idle. An instance stays warm and handles one invocation at a time. A
//! function has at most [`max_instances`] of them, so that a laptop survives a burst of requests;
//! further invocations wait until an instance is free. An instance that exits or times out is
//! replaced at the next invocation.
//!
//! The Runtime API is custom code because the crate `lambda-simulator` keeps the state of every
//! invocation, so its memory grows with each one.

mod instance;
mod runtime_api;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use chat_shared::domain::Timestamp;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, watch},
};
use uuid::Uuid;

use self::instance::{Instance, InvocationResult};
use crate::{
    Database, Error, LogSink, StackOptions, dynamodb,
    template::{EnvValue, Function, Template},
};

/// Lambda's limit on the time that an instance takes to start.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Lambda's limit on the event of a synchronous invocation, in bytes. Lambda's error message names this
/// number ("Request must be smaller than 6291456 bytes for the `InvokeFunction` operation").
///
/// API Gateway puts the body into the event as a JSON string. So the largest body is a little smaller,
/// a quarter smaller if the body is binary (base64), and half as large if it consists of quotes and
/// backslashes.
const MAX_EVENT_BYTES: usize = 6 * 1024 * 1024;

/// The origins that may connect to the WebSocket API.
const ALLOWED_ORIGINS: &str = "ALLOWED_ORIGINS";

/// The endpoint of the `@connections` API, with the stage.
const MANAGEMENT_ENDPOINT: &str = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI";

/// The maximum number of instances of one function.
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
    /// Host and port of the Runtime API.
    runtime_api: String,
    log: LogSink,
    stop: watch::Receiver<bool>,
    /// Notified after each process that has exited; [`Lambda::stop`] waits for the last one.
    exited: Notify,
    this: Weak<Lambda>,
}

/// The outcome of a successful invocation.
pub struct Invocation {
    /// The function's response payload, as JSON.
    pub payload: Bytes,
    /// How long the instance took to start, if the invocation had to wait for that.
    pub cold_start: Option<Duration>,
}

impl Invocation {
    /// A note for the log: the function, and whether its instance had to start.
    pub(crate) fn note(&self, function: &str) -> String {
        match self.cold_start {
            Some(start) => format!("{function}, cold start {} ms", start.as_millis()),
            None => format!("{function}, warm"),
        }
    }
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The template has no function with this name.
    #[error("there is no function {0}")]
    UnknownFunction(String),
    /// The event is larger than Lambda allows. The function is not invoked.
    #[error("the event has {0} bytes, and Lambda's limit is {max}", max = MAX_EVENT_BYTES)]
    EventTooLarge(usize),
    /// The executable could not be started.
    #[error("cannot start {0}: {1}")]
    SpawnFailed(PathBuf, std::io::Error),
    /// The process exited before it was ready, most likely because of its configuration.
    #[error("the function exited during init ({0}); see its log lines above for the reason")]
    InitFailed(String),
    /// The process exited before it sent a response.
    #[error("the function's process exited ({0}) before it responded; see its log lines above")]
    ProcessExited(String),
    /// The function took longer than the template allows.
    #[error("the function did not respond within its timeout of {0:?}")]
    TimedOut(Duration),
    /// The function responded with an error.
    #[error("the function returned an error: {0}")]
    FunctionError(String),
}

/// One function, with its idle instances.
struct Pool {
    function: Function,
    executable: PathBuf,
    environment: BTreeMap<String, String>,
    permits: Semaphore,
    idle: Mutex<Vec<Arc<Instance>>>,
}

/// Locks a mutex. A panic of a previous holder is ignored, because no code here leaves the protected
/// state half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lambda {
    /// Prepares the template's functions. A process starts at the first invocation that needs it. `live_endpoint` is
    /// the URL of the WebSocket API's stage, whose path `/@connections` sends messages to clients.
    ///
    /// # Errors
    /// When an environment variable is known only at deployment and `options` does not set it, or no port
    /// is free.
    pub async fn start(
        template: &Template,
        options: &StackOptions,
        dynamodb_endpoint: &str,
        table: &str,
        live_endpoint: Option<&str>,
        stop: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| Error::new(format!("no free port: {error}")))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        // The functions receive real credentials only where they need them.
        let secret = options.environment.get("JWT_SECRET_ARN");
        let needs_credentials = matches!(options.database, Database::Endpoint(_))
            || secret.is_some_and(|secret| !secret.is_empty());
        let aws_environment = dynamodb::aws_environment(|name| {
            let variable = needs_credentials.then(|| std::env::var(name));
            variable?.ok()
        });
        let mut pools = HashMap::new();
        for function in &template.functions {
            let mut environment = function_environment(function, options, table)?;
            // The gateway has checked the origin, with the allowed origins of this stack instead of a deployment's.
            if !options.environment.contains_key(ALLOWED_ORIGINS) {
                environment.remove(ALLOWED_ORIGINS);
            }
            if let Some(endpoint) = live_endpoint {
                let variable = environment.entry(MANAGEMENT_ENDPOINT.to_owned());
                variable.or_insert_with(|| endpoint.to_owned());
            }
            let lambda_environment = [
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
            let lambda_environment = lambda_environment
                .into_iter()
                .chain(aws_environment.clone());
            environment.extend(lambda_environment.map(|(name, value)| (name.to_owned(), value)));
            let pool = Pool {
                function: function.clone(),
                executable: options.binaries.join(&function.binary),
                environment,
                permits: Semaphore::new(max_instances()),
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
            exited: Notify::new(),
            this: this.clone(),
        });
        tokio::spawn(runtime_api::serve(listener, Arc::downgrade(&lambda), stop));
        Ok(lambda)
    }

    /// Sends an event to a function and waits for its response payload.
    ///
    /// # Errors
    /// When the event is too large, or the function returns an error, exits or times out.
    pub async fn invoke(&self, function: &str, event: Bytes) -> Result<Invocation, InvokeError> {
        let unknown = || InvokeError::UnknownFunction(function.to_owned());
        let pool = self.pools.get(function).ok_or_else(unknown)?;
        if event.len() > MAX_EVENT_BYTES {
            return Err(InvokeError::EventTooLarge(event.len()));
        }
        let _permit = pool.permits.acquire().await.map_err(|_| unknown())?;
        loop {
            let (instance, is_cold) = match pool.take_idle() {
                Some(instance) => (instance, false),
                None => (self.start_instance(pool)?, true),
            };
            let invocation = Self::invoke_on(pool, &instance, is_cold, event.clone()).await;
            // The instance exited while it was idle, and has not received the event. Trying again
            // is safe.
            if !is_cold
                && matches!(invocation, Err(InvokeError::ProcessExited(_)))
                && instance.has_undelivered_event()
            {
                continue;
            }
            return invocation;
        }
    }

    async fn invoke_on(
        pool: &Pool,
        instance: &Arc<Instance>,
        is_cold: bool,
        event: Bytes,
    ) -> Result<Invocation, InvokeError> {
        let timeout = pool.function.timeout;
        let invocation = async {
            tokio::time::timeout(INIT_TIMEOUT, instance.wait_until_ready())
                .await
                .ok()?;
            tokio::time::timeout(timeout, instance.invoke(event))
                .await
                .ok()
                .flatten()
        };
        // A result that has arrived takes precedence over the exit of the process.
        let result = tokio::select! {
            biased;
            result = invocation => result,
            status = instance.exit_status() => return Err(if instance.is_ready() {
                InvokeError::ProcessExited(status)
            } else {
                InvokeError::InitFailed(status)
            }),
        };
        match result {
            Some(InvocationResult::Response(payload)) => {
                let cold_start = is_cold.then(|| instance.init_duration()).flatten();
                lock(&pool.idle).push(instance.clone());
                Ok(Invocation {
                    payload,
                    cold_start,
                })
            }
            Some(InvocationResult::Error(error)) => {
                lock(&pool.idle).push(instance.clone());
                Err(InvokeError::FunctionError(
                    String::from_utf8_lossy(&error).into_owned(),
                ))
            }
            None => {
                instance.kill();
                Err(InvokeError::TimedOut(if instance.is_ready() {
                    timeout
                } else {
                    INIT_TIMEOUT
                }))
            }
        }
    }

    /// Process ids of a function's running instances.
    #[must_use]
    pub fn instance_pids(&self, function: &str) -> Vec<u32> {
        let instances = lock(&self.instances);
        let of_function = instances
            .values()
            .filter(|instance| instance.function == function);
        let mut pids: Vec<_> = of_function.map(|instance| instance.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Kills all processes and waits until they have exited.
    pub async fn stop(&self) {
        loop {
            let exited = self.exited.notified();
            {
                let instances = lock(&self.instances);
                if instances.is_empty() {
                    return;
                }
                instances.values().for_each(|instance| instance.kill());
            }
            exited.await;
        }
    }

    fn start_instance(&self, pool: &Pool) -> Result<Arc<Instance>, InvokeError> {
        let id = self.next_instance.fetch_add(1, Ordering::Relaxed);
        // The prefix of the path identifies the instance that sends a request to the Runtime API.
        let runtime_api = format!("http://{}/{id}", self.runtime_api);
        let (instance, process) = {
            // Locked, because the process can request its first event before this thread goes on. It would get an
            // error if the instance was not known yet.
            let mut instances = lock(&self.instances);
            let (instance, process) = Instance::start(pool, &runtime_api, &self.log)?;
            instances.insert(id, instance.clone());
            (instance, process)
        };
        let supervised = process.supervise(instance.clone(), self.stop.clone());
        let lambda = self.this.clone();
        tokio::spawn(async move {
            supervised.await;
            if let Some(lambda) = lambda.upgrade() {
                lock(&lambda.instances).remove(&id);
                lambda.exited.notify_waiters();
            }
        });
        Ok(instance)
    }
}

impl Pool {
    fn take_idle(&self) -> Option<Arc<Instance>> {
        let mut idle = lock(&self.idle);
        while let Some(instance) = idle.pop() {
            if !instance.has_exited() {
                return Some(instance);
            }
        }
        None
    }
}

/// The environment variables of a function: those of `options` and, where they do not set a variable, of
/// the template.
fn function_environment(
    function: &Function,
    options: &StackOptions,
    table: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let mut environment = options.environment.clone();
    for (name, value) in &function.environment {
        if environment.contains_key(name) {
            continue;
        }
        let value = match value {
            EnvValue::Literal(value) => value.clone(),
            EnvValue::TableName => table.to_owned(),
            EnvValue::OnlyOnAws => continue,
            EnvValue::ResolvedAtDeployment => {
                return Err(Error::new(format!(
                    "{name} of {} is resolved at deployment; set it as an environment variable",
                    function.name
                )));
            }
        };
        environment.insert(name.clone(), value);
    }
    Ok(environment)
}

/// A random request id (UUID version 4).
pub(crate) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// A random trace id in the format of X-Ray, not sampled.
pub(crate) fn new_trace_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    let seconds = Timestamp::now().seconds();
    // The format has room for 24 of the UUID's 32 digits.
    format!("Root=1-{seconds:08x}-{};Sampled=0", &random[8..])
}
