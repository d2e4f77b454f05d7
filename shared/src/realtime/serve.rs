//! Runs the functions of the WebSocket API and of the stream.

use std::{cell::Cell, convert::Infallible, process::ExitCode, time::Duration};

use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use super::{
    authorizer::{AllowedOrigins, AuthorizerResponse, Refusal, authorize},
    event::{AuthorizerEvent, EventType, RouteEvent, StreamEvent},
    frames::FrameHandler,
    management::ManagementClient,
    protocol::{ByeReason, ControlFrame, PROTOCOL},
    push::push,
};
use crate::{
    Error,
    auth::{Authenticator, TokenError},
    aws::AwsConfig,
    domain::Timestamp,
    error::{ConfigError, ErrorCode},
    http::{
        log::{LogRecord, Logger, PushCounts},
        serve::{RESPONSE_RESERVE, fail_init},
    },
    store::{Store, TableClient},
};

/// The response of a function, and what its log line says.
struct Outcome<R> {
    response: R,
    status: u16,
    code: Option<ErrorCode>,
    cause: Option<String>,
    token_error: Option<TokenError>,
    counts: PushCounts,
}

impl<R> Outcome<R> {
    fn ok(response: R) -> Self {
        Self {
            response,
            status: 200,
            code: None,
            cause: None,
            token_error: None,
            counts: PushCounts::default(),
        }
    }
}

/// One invocation.
struct Invocation<'a> {
    payload: &'a str,
    now: Timestamp,
    /// When the function must respond.
    deadline: Instant,
}

/// `authorize-connection`: the authorizer of `$connect`.
pub async fn authorize_connections() -> ExitCode {
    let (aws, logger) = match init().await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let authenticator = match Authenticator::connect(env, &aws, Timestamp::now()).await {
        Ok(authenticator) => authenticator,
        Err(error) => return fail_init(&error),
    };
    let origins = AllowedOrigins::from_env(env);
    run(&logger, None, "authorizer", async |invocation| {
        let event: AuthorizerEvent = match serde_json::from_str(invocation.payload) {
            Ok(event) => event,
            Err(error) => {
                return Outcome {
                    status: 500,
                    code: Some(ErrorCode::Internal),
                    cause: Some(error.to_string()),
                    ..Outcome::ok(AuthorizerResponse::new("*", None))
                };
            }
        };
        let arn = &event.method_arn;
        match authorize(&event, &origins, &authenticator, invocation.now).await {
            Ok(token) => Outcome::ok(AuthorizerResponse::new(arn, Some(token))),
            Err(refusal) => {
                let token_error = match refusal {
                    Refusal::Token(error) => Some(error),
                    Refusal::Origin | Refusal::Protocol => None,
                };
                Outcome {
                    status: 403,
                    code: token_error.map(|_| ErrorCode::Unauthorized),
                    cause: Some(refusal.to_string()),
                    token_error,
                    ..Outcome::ok(AuthorizerResponse::new(arn, None))
                }
            }
        }
    })
    .await
}

/// `open-connection`: stores a connection. If the user has too many, the oldest ones are closed.
pub async fn open_connections() -> ExitCode {
    let (aws, logger) = match init().await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let table = TableClient::connect(env, &aws, 1).await;
    let (table, management) = match (table, ManagementClient::new(&aws, env)) {
        (Ok(table), Ok(management)) => (table, management),
        (Err(error), _) | (_, Err(error)) => return fail_init(&error),
    };
    let (table, management) = (&table, &management);
    run(&logger, Some(table), "$connect", async |invocation| {
        route(
            &invocation,
            table,
            EventType::Connect,
            async |event, store| {
                let user = event.user()?;
                let connection = event.connection(invocation.now);
                let surplus = store.open_connection(user, &connection).await?;
                let bye = ControlFrame::bye(ByeReason::TooManyConnections).json();
                for old in &surplus {
                    store.delete_connection(user, &old.id).await?;
                    management.close(&old.id, &bye).await;
                }
                let closed_connections = u64::try_from(surplus.len()).unwrap_or_default();
                let counts = PushCounts {
                    closed_connections,
                    ..PushCounts::default()
                };
                let headers = json!({"Sec-WebSocket-Protocol": PROTOCOL});
                let response = json!({"statusCode": 200, "headers": headers});
                Ok(Outcome {
                    counts,
                    ..Outcome::ok(response)
                })
            },
        )
        .await
    })
    .await
}

/// `close-connection`: deletes a connection.
pub async fn close_connections() -> ExitCode {
    let (aws, logger) = match init().await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let table = match TableClient::connect(env, &aws, 1).await {
        Ok(table) => table,
        Err(error) => return fail_init(&error),
    };
    let table = &table;
    run(&logger, Some(table), "$disconnect", async |invocation| {
        route(
            &invocation,
            table,
            EventType::Disconnect,
            async |event, store| {
                let (user, id) = (event.user()?, event.connection_id());
                store.delete_connection(user, id).await?;
                Ok(Outcome::ok(json!({"statusCode": 200})))
            },
        )
        .await
    })
    .await
}

/// `receive-frame`: handles the frames of clients.
pub async fn receive_frames() -> ExitCode {
    let (aws, logger) = match init().await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let (table, handler) = match init_frames(&aws).await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let (table, handler) = (&table, &handler);
    run(&logger, Some(table), "$default", async |invocation| {
        route(
            &invocation,
            table,
            EventType::Message,
            async |event, store| {
                let result = handler.handle(event, store, invocation.now).await?;
                let response = match &result.frame {
                    Some(frame) => json!({"statusCode": 200, "body": frame.json()}),
                    None => json!({"statusCode": 200}),
                };
                Ok(Outcome {
                    code: result.token_error.map(|_| ErrorCode::Unauthorized),
                    token_error: result.token_error,
                    counts: result.counts,
                    ..Outcome::ok(response)
                })
            },
        )
        .await
    })
    .await
}

async fn init_frames(aws: &AwsConfig) -> Result<(TableClient, FrameHandler), ConfigError> {
    let (authenticator, table) = tokio::try_join!(
        Authenticator::connect(env, aws, Timestamp::now()),
        TableClient::connect(env, aws, 1),
    )?;
    let management = ManagementClient::new(aws, env)?;
    let handler = FrameHandler::new(authenticator, management, env)?;
    Ok((table, handler))
}

/// `push-events`: sends the events of changes to connections.
pub async fn push_events() -> ExitCode {
    let (aws, logger) = match init().await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    // Both members are read at the same time.
    let table = TableClient::connect(env, &aws, 2).await;
    let (table, management) = match (table, ManagementClient::new(&aws, env)) {
        (Ok(table), Ok(management)) => (table, management),
        (Err(error), _) | (_, Err(error)) => return fail_init(&error),
    };
    let (table, management) = (&table, &management);
    run(&logger, Some(table), "stream", async |invocation| {
        let event: StreamEvent<'_> = match serde_json::from_str(invocation.payload) {
            Ok(event) => event,
            Err(error) => {
                return Outcome {
                    status: 500,
                    code: Some(ErrorCode::Internal),
                    cause: Some(error.to_string()),
                    ..Outcome::ok(json!({"batchItemFailures": []}))
                };
            }
        };
        let store = table.store_at(invocation.now);
        let now = invocation.now;
        let report = push(&event.records, &store, management, now, invocation.deadline).await;
        let failures = report.failed_from.iter();
        let failures: Vec<_> = failures
            .map(|number| json!({"itemIdentifier": number}))
            .collect();
        let status = match (report.counts.push_failures, &report.failed_from) {
            (1.., _) => 500,
            (0, Some(_)) => 503,
            (0, None) => 200,
        };
        Outcome {
            status,
            cause: (!report.causes.is_empty()).then(|| report.causes.join("; ")),
            counts: report.counts,
            ..Outcome::ok(json!({"batchItemFailures": failures}))
        }
    })
    .await
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn init() -> Result<(AwsConfig, Logger), ConfigError> {
    let logger = Logger::from_env(env)?;
    Ok((AwsConfig::from_env().await?, logger))
}

/// Handles the event of a route. An error becomes its status: for `$connect`, API Gateway refuses the handshake with
/// it. The client receives no frame.
async fn route(
    invocation: &Invocation<'_>,
    table: &TableClient,
    event_type: EventType,
    handler: impl AsyncFn(&RouteEvent, &Store) -> Result<Outcome<Value>, Error>,
) -> Outcome<Value> {
    let result = async {
        let event = RouteEvent::parse(invocation.payload, event_type)?;
        let store = table.store_at(invocation.now);
        handler(&event, &store).await
    };
    let result = tokio::time::timeout_at(invocation.deadline, result).await;
    let result =
        result.unwrap_or_else(|_| Err(Error::Unavailable("the invocation ran out of time".into())));
    result.unwrap_or_else(|error| Outcome {
        status: error.status(),
        code: Some(error.code()),
        cause: error.cause().map(ToString::to_string),
        ..Outcome::ok(json!({"statusCode": error.status()}))
    })
}

/// Runs a function until Lambda stops the process, and writes a log line for each invocation.
async fn run<R: Serialize>(
    logger: &Logger,
    table: Option<&TableClient>,
    route: &str,
    handler: impl AsyncFn(Invocation<'_>) -> Outcome<R>,
) -> ExitCode {
    let is_cold_start = Cell::new(true);
    let (handler, is_cold_start) = (&handler, &is_cold_start);
    let result = lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let started = Instant::now();
        let (payload, context) = event.into_parts();
        let now = Timestamp::now();
        let invocation = Invocation {
            payload: payload.get(),
            now,
            deadline: started + remaining(&context, now),
        };
        let outcome = Box::pin(handler(invocation)).await;
        let usage = table.map(TableClient::drain_usage).unwrap_or_default();
        let cause = outcome.cause.map(|cause| match &usage.last_error {
            Some(last) => format!("{cause}; last error that was retried: {last}"),
            None => cause,
        });
        logger.write(&LogRecord {
            at: Timestamp::now(),
            request_id: &context.request_id,
            route,
            status: outcome.status,
            code: outcome.code,
            cause,
            token_error: outcome.token_error,
            duration: started.elapsed(),
            is_cold_start: is_cold_start.replace(false),
            usage,
            push: Some(outcome.counts),
        });
        Ok::<R, Infallible>(outcome.response)
    }))
    .await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_init(error.as_ref()),
    }
}

/// The time in which the function must respond.
fn remaining(context: &Context, now: Timestamp) -> Duration {
    let remaining = context.deadline.saturating_sub(now.millis());
    Duration::from_millis(remaining).saturating_sub(RESPONSE_RESERVE)
}
