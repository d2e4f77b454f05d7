//! Sends frames to connections, and closes connections, by the `@connections` API of API Gateway.
//!
//! The failures of a frame and what they mean:
//!
//! | Failure | Meaning |
//! |---|---|
//! | 410 | the connection is closed, or its handshake is not finished yet |
//! | 429, 5xx, time-out | the client reads too slowly, or API Gateway is busy: sent again for up to 2 seconds |
//! | 403 | the function has no permission: a defect of the deployment |
//! | another status | a defect of this service |

use std::time::Duration;

use aws_sdk_apigatewaymanagement::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use tokio::time::{Instant, timeout};

use crate::{aws::AwsConfig, error::BoxError, error::ConfigError, store::Backoff};

/// The environment variable with the URL of the stage.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI";
/// The maximum time of one request.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum time to send the last frame of a connection.
const LAST_FRAME_TIMEOUT: Duration = Duration::from_millis(250);
/// After this time, a frame is not sent again.
const MAX_RETRY_TIME: Duration = Duration::from_secs(2);

/// The client of the `@connections` API.
pub(super) struct ManagementClient(Client);

/// The outcome of sending a frame.
#[derive(Debug)]
pub(super) enum PostOutcome {
    /// API Gateway has accepted it. The client may still not receive it.
    Delivered,
    /// There is no such connection, or not yet.
    Gone,
    /// It could not be sent in time. The client does not know that it has missed something.
    Behind(BoxError),
    /// The role of the function lacks a permission.
    Forbidden(BoxError),
    /// API Gateway refuses the frame.
    Rejected(BoxError),
}

/// The outcome of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseOutcome {
    /// It is closed.
    Closed,
    /// There is no such connection, or not yet.
    Gone,
    /// It may still be open.
    Failed,
}

impl ManagementClient {
    /// Creates a client. It does not retry by itself.
    ///
    /// # Errors
    /// [`ConfigError`] if the endpoint is missing or not a URL.
    pub fn new(aws: &AwsConfig, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        if env(ENDPOINT_VARIABLE).is_none_or(|url| url.is_empty()) {
            return Err(ConfigError::new(
                ENDPOINT_VARIABLE,
                "is not set; set it to the URL of the stage of the WebSocket API, such as \
                 https://ID.execute-api.REGION.amazonaws.com/live",
            ));
        }
        let config = aws.for_service("ApiGatewayManagementApi", ENDPOINT_VARIABLE)?;
        Ok(Self(Client::new(&config)))
    }

    /// Sends a frame, again if necessary.
    pub async fn post(&self, id: &str, frame: &str) -> PostOutcome {
        let started = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            match self.post_once(id, frame).await {
                PostOutcome::Behind(_) if started.elapsed() < MAX_RETRY_TIME => {
                    backoff.wait().await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Sends a frame that nobody misses if it is lost.
    pub async fn post_once(&self, id: &str, frame: &str) -> PostOutcome {
        let request = self.0.post_to_connection();
        let request = request
            .connection_id(id)
            .data(Blob::new(frame.as_bytes()))
            .send();
        match timeout(ATTEMPT_TIMEOUT, request).await {
            Ok(Ok(_)) => PostOutcome::Delivered,
            Ok(Err(error)) => classify(&error),
            Err(elapsed) => PostOutcome::Behind(Box::new(elapsed)),
        }
    }

    /// Sends a last frame, if there is one, and closes the connection.
    pub async fn close(&self, id: &str, last_frame: Option<&str>) -> CloseOutcome {
        if let Some(frame) = last_frame {
            // It is not worth the time of a client that reads slowly.
            let _ = timeout(LAST_FRAME_TIMEOUT, self.post_once(id, frame)).await;
        }
        let request = self.0.delete_connection().connection_id(id).send();
        match timeout(ATTEMPT_TIMEOUT, request).await {
            Ok(Ok(_)) => CloseOutcome::Closed,
            Ok(Err(error)) => match classify(&error) {
                PostOutcome::Gone => CloseOutcome::Gone,
                _ => CloseOutcome::Failed,
            },
            Err(_) => CloseOutcome::Failed,
        }
    }
}

impl CloseOutcome {
    /// Whether the connection is closed now.
    pub fn is_closed(self) -> bool {
        self != Self::Failed
    }
}

fn classify<E>(error: &SdkError<E>) -> PostOutcome
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(|error| error.code());
    let cause = format!("@connections: status {status:?}, code {code:?}").into();
    match status {
        Some(410) => PostOutcome::Gone,
        Some(429 | 500..) | None => PostOutcome::Behind(cause),
        Some(403) => PostOutcome::Forbidden(cause),
        Some(_) => PostOutcome::Rejected(cause),
    }
}
