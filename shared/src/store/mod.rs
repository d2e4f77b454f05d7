//! Persistence: one `DynamoDB` table. The only module that knows its keys, conditions and transactions.
//!
//! Design goals, in this order: the guarantees of the API hold under concurrency and failures; a request
//! needs few round trips and little capacity; the code stays small.
//!
//! - **One transaction per change.** Every change of more than one item is one `TransactWriteItems` call
//!   whose conditions make it correct. The conditions return the old item on failure, so that no second
//!   read is needed to explain an error. No counter is changed by a plain `ADD` in an `UpdateItem`: a
//!   retry after a lost response would count twice. A transaction has a token that prevents this.
//! - **Optimistic concurrency.** A change is computed from the chat as it was read, and is conditional on
//!   the values that it depends on. If another request came first, the change is computed again from the
//!   item that the failed condition returned.
//! - **A dense `seq` per chat.** `skip` is a key range, so that every page costs the same. Clients can
//!   detect gaps.
//! - **A watermark per member instead of a flag per message.** Marking 100,000 messages as read costs the
//!   same as marking one.
//! - **Totals in [`items::TOTALS_SHARDS`] shards per user.** A transaction locks an item for about 25 ms.
//!   With a single counter item, the transactions of fifty senders to one user would conflict most of the
//!   time.
//! - **A count of its changes in each counter item.** Each update of a counter adds 1, so that the sum over the items
//!   orders any two reads of a user's totals. Clocks could not.
//!
//! The item types and their keys are in [`items`], the retry policy is in `retry.rs`.

mod blocks;
mod changes;
mod chats;
mod client;
mod connections;
mod events;
pub mod items;
mod lists;
mod marks;
mod messages;
mod reports;
mod retry;
mod totals;
mod transaction;
mod update;
mod usage;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity},
};
use tokio::time::Instant;

pub use changes::{ChangePage, ChangesStart, MessageOutcome};
pub use chats::RequestOutcome;
pub use connections::{Connection, FrameAdmission, MAX_CONNECTIONS};
pub use items::ActivityKey;
pub use lists::{ChatList, ChatPage, ChatPageStart, RequestDirection};
pub use messages::{
    IdempotencyKey, InvalidIdempotencyKey, MessagePage, MessagePageStart, SendOutcome,
};
pub use reports::ReportOutcome;
pub use retry::Backoff;
pub(crate) use retry::MAX_COMMIT_TIME;
pub use totals::Totals;
pub use transaction::{ConditionFailures, Write, number};
pub use usage::Usage;

use crate::{
    Error,
    aws::AwsConfig,
    domain::{Chat, ChatId, Timestamp},
    error::ConfigError,
};
use items::{ChatItem, Item, ItemKey, Partition};
use retry::AttemptTimeout;
use usage::UsageCounter;

/// The maximum number of keys of a `BatchGetItem`.
const MAX_BATCH_KEYS: usize = 100;
/// The default of `MAX_OPEN_REQUESTS`.
const DEFAULT_MAX_OPEN_REQUESTS: u64 = 100;
/// The default of `EDIT_WINDOW_SECONDS`: a day.
const DEFAULT_EDIT_WINDOW: u64 = 24 * 60 * 60;

/// The table and its client. A process creates it once and uses it for all requests.
#[derive(Clone)]
pub struct TableClient {
    client: Client,
    table: Arc<str>,
    max_open_requests: u64,
    /// The time after sending in which a message can be edited. `None` means no limit.
    edit_window: Option<Duration>,
    /// The time after sending in which a message can be deleted. `None` means no limit.
    delete_window: Option<Duration>,
    /// Whether edits, deletions, withdrawals, blocks and reports may be written. Off while an older version runs, which
    /// does not know them.
    safety_features: bool,
    usage: UsageCounter,
    attempt_timeout: AttemptTimeout,
}

/// The store for one request. It contains the time of the request.
pub struct Store {
    table: TableClient,
    /// The time when the request arrived.
    received_at: Timestamp,
    /// The same time, on a clock that only measures durations.
    received: Instant,
    backoff: Mutex<Backoff>,
    /// The number of waits after conflicts.
    conflict_waits: AtomicUsize,
    /// The number of writes whose condition failed, and that did not wait.
    stale_writes: AtomicU32,
}

impl TableClient {
    /// Creates a client from the environment and opens `connections` connections. `env` looks up
    /// `TABLE_NAME`, `MAX_OPEN_REQUESTS` (0 means no cap), `EDIT_WINDOW_SECONDS` and `DELETE_WINDOW_SECONDS` (0 means
    /// no limit) and `SAFETY_FEATURES` (`on` or `off`). The SDK reads its own variables.
    ///
    /// # Errors
    /// [`ConfigError`] if a variable is missing or invalid.
    pub async fn connect(
        env: impl Fn(&str) -> Option<String>,
        aws: &AwsConfig,
        connections: usize,
    ) -> Result<Self, ConfigError> {
        let table = env("TABLE_NAME")
            .filter(|name| !name.is_empty())
            .ok_or(ConfigError::new(
                "TABLE_NAME",
                "is not set; set it to the name of the DynamoDB table",
            ))?;
        let max_open_requests = number_from_env(
            &env,
            "MAX_OPEN_REQUESTS",
            DEFAULT_MAX_OPEN_REQUESTS,
            "must be a whole number; 0 means no cap",
        )?;
        let window = |variable, default| {
            let problem = "must be a whole number of seconds; 0 means no limit";
            let seconds = number_from_env(&env, variable, default, problem)?;
            Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
        };
        let edit_window = window("EDIT_WINDOW_SECONDS", DEFAULT_EDIT_WINDOW)?;
        let delete_window = window("DELETE_WINDOW_SECONDS", 0)?;
        let safety_features = match env("SAFETY_FEATURES").as_deref() {
            None | Some("" | "on") => true,
            Some("off") => false,
            Some(_) => return Err(ConfigError::new("SAFETY_FEATURES", "must be on or off")),
        };
        let usage = UsageCounter::default();
        let client = client::create(aws, usage.clone())?;
        client::open_connections(&client, connections).await;
        usage.drain();
        Ok(Self {
            client,
            table: table.into(),
            max_open_requests,
            edit_window,
            delete_window,
            safety_features,
            usage,
            attempt_timeout: AttemptTimeout::FOR_FUNCTIONS,
        })
    }

    /// Uses an existing client, for a tool: without a cap on open requests, and with more time for each
    /// attempt.
    #[must_use]
    pub fn new(client: Client, table: &str) -> Self {
        Self {
            client,
            table: table.into(),
            max_open_requests: 0,
            edit_window: None,
            delete_window: None,
            safety_features: true,
            usage: UsageCounter::default(),
            attempt_timeout: AttemptTimeout::FOR_TOOLS,
        }
    }

    /// Returns the usage since the previous call, and resets it.
    #[must_use]
    pub fn drain_usage(&self) -> Usage {
        self.usage.drain()
    }

    /// The store for a request at `now`.
    #[must_use]
    pub fn store_at(&self, now: Timestamp) -> Store {
        Store {
            table: self.clone(),
            received_at: now,
            received: Instant::now(),
            backoff: Mutex::default(),
            conflict_waits: AtomicUsize::new(0),
            stale_writes: AtomicU32::new(0),
        }
    }
}

impl Store {
    /// The SDK client, for operations that the store does not offer.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.table.client
    }

    /// The name of the table.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table.table
    }

    /// The current time.
    fn now(&self) -> Timestamp {
        self.received_at + self.received.elapsed()
    }

    /// Whether edits, deletions, withdrawals, blocks and reports may be written.
    fn require_safety_features(&self) -> Result<(), Error> {
        if self.table.safety_features {
            Ok(())
        } else {
            Err(Error::NotEnabled)
        }
    }

    /// A chat in any status.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`].
    pub async fn get_chat(&self, id: ChatId) -> Result<Chat, Error> {
        let chat = self.chat(id).await?;
        chat.filter(Chat::exists).ok_or(Error::ChatNotFound)
    }

    /// The state of a pair, also if it has only a block and no chat.
    async fn chat(&self, id: ChatId) -> Result<Option<Chat>, Error> {
        let item = self.get(ChatItem::key(id)).await?;
        item.map(|item| self.read_chat(item)).transpose()
    }

    /// The chat in an item, such as an image of the table's stream.
    ///
    /// # Errors
    /// [`Error::Internal`] if the item is no chat or cannot be read.
    pub fn read_chat(&self, item: Item) -> Result<Chat, Error> {
        let item = ChatItem::read(item)?;
        if item.has_negative_count() {
            self.table.usage.count_invariant_violation();
        }
        item.into_chat()
    }

    /// Reads one item with a consistent read.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn get(&self, key: ItemKey) -> Result<Option<Item>, Error> {
        self.get_item(key, true).await
    }

    /// Reads one item, with a consistent read or with one that costs half and may be a second late.
    async fn get_item(&self, key: ItemKey, consistent: bool) -> Result<Option<Item>, Error> {
        let request = self
            .client()
            .get_item()
            .table_name(self.table_name())
            .key("pk", AttributeValue::S(key.pk))
            .key("sk", AttributeValue::S(key.sk))
            .consistent_read(consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.retry_idempotent(|| request.clone().send()).await?;
        self.table
            .usage
            .count_read(output.consumed_capacity.as_ref());
        Ok(output.item)
    }

    /// Reads items with consistent reads, in any order. Items that do not exist are left out.
    async fn batch_get(&self, keys: Vec<ItemKey>) -> Result<Vec<Item>, Error> {
        let mut keys: Vec<_> = keys.into_iter().map(to_key_attributes).collect();
        let mut items = Vec::with_capacity(keys.len());
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(MAX_BATCH_KEYS));
            let requested = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(true)
                .build();
            let requested = requested.map_err(|error| Error::Internal(Box::new(error)))?;
            let request = self
                .client()
                .batch_get_item()
                .request_items(self.table_name(), requested)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let output = self.retry_idempotent(|| request.clone().send()).await?;
            for consumed in output.consumed_capacity() {
                self.table.usage.count_read(Some(consumed));
            }
            let responses = output.responses.unwrap_or_default().into_values();
            items.extend(responses.flatten());
            // DynamoDB leaves out keys when a response is too large or the table is throttled.
            let unprocessed = output.unprocessed_keys.unwrap_or_default().into_values();
            keys = unprocessed
                .flat_map(|unprocessed| unprocessed.keys)
                .collect();
            if !keys.is_empty() {
                self.wait_before_retry().await;
            }
            keys.extend(rest);
        }
        Ok(items)
    }

    /// Reads up to `max_items` items of a key range. Continues over the pages that `DynamoDB` cuts at
    /// 1 MB.
    ///
    /// # Errors
    /// Only 5xx.
    pub async fn query(&self, query: KeyQuery<'_>, max_items: usize) -> Result<Vec<Item>, Error> {
        let consistent = query.index.is_none();
        self.query_items(&query, max_items, consistent).await
    }

    /// The same, with consistent reads or with reads that cost half and may be a second late.
    async fn query_items(
        &self,
        query: &KeyQuery<'_>,
        max_items: usize,
        consistent: bool,
    ) -> Result<Vec<Item>, Error> {
        let mut items: Vec<Item> = Vec::new();
        let mut start = None;
        loop {
            let remaining = max_items - items.len();
            let mut request = self
                .client()
                .query()
                .table_name(self.table_name())
                .key_condition_expression(query.condition)
                .consistent_read(consistent)
                .scan_index_forward(query.ascending)
                .limit(i32::try_from(remaining).unwrap_or(i32::MAX))
                .set_index_name(query.index.map(str::to_owned))
                .set_projection_expression(query.projection.map(str::to_owned))
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            for (name, value) in &query.values {
                request =
                    request.expression_attribute_values(*name, AttributeValue::S(value.clone()));
            }
            let output = self.retry_idempotent(|| request.clone().send()).await?;
            self.table
                .usage
                .count_read(output.consumed_capacity.as_ref());
            items.extend(output.items.unwrap_or_default());
            start = output.last_evaluated_key;
            if start.is_none() || items.len() >= max_items {
                return Ok(items);
            }
        }
    }
}

/// A query for a range of keys. It is consistent, except on an index.
pub struct KeyQuery<'a> {
    /// The index, or `None` for the table.
    pub index: Option<&'a str>,
    /// The key condition expression.
    pub condition: &'a str,
    /// The values of the placeholders in the condition.
    pub values: Vec<(&'a str, String)>,
    /// Whether the sort keys are in ascending order.
    pub ascending: bool,
    /// The attributes to return, separated by commas. `None` means all. The capacity is the same.
    pub projection: Option<&'a str>,
}

impl KeyQuery<'_> {
    /// The items of a chat from one sort key to another, inclusive, in ascending order.
    fn between(id: ChatId, first: String, last: String) -> Self {
        Self {
            index: None,
            condition: "pk = :pk AND sk BETWEEN :first AND :last",
            values: vec![
                (":pk", Partition::Chat(id).pk()),
                (":first", first),
                (":last", last),
            ],
            ascending: true,
            projection: None,
        }
    }
}

fn to_key_attributes(key: ItemKey) -> Item {
    Item::from([
        ("pk".to_owned(), AttributeValue::S(key.pk)),
        ("sk".to_owned(), AttributeValue::S(key.sk)),
    ])
}

/// A number from an environment variable. `problem` says what it must be.
fn number_from_env(
    env: impl Fn(&str) -> Option<String>,
    variable: &'static str,
    default: u64,
    problem: &'static str,
) -> Result<u64, ConfigError> {
    match env(variable).as_deref() {
        None | Some("") => Ok(default),
        Some(value) => value
            .parse()
            .map_err(|_| ConfigError::new(variable, problem)),
    }
}

/// Converts an SDK error: [`Error::Unavailable`] if a retry can succeed, otherwise [`Error::Internal`].
pub fn classify_error<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let transient = is_transient(&error);
    let cause = Box::new(RedactedSdkError(error));
    if transient {
        Error::Unavailable(cause)
    } else {
        Error::Internal(cause)
    }
}

/// Whether a retry can succeed: the request was throttled, lost, or failed on the server's side.
fn is_transient<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            true
        }
        SdkError::ServiceError(context) => {
            context.raw().status().is_server_error()
                || matches!(
                    context.err().code(),
                    Some(
                        "ProvisionedThroughputExceededException"
                            | "RequestLimitExceeded"
                            | "ThrottlingException"
                            | "TransactionConflictException"
                            | "TransactionInProgressException"
                    )
                )
        }
        _ => false,
    }
}

/// An SDK error for the log. Its `Display` shows the chain of causes, because the `Display` of the SDK error
/// is only "service error". It never shows the `Debug` form, because that contains the raw response,
/// which may contain texts of users.
#[derive(Debug)]
struct RedactedSdkError<E>(E);

impl<E: std::error::Error> std::fmt::Display for RedactedSdkError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut causes = std::iter::successors(self.0.source(), |cause| cause.source());
        causes.try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl<E: std::error::Error> std::error::Error for RedactedSdkError<E> {}
