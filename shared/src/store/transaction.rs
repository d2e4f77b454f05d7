//! One change of several items, and when it is tried again.
//!
//! A transaction is repeated when nothing decided against it: each reason of its cancellation is a
//! conflict or a throttle, or the call was throttled, broken or lost beyond the SDK's own retries.
//! Repeats carry the same token, so that an attempt whose answer was lost counts once. Between them
//! lies a random time of up to 25, 50, 100, 200, then 400 ms: a transaction holds its items for some
//! 25 ms. There is no limit on attempts but the time that the invocation has left, which
//! [`crate::http::serve`] enforces.
//!
//! A failed condition is never repeated here: it is a decision for the caller, who gets the old item.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, Put, ReturnConsumedCapacity,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    Store, failed,
    items::{Item, Key},
};
use crate::Error;

const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const LONGEST_BACKOFF: Duration = Duration::from_millis(400);

/// A condition of the transaction failed; nothing was written.
#[derive(Debug)]
pub(super) struct Refused(Vec<CancellationReason>);

impl Refused {
    /// Whether the condition of the transaction's `index`th write failed.
    pub(super) fn failed(&self, index: usize) -> bool {
        self.0
            .get(index)
            .is_some_and(|reason| reason.code() == Some("ConditionalCheckFailed"))
    }

    /// The item that made the condition of the `index`th write fail.
    pub(super) fn old_item(&mut self, index: usize) -> Option<Item> {
        if self.failed(index) {
            self.0.get_mut(index)?.item.take()
        } else {
            None
        }
    }
}

/// A write and the condition that makes it right.
pub(super) type Write = TransactWriteItem;

impl Store {
    /// Applies all writes or none.
    pub(super) async fn transact(&self, writes: Vec<Write>) -> Result<Result<(), Refused>, Error> {
        let token = new_token()?;
        let mut backoff = FIRST_BACKOFF;
        loop {
            let outcome = self
                .connection
                .client
                .transact_write_items()
                .set_transact_items(Some(writes.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            match outcome.map_err(verdict) {
                Ok(_) => return Ok(Ok(())),
                Err(Verdict::Refused(refused)) => return Ok(Err(refused)),
                Err(Verdict::Failed(Error::Unavailable(_))) => {}
                Err(Verdict::Failed(error)) => return Err(error),
            }
            tokio::time::sleep(backoff.mul_f64(fastrand::f64())).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Writes a whole item when `condition` holds for what is there.
    pub(super) fn put(
        &self,
        item: Item,
        condition: &str,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> Write {
        let mut put = Put::builder()
            .table_name(&*self.connection.table)
            .set_item(Some(item))
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, attribute) in names {
            put = put.expression_attribute_names(*name, *attribute);
        }
        for (name, value) in values {
            put = put.expression_attribute_values(name, value);
        }
        let put = put.build().expect("table and item are set above");
        Write::builder().put(put).build()
    }

    /// Writes a new item, whose key another condition of the transaction keeps unique.
    pub(super) fn insert(&self, item: Item) -> Write {
        let put = Put::builder()
            .table_name(&*self.connection.table)
            .set_item(Some(item))
            .build();
        let put = put.expect("table and item are set above");
        Write::builder().put(put).build()
    }

    /// Changes attributes of an item, when `condition` (if any) holds.
    pub(super) fn update(
        &self,
        (pk, sk): Key,
        update: &str,
        condition: Option<&str>,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> Write {
        let mut builder = Update::builder()
            .table_name(&*self.connection.table)
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
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
            .expect("table, key and expression are set above");
        Write::builder().update(update).build()
    }
}

/// A number as an attribute.
pub(super) fn number(number: impl std::fmt::Display + Copy) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

enum Verdict {
    /// A condition decided against it.
    Refused(Refused),
    /// Nothing decided; [`Error::Unavailable`] when it may go through later.
    Failed(Error),
}

fn verdict(error: SdkError<TransactWriteItemsError>) -> Verdict {
    if let SdkError::ServiceError(context) = &error
        && let TransactWriteItemsError::TransactionCanceledException(cancelled) = context.err()
    {
        let reasons = cancelled.cancellation_reasons();
        let codes = || reasons.iter().filter_map(CancellationReason::code);
        if codes().any(|code| code == "ConditionalCheckFailed") {
            return Verdict::Refused(Refused(reasons.to_vec()));
        }
        let may_pass = |code| {
            matches!(
                code,
                "None"
                    | "TransactionConflict"
                    | "ProvisionedThroughputExceeded"
                    | "ThrottlingError"
            )
        };
        if !reasons.is_empty() && codes().all(may_pass) {
            return Verdict::Failed(Error::Unavailable(Box::new(super::Failure(error))));
        }
    }
    Verdict::Failed(failed(error))
}

/// A transaction's idempotency token (at most 36 characters). Two transactions with one token would
/// be taken for one, so it comes from the system's randomness.
fn new_token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Internal("the system gave no randomness".into()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
