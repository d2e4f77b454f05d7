//! WebSocket connections to the local stack, as clients open them.

use std::{pin::pin, time::Instant};

use chat_shared::{domain::UserId, realtime::protocol::PROTOCOL};
use futures_util::{StreamExt, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::{net::TcpStream, sync::mpsc::UnboundedSender, task::JoinSet};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, Utf8Bytes, client::IntoClientRequest, http::HeaderValue},
};

use crate::{Result, dataset::access_token};

/// Handshakes at a time. Each invokes two functions, which would otherwise wait in long queues.
const MAX_HANDSHAKES: usize = 16;
/// Open files of this process besides the two ends of each connection.
const OTHER_FILES: u64 = 500;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A text frame from the server.
pub struct Frame {
    /// When the client has read it from its socket.
    pub received_at: Instant,
    text: Utf8Bytes,
}

/// Where the frames of a connection go.
pub type FrameSender = UnboundedSender<Frame>;

/// Open connections. Dropping this closes them.
#[derive(Default)]
pub struct Connections {
    receivers: JoinSet<()>,
}

impl Frame {
    /// The events in the frame. A control frame has none.
    pub fn events(&self) -> Result<Vec<Value>> {
        let mut frame: Value = serde_json::from_str(&self.text)?;
        Ok(match frame["events"].take() {
            Value::Array(events) => events,
            _ => Vec::new(),
        })
    }
}

impl Connections {
    /// Opens a connection for each of these clients: a user, and where the frames go. Frames that nobody
    /// receives are discarded.
    pub async fn open(
        &mut self,
        url: &str,
        clients: impl IntoIterator<Item = (UserId, FrameSender)>,
    ) -> Result<()> {
        let handshakes = stream::iter(clients).map(|(user, frames)| connect(url, user, frames));
        let mut handshakes = pin!(handshakes.buffer_unordered(MAX_HANDSHAKES));
        while let Some(opened) = handshakes.next().await {
            let (socket, frames) = opened?;
            self.receivers.spawn(receive(socket, frames));
        }
        Ok(())
    }
}

async fn connect(url: &str, user: UserId, frames: FrameSender) -> Result<(Socket, FrameSender)> {
    let protocols = format!("{PROTOCOL}, {}", access_token(user)?);
    let mut request = url.into_client_request()?;
    let protocols = HeaderValue::from_str(&protocols)?;
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocols);
    let (socket, _) = connect_async_with_config(request, None, true).await?;
    Ok((socket, frames))
}

/// Receives frames until the connection is closed. A frame is only read here: parsing it would delay those
/// after it.
async fn receive(mut socket: Socket, frames: FrameSender) {
    while let Some(Ok(message)) = socket.next().await {
        let received_at = Instant::now();
        if let Message::Text(text) = message {
            let _ = frames.send(Frame { received_at, text });
        }
    }
}

/// Allows this process to open the files that so many connections need. Both ends are in this process.
pub fn allow_connections(connections: u64) -> Result<()> {
    let needed = 2 * connections + OTHER_FILES;
    let (soft_limit, hard_limit) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard_limit < needed {
        return Err(format!(
            "this part opens {needed} files, and the limit is {hard_limit}; raise it in the shell that \
             starts the benchmark with: ulimit -Hn {needed}"
        )
        .into());
    }
    if soft_limit < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard_limit)?;
    }
    Ok(())
}
