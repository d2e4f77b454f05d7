//! Lambda Runtime API server for one function process at a time, with precise timestamps.
//!
//! Each connection has its own blocking thread. The thread reads the clock as soon as a message has
//! arrived and does nothing else.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use chat_shared::domain::Timestamp;

use crate::{Result, http::Message};

/// How long a process may take to start or to respond before the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of an invocation, as in the template. The function receives it as its deadline.
const INVOCATION_TIME_LIMIT: Duration = Duration::from_secs(10);

/// A Runtime API server and the messages from the process that uses it.
pub struct RuntimeApi {
    address: SocketAddr,
    messages: Receiver<ProcessMessage>,
    /// The connection on which the process waits for its next event.
    waiting: Option<TcpStream>,
}

/// A message from the function process.
enum ProcessMessage {
    /// The process requests its next event and waits for it on this connection.
    Next(Instant, TcpStream),
    /// The response to an event.
    Response(Instant, Vec<u8>),
    /// The error that the function reported for its init or for an event.
    Error(String),
}

impl RuntimeApi {
    /// Starts the server.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                // Ignore errors: a process that is killed breaks its connection.
                std::thread::spawn(move || drop(serve(stream, &sender)));
            }
        });
        Ok(Self {
            address,
            messages,
            waiting: None,
        })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Discards the state of the previous process. Call this before the next process starts.
    pub fn reset(&mut self) {
        self.waiting = None;
        while self.messages.try_recv().is_ok() {}
    }

    /// Waits until the process requests its next event and returns the time of that request.
    pub fn wait_until_ready(&mut self) -> Result<Instant> {
        match self.messages.recv_timeout(TIMEOUT)? {
            ProcessMessage::Next(at, stream) => {
                self.waiting = Some(stream);
                Ok(at)
            }
            ProcessMessage::Response(..) => Err("the process responded without an event".into()),
            ProcessMessage::Error(error) => Err(error.into()),
        }
    }

    /// Sends an event to the waiting process. Returns how long the response took, and the response.
    pub fn invoke(&mut self, event: &str) -> Result<(Duration, Vec<u8>)> {
        let mut stream = self.waiting.take().ok_or("the process is not ready")?;
        let deadline = (Timestamp::now() + INVOCATION_TIME_LIMIT)
            .millis()
            .to_string();
        let request_id = format!("{:032x}", fastrand::u128(..));
        let headers = [
            ("content-type", "application/json"),
            ("lambda-runtime-aws-request-id", &request_id),
            ("lambda-runtime-deadline-ms", &deadline),
            (
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:000000000000:function:bench",
            ),
            (
                "lambda-runtime-trace-id",
                "Root=1-00000000-000000000000000000000000;Sampled=0",
            ),
        ];
        let event = Message::response("200 OK", &headers, event);
        let sent_at = Instant::now();
        event.write(&mut stream)?;
        match self.messages.recv_timeout(TIMEOUT)? {
            ProcessMessage::Response(at, body) => Ok((at - sent_at, body)),
            ProcessMessage::Next(..) => {
                Err("the process requested another event before it responded".into())
            }
            ProcessMessage::Error(error) => Err(error.into()),
        }
    }
}

fn serve(stream: TcpStream, sender: &Sender<ProcessMessage>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Message::read(&mut reader)? {
        let at = Instant::now();
        let message = match request.method_and_path() {
            ("GET", _) => ProcessMessage::Next(at, writer.try_clone()?),
            (_, path) => {
                if path.ends_with("/error") {
                    ProcessMessage::Error(String::from_utf8_lossy(&request.body).into_owned())
                } else {
                    ProcessMessage::Response(at, request.body)
                }
            }
        };
        let is_next = matches!(message, ProcessMessage::Next(..));
        sender.send(message)?;
        if !is_next {
            // After the message was sent, because the process may request its next event on another connection.
            Message::response("202 Accepted", &[], "").write(&mut writer)?;
        }
    }
    Ok(())
}
