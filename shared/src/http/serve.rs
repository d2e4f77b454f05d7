//! Starts a function and handles its events until Lambda stops the process.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use lambda_http::{
    aws_lambda_events::apigw::ApiGatewayV2httpResponse,
    http::{Method, Request},
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;

use super::{
    endpoints::MethodMatch,
    event,
    log::{LogRecord, Logger},
    request::{RequestContext, header, route},
    response::Response,
};
use crate::{
    Error, auth::Authenticator, aws::AwsConfig, domain::Timestamp, error::ConfigError,
    store::TableClient,
};

/// Time reserved at the end of an invocation to send a 503 before Lambda's timeout.
pub(crate) const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// Runs a function: connects to the table, then passes each request to `handler` until Lambda stops the
/// process. If the configuration is missing or invalid, prints an error that names the variable and exits.
pub async fn serve(handler: impl AsyncFn(&RequestContext) -> Result<Response, Error>) -> ExitCode {
    serve_with_connections(1, handler).await
}

/// Like [`serve`], for a function that sends up to `connections` requests to the table in parallel.
pub async fn serve_with_connections(
    connections: usize,
    handler: impl AsyncFn(&RequestContext) -> Result<Response, Error>,
) -> ExitCode {
    let (authenticator, logger, table) = match init(connections).await {
        Ok(initialized) => initialized,
        Err(error) => return fail_init(&error),
    };
    let is_cold_start = Cell::new(true);
    // References, because the closure below is called more than once.
    let (authenticator, table, handler) = (&authenticator, &table, &handler);
    let (logger, is_cold_start) = (&logger, &is_cold_start);
    let result = lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let started = Instant::now();
        let (payload, context) = event.into_parts();
        let now = Timestamp::now();
        let remaining = Duration::from_millis(context.deadline.saturating_sub(now.millis()));

        let request = event::to_request(payload.get());
        let request_info = request.as_ref().ok().map(|request| {
            let is_head = *request.method() == Method::HEAD;
            (route(request).to_owned(), is_head)
        });
        let (route, is_head) = request_info.unwrap_or_default();
        // Boxed, because the compiler reaches its recursion limit on the type of the unboxed future.
        let response: Pin<Box<dyn Future<Output = _>>> =
            Box::pin(async { handle(authenticator, table, handler, request?, now).await });
        let time_limit = remaining.saturating_sub(RESPONSE_RESERVE);
        let result = tokio::time::timeout(time_limit, response).await;
        let result = result
            .unwrap_or_else(|_| Err(Error::Unavailable("the invocation ran out of time".into())));

        let usage = table.drain_usage();
        let error = result.as_ref().err();
        let code = error.map(Error::code);
        let token_error = error.and_then(Error::token_error);
        let cause = error
            .and_then(Error::cause)
            .map(|cause| match &usage.last_error {
                Some(last) => format!("{cause}; last error that was retried: {last}"),
                None => cause.to_string(),
            });
        let mut response =
            result.unwrap_or_else(|error| Response::error(&error, &context.request_id));
        if is_head {
            response.remove_body();
        }
        logger.write(&LogRecord {
            at: Timestamp::now(),
            request_id: &context.request_id,
            route: &route,
            status: response.status(),
            code,
            cause,
            token_error,
            duration: started.elapsed(),
            is_cold_start: is_cold_start.replace(false),
            usage,
            push: None,
        });
        Ok::<ApiGatewayV2httpResponse, Infallible>(event::from_response(response.into()))
    }))
    .await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_init(error.as_ref()),
    }
}

/// Reads the configuration. Fetches keys and opens connections to the table at the same time.
async fn init(connections: usize) -> Result<(Authenticator, Logger, TableClient), ConfigError> {
    let env = |name: &str| std::env::var(name).ok();
    let logger = Logger::from_env(env)?;
    let aws = AwsConfig::from_env().await?;
    let (authenticator, table) = tokio::try_join!(
        Authenticator::connect(env, &aws, Timestamp::now()),
        TableClient::connect(env, &aws, connections),
    )?;
    Ok((authenticator, logger, table))
}

/// Authenticates a request and passes it to the handler.
async fn handle(
    authenticator: &Authenticator,
    table: &TableClient,
    handler: &impl AsyncFn(&RequestContext) -> Result<Response, Error>,
    request: Request<lambda_http::Body>,
    now: Timestamp,
) -> Result<Response, Error> {
    let (path, method) = (request.uri().path(), request.method().as_str());
    if let MethodMatch::Options { allow } = MethodMatch::find(route(&request), path, method)? {
        return Ok(Response::options(&allow));
    }
    // The store measures the time from here, also while the authenticator fetches keys.
    let store = table.store_at(now);
    let authorization = header(&request, "authorization");
    let caller = authenticator.authenticate(authorization, now).await;
    let caller = caller.map_err(Error::Unauthorized)?;
    let context = RequestContext::new(request, caller.user, store)?;
    handler(&context).await
}

pub(crate) fn fail_init(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}
