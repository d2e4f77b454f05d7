//! Shared test code: starts a stack, sends requests to the API as a user, receives what the service pushes, creates
//! access tokens, and checks each response and each frame against the OpenAPI and `AsyncAPI` documents.

#![allow(dead_code, reason = "each test target uses only a part of this module")]

pub mod asyncapi_validation;
pub mod live;
pub mod openapi_validation;
pub mod tokens;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use chat_local::{Database, StackOptions, realtime::RealtimeOptions};
use chat_shared::{
    domain::{MAX_SAFE_INTEGER, Timestamp},
    http::Endpoint,
    openapi::sample_requests,
};
use openapi_validation::{CapturedResponse, Document};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// Longer than any response takes: the gateway gives up after 30 seconds. Without a timeout, a server
/// that never responds would block a test forever.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// Longer than a stack takes to start, even on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// Lists of chats are eventually consistent. They usually follow within a second. This is longer,
/// because tests also run on slow machines.
const LIST_TIMEOUT_MILLIS: u64 = 20_000;

/// The secret that signs the tests' tokens.
pub fn secret() -> String {
    std::env::var("JWT_SECRET").unwrap_or_else(|_| chat_local::DEVELOPMENT_SECRET.to_owned())
}

/// The options of a stack for tests, without push. A test can change them.
///
/// Push is off because it runs one more function for each change of a chat: most tests do not need that, and some count
/// what the functions do.
pub fn stack_options() -> StackOptions {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_send-message"));
    StackOptions {
        template: root.join("template.yaml"),
        binaries: binary.parent().unwrap().to_owned(),
        port: 0,
        database: Database::Memory,
        environment: BTreeMap::from([("JWT_SECRET".to_owned(), secret())]),
        allowed_origins: Vec::new(),
        realtime: RealtimeOptions::off(),
        log: Arc::new(|_| {}),
    }
}

/// Like [`stack_options`], with push.
pub fn live_stack_options() -> StackOptions {
    StackOptions {
        realtime: RealtimeOptions::default(),
        ..stack_options()
    }
}

/// The URL of the API that all tests of the process share. Each test target decides what it is, in
/// `start_shared_api` at its root.
pub fn api_url() -> String {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(run_shared_api).clone()
}

/// Starts the shared API, which runs until the process ends. It needs its own runtime, because the
/// runtime of a test stops with the test.
fn run_shared_api() -> String {
    let (send_url, url) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (url, _running) = crate::start_shared_api().await;
            send_url.send(url).unwrap();
            std::future::pending::<()>().await;
        });
    });
    url.recv_timeout(START_TIMEOUT)
        .expect("the API should start")
}

/// The path of an endpoint for one chat, for the first message of the chat, and for user 42.
pub fn endpoint_path(endpoint: &Endpoint, chat: &str) -> String {
    let path = endpoint.path.replace("{chatId}", chat);
    let path = path.replace("{seq}", "1").replace("{userId}", "42");
    assert!(
        !path.contains('{'),
        "{} has a parameter for which the tests have no value",
        endpoint.path
    );
    path
}

/// Adds a body that the endpoint accepts to a request, if the endpoint takes a body.
pub fn with_valid_body(request: Request, endpoint: &Endpoint) -> Request {
    let samples = sample_requests().into_iter();
    let mut bodies = samples
        .filter(|sample| sample.endpoint.name == endpoint.name)
        .filter_map(|sample| sample.body);
    if let Some(body) = bodies.next() {
        return request.json(&body);
    }
    assert!(
        !["POST", "PATCH"].contains(&endpoint.method),
        "{} needs a sample request with a body",
        endpoint.name
    );
    request
}

/// An HTTP client for the API at one URL.
#[derive(Clone)]
pub struct Api {
    url: String,
    http: reqwest::Client,
}

/// A response that was checked against the OpenAPI document.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as JSON, or as a string if it is not JSON.
    pub body: Value,
}

/// A request that was not sent yet.
pub struct Request {
    builder: reqwest::RequestBuilder,
    method: String,
    /// The path without the query.
    path: String,
}

/// A user with a valid token. Each user has a random id, so that tests do not affect one another.
#[derive(Clone)]
pub struct User {
    pub id: u64,
    pub token: String,
    pub api: Api,
}

impl Api {
    /// The API that all tests of the process share.
    pub fn shared() -> Self {
        Self::at(&api_url())
    }

    pub fn at(url: &str) -> Self {
        // This fails when another test has already installed a provider, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(RESPONSE_TIMEOUT);
        Self {
            url: url.trim_end_matches('/').to_owned(),
            http: http.build().unwrap(),
        }
    }

    /// A request without a token.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let url = format!("{}{path}", self.url);
        Request {
            builder: self
                .http
                .request(Method::from_bytes(method.as_bytes()).unwrap(), url),
            method: method.to_owned(),
            path: path.split('?').next().unwrap_or_default().to_owned(),
        }
    }

    /// A new user.
    pub fn user(&self) -> User {
        self.user_with_id(fastrand::u64(1..=MAX_SAFE_INTEGER))
    }

    pub fn user_with_id(&self, id: u64) -> User {
        let token = tokens::valid_token(id);
        User {
            id,
            token,
            api: self.clone(),
        }
    }

    /// Two new users with an active chat, and its id. The first user requested the chat.
    pub async fn active_chat(&self) -> (User, User, String) {
        let (ann, ben) = (self.user(), self.user());
        let chat = ann.start_chat(&ben).await;
        (ann, ben, chat)
    }
}

impl Request {
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = reqwest::header::HeaderValue::from_bytes(value.as_ref()).unwrap();
        Self {
            builder: self.builder.header(name, value),
            ..self
        }
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self {
            builder: self.builder.body(body.into()),
            ..self
        }
    }

    /// Sends the request and checks the response against the OpenAPI document.
    pub async fn send(self) -> Response {
        let response = self
            .builder
            .send()
            .await
            .expect("the API should send a response");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response
            .text()
            .await
            .expect("the API should send the whole body");
        let header = |name: &str| {
            let value = headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Document::get().check(CapturedResponse {
            method: &self.method,
            path: &self.path,
            status,
            header: &header,
            body: &text,
        });
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Response {
            status,
            headers,
            body,
        }
    }
}

impl User {
    /// A request with the user's token.
    pub fn request(&self, method: &str, path: &str) -> Request {
        self.api
            .request(method, path)
            .header("authorization", format!("Bearer {}", self.token))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await
    }

    pub async fn put(&self, path: &str) -> Response {
        self.request("PUT", path).send().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path).json(body).send().await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Response {
        self.request("PATCH", path).json(body).send().await
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path).send().await
    }

    /// The id that a chat between the two users has.
    pub fn chat_id_with(&self, other: &Self) -> String {
        format!("{}-{}", self.id.min(other.id), self.id.max(other.id))
    }

    pub async fn request_chat(&self, other: &Self) -> Response {
        self.post("/chats", &json!({"userId": other.id})).await
    }

    pub async fn accept(&self, chat: &str) -> Response {
        self.put(&format!("/chats/{chat}/accept")).await
    }

    pub async fn decline(&self, chat: &str) -> Response {
        self.put(&format!("/chats/{chat}/decline")).await
    }

    pub async fn withdraw(&self, chat: &str) -> Response {
        self.put(&format!("/chats/{chat}/withdraw")).await
    }

    pub async fn get_chat(&self, chat: &str) -> Response {
        self.get(&format!("/chats/{chat}")).await
    }

    pub async fn mark_read(&self, chat: &str) -> Response {
        self.put(&format!("/chats/{chat}/messages/read")).await
    }

    /// Marks the messages up to this one as read.
    pub async fn mark_up_to(&self, chat: &str, seq: u64) -> Response {
        self.mark_with(chat, &json!({"seq": seq})).await
    }

    /// Marks messages as read with any body.
    pub async fn mark_with(&self, chat: &str, body: &Value) -> Response {
        let path = format!("/chats/{chat}/messages/read");
        self.request("PUT", &path).json(body).send().await
    }

    /// Sends a message with only a text.
    pub async fn send(&self, chat: &str, text: &str) -> Response {
        self.post(&format!("/chats/{chat}/messages"), &json!({"text": text}))
            .await
    }

    /// Sends a message with only a text, with an idempotency key.
    pub async fn send_with_key(&self, chat: &str, key: &str, text: &str) -> Response {
        self.request("POST", &format!("/chats/{chat}/messages"))
            .header("idempotency-key", key)
            .json(&json!({"text": text}))
            .send()
            .await
    }

    /// Lists messages. `query` is empty or starts with `?`.
    pub async fn messages(&self, chat: &str, query: &str) -> Response {
        self.get(&format!("/chats/{chat}/messages{query}")).await
    }

    /// Edits a message: replaces the parts that `body` contains, and removes those that are null.
    pub async fn edit(&self, chat: &str, seq: u64, body: &Value) -> Response {
        self.patch(&format!("/chats/{chat}/messages/{seq}"), body)
            .await
    }

    /// Replaces the text of a message.
    pub async fn edit_text(&self, chat: &str, seq: u64, text: &str) -> Response {
        self.edit(chat, seq, &json!({"text": text})).await
    }

    pub async fn delete_message(&self, chat: &str, seq: u64) -> Response {
        self.delete(&format!("/chats/{chat}/messages/{seq}")).await
    }

    /// Lists the messages that were changed. `query` is empty or starts with `?`.
    pub async fn changes(&self, chat: &str, query: &str) -> Response {
        self.get(&format!("/chats/{chat}/changes{query}")).await
    }

    /// The message with this number, as a list of messages shows it.
    pub async fn message(&self, chat: &str, seq: u64) -> Value {
        let query = format!("?limit=1&after={}", seq - 1);
        let page = self.messages(chat, &query).await.expect_status(200);
        assert_eq!(page.seqs(), [seq]);
        page.body["messages"][0].clone()
    }

    pub async fn block(&self, other: &Self) -> Response {
        self.put(&format!("/blocks/{}", other.id)).await
    }

    pub async fn unblock(&self, other: &Self) -> Response {
        self.delete(&format!("/blocks/{}", other.id)).await
    }

    /// Lists the users that this user has blocked. `query` is empty or starts with `?`.
    pub async fn blocks(&self, query: &str) -> Response {
        self.get(&format!("/blocks{query}")).await
    }

    /// Reports a user or a message.
    pub async fn report(&self, body: &Value) -> Response {
        self.post("/reports", body).await
    }

    /// Requests a chat, which the other user accepts. Returns its id.
    pub async fn start_chat(&self, other: &Self) -> String {
        let chat = self.chat_id_with(other);
        assert_eq!(self.request_chat(other).await.status, 201);
        assert_eq!(other.accept(&chat).await.status, 200);
        chat
    }

    /// `[totalPendingRequest, totalUnreadMessages, totalSentRequest]`
    pub async fn totals(&self) -> [u64; 3] {
        let response = self.get("/totals").await;
        assert_eq!(response.status, 200, "{response:?}");
        [
            "totalPendingRequest",
            "totalUnreadMessages",
            "totalSentRequest",
        ]
        .map(|name| response.body[name].as_u64().unwrap())
    }

    /// Reads a list of chats until the response meets a condition, and returns that response. `what` says
    /// what the list should do. Panics when it still does not at the deadline.
    ///
    /// Lists are eventually consistent: one read can show a change and the next one not. So a test that has
    /// changed a chat reads lists only in this way, each time.
    pub async fn wait_for_chats(
        &self,
        path: &str,
        what: &str,
        condition: impl Fn(&Response) -> bool,
    ) -> Response {
        let deadline = Timestamp::now().millis() + LIST_TIMEOUT_MILLIS;
        loop {
            let response = self.get(path).await.expect_status(200);
            if condition(&response) {
                return response;
            }
            assert!(
                Timestamp::now().millis() < deadline,
                "{path} should {what}, but the response is {response:?}"
            );
            // Lets the other tasks of this runtime run between two requests.
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a page of a list of chats has exactly these ids in this order.
    pub async fn wait_for_list(&self, path: &str, expected: &[&str]) -> Response {
        let what = format!("have {expected:?}");
        self.wait_for_chats(path, &what, |page| page.chat_ids() == expected)
            .await
    }

    /// Waits until a page of a list of chats has exactly these ids in this order, and a next page or none.
    pub async fn wait_for_page(&self, path: &str, expected: &[&str], has_next: bool) -> Response {
        let next = if has_next { "a" } else { "no" };
        let what = format!("have {expected:?} and {next} next page");
        self.wait_for_chats(path, &what, |page| {
            page.chat_ids() == expected && page.next_cursor().is_some() == has_next
        })
        .await
    }

    /// Waits until a page of the list of blocked users has exactly these users in this order, and a next page
    /// or none.
    pub async fn wait_for_blocks(
        &self,
        path: &str,
        expected: &[&Self],
        has_next: bool,
    ) -> Response {
        let expected: Vec<_> = expected.iter().map(|user| user.id).collect();
        let next = if has_next { "a" } else { "no" };
        let what = format!("have {expected:?} and {next} next page");
        self.wait_for_chats(path, &what, |page| {
            page.blocked_users() == expected && page.next_cursor().is_some() == has_next
        })
        .await
    }

    /// An active chat as this user sees it in the list of chats.
    ///
    /// It waits until the list shows the current state. That state is known from the response to a chat
    /// request, which is strongly consistent, and which changes nothing if the chat is active.
    pub async fn chat_view(&self, chat: &str) -> Value {
        let mut members = chat.split('-').map(|id| id.parse::<u64>().unwrap());
        let other = members
            .find(|id| *id != self.id)
            .expect("a chat has two members");
        let response = self.post("/chats", &json!({"userId": other})).await;
        let current = response.expect_status(200).body;
        self.wait_for_chats("/chats?limit=100", "show the current state", |page| {
            page.chats().contains(&current)
        })
        .await;
        current
    }
}

impl Response {
    /// Asserts that the response is this error: status, code, fields and headers.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        let body = self.body.as_object().unwrap();
        let mut fields: Vec<_> = body.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["code", "message", "requestId", "success"]);
        assert_eq!(body["success"], false);
        assert!(!body["requestId"].as_str().unwrap().is_empty());
        assert!(!body["message"].as_str().unwrap().is_empty());
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(
            self.header("www-authenticate"),
            (status == 401).then_some("Bearer")
        );
    }

    /// Asserts a 400 whose message contains `named`, usually a field or a parameter in backticks.
    #[track_caller]
    pub fn expect_invalid(&self, named: &str) {
        self.expect_error(400, "invalid_request");
        let message = self.body["message"].as_str().unwrap();
        assert!(
            message.contains(named),
            "the message {message:?} should name {named:?}"
        );
    }

    /// Asserts an error that a client should retry: a 503 with `Retry-After`, or the gateway's own
    /// error when the function's process was killed.
    #[track_caller]
    pub fn expect_retryable(&self) {
        let is_gateway_error = self.body == json!({"message": "Internal Server Error"});
        let is_unavailable = self.status == 503 && self.header("retry-after").is_some();
        assert!(is_gateway_error || is_unavailable, "{self:?}");
    }

    /// Asserts the status, and returns the response for further assertions.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The chats in a list.
    #[track_caller]
    pub fn chats(&self) -> &[Value] {
        let chats = self.body["chats"].as_array();
        chats.unwrap_or_else(|| panic!("no chats: {self:?}"))
    }

    /// The ids in a list of chats.
    #[track_caller]
    pub fn chat_ids(&self) -> Vec<&str> {
        let chats = self.chats().iter();
        chats.map(|chat| chat["chatId"].as_str().unwrap()).collect()
    }

    /// The sequence numbers in a list of messages.
    #[track_caller]
    pub fn seqs(&self) -> Vec<u64> {
        let messages = self.body["messages"].as_array();
        let messages = messages.unwrap_or_else(|| panic!("no messages: {self:?}"));
        messages
            .iter()
            .map(|message| message["seq"].as_u64().unwrap())
            .collect()
    }

    /// The ids in a list of blocked users.
    #[track_caller]
    pub fn blocked_users(&self) -> Vec<u64> {
        let blocks = self.body["blocks"].as_array();
        let blocks = blocks.unwrap_or_else(|| panic!("no blocks: {self:?}"));
        blocks
            .iter()
            .map(|block| block["userId"].as_u64().unwrap())
            .collect()
    }

    pub fn next_cursor(&self) -> Option<&str> {
        self.body["nextCursor"].as_str()
    }

    /// The code of an error.
    pub fn code(&self) -> Option<&str> {
        self.body["code"].as_str()
    }
}

/// A whole number from an environment variable, such as how many requests a test sends.
pub fn env_number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a whole number, not {text:?}"))
    })
}

/// Runs calls concurrently and returns their results in the order of the calls.
pub async fn run_concurrently<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
