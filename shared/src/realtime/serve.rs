//! Runs the functions of the WebSocket API and of the stream.

use std::{
    cell::Cell, collections::BTreeMap, convert::Infallible, process::ExitCode, time::Duration,
};

use futures_util::future::try_join_all;
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use super::{
    authorizer::{AllowedOrigins, AuthorizerResponse, authorize},
    event::{AuthorizerEvent, Route, RouteEvent, StreamEvent},
    frames::FrameHandler,
    management::{CloseOutcome, ManagementClient},
    protocol::{ByeReason, ControlFrame, FrameErrorCode, PROTOCOL},
    push::{MIN_AGE, push},
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

/// The maximum time that `open-connection` may take. It is less than [`MIN_AGE`], with time for the authorizer.
const MAX_HANDSHAKE_TIME: Duration = Duration::from_secs(8);

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
    start(async |aws, logger| {
        let authenticator = Authenticator::connect(env, &aws, Timestamp::now()).await?;
        let origins = AllowedOrigins::from_env(env);
        let handler = async |invocation: Invocation<'_>| {
            let event: AuthorizerEvent = match serde_json::from_str(invocation.payload) {
                Ok(event) => event,
                Err(error) => return unreadable(&error, AuthorizerResponse::new("*", None)),
            };
            let arn = &event.method_arn;
            match authorize(&event, &origins, &authenticator, invocation.now).await {
                Ok(token) => Outcome::ok(AuthorizerResponse::new(arn, Some(token))),
                Err(error) => Outcome {
                    status: 403,
                    cause: Some(error.to_string()),
                    token_error: error.token_error(),
                    ..Outcome::ok(AuthorizerResponse::new(arn, None))
                },
            }
        };
        Ok(run(&logger, None, "authorizer", handler).await)
    })
    .await
}

/// `open-connection`: stores a connection. If the user has too many, the oldest ones are closed.
pub async fn open_connections() -> ExitCode {
    start(async |aws, logger| {
        let table = TableClient::connect(env, &aws, 1).await?;
        let management = ManagementClient::new(&aws, env)?;
        let handler = async |event: &RouteEvent, store: &Store, now| {
            open_connection(event, store, &management, now).await
        };
        Ok(run_route(&logger, &table, Route::Connect, handler).await)
    })
    .await
}

/// Stores a connection, and closes the oldest ones of a user who has too many.
///
/// An item of a connection that was not opened would take the place of another one, so it is deleted if this fails.
async fn open_connection(
    event: &RouteEvent,
    store: &Store,
    management: &ManagementClient,
    now: Timestamp,
) -> Result<Outcome<Value>, Error> {
    let started = Instant::now();
    let (user, connection) = (event.user()?, event.connection(now));
    let opened = store.open_connection(user, &connection).await;
    let surplus = match opened {
        Ok(surplus) => surplus,
        Err(error) => {
            let _ = store.delete_connection(user, &connection.id).await;
            return Err(error);
        }
    };
    if surplus.contains(&connection) {
        store.delete_connection(user, &connection.id).await?;
        return Ok(Outcome {
            status: 429,
            ..Outcome::ok(json!({"statusCode": 429}))
        });
    }
    let bye = ControlFrame::bye(ByeReason::TooManyConnections).json();
    let closed = surplus.iter().map(async |old| {
        let closed = management.close(&old.id, Some(&bye)).await;
        // A young one that is gone may still be in its handshake. If it succeeds, it is one too many until the next.
        let is_in_handshake = closed == CloseOutcome::Gone && old.connected_at + MIN_AGE > now;
        if closed.is_closed() && !is_in_handshake {
            store.delete_connection(user, &old.id).await?;
        }
        Ok::<_, Error>(u64::from(closed.is_closed()))
    });
    let closed_connections = try_join_all(closed).await?.into_iter().sum();
    // A connection that is older than this counts as gone if an event meets it before its handshake is finished.
    if started.elapsed() > MAX_HANDSHAKE_TIME {
        store.delete_connection(user, &connection.id).await?;
        return Err(Error::Unavailable("the handshake took too long".into()));
    }
    let headers = json!({"Sec-WebSocket-Protocol": PROTOCOL});
    Ok(Outcome {
        counts: PushCounts {
            closed_connections,
            ..PushCounts::default()
        },
        ..Outcome::ok(json!({"statusCode": 200, "headers": headers}))
    })
}

/// `close-connection`: deletes a connection.
pub async fn close_connections() -> ExitCode {
    start(async |aws, logger| {
        let table = TableClient::connect(env, &aws, 1).await?;
        let handler = async |event: &RouteEvent, store: &Store, _| {
            let (user, id) = (event.user()?, event.connection_id());
            store.delete_connection(user, id).await?;
            Ok(Outcome::ok(json!({"statusCode": 200})))
        };
        Ok(run_route(&logger, &table, Route::Disconnect, handler).await)
    })
    .await
}

/// `receive-frame`: handles the frames of clients.
pub async fn receive_frames() -> ExitCode {
    start(async |aws, logger| {
        let (authenticator, table) = tokio::try_join!(
            Authenticator::connect(env, &aws, Timestamp::now()),
            TableClient::connect(env, &aws, 1),
        )?;
        let management = ManagementClient::new(&aws, env)?;
        let frames = FrameHandler::new(authenticator, management, env)?;
        let handler = async |event: &RouteEvent, store: &Store, now| {
            let result = frames.handle(event, store, now).await?;
            let response = match &result.frame {
                Some(frame) => json!({"statusCode": 200, "body": frame.json()}),
                None => json!({"statusCode": 200}),
            };
            Ok(Outcome {
                token_error: result.token_error,
                counts: result.counts,
                ..Outcome::ok(response)
            })
        };
        Ok(run_route(&logger, &table, Route::Default, handler).await)
    })
    .await
}

/// `push-events`: sends the events of changes to connections.
pub async fn push_events() -> ExitCode {
    start(async |aws, logger| {
        // Both members are read at the same time.
        let table = TableClient::connect(env, &aws, 2).await?;
        let management = ManagementClient::new(&aws, env)?;
        let handler = async |invocation: Invocation<'_>| {
            let event: StreamEvent<'_> = match serde_json::from_str(invocation.payload) {
                Ok(event) => event,
                Err(error) => return unreadable(&error, json!({"batchItemFailures": []})),
            };
            let (now, deadline) = (invocation.now, invocation.deadline);
            let report = push(&event.records, &table, &management, now, deadline).await;
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
                cause: summary(&report.causes),
                counts: report.counts,
                ..Outcome::ok(json!({"batchItemFailures": failures}))
            }
        };
        Ok(run(&logger, Some(&table), "stream", handler).await)
    })
    .await
}

/// The causes of a batch on one line, each once.
fn summary(causes: &[String]) -> Option<String> {
    /// A longer line could be cut, and would lose its metrics.
    const MAX_CAUSES: usize = 10;

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for cause in causes {
        *counts.entry(cause).or_default() += 1;
    }
    let others = counts.len().saturating_sub(MAX_CAUSES);
    let described = counts
        .iter()
        .take(MAX_CAUSES)
        .map(|(cause, count)| match count {
            1 => (*cause).to_owned(),
            _ => format!("{cause} ({count} times)"),
        });
    let mut described: Vec<_> = described.collect();
    if others > 0 {
        described.push(format!("and {others} other causes"));
    }
    (!described.is_empty()).then(|| described.join("; "))
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Starts a function. If its configuration is missing or invalid, prints an error that names the variable and exits.
async fn start(
    function: impl AsyncFnOnce(AwsConfig, Logger) -> Result<ExitCode, ConfigError>,
) -> ExitCode {
    let started = async {
        let logger = Logger::from_env(env)?;
        function(AwsConfig::from_env().await?, logger).await
    };
    started.await.unwrap_or_else(|error| fail_init(&error))
}

/// The outcome of an event that is not of the expected form, which API Gateway and Lambda never send.
fn unreadable<R>(error: &serde_json::Error, response: R) -> Outcome<R> {
    Outcome {
        status: 500,
        code: Some(ErrorCode::Internal),
        cause: Some(error.to_string()),
        ..Outcome::ok(response)
    }
}

/// Runs the function of a route. An error becomes its status: for `$connect`, API Gateway refuses the handshake with
/// it. For `$default` it means that the client gets no response, as if the frame was lost; it then connects again.
async fn run_route(
    logger: &Logger,
    table: &TableClient,
    expected: Route,
    handler: impl AsyncFn(&RouteEvent, &Store, Timestamp) -> Result<Outcome<Value>, Error>,
) -> ExitCode {
    let handler = &handler;
    run(logger, Some(table), expected.key(), async |invocation| {
        let result = async {
            let event = RouteEvent::parse(invocation.payload, expected)?;
            let store = table.store_at(invocation.now);
            handler(&event, &store, invocation.now).await
        };
        let result = tokio::time::timeout_at(invocation.deadline, result).await;
        let result = result
            .unwrap_or_else(|_| Err(Error::Unavailable("the invocation ran out of time".into())));
        result.unwrap_or_else(|error| {
            let status = error.status();
            let response = match &error {
                // A client can choose another route by the type of its frame.
                Error::InvalidRequest(_) => {
                    let problem = "the `type` of a frame must be sync, renew or typing";
                    let frame = ControlFrame::error(FrameErrorCode::InvalidFrame, problem);
                    json!({"statusCode": status, "body": frame.json()})
                }
                _ => json!({"statusCode": status}),
            };
            Outcome {
                status,
                code: Some(error.code()),
                cause: error.cause().map(ToString::to_string),
                counts: PushCounts {
                    push_failures: u64::from(status == 500),
                    ..PushCounts::default()
                },
                ..Outcome::ok(response)
            }
        })
    })
    .await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_causes_are_counted_and_their_number_is_limited() {
        assert_eq!(summary(&[]), None);
        let causes = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(summary(&causes).unwrap(), "a; b (2 times)");
        let many: Vec<_> = (10..25).map(|number| number.to_string()).collect();
        let text = summary(&many).unwrap();
        assert!(text.ends_with("18; 19; and 5 other causes"), "{text}");
    }
}
