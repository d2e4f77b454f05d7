//! The environment in which functions are measured: a filled table behind a TLS proxy, environment
//! variables as on Lambda, and events that succeed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chat_local::{dynamodb::EmbeddedDynamoDb, sample_events, template::Template};
use chat_shared::{
    domain::{ChatId, Timestamp, UserId},
    store::{SendOutcome, Store, TableClient},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    Result,
    dataset::{
        SECRET, SHORT_MESSAGE_BYTES, access_token, chat_id, connection, create_table,
        send_and_record, short_message, start_chat, user_id,
    },
    dynamodb_proxy::{Certificate, Proxy},
};

/// The users of the sample events.
const ANN: u64 = 17;
const BEN: u64 = 42;
/// Chats of each kind. It is more than fits on one page.
const CHATS_PER_KIND: u64 = 20;
/// Messages in the chat of Ann and Ben. It is more than fits on one page.
const MESSAGES: u64 = 40;
/// The first id for users who have no data yet.
const FIRST_NEW_USER: u64 = 1_000_000;

/// A filled table behind a TLS proxy. Two users have chats of every kind, and one connection each.
pub struct Environment<'a> {
    runtime: &'a Runtime,
    /// The proxy between the functions and the table.
    pub proxy: Proxy,
    certificate: Certificate,
    table_name: String,
    table: TableClient,
    /// The next id for a user who has no data yet.
    next_user: Cell<u64>,
    _dynamodb: EmbeddedDynamoDb,
    folder: TemporaryFolder,
}

/// A folder that is deleted when the benchmark ends.
struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl<'a> Environment<'a> {
    /// Creates the table and fills it.
    pub fn new(runtime: &'a Runtime, template: &Template) -> Result<Self> {
        let folder = format!("chat-bench-{}", std::process::id());
        let folder = TemporaryFolder(std::env::temp_dir().join(folder));
        std::fs::create_dir_all(&folder.0)?;
        let certificate = Certificate::generate(&folder.0)?;
        let (dynamodb, table) = runtime.block_on(create_table(template))?;
        let proxy = Proxy::start(dynamodb.endpoint(), Some(&certificate))?;
        let environment = Self {
            runtime,
            proxy,
            certificate,
            table_name: template.table.name.clone(),
            table,
            next_user: Cell::new(FIRST_NEW_USER),
            _dynamodb: dynamodb,
            folder,
        };
        runtime.block_on(environment.fill())?;
        Ok(environment)
    }

    async fn fill(&self) -> Result<()> {
        let store = self.store();
        let chat = chat_id(ANN, BEN)?;
        let ann = chat.low();
        start_chat(&store, ann, chat).await?;
        for _ in 0..MESSAGES {
            store
                .send_message(ann, chat, short_message()?, None)
                .await?;
        }
        for user in [chat.low(), chat.high()] {
            // `push-events` sends to it. The proxy emulates the connection.
            let connection = connection(format!("of-{user}="));
            store.open_connection(user, &connection).await?;
            for n in 0..CHATS_PER_KIND {
                let active = self.chat_with_new_user(user)?;
                let requester = if n % 2 == 0 {
                    user
                } else {
                    active.peer_of(user)
                };
                start_chat(&store, requester, active).await?;
                store
                    .send_message(user, active, short_message()?, None)
                    .await?;
                for is_sent in [true, false] {
                    for is_declined in [true, false] {
                        let request = self.chat_with_new_user(user)?;
                        let other = request.peer_of(user);
                        let (requester, recipient) = if is_sent {
                            (user, other)
                        } else {
                            (other, user)
                        };
                        store.request_chat(requester, request).await?;
                        if is_declined {
                            store.decline_chat(recipient, request).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn store(&self) -> Store {
        self.table.store_at(Timestamp::now())
    }

    /// The id of a user who has no data yet.
    fn new_user(&self) -> u64 {
        self.next_user.replace(self.next_user.get() + 1)
    }

    fn chat_with_new_user(&self, user: UserId) -> Result<ChatId> {
        chat_id(user.get(), self.new_user())
    }

    /// The file with the system's trusted certificates and the proxy's certificate.
    pub fn system_certificates(&self) -> &Path {
        &self.certificate.system_roots
    }

    /// The environment variables that a function has on Lambda, and the endpoint of the table.
    pub fn variables(&self) -> BTreeMap<&'static str, String> {
        let file = |path: &PathBuf| path.to_string_lossy().into_owned();
        let text = str::to_owned;
        BTreeMap::from([
            ("AWS_ACCESS_KEY_ID", text("bench")),
            ("AWS_SECRET_ACCESS_KEY", text("bench")),
            ("AWS_SESSION_TOKEN", text("bench")),
            ("AWS_REGION", text("us-east-1")),
            ("AWS_DEFAULT_REGION", text("us-east-1")),
            ("AWS_ENDPOINT_URL_DYNAMODB", text(self.proxy.endpoint())),
            (
                "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI",
                format!("{}/live", self.proxy.endpoint()),
            ),
            ("AWS_LAMBDA_FUNCTION_NAME", text("bench")),
            ("AWS_LAMBDA_FUNCTION_VERSION", text("1")),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", text("256")),
            ("JWT_SECRET", text(SECRET)),
            ("LANG", text("en_US.UTF-8")),
            ("NODE_EXTRA_CA_CERTS", file(&self.certificate.own)),
            ("NODE_NO_WARNINGS", text("1")),
            ("PATH", text("/usr/local/bin:/usr/bin:/bin")),
            ("SSL_CERT_FILE", file(&self.certificate.amazon_roots)),
            ("STACK_NAME", text("bench")),
            ("TABLE_NAME", self.table_name.clone()),
            ("TZ", text(":UTC")),
            ("_HANDLER", text("bootstrap")),
        ])
    }

    /// The environment variables of a function that reads the secret from Secrets Manager. The proxy emulates it.
    pub fn secrets_manager_variables(&self) -> [(&'static str, &str); 2] {
        let endpoint = self.proxy.endpoint();
        [
            ("JWT_SECRET_ARN", "bench/jwt-secret"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint),
        ]
    }

    /// A folder for temporary files.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// An event for which the function does its full work and returns success. This method also
    /// writes the data that the event needs.
    pub fn event(&self, function: &str) -> Result<String> {
        let event = match self.push_event(function)? {
            Some(event) => event,
            None => self.request(function)?,
        };
        Ok(event.to_string())
    }

    /// The event of a request to the HTTP API.
    fn request(&self, function: &str) -> Result<Value> {
        let store = self.store();
        match function {
            "accept-chat-request" | "decline-chat-request" | "withdraw-chat-request" => {
                let chat = chat_id(self.new_user(), self.new_user())?;
                self.runtime
                    .block_on(store.request_chat(chat.low(), chat))?;
                let is_requester = function == "withdraw-chat-request";
                let caller = if is_requester {
                    chat.low()
                } else {
                    chat.high()
                };
                let mut event = sample_event(function, Some(caller))?;
                event["pathParameters"]["chatId"] = chat.to_string().into();
                Ok(event)
            }
            "send-chat-request" => {
                let (requester, recipient) = (user_id(self.new_user())?, self.new_user());
                let mut event = sample_event(function, Some(requester))?;
                event["body"] = json!({"userId": recipient}).to_string().into();
                Ok(event)
            }
            // Blocks would keep the users of the other events from sending.
            "block-user" | "unblock-user" | "report-user" => {
                let chat = chat_id(self.new_user(), self.new_user())?;
                let (caller, other) = (chat.low(), chat.high());
                self.runtime.block_on(start_chat(&store, caller, chat))?;
                if function == "unblock-user" {
                    self.runtime.block_on(store.block_user(caller, chat))?;
                }
                let mut event = sample_event(function, Some(caller))?;
                if function == "report-user" {
                    let body = json!({"userId": other.get(), "reason": "spam"});
                    event["body"] = body.to_string().into();
                } else {
                    event["pathParameters"]["userId"] = other.to_string().into();
                }
                Ok(event)
            }
            // Of a new message, because a message can be deleted only once.
            "edit-message" | "delete-message" => {
                let seq = self.send_message()?;
                let mut event = sample_event(function, None)?;
                event["pathParameters"]["seq"] = seq.to_string().into();
                Ok(event)
            }
            "mark-messages-read" => {
                self.send_message()?;
                sample_event(function, None)
            }
            "send-message" => {
                let mut event = sample_event(function, None)?;
                let text = "x".repeat(SHORT_MESSAGE_BYTES);
                event["body"] = json!({"text": text}).to_string().into();
                let headers = event["headers"].as_object_mut();
                headers.and_then(|headers| headers.remove("idempotency-key"));
                Ok(event)
            }
            _ => sample_event(function, None),
        }
    }

    /// Ann sends a message to Ben. Returns its `seq`.
    fn send_message(&self) -> Result<u64> {
        let (store, chat) = (self.store(), chat_id(ANN, BEN)?);
        let sent = store.send_message(user_id(ANN)?, chat, short_message()?, None);
        match self.runtime.block_on(sent)? {
            SendOutcome::Sent(message) | SendOutcome::Replayed { message, .. } => {
                Ok(message.seq.get())
            }
        }
    }

    /// The event of a function that a WebSocket API or the table's stream invokes. `None` for the functions
    /// of the HTTP API.
    fn push_event(&self, function: &str) -> Result<Option<Value>> {
        let store = self.store();
        let user = user_id(self.new_user())?;
        let connection = connection(format!("of-{user}="));
        let context = |route_key: &str, event_type: &str| {
            json!({
                "routeKey": route_key,
                "eventType": event_type,
                "connectionId": connection.id,
                "connectedAt": connection.connected_at.millis(),
                "stage": "live",
                "authorizer": {
                    "principalId": user.to_string(),
                    "userId": user.to_string(),
                    "tokenExpiresAt": connection.token_expires_at.seconds().to_string(),
                },
            })
        };
        let open = || {
            let opened = store.open_connection(user, &connection);
            self.runtime.block_on(opened)
        };
        Ok(Some(match function {
            "authorize-connection" => json!({
                "type": "REQUEST",
                "methodArn": "arn:aws:execute-api:us-east-1:000000000000:bench/live/$connect",
                "headers": {
                    "Sec-WebSocket-Protocol": format!("chat.v1, {}", access_token(user)?),
                },
                "requestContext": context("$connect", "CONNECT"),
            }),
            "open-connection" => json!({"requestContext": context("$connect", "CONNECT")}),
            "close-connection" => {
                open()?;
                json!({"requestContext": context("$disconnect", "DISCONNECT")})
            }
            "receive-frame" => {
                open()?;
                json!({
                    "requestContext": context("$default", "MESSAGE"),
                    "body": r#"{"type":"sync"}"#,
                    "isBase64Encoded": false,
                })
            }
            // Of a long message, which the function reads, to both members.
            "push-events" => {
                let record = send_and_record(&store, chat_id(ANN, BEN)?, short_message()?, 1);
                json!({"Records": [self.runtime.block_on(record)?]})
            }
            _ => return Ok(None),
        }))
    }
}

/// The sample event of a function with a valid token of `caller`, or else of the file's own caller.
fn sample_event(function: &str, caller: Option<UserId>) -> Result<Value> {
    let sign = |user| access_token(user).map_err(|error| chat_local::Error::new(error.to_string()));
    let event = sample_events::event(function, caller, sign)?;
    Ok(serde_json::from_str(&event)?)
}
