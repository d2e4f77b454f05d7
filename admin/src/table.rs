//! Requests to one DynamoDB table. Each request is sent again while DynamoDB is unavailable.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client, Config,
    config::retry::RetryConfig,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        describe_table::DescribeTableError, put_item::PutItemError, update_item::UpdateItemError,
    },
    types::{
        AttributeValue, IndexStatus, KeySchemaElement, KeyType, KeysAndAttributes,
        ReturnValuesOnConditionCheckFailure, TableDescription, TableStatus,
    },
};
use backon::{ExponentialBuilder, Retryable};
use chat_shared::{
    Error,
    domain::{MAX_SAFE_INTEGER, Timestamp},
    store::{
        Store, TableClient, classify_error,
        items::{Index, Item, ItemKey, ItemKind},
    },
};

use crate::text::OneLine;

/// Maximum number of keys in one `BatchGetItem`.
const MAX_BATCH_KEYS: usize = 100;
/// Maximum number of times that a failed request is sent again.
const MAX_RETRIES: usize = 14;
/// Waits 0.1 s, then twice as long each time, up to 20 s. Jitter adds up to the same time again, so
/// that concurrent requests do not retry at the same moment. All waits together take 2 to 5 minutes.
const RETRY_POLICY: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(20))
    .with_max_times(MAX_RETRIES);

/// Where the SDK's error for an invalid endpoint continues with the `Debug` form of the request.
const REQUEST_DEBUG: &str = " to request `";

/// What a command uses of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableUse {
    /// Only the table.
    Items,
    /// The table and its indexes.
    ItemsAndIndexes,
}

/// A table, and the client that reaches it.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    name: String,
}

/// One page of a scan or a query.
pub(crate) struct Page {
    pub items: Vec<Item>,
    /// Where the next page starts; `None` at the end.
    pub next_key: Option<Item>,
}

/// Which attributes a scan returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    All,
    /// Only the primary key and the attribute `type`.
    KeyAndType,
}

/// A query for a range of keys. It is consistent, except on an index.
pub(crate) struct KeyRange<'a> {
    pub index: Option<&'a str>,
    pub condition: &'a str,
    /// The values of the placeholders in the condition.
    pub values: Vec<(&'a str, String)>,
    /// The attributes to return; `None` for all.
    pub projection: Option<&'a str>,
    /// The number of items to return, from the greatest sort key downwards; `None` for all items, in ascending
    /// order.
    pub last: Option<usize>,
}

impl KeyRange<'_> {
    /// All items of a partition whose sort keys are less than that of `key`.
    pub(crate) fn before(key: &ItemKey) -> Self {
        let values = vec![(":pk", key.pk.clone()), (":before", key.sk.clone())];
        Self::of_table("pk = :pk AND sk < :before", values)
    }

    /// All items of a partition whose sort keys start with `prefix`.
    pub(crate) fn starting_with(pk: &str, prefix: &str) -> Self {
        let values = vec![(":pk", pk.to_owned()), (":prefix", prefix.to_owned())];
        Self::of_table("pk = :pk AND begins_with(sk, :prefix)", values)
    }

    /// All items of a partition with sort keys from that of `first` to that of `last`.
    pub(crate) fn between(first: ItemKey, last: ItemKey) -> Self {
        let values = vec![(":pk", first.pk), (":first", first.sk), (":last", last.sk)];
        Self::of_table("pk = :pk AND sk BETWEEN :first AND :last", values)
    }

    fn of_table(condition: &'static str, values: Vec<(&'static str, String)>) -> Self {
        Self {
            index: None,
            condition,
            values,
            projection: None,
            last: None,
        }
    }
}

/// Outcome of a conditional update.
pub(crate) enum UpdateOutcome {
    Applied,
    /// The item did not meet the condition. Contains the item.
    Rejected(Option<Item>),
}

impl DynamoTable {
    /// A table that `client` reaches.
    #[must_use]
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { client, name }
    }

    /// The name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store of the service for this table, for changes that follow the rules of the API.
    pub(crate) fn store(&self, now: Timestamp) -> Store {
        TableClient::new(self.client.clone(), &self.name).store_at(now)
    }

    /// Checks that DynamoDB can be reached, and that it has this table, with the keys and indexes of the
    /// chat backend. Sends one request without retries: a wrong setting must not look like an outage.
    ///
    /// # Errors
    /// [`Error::Internal`], with a cause for the operator.
    pub async fn verify(&self, table_use: TableUse) -> Result<(), Error> {
        let without_retries = Config::builder().retry_config(RetryConfig::disabled());
        let request = self.client.describe_table().table_name(&self.name);
        let request = request.customize().config_override(without_retries);
        let unusable = |cause: String| Err(Error::Internal(cause.into()));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DescribeTableError::is_resource_not_found_exception) =>
            {
                return unusable(format!(
                    "there is no table {} in this account and region; check the name, \
                     --endpoint-url, AWS_REGION and AWS_PROFILE",
                    self.name
                ));
            }
            Err(error) => {
                let cause = error_cause(&classify(error));
                return unusable(format!(
                    "{cause}; check --endpoint-url, AWS_REGION, AWS_PROFILE and the permission \
                     dynamodb:DescribeTable"
                ));
            }
        };
        match output.table().and_then(|table| defect(table, table_use)) {
            Some(defect) => unusable(format!("table {} {defect}", self.name)),
            None => Ok(()),
        }
    }

    /// Reads one item with a consistent read.
    pub(crate) async fn get(&self, key: &ItemKey) -> Result<Option<Item>, Error> {
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key_attributes(key)))
            .consistent_read(true);
        let output = retry_transient(|| async {
            let output = request.clone().send().await;
            output.map_err(classify)
        })
        .await?;
        Ok(output.item)
    }

    /// Reads items with consistent reads. Returns those that exist. `keys` must not contain a key
    /// twice.
    pub(crate) async fn get_all(
        &self,
        keys: &[ItemKey],
        projection: Option<&str>,
    ) -> Result<HashMap<ItemKey, Item>, Error> {
        let mut found = HashMap::new();
        for batch in keys.chunks(MAX_BATCH_KEYS) {
            let mut remaining: Vec<Item> = batch.iter().map(key_attributes).collect();
            while !remaining.is_empty() {
                let (items, unprocessed) = self.get_batch(&remaining, projection).await?;
                found.extend(items.into_iter().map(|item| (item_key(&item), item)));
                remaining = unprocessed;
            }
        }
        Ok(found)
    }

    /// Reads at most [`MAX_BATCH_KEYS`] items. Returns the items that exist, and the keys that
    /// DynamoDB did not process; these are fewer than `keys`.
    async fn get_batch(
        &self,
        keys: &[Item],
        projection: Option<&str>,
    ) -> Result<(Vec<Item>, Vec<Item>), Error> {
        let requested = KeysAndAttributes::builder()
            .set_keys(Some(keys.to_vec()))
            .consistent_read(true)
            .set_projection_expression(projection.map(str::to_owned))
            .build()
            .expect("the keys are set");
        let request = self
            .client
            .batch_get_item()
            .request_items(&self.name, requested);
        retry_transient(|| async {
            let output = request.clone().send().await.map_err(classify)?;
            let unprocessed = output.unprocessed_keys.unwrap_or_default();
            let unprocessed: Vec<Item> = unprocessed
                .into_values()
                .flat_map(|rest| rest.keys)
                .collect();
            if unprocessed.len() >= keys.len() {
                let cause = "DynamoDB processed no key of a batch";
                return Err(Error::Unavailable(cause.into()));
            }
            let items = output.responses.unwrap_or_default();
            let items: Vec<Item> = items.into_values().flatten().collect();
            Ok::<_, Error>((items, unprocessed))
        })
        .await
    }

    /// Reads one page of the whole table with consistent reads.
    pub(crate) async fn scan_page(
        &self,
        projection: Projection,
        start_key: Option<&Item>,
    ) -> Result<Page, Error> {
        let mut request = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .set_exclusive_start_key(start_key.cloned());
        if projection == Projection::KeyAndType {
            request = request
                .projection_expression("pk, sk, #type")
                .expression_attribute_names("#type", "type");
        }
        let output = retry_transient(|| async {
            let output = request.clone().send().await;
            output.map_err(classify)
        })
        .await?;
        Ok(Page {
            items: output.items.unwrap_or_default(),
            next_key: output.last_evaluated_key,
        })
    }

    /// Reads all items of a range of keys. Use it only for ranges that are small.
    pub(crate) async fn query_all(&self, range: &KeyRange<'_>) -> Result<Vec<Item>, Error> {
        let max = range.last.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut start_key: Option<Item> = None;
        loop {
            let page = self.query_page(range, start_key.as_ref()).await?;
            items.extend(page.items);
            start_key = page.next_key;
            if start_key.is_none() || items.len() >= max {
                items.truncate(max);
                return Ok(items);
            }
        }
    }

    /// Reads one page of a range of keys.
    pub(crate) async fn query_page(
        &self,
        range: &KeyRange<'_>,
        start_key: Option<&Item>,
    ) -> Result<Page, Error> {
        let mut request = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(range.index.map(str::to_owned))
            .key_condition_expression(range.condition)
            .consistent_read(range.index.is_none())
            .set_projection_expression(range.projection.map(str::to_owned))
            .set_exclusive_start_key(start_key.cloned());
        for (name, value) in &range.values {
            request = request.expression_attribute_values(*name, AttributeValue::S(value.clone()));
        }
        if let Some(count) = range.last {
            let limit = i32::try_from(count).unwrap_or(i32::MAX);
            request = request.scan_index_forward(false).limit(limit);
        }
        let output = retry_transient(|| async {
            let output = request.clone().send().await;
            output.map_err(classify)
        })
        .await?;
        Ok(Page {
            items: output.items.unwrap_or_default(),
            next_key: output.last_evaluated_key,
        })
    }

    /// Writes a new item. Returns `false` and changes nothing if an item with this key exists.
    pub(crate) async fn insert(&self, item: &Item) -> Result<bool, Error> {
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item.clone()))
            .condition_expression("attribute_not_exists(pk)");
        retry_transient(|| async {
            match request.clone().send().await {
                Ok(_) => Ok(true),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
                {
                    Ok(false)
                }
                Err(error) => Err(classify(error)),
            }
        })
        .await
    }

    /// Updates an item if it meets a condition. An item that does not exist is created if the
    /// condition allows it.
    pub(crate) async fn update(
        &self,
        key: &ItemKey,
        update: &str,
        condition: &str,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> Result<UpdateOutcome, Error> {
        let mut request = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key_attributes(key)))
            .update_expression(update)
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, attribute) in names {
            request = request.expression_attribute_names(*name, *attribute);
        }
        for (name, value) in values {
            request = request.expression_attribute_values(name, value);
        }
        retry_transient(|| async {
            match request.clone().send().await {
                Ok(_) => Ok(UpdateOutcome::Applied),
                Err(error) => match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                        Ok(UpdateOutcome::Rejected(failed.item.clone()))
                    }
                    _ => Err(classify(error)),
                },
            }
        })
        .await
    }
}

/// Why a table cannot be used; `None` if it can.
fn defect(table: &TableDescription, table_use: TableUse) -> Option<String> {
    if let Some(status @ (TableStatus::Creating | TableStatus::Deleting)) = table.table_status() {
        return Some(format!("has the status {}; wait", status.as_str()));
    }
    if !has_keys(table.key_schema(), "pk", "sk") {
        return Some("is no table of the chat backend: its keys are not pk and sk".to_owned());
    }
    if table_use == TableUse::Items {
        return None;
    }
    let indexes = [
        (Index::ByRequester, "requesterKey"),
        (Index::ByRecipient, "recipientKey"),
    ];
    indexes.into_iter().find_map(|(index, partition_key)| {
        let name = index.name();
        let indexes = table.global_secondary_indexes();
        let Some(index) = indexes
            .iter()
            .find(|index| index.index_name() == Some(name))
        else {
            return Some(format!(
                "lacks the index {name}; restore it with all indexes, or create the index"
            ));
        };
        if !has_keys(index.key_schema(), partition_key, "activity") {
            return Some(format!(
                "has other keys than {partition_key} and activity in the index {name}"
            ));
        }
        let is_changing = matches!(
            index.index_status(),
            Some(IndexStatus::Creating | IndexStatus::Deleting)
        );
        (is_changing || index.backfilling() == Some(true)).then(|| {
            format!("is still building or deleting the index {name}; wait until it is ACTIVE")
        })
    })
}

fn has_keys(schema: &[KeySchemaElement], partition_key: &str, sort_key: &str) -> bool {
    let expected = [(partition_key, KeyType::Hash), (sort_key, KeyType::Range)];
    schema.len() == expected.len()
        && expected.iter().all(|(name, key_type)| {
            schema
                .iter()
                .any(|key| key.attribute_name() == *name && key.key_type() == key_type)
        })
}

/// The primary key of an item; an empty string for a part that is missing.
pub(crate) fn item_key(item: &Item) -> ItemKey {
    let text = |name: &str| {
        let value = item.get(name).and_then(|value| value.as_s().ok());
        value.cloned().unwrap_or_default()
    };
    ItemKey::new(text("pk"), text("sk"))
}

/// Whether a number can be the `seq` of a message or the `rev` of a change.
pub(crate) fn is_valid_seq_or_rev(number: u64) -> bool {
    (1..=MAX_SAFE_INTEGER).contains(&number)
}

/// Whether the table's TTL deletes the items of a kind. Then they have the attribute `expiresAt`.
pub(crate) fn has_lifetime(kind: ItemKind) -> bool {
    matches!(
        kind,
        ItemKind::IdempotencyKey
            | ItemKind::Change
            | ItemKind::PreviousContent
            | ItemKind::Connection
    )
}

fn key_attributes(key: &ItemKey) -> Item {
    Item::from([
        ("pk".to_owned(), AttributeValue::S(key.pk.clone())),
        ("sk".to_owned(), AttributeValue::S(key.sk.clone())),
    ])
}

/// The cause of an error in one line, for an operator.
#[must_use]
pub fn error_cause(error: &Error) -> String {
    let cause = error
        .cause()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let shown = cause.split_once(REQUEST_DEBUG);
    let cause = shown.map_or(cause.as_str(), |(cause, _)| cause);
    OneLine(cause).to_string()
}

/// Converts an SDK error: [`Error::Unavailable`] if a retry can succeed, otherwise [`Error::Internal`].
fn classify<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // The SDK reports what prevents a request from being sent, such as missing credentials or an invalid
    // endpoint, as a failed dispatch of an unknown kind. A retry cannot succeed.
    let was_not_sent = match &error {
        SdkError::DispatchFailure(failure) => {
            failure.is_user() || (failure.is_other() && failure.as_other().is_none())
        }
        _ => false,
    };
    match classify_error(error) {
        Error::Unavailable(cause) if was_not_sent => Error::Internal(cause),
        error => error,
    }
}

/// Sends a request to DynamoDB again while it is unavailable. A run takes hours, so it waits longer
/// than an API request can: DynamoDB may be unavailable for some minutes. The operator sees why it
/// waits.
async fn retry_transient<T, F>(request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    request
        .retry(RETRY_POLICY)
        .when(|error| matches!(error, Error::Unavailable(_)))
        .notify(|error, _| eprintln!("waiting for DynamoDB: {}", error_cause(error)))
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use aws_sdk_dynamodb::types::GlobalSecondaryIndexDescription;

    use super::*;

    /// Retries a request that fails this many times, and returns the result and the number of
    /// requests.
    async fn retry(failures: usize, error: fn() -> Error) -> (Result<(), Error>, usize) {
        let requests = Cell::new(0);
        let result = retry_transient(|| async {
            requests.set(requests.get() + 1);
            if requests.get() > failures {
                Ok(())
            } else {
                Err(error())
            }
        })
        .await;
        (result, requests.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_retried_while_dynamodb_is_unavailable() {
        let unavailable = || Error::Unavailable("throttled".into());
        let (result, requests) = retry(MAX_RETRIES, unavailable).await;
        assert!(result.is_ok());
        assert_eq!(requests, MAX_RETRIES + 1);
        let (result, requests) = retry(usize::MAX, unavailable).await;
        assert!(matches!(result, Err(Error::Unavailable(_))));
        assert_eq!(requests, MAX_RETRIES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_any_other_error_is_not_retried() {
        let (result, requests) = retry(1, || Error::Internal("no such table".into())).await;
        assert!(matches!(result, Err(Error::Internal(_))));
        assert_eq!(requests, 1);
    }

    #[test]
    fn the_cause_of_an_error_is_one_line_without_the_request() {
        let text = "failed to apply endpoint `x` to request `Request { body: secret }`";
        let error = Error::Internal(text.into());
        assert_eq!(error_cause(&error), "failed to apply endpoint `x`");
        let error = Error::Unavailable("no\nconnection".into());
        assert_eq!(error_cause(&error), "no\\nconnection");
    }

    fn key(name: &str, key_type: KeyType) -> KeySchemaElement {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(key_type).build().unwrap()
    }

    fn index(name: &str, partition_key: &str) -> GlobalSecondaryIndexDescription {
        GlobalSecondaryIndexDescription::builder()
            .index_name(name)
            .key_schema(key(partition_key, KeyType::Hash))
            .key_schema(key("activity", KeyType::Range))
            .index_status(IndexStatus::Active)
            .build()
    }

    fn table(
        partition_key: &str,
        indexes: Vec<GlobalSecondaryIndexDescription>,
    ) -> TableDescription {
        TableDescription::builder()
            .table_status(TableStatus::Active)
            .key_schema(key(partition_key, KeyType::Hash))
            .key_schema(key("sk", KeyType::Range))
            .set_global_secondary_indexes(Some(indexes))
            .build()
    }

    #[test]
    fn a_table_with_other_keys_or_without_a_usable_index_is_named() {
        let by_requester = index("byRequester", "requesterKey");
        let by_recipient = index("byRecipient", "recipientKey");
        let both = vec![by_requester.clone(), by_recipient.clone()];
        let uses = TableUse::ItemsAndIndexes;
        assert_eq!(defect(&table("pk", both.clone()), uses), None);
        assert_eq!(defect(&table("pk", Vec::new()), TableUse::Items), None);

        let mut creating = by_recipient.clone();
        creating.index_status = Some(IndexStatus::Creating);
        let mut backfilling = by_recipient;
        backfilling.backfilling = Some(true);
        for (table, expected) in [
            (table("id", both), "its keys are not pk and sk"),
            (table("pk", Vec::new()), "lacks the index byRequester"),
            (
                table("pk", vec![by_requester.clone()]),
                "lacks the index byRecipient",
            ),
            (
                table("pk", vec![index("byRequester", "other")]),
                "other keys than requesterKey",
            ),
            (
                table("pk", vec![by_requester.clone(), creating]),
                "building or deleting the index byRecipient",
            ),
            (
                table("pk", vec![by_requester, backfilling]),
                "building or deleting the index byRecipient",
            ),
        ] {
            let defect = defect(&table, uses).unwrap_or_default();
            assert!(defect.contains(expected), "{defect}");
        }
    }

    #[test]
    fn a_key_with_a_missing_part_is_empty_there() {
        let key = ItemKey::new("CHAT#17-42", "STATE");
        assert_eq!(item_key(&key_attributes(&key)), key);
        assert_eq!(item_key(&Item::new()), ItemKey::new("", ""));
    }
}
