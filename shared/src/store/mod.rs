//! How chats are kept: one DynamoDB table, the only module that knows its keys, conditions and
//! transactions.
//!
//! Design goals, in this order: the promises of the API hold whatever races or fails; a call costs
//! few round trips and little capacity; the code stays small.
//!
//! - **One transaction a change.** Whatever touches more than one item is one `TransactWriteItems`
//!   whose conditions make it right, asking for the old item on refusal: a refusal then explains
//!   itself without a second read. There is no bare `ADD`: a retry after a lost answer would count
//!   twice, where a transaction's token makes it count once.
//! - **Optimistic concurrency.** A change is planned from the chat as read, and conditional on what
//!   the plan relied on. When another call came first, it is planned again from the item that the
//!   refusal brought along.
//! - **A dense `seq` a chat**: `skip` is a key range, so any depth costs the same; clients see gaps.
//! - **A watermark, not a flag a message**: marking 100,000 messages costs what marking one does.
//! - **Totals in [`items::SHARDS`] shards** a user: a transaction holds an item for some 25 ms, and
//!   one counter would make fifty senders to one user conflict most of the time.
//!
//! Item kinds and their keys are in [`items`]; retries are in `transaction.rs`.

mod audit;
mod chats;
mod client;
mod items;
mod lists;
mod messages;
mod meter;
mod totals;
mod transaction;

use std::sync::Arc;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, ReturnConsumedCapacity},
};

pub use audit::{AuditEvent, AuditOptions, AuditProgress, Broken};
pub use chats::Requested;
pub use items::Activity;
pub use lists::{ChatPage, ChatsFrom, Direction, List};
pub use messages::{IdempotencyKey, InvalidKey, MessagePage, MessagesFrom, Sent};
pub use meter::Work;
pub use totals::Totals;

use crate::{
    Error,
    domain::{Chat, ChatId, Timestamp},
    error::ConfigError,
};
use items::{ChatItem, Item};
use meter::Meter;

/// Open sent requests a user may have unless `MAX_OPEN_REQUESTS` says otherwise.
const DEFAULT_MAX_OPEN_REQUESTS: u64 = 100;

/// The table of one process: connected once, used by every call.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    table: Arc<str>,
    max_open_requests: u64,
    meter: Meter,
}

/// The store as one call sees it: with the time of that call.
pub struct Store {
    connection: Connection,
    now: Timestamp,
}

impl Connection {
    /// Connects as the environment says: `TABLE_NAME`, `MAX_OPEN_REQUESTS` (0 is no cap) and what
    /// Lambda sets for the SDK; `variable` looks one up. As many connections are opened as a call
    /// uses at once.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        connections: usize,
    ) -> Result<Self, ConfigError> {
        let table = variable("TABLE_NAME")
            .filter(|name| !name.is_empty())
            .ok_or(ConfigError::new(
                "TABLE_NAME",
                "is not set: give it the name of the DynamoDB table",
            ))?;
        let max_open_requests = match variable("MAX_OPEN_REQUESTS").as_deref() {
            None | Some("") => DEFAULT_MAX_OPEN_REQUESTS,
            Some(cap) => cap.parse().map_err(|_| {
                ConfigError::new("MAX_OPEN_REQUESTS", "must be a whole number; 0 is no cap")
            })?,
        };
        let meter = Meter::default();
        let client = client::from_variables(variable, meter.clone())?;
        client::connect(&client, connections).await;
        meter.take();
        Ok(Self {
            client,
            table: table.into(),
            max_open_requests,
            meter,
        })
    }

    /// Uses a table through a client that is there already, without a cap on open requests.
    #[must_use]
    pub fn new(client: Client, table: &str) -> Self {
        Self {
            client,
            table: table.into(),
            max_open_requests: 0,
            meter: Meter::default(),
        }
    }

    /// What was asked of the table since the last look.
    #[must_use]
    pub fn work(&self) -> Work {
        self.meter.take()
    }

    /// The store for a call that happens at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Store {
        Store {
            connection: self.clone(),
            now,
        }
    }
}

impl Store {
    /// The chat as it is now; `None` when the pair has none.
    pub(crate) async fn chat(&self, id: ChatId) -> Result<Option<Chat>, Error> {
        self.get(ChatItem::key(id))
            .await?
            .map(read_chat)
            .transpose()
    }

    /// One consistent read.
    async fn get(&self, (pk, sk): (String, String)) -> Result<Option<Item>, Error> {
        self.connection.meter.operation();
        let output = self
            .connection
            .client
            .get_item()
            .table_name(&*self.connection.table)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(failed)?;
        self.connection
            .meter
            .read(output.consumed_capacity.as_ref());
        Ok(output.item)
    }

    /// Up to `want` items of one key range, continued over the pages that DynamoDB cuts at 1 MB.
    async fn query(&self, range: Range<'_>, want: usize) -> Result<Vec<Item>, Error> {
        let mut found: Vec<Item> = Vec::new();
        let mut start = None;
        loop {
            let left = want - found.len();
            let mut query = self
                .connection
                .client
                .query()
                .table_name(&*self.connection.table)
                .key_condition_expression(range.condition)
                .consistent_read(range.index.is_none())
                .scan_index_forward(range.ascending)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .set_index_name(range.index.map(str::to_owned))
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            for (name, value) in &range.values {
                query = query.expression_attribute_values(*name, AttributeValue::S(value.clone()));
            }
            self.connection.meter.operation();
            let output = query.send().await.map_err(failed)?;
            self.connection
                .meter
                .read(output.consumed_capacity.as_ref());
            found.extend(output.items.unwrap_or_default());
            start = output.last_evaluated_key;
            if start.is_none() || found.len() >= want {
                return Ok(found);
            }
        }
    }
}

/// What a query asks for: a key condition and its values.
struct Range<'a> {
    index: Option<&'a str>,
    condition: &'a str,
    values: Vec<(&'a str, String)>,
    ascending: bool,
}

fn read_chat(item: Item) -> Result<Chat, Error> {
    ChatItem::read(item)?.into_chat()
}

/// What a failed call to DynamoDB means to the caller: worth repeating, or a defect.
fn failed<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let transient = is_transient(&error);
    let cause = Box::new(Failure(error));
    if transient {
        Error::Unavailable(cause)
    } else {
        Error::Internal(cause)
    }
}

/// Whether the same call may go through later: throttled, broken on their side, or lost.
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

/// An SDK error that shows its causes: its own `Display` says only "service error". Never shown in
/// full, as `Debug` would: the raw answer that it carries may hold what users wrote.
#[derive(Debug)]
struct Failure<E>(E);

impl<E: std::error::Error> std::fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut causes = std::iter::successors(self.0.source(), |cause| cause.source());
        causes.try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl<E: std::error::Error> std::error::Error for Failure<E> {}
