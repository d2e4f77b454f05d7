//! Lambda Runtime API: the HTTP routes over which a function's process receives events and returns
//! responses.
//!
//! All instances use one listener. `AWS_LAMBDA_RUNTIME_API` is `http://host:port/<instance>`, so the
//! first segment of the path identifies the instance.

use std::sync::{Arc, Weak};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::{Response, StatusCode},
    routing::{get, post},
};
use chat_shared::domain::Timestamp;
use tokio::{net::TcpListener, sync::watch};

use super::{
    Lambda,
    instance::{Instance, InvocationResult},
    lock, new_trace_id,
};

/// Lambda's limit on a response payload, in bytes. Lambda's error message names this number ("Response
/// payload size exceeded maximum allowed payload size (6291556 bytes)").
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024 + 100;

/// Serves the Runtime API until the stack is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    lambda: Weak<Lambda>,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route(
            "/{instance}/2018-06-01/runtime/invocation/next",
            get(next_invocation),
        )
        .route(
            "/{instance}/2018-06-01/runtime/invocation/{id}/response",
            post(invocation_response),
        )
        .route(
            "/{instance}/2018-06-01/runtime/invocation/{id}/error",
            post(invocation_error),
        )
        .route(
            "/{instance}/2018-06-01/runtime/init/error",
            post(init_error),
        )
        // `invocation_response` checks the size and reports a clear error. A limit here would leave
        // the invocation waiting for its timeout.
        .layer(DefaultBodyLimit::disable())
        .with_state(lambda);
    tokio::select! {
        _ = axum::serve(listener, router) => {}
        () = async { while stop.changed().await.is_ok() {} } => {}
    }
}

type LambdaState = State<Weak<Lambda>>;

fn find(lambda: &Weak<Lambda>, instance: u64) -> Result<Arc<Instance>, StatusCode> {
    let lambda = lambda.upgrade().ok_or(StatusCode::GONE)?;
    let instance = lock(&lambda.instances).get(&instance).cloned();
    instance.ok_or(StatusCode::NOT_FOUND)
}

/// Returns the next event, and waits until there is one.
async fn next_invocation(
    State(lambda): LambdaState,
    Path(instance): Path<u64>,
) -> Result<Response<Body>, StatusCode> {
    let instance = find(&lambda, instance)?;
    let event = instance.next_event().await.ok_or(StatusCode::GONE)?;
    let deadline = (Timestamp::now() + instance.timeout).millis();
    let arn = format!(
        "arn:aws:lambda:us-east-1:000000000000:function:{}",
        instance.function
    );
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", event.request_id)
        .header("lambda-runtime-deadline-ms", deadline)
        .header("lambda-runtime-invoked-function-arn", arn)
        .header("lambda-runtime-trace-id", new_trace_id())
        .body(Body::from(event.body))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn invocation_response(
    State(lambda): LambdaState,
    Path((instance, id)): Path<(u64, String)>,
    payload: Bytes,
) -> StatusCode {
    let result = if payload.len() > MAX_RESPONSE_BYTES {
        InvocationResult::Error("the response payload is larger than 6 MB".into())
    } else {
        InvocationResult::Response(payload)
    };
    complete(&lambda, instance, &id, result)
}

async fn invocation_error(
    State(lambda): LambdaState,
    Path((instance, id)): Path<(u64, String)>,
    error: Bytes,
) -> StatusCode {
    complete(&lambda, instance, &id, InvocationResult::Error(error))
}

/// Logs why init failed. The process exits afterwards, and the invoking task receives its exit status.
async fn init_error(
    State(lambda): LambdaState,
    Path(instance): Path<u64>,
    error: Bytes,
) -> StatusCode {
    let Ok(instance) = find(&lambda, instance) else {
        return StatusCode::NOT_FOUND;
    };
    if let Some(lambda) = lambda.upgrade() {
        let error = String::from_utf8_lossy(&error);
        (lambda.log)(&format!("{}: init failed: {error}", instance.function));
    }
    StatusCode::ACCEPTED
}

fn complete(
    lambda: &Weak<Lambda>,
    instance: u64,
    request_id: &str,
    result: InvocationResult,
) -> StatusCode {
    let Ok(instance) = find(lambda, instance) else {
        return StatusCode::NOT_FOUND;
    };
    if instance.complete(request_id, result) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::BAD_REQUEST
    }
}
