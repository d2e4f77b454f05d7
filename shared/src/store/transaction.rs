//! Transactions.
//!
//! - **Retries.** The policy of `retry.rs` applies. A cancelled transaction is retried, too, if no condition
//!   failed and every cancellation reason is `TransactionConflict`, `ThrottlingError`,
//!   `ProvisionedThroughputExceeded` or none.
//! - **A cancelled or throttled attempt wrote nothing**, so the next attempt is planned again, with the current time
//!   and a new token. `createdAt` is therefore the time at which a message was accepted, even if it waited for others.
//!   After an attempt whose outcome is unknown, because its response was lost, all further attempts have the same
//!   content and the same token, so that the change counts once.
//! - **The first write decides.** A failed condition goes to the caller of [`Store::transact_planned`] with the
//!   old item. There is one exception: while the first write, the state of the chat, is in conflict, the
//!   failed conditions of other writes may be the visible half of another transaction that is still being
//!   applied. They are ignored.
//! - **A conflict on the state of the chat** means that another transaction is changing it, so the plan may be stale.
//!   After the wait, the chat is read, and the caller gets it like the old item of a failed condition. A read costs a
//!   tenth of an attempt that must fail, or less.
//! - **A stale change** is computed again from the old item and sent as a new transaction. From the second time
//!   on, this waits, too. If only the state of the chat was stale, it is read again after the wait.
//!
//! - **A single update** ([`Store::update_planned`]) costs half of what a transaction does, but has no token. After a
//!   lost response nobody knows whether it was applied, so its condition must exclude that it is applied twice, unless
//!   that is harmless.
//!
//! The `backon` crate is not used here, because the decision to retry needs the cancellation reasons and
//! counts conflicts; the loop would not become simpler.

use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Put, ReturnConsumedCapacity,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use uuid::Uuid;

use super::{
    RedactedSdkError, Store, classify_error,
    items::{ChatItem, Item, ItemKey},
    retry::Attempts,
};
use crate::{Error, domain::Timestamp, error::BoxError};

const CONDITION_FAILED: &str = "ConditionalCheckFailed";
const CONFLICT: &str = "TransactionConflict";

/// At least one condition of the transaction failed, or another transaction had locked the chat. Nothing was written.
#[derive(Debug)]
pub struct ConditionFailures {
    reasons: Vec<CancellationReason>,
    was_read_again: bool,
}

impl ConditionFailures {
    /// Takes the item for which the condition of the last write failed.
    pub(super) fn take_last_old_item(&mut self) -> Option<Item> {
        self.take_old_item(self.reasons.len().checked_sub(1)?)
    }

    /// Whether the chat was read after the attempt. It is then newer than the other items of the plan.
    pub(super) fn was_chat_read_again(&self) -> bool {
        self.was_read_again
    }

    /// The key of the chat, if its condition is the only one that failed.
    fn stale_chat(&self) -> Option<ItemKey> {
        let mut failed = (0..self.reasons.len()).filter(|index| self.failed(*index));
        let is_only_first = failed.next() == Some(0) && failed.next().is_none();
        let key = ItemKey::of(self.reasons.first()?.item()?)?;
        (is_only_first && key.sk == ChatItem::SK).then_some(key)
    }

    /// Whether the condition of the write at `index` failed.
    #[must_use]
    pub fn failed(&self, index: usize) -> bool {
        self.reasons
            .get(index)
            .is_some_and(|reason| reason.code() == Some(CONDITION_FAILED))
    }

    /// Takes the item for which the condition of the write at `index` failed.
    pub fn take_old_item(&mut self, index: usize) -> Option<Item> {
        if self.failed(index) {
            self.reasons.get_mut(index)?.item.take()
        } else {
            None
        }
    }
}

/// The condition of a single update failed.
pub(super) struct UpdateFailure<T> {
    /// The item for which it failed.
    pub item: Option<Item>,
    /// The plan, if an earlier attempt may have been applied.
    pub possibly_applied: Option<T>,
}

/// The error if a plan that had something to write has nothing when it is made again, which cannot happen.
pub(super) fn nothing_to_write() -> Error {
    Error::Internal("a plan that is made again has nothing to write".into())
}

/// One write of a transaction, with its condition.
pub type Write = TransactWriteItem;

impl Store {
    /// Applies all writes or none.
    ///
    /// # Errors
    /// The inner error if a condition failed, otherwise only 5xx.
    pub async fn transact(
        &self,
        writes: Vec<Write>,
    ) -> Result<Result<(), ConditionFailures>, Error> {
        self.run_transaction(|_| Ok((writes.clone(), ()))).await
    }

    /// Applies all writes that `plan` returns for the current time, or none. Returns the second result of the
    /// plan that was applied. `plan` is called again after an attempt that wrote nothing, unless the chat was locked.
    ///
    /// # Errors
    /// The inner error if a condition failed or the chat was locked, otherwise only 5xx and the errors of `plan`.
    pub(super) async fn transact_planned<T>(
        &self,
        plan: impl Fn(Timestamp) -> Result<(Vec<Write>, T), Error>,
    ) -> Result<Result<T, ConditionFailures>, Error> {
        self.wait_if_stale().await;
        let failures = match self.run_transaction(plan).await? {
            Err(failures) if !failures.was_read_again => failures,
            result => return Ok(result),
        };
        let is_stale_again = self.stale_writes.load(Ordering::Relaxed) > 0;
        if is_stale_again && let Some(key) = failures.stale_chat() {
            self.wait_after_conflict().await;
            let writes = failures.reasons.len();
            return Ok(Err(self.read_chat_again(key, writes).await?));
        }
        self.stale_writes.fetch_add(1, Ordering::Relaxed);
        Ok(Err(failures))
    }

    /// Waits if several writes of the same request failed because of their conditions. The first one may have been
    /// optimistic.
    async fn wait_if_stale(&self) {
        if self.stale_writes.load(Ordering::Relaxed) >= 2 {
            self.wait_before_retry().await;
        }
    }

    /// The failure of a transaction with `writes` writes, of which the first one changes a chat: as if only its condition
    /// had failed, with the chat as it is now.
    async fn read_chat_again(
        &self,
        key: ItemKey,
        writes: usize,
    ) -> Result<ConditionFailures, Error> {
        let state = CancellationReason::builder()
            .code(CONDITION_FAILED)
            .set_item(self.get(key).await?)
            .build();
        let others = CancellationReason::builder().code("None").build();
        let others = std::iter::repeat_n(others, writes.saturating_sub(1));
        Ok(ConditionFailures {
            reasons: std::iter::once(state).chain(others).collect(),
            was_read_again: true,
        })
    }

    async fn run_transaction<T>(
        &self,
        plan: impl Fn(Timestamp) -> Result<(Vec<Write>, T), Error>,
    ) -> Result<Result<T, ConditionFailures>, Error> {
        // A transaction token of DynamoDB has at most 36 characters, as a UUID has. It must be unique:
        // DynamoDB treats two transactions with the same token as one.
        let new_token = || Uuid::new_v4().to_string();
        let (mut planned, mut token) = (plan(self.now())?, new_token());
        let mut may_be_applied = false;
        let mut attempts = Attempts::new(self.table.attempt_timeout);
        let usage = &self.table.usage;
        usage.count_operation();
        loop {
            let request = self
                .client()
                .transact_write_items()
                .set_transact_items(Some(planned.0.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            match attempts.run(Box::pin(request)).await.map_err(classify) {
                Ok(output) => {
                    usage.count_write(output.consumed_capacity());
                    return Ok(Ok(planned.1));
                }
                Err(TransactionError::ConditionFailed(failures)) => return Ok(Err(failures)),
                Err(TransactionError::Cancelled { conflict, cause }) => {
                    usage.record_error(&cause);
                    if let Some(conflict) = conflict {
                        usage.count_conflict();
                        self.wait_after_conflict().await;
                        if !may_be_applied
                            && conflict == Conflict::OnFirstWrite
                            && let Some(key) = changed_chat(&planned.0)
                        {
                            usage.count_repeated_operation();
                            let writes = planned.0.len();
                            return Ok(Err(self.read_chat_again(key, writes).await?));
                        }
                    } else {
                        self.wait_before_retry().await;
                    }
                }
                Err(TransactionError::Other(Error::Unavailable(cause))) => {
                    may_be_applied = true;
                    usage.record_error(&cause);
                    self.wait_before_retry().await;
                }
                Err(TransactionError::Other(error)) => return Err(error),
            }
            if !may_be_applied {
                (planned, token) = (plan(self.now())?, new_token());
            }
        }
    }

    /// Applies the single update that `plan` returns for the current time. It costs half of what a transaction does.
    /// Its condition must fail once the update is applied, because an update has no token: after a lost response, the
    /// same update is sent again, and a failed condition can mean that the first attempt was applied. An update that
    /// may be applied twice needs no such condition.
    ///
    /// # Errors
    /// The inner error if the condition failed; otherwise only 5xx and the errors of `plan`.
    pub(super) async fn update_planned<T>(
        &self,
        plan: impl Fn(Timestamp) -> Result<(Update, T), Error>,
    ) -> Result<Result<T, UpdateFailure<T>>, Error> {
        self.wait_if_stale().await;
        let mut planned = plan(self.now())?;
        let mut may_be_applied = false;
        let mut attempts = Attempts::new(self.table.attempt_timeout);
        let usage = &self.table.usage;
        usage.count_operation();
        loop {
            let update = planned.0.clone();
            let on_failure = update.return_values_on_condition_check_failure;
            let request = self
                .client()
                .update_item()
                .table_name(update.table_name)
                .set_key(Some(update.key))
                .update_expression(update.update_expression)
                .set_condition_expression(update.condition_expression)
                .set_expression_attribute_names(update.expression_attribute_names)
                .set_expression_attribute_values(update.expression_attribute_values)
                .set_return_values_on_condition_check_failure(on_failure)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let error = match attempts.run(Box::pin(request)).await {
                Ok(output) => {
                    usage.count_write(output.consumed_capacity.as_slice());
                    return Ok(Ok(planned.1));
                }
                Err(error) => error,
            };
            let mut is_rejected = is_throttled(&error);
            let mut is_conflict = false;
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    self.stale_writes.fetch_add(1, Ordering::Relaxed);
                    return Ok(Err(UpdateFailure {
                        item: failed.item().cloned(),
                        possibly_applied: may_be_applied.then_some(planned.1),
                    }));
                }
                Some(UpdateItemError::TransactionConflictException(_)) => {
                    is_rejected = true;
                    is_conflict = true;
                    usage.count_conflict();
                }
                _ => {}
            }
            match classify_error(error) {
                Error::Unavailable(cause) => usage.record_error(&cause),
                error => return Err(error),
            }
            may_be_applied |= !is_rejected;
            if is_conflict {
                self.wait_after_conflict().await;
            } else {
                self.wait_before_retry().await;
            }
            if !may_be_applied {
                planned = plan(self.now())?;
            }
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

    /// Requires that an item does not exist.
    pub(super) fn require_absent(&self, key: ItemKey) -> Write {
        let check = ConditionCheck::builder()
            .table_name(self.table_name())
            .key("pk", AttributeValue::S(key.pk))
            .key("sk", AttributeValue::S(key.sk))
            .condition_expression("attribute_not_exists(pk)")
            .build();
        let check = check.expect("the table, the key and the condition are set");
        Write::builder().condition_check(check).build()
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
    /// Another transaction has locked an item, or the table throttled the transaction. Nothing was written, and
    /// a retry can succeed.
    Cancelled {
        /// The conflict, if another transaction has locked an item.
        conflict: Option<Conflict>,
        cause: BoxError,
    },
    /// Another error. [`Error::Unavailable`] if a retry can succeed; then the transaction may have been applied.
    Other(Error),
}

/// Which item another transaction has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conflict {
    /// The item of the first write, and perhaps others.
    OnFirstWrite,
    /// Only items of other writes.
    OnOtherWrites,
}

/// The key of the chat that the first write updates.
fn changed_chat(writes: &[Write]) -> Option<ItemKey> {
    let update = writes.first()?.update.as_ref()?;
    let key = ItemKey::of(&update.key)?;
    (key.sk == ChatItem::SK).then_some(key)
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
            return TransactionError::ConditionFailed(ConditionFailures {
                reasons: reasons.to_vec(),
                was_read_again: false,
            });
        }
        if codes().any(is_transient) && codes().all(|code| is_final(code) || is_transient(code)) {
            return TransactionError::Cancelled {
                conflict: codes()
                    .position(|code| code == CONFLICT)
                    .map(|write| match write {
                        0 => Conflict::OnFirstWrite,
                        _ => Conflict::OnOtherWrites,
                    }),
                cause: Box::new(RedactedSdkError(error)),
            };
        }
    }
    if is_throttled(&error) {
        return TransactionError::Cancelled {
            conflict: None,
            cause: Box::new(RedactedSdkError(error)),
        };
    }
    TransactionError::Other(classify_error(error))
}

/// Whether the table rejected the request before it did anything.
fn is_throttled<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let SdkError::ServiceError(context) = error else {
        return false;
    };
    !context.raw().status().is_server_error()
        && matches!(
            context.err().code(),
            Some(
                "ProvisionedThroughputExceededException"
                    | "RequestLimitExceeded"
                    | "ThrottlingException"
            )
        )
}
