//! Counts the `DynamoDB` usage of a request, for its log line and metrics.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
    types::ConsumedCapacity,
};

/// The `DynamoDB` usage of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// The number of reads, query pages, single writes and transactions, not counting retries.
    pub operations: u64,
    /// The number of HTTP requests, including retries.
    pub attempts: u64,
    /// The number of transactions that were cancelled because another transaction locked an item.
    pub conflicts: u64,
    /// Consumed read capacity units.
    pub read_units: f64,
    /// Consumed write capacity units. A cancelled transaction reports none.
    pub write_units: f64,
    /// The number of negative counters and unreadable connections that were read. There are none, unless the table was
    /// changed in another way.
    pub invariant_violations: u64,
    /// The error of the last attempt that was retried.
    pub last_error: Option<String>,
}

impl Usage {
    /// The number of retries.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.attempts.saturating_sub(self.operations)
    }
}

/// Counts the usage of a process, which handles one request at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct UsageCounter(Arc<Mutex<Usage>>);

impl UsageCounter {
    /// Returns the usage since the previous call, and resets it.
    pub fn drain(&self) -> Usage {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn count_operation(&self) {
        self.update(|usage| usage.operations += 1);
    }

    /// The next operation repeats the last one, so both are one operation.
    pub fn count_repeated_operation(&self) {
        self.update(|usage| usage.operations = usage.operations.saturating_sub(1));
    }

    pub fn count_conflict(&self) {
        self.update(|usage| usage.conflicts += 1);
    }

    pub fn count_read(&self, consumed: Option<&ConsumedCapacity>) {
        let units = consumed.and_then(ConsumedCapacity::capacity_units);
        self.update(|usage| usage.read_units += units.unwrap_or_default());
    }

    pub fn count_write(&self, consumed: &[ConsumedCapacity]) {
        let units = consumed.iter().filter_map(ConsumedCapacity::capacity_units);
        self.update(|usage| usage.write_units += units.sum::<f64>());
    }

    pub fn count_invariant_violation(&self) {
        self.update(|usage| usage.invariant_violations += 1);
    }

    pub fn record_error(&self, error: &BoxError) {
        self.update(|usage| usage.last_error = Some(error.to_string()));
    }

    fn update(&self, update: impl FnOnce(&mut Usage)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The SDK calls this for each attempt, including its own retries.
impl Intercept for UsageCounter {
    fn name(&self) -> &'static str {
        "UsageCounter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.update(|usage| usage.attempts += 1);
        Ok(())
    }
}
