//! The `@connections` API: functions send messages to clients, close connections and ask for their state.
//!
//! A connection exists for it from the answer to the handshake until the connection closes; before and after, the
//! status is 410. On AWS, requests are signed, and their path starts at the host of the API.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use chat_shared::domain::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    ManagementFault,
    sockets::{Connection, MAX_MESSAGE_BYTES, Sockets, stopped},
};
use crate::gateway::decode;

const CONNECTIONS: &str = "@connections";

/// Tells the SDK the type of an error.
const ERROR_TYPE: &str = "x-amzn-errortype";

impl Sockets {
    /// The connection id in a path of the `@connections` API; `None` for any other path.
    pub fn connection_in_path(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix('/')?.strip_prefix(&*self.api.stage)?;
        let (connections, id) = path.strip_prefix('/')?.split_once('/')?;
        let is_id = decode(connections) == CONNECTIONS && !id.is_empty() && !id.contains('/');
        is_id.then(|| decode(id))
    }

    /// Handles a request to the `@connections` API. Only errors that are unusual are logged: there are many requests,
    /// and 410 is an ordinary status for a client that has left.
    pub async fn manage(
        self: Arc<Self>,
        connection_id: String,
        request: Request,
    ) -> Response<Body> {
        let method = request.method().clone();
        let faults = self.options.faults.as_ref();
        let fault = faults.map_or(ManagementFault::None, |faults| {
            faults.management(method.as_str(), &connection_id)
        });
        match fault {
            ManagementFault::None | ManagementFault::LoseResponse => {}
            ManagementFault::Status(status) => {
                let status = StatusCode::from_u16(status);
                return error(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
            }
            ManagementFault::Delay(delay) => sleep(delay).await,
            ManagementFault::Hang => {
                stopped(self.stop.clone()).await;
                return error(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
        let response = self.respond(&method, &connection_id, request).await;
        if fault == ManagementFault::LoseResponse {
            stopped(self.stop.clone()).await;
        }
        let status = response.status();
        if !status.is_success() && status != StatusCode::GONE {
            let (now, stage, status) = (Timestamp::now(), &self.api.stage, status.as_u16());
            (self.log)(&format!(
                "{now} {method} /{stage}/{CONNECTIONS}/{connection_id} {status}"
            ));
        }
        response
    }

    async fn respond(&self, method: &Method, id: &str, request: Request) -> Response<Body> {
        // Functions send no origin. A web page on this machine must not send messages to clients.
        if is_of_page(request.headers()) {
            return error(StatusCode::FORBIDDEN);
        }
        let Some(connection) = self.connection(id) else {
            return error(StatusCode::GONE);
        };
        match *method {
            Method::POST => {
                let Ok(body) = to_bytes(request.into_body(), MAX_MESSAGE_BYTES).await else {
                    return error(StatusCode::PAYLOAD_TOO_LARGE);
                };
                let text = String::from_utf8_lossy(&body).into_owned();
                match connection.post(text) {
                    StatusCode::OK => Response::new(Body::empty()),
                    status => error(status),
                }
            }
            Method::GET => json_response(StatusCode::OK, &describe(&connection)),
            Method::DELETE => {
                self.close(&connection);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            _ => error(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

fn is_of_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
}

/// The state of a connection.
fn describe(connection: &Connection) -> Value {
    let handshake = &connection.handshake;
    let (_, last_active) = connection.last_active();
    json!({
        "connectedAt": handshake.connected_at.to_string(),
        "identity": {"sourceIp": handshake.source_ip, "userAgent": handshake.user_agent},
        "lastActiveAt": last_active.to_string(),
    })
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An error of the `@connections` API, with its type for the SDK.
fn error(status: StatusCode) -> Response<Body> {
    let error_type = match status {
        StatusCode::FORBIDDEN => "ForbiddenException",
        StatusCode::GONE => "GoneException",
        StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLargeException",
        StatusCode::TOO_MANY_REQUESTS => "LimitExceededException",
        _ => "InternalServerErrorException",
    };
    let message = status.canonical_reason().unwrap_or_default();
    let mut response = json_response(status, &json!({"message": message}));
    let error_type = HeaderValue::from_static(error_type);
    response.headers_mut().insert(ERROR_TYPE, error_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_type_for_the_sdk() {
        for (status, error_type) in [
            (403, "ForbiddenException"),
            (410, "GoneException"),
            (413, "PayloadTooLargeException"),
            (429, "LimitExceededException"),
            (500, "InternalServerErrorException"),
        ] {
            let response = error(StatusCode::from_u16(status).unwrap());
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["x-amzn-errortype"], error_type);
        }
    }
}
