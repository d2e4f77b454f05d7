//! The Lambda Runtime API for one process at a time. Its threads take the time as soon as a message is
//! there, and do nothing else.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use chat_shared::domain::Timestamp;

use crate::{Result, http::Message};

/// How long a function may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the template gives a call.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A listener, and what the process that talks to it has said.
pub struct RuntimeApi {
    address: SocketAddr,
    said: Receiver<Said>,
    /// Where the process waits for its next event, if it does.
    waiting: Option<TcpStream>,
}

enum Said {
    /// It asks for an event, and hears of it on this connection.
    Next(Instant, TcpStream),
    Answer(Instant, Vec<u8>),
    Failure(String),
}

impl RuntimeApi {
    /// Starts to listen.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (say, said) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let say = say.clone();
                // A process that is killed breaks its connection.
                std::thread::spawn(move || drop(listen(stream, &say)));
            }
        });
        Ok(Self {
            address,
            said,
            waiting: None,
        })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forgets the process before; the next one has not been started yet.
    pub fn reset(&mut self) {
        self.waiting = None;
        while self.said.try_recv().is_ok() {}
    }

    /// When the process asked for its next event.
    pub fn ready(&mut self) -> Result<Instant> {
        match self.said.recv_timeout(PATIENCE)? {
            Said::Next(at, stream) => {
                self.waiting = Some(stream);
                Ok(at)
            }
            Said::Answer(..) => Err("an answer that nothing was asked for".into()),
            Said::Failure(why) => Err(why.into()),
        }
    }

    /// Hands the process that waits an event: its answer, and how long it took.
    pub fn call(&mut self, event: &str) -> Result<(Duration, Vec<u8>)> {
        let mut stream = self.waiting.take().ok_or("the process is not ready")?;
        let deadline = (Timestamp::now() + TIME_LIMIT).millis().to_string();
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
        let event = Message::answer("200 OK", &headers, event);
        let began = Instant::now();
        event.write(&mut stream)?;
        match self.said.recv_timeout(PATIENCE)? {
            Said::Answer(at, body) => Ok((at - began, body)),
            Said::Next(..) => Err("the process asked for an event instead of answering".into()),
            Said::Failure(why) => Err(why.into()),
        }
    }
}

fn listen(stream: TcpStream, say: &Sender<Said>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut messages = BufReader::new(stream);
    while let Some(message) = Message::read(&mut messages)? {
        let at = Instant::now();
        let said = match message.target() {
            ("GET", _) => Said::Next(at, answers.try_clone()?),
            (_, path) => {
                let failed = path.ends_with("/error");
                Message::answer("202 Accepted", &[], "").write(&mut answers)?;
                if failed {
                    Said::Failure(String::from_utf8_lossy(&message.body).into_owned())
                } else {
                    Said::Answer(at, message.body)
                }
            }
        };
        say.send(said)?;
    }
    Ok(())
}
