//! The table that functions are measured over, with two users that have chats of every kind, and events
//! that succeed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use chat_local::{
    DEVELOPMENT_SECRET, dynamodb,
    dynamodb::Embedded,
    events,
    template::{Template, workspace_root},
};
use chat_shared::{
    auth::TokenIssuer,
    domain::{ChatId, Content, Timestamp, UserId},
    store::{Connection, Store},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    Result,
    proxy::{Certificate, Proxy},
};

/// The users of the sample events.
const ANN: u64 = 17;
const BEN: u64 = 42;
/// More of each kind than a page has.
const CHATS_OF_A_KIND: u64 = 20;
/// More than a page has.
const MESSAGES: u64 = 40;
/// A short message, in bytes.
pub const SHORT: usize = 200;

/// A table behind TLS.
pub struct World<'a> {
    runtime: &'a Runtime,
    /// Between the functions and the table.
    pub proxy: Proxy,
    certificate: Certificate,
    table: String,
    store: Connection,
    /// Users whom nobody knows yet begin here.
    strangers: Cell<u64>,
    _dynamodb: Embedded,
    _folder: Folder,
}

/// A folder that goes with this process.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl<'a> World<'a> {
    /// Makes the table and fills it.
    pub fn new(runtime: &'a Runtime, template: &Template) -> Result<Self> {
        let folder = format!("chat-bench-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(folder));
        std::fs::create_dir_all(&folder.0)?;
        let certificate = Certificate::new(&folder.0)?;
        let (dynamodb, store) = runtime.block_on(table(template))?;
        let proxy = Proxy::start(dynamodb.endpoint(), Some(&certificate))?;
        let world = Self {
            runtime,
            proxy,
            certificate,
            table: template.table.name.clone(),
            store,
            strangers: Cell::new(1_000_000),
            _dynamodb: dynamodb,
            _folder: folder,
        };
        runtime.block_on(world.fill())?;
        Ok(world)
    }

    async fn fill(&self) -> Result<()> {
        let store = self.now();
        let us = chat(ANN, BEN)?;
        befriend(&store, us.low(), us).await?;
        for _ in 0..MESSAGES {
            store.send_message(us.low(), us, short()?, None).await?;
        }
        for me in [us.low(), us.high()] {
            for n in 0..CHATS_OF_A_KIND {
                let active = self.chat_with_stranger(me)?;
                let asks = if n % 2 == 0 { me } else { active.peer_of(me) };
                befriend(&store, asks, active).await?;
                store.send_message(me, active, short()?, None).await?;
                for sent in [true, false] {
                    for declined in [true, false] {
                        let request = self.chat_with_stranger(me)?;
                        let other = request.peer_of(me);
                        let (from, to) = if sent { (me, other) } else { (other, me) };
                        store.request_chat(from, request).await?;
                        if declined {
                            store.decline_chat(to, request).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Store {
        self.store.at(Timestamp::now())
    }

    fn stranger(&self) -> u64 {
        self.strangers.replace(self.strangers.get() + 1)
    }

    fn chat_with_stranger(&self, user: UserId) -> Result<ChatId> {
        chat(user.get(), self.stranger())
    }

    /// The file of all certificates that the system trusts, beside that of the table.
    pub fn system_certificates(&self) -> &Path {
        &self.certificate.system
    }

    /// What every function finds in its environment on Lambda, and where to find the table.
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        let file = |path: &PathBuf| path.to_string_lossy().into_owned();
        let text = str::to_owned;
        BTreeMap::from([
            ("AWS_ACCESS_KEY_ID", text("bench")),
            ("AWS_SECRET_ACCESS_KEY", text("bench")),
            ("AWS_SESSION_TOKEN", text("bench")),
            ("AWS_REGION", text("us-east-1")),
            ("AWS_DEFAULT_REGION", text("us-east-1")),
            ("AWS_ENDPOINT_URL_DYNAMODB", text(self.proxy.endpoint())),
            ("AWS_LAMBDA_FUNCTION_NAME", text("bench")),
            ("AWS_LAMBDA_FUNCTION_VERSION", text("1")),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", text("256")),
            ("JWT_SECRET", text(DEVELOPMENT_SECRET)),
            ("LANG", text("en_US.UTF-8")),
            ("NODE_EXTRA_CA_CERTS", file(&self.certificate.own)),
            ("NODE_NO_WARNINGS", text("1")),
            ("PATH", text("/usr/local/bin:/usr/bin:/bin")),
            ("SSL_CERT_FILE", file(&self.certificate.roots)),
            ("STACK_NAME", text("bench")),
            ("TABLE_NAME", self.table.clone()),
            ("TZ", text(":UTC")),
            ("_HANDLER", text("bootstrap")),
        ])
    }

    /// An event that the function answers with success and for which it does all of its work: what
    /// must be there for that is made here.
    pub fn event(&self, function: &str) -> Result<String> {
        let mut event = match function {
            "accept-chat-request" | "decline-chat-request" => {
                let chat = chat(self.stranger(), self.stranger())?;
                let request = self.now();
                self.runtime
                    .block_on(request.request_chat(chat.low(), chat))?;
                let mut event = sample(function, Some(chat.high()))?;
                event["pathParameters"]["chatId"] = chat.to_string().into();
                event
            }
            "send-chat-request" => {
                let (ann, ben) = (user(self.stranger())?, self.stranger());
                let mut event = sample(function, Some(ann))?;
                event["body"] = json!({"userId": ben}).to_string().into();
                event
            }
            _ => sample(function, None)?,
        };
        match function {
            "mark-messages-read" => {
                let us = chat(ANN, BEN)?;
                let store = self.now();
                let message = store.send_message(us.low(), us, short()?, None);
                self.runtime.block_on(message)?;
            }
            "send-message" => {
                event["body"] = json!({"text": "x".repeat(SHORT)}).to_string().into();
                let headers = event["headers"].as_object_mut();
                headers.and_then(|headers| headers.remove("idempotency-key"));
            }
            _ => {}
        }
        Ok(event.to_string())
    }
}

/// The template's table in a DynamoDB of its own, and the store over it.
pub async fn table(template: &Template) -> Result<(Embedded, Connection)> {
    let dynamodb = Embedded::start(None).await?;
    let table = &template.table;
    dynamodb::create_table(dynamodb.endpoint(), table, &table.name).await?;
    let client = dynamodb::client(dynamodb.endpoint());
    Ok((dynamodb, Connection::new(client, &table.name)))
}

/// Makes a chat active that one of the two asks for.
pub async fn befriend(store: &Store, asks: UserId, chat: ChatId) -> Result<()> {
    store.request_chat(asks, chat).await?;
    store.accept_chat(chat.peer_of(asks), chat).await?;
    Ok(())
}

/// A user.
pub fn user(id: u64) -> Result<UserId> {
    UserId::new(id).ok_or_else(|| format!("{id} is no user").into())
}

/// The chat of two users.
pub fn chat(one: u64, other: u64) -> Result<ChatId> {
    ChatId::between(user(one)?, user(other)?).ok_or_else(|| "one user has no chat".into())
}

/// A short message.
pub fn short() -> Result<Content> {
    Ok(Content::new(Some("x".repeat(SHORT)), None, None)?)
}

/// A token that lasts as long as anybody measures.
pub fn token(user: UserId) -> Result<String> {
    let expires_at = (Timestamp::now() + Duration::from_hours(12)).seconds();
    let variable = |name: &str| (name == "JWT_SECRET").then(|| DEVELOPMENT_SECRET.to_owned());
    let issuer = TokenIssuer::from_variables(variable).ok_or("there is a secret")?;
    Ok(issuer.token(user, expires_at)?)
}

fn sample(function: &str, caller: Option<UserId>) -> Result<Value> {
    let folder = workspace_root().join("events");
    let token = |user| token(user).map_err(|error| chat_local::Error::new(error.to_string()));
    let event = events::ready(&folder, function, caller, token)?;
    Ok(serde_json::from_str(&event)?)
}
