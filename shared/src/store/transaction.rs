//! One change of several items, and when it is tried again. The whole retry policy:
//!
//! - **The SDK** makes 4 attempts at an operation that is throttled, broken or lost, waiting up to 25, 50
//!   and 100 ms in between; an attempt may take 2 s (`sdk_config`). Reads have no more than that.
//! - **A transaction** is then tried again here, as is one that was cancelled when nothing decided
//!   against it: when no condition failed and each reason is `TransactionConflict`, `ThrottlingError`,
//!   `ProvisionedThroughputExceeded` or none. Repeats carry the same token, so that an attempt whose
//!   answer was lost counts once. Between them lies a random time of up to 25, 50, 100, 200, then
//!   400 ms ([`Backoff`]): a transaction holds its items for some 25 ms.
//! - **The first write decides.** A failed condition is a decision for the caller, who gets the old
//!   item; but while the first write, the chat's state, is in conflict, the others' failed conditions
//!   may be one half of what another transaction is just doing, so that is tried again, too.
//! - **There is no limit on attempts but time**: 500 ms before the invocation's deadline
//!   [`crate::http::serve`] answers 503 with `Retry-After`. The change has then happened whole or not
//!   at all, and repeating the call is safe.
//! - **A plan that was overtaken** is made anew from the old item, as another transaction under a new
//!   token.

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

/// Random waits of up to 25, 50, 100, 200, then 400 ms ("full jitter").
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(25);
    const LONGEST: Duration = Duration::from_millis(400);

    pub(super) fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0.mul_f64(fastrand::f64())).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

const CONDITION_FAILED: &str = "ConditionalCheckFailed";
const CONFLICT: &str = "TransactionConflict";

/// A condition of the transaction failed; nothing was written.
#[derive(Debug)]
pub(super) struct Refused(Vec<CancellationReason>);

impl Refused {
    /// Whether the condition of the transaction's `index`th write failed.
    pub(super) fn failed(&self, index: usize) -> bool {
        self.0
            .get(index)
            .is_some_and(|reason| reason.code() == Some(CONDITION_FAILED))
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
    /// Applies all writes or none. The first one decides: see the module.
    pub(super) async fn transact(&self, writes: Vec<Write>) -> Result<Result<(), Refused>, Error> {
        let token = new_token()?;
        let mut backoff = Backoff::new();
        let meter = &self.connection.meter;
        meter.operation();
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
                Ok(output) => {
                    meter.wrote(output.consumed_capacity());
                    return Ok(Ok(()));
                }
                Err(Verdict::Refused(refused)) => return Ok(Err(refused)),
                Err(Verdict::Conflict) => meter.conflict(),
                Err(Verdict::Failed(Error::Unavailable(_))) => {}
                Err(Verdict::Failed(error)) => return Err(error),
            }
            backoff.wait().await;
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
    /// Nothing decided, as another transaction held an item; it may go through later.
    Conflict,
    /// Nothing decided; [`Error::Unavailable`] when it may go through later.
    Failed(Error),
}

fn verdict(error: SdkError<TransactWriteItemsError>) -> Verdict {
    if let SdkError::ServiceError(context) = &error
        && let TransactWriteItemsError::TransactionCanceledException(cancelled) = context.err()
    {
        let reasons = cancelled.cancellation_reasons();
        let codes = || reasons.iter().map(|reason| reason.code().unwrap_or("None"));
        let is_decided = |code| matches!(code, "None" | CONDITION_FAILED);
        let may_pass = |code| {
            matches!(
                code,
                CONFLICT | "ProvisionedThroughputExceeded" | "ThrottlingError"
            )
        };
        if codes().next().is_some_and(is_decided) && codes().any(|code| code == CONDITION_FAILED) {
            return Verdict::Refused(Refused(reasons.to_vec()));
        }
        if codes().any(may_pass) && codes().all(|code| is_decided(code) || may_pass(code)) {
            if codes().any(|code| code == CONFLICT) {
                return Verdict::Conflict;
            }
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
