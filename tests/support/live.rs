//! A client of the push protocol, which checks each frame against the `AsyncAPI` document.

use std::{
    collections::{HashSet, VecDeque},
    ops::Deref,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderName, HeaderValue},
    },
};

use super::{Api, User, asyncapi_validation::FrameSchemas};

/// The sub-protocol that the server speaks.
pub const PROTOCOL: &str = "chat.v1";

/// How long a client waits for a frame that normally takes milliseconds. It is long because the tests also run
/// on slow machines, and because a deployment may start functions.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// One WebSocket connection.
///
/// The server may send an event more than once, always with the same `id`: only the first one counts, except for
/// [`LiveClient::next`].
pub struct LiveClient {
    /// Boxed for the same reason as the handshake.
    socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    protocol: Option<String>,
    /// What was received but not yet returned, in the order of arrival: control frames, and frames of one event.
    unread: VecDeque<Value>,
    /// The ids of the events that were received.
    seen: HashSet<String>,
    is_closed: bool,
    /// The code of the server's close frame.
    close_code: Option<u16>,
}

impl LiveClient {
    /// Connects as a browser does: the token is one of the offered protocols. Panics if the handshake fails.
    pub async fn connect(user: &User) -> Self {
        let protocols = [PROTOCOL, &user.token];
        let client = Self::try_connect(&user.api.live_url(), &protocols, &[]).await;
        client.unwrap_or_else(|status| panic!("the handshake failed with status {status}"))
    }

    /// Connects with any protocols and headers.
    ///
    /// # Errors
    /// The HTTP status with which the server refuses the handshake.
    pub async fn try_connect(
        url: &str,
        protocols: &[&str],
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        assert!(
            !url.starts_with("wss:"),
            "the tests cannot connect to {url}, because they have no TLS for WebSockets: set LIVE_URL to the \
             ws:// URL of a reverse proxy that adds TLS and sets the header `Host`"
        );
        let mut request = url.into_client_request().unwrap();
        let request_headers = request.headers_mut();
        if !protocols.is_empty() {
            let value = HeaderValue::from_str(&protocols.join(", ")).unwrap();
            request_headers.insert("sec-websocket-protocol", value);
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request_headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        // Boxed, because it is large, and so would be the futures of all tests.
        let handshake = Box::pin(connect_async_with_config(request, None, true));
        let handshake = timeout(WAIT_LIMIT, handshake).await;
        match handshake.expect("the server should answer the handshake") {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
                Ok(Self {
                    socket: Box::new(socket),
                    protocol,
                    unread: VecDeque::new(),
                    seen: HashSet::new(),
                    is_closed: false,
                    close_code: None,
                })
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("cannot connect to {url}: {error}"),
        }
    }

    /// The sub-protocol that the server chose.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text frame with any content.
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.send_message(Message::binary(bytes)).await;
    }

    async fn send_message(&mut self, message: Message) {
        // The server may close the connection before it has read everything. A test sees that when it reads.
        let _ = self.socket.send(message).await;
    }

    /// Sends `sync` and returns the answer.
    pub async fn sync(&mut self) -> Value {
        self.send(&json!({"type": "sync"})).await;
        self.control("synced").await
    }

    /// The next frame, or `None` if the connection is closed. An event that another method has received but not
    /// returned comes first, in a frame of its own.
    pub async fn next(&mut self) -> Option<Value> {
        match self.unread.pop_front() {
            Some(frame) => Some(frame),
            None => self.receive().await,
        }
    }

    /// The next event of this type. Other events and frames stay, in their order.
    pub async fn event(&mut self, kind: &str) -> Value {
        let what = format!("an event {kind}");
        let is_wanted = |frame: &Value| frame["events"][0]["type"] == kind;
        let mut frame = self.take(&what, is_wanted).await;
        frame["events"][0].take()
    }

    /// The next event of any type. Control frames stay.
    pub async fn next_event(&mut self) -> Value {
        let is_wanted = |frame: &Value| frame["events"].is_array();
        let mut frame = self.take("an event", is_wanted).await;
        frame["events"][0].take()
    }

    /// The next control frame of this type. Events and other frames stay, in their order.
    pub async fn control(&mut self, kind: &str) -> Value {
        let what = format!("a frame {kind}");
        let is_wanted = |frame: &Value| frame["type"] == kind;
        self.take(&what, is_wanted).await
    }

    /// The next control frame of any type, or the error of the gateway itself. Events stay.
    pub async fn next_control(&mut self) -> Value {
        let is_wanted = |frame: &Value| !frame["events"].is_array();
        self.take("a control frame", is_wanted).await
    }

    /// Asserts that the next control frame is an error with this code.
    pub async fn expect_error(&mut self, code: &str) {
        let frame = self.next_control().await;
        assert_eq!([&frame["type"], &frame["code"]], ["error", code], "{frame}");
        assert!(!frame["message"].as_str().unwrap().is_empty());
    }

    /// Waits until the server closes the connection, and returns the code that it gives, if any. Frames that
    /// arrive before can still be read.
    pub async fn closed(&mut self) -> Option<u16> {
        while let Some(frame) = self.receive().await {
            self.keep(frame);
        }
        self.close_code
    }

    /// Closes the connection, and waits until the server confirms it.
    pub async fn close(mut self) {
        let _ = self.socket.as_mut().close(None).await;
        self.closed().await;
    }

    /// Removes and returns the first frame that is wanted, of those that were received and of those to come.
    /// `what` names it.
    async fn take(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(index) = self.unread.iter().position(&is_wanted) {
                return self.unread.remove(index).unwrap();
            }
            let Some(frame) = self.receive().await else {
                panic!(
                    "the connection was closed ({:?}) before {what} arrived; unread: {:?}",
                    self.close_code, self.unread
                );
            };
            self.keep(frame);
        }
    }

    /// Keeps a frame for later. A frame of several events becomes several frames. Repeated events are dropped.
    fn keep(&mut self, frame: Value) {
        let Some(events) = frame["events"].as_array() else {
            self.unread.push_back(frame);
            return;
        };
        for event in events {
            let id = event["id"].as_str().unwrap_or_default();
            if self.seen.insert(id.to_owned()) {
                self.unread
                    .push_back(json!({"v": frame["v"], "events": [event]}));
            }
        }
    }

    /// The next frame from the socket, or `None` if the connection is closed.
    async fn receive(&mut self) -> Option<Value> {
        while !self.is_closed {
            let message = timeout(WAIT_LIMIT, self.socket.next()).await;
            let Ok(message) = message else {
                panic!(
                    "nothing arrived for {WAIT_LIMIT:?}; unread: {:?}",
                    self.unread
                );
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text)
                        .unwrap_or_else(|error| panic!("{text:?} is not JSON: {error}"));
                    FrameSchemas::get().check(&frame);
                    return Some(frame);
                }
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.is_closed = true;
                    self.close_code = frame.map(|frame| frame.code.into());
                    // Sends the library's reply, which completes the closing handshake.
                    let _ = self.socket.flush().await;
                }
                Some(Ok(other)) => panic!("the server should send only text: {other:?}"),
                // The connection ended without a close frame.
                None
                | Some(Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Io(_)
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                )) => self.is_closed = true,
                Some(Err(error)) => panic!("the server broke the protocol: {error}"),
            }
        }
        None
    }
}

/// A new user with two open connections, as with two devices. No event has happened before they were open.
pub struct OnlineUser {
    pub user: User,
    pub devices: [LiveClient; 2],
}

impl OnlineUser {
    /// A new user of the API that all tests of the process share.
    pub async fn new() -> Self {
        let user = Api::shared().user();
        let devices = tokio::join!(LiveClient::connect(&user), LiveClient::connect(&user)).into();
        Self { user, devices }
    }

    /// Two such users with an active chat, and its id. The first user requested the chat. They have received the
    /// events of that.
    pub async fn active_chat() -> (Self, Self, String) {
        let (mut ann, mut ben) = tokio::join!(Self::new(), Self::new());
        let chat = ann.start_chat(&ben).await;
        for user in [&mut ann, &mut ben] {
            for kind in ["chat.requested", "chat.accepted"] {
                assert_eq!(user.next_event().await["type"], kind);
            }
        }
        (ann, ben, chat)
    }

    /// The next event, which must be the same on both connections.
    pub async fn next_event(&mut self) -> Value {
        let [first, second] = &mut self.devices;
        let (event, other) = tokio::join!(first.next_event(), second.next_event());
        assert_eq!(event, other, "both connections of a user get the same");
        event
    }

    /// Asserts that the next event on both connections is of this type and chat, and that it shows the chat, the
    /// message and the totals exactly as the REST API shows them to this user now. Returns it.
    pub async fn expect_event(&mut self, kind: &str, chat: &str) -> Value {
        let event = self.next_event().await;
        assert_eq!([&event["type"], &event["chatId"]], [kind, chat], "{event}");
        let shown = self.user.get_chat(chat).await.expect_status(200);
        assert_eq!(event["chat"], shown.body, "{kind}");
        let totals = self.user.get("/totals").await.expect_status(200);
        assert_eq!(event["totals"], totals.body, "{kind}");
        if let Some(seq) = event["message"]["seq"].as_u64() {
            let message = self.user.message(chat, seq).await;
            assert_eq!(event["message"], message, "{kind}");
        }
        event
    }
}

impl Deref for OnlineUser {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl Api {
    /// The URL of the WebSocket API: `LIVE_URL`, or else `/live` of this API.
    pub fn live_url(&self) -> String {
        std::env::var("LIVE_URL").unwrap_or_else(|_| {
            // `http` becomes `ws`, and `https` becomes `wss`.
            let url = self.url.replacen("http", "ws", 1);
            format!("{url}/live")
        })
    }
}
