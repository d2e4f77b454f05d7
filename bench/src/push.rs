//! Measures push: how long a message takes until it is at a WebSocket of the other member, and how many
//! events and connections one instance of `push-events` serves.
//!
//! - **Latency** is measured with the whole local stack: a request to send a message, the stream of the
//!   table, `push-events`, the socket. On AWS, the stream takes longer than everything else together, so this
//!   shows the part of the functions, not what users will see.
//! - **Batches** are measured by invoking `push-events` with records of real items, because the stream of
//!   the embedded DynamoDB is slower than the function. The stack delivers nothing by itself then, so
//!   that it starts exactly one instance, whose memory is measured too.
//!
//! **Keep the amounts small.** The embedded DynamoDB never removes the records of its stream and finds
//! them by reading all of them, so writes become slower after some ten thousand records. Each measurement
//! has a stack of its own, whose table gets at most about 7,000 records: some 30 for each of 200 pairs of
//! users. The other parts of the benchmark use no stream at all.

use std::{
    io::BufReader,
    iter::repeat_n,
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use chat_local::{
    Stack,
    dynamodb::client_for_endpoint,
    realtime::{RealtimeFaults, RealtimeOptions},
};
use chat_shared::{
    domain::{ChatId, MessageContent, Timestamp},
    store::{Store, TableClient},
};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use crate::{
    Effort, Result,
    dataset::{access_token, chat_id, send_and_record, short_message, start_chat},
    format::{markdown_table, megabytes, millis, significant},
    function_process::{cpu_time, peak_memory},
    http::Message,
    live::{Connections, Frame, allow_connections},
    plot::{Bar, bars},
    report::Report,
    stack::start_stack,
    statistics::{median, percentile},
};

/// The function that pushes.
const PUSH_EVENTS: &str = "push-events";
/// All functions that the stack needs.
const FUNCTIONS: [&str; 6] = [
    "authorize-connection",
    "close-connection",
    "open-connection",
    PUSH_EVENTS,
    "receive-frame",
    "send-message",
];
/// A text that fits into the preview of a chat.
const TEXT: &str = "How are you today? I have been thinking of you.";
/// Messages of each pair when many pairs send at once.
const MESSAGES_OF_MANY: u64 = 5;
/// Records in a batch: the batch size in the template.
const RECORDS: u32 = 100;
/// Batches before those that are measured.
const WARM_UP_BATCHES: u32 = 3;
/// Connections of a user with many devices: as many as a user may have.
const MANY_DEVICES: u32 = 10;
/// How long a response or a frame may take before the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The times of one message.
struct Delivery {
    /// From the start of the request to its response.
    response: Duration,
    /// From the response to the frame. Zero if the frame arrived first.
    after_response: Duration,
    /// From the start of the request to the frame.
    total: Duration,
}

/// A kind of batch.
struct Scenario {
    name: String,
    /// Chats whose changes are in the batch.
    chats: u64,
    /// Connections of each member.
    devices: u32,
    /// The message in each record.
    content: MessageContent,
}

/// Measures push if all its functions are selected, and writes the report.
pub fn run(
    runtime: &Runtime,
    functions: &[String],
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    let is_selected = |name: &&str| functions.iter().any(|function| function == name);
    if let Some(missing) = FUNCTIONS.iter().find(|name| !is_selected(name)) {
        eprintln!("Skipping push: it needs {missing}, which is not selected.");
        return Ok(());
    }
    runtime.block_on(measure(effort, report))
}

async fn measure(effort: &Effort, report: &Report) -> Result<()> {
    eprintln!("Building the functions as they are deployed …");
    let latencies = [
        ("one pair".to_owned(), 1, effort.push_messages),
        (
            format!("{} pairs at once", effort.push_pairs),
            effort.push_pairs,
            MESSAGES_OF_MANY,
        ),
    ];
    let (mut latency_rows, mut latency_bars) = (Vec::new(), Vec::new());
    for (name, pairs, messages) in latencies {
        eprintln!("Measuring the latency of push for {name} …");
        let deliveries = measure_latency(pairs, messages).await?;
        latency_rows.extend(rows_of_latency(&name, &deliveries));
        let median_of = |time: &dyn Fn(&Delivery) -> Duration| {
            let times = deliveries.iter().map(time);
            millis(median(times))
        };
        latency_bars.push(Bar {
            name,
            parts: vec![
                median_of(&|delivery| delivery.response),
                median_of(&|delivery| delivery.after_response),
            ],
        });
    }
    let mut batch_rows = Vec::new();
    for scenario in scenarios(effort.push_chats)? {
        let name = &scenario.name;
        eprintln!("Measuring batches of events: {name} …");
        batch_rows.push(measure_batches(&scenario, effort.push_batches).await?);
    }
    report.plot("push", |path| {
        let x = "milliseconds from the start of the request to the frame";
        let parts = ["until the response", "until the frame"];
        bars(path, x, &parts, &latency_bars)
    })?;
    let text = text_of(&latency_rows, &batch_rows, effort);
    report.section("push", "Push", &text)
}

/// The kinds of batches: nothing to send, one connection each, the same with a read for each message, and many
/// connections.
fn scenarios(chats: u64) -> Result<[Scenario; 4]> {
    let scenario = |name: &str, chats, devices, content: &MessageContent| Scenario {
        name: name.to_owned(),
        chats,
        devices,
        content: content.clone(),
    };
    let (short, long) = (content()?, short_message()?);
    let many = format!("{MANY_DEVICES} connections each");
    Ok([
        scenario("nobody connected", chats, 0, &short),
        scenario("one connection each", chats, 1, &short),
        scenario("one connection each, message read", chats, 1, &long),
        // Half the chats, because this opens many files.
        scenario(&many, (chats / 2).max(1), MANY_DEVICES, &short),
    ])
}

fn content() -> Result<MessageContent> {
    Ok(MessageContent::new(Some(TEXT.to_owned()), None, None)?)
}

/// Lets pairs of connected users chat at the same time. In each pair, one user sends messages one after
/// another, each when the other user has received the previous one.
async fn measure_latency(pairs: u64, messages: u64) -> Result<Vec<Delivery>> {
    // Each pair has two WebSocket connections and one connection for requests.
    allow_connections(3 * pairs)?;
    let stack = start_stack(&FUNCTIONS, RealtimeOptions::default()).await?;
    let (mut clients, mut conversations) = (Vec::new(), Vec::new());
    for chat in create_chats(&table_of(&stack), pairs).await? {
        // The sender receives the events, too, but nobody looks at them.
        let (ignored, _) = unbounded_channel();
        let (frames, received) = unbounded_channel();
        clients.extend([(chat.low(), ignored), (chat.high(), frames)]);
        conversations.push((Sender::connect(&stack, chat)?, received));
    }
    let mut connections = Connections::default();
    connections.open(&stack.live_url(), clients).await?;
    let mut tasks = JoinSet::new();
    for (sender, received) in conversations {
        tasks.spawn(converse(sender, received, messages));
    }
    let mut deliveries = Vec::new();
    while let Some(finished) = tasks.join_next().await {
        deliveries.extend(finished??);
    }
    // The connections stay open until the stack has stopped, or it would invoke `close-connection` for each.
    stack.stop().await;
    drop(connections);
    Ok(deliveries)
}

async fn converse(
    mut sender: Sender,
    mut received: UnboundedReceiver<Frame>,
    messages: u64,
) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    for number in 0..=messages {
        let sending = spawn_blocking(move || {
            let sent = sender.send();
            (sender, sent)
        });
        let (returned, sent) = sending.await?;
        sender = returned;
        let sent = sent?;
        let received_at = wait_for_message(&mut received, sent.seq).await?;
        // The processes of the functions start with the first message.
        if number > 0 {
            deliveries.push(Delivery {
                response: sent.responded_at - sent.started_at,
                after_response: received_at.saturating_duration_since(sent.responded_at),
                total: received_at.saturating_duration_since(sent.started_at),
            });
        }
    }
    Ok(deliveries)
}

/// When the event of a new message arrived.
async fn wait_for_message(received: &mut UnboundedReceiver<Frame>, seq: u64) -> Result<Instant> {
    let is_wanted = |event: &Value| {
        event["type"] == "message.created" && event["message"]["seq"].as_u64() == Some(seq)
    };
    loop {
        let frame = next_frame(received).await?;
        if frame.events()?.iter().any(is_wanted) {
            return Ok(frame.received_at);
        }
    }
}

async fn next_frame(received: &mut UnboundedReceiver<Frame>) -> Result<Frame> {
    let frame = timeout(TIMEOUT, received.recv()).await;
    let frame = frame.map_err(|_| format!("no event arrived within {TIMEOUT:?}"))?;
    Ok(frame.ok_or("a connection was closed before an event arrived")?)
}

/// A user who sends messages to a chat, over one connection to the API.
struct Sender {
    stream: BufReader<TcpStream>,
    host: String,
    authorization: String,
    path: String,
}

/// A message that was accepted.
struct SentMessage {
    seq: u64,
    started_at: Instant,
    responded_at: Instant,
}

impl Sender {
    /// Connects as the member with the lower id.
    fn connect(stack: &Stack, chat: ChatId) -> Result<Self> {
        let host = stack.url().strip_prefix("http://");
        let host = host.ok_or("the URL of the stack must start with http://")?;
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: host.to_owned(),
            authorization: format!("Bearer {}", access_token(chat.low())?),
            path: format!("/chats/{chat}/messages"),
        })
    }

    /// Sends a message as clients should: with an idempotency key.
    fn send(&mut self) -> Result<SentMessage> {
        let key = format!("{:032x}", fastrand::u128(..));
        let headers = [
            ("host", self.host.as_str()),
            ("authorization", &self.authorization),
            ("content-type", "application/json"),
            ("idempotency-key", &key),
        ];
        let request = Message::post(&self.path, &headers, json!({"text": TEXT}).to_string());
        let started_at = Instant::now();
        request.write(self.stream.get_mut())?;
        let response = Message::read(&mut self.stream)?;
        let responded_at = Instant::now();
        let response = response.ok_or("the API has closed a connection")?;
        let message: Value = serde_json::from_slice(&response.body)?;
        let seq = message["seq"].as_u64();
        match (response.status(), seq) {
            (Some(201), Some(seq)) => Ok(SentMessage {
                seq,
                started_at,
                responded_at,
            }),
            (status, _) => Err(format!(
                "a message was not accepted (status {}): {message}",
                status.unwrap_or_default()
            )
            .into()),
        }
    }
}

/// The rows of the table of latencies for some deliveries.
fn rows_of_latency(name: &str, deliveries: &[Delivery]) -> [Vec<String>; 2] {
    let row = |from: &str, time: &dyn Fn(&Delivery) -> Duration| {
        let times = |fraction| {
            let times = deliveries.iter().map(time);
            let time = percentile(times, fraction).unwrap_or_default();
            significant(millis(time))
        };
        let labels = [format!("{name}, {from}"), deliveries.len().to_string()];
        labels
            .into_iter()
            .chain([0.5, 0.9, 0.99, 1.0].map(times))
            .collect()
    };
    [
        row("from the response", &|delivery| delivery.after_response),
        row("from the start of the request", &|delivery| delivery.total),
    ]
}

/// Keeps the stack from invoking `push-events` by itself.
struct NoDelivery;

impl RealtimeFaults for NoDelivery {
    fn batch(&self, _: Vec<Value>, _: u32) -> Vec<Value> {
        Vec::new()
    }
}

/// Invokes `push-events` with the same batch again and again. Returns a row of the table of batches.
async fn measure_batches(scenario: &Scenario, batches: u32) -> Result<Vec<String>> {
    let connection_count = 2 * scenario.chats * u64::from(scenario.devices);
    allow_connections(connection_count)?;
    let realtime = RealtimeOptions {
        faults: Some(Arc::new(NoDelivery)),
        ..RealtimeOptions::default()
    };
    let stack = start_stack(&FUNCTIONS, realtime).await?;
    let table = table_of(&stack);
    let chats = create_chats(&table, scenario.chats).await?;
    let mut records = Vec::new();
    for (number, chat) in (1..=RECORDS).zip(chats.iter().cycle()) {
        let (store, content) = (store_of(&table), scenario.content.clone());
        records.push(send_and_record(&store, *chat, content, number.into()).await?);
    }
    let event = json!({"Records": records});

    let (frames, mut received) = unbounded_channel();
    let members = chats.iter().flat_map(|chat| [chat.low(), chat.high()]);
    let devices = usize::try_from(scenario.devices)?;
    let clients = members.flat_map(|user| repeat_n((user, frames.clone()), devices));
    let mut connections = Connections::default();
    connections.open(&stack.live_url(), clients).await?;

    for _ in 0..WARM_UP_BATCHES {
        push_batch(&stack, &event, &mut received, scenario).await?;
    }
    let cpu_before = instance_cpu_time(&stack)?;
    let (mut times, mut frame_count) = (Vec::new(), 0);
    for _ in 0..batches {
        let (time, frames) = push_batch(&stack, &event, &mut received, scenario).await?;
        times.push(time);
        frame_count += frames;
    }
    let cpu_time = instance_cpu_time(&stack)?.saturating_sub(cpu_before);
    let pids = stack.instance_pids(PUSH_EVENTS).into_iter();
    let memory = pids.map(peak_memory).collect::<Result<Vec<_>>>()?;
    let memory = memory.into_iter().max().unwrap_or_default();
    // As in `measure_latency`.
    stack.stop().await;
    drop(connections);

    let seconds = times.iter().sum::<Duration>().as_secs_f64();
    let rates = [batches * RECORDS, frame_count].map(|count| f64::from(count) / seconds);
    let batch_times = [
        median(times.iter().copied()),
        percentile(times, 1.0).unwrap_or_default(),
        cpu_time / batches.max(1),
    ];
    let labels = [
        scenario.name.clone(),
        scenario.chats.to_string(),
        connection_count.to_string(),
    ];
    let numbers = rates
        .into_iter()
        .chain(batch_times.map(millis))
        .chain([megabytes(memory)]);
    Ok(labels.into_iter().chain(numbers.map(significant)).collect())
}

/// Invokes `push-events`, and waits until all events have arrived. Returns the duration of the invocation,
/// and the number of frames.
async fn push_batch(
    stack: &Stack,
    event: &Value,
    received: &mut UnboundedReceiver<Frame>,
    scenario: &Scenario,
) -> Result<(Duration, u32)> {
    let event = event.clone();
    let started_at = Instant::now();
    let response = stack.invoke(PUSH_EVENTS, event).await?;
    let duration = started_at.elapsed();
    if response != json!({"batchItemFailures": []}) {
        return Err(format!("a batch failed: {response}").into());
    }
    let expected = usize::try_from(2 * RECORDS * scenario.devices)?;
    let (mut events, mut frames) = (0, 0);
    while events < expected {
        events += next_frame(received).await?.events()?.len();
        frames += 1;
    }
    Ok((duration, frames))
}

fn instance_cpu_time(stack: &Stack) -> Result<Duration> {
    let pids = stack.instance_pids(PUSH_EVENTS).into_iter();
    pids.map(cpu_time).sum()
}

fn table_of(stack: &Stack) -> TableClient {
    let client = client_for_endpoint(stack.dynamodb_endpoint());
    TableClient::new(client, stack.table())
}

fn store_of(table: &TableClient) -> Store {
    table.store_at(Timestamp::now())
}

/// Creates active chats, each between two other users.
async fn create_chats(table: &TableClient, count: u64) -> Result<Vec<ChatId>> {
    let mut chats = Vec::new();
    for pair in 1..=count {
        let chat = chat_id(2 * pair, 2 * pair + 1)?;
        start_chat(&store_of(table), chat.low(), chat).await?;
        chats.push(chat);
    }
    Ok(chats)
}

fn text_of(latency_rows: &[Vec<String>], batch_rows: &[Vec<String>], effort: &Effort) -> String {
    let latency_header = ["ms", "messages", "median", "p90", "p99", "max"];
    let batch_header = [
        "members of the chats",
        "chats",
        "connections",
        "events per second",
        "frames per second",
        "ms per batch",
        "max",
        "CPU ms per batch",
        "peak memory, MB",
    ];
    format!(
        "The whole backend runs on this machine: the gateway, the table (in memory) with its stream and the \
         clients in one process, and the functions in processes of their own.\n\n\
         ### Latency\n\n\
         The time until a message is at a WebSocket of the other member. Both members have one connection. \
         In each pair, one user sends a message with an idempotency key when the other has received the \
         previous one. The first message of each pair is not counted, because processes start then. A time \
         from the response is 0 if the frame arrived before the response. On AWS, the table's stream adds \
         most of the latency, and here it is emulated.\n\n{}\n\
         ![Medians of the time until a message is at the other member](push.svg)\n\n\
         ### Batches\n\n\
         One instance of `push-events` is invoked {} times with the changes of {RECORDS} new messages, which \
         are divided equally between the chats. All members are connected equally. An event is one such \
         change, which goes to all connections of both members; a connection gets all its events of a batch \
         in one frame. \"Message read\" means that the record does not contain the whole message, so that the \
         function reads it. A batch takes from the invocation to the response. The CPU time is that of the \
         function alone. A 256 MB function on Lambda has a seventh of a CPU.\n\n{}",
        markdown_table(&latency_header, latency_rows),
        effort.push_batches,
        markdown_table(&batch_header, batch_rows)
    )
}
