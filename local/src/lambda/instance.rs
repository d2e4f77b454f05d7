//! One instance of a function: starts its process, supervises it, logs its output, and passes events
//! and responses between the invoking task and the Runtime API.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{InvokeError, Pool, lock, new_id};
use crate::LogSink;

/// How long to wait for the remaining output of a process that has exited. The output is normally
/// there already, unless a child of that process keeps the pipe open.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// An instance, as the pool and the Runtime API see it.
pub(super) struct Instance {
    pub pid: u32,
    /// The name of the function's binary.
    pub function: String,
    /// How long one invocation may take.
    pub timeout: Duration,
    started: Instant,
    /// How long init took, once it is complete.
    init_duration: watch::Sender<Option<Duration>>,
    events: mpsc::Sender<Event>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    /// The current invocation: its request id, and where its result goes.
    current: Mutex<Option<(String, oneshot::Sender<InvocationResult>)>>,
    /// Set once the process has exited.
    exit_status: watch::Sender<Option<String>>,
    kill: Notify,
}

/// An event on its way to the process.
pub(super) struct Event {
    pub request_id: String,
    pub body: Bytes,
}

/// What the process sent for an invocation.
pub(super) enum InvocationResult {
    Response(Bytes),
    Error(Bytes),
}

/// The process of an instance, and the task that logs its output.
pub(super) struct Process {
    child: Child,
    output: JoinHandle<()>,
}

impl Instance {
    /// Starts a process of a function. `runtime_api` is the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn start(
        pool: &Pool,
        runtime_api: &str,
        log: &LogSink,
    ) -> Result<(Arc<Self>, Process), InvokeError> {
        let mut command = Command::new(&pool.executable);
        command
            .env_clear()
            .envs(&pool.environment)
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C at the terminal signals the whole process group. Functions get their own group, so
        // that they can finish the invocations in progress.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| InvokeError::SpawnFailed(pool.executable.clone(), error))?;
        let (events, inbox) = mpsc::channel(1);
        let function = pool.function.binary.clone();
        let instance = Arc::new(Self {
            pid: child.id().unwrap_or_default(),
            function: function.clone(),
            timeout: pool.function.timeout,
            started: Instant::now(),
            init_duration: watch::Sender::new(None),
            events,
            inbox: tokio::sync::Mutex::new(inbox),
            current: Mutex::default(),
            exit_status: watch::Sender::new(None),
            kill: Notify::new(),
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = log.clone();
        let output = tokio::spawn(async move {
            tokio::join!(
                log_lines(&function, stdout, &log),
                log_lines(&function, stderr, &log)
            );
        });
        Ok((instance, Process { child, output }))
    }

    /// Whether the process has completed its init.
    pub fn is_ready(&self) -> bool {
        self.init_duration().is_some()
    }

    /// How long init took, once it is complete.
    pub fn init_duration(&self) -> Option<Duration> {
        *self.init_duration.borrow()
    }

    pub async fn wait_until_ready(&self) {
        let _ = self
            .init_duration
            .subscribe()
            .wait_for(Option::is_some)
            .await;
    }

    pub fn has_exited(&self) -> bool {
        self.exit_status.borrow().is_some()
    }

    /// Waits until the process has exited, and returns its status.
    pub async fn exit_status(&self) -> String {
        let mut exit_status = self.exit_status.subscribe();
        let status = exit_status.wait_for(Option::is_some).await;
        status
            .ok()
            .and_then(|status| status.clone())
            .unwrap_or_default()
    }

    /// Requests that the supervisor kills the process.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// Whether an event is waiting that the process has not requested.
    pub fn has_undelivered_event(&self) -> bool {
        self.events.capacity() == 0
    }

    /// Sends an event to the process and waits for the result.
    pub async fn invoke(&self, body: Bytes) -> Option<InvocationResult> {
        let request_id = new_id();
        let (send_result, result) = oneshot::channel();
        *lock(&self.current) = Some((request_id.clone(), send_result));
        self.events.send(Event { request_id, body }).await.ok()?;
        match result.await {
            Ok(result) => Some(result),
            // The sender is dropped only when the process exits, which the invoking task also
            // waits for: it then reports the exit status.
            Err(_) => std::future::pending().await,
        }
    }

    /// The next event; waits until there is one. The first request for an event ends the init phase.
    pub async fn next_event(&self) -> Option<Event> {
        if !self.is_ready() {
            self.init_duration
                .send_replace(Some(self.started.elapsed()));
        }
        self.inbox.lock().await.recv().await
    }

    /// Completes the current invocation. Returns false if it has another request id.
    pub fn complete(&self, request_id: &str, result: InvocationResult) -> bool {
        let mut current = lock(&self.current);
        let Some((_, send_result)) = current.take_if(|(current_id, _)| current_id == request_id)
        else {
            return false;
        };
        // The invoking task may have given up.
        let _ = send_result.send(result);
        true
    }
}

impl Process {
    /// Waits until the process exits. Kills it when the instance requests that, or when the stack is
    /// gone.
    pub async fn supervise(mut self, instance: Arc<Instance>, mut stop: watch::Receiver<bool>) {
        // A dropped stack has no sender any more, and nothing else uses its processes.
        let stack_dropped = async { while stop.changed().await.is_ok() {} };
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = instance.kill.notified() => kill(&mut self.child).await,
            () = stack_dropped => kill(&mut self.child).await,
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        // The output goes to the log before the invoking task learns of the exit, so that the log
        // states the reason first.
        let _ = tokio::time::timeout(OUTPUT_DRAIN_TIMEOUT, self.output).await;
        lock(&instance.current).take();
        instance.exit_status.send_replace(Some(status));
    }
}

async fn kill(child: &mut Child) -> std::io::Result<ExitStatus> {
    let _ = child.start_kill();
    child.wait().await
}

/// Logs each line that a process prints. Bytes that are not UTF-8 are replaced.
async fn log_lines(function: &str, output: Option<impl AsyncRead + Unpin>, log: &LogSink) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log(&format!("{function}: {}", String::from_utf8_lossy(&line)));
    }
}
