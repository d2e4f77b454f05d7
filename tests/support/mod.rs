//! What the tests share: a stack to call, users that call it, and tokens of every kind.

#![allow(dead_code, reason = "each test target uses its part")]

pub mod document;
pub mod tokens;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc},
};

use chat_local::{Database, Options, Stack};
use chat_shared::domain::{MAX_INTEGER, Timestamp};
use document::{Document, Seen};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// The secret that signs the tests' tokens.
pub fn secret() -> String {
    std::env::var("JWT_SECRET").unwrap_or_else(|_| chat_local::DEVELOPMENT_SECRET.to_owned())
}

/// How a stack for tests is started; change what the test is about.
pub fn options() -> Options {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_send-message"));
    Options {
        template: root.join("template.yaml"),
        binaries: binary.parent().unwrap().to_owned(),
        port: 0,
        database: Database::Memory,
        environment: BTreeMap::from([("JWT_SECRET".to_owned(), secret())]),
        log: Arc::new(|_| {}),
    }
}

/// The API under test: `API_URL`, or a stack on this machine that all tests of a process share.
pub fn api_url() -> String {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var("API_URL").unwrap_or_else(|_| start_shared_stack()))
        .clone()
}

/// Each test has a runtime of its own, so the stack that they share has one, too.
fn start_shared_stack() -> String {
    let (send_url, url) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stack = Stack::start(options()).await.expect("the stack starts");
            send_url.send(stack.url().to_owned()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    url.recv().expect("the stack starts")
}

/// An API as clients see it.
#[derive(Clone)]
pub struct Api {
    url: String,
    http: reqwest::Client,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A call on its way.
pub struct Request {
    builder: reqwest::RequestBuilder,
    method: String,
    /// Without query.
    path: String,
}

/// A user with a valid token. Each is new, so that tests do not meet.
#[derive(Clone)]
pub struct User {
    pub id: u64,
    pub token: String,
    pub api: Api,
}

impl Api {
    pub fn shared() -> Self {
        Self::at(&api_url())
    }

    pub fn at(url: &str) -> Self {
        // A provider was installed by an earlier call, or is now.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
        }
    }

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

    pub fn user(&self) -> User {
        self.user_with_id(fastrand::u64(1..=MAX_INTEGER))
    }

    pub fn user_with_id(&self, id: u64) -> User {
        let token = tokens::valid(id);
        User {
            id,
            token,
            api: self.clone(),
        }
    }

    /// Two users whose chat is active, and its id. The first one asked for it.
    pub async fn friends(&self) -> (User, User, String) {
        let (ann, ben) = (self.user(), self.user());
        let chat = ann.befriend(&ben).await;
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

    /// Sends it, and holds the answer to the document.
    pub async fn send(self) -> Answer {
        let response = self.builder.send().await.expect("the API answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("the body arrives");
        let header = |name: &str| {
            let value = headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Document::get().check(Seen {
            method: &self.method,
            path: &self.path,
            status,
            header: &header,
            body: &text,
        });
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer {
            status,
            headers,
            body,
        }
    }
}

impl User {
    pub fn request(&self, method: &str, path: &str) -> Request {
        self.api
            .request(method, path)
            .header("authorization", format!("Bearer {}", self.token))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    pub async fn put(&self, path: &str) -> Answer {
        self.request("PUT", path).send().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path).json(body).send().await
    }

    pub fn chat_with(&self, other: &Self) -> String {
        format!("{}-{}", self.id.min(other.id), self.id.max(other.id))
    }

    pub async fn ask(&self, other: &Self) -> Answer {
        self.post("/chats", &json!({"userId": other.id})).await
    }

    pub async fn accept(&self, chat: &str) -> Answer {
        self.put(&format!("/chats/{chat}/accept")).await
    }

    pub async fn decline(&self, chat: &str) -> Answer {
        self.put(&format!("/chats/{chat}/decline")).await
    }

    pub async fn mark_read(&self, chat: &str) -> Answer {
        self.put(&format!("/chats/{chat}/messages/read")).await
    }

    pub async fn say(&self, chat: &str, text: &str) -> Answer {
        self.post(&format!("/chats/{chat}/messages"), &json!({"text": text}))
            .await
    }

    pub async fn say_once(&self, chat: &str, key: &str, text: &str) -> Answer {
        self.request("POST", &format!("/chats/{chat}/messages"))
            .header("idempotency-key", key)
            .json(&json!({"text": text}))
            .send()
            .await
    }

    pub async fn messages(&self, chat: &str, query: &str) -> Answer {
        self.get(&format!("/chats/{chat}/messages{query}")).await
    }

    pub async fn befriend(&self, other: &Self) -> String {
        let chat = self.chat_with(other);
        assert_eq!(self.ask(other).await.status, 201);
        assert_eq!(other.accept(&chat).await.status, 200);
        chat
    }

    /// `[totalPendingRequest, totalUnreadMessages, totalSentRequest]`
    pub async fn totals(&self) -> [u64; 3] {
        let answer = self.get("/totals").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        [
            "totalPendingRequest",
            "totalUnreadMessages",
            "totalSentRequest",
        ]
        .map(|name| answer.body[name].as_u64().unwrap())
    }

    /// The ids in a list of chats, once it holds what `expected` says: lists follow within about a
    /// second, so they are asked again until then.
    pub async fn list_becomes(&self, path: &str, expected: &[&str]) {
        let give_up = Timestamp::now().millis() + 5_000;
        loop {
            let answer = self.get(path).await;
            let ids = answer.chat_ids();
            if ids == expected {
                return;
            }
            assert!(
                Timestamp::now().millis() < give_up,
                "{path} is {ids:?}, not {expected:?}"
            );
        }
    }

    /// The caller's view of an active chat.
    pub async fn view(&self, chat: &str) -> Value {
        let answer = self.get("/chats?limit=100").await;
        let chats = answer.body["chats"].as_array().unwrap();
        chats
            .iter()
            .find(|it| it["chatId"] == chat)
            .expect("the chat is listed")
            .clone()
    }
}

impl Answer {
    /// Asserts the refusal, whole: status, code, shape, and a message for a person.
    #[track_caller]
    pub fn is_refusal(&self, status: u16, code: &str) {
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

    /// Asserts a 400 that names what is wrong.
    #[track_caller]
    pub fn is_invalid(&self, named: &str) {
        self.is_refusal(400, "invalid_request");
        let message = self.body["message"].as_str().unwrap();
        assert!(
            message.contains(named),
            "{message:?} does not name {named:?}"
        );
    }

    /// Asserts a failure that the caller is told to repeat, or that comes from the gateway alone, when a
    /// process was killed.
    #[track_caller]
    pub fn is_worth_repeating(&self) {
        let gateways = self.body == json!({"message": "Internal Server Error"});
        let unavailable = self.status == 503 && self.header("retry-after").is_some();
        assert!(gateways || unavailable, "{self:?}");
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn chat_ids(&self) -> Vec<&str> {
        let chats = self.body["chats"]
            .as_array()
            .unwrap_or_else(|| panic!("no chats: {self:?}"));
        chats
            .iter()
            .map(|chat| chat["chatId"].as_str().unwrap())
            .collect()
    }

    #[track_caller]
    pub fn seqs(&self) -> Vec<u64> {
        let messages = self.body["messages"].as_array();
        let messages = messages.unwrap_or_else(|| panic!("no messages: {self:?}"));
        messages
            .iter()
            .map(|message| message["seq"].as_u64().unwrap())
            .collect()
    }

    pub fn next_cursor(&self) -> Option<&str> {
        self.body["nextCursor"].as_str()
    }
}

/// How much of a test is wanted: a number in the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().expect("a whole number"))
}

/// Waits for calls that were made at once.
pub async fn all<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}
