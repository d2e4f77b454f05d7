//! What a call costs at the table: counted where it happens, read by who answers the call.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
    types::ConsumedCapacity,
};

/// What was asked of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Reads, pages of queries and transactions, each counted once.
    pub operations: u64,
    /// Requests that were sent for them.
    pub attempts: u64,
    /// Transactions that were cancelled because another one held an item.
    pub conflicts: u64,
    /// Read capacity units.
    pub read_units: f64,
    /// Write capacity units; a cancelled transaction reports none.
    pub write_units: f64,
}

impl Work {
    /// Requests that had to be sent again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.attempts.saturating_sub(self.operations)
    }
}

/// Counts the work of a process, which answers one call at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Mutex<Work>>);

impl Meter {
    /// What was done since the last look.
    pub fn take(&self) -> Work {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn operation(&self) {
        self.change(|work| work.operations += 1);
    }

    pub fn conflict(&self) {
        self.change(|work| work.conflicts += 1);
    }

    pub fn read(&self, consumed: Option<&ConsumedCapacity>) {
        let units = consumed.and_then(ConsumedCapacity::capacity_units);
        self.change(|work| work.read_units += units.unwrap_or_default());
    }

    pub fn wrote(&self, consumed: &[ConsumedCapacity]) {
        let units = consumed.iter().filter_map(ConsumedCapacity::capacity_units);
        self.change(|work| work.write_units += units.sum::<f64>());
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Sees each attempt, also those that the SDK makes by itself.
impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "Meter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.change(|work| work.attempts += 1);
        Ok(())
    }
}
