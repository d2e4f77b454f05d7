//! A client that follows the rules for clients in `docs/realtime.md`. What it shows must equal what the REST API says,
//! whatever fails on the way.
//!
//! A device is a task that owns the socket. It reads no frame while it fetches, so events that arrive meanwhile are
//! applied afterwards. Its times are those of the rules in a smaller unit ([`Timing`]); only the limit on the response
//! to `sync` is the real one, because the real functions must meet it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use super::lock;
use crate::{
    contract_model::{Pair, PairRequest},
    eventually,
    support::{Response, User, live::LiveClient, tokens},
    within_limit,
};

/// Attempts at a request to the REST API. When all fail, the injected faults are not the reason.
const MAX_ATTEMPTS: u32 = 40;
/// How long the response to `sync` may take.
const SYNC_LIMIT: Duration = Duration::from_secs(5);
/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client may send one frame a second on average. It waits this long before it sends one again.
const FRAME_INTERVAL: Duration = Duration::from_millis(1_100);
/// The minimum remaining lifetime of a token, in seconds, with which a client connects.
const MIN_TOKEN_LIFETIME: u64 = 60;
/// After this many failed handshakes, a client polls.
const FAILURES_BEFORE_POLLING: u32 = 3;
/// The lists that contain all chats that a client shows.
const LISTS: [&str; 5] = [
    "/chats?",
    "/chats/pending?",
    "/chats/pending?direction=received&",
    "/chats/rejected?",
    "/chats/rejected?direction=received&",
];

/// The times of a client.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How long a second of the rules takes.
    pub second: Duration,
    /// After how many seconds of the rules without a frame `sync` is sent.
    pub sync_after: std::ops::Range<u32>,
    /// After how many seconds of the rules a socket is replaced.
    pub replace_after: std::ops::Range<u32>,
}

impl Timing {
    /// Fifty times as fast as the rules say.
    pub const FAST: Self = Self {
        second: Duration::from_millis(20),
        sync_after: Self::SYNC_AFTER,
        replace_after: Self::REPLACE_AFTER,
    };
    /// As the rules say.
    pub const REAL: Self = Self {
        second: Duration::from_secs(1),
        sync_after: Self::SYNC_AFTER,
        replace_after: Self::REPLACE_AFTER,
    };
    /// Fast, and without `sync`, for tests in which the events alone must be enough.
    pub const WITHOUT_SYNC: Self = Self {
        sync_after: 1_000_000..1_000_001,
        ..Self::FAST
    };
    /// 5 minutes, plus or minus 20 %.
    const SYNC_AFTER: std::ops::Range<u32> = 240..360;
    /// 90 to 115 minutes.
    const REPLACE_AFTER: std::ops::Range<u32> = 90 * 60..115 * 60;

    fn gap(&self) -> Duration {
        self.second / 2
    }

    fn silence(&self) -> Duration {
        self.second * fastrand::u32(self.sync_after.clone())
    }

    fn age(&self) -> Duration {
        self.second * fastrand::u32(self.replace_after.clone())
    }

    /// The time before the attempt to connect after this many failed ones.
    fn jitter(&self, failures: u32) -> Duration {
        let limit = 2_u32.saturating_pow(failures.min(16)).min(60);
        (self.second * limit).mul_f64(fastrand::f64())
    }
}

/// Refuses connections beyond a rate, as API Gateway does for an account.
pub struct ConnectionLimiter {
    per_second: usize,
    data: Mutex<LimiterData>,
}

#[derive(Default)]
struct LimiterData {
    admitted: Vec<Instant>,
    refused: usize,
}

impl ConnectionLimiter {
    pub fn new(per_second: usize) -> Arc<Self> {
        Arc::new(Self {
            per_second,
            data: Mutex::default(),
        })
    }

    fn admits(&self) -> bool {
        let now = Instant::now();
        let mut data = lock(&self.data);
        let is_recent = |at: &&Instant| now.duration_since(**at) < Duration::from_secs(1);
        let recent = data.admitted.iter().rev().take_while(is_recent).count();
        if recent >= self.per_second {
            data.refused += 1;
            return false;
        }
        data.admitted.push(now);
        true
    }

    pub fn refused(&self) -> usize {
        lock(&self.data).refused
    }

    pub fn admitted(&self) -> usize {
        lock(&self.data).admitted.len()
    }
}

/// What a device shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The chats by id, without those whose other member is blocked and those that were withdrawn.
    pub chats: BTreeMap<String, Value>,
    /// The messages of each active chat, oldest first.
    pub messages: BTreeMap<String, Vec<Value>>,
    pub totals: Value,
}

impl View {
    /// Lines for the differences between two views, for the message of a test that fails.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: String, shown: Value, expected: Value| {
            if shown != expected {
                lines.push(format!("{what}: shown {shown}, expected {expected}"));
            }
        };
        compare(
            "totals".to_owned(),
            self.totals.clone(),
            expected.totals.clone(),
        );
        let ids: BTreeSet<_> = self.chats.keys().chain(expected.chats.keys()).collect();
        for id in ids {
            let [shown, correct] = [self, expected].map(|view| json!(view.chats.get(id)));
            compare(format!("chat {id}"), shown, correct);
            let [shown, correct] = [self, expected].map(|view| json!(view.messages.get(id)));
            compare(format!("messages of {id}"), shown, correct);
        }
        lines
    }

    /// What the REST API says.
    pub async fn of_rest(user: &User) -> Self {
        let mut chats = BTreeMap::new();
        for list in LISTS {
            for chat in all_pages(user, list, "chats").await {
                chats.insert(id_of(&chat), chat);
            }
        }
        let mut messages = BTreeMap::new();
        for (id, chat) in &chats {
            if chat["status"] == "active" {
                let path = format!("/chats/{id}/messages?after=0&");
                let all = all_pages(user, &path, "messages").await;
                messages.insert(id.clone(), all);
            }
        }
        Self {
            chats,
            messages,
            totals: get(user, "/totals").await.expect_status(200).body,
        }
    }
}

fn id_of(chat: &Value) -> String {
    chat["chatId"].as_str().unwrap().to_owned()
}

/// The number of the newest message of a chat, or 0.
fn seq_of(chat: &Value) -> u64 {
    chat["lastMessage"]["seq"].as_u64().unwrap_or(0)
}

/// How many attempts at a request have failed.
#[derive(Default)]
struct FailedAttempts(u32);

impl FailedAttempts {
    /// Waits before the next attempt.
    async fn wait_after(&mut self, response: &Response) {
        response.expect_retryable();
        self.0 += 1;
        assert!(self.0 < MAX_ATTEMPTS, "all attempts failed: {response:?}");
        let delay = Duration::from_millis(fastrand::u64(0..50));
        tokio::time::sleep(delay).await;
    }
}

/// Reads something, again while the response is a server error.
async fn get(user: &User, path: &str) -> Response {
    let mut failed = FailedAttempts::default();
    loop {
        let response = user.get(path).await;
        if response.status < 500 {
            return response;
        }
        failed.wait_after(&response).await;
    }
}

/// All entries of a list. `path` ends with `?` or `&`.
async fn all_pages(user: &User, path: &str, member: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut start = format!("{path}limit=100");
    loop {
        let page = get(user, &start).await.expect_status(200);
        entries.extend(page.body[member].as_array().unwrap().iter().cloned());
        let Some(cursor) = page.next_cursor() else {
            return entries;
        };
        // A cursor replaces the start of the page, but not the list.
        let list = path.split("after=").next().unwrap();
        start = format!("{list}limit=100&cursor={cursor}");
    }
}

/// One device of a user.
pub struct Device {
    pub user: User,
    commands: mpsc::UnboundedSender<Command>,
    state: Arc<Mutex<State>>,
    /// How often the device has connected and fetched.
    connected: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

enum Command {
    /// Sends `sync`. Responds when what may have been missed is fetched.
    Sync(oneshot::Sender<()>),
    /// Renews the token. Responds with the `renewed` or the `error` frame.
    Renew(oneshot::Sender<Value>),
    /// A message is being sent.
    PostStarted { chat: String, key: String },
    /// The response to it has arrived.
    PostEnded {
        chat: String,
        key: String,
        message: Option<Value>,
    },
}

impl Device {
    /// A device that connects.
    pub fn start(user: &User, timing: Timing, limiter: Option<Arc<ConnectionLimiter>>) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (is_connected, connected) = watch::channel(0);
        let state: Arc<Mutex<State>> = Arc::default();
        let runner = Runner {
            user: user.clone(),
            timing,
            limiter,
            commands: receiver,
            state: state.clone(),
            connected: is_connected,
            gaps: BTreeMap::new(),
            sync_waiters: Vec::new(),
            renew_waiters: Vec::new(),
        };
        Self {
            user: user.clone(),
            commands,
            state,
            connected,
            task: tokio::spawn(runner.run()),
        }
    }

    /// A device that has connected and fetched. It sends `sync` only when the test says so.
    pub async fn connect(user: &User) -> Self {
        let device = Self::start(user, Timing::WITHOUT_SYNC, None);
        device.wait_until_connected(1).await;
        device
    }

    /// Waits until the device has connected and fetched this many times.
    pub async fn wait_until_connected(&self, times: u64) {
        let mut connected = self.connected.clone();
        let reached = connected.wait_for(|count| *count >= times);
        within_limit("the device is connected", reached)
            .await
            .expect("the task of the device runs");
    }

    /// How often the device has connected and fetched.
    pub fn times_connected(&self) -> u64 {
        *self.connected.borrow()
    }

    /// How often a socket was closed by the server, was cut or did not work.
    pub fn times_broken(&self) -> u64 {
        lock(&self.state).broken
    }

    /// Sends `sync`, and waits until what may have been missed is fetched.
    pub async fn sync(&self) {
        let (done, synced) = oneshot::channel();
        self.command(Command::Sync(done));
        within_limit("the device is in sync", synced)
            .await
            .expect("the task of the device runs");
    }

    /// Renews the token. Returns the frame that is the response.
    pub async fn renew(&self) -> Value {
        let (done, renewed) = oneshot::channel();
        self.command(Command::Renew(done));
        let renewed = within_limit("the token is renewed", renewed).await;
        renewed.expect("the task of the device runs")
    }

    fn command(&self, command: Command) {
        let sent = self.commands.send(command);
        assert!(sent.is_ok(), "the task of the device has ended");
    }

    /// Sends a request, again while its response is a server error. A message gets an idempotency key for that.
    pub async fn perform(&self, other: u64, request: &PairRequest) -> Response {
        let mut request = request.clone();
        let chat = Pair::new(self.user.id, other).chat_id();
        let PairRequest::Send { key, .. } = &mut request else {
            return self.request(other, &request).await;
        };
        let key = key
            .get_or_insert_with(|| format!("device-{}", fastrand::u64(..)))
            .clone();
        self.command(Command::PostStarted {
            chat: chat.clone(),
            key: key.clone(),
        });
        let response = self.request(other, &request).await;
        let message = (response.status < 300).then(|| response.body.clone());
        self.command(Command::PostEnded { chat, key, message });
        response
    }

    async fn request(&self, other: u64, request: &PairRequest) -> Response {
        let mut failed = FailedAttempts::default();
        loop {
            let response = self.user.perform(other, request).await;
            if response.status < 500 {
                return response;
            }
            failed.wait_after(&response).await;
        }
    }

    /// What the device shows.
    pub fn view(&self) -> View {
        lock(&self.state).view(self.user.id)
    }

    /// The messages that are being sent: chat and idempotency key.
    pub fn messages_in_flight(&self) -> BTreeSet<(String, String)> {
        lock(&self.state).in_flight.clone()
    }

    /// The texts of a chat's messages that the device shows.
    pub fn texts(&self, chat: &str) -> Vec<Value> {
        let view = self.view();
        let messages = view.messages.get(chat).into_iter().flatten();
        messages.map(|message| message["text"].clone()).collect()
    }

    /// Waits until the device shows these texts, and nothing else, in a chat.
    pub async fn wait_for_texts(&self, chat: &str, expected: &[&str]) {
        let what = format!("the device shows {expected:?}");
        eventually(&what, async || self.texts(chat) == expected).await;
    }

    /// Waits until the device shows what the REST API says.
    pub async fn wait_until_consistent(&self) {
        let expected = View::of_rest(&self.user).await;
        let is_right = async {
            while self.view() != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(crate::WAIT_LIMIT, is_right)
            .await
            .is_err()
        {
            let differences = self.view().differences(&expected);
            panic!(
                "a device of user {} shows something wrong: {differences:#?}",
                self.user.id
            );
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a device knows.
#[derive(Default)]
struct State {
    chats: BTreeMap<String, Value>,
    /// The messages of each chat whose messages are loaded, by number.
    messages: BTreeMap<String, BTreeMap<u64, Value>>,
    /// The number of the last change of each of these chats that the messages contain.
    revs: BTreeMap<String, u64>,
    totals: Value,
    in_flight: BTreeSet<(String, String)>,
    /// Own events of chats to which a message is being sent.
    held: BTreeMap<String, Vec<Value>>,
    /// How often a socket was closed by the server, was cut or did not work.
    broken: u64,
}

impl State {
    fn view(&self, user: u64) -> View {
        let chats = self
            .chats
            .iter()
            .filter(|(_, chat)| chat["blocked"] == false && chat["status"] != "withdrawn");
        let chats: BTreeMap<_, _> = chats.map(|(id, chat)| (id.clone(), chat.clone())).collect();
        let active = chats.iter().filter(|(_, chat)| chat["status"] == "active");
        let messages = active.map(|(id, chat)| {
            let messages = self.messages.get(id).into_iter().flatten();
            let messages = messages.map(|(seq, message)| {
                let mut message = message.clone();
                // The watermarks decide, which are newer than the message.
                let is_own = message["senderId"] == user;
                let watermark = &chat[if is_own { "peerReadSeq" } else { "readSeq" }];
                let is_read = watermark.as_u64().is_some_and(|read| read >= *seq);
                message["status"] = if is_read { "read" } else { "sent" }.into();
                message
            });
            (id.clone(), messages.collect())
        });
        View {
            messages: messages.collect(),
            totals: self.totals.clone(),
            chats,
        }
    }

    /// The number of the last message of a chat that is shown without a gap before it.
    fn last_seq(&self, chat: &str) -> u64 {
        let messages = self.messages.get(chat);
        let last = messages.and_then(BTreeMap::last_key_value);
        last.map_or(0, |(seq, _)| *seq)
    }

    fn has_in_flight(&self, chat: &str) -> bool {
        self.in_flight
            .iter()
            .any(|(in_flight, _)| in_flight == chat)
    }

    /// Rule 3: takes totals unless their version is lower.
    fn merge_totals(&mut self, totals: &Value) {
        let version = |totals: &Value| totals["version"].as_u64();
        if version(totals) >= version(&self.totals) {
            self.totals = totals.clone();
        }
    }

    /// Rule 3: takes a chat that is not older than the one that is shown.
    fn merge_chat(&mut self, chat: &Value) {
        let id = id_of(chat);
        if let Some(shown) = self.chats.get(&id) {
            let updated_at = |chat: &Value| chat["updatedAt"].as_str().unwrap().to_owned();
            let numbers = |chat: &Value| {
                let number = |name: &str| chat[name].as_u64().unwrap();
                [
                    seq_of(chat),
                    number("rev"),
                    number("readSeq"),
                    number("peerReadSeq"),
                ]
            };
            let mut numbers = numbers(chat).into_iter().zip(numbers(shown));
            if updated_at(chat) < updated_at(shown) || numbers.any(|(new, shown)| new < shown) {
                return;
            }
        }
        self.chats.insert(id, chat.clone());
    }

    /// Rule 2: shows the next message. A message that is known already or that has a gap before it is not taken.
    fn merge_message(&mut self, chat: &str, message: &Value) {
        let (seq, last) = (message["seq"].as_u64().unwrap(), self.last_seq(chat));
        if let Some(messages) = self.messages.get_mut(chat)
            && seq == last + 1
        {
            messages.insert(seq, message.clone());
        }
    }

    /// Rule 2: takes the next change.
    fn merge_change(&mut self, chat: &str, rev: u64, message: &Value) {
        let Some(known) = self.revs.get_mut(chat) else {
            return;
        };
        if rev == *known + 1 {
            *known = rev;
            self.replace_message(chat, message);
        }
    }

    fn replace_message(&mut self, chat: &str, message: &Value) {
        let shown = self.messages.get_mut(chat);
        let shown = shown.and_then(|messages| messages.get_mut(&message["seq"].as_u64()?));
        if let Some(shown) = shown {
            *shown = message.clone();
        }
    }

    /// Applies an event that is not held.
    fn apply(&mut self, event: &Value) {
        let chat = event["chatId"].as_str().unwrap();
        self.merge_totals(&event["totals"]);
        self.merge_chat(&event["chat"]);
        match event["type"].as_str().unwrap() {
            "message.created" => {
                if let Some(key) = event["idempotencyKey"].as_str() {
                    self.in_flight.remove(&(chat.to_owned(), key.to_owned()));
                }
                self.merge_message(chat, &event["message"]);
            }
            "message.changed" => {
                let rev = event["chat"]["rev"].as_u64().unwrap();
                self.merge_change(chat, rev, &event["message"]);
            }
            _ => {}
        }
    }

    /// Rule 4: holds an own event while a message is being sent to its chat. Returns whether it is held.
    fn hold_or_apply(&mut self, event: &Value, is_own: bool) -> bool {
        let chat = event["chatId"].as_str().unwrap();
        let is_held = is_own && self.has_in_flight(chat);
        if is_held {
            let held = self.held.entry(chat.to_owned()).or_default();
            held.push(event.clone());
        } else {
            self.apply(event);
        }
        is_held
    }

    /// Rule 4: shows the message that a response contains, and then applies the events that were held. Returns whether
    /// the message is shown; otherwise there is a gap before it.
    fn end_post(&mut self, chat: &str, key: String, message: Option<&Value>) -> bool {
        self.in_flight.remove(&(chat.to_owned(), key));
        if let Some(message) = message {
            self.merge_message(chat, message);
        }
        if !self.has_in_flight(chat) {
            for event in self.held.remove(chat).unwrap_or_default() {
                self.apply(&event);
            }
        }
        let seq = message.and_then(|message| message["seq"].as_u64());
        seq <= Some(self.last_seq(chat))
    }

    /// Whether messages or changes of a chat that is shown are missing.
    fn has_gap(&self, id: &str) -> bool {
        let Some(chat) = self.chats.get(id) else {
            return false;
        };
        if chat["status"] != "active" || chat["blocked"] == true {
            return false;
        }
        let is_behind = |rev: &u64| chat["rev"].as_u64() > Some(*rev);
        seq_of(chat) > self.last_seq(id) || self.revs.get(id).is_none_or(is_behind)
    }
}

/// Why a device no longer reads from a socket.
enum Ended {
    /// Nobody needs the device any more.
    Stopped,
    /// The socket is closed, or does not work.
    Broken,
    /// The socket is old.
    Old,
}

/// The task of a device.
struct Runner {
    user: User,
    timing: Timing,
    limiter: Option<Arc<ConnectionLimiter>>,
    commands: mpsc::UnboundedReceiver<Command>,
    state: Arc<Mutex<State>>,
    connected: watch::Sender<u64>,
    /// When to close the gap of each chat that has one.
    gaps: BTreeMap<String, Instant>,
    sync_waiters: Vec<oneshot::Sender<()>>,
    renew_waiters: Vec<oneshot::Sender<Value>>,
}

/// The times of one socket.
struct Deadlines {
    /// When to send `sync`.
    sync: Instant,
    /// When the response to `sync` is late, if it was sent.
    synced: Option<Instant>,
    /// When to renew the token.
    renew: Instant,
    replace: Instant,
}

impl Deadlines {
    /// The first one. At least once in a second, so that the wait for a frame has no limit.
    fn first(&self, gaps: &BTreeMap<String, Instant>) -> Instant {
        let times = gaps.values().copied().chain(self.synced);
        let times = times.chain([self.sync, self.renew, self.replace]);
        let at_least = Instant::now() + Duration::from_secs(1);
        times.fold(at_least, Instant::min)
    }
}

impl Runner {
    async fn run(mut self) {
        // The first connection needs no jitter.
        let mut socket = match self.try_connect().await {
            Some(socket) => socket,
            None => self.connect().await,
        };
        loop {
            // Rule 1: open first, then fetch.
            self.fetch().await;
            self.connected.send_modify(|count| *count += 1);
            let ended = self.listen(&mut socket).await;
            socket = match ended {
                Ended::Stopped => return,
                Ended::Broken => {
                    self.state().broken += 1;
                    drop(socket);
                    self.connect().await
                }
                // The old socket stays open until the new one is.
                Ended::Old => self.connect().await,
            };
        }
    }

    /// Rule 6: connects with full jitter from the first attempt.
    async fn connect(&mut self) -> LiveClient {
        let mut failures = 0;
        loop {
            tokio::time::sleep(self.timing.jitter(failures)).await;
            if let Some(socket) = self.try_connect().await {
                return socket;
            }
            failures += 1;
            if failures >= FAILURES_BEFORE_POLLING {
                self.fetch().await;
            }
        }
    }

    async fn try_connect(&mut self) -> Option<LiveClient> {
        self.renew_expiring_token();
        if self
            .limiter
            .as_ref()
            .is_some_and(|limiter| !limiter.admits())
        {
            return None;
        }
        let url = self.user.api.live_url();
        let protocols = ["chat.v1", &self.user.token];
        let handshake = LiveClient::try_connect(&url, &protocols, &[]);
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await;
        handshake.ok().and_then(Result::ok)
    }

    /// Rule 6: a token that expires soon is renewed before the client connects.
    fn renew_expiring_token(&mut self) {
        let soon = tokens::now_seconds() + MIN_TOKEN_LIFETIME;
        if expiry(&self.user.token) < soon {
            self.user.token = tokens::valid_token(self.user.id);
        }
    }

    /// When the token of the connection has to be renewed, with as much time left as for a new connection.
    fn renewal_time(&self) -> Instant {
        let soon = tokens::now_seconds() + MIN_TOKEN_LIFETIME;
        let seconds = expiry(&self.user.token).saturating_sub(soon);
        Instant::now() + Duration::from_secs(seconds)
    }

    /// Sends a new token.
    async fn renew(&mut self, socket: &mut LiveClient, deadlines: &mut Deadlines) {
        self.user.token = tokens::valid_token(self.user.id);
        let frame = json!({"type": "renew", "token": self.user.token});
        socket.send(&frame).await;
        deadlines.renew = self.renewal_time();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Fetches what the client shows.
    async fn fetch(&mut self) {
        let totals = get(&self.user, "/totals").await.expect_status(200).body;
        self.state().merge_totals(&totals);
        let mut listed = BTreeSet::new();
        for list in LISTS {
            for chat in all_pages(&self.user, list, "chats").await {
                listed.insert(id_of(&chat));
                self.state().merge_chat(&chat);
            }
        }
        // A chat that is in no list was withdrawn, or its other member is blocked.
        let known: Vec<_> = self.state().chats.keys().cloned().collect();
        for id in known {
            if !listed.contains(&id) {
                let chat = get(&self.user, &format!("/chats/{id}")).await;
                self.state().merge_chat(&chat.expect_status(200).body);
            }
        }
        let known: Vec<_> = self.state().chats.keys().cloned().collect();
        for id in known {
            if self.state().has_gap(&id) {
                self.close_gap(&id).await;
            }
        }
        self.gaps.clear();
        let known: Vec<_> = self.state().chats.keys().cloned().collect();
        for id in known {
            self.note_gap(&id);
        }
    }

    /// Rule 2: fetches the messages after the last one, and the changes after the last one.
    async fn close_gap(&mut self, id: &str) {
        let rev = self.state().revs.get(id).copied();
        let Some(rev) = rev else {
            return self.load_messages(id).await;
        };
        let last = self.state().last_seq(id);
        let path = format!("/chats/{id}/messages?after={last}&");
        let messages = all_pages(&self.user, &path, "messages").await;
        for message in &messages {
            self.state().merge_message(id, message);
        }
        let shown = self.state().chats[id]["rev"].as_u64().unwrap();
        if shown > rev {
            self.fetch_changes(id, rev).await;
        }
    }

    async fn fetch_changes(&mut self, id: &str, rev: u64) {
        let mut start = format!("/chats/{id}/changes?limit=100&after={rev}");
        loop {
            let page = get(&self.user, &start).await;
            if page.status == 410 {
                page.expect_error(410, "changes_expired");
                return self.load_messages(id).await;
            }
            let page = page.expect_status(200);
            for message in page.body["messages"].as_array().unwrap() {
                self.state().replace_message(id, message);
            }
            let Some(cursor) = page.next_cursor() else {
                let rev = page.body["rev"].as_u64().unwrap();
                self.state().revs.insert(id.to_owned(), rev);
                return;
            };
            start = format!("/chats/{id}/changes?limit=100&cursor={cursor}");
        }
    }

    /// Loads all messages. They contain at least the changes up to the `rev` that is read before.
    async fn load_messages(&mut self, id: &str) {
        let chat = get(&self.user, &format!("/chats/{id}")).await;
        let chat = chat.expect_status(200).body;
        let path = format!("/chats/{id}/messages?after=0&");
        let messages = all_pages(&self.user, &path, "messages").await;
        let by_seq = messages
            .into_iter()
            .map(|message| (message["seq"].as_u64().unwrap(), message));
        let rev = chat["rev"].as_u64().unwrap();
        let mut state = self.state();
        state.messages.insert(id.to_owned(), by_seq.collect());
        state.revs.insert(id.to_owned(), rev);
        state.merge_chat(&chat);
    }

    /// Applies what arrives on a socket until it ends.
    async fn listen(&mut self, socket: &mut LiveClient) -> Ended {
        let now = Instant::now();
        let mut deadlines = Deadlines {
            sync: now + self.timing.silence(),
            synced: None,
            renew: self.renewal_time(),
            replace: now + self.timing.age(),
        };
        if !self.sync_waiters.is_empty() {
            deadlines.sync = now;
        }
        loop {
            let first = deadlines.first(&self.gaps);
            tokio::select! {
                // A message that is being sent must be known before its event.
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.perform(command, socket, &mut deadlines).await,
                    None => return Ended::Stopped,
                },
                frame = socket.next() => match frame {
                    Some(frame) => {
                        if self.receive(&frame, &mut deadlines).await.is_break() {
                            return Ended::Broken;
                        }
                    }
                    None => return Ended::Broken,
                },
                () = tokio::time::sleep_until(first) => {}
            }
            let now = Instant::now();
            if deadlines.synced.is_some_and(|late| late <= now) {
                return Ended::Broken;
            }
            if deadlines.replace <= now {
                return Ended::Old;
            }
            if deadlines.synced.is_none() && deadlines.sync <= now {
                // Rule 5: no answer means that the socket does not work.
                socket.send(&json!({"type": "sync"})).await;
                deadlines.synced = Some(now + SYNC_LIMIT);
            }
            if deadlines.renew <= now {
                self.renew(socket, &mut deadlines).await;
            }
            let gaps = std::mem::take(&mut self.gaps);
            for (id, due) in gaps {
                if due > now {
                    self.gaps.insert(id, due);
                } else if self.state().has_gap(&id) {
                    self.close_gap(&id).await;
                    self.note_gap(&id);
                }
            }
        }
    }

    async fn perform(
        &mut self,
        command: Command,
        socket: &mut LiveClient,
        deadlines: &mut Deadlines,
    ) {
        match command {
            Command::Sync(done) => {
                self.sync_waiters.push(done);
                deadlines.sync = Instant::now();
            }
            Command::Renew(done) => {
                self.renew_waiters.push(done);
                self.renew(socket, deadlines).await;
            }
            Command::PostStarted { chat, key } => {
                self.state().in_flight.insert((chat, key));
            }
            Command::PostEnded { chat, key, message } => {
                if self.state().end_post(&chat, key, message.as_ref()) {
                    self.note_gap(&chat);
                } else if self.state().chats.contains_key(&chat) {
                    self.close_gap(&chat).await;
                } else {
                    self.load_messages(&chat).await;
                }
            }
        }
    }

    fn note_gap(&mut self, chat: &str) {
        if self.state().has_gap(chat) {
            let due = Instant::now() + self.timing.gap();
            self.gaps.entry(chat.to_owned()).or_insert(due);
        }
    }

    async fn receive(
        &mut self,
        frame: &Value,
        deadlines: &mut Deadlines,
    ) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};

        // Rule 5: `sync` follows a time without frames.
        if self.sync_waiters.is_empty() && deadlines.synced.is_none() {
            deadlines.sync = Instant::now() + self.timing.silence();
        }
        if let Some(events) = frame["events"].as_array() {
            for event in events {
                self.receive_event(event);
            }
            return Continue(());
        }
        match frame["type"].as_str() {
            Some("synced") => {
                self.state().merge_totals(&frame["totals"]);
                deadlines.synced = None;
                deadlines.sync = Instant::now() + self.timing.silence();
                // Rule 5: records may have been dropped.
                self.fetch().await;
                for waiter in self.sync_waiters.drain(..) {
                    let _ = waiter.send(());
                }
            }
            Some("renewed") => {
                for waiter in self.renew_waiters.drain(..) {
                    let _ = waiter.send(frame.clone());
                }
            }
            Some("error")
                if frame["code"] == "rate_limited" && deadlines.synced.take().is_some() =>
            {
                deadlines.sync = Instant::now() + FRAME_INTERVAL;
            }
            Some("error") if frame["code"] == "rate_limited" => {}
            Some("error") => {
                for waiter in self.renew_waiters.drain(..) {
                    let _ = waiter.send(frame.clone());
                }
                return Break(());
            }
            // The server closes the socket.
            Some("bye") => {
                if frame["reason"] == "token_expired" {
                    self.user.token = tokens::valid_token(self.user.id);
                }
                return Break(());
            }
            // Unknown members and types are ignored. API Gateway sends a frame without a type when a function fails.
            _ => {}
        }
        Continue(())
    }

    fn receive_event(&mut self, event: &Value) {
        if event["type"] == "typing" {
            return;
        }
        let chat = event["chatId"].as_str().unwrap();
        let is_own =
            event["type"] == "message.created" && event["message"]["senderId"] == self.user.id;
        if !self.state().hold_or_apply(event, is_own) {
            self.note_gap(chat);
        }
    }
}

/// When a token expires, in seconds since 1970 UTC.
fn expiry(token: &str) -> u64 {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let claims = token.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Map<String, Value> = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_u64().unwrap()
}
