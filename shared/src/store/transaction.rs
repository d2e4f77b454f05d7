//! Transactions, and the retry policy:
//!
//! - **The SDK** makes 4 attempts (`AWS_MAX_ATTEMPTS` in the template) at an operation that is throttled,
//!   fails or gets lost, with delays of at most 25, 50 and 100 ms. One attempt takes at most 2 s
//!   (`client.rs`). Reads have no other retries.
//! - **This module** then retries a transaction. It also retries a cancelled transaction if no condition
//!   failed and every cancellation reason is `TransactionConflict`, `ThrottlingError`,
//!   `ProvisionedThroughputExceeded` or none. All attempts have the same token, so that
//!   an attempt whose response was lost counts once. The delays are random, at most 25, 50, 100, 200 and
//!   then 400 ms ([`Backoff`]), because a transaction locks its items for about 25 ms.
//! - **The first write decides.** A failed condition goes to the caller of [`Store::transact`] with the
//!   old item. There is one exception: while the first write, the state of the chat, is in conflict, the
//!   failed conditions of other writes may be the visible half of another transaction that is still being
//!   applied. The transaction is then retried, too.
//! - **Time is the only limit.** 500 ms before the deadline of the invocation, [`crate::http::serve`]
//!   returns a 503 with `Retry-After`. The change has then been applied completely or not at all, so that
//!   the client can retry safely.
//! - **A stale change** is computed again from the old item and sent as a new transaction with a new
//!   token.
//!
//! The `backon` crate is not used here, because the decision to retry needs the cancellation reasons and
//! counts conflicts; the loop would not become simpler.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, Put, ReturnConsumedCapacity,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use uuid::Uuid;

use super::{
    RedactedSdkError, Store, classify_error,
    items::{Item, ItemKey},
};
use crate::Error;

/// Exponential backoff with full jitter: random delays of at most 25, 50, 100, 200 and then 400 ms.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    const INITIAL: Duration = Duration::from_millis(25);
    const MAX: Duration = Duration::from_millis(400);

    /// Starts with the shortest delay.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::INITIAL)
    }

    /// Waits, and doubles the maximum of the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0.mul_f64(fastrand::f64())).await;
        self.0 = (self.0 * 2).min(Self::MAX);
    }
}

const CONDITION_FAILED: &str = "ConditionalCheckFailed";
const CONFLICT: &str = "TransactionConflict";

/// At least one condition of the transaction failed. Nothing was written.
#[derive(Debug)]
pub struct ConditionFailures(Vec<CancellationReason>);

impl ConditionFailures {
    /// Whether the condition of the write at `index` failed.
    #[must_use]
    pub fn failed(&self, index: usize) -> bool {
        self.0
            .get(index)
            .is_some_and(|reason| reason.code() == Some(CONDITION_FAILED))
    }

    /// Takes the item for which the condition of the write at `index` failed.
    pub fn take_old_item(&mut self, index: usize) -> Option<Item> {
        if self.failed(index) {
            self.0.get_mut(index)?.item.take()
        } else {
            None
        }
    }
}

/// One write of a transaction, with its condition.
pub type Write = TransactWriteItem;

impl Store {
    /// Applies all writes or none. The documentation of the module describes the retries.
    ///
    /// # Errors
    /// The inner error if a condition failed, otherwise only 5xx.
    pub async fn transact(
        &self,
        writes: Vec<Write>,
    ) -> Result<Result<(), ConditionFailures>, Error> {
        // A transaction token of DynamoDB has at most 36 characters, as a UUID has. It must be unique:
        // DynamoDB treats two transactions with the same token as one.
        let token = Uuid::new_v4().to_string();
        let mut backoff = Backoff::new();
        let usage = &self.table.usage;
        usage.count_operation();
        loop {
            let outcome = self
                .client()
                .transact_write_items()
                .set_transact_items(Some(writes.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            match outcome.map_err(classify) {
                Ok(output) => {
                    usage.count_write(output.consumed_capacity());
                    return Ok(Ok(()));
                }
                Err(TransactionError::ConditionFailed(failures)) => return Ok(Err(failures)),
                Err(TransactionError::Conflict) => usage.count_conflict(),
                Err(TransactionError::Other(Error::Unavailable(_))) => {}
                Err(TransactionError::Other(error)) => return Err(error),
            }
            backoff.wait().await;
        }
    }

    /// Replaces an item if the existing item meets `condition`.
    pub(super) fn put(
        &self,
        item: Item,
        condition: &str,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> Write {
        let mut put = Put::builder()
            .table_name(self.table_name())
            .set_item(Some(item))
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, attribute) in names {
            put = put.expression_attribute_names(*name, *attribute);
        }
        for (name, value) in values {
            put = put.expression_attribute_values(name, value);
        }
        let put = put.build().expect("the table and the item are set");
        Write::builder().put(put).build()
    }

    /// Writes a new item. Another condition of the transaction must ensure that its key is unique.
    pub(super) fn insert(&self, item: Item) -> Write {
        let put = Put::builder()
            .table_name(self.table_name())
            .set_item(Some(item))
            .build();
        let put = put.expect("the table and the item are set");
        Write::builder().put(put).build()
    }

    /// Updates attributes of an item if it meets `condition`.
    ///
    /// # Panics
    /// Never: all required values are set.
    #[must_use]
    pub fn update(
        &self,
        key: ItemKey,
        update: &str,
        condition: Option<&str>,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> Write {
        let mut builder = Update::builder()
            .table_name(self.table_name())
            .key("pk", AttributeValue::S(key.pk))
            .key("sk", AttributeValue::S(key.sk))
            .update_expression(update)
            .set_condition_expression(condition.map(str::to_owned))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, attribute) in names {
            builder = builder.expression_attribute_names(*name, *attribute);
        }
        for (name, value) in values {
            builder = builder.expression_attribute_values(name, value);
        }
        let update = builder
            .build()
            .expect("the table, the key and the expression are set");
        Write::builder().update(update).build()
    }
}

/// Converts a number to an attribute value.
#[must_use]
pub fn number(number: impl std::fmt::Display + Copy) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

enum TransactionError {
    /// A condition failed.
    ConditionFailed(ConditionFailures),
    /// Another transaction has locked an item. A retry can succeed.
    Conflict,
    /// Another error. [`Error::Unavailable`] if a retry can succeed.
    Other(Error),
}

fn classify(error: SdkError<TransactWriteItemsError>) -> TransactionError {
    if let SdkError::ServiceError(context) = &error
        && let TransactWriteItemsError::TransactionCanceledException(cancelled) = context.err()
    {
        let reasons = cancelled.cancellation_reasons();
        let codes = || reasons.iter().map(|reason| reason.code().unwrap_or("None"));
        let is_final = |code| matches!(code, "None" | CONDITION_FAILED);
        let is_transient = |code| {
            matches!(
                code,
                CONFLICT | "ProvisionedThroughputExceeded" | "ThrottlingError"
            )
        };
        if codes().next().is_some_and(is_final) && codes().any(|code| code == CONDITION_FAILED) {
            return TransactionError::ConditionFailed(ConditionFailures(reasons.to_vec()));
        }
        if codes().any(is_transient) && codes().all(|code| is_final(code) || is_transient(code)) {
            if codes().any(|code| code == CONFLICT) {
                return TransactionError::Conflict;
            }
            let cause = Box::new(RedactedSdkError(error));
            return TransactionError::Other(Error::Unavailable(cause));
        }
    }
    TransactionError::Other(classify_error(error))
}
