//! WebSocket connections: handshakes, the messages of clients, and the registry of open connections.
//!
//! - A handshake invokes the authorizer and `$connect`, and is answered with the protocol that `$connect` returns.
//! - Until then, the connection does not exist for `@connections`.
//! - The messages of one client invoke `$default` one after the other. API Gateway does not promise an order.
//! - Binary messages, messages that are too large, silence and old age close a connection.
//! - Messages for a client that reads too slowly wait in a queue of limited size.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderValue, Response, StatusCode, header, request},
};
use base64::{Engine, engine::general_purpose::URL_SAFE as BASE64};
use chat_shared::domain::Timestamp;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};
use uuid::Uuid;

use super::{DisconnectFault, RealtimeOptions, event::Handshake};
use crate::{
    LogSink,
    gateway::gateway_error,
    lambda::{InvokeError, Lambda, lock},
    template::WebSocketApi,
};

/// API Gateway's limit on a frame.
const MAX_FRAME_BYTES: usize = 32 * 1024;
/// API Gateway's limit on a message, in both directions.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// How many messages wait for a client that does not read them.
const OUTBOX_CAPACITY: usize = 64;
/// How many messages of a client wait for the function.
const INBOX_CAPACITY: usize = 64;
/// How long a client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Random bytes of a connection id. The base64 text of 11 bytes ends with `=`, as API Gateway's ids do.
const ID_BYTES: usize = 11;

// Status codes of close frames (RFC 6455, section 7.4.1).
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
/// Not sent: the close frame had no code.
const NO_STATUS: u16 = 1005;
/// Not sent: there was no close frame.
const ABNORMAL: u16 = 1006;
const INVALID_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// The WebSocket API with its open connections.
pub(crate) struct Sockets {
    pub(super) api: WebSocketApi,
    pub(super) options: RealtimeOptions,
    pub(super) log: LogSink,
    pub(super) stop: watch::Receiver<bool>,
    lambda: Arc<Lambda>,
    connections: Mutex<BTreeMap<String, Arc<Connection>>>,
}

/// A connection whose handshake has been answered.
pub(super) struct Connection {
    pub handshake: Handshake,
    opened: Instant,
    /// When the last message was sent or received.
    active: Mutex<(Instant, Timestamp)>,
    outbox: mpsc::Sender<Message>,
    /// Set when the gateway ends the connection.
    end: watch::Sender<Option<CloseReason>>,
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CloseReason {
    /// The gateway sends a close frame.
    Closed { code: u16, reason: &'static str },
    /// The client has sent a close frame.
    ClosedByClient { code: u16, reason: String },
    /// The network connection ends without a close frame.
    Cut,
}

/// A handshake that fails: the status of the response, and a note for the log.
struct HandshakeError(StatusCode, String);

/// Waits until the stack stops.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Whether the stack stops, or is gone.
fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

impl Sockets {
    pub fn new(
        api: WebSocketApi,
        options: RealtimeOptions,
        lambda: Arc<Lambda>,
        log: LogSink,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            api,
            options,
            log,
            stop,
            lambda,
            connections: Mutex::default(),
        })
    }

    /// The stage, which is the path of handshakes.
    pub fn stage(&self) -> &str {
        &self.api.stage
    }

    /// The ids of the open connections.
    pub fn connection_ids(&self) -> Vec<String> {
        lock(&self.connections).keys().cloned().collect()
    }

    /// Ends all connections without a close frame.
    pub fn cut_connections(&self) {
        let connections = std::mem::take(&mut *lock(&self.connections));
        for connection in connections.values() {
            connection.end(CloseReason::Cut);
        }
    }

    pub(super) fn connection(&self, id: &str) -> Option<Arc<Connection>> {
        lock(&self.connections).get(id).cloned()
    }

    /// Closes a connection. From now on, it does not exist for `@connections`.
    pub(super) fn close(&self, connection: &Connection) {
        lock(&self.connections).remove(&connection.handshake.connection_id);
        connection.end(CloseReason::Closed {
            code: NORMAL,
            reason: "Connection Closed Normally",
        });
    }

    /// Whether a path is that of handshakes.
    pub fn is_handshake(&self, path: &str) -> bool {
        let stage = path.strip_prefix('/');
        stage.is_some_and(|stage| stage == self.api.stage)
    }

    /// Handles a handshake. Returns the response and a note for the log.
    pub async fn connect(
        self: &Arc<Self>,
        mut parts: request::Parts,
        source_ip: &str,
    ) -> (Response<Body>, String) {
        let upgrade =
            <WebSocketUpgrade as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await;
        let Ok(mut upgrade) = upgrade else {
            let note = "gateway: not a WebSocket handshake";
            return (gateway_error(StatusCode::UPGRADE_REQUIRED), note.to_owned());
        };
        let (id, now) = (new_connection_id(), Timestamp::now());
        let mut handshake = Handshake::new(&parts, id, &self.api.stage, source_ip, now);
        let accepted = match self.authorize(&mut handshake).await {
            Ok(()) => self.open(&handshake).await,
            Err(refusal) => Err(refusal),
        };
        let (protocol, note) = match accepted {
            Ok(accepted) => accepted,
            Err(HandshakeError(status, note)) => return (gateway_error(status), note),
        };
        if let Some(faults) = &self.options.faults {
            sleep(faults.handshake_delay(&handshake.connection_id)).await;
        }
        if let Some(protocol) = protocol {
            upgrade.set_selected_protocol(protocol);
        }
        let (connection, outbox) = self.register(handshake);
        let (sockets, failed) = (self.clone(), (self.clone(), connection.clone()));
        let response = upgrade
            .max_frame_size(MAX_FRAME_BYTES)
            .max_message_size(MAX_MESSAGE_BYTES)
            .on_failed_upgrade(move |_: axum::Error| {
                let (sockets, connection) = failed;
                tokio::spawn(
                    async move { sockets.disconnected(&connection, &CloseReason::Cut).await },
                );
            })
            .on_upgrade(move |socket| sockets.run(socket, connection, outbox));
        (response, note)
    }

    /// Adds a connection to the registry. Messages for it wait until its socket is ready.
    fn register(&self, handshake: Handshake) -> (Arc<Connection>, mpsc::Receiver<Message>) {
        let (outbox, messages) = mpsc::channel(OUTBOX_CAPACITY);
        let now = Instant::now();
        let connection = Arc::new(Connection {
            handshake,
            opened: now,
            active: Mutex::new((now, Timestamp::now())),
            outbox,
            end: watch::Sender::new(None),
        });
        let id = connection.handshake.connection_id.clone();
        lock(&self.connections).insert(id, connection.clone());
        (connection, messages)
    }

    /// Invokes the authorizer, and adds the context that it returns to the handshake.
    async fn authorize(&self, handshake: &mut Handshake) -> Result<(), HandshakeError> {
        let Some(function) = &self.api.authorizer else {
            return Ok(());
        };
        let event = handshake.authorizer_event(Timestamp::now());
        let invocation = self.lambda.invoke(function, event.to_string().into()).await;
        let invocation = invocation.map_err(|error| {
            let status = if is_unauthorized(&error) {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            HandshakeError(status, format!("{function}: {error}"))
        })?;
        match policy(&invocation.payload) {
            Some((true, context)) => {
                handshake.authorizer = context;
                Ok(())
            }
            Some((false, _)) => Err(HandshakeError(
                StatusCode::FORBIDDEN,
                format!("{function}: denied"),
            )),
            None => Err(HandshakeError(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{function}: its response is not a policy"),
            )),
        }
    }

    /// Invokes `$connect`. Returns the protocol for the response to the handshake, and a note for the log.
    async fn open(
        &self,
        handshake: &Handshake,
    ) -> Result<(Option<HeaderValue>, String), HandshakeError> {
        let Some(function) = &self.api.connect else {
            return Ok((None, "gateway".to_owned()));
        };
        let event = handshake.connect_event(Timestamp::now());
        let invocation = self.lambda.invoke(function, event.to_string().into()).await;
        let invocation = invocation.map_err(|error| {
            HandshakeError(StatusCode::BAD_GATEWAY, format!("{function}: {error}"))
        })?;
        let (status, protocol) = connect_response(&invocation.payload).ok_or_else(|| {
            let note = format!("{function}: API Gateway would reject its response payload");
            HandshakeError(StatusCode::BAD_GATEWAY, note)
        })?;
        let note = invocation.note(function);
        if status.is_success() {
            Ok((protocol, note))
        } else {
            Err(HandshakeError(status, note))
        }
    }

    /// Serves a connection until it ends, then invokes `$disconnect`.
    async fn run(
        self: Arc<Self>,
        socket: WebSocket,
        connection: Arc<Connection>,
        outbox: mpsc::Receiver<Message>,
    ) {
        let (sink, mut stream) = socket.split();
        let writer = tokio::spawn(write(sink, outbox));
        let (inbox, messages) = mpsc::channel(INBOX_CAPACITY);
        tokio::spawn(self.clone().receive_all(connection.clone(), messages));
        let end = tokio::select! {
            end = read(&mut stream, &inbox, &connection) => end,
            end = connection.ended() => end,
            end = self.expired(&connection) => end,
            () = stopped(self.stop.clone()) => CloseReason::Closed { code: GOING_AWAY, reason: "Going away" },
        };
        drop(inbox);
        tokio::spawn(close_socket(
            end.clone(),
            connection.clone(),
            stream,
            writer,
        ));
        self.disconnected(&connection, &end).await;
    }

    /// Invokes `$default` with the messages of a client.
    async fn receive_all(
        self: Arc<Self>,
        connection: Arc<Connection>,
        mut messages: mpsc::Receiver<Utf8Bytes>,
    ) {
        while let Some(message) = messages.recv().await {
            if is_stopped(&self.stop) {
                return;
            }
            self.receive(&connection, &message).await;
        }
    }

    /// Invokes `$default` with a message, and sends the response to the client.
    async fn receive(&self, connection: &Connection, message: &str) {
        let Some(function) = &self.api.default else {
            return;
        };
        let (start, now) = (Instant::now(), Timestamp::now());
        let event = connection.handshake.message_event(message, now);
        let invocation = self.lambda.invoke(function, event.to_string().into()).await;
        let id = &connection.handshake.connection_id;
        let (reply, note) = match invocation {
            Ok(invocation) => (reply(&invocation.payload), invocation.note(function)),
            Err(error) => {
                let failed = json!({
                    "message": "Internal server error",
                    "connectionId": id,
                    "requestId": event["requestContext"]["requestId"],
                });
                (Some(failed.to_string()), format!("{function}: {error}"))
            }
        };
        self.log_line(
            &format!("$default {id} {} bytes", message.len()),
            start,
            &note,
        );
        if let Some(reply) = reply {
            // The client may have gone meanwhile.
            let _ = connection.outbox.send(Message::Text(reply.into())).await;
            connection.touch();
        }
    }

    /// Waits until a connection has reached one of API Gateway's time limits.
    async fn expired(&self, connection: &Connection) -> CloseReason {
        let max_age = connection.opened + self.options.max_age;
        loop {
            let idle = connection.last_active().0 + self.options.idle_timeout;
            let next = max_age.min(idle);
            if next <= Instant::now() {
                return CloseReason::Closed {
                    code: GOING_AWAY,
                    reason: "Going away",
                };
            }
            sleep_until(next.into()).await;
        }
    }

    /// Removes a connection from the registry and invokes `$disconnect`, unless the stack stops.
    async fn disconnected(&self, connection: &Connection, end: &CloseReason) {
        let id = &connection.handshake.connection_id;
        lock(&self.connections).remove(id);
        let faults = self.options.faults.as_ref();
        match faults.map_or(DisconnectFault::None, |faults| faults.disconnect(id)) {
            DisconnectFault::None => {}
            DisconnectFault::Lose => return,
            DisconnectFault::Delay(delay) => sleep(delay).await,
        }
        let (code, reason) = end.status();
        let function = self.api.disconnect.as_ref();
        let Some(function) = function.filter(|_| !is_stopped(&self.stop)) else {
            return;
        };
        let (start, now) = (Instant::now(), Timestamp::now());
        let event = connection.handshake.disconnect_event(code, reason, now);
        let note = match self.lambda.invoke(function, event.to_string().into()).await {
            Ok(invocation) => invocation.note(function),
            Err(error) => format!("{function}: {error}"),
        };
        self.log_line(&format!("$disconnect {id} {code}"), start, &note);
    }

    /// Logs an invocation as the gateway logs requests.
    fn log_line(&self, what: &str, start: Instant, note: &str) {
        let millis = start.elapsed().as_secs_f64() * 1_000.0;
        let now = Timestamp::now();
        (self.log)(&format!("{now} {what} {millis:.1} ms {note}"));
    }
}

impl Connection {
    /// Queues a message for the client.
    ///
    /// Returns the status of the response to the function: 429 if the client reads too slowly.
    pub fn post(&self, text: String) -> StatusCode {
        match self.outbox.try_send(Message::Text(text.into())) {
            Ok(()) => {
                self.touch();
                StatusCode::OK
            }
            Err(mpsc::error::TrySendError::Full(_)) => StatusCode::TOO_MANY_REQUESTS,
            Err(mpsc::error::TrySendError::Closed(_)) => StatusCode::GONE,
        }
    }

    /// When the last message was sent or received.
    pub fn last_active(&self) -> (Instant, Timestamp) {
        *lock(&self.active)
    }

    fn touch(&self) {
        *lock(&self.active) = (Instant::now(), Timestamp::now());
    }

    /// Ends the connection. Only the first call has an effect.
    fn end(&self, end: CloseReason) {
        self.end.send_if_modified(|current| {
            let is_first = current.is_none();
            if is_first {
                *current = Some(end);
            }
            is_first
        });
    }

    /// Waits until the gateway ends the connection.
    async fn ended(&self) -> CloseReason {
        let mut receiver = self.end.subscribe();
        let end = receiver.wait_for(Option::is_some).await;
        end.ok()
            .and_then(|end| end.clone())
            .unwrap_or(CloseReason::Cut)
    }
}

impl CloseReason {
    /// The code and the reason in the event of `$disconnect`.
    fn status(&self) -> (u16, &str) {
        match self {
            Self::Closed { code, reason } => (*code, reason),
            Self::ClosedByClient { code, reason } => (*code, reason.as_str()),
            Self::Cut => (ABNORMAL, "Connection closed abnormally"),
        }
    }

    /// Whether the library cannot read from the socket any more, because it could not read the last message.
    fn is_read_error(&self) -> bool {
        let read_errors = [PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG];
        matches!(self, Self::Closed { code, .. } if read_errors.contains(code))
    }
}

/// Reads the messages of a client until one of them, or the client, ends the connection.
async fn read(
    stream: &mut SplitStream<WebSocket>,
    inbox: &mpsc::Sender<Utf8Bytes>,
    connection: &Connection,
) -> CloseReason {
    loop {
        let message = match stream.next().await {
            None => return CloseReason::Cut,
            Some(Err(error)) => return end_of_read_error(error),
            Some(Ok(message)) => message,
        };
        connection.touch();
        match message {
            Message::Text(text) => {
                if inbox.send(text).await.is_err() {
                    return CloseReason::Cut;
                }
            }
            Message::Binary(_) => {
                return CloseReason::Closed {
                    code: UNSUPPORTED_DATA,
                    reason: "Unsupported data",
                };
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(None) => {
                return CloseReason::ClosedByClient {
                    code: NO_STATUS,
                    reason: "Client-side close frame status not set".to_owned(),
                };
            }
            Message::Close(Some(frame)) => {
                return CloseReason::ClosedByClient {
                    code: frame.code,
                    reason: frame.reason.to_string(),
                };
            }
        }
    }
}

/// How a connection ends whose next message cannot be read.
fn end_of_read_error(error: axum::Error) -> CloseReason {
    let (code, reason) = match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => (TOO_BIG, "Message too big"),
        Some(tungstenite::Error::Utf8(_)) => (INVALID_TEXT, "Invalid UTF-8"),
        Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
            return CloseReason::Cut;
        }
        Some(tungstenite::Error::Protocol(_)) => (PROTOCOL_ERROR, "Protocol error"),
        _ => return CloseReason::Cut,
    };
    CloseReason::Closed { code, reason }
}

/// Sends queued messages until a close frame, which is the last message.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut outbox: mpsc::Receiver<Message>) {
    while let Some(message) = outbox.recv().await {
        let is_last = matches!(message, Message::Close(_));
        if sink.send(message).await.is_err() || is_last {
            return;
        }
    }
}

/// Completes the closing handshake of a connection, and drops its socket.
async fn close_socket(
    end: CloseReason,
    connection: Arc<Connection>,
    mut stream: SplitStream<WebSocket>,
    mut writer: JoinHandle<()>,
) {
    let closing_handshake = async {
        match &end {
            CloseReason::Cut => return,
            CloseReason::ClosedByClient { .. } => {}
            CloseReason::Closed { code, reason } => {
                let frame = CloseFrame {
                    code: *code,
                    reason: Utf8Bytes::from(*reason),
                };
                // After the messages that are still in the queue. A client that does not read them gets no frame.
                let queued = connection.outbox.try_send(Message::Close(Some(frame)));
                if queued.is_err() || (&mut writer).await.is_err() {
                    return;
                }
            }
        }
        if end.is_read_error() {
            // A socket that is closed with unread data is reset, which could overtake the close frame.
            std::future::pending::<()>().await;
        }
        // Reading sends the answer to the client's close frame, or waits for the client's answer.
        while let Some(Ok(_)) = stream.next().await {}
    };
    let _ = timeout(CLOSE_TIMEOUT, closing_handshake).await;
    writer.abort();
}

/// A connection id of the form of API Gateway's.
fn new_connection_id() -> String {
    BASE64.encode(&Uuid::new_v4().into_bytes()[..ID_BYTES])
}

/// Whether an authorizer failed with the message that API Gateway translates to 401.
fn is_unauthorized(error: &InvokeError) -> bool {
    let InvokeError::FunctionError(error) = error else {
        return false;
    };
    let error: Value = serde_json::from_str(error).unwrap_or_default();
    error["errorMessage"] == "Unauthorized"
}

/// Whether the policy in an authorizer's response allows the handshake, and the context for the functions: its values
/// as texts, and the principal.
fn policy(payload: &[u8]) -> Option<(bool, Map<String, Value>)> {
    let response: Value = serde_json::from_slice(payload).ok()?;
    let statements = response["policyDocument"]["Statement"].as_array()?;
    let has = |effect: &str| {
        let mut statements = statements.iter();
        statements.any(|statement| statement["Effect"] == effect)
    };
    let context = response["context"].as_object().into_iter().flatten();
    let mut context: Map<String, Value> = context
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), text.into())
        })
        .collect();
    let principal = response["principalId"].as_str()?;
    context.insert("principalId".to_owned(), principal.into());
    Some((has("Allow") && !has("Deny"), context))
}

/// The status and the protocol in the response of `$connect`. `None` if API Gateway would reject the response.
fn connect_response(payload: &[u8]) -> Option<(StatusCode, Option<HeaderValue>)> {
    let response: Value = serde_json::from_slice(payload).ok()?;
    let status = u16::try_from(response["statusCode"].as_u64()?).ok()?;
    let headers = response["headers"].as_object().into_iter().flatten();
    let mut protocols = headers
        .filter(|(name, _)| name.eq_ignore_ascii_case(header::SEC_WEBSOCKET_PROTOCOL.as_str()))
        .filter_map(|(_, value)| value.as_str());
    let protocol = protocols.next().map(HeaderValue::from_str).transpose();
    Some((StatusCode::from_u16(status).ok()?, protocol.ok()?))
}

/// The message for the client in the response of `$default`.
fn reply(payload: &[u8]) -> Option<String> {
    let response: Value = serde_json::from_slice(payload).ok()?;
    let body = response["body"].as_str()?;
    (!body.is_empty()).then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_needs_encoding_in_a_path() {
        let id = new_connection_id();
        assert_eq!(id.len(), 16);
        assert!(id.ends_with('=') && !id.ends_with("=="), "{id}");
        assert_ne!(id, new_connection_id());
    }

    #[test]
    fn an_explicit_deny_takes_precedence_and_the_context_has_texts() {
        let response = |effects: &[&str]| {
            let statements = effects.iter().map(|effect| json!({"Effect": effect}));
            let statements: Vec<_> = statements.collect();
            json!({
                "principalId": "42",
                "policyDocument": {"Statement": statements},
                "context": {"userId": "42", "tokenExpiresAt": 1_790_000_000},
            })
        };
        let allowed = |response: &Value| policy(response.to_string().as_bytes());
        let (is_allowed, context) = allowed(&response(&["Allow"])).unwrap();
        assert!(is_allowed);
        let expected = json!({"userId": "42", "tokenExpiresAt": "1790000000", "principalId": "42"});
        assert_eq!(Value::from(context), expected);
        for effects in [&["Deny"][..], &["Allow", "Deny"], &[]] {
            assert!(!allowed(&response(effects)).unwrap().0, "{effects:?}");
        }
        assert!(allowed(&json!({"principalId": "42"})).is_none());
        assert!(policy(b"null").is_none());
    }

    #[test]
    fn only_the_error_unauthorized_of_an_authorizer_is_a_401() {
        let error = |text: &str| InvokeError::FunctionError(text.to_owned());
        let unauthorized = r#"{"errorType":"String","errorMessage":"Unauthorized"}"#;
        assert!(is_unauthorized(&error(unauthorized)));
        assert!(!is_unauthorized(&error(r#"{"errorMessage":"other"}"#)));
        assert!(!is_unauthorized(&error("Unauthorized")));
        let exited = InvokeError::ProcessExited("Unauthorized".to_owned());
        assert!(!is_unauthorized(&exited));
    }

    #[test]
    fn the_response_of_connect_has_a_status_and_maybe_a_protocol() {
        let response = connect_response(
            br#"{"statusCode":200,"headers":{"sec-websocket-protocol":"chat.v1"}}"#,
        );
        let protocol = HeaderValue::from_static("chat.v1");
        assert_eq!(response, Some((StatusCode::OK, Some(protocol))));
        let refused = connect_response(br#"{"statusCode":503,"headers":null}"#);
        assert_eq!(refused, Some((StatusCode::SERVICE_UNAVAILABLE, None)));
        for invalid in [&b"{}"[..], b"null", br#"{"statusCode":9}"#] {
            assert_eq!(connect_response(invalid), None);
        }
    }

    #[test]
    fn only_a_body_is_sent_to_the_client() {
        assert_eq!(
            reply(br#"{"statusCode":200,"body":"x"}"#).as_deref(),
            Some("x")
        );
        for none in [&br#"{"statusCode":200}"#[..], br#"{"body":""}"#, b"null"] {
            assert_eq!(reply(none), None);
        }
    }

    #[test]
    fn a_message_that_is_too_large_has_its_own_close_code() {
        let capacity = tungstenite::error::CapacityError::MessageTooLong {
            size: 2,
            max_size: 1,
        };
        let end = |error: tungstenite::Error| end_of_read_error(axum::Error::new(error));
        let too_big = end(capacity.into());
        assert_eq!(too_big.status().0, 1009);
        assert!(too_big.is_read_error());
        let reset = ProtocolError::ResetWithoutClosingHandshake;
        assert_eq!(end(reset.into()), CloseReason::Cut);
        assert_eq!(end(tungstenite::Error::ConnectionClosed), CloseReason::Cut);
    }
}
